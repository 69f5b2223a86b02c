/* SPDX-License-Identifier: MIT */
/*
 * The log's writer. A frame is written through the host's cache in one transfer. The
 * first one of a block fills the block up with zeros, so the host has no reason
 * to read it, and one that ends in the block that it begins in is written alone: a
 * small commit costs no copy of 4 KiB.
 *
 * The rule that durability rests on: a block that a sync has covered is never
 * written again, for tearing it would destroy what was acknowledged. A sync
 * therefore seals the tail block before it begins, which needs w->mu and so
 * waits for an append in progress; an append never waits for a sync.
 *
 *   wal_append: mu      [start from end or seal, write, end moves]
 *   wal_sync:   sync_mu [durable or leader?]  mu [end, seal]  fdatasync  sync_mu [durable]
 */
#include "kvcore/wal/wal.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/os/os_thread.h"
#include "kvcore/wal/wal_frame.h"

/* A frame buffer larger than this is not kept for the next frame. */
#define IMAGE_KEEP (4U * 1024 * 1024)
/* Before a flush, its leader waits for others: for such a part of its time, and at most so long. */
#define GATHER_PART	    2U
#define GATHER_MAX_NS	    4000000U
#define GATHER_FLUSH_MIN_NS 50000U /* sleeping is not exact enough for shorter ones */
#define GATHER_SKIP_MAX	    64U

/* A thread that waits for a flush. Its memory may go as soon as the latch is open. */
struct sync_waiter {
	struct sync_waiter *next;
	uint64_t lsn;
	bool leads; /* it is to flush next */
	struct os_latch woken;
};

/*
 * When a flush ends, those whom it released will soon be back with their next commits. A flush
 * begun at once would miss them, and they would wait for all of it: of N threads that
 * commit in a loop, one and N - 1 would take turns. So a leader waits for as many as there were,
 * for a part of the time that a flush takes; where that does not pay, it is left out for a while.
 */
struct gathering {
	struct os_latch *full;	/* of the leader that waits; NULL: none does */
	unsigned expected;	/* threads, the leader among them */
	uint64_t flush_ns;	/* how long a flush takes, smoothed */
	uint64_t flushed_ns;	/* when the last one ended */
	unsigned skip, skipped; /* flushes not to wait before, and how many of them there were */
};

struct wal {
	struct wal_options options; /* [const] */
	uint64_t epoch;		    /* [const] */

	struct os_mutex mu;
	struct wal_position end; /* [mu] after the last frame, and its sum */
	uint64_t sealed;	 /* [mu] no frame begins before it */
	uint64_t tail;		 /* [mu] */
	uint64_t frames, bytes;	 /* [mu] written */
	struct kv_buf image;	 /* [mu] the bytes to write, kept for its memory */

	struct os_mutex sync_mu;
	struct sync_waiter *waiters; /* [sync_mu] oldest first */
	struct sync_waiter **last;   /* [sync_mu] */
	unsigned waiter_count;	     /* [sync_mu] */
	bool flushing;		     /* [sync_mu] there is a leader: in fdatasync or on its way */
	struct gathering gathering;  /* [sync_mu] */
	uint64_t syncs;		     /* [sync_mu] */
	/*
	 * Changed under sync_mu only. Read without it by wal_append(): a stale value is a
	 * lower bound of what is durable, and a poison set meanwhile might as well have
	 * been set after the append.
	 */
	_Atomic uint64_t durable;
	_Atomic int poison; /* 0, or the first error */
};

int wal_open(const struct wal_options *options, const struct wal_position *start, uint64_t tail,
	     uint64_t epoch, struct wal **out)
{
	struct wal *w;
	int err;

	KV_ASSERT(options->log_size >= WAL_SIZE_MIN && options->log_size % FORMAT_BLOCK == 0);
	KV_ASSERT(start->lsn % LOG_FRAME_ALIGN == 0 && start->lsn <= WAL_LSN_MAX);
	KV_ASSERT(tail <= start->lsn && start->lsn - tail <= options->log_size);
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->options = *options;
	w->epoch = epoch;
	w->end = *start;
	w->sealed = align_up_u64(start->lsn, FORMAT_BLOCK);
	w->tail = tail;
	/* What recovery replayed may still be in the host's cache only. */
	atomic_init(&w->durable, tail);
	atomic_init(&w->poison, 0);
	err = os_mutex_init(&w->mu, OS_RANK_WAL);
	if (err)
		goto free_wal;
	err = os_mutex_init(&w->sync_mu, OS_RANK_WAL_SYNC);
	if (err)
		goto fini_mu;
	w->last = &w->waiters;
	*out = w;
	return 0;

fini_mu:
	os_mutex_fini(&w->mu);
free_wal:
	free(w);
	return err;
}

