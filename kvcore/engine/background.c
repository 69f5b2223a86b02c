/* SPDX-License-Identifier: MIT */
/*
 * The database's threads: one flushes frozen memtables, one compacts, one makes
 * unsynced commits durable every commit_interval_ms. They sleep on db->changed,
 * which the leader signals when it freezes a memtable and view_install() when a
 * version changed.
 *
 * A flush that fails (no space, no memory, a table that cannot be written) leaves
 * everything in the log and in memory. The reason is kept in db->background_error, so that
 * writers without room get it instead of waiting, and the flush is tried again; a
 * poisoned log ends the work until the volume is opened again.
 *
 * Pacing (pace.h): writers are slowed down to the measured speed of flush and compaction
 * before they would have to stop.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/pace.h"

#define RETRY_MS      500U
#define IDLE_MS	      1000U
#define DAMAGE_IDLE_S 60U
#define TICK_MS	      250U
#define IDLE_FLUSH_NS 3000000000ULL

struct background {
	struct os_thread flusher;
	struct os_thread timer;
	struct os_thread compactors[BACKGROUND_COMPACTORS_MAX];
	unsigned started;      /* threads, in the order above */
	_Atomic unsigned debt; /* 0 to 1000, refreshed after each piece of work */
	struct pace pace;
};

static bool closing(struct kv_db *db)
{
	bool yes;

	os_mutex_lock(&db->mu);
	yes = db->closing;
	os_mutex_unlock(&db->mu);
	return yes;
}

/* Sleep until something changed, at most @ms. */
static void idle(struct kv_db *db, unsigned ms)
{
	os_mutex_lock(&db->mu);
	if (!db->closing)
		os_cond_timedwait(&db->changed, &db->mu, ms);
	os_mutex_unlock(&db->mu);
}

/* Sleep for @ms whatever changes, unless closing. @wanted [mu]: or as soon as this is 0; or NULL */
static void back_off(struct kv_db *db, unsigned ms, const int *wanted)
{
	uint64_t now = os_monotonic_ns(db->env);
	uint64_t until = now + (uint64_t)ms * 1000000;

	os_mutex_lock(&db->mu);
	for (; !db->closing && now < until && !(wanted && !*wanted); now = os_monotonic_ns(db->env))
		os_cond_timedwait(&db->changed, &db->mu, (until - now) / 1000000 + 1);
	os_mutex_unlock(&db->mu);
}

static void set_error(struct kv_db *db, int err)
{
	os_mutex_lock(&db->mu);
	if (err != db->background_error) {
		db->background_error = err;
		os_cond_broadcast(&db->changed);
	}
	os_mutex_unlock(&db->mu);
}

static void refresh_debt(struct kv_db *db)
{
	atomic_store_explicit(&db->background->debt, compaction_debt(db), memory_order_relaxed);
}

/* ---- flush ------------------------------------------------------------------------- */

/* The oldest frozen memtable, referenced; false if there is none. */
static bool next_frozen(struct kv_db *db, struct frozen *out)
{
	bool any;

	os_mutex_lock(&db->mu);
	any = db->frozen_count > 0;
	if (any) {
		*out = db->frozen[0];
		memtable_ref(out->memtable);
	}
	os_mutex_unlock(&db->mu);
	return any;
}

static int flush_one(struct kv_db *db, const struct frozen *f)
{
	struct pace *pace = &db->background->pace;
	int err;

	pace_flush_began(pace, os_monotonic_ns(db->env));
	err = flush_memtable(db, f);
	pace_flush_ended(pace, os_monotonic_ns(db->env), err ? 0 : memtable_bytes(f->memtable));
	if (!err)
		err = values_reap(db->values);
	set_error(db, err);
	refresh_debt(db);
	return err;
}

static void run_flusher(void *arg)
{
	struct kv_db *db = arg;
	struct frozen f;
	int err;

	while (!closing(db)) {
		if (wal_poisoned(db->wal)) {
			back_off(db, IDLE_MS, NULL);
			continue;
		}
		if (!next_frozen(db, &f)) {
			idle(db, IDLE_MS);
			continue;
		}
		err = flush_one(db, &f);
		memtable_unref(f.memtable);
		if (err) {
			logmsg(db->log, KV_LOG_WARN, "flush: failed, will try again: %s",
			       kv_strerror(err));
			back_off(db, RETRY_MS, &db->background_error);
		}
	}
}

/* ---- compaction ------------------------------------------------------------------------ */

static void run_compactor(void *arg)
{
	struct kv_db *db = arg;
	bool did;
	int err;

	while (!closing(db)) {
		did = false;
		pace_drain_busy(&db->background->pace, os_monotonic_ns(db->env));
		err = wal_poisoned(db->wal) ? 0 : compaction_step(db, &did);
		if (!err && did)
			err = values_reap(db->values);
		refresh_debt(db);
		if (err && err != -KV_E_INTERRUPTED) {
			logmsg(db->log, err == -KV_E_NOSPACE ? KV_LOG_INFO : KV_LOG_WARN,
			       "compaction: failed, will try again: %s", kv_strerror(err));
			back_off(db,
				 err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM
					 ? DAMAGE_IDLE_S * 1000
					 : RETRY_MS,
				 NULL);
		} else if (!did) {
			if (!atomic_load(&db->compactions_running))
				pace_drain_idle(&db->background->pace);
			idle(db, IDLE_MS);
		}
	}
}

/* ---- commit interval, idle flush ------------------------------------------------------------ */

struct timer {
	unsigned tick_ms;
	uint64_t synced_ns; /* when the log was last seen durable */
	uint64_t idle_ns;   /* since when the log has not grown */
	uint64_t end;	    /* of the log, as last seen */
};

