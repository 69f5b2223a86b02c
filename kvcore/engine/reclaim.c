/* SPDX-License-Identifier: MIT */
/*
 * What to do before a writer is told that the volume is full: dead versions and
 * dead large values may hold much of it, because they die only in flush and
 * compaction. So the writer flushes, compacts for a bounded time, and tries once
 * more. History, which is kept as long as there is room, goes if nothing else does.
 *
 * On a volume that is full of live data this finds nothing, and must not be done
 * for every failing write: it is worth another try only after some commits,
 * since only they can have made garbage.
 */
#include "kvcore/engine/db.h"

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"

#define RECLAIM_NS	 3000000000ULL /* longest compaction */
#define RECLAIM_PAUSE_NS 2000000000ULL
#define RECLAIM_PAID	 (1024U * 1024) /* bytes freed that make it worth while */
#define RECLAIM_COMMITS	 16U		/* since the last try */

struct deadline {
	struct kv_db *db;
	uint64_t at_ns;
};

static int past_deadline(void *ctx, uint64_t done, uint64_t total)
{
	const struct deadline *d = ctx;

	(void)done;
	(void)total;
	return os_monotonic_ns(d->db->env) > d->at_ns;
}

/* One thread at a time, and not again too soon. */
static bool claim(struct kv_db *db)
{
	kv_seq now = snapshots_visible(db->snapshots);
	kv_seq last = atomic_load(&db->reclaimed_seq);
	uint64_t ended = atomic_load(&db->reclaimed_ns);

	if (last && now - last < RECLAIM_COMMITS)
		return false;
	if (ended && os_monotonic_ns(db->env) - ended < RECLAIM_PAUSE_NS)
		return false;
	return atomic_compare_exchange_strong(&db->reclaimed_seq, &last, max_u64(now, 1));
}

/* Make what is dead free. @paid: whether that was much */
static int search(struct kv_db *db, const struct kv_progress *progress, bool *paid)
{
	struct space_stat before;
	struct space_stat after;
	int err;

	space_get_stat(db->space, &before);
	err = commit_rotate(db);
	if (!err)
		err = background_wait_flushed(db);
	if (!err)
		err = compaction_full(db, progress);
	if (!err || err == -KV_E_INTERRUPTED || err == -KV_E_NOSPACE)
		err = values_reap(db->values);
	space_get_stat(db->space, &after);
	*paid = after.free > before.free && after.free - before.free >= RECLAIM_PAID;
	return err;
}

int reclaim_space(struct kv_db *db, bool history)
{
	struct deadline d = {db, os_monotonic_ns(db->env) + RECLAIM_NS};
	const struct kv_progress progress = {past_deadline, &d};
	bool paid;
	int err;

	if (!claim(db))
		return -KV_E_NOSPACE;
	logmsg(db->log, KV_LOG_INFO, "space: full, looking for dead versions");
	err = search(db, &progress, &paid);
	if (!paid && history && history_give_up(db)) {
		logmsg(db->log, KV_LOG_WARN, "history: given up, the volume is full");
		err = search(db, &progress, &paid);
	}
	/* A search that paid may be done again as soon as it is needed. */
	atomic_store(&db->reclaimed_ns, paid ? 0 : os_monotonic_ns(db->env));
	return err ? -KV_E_NOSPACE : 0;
}