void wal_free(struct wal *w)
{
	if (!w)
		return;
	KV_ASSERT(!w->flushing && !w->waiters);
	os_mutex_fini(&w->sync_mu);
	os_mutex_fini(&w->mu);
	kv_buf_free(&w->image);
	free(w);
}

/* ---- waiters for a flush ------------------------------------------------ */

/*
 * Take out of the list whom to wake: those whose frames are durable, all if that can never be,
 * and if nobody leads the first of the others, in front, who is the next leader.
 */
static struct sync_waiter *take_ready(struct wal *w) KV_REQUIRES(w->sync_mu)
{
	uint64_t durable = atomic_load(&w->durable);
	bool all = atomic_load(&w->poison) != 0;
	struct sync_waiter **link = &w->waiters;
	struct sync_waiter *leader = NULL;
	struct sync_waiter *ready = NULL;
	struct sync_waiter **end = &ready;
	struct sync_waiter *s;

	while ((s = *link)) {
		bool done = all || s->lsn <= durable;

		if (!done && w->flushing) {
			link = &s->next;
			continue;
		}
		*link = s->next;
		w->waiter_count--;
		s->next = NULL;
		if (done) {
			*end = s;
			end = &s->next;
		} else {
			s->leads = true;
			w->flushing = true;
			leader = s;
		}
	}
	w->last = link;
	if (!leader)
		return ready;
	leader->next = ready;
	return leader;
}

/* Without the mutex: they may go on at once. */
static void wake_all(struct sync_waiter *ready)
{
	while (ready) {
		struct sync_waiter *next = ready->next;

		os_latch_open(&ready->woken);
		ready = next;
	}
}

/* Sleep until take_ready() chose this thread. Returns whether it is to lead. */
static bool wait_for_flush(struct wal *w, uint64_t lsn) KV_REQUIRES(w->sync_mu)
{
	struct sync_waiter me = {.lsn = lsn};
	struct gathering *g = &w->gathering;

	*w->last = &me;
	w->last = &me.next;
	w->waiter_count++;
	if (g->full && w->waiter_count + 1 >= g->expected) {
		os_latch_open(g->full);
		g->full = NULL;
	}
	os_mutex_unlock(&w->sync_mu);
	os_latch_wait(&me.woken, 0);
	os_mutex_lock(&w->sync_mu);
	return me.leads;
}

/* ---- poison ------------------------------------------------------------- */

static void poison_locked(struct wal *w, int err) KV_REQUIRES(w->sync_mu)
{
	if (atomic_load(&w->poison) != 0)
		return;
	atomic_store(&w->poison, err);
	logmsg(w->options.log, KV_LOG_ERROR, "wal: poisoned durable=%llu err=%d (%s)",
	       (unsigned long long)atomic_load(&w->durable), err, kv_strerror(err));
}

void wal_poison(struct wal *w, int err)
{
	struct sync_waiter *ready;

	KV_ASSERT(err != 0);
	os_mutex_lock(&w->sync_mu);
	poison_locked(w, err);
	ready = take_ready(w);
	os_mutex_unlock(&w->sync_mu);
	wake_all(ready);
}

int wal_poisoned(struct wal *w)
{
	return atomic_load(&w->poison);
}

/* ---- append ------------------------------------------------------------- */

static uint64_t next_start(const struct wal *w) KV_REQUIRES(w->mu)
{
	return max_u64(w->end.lsn, w->sealed);
}

/*
 * The first LSN that may not be written: the place of the block that holds the
 * tail, one lap on.
 */
static uint64_t limit(const struct wal *w) KV_REQUIRES(w->mu)
{
	return align_down_u64(w->tail, FORMAT_BLOCK) + w->options.log_size;
}

/* How many bytes to write for a frame: to the end of its last block, if that is a new one. */
static size_t image_len(uint64_t start, uint64_t payload_len)
{
	uint64_t end = start + wal_frame_len(payload_len);

	if (start % FORMAT_BLOCK == 0 || end > align_up_u64(start, FORMAT_BLOCK))
		end = align_up_u64(end, FORMAT_BLOCK);
	return (size_t)(end - start);
}

