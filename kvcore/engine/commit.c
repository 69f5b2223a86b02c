/* SPDX-License-Identifier: MIT */
/*
 * The commit queue. Threads that commit queue up; the first becomes the leader,
 * takes all that wait, numbers them, writes them as one log frame, applies them
 * to the memtable, publishes the last number and hands out the results (leader
 * and followers as in LevelDB; the frame is what group commit shares). Waiting
 * for a sync happens afterwards and outside the queue, so commits that do not
 * sync never wait for one that does.
 *
 *   queue_and_wait() -> lead() -> commit_room_make() -> write_group() -> apply_group() -> publish
 *
 * Each thread encodes its own commit, and applies it if it is large and the leader is
 * another thread. A follower waits on a latch of its own, so a group's end
 * wakes those that it committed and nobody else. It looks at the latch for about as long as
 * a group takes before it sleeps, and the leader goes on with a few more groups while
 * commits wait: both save changes of threads, which cost as much as a commit.
 *
 * A transaction too large for the log commits as tables (ingest.c): it leads, without a group,
 * from commit_pause() to commit_resume().
 *
 * Only the leader appends to the log and rotates the memtable (commit_room.c).
 *
 * A commit is visible once it is in the log and in the memtable, in the order of
 * its number. If the memtable cannot take what the log already has, the two
 * disagree until the log is replayed: the database is poisoned and the outcome unknown.
 */
#include "kvcore/engine/commit_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/ingest.h"

/* A frame gathers commits up to this many bytes. */
#define GROUP_BYTES_MAX (4U * 1024 * 1024)
#define SHARE_OPS	64U	    /* a thread woken to apply fewer than this loses time */
#define OP_OVERHEAD	8U	    /* bytes of an encoded operation beside key and value, about */
#define LEAD_GROUPS	4U	    /* that one thread commits before another leads */
#define FOLLOWER_TURNS	(64U + 16U) /* of os_thread_relax() before a follower sleeps */

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
	err = os_cond_init(&q->applied);
	if (err) {
		os_cond_fini(&q->done);
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
	os_cond_fini(&q->applied);
	os_cond_fini(&q->done);
	os_mutex_fini(&q->mu);
	free(q);
}

/* ---- the group ---------------------------------------------------------------- */

