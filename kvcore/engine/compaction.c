/* SPDX-License-Identifier: MIT */
/*
 * Running compactions: steps in the background, and full ones that a caller asks
 * for. What to do is chosen by compaction_pick.c; how it is done is in
 * compaction_rewrite.c; here is when, and who is told.
 *
 * Several threads may run steps at once: the inputs of each are claimed. Threads that
 * have no step of their own help with the parts of a large one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/compaction_pick.h"
#include "kvcore/engine/compaction_rewrite.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/gc.h"
#include "kvcore/engine/output.h"

#define IDLE_NS		1000000000ULL
#define BUSY_WAIT_MS	20U
#define TABLE_BYTES_MIN (128U * 1024)
#define TABLE_FRACTION	512U /* of a volume of fixed size */
#define BASE_FRACTION	256U
#define TABLES_WANTED	2048U /* of a large volume; all are listed anew with each change of one */

/* A full compaction, as far as its caller is told of it. */
struct full {
	struct kv_db *db;
	const struct kv_progress *progress; /* may be NULL */
	uint64_t done, total;		    /* bytes of tables; done never falls */
};

static bool db_closing(struct kv_db *db)
{
	bool closing;

	os_mutex_lock(&db->mu);
	closing = db->closing;
	os_mutex_unlock(&db->mu);
	return closing;
}

/* 0 or -KV_E_INTERRUPTED. */
static int poll_full(void *ctx)
{
	const struct full *f = ctx;

	if (db_closing(f->db))
		return -KV_E_INTERRUPTED;
	if (f->progress && f->progress->report(f->progress->ctx, f->done, f->total))
		return -KV_E_INTERRUPTED;
	return 0;
}

/* ---- one step ------------------------------------------------------------------------------ */

/* The tables change their level and nothing else. */
static int move_tables(struct kv_db *db, const struct compaction_job *job)
{
	struct version_edit edit = {.move = job->ids, .move_count = job->upper_count};
	uint32_t levels[64];
	int err = 0;

	for (size_t i = 0; i < KV_ARRAY_COUNT(levels); i++)
		levels[i] = job->out_level;
	edit.move_level = levels;
	/* In pieces, oldest first: while only some of level 0 have moved, newer is still above. */
	for (size_t end = job->upper_count; !err && end > 0; end -= edit.move_count) {
		edit.move_count = min_u64(end, KV_ARRAY_COUNT(levels));
		edit.move = job->ids + (end - edit.move_count);
		err = versions_apply(db->versions, &edit);
	}
	if (!err)
		COUNT(db, trivial_moves, job->upper_count);
	return err;
}

/* How many threads may work on a step while @others run: each of them has one for itself. */
static unsigned spare_threads(const struct kv_db *db, unsigned others)
{
	unsigned all = db->options.compaction_threads;

	return all > others ? all - others : 1;
}

static uint64_t upper_bytes(const struct compaction_job *job)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < job->upper_count; i++)
		bytes += table_get_meta(job->upper[i])->stored_bytes;
	return bytes;
}

static void count_rewrite(struct kv_db *db, const struct compaction_job *job, uint64_t written,
			  uint64_t ns)
{
	os_stats_record(&db->stats, KV_HISTOGRAM_COMPACTION, ns);
	COUNT(db, compactions, 1);
	COUNT(db, compaction_bytes_read, job->bytes);
	COUNT(db, compaction_bytes_written, written);
	logmsg(db->log, KV_LOG_DEBUG,
	       "compaction: done %s level=%u tables=%zu+%zu bytes=%" PRIu64
	       " -> level=%u bytes=%" PRIu64,
	       job->reason, job->level, job->upper_count, job->lower_count, job->bytes,
	       job->out_level, written);
}

/* Ends the job. */
static int run_job(struct kv_db *db, struct compaction_job *job, struct full *full)
{
	struct kv_trace_event e = {
		.kind = KV_TRACE_COMPACTION,
		.bytes = job->bytes,
		.level = job->level,
		.out_level = job->out_level,
		.reason = job->move ? "move" : job->reason,
	};
	const struct compaction_watch watch = {poll_full, full};
	uint64_t written = 0;
	unsigned others = atomic_fetch_add(&db->compactions_running, 1);
	uint64_t ns;
	int err;

	trace_begin(&db->trace, &e);
	err = job->move ? move_tables(db, job)
			: compaction_rewrite(db, job, full ? &watch : NULL,
					     spare_threads(db, others), &written);
	atomic_fetch_sub(&db->compactions_running, 1);
	e.bytes = written;
	ns = trace_end(&db->trace, &e, err);
	if (!err && !job->move)
		count_rewrite(db, job, written, ns);
	if (!err && job->level == 0)
		background_drained(db, upper_bytes(job));
	if (job->damaged)
		logmsg(db->log, KV_LOG_ERROR,
		       "compaction: damaged input, left alone level=%u first table=%" PRIu64 ": %s",
		       job->level, job->ids[0], kv_strerror(err));
	compaction_job_fini(job);
	return err;
}