/* Put a frame together in w->image: header, payload, zeros. @sum receives the frame's sum. */
static int build_image(struct wal *w, const struct kv_slice *parts, size_t part_count,
		       uint64_t payload_len, uint8_t sum[CHECKSUM_LEN]) KV_REQUIRES(w->mu)
{
	uint64_t start = next_start(w);
	size_t total = image_len(start, payload_len);
	struct log_frame_header h;
	uint8_t *p;
	int err;

	buf_clear(&w->image);
	err = buf_reserve(&w->image, total);
	if (err)
		return err;
	p = w->image.data + sizeof(h);
	for (size_t i = 0; i < part_count; i++) {
		if (parts[i].len != 0)
			memcpy(p, parts[i].data, parts[i].len);
		p += parts[i].len;
	}
	memset(p, 0, total - sizeof(h) - payload_len);
	h.magic = le32_of(LOG_FRAME_MAGIC);
	h.payload_len = le32_of((uint32_t)payload_len);
	h.lsn = le64_of(start);
	h.epoch = le64_of(w->epoch);
	h.durable_lsn = le64_of(atomic_load(&w->durable));
	memcpy(h.uuid, w->options.uuid, sizeof(h.uuid));
	memcpy(h.prev_sum, w->end.prev_sum, CHECKSUM_LEN);
	err = wal_frame_sum(w->options.checksum, &h,
			    kv_slice_of(w->image.data + sizeof(h), (size_t)payload_len), h.sum);
	if (err)
		return err;
	memcpy(w->image.data, &h, sizeof(h));
	memcpy(sum, h.sum, CHECKSUM_LEN);
	w->image.len = total;
	return 0;
}

static int append_locked(struct wal *w, const struct kv_slice *parts, size_t part_count,
			 uint64_t payload_len) KV_REQUIRES(w->mu)
{
	uint64_t start = next_start(w);
	uint64_t end = start + wal_frame_len(payload_len);
	uint8_t sum[CHECKSUM_LEN];
	int err;

	if (align_up_u64(end, FORMAT_BLOCK) > limit(w))
		return -KV_E_NOSPACE;
	err = build_image(w, parts, part_count, payload_len, sum);
	if (err)
		return err;
	err = wal_frame_write(&w->options, start, w->image.data, w->image.len);
	if (err) {
		wal_poison(w, err);
		return -KV_E_UNKNOWN_OUTCOME;
	}
	w->end.lsn = end;
	memcpy(w->end.prev_sum, sum, CHECKSUM_LEN);
	w->frames++;
	w->bytes += w->image.len;
	return 0;
}

int wal_append(struct wal *w, const struct kv_slice *parts, size_t part_count, uint64_t *end)
{
	uint64_t payload_len = 0;
	int err;

	for (size_t i = 0; i < part_count; i++)
		payload_len += parts[i].len;
	if (payload_len > wal_payload_max(w))
		return -KV_E_TOO_BIG;
	if (wal_poisoned(w))
		return -KV_E_POISONED;
	os_mutex_lock(&w->mu);
	err = append_locked(w, parts, part_count, payload_len);
	if (!err)
		*end = w->end.lsn;
	if (w->image.cap > IMAGE_KEEP)
		kv_buf_free(&w->image);
	os_mutex_unlock(&w->mu);
	return err;
}

/* ---- sync --------------------------------------------------------------- */

/* Make all frames written so far durable. @end receives the LSN after them. */
static int flush(struct wal *w, uint64_t *end)
{
	os_mutex_lock(&w->mu);
	*end = w->end.lsn;
	w->sealed = align_up_u64(w->end.lsn, FORMAT_BLOCK);
	os_mutex_unlock(&w->mu);
	if (w->options.before_sync)
		w->options.before_sync(w->options.before_sync_ctx);
	return os_volume_sync(w->options.volume);
}

/* Is it worth waiting for the threads that the last flush released? */
static bool may_gather(struct wal *w, uint64_t now) KV_REQUIRES(w->sync_mu)
{
	struct gathering *g = &w->gathering;

	if (w->waiter_count + 1 >= g->expected || g->flush_ns < GATHER_FLUSH_MIN_NS ||
	    now - g->flushed_ns > g->flush_ns)
		return false;
	if (g->skipped < g->skip) {
		g->skipped++;
		return false;
	}
	return true;
}

/* The leader, before its flush. */
static void gather(struct wal *w) KV_REQUIRES(w->sync_mu)
{
	struct gathering *g = &w->gathering;
	struct os_latch full = {0};
	uint64_t now = os_monotonic_ns(os_env_host()); /* the clock of latches */
	bool in_time;

	if (!may_gather(w, now))
		return;
	g->full = &full;
	os_mutex_unlock(&w->sync_mu);
	in_time =
		os_latch_wait_until(&full, now + min_u64(g->flush_ns / GATHER_PART, GATHER_MAX_NS));
	os_mutex_lock(&w->sync_mu);
	g->full = NULL;
	g->skip = in_time ? 0 : (unsigned)min_u64(2 * g->skip + 1, GATHER_SKIP_MAX);
	g->skipped = 0;
}

