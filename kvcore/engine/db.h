/* SPDX-License-Identifier: MIT */
/*
 * The database object and what its parts share. Private to engine/.
 *
 *   db.c          open, close, info           recover.c     replay of the log
 *   commit.c      commit queue                txn*.c batch.c validate.c  transactions, batches
 *   ingest.c      commits larger than the log
 *   view*.c       what a reader holds         db_iter.c     iterators of the API
 *   background.c  threads and pacing          flush.c       memtable -> tables
 *   compaction.c  levels                      named.c       named snapshots
 *   history.c feed.c past.c changes.c  the past
 *
 * Locks: docs/concurrency.md.
 */
#ifndef KVCORE_ENGINE_DB_H
#define KVCORE_ENGINE_DB_H

#include <stdatomic.h>

#include "kvcore/engine/ages.h"
#include "kvcore/engine/lock_manager.h"
#include "kvcore/engine/memtable.h"
#include "kvcore/engine/snapshots.h"
#include "kvcore/engine/spill.h"
#include "kvcore/engine/trace.h"
#include "kvcore/engine/values.h"
#include "kvcore/engine/version.h"
#include "kvcore/kvcore.h"
#include "kvcore/os/os_env.h"
#include "kvcore/os/os_thread.h"
#include "kvcore/table/prefix_rules.h"
#include "kvcore/wal/wal.h"

#define VIEW_FROZEN_MAX 8U
#define KEYSPACE_SYSTEM 0U /* the engine's own: named snapshots */

/*
 * What a read needs, as of one moment: memtables newest first, then a version.
 * Counted; the database holds one reference to the current view.
 */
struct view {
	_Atomic unsigned refs;
	struct memtable *active;		  /* [const] */
	struct memtable *frozen[VIEW_FROZEN_MAX]; /* [const] newest first */
	unsigned frozen_count;			  /* [const] */
	struct version *version;		  /* [const] */
	struct view *next_retired;		  /* [db->mu] */
};

#define VIEW_SLOTS 64U

/* What a reader is reading from just now, if not NULL; a cache line each. */
struct view_slot {
	_Atomic(struct view *) pinned;
	char pad[64 - sizeof(struct view *)];
};

/* Per frozen memtable: what its flush needs. */
struct frozen {
	struct memtable *memtable;
	struct wal_position log_after; /* the log is needed from here once it is flushed */
	kv_seq last_seq;
};

/* Add to a counter of KV_COUNTERS. */
#define COUNT(db, name, n) os_stats_add(&(db)->stats, OS_STAT_##name, (n))

struct writeset;
struct commit_queue; /* commit.c */
struct named;	     /* reclaim.c */
/*
 * The volume seems full: flush and compact for at most a few seconds, or wait for a thread that
 * does. Called without locks of the engine but key locks. @history: if that finds nothing, history
 * is given up; not from a commit with KV_COMMIT_RESERVE, which may be that of history itself, and
 * so does not wait either. @tries: 0 before the first one for the same operation
 * Return: try the operation again? False: nothing is to be expected.
 */
bool reclaim_space(struct kv_db *db, bool history, unsigned *tries) KV_MUST_CHECK;

/* named.c */
struct background; /* background.c */
#define BACKGROUND_COMPACTORS_MAX 16U

struct kv_db {
	/* [const] after open */
	struct os_env *env;
	struct os_volume *volume;
	struct kv_options options; /* with the defaults filled in */
	struct kv_log_sink sink;
	const struct kv_log_sink *log; /* NULL or &sink */
	bool readonly;
	uint8_t uuid[KV_UUID_LEN];
	struct checksum *checksum; /* the volume's algorithm */
	struct checksum *sha256;
	struct cache *cache;
	struct space *space;
	struct table_env tables;
	struct prefix_rules prefixes; /* [const] */
	struct versions *versions;
	struct values *values;
	struct wal *wal; /* NULL if readonly */
	uint64_t wal_size;
	bool fixed_size;	  /* the volume's, as opposed to growing on demand */
	uint64_t fresh_value_max; /* bytes of large values that one memtable may refer to */
	struct lock_manager *locks;
	struct snapshots *snapshots;
	struct commit_queue *commits;
	struct spill_env spill;	       /* of large transactions */
	size_t spill_bytes;	       /* what one keeps in memory */
	struct os_mutex ingest_mu;     /* OS_RANK_INGEST: one large commit at a time */
	struct background *background; /* NULL if readonly */
	struct named *named;
	struct history *history;   /* history.c */
	struct prepared *prepared; /* prepared.c */