static void sync_when_due(struct kv_db *db, struct timer *t, uint64_t now)
{
	/* Early by the tick, so that the promise holds between two of them. */
	uint64_t interval_ns = ((uint64_t)db->options.commit_interval_ms - t->tick_ms) * 1000000;
	int err;

	if (t->end <= wal_durable_lsn(db->wal)) {
		t->synced_ns = now;
		return;
	}
	if (now - t->synced_ns < interval_ns)
		return;
	err = commit_sync(db, t->end);
	t->synced_ns = now;
	if (err)
		logmsg(db->log, KV_LOG_ERROR, "log: sync failed, now read-only: %s",
		       kv_strerror(wal_poisoned(db->wal)));
}

/*
 * Deletes give space back only when they reach the tables that they hide. A memtable
 * with deletes is therefore flushed when nobody writes any more, and any
 * memtable at the first pause when the volume is nearly full.
 */
static void flush_when_idle(struct kv_db *db, struct timer *t, uint64_t now)
{
	struct view *v = view_get(db);
	bool any = !memtable_empty(v->active) && v->frozen_count == 0;
	bool deletes = any && memtable_has_deletes(v->active);
	bool due = deletes && now - t->idle_ns >= IDLE_FLUSH_NS;

	view_unref(v);
	if (!due && any && now != t->idle_ns && db->fixed_size)
		due = !space_has_room(db->space, 2 * db->options.memtable_bytes);
	if (due && commit_rotate(db))
		logmsg(db->log, KV_LOG_DEBUG, "flush: cannot begin an idle flush");
}

static void run_timer(void *arg)
{
	struct kv_db *db = arg;
	struct timer t = {
		.tick_ms = (unsigned)min_u64((db->options.commit_interval_ms + 3) / 4, TICK_MS),
		.synced_ns = os_monotonic_ns(db->env),
	};
	uint64_t now;
	uint64_t end;

	while (!closing(db)) {
		back_off(db, t.tick_ms, NULL);
		now = os_monotonic_ns(db->env);
		if (wal_poisoned(db->wal))
			continue;
		end = wal_end_lsn(db->wal);
		if (end != t.end)
			t.idle_ns = now;
		ages_note(&db->ages, snapshots_visible(db->snapshots), now);
		t.end = end;
		sync_when_due(db, &t, now);
		flush_when_idle(db, &t, now);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

int background_start(struct kv_db *db)
{
	struct background *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	err = pace_init(&b->pace);
	if (err) {
		free(b);
		return err;
	}
	db->background = b;
	refresh_debt(db);
	err = os_thread_start(&b->flusher, "kv-flush", run_flusher, db);
	b->started += !err;
	if (!err) {
		err = os_thread_start(&b->timer, "kv-commit", run_timer, db);
		b->started += !err;
	}
	for (unsigned i = 0; !err && i < db->options.compaction_threads; i++) {
		err = os_thread_start(&b->compactors[i], "kv-compact", run_compactor, db);
		b->started += !err;
	}
	if (err)
		background_stop(db);
	return err;
}

void background_stop(struct kv_db *db)
{
	struct background *b = db->background;

	if (!b)
		return;
	os_mutex_lock(&db->mu);
	db->closing = true;
	os_cond_broadcast(&db->changed);
	os_mutex_unlock(&db->mu);
	if (b->started > 0)
		os_thread_join(&b->flusher);
	if (b->started > 1)
		os_thread_join(&b->timer);
	for (unsigned i = 2; i < b->started; i++)
		os_thread_join(&b->compactors[i - 2]);
	pace_fini(&b->pace);
	free(b);
	db->background = NULL;
}

unsigned background_debt(struct kv_db *db)
{
	return db->background ? atomic_load_explicit(&db->background->debt, memory_order_relaxed)
			      : 0;
}

void background_drained(struct kv_db *db, uint64_t bytes)
{
	if (db->background)
		pace_drained(&db->background->pace, os_monotonic_ns(db->env), bytes);
}

/* Bytes that can be written before writers would have to wait for a flush. */
static uint64_t room_for_writers(struct kv_db *db, uint64_t active)
{
	uint64_t max = db->options.memtable_bytes;

	return min_u64(max - min_u64(active, max), wal_room(db->wal));
}

unsigned background_pace_us(struct kv_db *db)
{
	struct background *b = db->background;
	struct pace_state s = {
		.debt = atomic_load_explicit(&b->debt, memory_order_relaxed),
	};
	uint64_t active;

	os_mutex_lock(&db->mu);
	active = memtable_bytes(db->view->active);
	for (unsigned i = 0; i < db->frozen_count; i++)
		s.frozen += memtable_bytes(db->frozen[i].memtable);
	os_mutex_unlock(&db->mu);
	if (!s.frozen && s.debt <= PACE_DEBT_FROM)
		return 0;
	s.now_ns = os_monotonic_ns(db->env);
	s.written = wal_end_lsn(db->wal);
	s.room = room_for_writers(db, active);
	return pace_us(&b->pace, &s);
}

void background_retry(struct kv_db *db)
{
	set_error(db, 0);
}

int background_wait_flushed(struct kv_db *db)
{
	int err = 0;

	os_mutex_lock(&db->mu);
	while (!err && db->frozen_count) {
		if (wal_poisoned(db->wal))
			err = -KV_E_POISONED;
		else if (db->background_error)
			err = db->background_error;
		else
			os_cond_timedwait(&db->changed, &db->mu, 100);
	}
	os_mutex_unlock(&db->mu);
	return err;
}
