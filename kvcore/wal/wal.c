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
#include <limits.h>
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

/* A thread that waits for a flush, on a condition of its own. */
struct sync_waiter {
	struct sync_waiter *next;
	uint64_t lsn;
	struct os_cond cv;
	bool woken;
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
	bool flushing;		     /* [sync_mu] a leader is in fdatasync */
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
 * Wake those whose frames are durable, all if that can never be, and if no flush is in
 * flight the first of the others, which begins the next. Nobody is woken in vain.
 */
static void wake_waiters(struct wal *w) KV_REQUIRES(w->sync_mu)
{
	uint64_t durable = atomic_load(&w->durable);
	bool all = atomic_load(&w->poison) != 0;
	bool leader = w->flushing;
	struct sync_waiter **link = &w->waiters;
	struct sync_waiter *s;

	while ((s = *link)) {
		if (!all && s->lsn > durable && leader) {
			link = &s->next;
			continue;
		}
		leader = leader || s->lsn > durable;
		*link = s->next;
		s->woken = true;
		os_cond_signal(&s->cv);
	}
	w->last = link;
}

/* Sleep until wake_waiters() chose this thread; without a condition to sleep on, look again. */
static void wait_for_flush(struct wal *w, uint64_t lsn) KV_REQUIRES(w->sync_mu)
{
	struct sync_waiter me = {.lsn = lsn};
	unsigned turns = UINT_MAX;

	if (os_cond_init(&me.cv)) {
		os_mutex_unlock(&w->sync_mu);
		os_thread_relax(&turns);
		os_mutex_lock(&w->sync_mu);
		return;
	}
	*w->last = &me;
	w->last = &me.next;
	while (!me.woken)
		os_cond_wait(&me.cv, &w->sync_mu);
	os_cond_fini(&me.cv);
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
	KV_ASSERT(err != 0);
	os_mutex_lock(&w->sync_mu);
	poison_locked(w, err);
	wake_waiters(w);
	os_mutex_unlock(&w->sync_mu);
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
	if (err == -ENOMEM)
		return err;
	if (!err)
		err = wal_frame_write(&w->options, start, w->image.data, w->image.len);
	if (err) {
		wal_poison(w, err);
		return -KV_E_POISONED;
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

/*
 * Of the waiters of a flush in flight, those that it covers wake when it ends, and the first
 * of the others, which becomes the next leader, for everything written meanwhile.
 */
int wal_sync(struct wal *w, uint64_t lsn)
{
	uint64_t end;
	int err = 0;

	if (wal_poisoned(w))
		return -KV_E_POISONED;
	os_mutex_lock(&w->sync_mu);
	while (atomic_load(&w->durable) < lsn) {
		if (wal_poisoned(w)) {
			err = -KV_E_POISONED;
			break;
		}
		if (w->flushing) {
			wait_for_flush(w, lsn);
			continue;
		}
		w->flushing = true;
		os_mutex_unlock(&w->sync_mu);
		err = flush(w, &end);
		os_mutex_lock(&w->sync_mu);
		w->flushing = false;
		w->syncs++;
		if (err) {
			poison_locked(w, err);
		} else {
			KV_ASSERT(end >= lsn); /* else the caller waits for what is not written */
			atomic_store(&w->durable, max_u64(end, atomic_load(&w->durable)));
		}
		wake_waiters(w);
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