static int write_group(struct kv_db *db, struct request *group, uint64_t *end)
{
	struct commit_queue *q = db->commits;
	kv_seq seq = q->last_seq;
	size_t n = 0;
	int err;

	for (struct request *r = group; r; r = r->next, n++) {
		r->seq = ++seq;
		q->parts[2 * n] =
			kv_slice_of(q->headers[n],
				    record_header(r->seq, r->op_count, r->ops.len, q->headers[n]));
		q->parts[2 * n + 1] = kv_buf_slice(&r->ops);
	}
	while ((err = wal_append(db->wal, q->parts, 2 * n, end)) == -KV_E_NOSPACE) {
		err = commit_room_make_log(db);
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

static int apply_request(struct memtable *m, struct request *r)
{
	struct apply a = {m, r->seq};

	if (r->op)
		return apply_op(&a, r->op->kind, r->op->key, r->op->value);
	writeset_forget_refs(r->writes);
	return writeset_each(r->writes, apply_op, &a);
}

/* Is it worth waking the thread that sleeps for this request to let it apply it? */
static bool worth_sharing(const struct request *r)
{
	return r->op_count >= SHARE_OPS && !range_set_count(writeset_ranges(r->writes));
}

/*
 * Leave large requests of a group to their own threads, which insert at once. Range
 * deletes stay with the leader: they go into a memtable one after another. Returns whether
 * there was any.
 */
static bool share(struct commit_queue *q, struct request *group, const struct request *own)
{
	bool any = false;

	for (struct request *r = group; r; r = r->next) {
		r->shared = r != own && worth_sharing(r);
		any = any || r->shared;
	}
	if (!any)
		return false;
	os_mutex_lock(&q->mu);
	for (struct request *r = group; r; r = r->next)
		q->applying += r->shared;
	os_mutex_unlock(&q->mu);
	for (struct request *r = group; r; r = r->next) {
		if (!r->shared)
			continue;
		r->turn = TURN_APPLY;
		os_latch_open(&r->woken);
	}
	return true;
}

/* A follower's part. */
static void apply_own(struct kv_db *db, struct request *mine)
{
	struct commit_queue *q = db->commits;

	os_latch_shut(&mine->woken); /* the leader opens it again only after what comes now */
	mine->result = apply_request(commit_active(db), mine);
	os_mutex_lock(&q->mu);
	if (--q->applying == 0)
		os_cond_signal(&q->applied);
	os_mutex_unlock(&q->mu);
}

static int apply_group(struct kv_db *db, struct request *group, const struct request *own)
{
	struct commit_queue *q = db->commits;
	struct memtable *m = commit_active(db);
	bool shared = group->next && share(q, group, own);
	int err = 0;

	for (struct request *r = group; r; r = r->next) {
		if (!err && !r->shared)
			err = apply_request(m, r);
	}
	if (!shared)
		return err;
	os_mutex_lock(&q->mu);
	while (q->applying)
		os_cond_wait(&q->applied, &q->mu);
	os_mutex_unlock(&q->mu);
	for (struct request *r = group; r && !err; r = r->next)
		err = r->shared ? r->result : 0;
	return err;
}

/*
 * Nothing may enter the log that could not be flushed: there must be space for all that is in
 * memory and this, unless the commit is there to free some. Refuse what cannot go
 * through, so that the rest of the group is not held up by it.
 */
static struct request *admit(struct kv_db *db, struct request *group)
{
	uint64_t unflushed = commit_room_unflushed(db);
	struct request *kept = NULL;
	struct request **tail = &kept;
	uint64_t need = unflushed;

	for (struct request *r = group; r; r = r->next)
		need += r->ops.len;
	if (space_has_room(db->space, need))
		return group;
	while (group) {
		struct request *r = group;

		group = r->next;
		r->next = NULL;
		if (!(r->flags & KV_COMMIT_RESERVE) &&
		    !space_has_room(db->space, unflushed + r->ops.len)) {
			r->result = -KV_E_NOSPACE;
			continue;
		}
		*tail = r;
		tail = &r->next;
	}
	return kept;
}

static void run_group(struct kv_db *db, struct request *group, const struct request *own)
{
	uint64_t end = 0;
	int err;

	err = commit_room_make(db, group);
	if (!err)
		err = write_group(db, group, &end);
	if (!err && apply_group(db, group, own)) {
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

/* Commit one group, @own perhaps among it. With q->mu held, which is let go meanwhile. */
KV_NO_THREAD_ANALYSIS static void lead_group(struct kv_db *db, struct request *own)
{
	struct commit_queue *q = db->commits;
	struct request *all[GROUP_COUNT_MAX];
	unsigned count = 0;
	struct request *group;

	group = take_group(q, group_max(db));
	os_mutex_unlock(&q->mu);
	for (struct request *r = group; r; r = r->next)
		all[count++] = r;
	group = admit(db, group);
	if (group)
		run_group(db, group, own);
	/* Their memory belongs to threads that may go as soon as they are told. */
	for (unsigned i = 0; i < count; i++) {
		all[i]->turn = TURN_DONE;
		if (all[i] != own)
			os_latch_open(&all[i]->woken);
	}
	os_mutex_lock(&q->mu);
}

/*
 * Leading ends: let somebody lead who wants to without a commit, or the oldest request. Returns
 * the one to be told, without the mutex.
 */
static struct request *hand_over(struct commit_queue *q) KV_REQUIRES(q->mu)
{
	q->leading = false;
	if (q->takers) {
		os_cond_signal(&q->done);
		return NULL;
	}
	if (!q->head)
		return NULL;
	q->leading = true;
	q->head->turn = TURN_LEAD;
	return q->head;
}

/* Lead, with q->mu held, which is let go: @own and, for a while, what waits behind it. */
KV_NO_THREAD_ANALYSIS static void lead(struct kv_db *db, struct request *own)
{
	struct commit_queue *q = db->commits;
	unsigned groups = 0;
	struct request *next;

	do { /* the first group contains its own */
		lead_group(db, own);
	} while (++groups < LEAD_GROUPS && q->head && !q->takers);
	next = hand_over(q);
	os_mutex_unlock(&q->mu);
	if (next)
		os_latch_open(&next->woken);
}

/* Commit @mine: lead if nobody does, else wait until somebody has done it or it is to lead. */
KV_NO_THREAD_ANALYSIS static void queue_and_wait(struct kv_db *db, struct request *mine)
{
	struct commit_queue *q = db->commits;

	os_mutex_lock(&q->mu);
	*q->tail = mine;
	q->tail = &mine->next;
	if (!q->leading && !q->takers) {
		q->leading = true;
		lead(db, mine);
		return;
	}
	os_mutex_unlock(&q->mu);
	os_latch_wait(&mine->woken, FOLLOWER_TURNS);
	while (mine->turn == TURN_APPLY) {
		apply_own(db, mine);
		os_latch_wait(&mine->woken, FOLLOWER_TURNS);
	}
	if (mine->turn == TURN_DONE)
		return;
	os_mutex_lock(&q->mu);
	lead(db, mine);
}

static int encode_op(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	const struct record_op op = {kind, key, value};

	return record_op_append(ctx, &op);
}

/* Commit what @r holds encoded. */
static int submit(struct kv_db *db, struct request *r, kv_seq *seq, uint64_t *end)
{
	if (r->ops.len + 64 > wal_payload_max(db->wal))
		return -KV_E_TOO_BIG;
	queue_and_wait(db, r);
	if (r->result)
		return r->result;
	*seq = r->seq;
	*end = r->end;
	COUNT(db, commits, 1);
	return 0;
}

int commit_submit(struct kv_db *db, struct writeset *w, unsigned flags, kv_seq *seq, uint64_t *end)
{
	struct request r = {.writes = w, .op_count = writeset_ops(w), .flags = flags};
	int err;

	if (wal_poisoned(db->wal))
		return -KV_E_POISONED;
	err = buf_reserve(&r.ops, writeset_bytes(w) + r.op_count * OP_OVERHEAD);
	if (!err)
		err = writeset_each(w, encode_op, &r.ops);
	if (!err)
		err = submit(db, &r, seq, end);
	kv_buf_free(&r.ops);
	return err;
}

int commit_submit_op(struct kv_db *db, const struct record_op *op, unsigned flags, kv_seq *seq,
		     uint64_t *end)
{
	struct request r = {.op = op, .op_count = 1, .flags = flags};
	int err;

	if (wal_poisoned(db->wal))
		return -KV_E_POISONED;
	err = buf_reserve(&r.ops, op->key.len + op->value.len + OP_OVERHEAD);
	if (!err)
		err = record_op_append(&r.ops, op);
	if (!err)
		err = submit(db, &r, seq, end);
	kv_buf_free(&r.ops);
	return err;
}

int commit_sync(struct kv_db *db, uint64_t lsn)
{
	return wal_sync(db->wal, lsn);
}

/* Lead without a commit of one's own. */
static void take_lead(struct commit_queue *q)
{
	os_mutex_lock(&q->mu);
	q->takers++;
	while (q->leading)
		os_cond_wait(&q->done, &q->mu);
	q->takers--;
	q->leading = true;
	os_mutex_unlock(&q->mu);
}

static void give_lead(struct commit_queue *q)
{
	struct request *next;

	os_mutex_lock(&q->mu);
	next = hand_over(q);
	os_mutex_unlock(&q->mu);
	if (next)
		os_latch_open(&next->woken);
}

int commit_rotate(struct kv_db *db)
{
	int err = 0;

	take_lead(db->commits);
	background_retry(db);
	if (wal_poisoned(db->wal))
		err = -KV_E_POISONED;
	else if (!memtable_empty(commit_active(db)))
		err = commit_room_wait(db, FROZEN_LIMIT - 1);
	if (!err && !memtable_empty(commit_active(db)))
		err = commit_room_rotate(db);
	give_lead(db->commits);
	return err;
}

int commit_pause(struct kv_db *db, kv_seq *last_seq)
{
	int err = 0;

	take_lead(db->commits);
	background_retry(db);
	if (wal_poisoned(db->wal))
		err = -KV_E_POISONED;
	if (!err)
		err = commit_room_wait(db, FROZEN_LIMIT - 1);
	if (!err && !memtable_empty(commit_active(db)))
		err = commit_room_rotate(db);
	if (!err)
		err = commit_room_wait(db, 0);
	if (err) {
		give_lead(db->commits);
		return err;
	}
	*last_seq = db->commits->last_seq;
	/* What was placed since belongs to the large commit, whose edit settles it. */
	atomic_store_explicit(&db->fresh_value_bytes, 0, memory_order_relaxed);
	return 0;
}

void commit_resume(struct kv_db *db, kv_seq seq)
{
	if (seq) {
		db->commits->last_seq = seq;
		snapshots_publish(db->snapshots, seq);
	}
	give_lead(db->commits);
}