static void note_flush(struct wal *w, uint64_t began_ns) KV_REQUIRES(w->sync_mu)
{
	struct gathering *g = &w->gathering;
	uint64_t ns;

	g->flushed_ns = os_monotonic_ns(os_env_host());
	ns = g->flushed_ns - began_ns;
	g->flush_ns = g->flush_ns ? g->flush_ns - g->flush_ns / 8 + ns / 8 : ns;
	g->expected = w->waiter_count + 1;
}

/*
 * The leader's flush, for all frames written so far. Lets go sync_mu. If the log is poisoned
 * meanwhile, its success says nothing: the host tells of a lost page once, and the other sync, of
 * the manifest, may have been told.
 */
static int lead(struct wal *w, uint64_t lsn) KV_RELEASE(w->sync_mu)
{
	struct sync_waiter *ready;
	uint64_t began;
	uint64_t end = 0;
	int err;

	gather(w);
	os_mutex_unlock(&w->sync_mu);
	began = os_monotonic_ns(os_env_host());
	err = wal_poisoned(w) ? 0 : flush(w, &end);
	os_mutex_lock(&w->sync_mu);
	w->syncs++;
	if (err) {
		poison_locked(w, err);
	} else if (!wal_poisoned(w)) {
		KV_ASSERT(end >= lsn); /* else the caller waits for what is not written */
		atomic_store(&w->durable, max_u64(end, atomic_load(&w->durable)));
	}
	note_flush(w, began);
	w->flushing = false;
	ready = take_ready(w);
	os_mutex_unlock(&w->sync_mu);
	wake_all(ready);
	return wal_poisoned(w) ? -KV_E_POISONED : 0;
}

/*
 * Of the waiters of a flush in flight, those that it covers wake when it ends, and the first
 * of the others, which becomes the next leader, for everything written meanwhile.
 */
KV_NO_THREAD_ANALYSIS int wal_sync(struct wal *w, uint64_t lsn)
{
	bool leads = false;
	int err = 0;

	if (wal_poisoned(w))
		return -KV_E_POISONED;
	os_mutex_lock(&w->sync_mu);
	while (!err && atomic_load(&w->durable) < lsn) {
		if (wal_poisoned(w)) {
			err = -KV_E_POISONED;
			if (leads) /* poisoned meanwhile, which woke all others */
				w->flushing = false;
		} else if (w->flushing && !leads) {
			leads = wait_for_flush(w, lsn);
		} else {
			w->flushing = true;
			return lead(w, lsn);
		}
	}
	os_mutex_unlock(&w->sync_mu);
	return err;
}

/* ---- state -------------------------------------------------------------- */

uint64_t wal_end_lsn(struct wal *w)
{
	uint64_t lsn;

	os_mutex_lock(&w->mu);
	lsn = w->end.lsn;
	os_mutex_unlock(&w->mu);
	return lsn;
}

uint64_t wal_durable_lsn(struct wal *w)
{
	return atomic_load(&w->durable);
}

void wal_get_position(struct wal *w, struct wal_position *out)
{
	os_mutex_lock(&w->mu);
	*out = w->end;
	os_mutex_unlock(&w->mu);
}

void wal_set_tail(struct wal *w, uint64_t lsn)
{
	os_mutex_lock(&w->mu);
	KV_ASSERT(lsn <= w->end.lsn);
	w->tail = max_u64(w->tail, lsn);
	os_mutex_unlock(&w->mu);
}

uint64_t wal_room(struct wal *w)
{
	uint64_t room;

	os_mutex_lock(&w->mu);
	room = limit(w) - min_u64(limit(w), next_start(w));
	os_mutex_unlock(&w->mu);
	return room;
}

uint64_t wal_used(struct wal *w)
{
	uint64_t used;

	os_mutex_lock(&w->mu);
	used = next_start(w) - w->tail;
	os_mutex_unlock(&w->mu);
	return used;
}

uint64_t wal_payload_max(const struct wal *w)
{
	return wal_frame_payload_max(w->options.log_size);
}

void wal_get_stat(struct wal *w, struct wal_stat *out)
{
	os_mutex_lock(&w->mu);
	out->frames = w->frames;
	out->bytes = w->bytes;
	os_mutex_unlock(&w->mu);
	os_mutex_lock(&w->sync_mu);
	out->syncs = w->syncs;
	os_mutex_unlock(&w->sync_mu);
}
