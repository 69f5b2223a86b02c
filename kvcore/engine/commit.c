/* SPDX-License-Identifier: MIT */
/*
 * The commit queue. Threads that commit queue up; the first becomes the leader,
 * takes all that wait, numbers them, writes them as one log frame, applies them
 * to the memtable, publishes the last number and hands out the results (leader
 * and followers as in LevelDB; the frame is what group commit shares). Waiting
 * for a sync happens afterwards and outside the queue, so commits that do not
 * sync never wait for one that does.
 *
 *   queue_enter() -> lead() -> make_room() -> write_group() -> apply_group() -> publish
 *
 * Only the leader appends to the log, adds to the memtable and rotates it.
 *
 * A commit is visible once it is in the log and in the memtable, in the order of
 * its number. If the memtable cannot take what the log already has, the two
 * disagree until the log is replayed: the database is poisoned and the outcome unknown.
 */
#include "kvcore/engine/db.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/base/varint.h"
#include "kvcore/engine/writeset.h"

/* A frame gathers commits up to this many bytes. */
#define GROUP_BYTES_MAX (4U * 1024 * 1024)
/* Memtables waiting for their flush before writers wait for it. */
#define FROZEN_LIMIT	2U
#define GROUP_COUNT_MAX 256U
#define WAIT_SLICE_MS	100U

struct request {
	struct request *next;
	struct writeset *writes;
	struct kv_buf ops; /* encoded */
	unsigned flags;
	bool done;
	int result;
	kv_seq seq;
	uint64_t end;
};

struct commit_queue {
	struct os_mutex mu; /* OS_RANK_COMMIT */
	struct os_cond done;
	struct request *head;  /* [mu] oldest first */
	struct request **tail; /* [mu] */
	bool leading;	       /* [mu] somebody leads */
	kv_seq last_seq;       /* [leader] */
	struct kv_buf payload; /* [leader] reused */
};

int commit_queue_new(kv_seq last_seq, struct commit_queue **out)
{
	struct commit_queue *q = calloc(1, sizeof(*q));
	int err;

	if (!q)
		return -ENOMEM;
	err = os_mutex_init(&q->mu, OS_RANK_COMMIT);
	if (err)
		goto out;
	err = os_cond_init(&q->done);
	if (err) {
		os_mutex_fini(&q->mu);
		goto out;
	}
	q->tail = &q->head;
	q->last_seq = last_seq;
	*out = q;
	q = NULL;
out:
	free(q);
	return err;
}

void commit_queue_free(struct commit_queue *q)
{
	if (!q)
		return;
	KV_ASSERT(!q->head && !q->leading);
	kv_buf_free(&q->payload);
	os_cond_fini(&q->done);
	os_mutex_fini(&q->mu);
	free(q);
}

/* ---- room: pacing, rotation, log space -------------------------------------- */

/* A writer waited: @e was begun before. */
static void stall_end(struct kv_db *db, struct kv_trace_event *e, int result)
{
	uint64_t ns = trace_end(&db->trace, e, result);

	COUNT(db, write_stalls, 1);
	COUNT(db, write_stall_us, ns / 1000);
	os_stats_record(&db->stats, KV_HISTOGRAM_WRITE_STALL, ns);
}

static void pause_us(struct kv_db *db, unsigned us)
{
	const struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
	struct kv_trace_event e = {.kind = KV_TRACE_STALL, .reason = "pace"};

	if (!us)
		return;
	trace_begin(&db->trace, &e);
	nanosleep(&t, NULL);
	stall_end(db, &e, 0);
}

/* Leader only. */
static int rotate(struct kv_db *db)
{
	struct memtable *fresh = NULL;
	struct frozen f = {0};
	int err;

	err = memtable_new(db->cache, &fresh);
	if (err)
		return err;
	atomic_store_explicit(&db->fresh_value_bytes, 0, memory_order_relaxed);
	f.last_seq = db->commits->last_seq;
	wal_get_position(db->wal, &f.log_after);
	os_mutex_lock(&db->mu);
	f.memtable = db->view->active;
	err = view_rotate_locked(db, fresh);
	if (!err) {
		memtable_freeze(f.memtable);
		db->frozen[db->frozen_count++] = f;
		memtable_ref(f.memtable);
		os_cond_broadcast(&db->changed);
	}
	os_mutex_unlock(&db->mu);
	memtable_unref(fresh);
	return err;
}