	struct os_mutex mu;			 /* OS_RANK_DB */
	struct os_cond changed;			 /* any of the following */
	_Atomic(struct view *) view;		 /* current; changed under mu */
	struct view_slot view_slots[VIEW_SLOTS]; /* [atomic] */
	struct view *view_spare;		 /* [one edit at a time] for view_install() */
	struct view *retired;			 /* [mu] replaced ones that were still pinned */
	struct frozen frozen[VIEW_FROZEN_MAX];	 /* [mu] oldest first */
	unsigned frozen_count;			 /* [mu] */
	bool closing;				 /* [mu] */
	int background_error;			 /* [mu] why the last flush failed; 0: it did not */

	_Atomic unsigned compactions_running;
	uint64_t table_bytes;		/* [const] of tables written; 0: the default; for tests */
	uint64_t ingest_lead;		/* [const] of a large commit's number; the same */
	_Atomic uint64_t last_flush_ns; /* monotonic; compaction does idle work a while after it */
	_Atomic uint64_t fresh_value_bytes; /* written since the active memtable was begun */
	bool reclaiming;		    /* [mu] a thread is in reclaim_space() */
	uint64_t reclaim_from_ns;	    /* [mu] when it began, */
	uint64_t reclaim_until_ns;	    /* [mu] and how long it is not to be tried again */
	kv_seq reclaimed_seq;	  /* [mu] visible when it found nothing; 0: it found something */
	_Atomic unsigned handles; /* open transactions, batches and snapshot handles */
	struct trace trace;
	struct trace_volume io[KV_TRACE_AREA_COUNT]; /* [const] the volume, timed, by who uses it */
	struct os_stats stats;			     /* [atomic] */
	struct ages ages; /* of commit numbers; noted by the timer thread and whoever asks */
};

/*
 * Time some work: a sampled part of it, told by the counter that it adds to.
 * Return: when it began, 0: this one is not timed.
 */
static inline uint64_t stats_begin(struct kv_db *db, enum os_stat counter, unsigned every)
{
	return os_stats_sampled(&db->stats, counter, every) ? os_monotonic_ns(db->env) : 0;
}

static inline void stats_end(struct kv_db *db, enum kv_histogram_id id, uint64_t began)
{
	if (began)
		os_stats_record(&db->stats, id, os_monotonic_ns(db->env) - began);
}

#define STATS_EVERY_ENUM(NAME, name, every, text) STATS_EVERY_##NAME = (every),
enum { KV_HISTOGRAMS(STATS_EVERY_ENUM) };
#undef STATS_EVERY_ENUM

/* view_pin.c */
struct view_pin {
	struct view *view;
	struct view_slot *slot; /* NULL: it holds a reference instead */
};
/*
 * The current view, for a short time: it stays valid until view_unpin(). Takes no lock and
 * writes nothing that other threads read on their way.
 */
struct view_pin view_pin(struct kv_db *db);
/* Returns whether it is still the current one. */
bool view_unpin(struct kv_db *db, struct view_pin *pin);
struct view *view_get(struct kv_db *db); /* the current one, with a reference */
void view_unref(struct view *v);
/* The view was replaced: drop the database's reference, now or when nobody has it pinned. */
void view_retire_locked(struct kv_db *db, struct view *v) KV_REQUIRES(db->mu);
/* Drop what was retired and is not pinned any more. */
void view_reclaim(struct kv_db *db);

/* view.c */
/*
 * Replace the current view. NULL keeps what is there. Caller holds db->mu.
 * @flushed: leaves the list of frozen memtables
 * Return: 0, -ENOMEM (nothing changed).
 */
int view_rotate_locked(struct kv_db *db, struct memtable *fresh) KV_MUST_CHECK KV_REQUIRES(db->mu);
/* versions_options.install: takes the reference to @v; @cookie is the flushed memtable or NULL. */
void view_install(void *db, struct version *v, void *cookie);
/* Take the memory for it beforehand. Return: 0, -ENOMEM. */
int view_ready(void *db) KV_MUST_CHECK;
/* One point read through all layers. Value refs are resolved. @seq may be NULL. */
int view_get_key(struct kv_db *db, struct view *v, struct kv_slice ikey, kv_seq max_seq,
		 struct kv_buf *value, kv_seq *seq) KV_MUST_CHECK;
/* The same in the current view: as of a registered snapshot, or the newest version there is. */
int view_read(struct kv_db *db, struct kv_slice ikey, kv_seq snapshot, struct kv_buf *value)
	KV_MUST_CHECK;
int view_read_newest(struct kv_db *db, struct kv_slice ikey, struct kv_buf *value) KV_MUST_CHECK;
/* The same with the reference of a large value as it is. @value: not NULL */
int view_find_key(struct view *v, struct kv_slice ikey, kv_seq max_seq, enum entry_kind *kind,
		  struct kv_buf *value) KV_MUST_CHECK;
