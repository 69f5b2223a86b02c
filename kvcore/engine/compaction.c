/* SPDX-License-Identifier: MIT */
/*
 * Running compactions: merge the inputs, write what survives into the output
 * level, and exchange inputs for outputs with one version edit. Until that
 * edit is durable nothing has changed, so a compaction can be given up at any entry:
 * because the database closes, the caller interrupts, the volume is full, or a page of
 * an input is damaged.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/compaction_pick.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/gc.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/output.h"

#define POLL_ENTRIES	1024U /* entries between looks at who wants to stop it */
#define IDLE_NS		1000000000ULL
#define BUSY_WAIT_MS	20U
#define TABLE_BYTES_MIN (128U * 1024)
#define TABLE_FRACTION	512U /* of a volume of fixed size */
#define BASE_FRACTION	256U

/* A full compaction's progress, in bytes of inputs. */
struct full {
	const struct kv_progress *progress; /* may be NULL */
	uint64_t done, total;
};

static bool is_damage(int err)
{
	return err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO;
}

static bool db_closing(struct kv_db *db)
{
	bool closing;

	os_mutex_lock(&db->mu);
	closing = db->closing;
	os_mutex_unlock(&db->mu);
	return closing;
}

/* 0 or -KV_E_INTERRUPTED. */
static int poll_stop(struct kv_db *db, const struct full *full)
{
	if (db_closing(db))
		return -KV_E_INTERRUPTED;
	if (full && full->progress &&
	    full->progress->report(full->progress->ctx, min_u64(full->done, full->total),
				   full->total))
		return -KV_E_INTERRUPTED;
	return 0;
}

/* ---- inputs ------------------------------------------------------------------------- */

static int add_ranges(struct table *const *tables, size_t count, struct range_set *out)
{
	const struct kv_slice unbounded = {NULL, 0};
	int err = 0;

	for (size_t i = 0; !err && i < count; i++) {
		const struct range_set *ranges = NULL;

		if (!table_get_meta(tables[i])->range_count)
			continue;
		err = table_ranges(tables[i], &ranges);
		if (!err && ranges)
			err = range_set_add_set(out, ranges, unbounded, unbounded);
	}
	return err;
}

/* All inputs as one iterator: each table of level 0 by itself, other levels as one. */
static int open_inputs(const struct compaction_job *job, struct iter **out)
{
	const unsigned flags = TABLE_ITER_ONCE | TABLE_ITER_READAHEAD;
	struct iter **sources = calloc(job->upper_count + 2, sizeof(struct iter *));
	size_t n = 0;
	int err = 0;

	if (!sources)
		return -ENOMEM;
	for (size_t i = 0; !err && job->level == 0 && i < job->upper_count; i++) {
		/* Tables that hold only range deletes have nothing to iterate over. */
		if (!table_get_meta(job->upper[i])->entry_count)
			continue;
		err = table_iter_new(job->upper[i], flags, &sources[n]);
		n += !err;
	}
	if (!err && job->level) {
		err = level_iter_new(job->upper, job->upper_count, flags, &sources[n]);
		n += !err;
	}
	if (!err && job->lower_count) {
		err = level_iter_new(job->lower, job->lower_count, flags, &sources[n]);
		n += !err;
	}
	if (err) {
		while (n)
			iter_close(sources[--n]);
	} else {
		err = merge_iter_new(sources, n, out);
	}
	free(sources);
	return err;
}

/* ---- one compaction --------------------------------------------------------------------- */

static int merge(struct kv_db *db, struct compaction_job *job, const struct full *full,
		 struct output *o)
{
	struct iter *it = NULL;
	struct entry e;
	unsigned seen = 0;
	int err;

	err = open_inputs(job, &it);
	if (err)
		return err;
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		err = output_add(o, &e);
		if (!err && ++seen % POLL_ENTRIES == 0)
			err = poll_stop(db, full);
		if (err)
			goto out;
	}
	/* Only a failure to read says something about the inputs. */
	job->damaged = is_damage(err);
out:
	iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = output_finish(o);
	return err;
}

static int apply_outputs(struct kv_db *db, const struct compaction_job *job, struct output *o)
{
	struct version_edit edit = {.remove = job->ids, .remove_count = job->id_count};
	int err = output_edit(o, &edit);

	if (err)
		return err;
	/* Values that were moved become durable with the edit. */
	values_seal(db->values);
	return versions_apply(db->versions, &edit);
}