/* Wait while too many memtables are frozen, or until the oldest is flushed. */
static int wait_for_flush(struct kv_db *db, unsigned limit)
{
	struct kv_trace_event e = {.kind = KV_TRACE_STALL,
				   .reason = limit ? "memtables" : "log full"};
	bool waited = false;
	int err = 0;

	os_mutex_lock(&db->mu);
	while (!err && db->frozen_count > limit) {
		if (wal_poisoned(db->wal))
			err = -KV_E_POISONED;
		else if (db->background_error == -KV_E_NOSPACE)
			err = -KV_E_NOSPACE;
		if (err)
			break;
		if (!waited)
			trace_begin(&db->trace, &e);
		waited = true;
		os_cond_timedwait(&db->changed, &db->mu, WAIT_SLICE_MS);
	}
	os_mutex_unlock(&db->mu);
	if (waited)
		stall_end(db, &e, err);
	return err;
}

static struct memtable *active_memtable(struct kv_db *db)
{
	struct memtable *m;

	os_mutex_lock(&db->mu);
	m = db->view->active; /* stays: only the leader, who asks, replaces it */
	os_mutex_unlock(&db->mu);
	return m;
}

static unsigned frozen_count(struct kv_db *db)
{
	unsigned n;

	os_mutex_lock(&db->mu);
	n = db->frozen_count;
	os_mutex_unlock(&db->mu);
	return n;
}

/*
 * Freeze the memtable when it is full, when the log is half full of what only it holds, or when
 * it refers to many bytes of large values: the values that they replaced die at its flush.
 */
static int make_room(struct kv_db *db)
{
	struct memtable *m = active_memtable(db);
	bool full = memtable_bytes(m) >= db->options.memtable_bytes;
	bool values_full = atomic_load_explicit(&db->fresh_value_bytes, memory_order_relaxed) >
			   db->fresh_value_max;
	bool log_full = wal_used(db->wal) > db->wal_size / 2 && frozen_count(db) == 0;
	int err;

	pause_us(db, background_pace_us(db));
	if (memtable_empty(m) || !(full || log_full || values_full))
		return 0;
	err = wait_for_flush(db, FROZEN_LIMIT - 1);
	return err ? err : rotate(db);
}

/* The log has no room for the frame: flush what holds its tail, and try again. */
static int make_log_room(struct kv_db *db)
{
	int err;

	if (frozen_count(db) == 0) {
		if (memtable_empty(active_memtable(db)))
			return -KV_E_NOSPACE;
		err = rotate(db);
		if (err)
			return err;
	}
	return wait_for_flush(db, 0);
}

/*
 * Nothing may enter the log that could not be flushed: ask for space for all that
 * is in memory and this, unless the commit is there to free some.
 */
static int check_space(struct kv_db *db, const struct request *r)
{
	uint64_t need = r->ops.len;

	if (r->flags & KV_COMMIT_RESERVE)
		return 0;
	os_mutex_lock(&db->mu);
	need += memtable_bytes(db->view->active);
	for (unsigned i = 0; i < db->frozen_count; i++)
		need += memtable_bytes(db->frozen[i].memtable);
	os_mutex_unlock(&db->mu);
	return space_has_room(db->space, need) ? 0 : -KV_E_NOSPACE;
}

/* ---- the group ---------------------------------------------------------------- */

static int write_group(struct kv_db *db, struct request *group, uint64_t *end)
{
	struct commit_queue *q = db->commits;
	struct kv_slice part;
	kv_seq seq = q->last_seq;
	int err = 0;

	buf_clear(&q->payload);
	for (struct request *r = group; r && !err; r = r->next) {
		r->seq = ++seq;
		err = record_append(&q->payload, r->seq, writeset_ops(r->writes),
				    kv_buf_slice(&r->ops));
	}
	if (err)
		return err;
	part = kv_buf_slice(&q->payload);
	while ((err = wal_append(db->wal, &part, 1, end)) == -KV_E_NOSPACE) {
		err = make_log_room(db);
		if (err)
			return err;
	}
	if (!err)
		q->last_seq = seq;
	return err;
}

struct apply {
	struct memtable *memtable;
	kv_seq seq;
};

static int apply_op(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	const struct apply *a = ctx;
	const struct entry e = {key, a->seq, kind, value};

	if (kind == ENTRY_RANGE_DELETE)
		return memtable_add_range(a->memtable, key, value, a->seq);
	return memtable_add(a->memtable, &e);
}

static int apply_group(struct kv_db *db, struct request *group)
{
	struct memtable *m = active_memtable(db);
	int err = 0;

	for (struct request *r = group; r && !err; r = r->next) {
		struct apply a = {m, r->seq};

		writeset_forget_refs(r->writes);
		err = writeset_each(r->writes, apply_op, &a);
	}
	return err;
}

/* Refuse what cannot go through, so that the rest of the group is not held up by it. */
static struct request *admit(struct kv_db *db, struct request *group)
{
	struct request *kept = NULL;
	struct request **tail = &kept;