/* Is there a version of the ikey, or a range delete over it, newer than @floor? */
int view_changed_after(struct view *v, struct kv_slice ikey, kv_seq floor, bool *changed)
	KV_MUST_CHECK;

/* commit.c */
int commit_queue_new(kv_seq last_seq, struct commit_queue **out) KV_MUST_CHECK;
void commit_queue_free(struct commit_queue *q);
/*
 * Log and apply a writeset as one commit; visible on return. Its large values now belong
 * to the log. @flags: KV_COMMIT_*; does not wait for a sync.
 * @seq, @end: its number, and the LSN that a sync must reach
 * Return: 0, -KV_E_TOO_BIG, -KV_E_NOSPACE, -KV_E_POISONED, -KV_E_UNKNOWN_OUTCOME, -ENOMEM.
 */
int commit_submit(struct kv_db *db, struct writeset *w, unsigned flags, kv_seq *seq, uint64_t *end)
	KV_MUST_CHECK;
/* The same for one operation on a key, borrowed for the call. */
int commit_submit_op(struct kv_db *db, const struct record_op *op, unsigned flags, kv_seq *seq,
		     uint64_t *end) KV_MUST_CHECK;
/* Make everything up to @lsn durable. Return: 0, -KV_E_POISONED. */
int commit_sync(struct kv_db *db, uint64_t lsn) KV_MUST_CHECK;
/* Freeze the active memtable, if it holds anything. Return: 0, -ENOMEM, -KV_E_POISONED,
 * -KV_E_NOSPACE. */
int commit_rotate(struct kv_db *db) KV_MUST_CHECK;

/* recover.c */
struct recovery {
	struct wal_position end; /* where the log goes on */
	uint64_t epoch;		 /* highest seen */
	kv_seq last_seq;
	uint64_t frames;
	bool cut; /* commits that were never durable lacked their values and were left out */
};
/*
 * Replay the log into db->view's active memtable, flushing full ones unless
 * read-only. Return: 0, -KV_E_CORRUPT (a hole in the log, a malformed record), ...
 */
int recover_log(struct kv_db *db, const struct wal_options *options, const struct manifest *m,
		struct recovery *out) KV_MUST_CHECK;

/* background.c */
int background_start(struct kv_db *db) KV_MUST_CHECK;
/* Stops the threads; what they were doing is finished or abandoned soundly. */
void background_stop(struct kv_db *db);
/* How long a commit should wait now so that flush and compaction keep up, microseconds. */
unsigned background_pace_us(struct kv_db *db);
/* 0 to 1000, as of the last piece of work. */
unsigned background_debt(struct kv_db *db);
/* Compaction made level 0 smaller by so many bytes. */
void background_drained(struct kv_db *db, uint64_t bytes);
/* A flush is asked for: try at once what failed, it may have been for want of room that has come
 * since. */
void background_retry(struct kv_db *db);
/* Wait until no memtable is frozen. Return: 0 or why flushing fails. */
int background_wait_flushed(struct kv_db *db) KV_MUST_CHECK;

/* named.c */
int named_load(struct kv_db *db) KV_MUST_CHECK;
void named_free(struct kv_db *db);
size_t named_count(struct kv_db *db);
/* Is there a named snapshot of this seq? */
bool named_has(struct kv_db *db, kv_seq seq);

/* history.c */
int history_load(struct kv_db *db) KV_MUST_CHECK;
void history_free(struct kv_db *db);
/* Let go all but the newest state. Return: whether there was anything to let go. */
bool history_give_up(struct kv_db *db);

/* flush.c */
/*
 * Write a frozen memtable as tables of level 0, drop what no snapshot can see,
 * and make it current with one version edit that also moves the log's start.
 * Settles the memtable's pending value references. Called by one thread at a time.
 * Return: 0, -KV_E_NOSPACE and -ENOMEM (nothing happened, try later), -KV_E_POISONED, ...
 */
int flush_memtable(struct kv_db *db, const struct frozen *f) KV_MUST_CHECK;

/* compaction.c */
/* Is there work? @urgency: 0 none, up to 1000 when writers should be slowed to a stop. */
unsigned compaction_debt(struct kv_db *db);
/* Do one unit of work. @did: whether there was any. Interrupted by db->closing (not an error). */
int compaction_step(struct kv_db *db, bool *did) KV_MUST_CHECK;
/* kv_compact(): everything into the last level. */
int compaction_full(struct kv_db *db, const struct kv_progress *progress) KV_MUST_CHECK;

#endif
