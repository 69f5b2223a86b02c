/* SPDX-License-Identifier: MIT */
/*
 * What to do before a writer is told that the volume is full: dead versions and
 * dead large values may hold much of it, because they die only in flush and
 * compaction. So the writer flushes, compacts for a bounded time, and tries
 * again, a few times if each search finds something: that may have been a compaction's
 * own room, or taken by others. History, which is kept as long as there is room, goes if
 * nothing else does.
 *
 * On a volume that is full of live data this finds nothing, and must not be done
 * for every failing write: it is worth another try only after some commits,
 * since only they can have made garbage.
 */
#include "kvcore/engine/db.h"

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"

#define RECLAIM_NS	  3000000000ULL /* longest compaction */
#define RECLAIM_SETTLE_NS 500000000ULL	/* longest wait for old versions */
#define RECLAIM_PAUSE_NS  2000000000ULL /* longest pause after a search that did not pay, */
#define RECLAIM_PART	  4U		/* else so many times as long as it took */
#define NS_PER_MS	  1000000ULL
#define RECLAIM_PAID	  (1024U * 1024) /* bytes freed that make it worth while */
#define RECLAIM_ROUNDS	  8U		 /* of emptying segments */
#define RECLAIM_TRIES	  4U		 /* for one operation */
#define RECLAIM_COMMITS	  16U		 /* since the last try */

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

enum claim { CLAIM_SEARCH, CLAIM_FOUND, CLAIM_NOTHING };

/* Has enough happened since a search that did not pay? */
static bool has_changed_locked(const struct kv_db *db)
{
	return !db->reclaimed_seq ||
	       snapshots_visible(db->snapshots) - db->reclaimed_seq >= RECLAIM_COMMITS;
}

/*
 * One thread at a time; the others wait for it, since what it finds may do for them. Searches
 * that do not pay take a part of the time only; who comes in the pause and knows that something
 * was removed since waits for its end.
 */
static enum claim claim_locked(struct kv_db *db, bool wait)
{
	bool others = false, paused;
	uint64_t now;

	for (;;) {
		now = os_monotonic_ns(db->env);
		paused = db->reclaimed_seq && now < db->reclaim_until_ns;
		others = others || db->reclaiming;
		if (!wait && (others || paused))
			return CLAIM_NOTHING;
		if (db->reclaiming)
			os_cond_wait(&db->changed, &db->mu);
		else if (others)
			return db->reclaimed_seq ? CLAIM_NOTHING : CLAIM_FOUND;
		else if (!has_changed_locked(db) || db->closing)
			return CLAIM_NOTHING;
		else if (!paused ||
			 !os_cond_timedwait(&db->changed, &db->mu,
					    1 + (db->reclaim_until_ns - now) / NS_PER_MS))
			return CLAIM_SEARCH;
	}
}

static enum claim claim(struct kv_db *db, bool wait)
{
	enum claim c;

	os_mutex_lock(&db->mu);
	c = claim_locked(db, wait);
	if (c == CLAIM_SEARCH) {
		db->reclaiming = true;
		db->reclaim_from_ns = os_monotonic_ns(db->env);
	}
	os_mutex_unlock(&db->mu);
	return c;
}

static void claim_end(struct kv_db *db, bool paid)
{
	uint64_t now = os_monotonic_ns(db->env);

	os_mutex_lock(&db->mu);
	db->reclaiming = false;
	db->reclaimed_seq = paid ? 0 : max_u64(snapshots_visible(db->snapshots), 1);
	db->reclaim_until_ns =
		now + min_u64(RECLAIM_PART * (now - db->reclaim_from_ns), RECLAIM_PAUSE_NS);
	os_cond_broadcast(&db->changed);
	os_mutex_unlock(&db->mu);
}

static bool has_paid(struct kv_db *db, const struct space_stat *before)
{
	struct space_stat now;

	space_get_stat(db->space, &now);
	return now.free > before->free && now.free - before->free >= RECLAIM_PAID;
}

/*
 * What is dead is free when the last one that looks at an old version lets go of it: the
 * background threads do at once, an iterator may not for hours.
 */
static bool wait_until_paid(struct kv_db *db, const struct space_stat *before)
{
	uint64_t until = os_monotonic_ns(db->env) + RECLAIM_SETTLE_NS;
	bool paid = has_paid(db, before);

	os_mutex_lock(&db->mu);
	while (!paid && !db->closing && versions_old(db->versions) &&
	       os_monotonic_ns(db->env) < until) {
		os_cond_timedwait(&db->changed, &db->mu, 1);
		paid = has_paid(db, before);
	}
	os_mutex_unlock(&db->mu);
	return paid || has_paid(db, before); /* it may have come before the last old version went */
}

static int flush_all(struct kv_db *db)
{
	int err = commit_rotate(db);

	return err ? err : background_wait_flushed(db);
}

static int compact_and_reap(struct kv_db *db, const struct kv_progress *progress)
{
	int err = compaction_full(db, progress);

	if (!err || err == -KV_E_INTERRUPTED || err == -KV_E_NOSPACE)
		err = values_reap(db->values);
	return err;
}

/*
 * What is dead lies between what lives: the reserve has room for the live values of some segments,
 * which gives back more than it takes, and so room for more of them.
 */
static int empty_segments(struct kv_db *db, const struct kv_progress *progress,
			  const struct space_stat *before)
{
	struct space_stat now;
	bool paid = false;
	unsigned count;
	int err = 0;

	/* Half of a segment may have gone before the room ended; so the first rounds may give
	 * nothing back. */
	for (unsigned i = 0; !err && !paid && i < RECLAIM_ROUNDS; i++) {
		space_get_stat(db->space, &now);
		err = values_choose_to_empty(db->values, now.free / 2, &count);
		if (err || !count)
			break;
		err = compact_and_reap(db, progress);
		paid = wait_until_paid(db, before);
	}
	return err;
}

/* Only what is in tables is known to be dead. -KV_E_NOSPACE also if only the flush failed. */
static int flush_and_compact(struct kv_db *db, const struct kv_progress *progress)
{
	int flush_err = flush_all(db), err;

	if (flush_err && flush_err != -KV_E_NOSPACE)
		return flush_err;
	err = compact_and_reap(db, progress);
	return err ? err : flush_err;
}

/* Make what is dead free. @paid: whether that was much */
static int search(struct kv_db *db, bool *paid)
{
	struct deadline d = {db, os_monotonic_ns(db->env) + RECLAIM_NS};
	const struct kv_progress progress = {past_deadline, &d};
	struct space_stat before;
	int err;

	space_get_stat(db->space, &before);
	err = flush_and_compact(db, &progress);
	if (err == -KV_E_NOSPACE) /* the compaction may have what the flush wants */
		err = flush_and_compact(db, &progress);
	if (!err && !wait_until_paid(db, &before))
		err = empty_segments(db, &progress, &before);
	*paid = has_paid(db, &before);
	return err;
}

bool reclaim_space(struct kv_db *db, bool history, unsigned *tries)
{
	enum claim c = CLAIM_NOTHING;
	bool paid;
	int err;

	if ((*tries)++ < RECLAIM_TRIES)
		c = claim(db, history);
	if (c != CLAIM_SEARCH)
		return c == CLAIM_FOUND;
	logmsg(db->log, KV_LOG_INFO, "space: full, looking for dead versions");
	err = search(db, &paid);
	if (!paid && history && history_give_up(db)) {
		logmsg(db->log, KV_LOG_WARN, "history: given up, the volume is full");
		err = search(db, &paid);
	}
	claim_end(db, paid);
	return paid || !err; /* even a little may be enough */
}