	while (group) {
		struct request *r = group;

		group = r->next;
		r->next = NULL;
		r->result = check_space(db, r);
		if (!r->result) {
			*tail = r;
			tail = &r->next;
		}
	}
	return kept;
}

static void run_group(struct kv_db *db, struct request *group)
{
	uint64_t end = 0;
	int err;

	err = make_room(db);
	if (!err)
		err = write_group(db, group, &end);
	if (!err && apply_group(db, group)) {
		wal_poison(db->wal, -ENOMEM);
		logmsg(db->log, KV_LOG_ERROR, "commit: out of memory after logging seq=%llu",
		       (unsigned long long)db->commits->last_seq);
		err = -KV_E_UNKNOWN_OUTCOME;
	}
	if (!err)
		snapshots_publish(db->snapshots, db->commits->last_seq);
	for (struct request *r = group; r; r = r->next) {
		r->result = err;
		r->end = end;
	}
}

/* ---- the queue ---------------------------------------------------------------- */

/* Take what waits, up to a group's size. */
static struct request *take_group(struct commit_queue *q, uint64_t max) KV_REQUIRES(q->mu)
{
	struct request *group = q->head;
	struct request *last = group;
	uint64_t bytes = group->ops.len;
	unsigned count = 1;

	while (last->next && count < GROUP_COUNT_MAX && bytes + last->next->ops.len <= max) {
		last = last->next;
		bytes += last->ops.len;
		count++;
	}
	q->head = last->next;
	if (!q->head)
		q->tail = &q->head;
	last->next = NULL;
	return group;
}

static uint64_t group_max(const struct kv_db *db)
{
	/* A record's header beside its operations is below 64 bytes. */
	return min_u64(GROUP_BYTES_MAX, wal_payload_max(db->wal) / 2);
}

/*
 * Wait until somebody has committed @mine, leading whenever nobody does. The
 * requests' memory belongs to threads that may go as soon as done is set, so a
 * group is remembered in an array and touched only before that.
 */
static void lead(struct kv_db *db, struct request *mine)
{
	struct commit_queue *q = db->commits;
	struct request *all[GROUP_COUNT_MAX];
	unsigned count = 0;
	struct request *group;

	os_mutex_lock(&q->mu);
	while (!mine->done) {
		if (q->leading) {
			os_cond_wait(&q->done, &q->mu);
			continue;
		}
		q->leading = true;
		group = take_group(q, group_max(db));
		os_mutex_unlock(&q->mu);
		count = 0;
		for (struct request *r = group; r; r = r->next)
			all[count++] = r;
		group = admit(db, group);
		if (group)
			run_group(db, group);
		os_mutex_lock(&q->mu);
		for (unsigned i = 0; i < count; i++)
			all[i]->done = true;
		q->leading = false;
		os_cond_broadcast(&q->done);
	}
	os_mutex_unlock(&q->mu);
}

static int encode_op(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	const struct record_op op = {kind, key, value};

	return record_op_append(ctx, &op);
}

int commit_submit(struct kv_db *db, struct writeset *w, unsigned flags, kv_seq *seq, uint64_t *end)
{
	struct commit_queue *q = db->commits;
	struct request r = {.writes = w, .flags = flags};
	int err;

	if (wal_poisoned(db->wal))
		return -KV_E_POISONED;
	err = writeset_each(w, encode_op, &r.ops);
	if (err)
		goto out;
	if (r.ops.len + 64 > wal_payload_max(db->wal)) {
		err = -KV_E_TOO_BIG;
		goto out;
	}
	os_mutex_lock(&q->mu);
	*q->tail = &r;
	q->tail = &r.next;
	os_mutex_unlock(&q->mu);
	lead(db, &r);
	err = r.result;
	if (!err) {
		*seq = r.seq;
		*end = r.end;
		COUNT(db, commits, 1);
	}
out:
	kv_buf_free(&r.ops);
	return err;
}

int commit_sync(struct kv_db *db, uint64_t lsn)
{
	return wal_sync(db->wal, lsn);
}

int commit_rotate(struct kv_db *db)
{
	struct commit_queue *q = db->commits;
	int err = 0;

	os_mutex_lock(&q->mu);
	while (q->leading)
		os_cond_wait(&q->done, &q->mu);
	q->leading = true;
	os_mutex_unlock(&q->mu);
	if (wal_poisoned(db->wal))
		err = -KV_E_POISONED;
	else if (!memtable_empty(active_memtable(db)))
		err = wait_for_flush(db, FROZEN_LIMIT - 1);
	if (!err && !memtable_empty(active_memtable(db)))
		err = rotate(db);
	os_mutex_lock(&q->mu);
	q->leading = false;
	os_cond_broadcast(&q->done);
	os_mutex_unlock(&q->mu);
	return err;
}