/* ---- interface ------------------------------------------------------------------------------ */

/*
 * A compaction of level 0 brings a few memtables, and merges them with all of the level below it if
 * keys are random. That level is as large as what comes, so that each of its bytes is written about
 * twice; were it as small as a memtable there would be a level more than pays, and without it all
 * of the data would be written for each few memtables.
 */
static void scale_to_memtable(struct kv_db *db, const struct space_stat *st,
			      struct compaction_policy *p)
{
	uint64_t memtable = db->options.memtable_bytes;
	uint64_t least = max_u64(TABLE_BYTES_MIN, (st->size - st->free) / TABLES_WANTED);

	p->table_bytes = min_u64(max_u64(memtable, least), OUTPUT_TABLE_BYTES);
	p->base_bytes = max_u64(COMPACTION_L0_START * memtable, p->table_bytes);
	p->room = UINT64_MAX;
}

/*
 * Tables, and the smallest level, are smaller on a small volume: a step must fit into the space
 * that is kept free for compaction, a sixteenth of the volume (space.c).
 */
static void scale_to_volume(struct kv_db *db, const struct space_stat *st,
			    struct compaction_policy *p)
{
	if (st->size_max != UINT64_MAX) {
		p->table_bytes = min_u64(max_u64(st->size_max / TABLE_FRACTION, TABLE_BYTES_MIN),
					 p->table_bytes);
		p->base_bytes = min_u64(max_u64(st->size_max / BASE_FRACTION, p->table_bytes),
					p->base_bytes);
		p->room = st->free - st->free / 8; /* manifests need some */
	}
	if (db->table_bytes) {
		p->table_bytes = db->table_bytes;
		p->base_bytes = db->table_bytes;
	}
}

static int get_policy(struct kv_db *db, struct compaction_policy *out)
{
	uint64_t flushed = atomic_load_explicit(&db->last_flush_ns, memory_order_relaxed);
	struct space_stat st;
	struct gc gc;
	int err = gc_init(&gc, db->snapshots);

	if (err)
		return err;
	space_get_stat(db->space, &st);
	scale_to_memtable(db, &st, out);
	scale_to_volume(db, &st, out);
	out->oldest = gc_oldest(&gc);
	out->keep_all = gc.keep_all;
	out->idle = os_monotonic_ns(db->env) - flushed >= IDLE_NS;
	gc_fini(&gc);
	return 0;
}

unsigned compaction_debt(struct kv_db *db)
{
	struct compaction_policy policy;
	struct version *v;
	unsigned debt;

	if (get_policy(db, &policy))
		return 0;
	v = versions_current(db->versions);
	debt = compaction_pick_debt(db->versions, v, &policy);
	version_unref(v);
	return debt;
}

int compaction_step(struct kv_db *db, bool *did)
{
	struct compaction_policy policy;
	struct compaction_job job;
	int err;

	*did = false;
	if (db_closing(db))
		return 0;
	err = get_policy(db, &policy);
	if (!err)
		err = compaction_pick(db->versions, &policy, &job);
	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	err = run_job(db, &job, NULL);
	if (!err)
		*did = true;
	return err == -KV_E_INTERRUPTED ? 0 : err;
}

/* Bytes of tables with commits up to @seq that are not in new tables of the last level yet. */
static uint64_t bytes_left(struct kv_db *db, kv_seq seq, uint64_t after_id)
{
	struct version *v = versions_current(db->versions);
	uint64_t bytes = 0;

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = table_get_meta(v->level[n].tables[i]);

			if (m->seq_min <= seq && (n < COMPACTION_LAST || m->id <= after_id))
				bytes += m->stored_bytes;
		}
	}
	version_unref(v);
	return bytes;
}

/* Another compaction has what is left: wait until a version changed. */
static void wait_for_others(struct kv_db *db)
{
	os_mutex_lock(&db->mu);
	if (!db->closing)
		os_cond_timedwait(&db->changed, &db->mu, BUSY_WAIT_MS);
	os_mutex_unlock(&db->mu);
}

int compaction_full(struct kv_db *db, const struct kv_progress *progress)
{
	kv_seq seq = snapshots_visible(db->snapshots);
	uint64_t after_id = versions_new_table_id(db->versions);
	struct full full = {.db = db, .progress = progress, .total = bytes_left(db, seq, after_id)};
	struct compaction_policy policy;
	struct compaction_job job;
	int err = get_policy(db, &policy);

	while (!err) {
		full.done = max_u64(
			full.done, full.total - min_u64(full.total, bytes_left(db, seq, after_id)));
		err = poll_full(&full);
		if (err)
			break;
		err = compaction_pick_full(db->versions, &policy, seq, after_id, &job);
		if (err == -KV_E_BUSY) {
			wait_for_others(db);
			err = 0;
		} else if (!err) {
			err = run_job(db, &job, &full);
		}
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}