/* @written: bytes of the new tables */
static int rewrite(struct kv_db *db, struct compaction_job *job, const struct full *full,
		   uint64_t *written)
{
	struct output_options options = {
		.tables = &db->tables,
		.versions = db->versions,
		.values = db->values,
		.version = job->version,
		.level = job->out_level,
		.below = job->out_level + 1,
		.class = SPACE_COMPACT,
		.table_bytes = job->table_bytes,
	};
	struct range_set *ranges = NULL;
	struct output *o = NULL;
	struct gc gc = {0};
	uint64_t bytes = 0;
	int err;

	options.gc = &gc;
	err = range_set_new(&ranges);
	if (!err)
		err = add_ranges(job->upper, job->upper_count, ranges);
	if (!err)
		err = add_ranges(job->lower, job->lower_count, ranges);
	job->damaged = is_damage(err);
	if (!err)
		err = gc_init(&gc, db->snapshots);
	if (err)
		goto out;
	options.ranges = ranges;
	err = output_new(&options, &o);
	if (!err)
		err = merge(db, job, full, o);
	if (err)
		goto out;
	bytes = output_bytes(o);
	err = apply_outputs(db, job, o);
	if (err)
		goto out;
	output_committed(o);
	*written = bytes;
	COUNT(db, compactions, 1);
	COUNT(db, compaction_bytes_read, job->bytes);
	COUNT(db, compaction_bytes_written, bytes);
	logmsg(db->log, KV_LOG_DEBUG,
	       "compaction: done level=%u tables=%zu+%zu bytes=%" PRIu64
	       " -> level=%u bytes=%" PRIu64,
	       job->level, job->upper_count, job->lower_count, job->bytes, job->out_level, bytes);
out:
	if (o && err)
		output_failed(o, err);
	output_free(o);
	gc_fini(&gc);
	range_set_free(ranges);
	return err;
}

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

/* Ends the job. */
static int run_job(struct kv_db *db, struct compaction_job *job, const struct full *full)
{
	struct kv_trace_event e = {
		.kind = KV_TRACE_COMPACTION,
		.bytes = job->bytes,
		.level = job->level,
		.out_level = job->out_level,
		.reason = job->move ? "move" : job->reason,
	};
	uint64_t written = 0;
	uint64_t ns;
	int err;

	trace_begin(&db->trace, &e);
	err = job->move ? move_tables(db, job) : rewrite(db, job, full, &written);
	e.bytes = written;
	ns = trace_end(&db->trace, &e, err);
	if (!err && !job->move)
		os_stats_record(&db->stats, KV_HISTOGRAM_COMPACTION, ns);
	if (job->damaged)
		logmsg(db->log, KV_LOG_ERROR,
		       "compaction: damaged input, left alone level=%u first table=%" PRIu64 ": %s",
		       job->level, job->ids[0], kv_strerror(err));
	compaction_job_fini(job);
	return err;
}

/* ---- interface ------------------------------------------------------------------------------ */

/*
 * Tables, and the smallest level, are smaller on a small volume: a step must fit into the space
 * that is kept free for compaction, a sixteenth of the volume (space.c).
 */
static void scale_to_volume(struct kv_db *db, struct compaction_policy *p)
{
	struct space_stat st;

	space_get_stat(db->space, &st);
	p->table_bytes = OUTPUT_TABLE_BYTES;
	p->base_bytes = OUTPUT_TABLE_BYTES;
	p->room = UINT64_MAX;
	if (st.size_max != UINT64_MAX) {
		p->table_bytes = min_u64(max_u64(st.size_max / TABLE_FRACTION, TABLE_BYTES_MIN),
					 OUTPUT_TABLE_BYTES);
		p->base_bytes = min_u64(max_u64(st.size_max / BASE_FRACTION, p->table_bytes),
					OUTPUT_TABLE_BYTES);
		p->room = st.free - st.free / 8; /* manifests need some */
	}
	if (db->table_bytes) {
		p->table_bytes = db->table_bytes;
		p->base_bytes = db->table_bytes;
	}
}

static int get_policy(struct kv_db *db, struct compaction_policy *out)
{
	uint64_t flushed = atomic_load_explicit(&db->last_flush_ns, memory_order_relaxed);
	struct gc gc;
	int err = gc_init(&gc, db->snapshots);

	if (err)
		return err;
	scale_to_volume(db, out);
	out->oldest = gc.live[0];
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

static uint64_t all_bytes(struct kv_db *db)
{
	struct version *v = versions_current(db->versions);
	uint64_t bytes = 0;

	for (unsigned n = 0; n < KV_LEVELS; n++)
		bytes += v->level[n].bytes;
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
	struct full full = {.progress = progress, .total = all_bytes(db)};
	kv_seq seq = snapshots_visible(db->snapshots);
	uint64_t after_id = versions_new_table_id(db->versions);
	struct compaction_policy policy;
	struct compaction_job job;
	int err = get_policy(db, &policy);

	while (!err) {
		err = poll_stop(db, &full);
		if (err)
			break;
		err = compaction_pick_full(db->versions, &policy, seq, after_id, &job);
		if (err == -KV_E_BUSY) {
			wait_for_others(db);
			err = 0;
		} else if (!err) {
			full.done += job.bytes;
			err = run_job(db, &job, &full);
		}
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}
