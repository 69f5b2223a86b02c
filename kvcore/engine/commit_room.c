/* SPDX-License-Identifier: MIT */
/*
 * Room for commits: pacing, freezing the memtable when it is full, and waiting for its flush
 * when the log or memory is. Called by the commit leader only, before a group is
 * logged; so whoever waits here holds up all commits, readers never.
 */
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/commit_internal.h"

#define WAIT_SLICE_MS 100U
/* Keys under a range delete that iterators may have to pass one by one: some 30 us. */
#define HIDDEN_KEYS_MAX 512U
#define HIDDEN_RANGES	16U /* of a commit that are looked at; a few us each */

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
int commit_room_rotate(struct kv_db *db)
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
		memtable_freeze(f.memtable, f.last_seq);
		db->frozen[db->frozen_count++] = f;
		memtable_ref(f.memtable);
		os_cond_broadcast(&db->changed);
	}
	os_mutex_unlock(&db->mu);
	memtable_unref(fresh);
	return err;
}

/*
 * Wait while too many memtables are frozen, or until the oldest is flushed. While flushing fails,
 * whatever the reason, commits that need it get that reason instead of waiting: it may last.
 */
int commit_room_wait(struct kv_db *db, unsigned limit)
{
	struct kv_trace_event e = {.kind = KV_TRACE_STALL,
				   .reason = limit ? "memtables" : "log full"};
	bool waited = false;
	int err = 0;

	os_mutex_lock(&db->mu);
	while (!err && db->frozen_count > limit) {
		if (wal_poisoned(db->wal))
			err = -KV_E_POISONED;
		else
			err = db->background_error; /* no flush to be expected soon */
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

struct memtable *commit_active(struct kv_db *db)
{
	struct view_pin pin = view_pin(db);
	struct memtable *m = pin.view->active; /* stays: only the leader, who asks, replaces it */

	(void)view_unpin(db, &pin);
	return m;
}

static unsigned frozen_count(struct kv_db *db)
{
	struct view_pin pin = view_pin(db);
	unsigned n = pin.view->frozen_count;

	(void)view_unpin(db, &pin);
	return n;
}

/*
 * Does a range delete of the group hide many keys of the memtable? Iterators step over what is
 * hidden at once only in a source that is older as a whole, so it should go into the next one.
 */
static bool hides_much(struct memtable *m, const struct request *group)
{
	for (const struct request *r = group; r; r = r->next) {
		const struct range_set *set = r->writes ? writeset_ranges(r->writes) : NULL;
		size_t count = set ? min_u64(range_set_count(set), HIDDEN_RANGES) : 0;

		for (size_t i = 0; i < count; i++) {
			struct range_fragment f = range_set_at(set, i);

			if (memtable_has_more(m, f.from, f.to, HIDDEN_KEYS_MAX))
				return true;
		}
	}
	return false;
}

/*
 * Freeze the memtable when it is full, when the log is half full of what only it holds, or when
 * it refers to many bytes of large values: the values that they replaced die at its flush.
 */
int commit_room_make(struct kv_db *db, const struct request *group)
{
	struct memtable *m = commit_active(db);
	bool full = memtable_bytes(m) >= db->options.memtable_bytes;
	bool values_full = atomic_load_explicit(&db->fresh_value_bytes, memory_order_relaxed) >
			   db->fresh_value_max;
	bool log_full = wal_used(db->wal) > db->wal_size / 2 && frozen_count(db) == 0;
	int err;

	pause_us(db, background_pace_us(db));
	if (memtable_empty(m))
		return 0;
	if (!(full || log_full || values_full))
		return frozen_count(db) < FROZEN_LIMIT && hides_much(m, group)
			       ? commit_room_rotate(db)
			       : 0;
	err = commit_room_wait(db, FROZEN_LIMIT - 1);
	return err ? err : commit_room_rotate(db);
}

/* The log has no room for the frame: flush what holds its tail, and try again. */
int commit_room_make_log(struct kv_db *db)
{
	int err;

	if (frozen_count(db) == 0) {
		if (memtable_empty(commit_active(db)))
			return -KV_E_NOSPACE;
		err = commit_room_rotate(db);
		if (err)
			return err;
	}
	return commit_room_wait(db, 0);
}

/* Bytes of memtables that are yet to be flushed. */
uint64_t commit_room_unflushed(struct kv_db *db)
{
	struct view_pin pin = view_pin(db);
	uint64_t sum = memtable_bytes(pin.view->active);

	for (unsigned i = 0; i < pin.view->frozen_count; i++)
		sum += memtable_bytes(pin.view->frozen[i]);
	(void)view_unpin(db, &pin);
	return sum;
}
