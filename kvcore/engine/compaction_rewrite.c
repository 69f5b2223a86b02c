/* SPDX-License-Identifier: MIT */
/*
 * One compaction, in parts. The keys of a large job are divided at the first keys of some of
 * its tables; each part merges its range with iterators and an output of its own, and all
 * become current by one version edit. Parts share what does not change: the list of live
 * snapshots and the range deletes.
 *
 * The calling thread does the first part and asks the watch; if anybody fails, all stop.
 */
#include "kvcore/engine/compaction_rewrite.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/gc.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/output.h"

#define POLL_ENTRIES 256U	    /* entries between looks at who wants to stop it */
#define PART_TABLES  1U		    /* full tables of input that make a part worth a thread */
#define INPUT_BUFFER (1024U * 1024) /* that reading one sorted input takes at most */
#define BUDGET_PART  4U		    /* of the cache's, that buffers may take from pages */

struct rewrite {
	struct kv_db *db;
	struct compaction_job *job;
	const struct compaction_watch *watch;
	struct range_set *ranges; /* of all inputs; constant while parts run */
	struct gc gc;
	uint64_t gc_id;	   /* of table_meta */
	_Atomic bool stop; /* relaxed: only a hint to stop soon */
};

struct part {
	struct rewrite *r;
	struct kv_slice from, to; /* ikeys; empty: unbounded */
	bool main;		  /* in the thread that called */
	struct output *output;
	struct os_thread thread;
	bool started;
	int err;
	bool damaged;
};

static bool is_damage(int err)
{
	return err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO;
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

/* ---- one part ------------------------------------------------------------------------- */

static int poll_stop(struct part *p)
{
	struct kv_db *db = p->r->db;
	bool closing;

	if (atomic_load_explicit(&p->r->stop, memory_order_relaxed))
		return -KV_E_INTERRUPTED;
	os_mutex_lock(&db->mu);
	closing = db->closing;
	os_mutex_unlock(&db->mu);
	if (closing)
		return -KV_E_INTERRUPTED;
	return p->main && p->r->watch ? p->r->watch->poll(p->r->watch->ctx) : 0;
}

static int merge(struct part *p)
{
	struct iter *it = NULL;
	struct entry e;
	unsigned seen = 0;
	int err;

	err = open_inputs(p->r->job, &it);
	if (err)
		return err;
	err = p->from.len ? iter_seek(it, p->from) : iter_first(it);
	for (; !err; err = iter_next(it)) {
		iter_entry(it, &e);
		if (p->to.len && slice_compare(e.key, p->to) >= 0) {
			err = -KV_E_NOTFOUND;
			break;
		}
		err = output_add(p->output, &e);
		if (!err && ++seen % POLL_ENTRIES == 0)
			err = poll_stop(p);
		if (err)
			goto out;
	}
	/* Only a failure to read says something about the inputs. */
	p->damaged = is_damage(err);
out:
	iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = output_finish(p->output);
	return err;
}

/* Bytes of buffers for reading the inputs, as far as they are charged to the cache's budget. */
static size_t input_buffers(const struct kv_db *db, const struct compaction_job *job)
{
	size_t inputs = (job->level ? 1 : job->upper_count) + (job->lower_count ? 1 : 0);

	return (size_t)min_u64(inputs * INPUT_BUFFER, db->options.cache_bytes / BUDGET_PART);
}

static void run_part(void *arg)
{
	struct part *p = arg;
	const struct compaction_job *job = p->r->job;
	struct kv_db *db = p->r->db;
	const size_t buffers = input_buffers(db, job);
	const struct output_options options = {
		.tables = &db->tables,
		.versions = db->versions,
		.values = db->values,
		.version = job->version,
		.gc = &p->r->gc,
		.gc_id = p->r->gc_id,
		.ranges = p->r->ranges,
		.level = job->out_level,
		.below = job->out_level + 1,
		.class = SPACE_COMPACT,
		.table_bytes = job->table_bytes,
		.from = p->from,
		.to = p->to,
	};

	cache_charge(db->cache, buffers);
	p->err = output_new(&options, &p->output);
	if (!p->err)
		p->err = merge(p);
	cache_uncharge(db->cache, buffers);
	if (p->err)
		atomic_store_explicit(&p->r->stop, true, memory_order_relaxed);
}

/* ---- parts ------------------------------------------------------------------------------ */

struct start {
	struct kv_slice key;
	uint64_t bytes;
};

static int compare_starts(const void *a, const void *b)
{
	const struct start *x = a;
	const struct start *y = b;

	return slice_compare(x->key, y->key);
}

int compaction_cuts(const struct compaction_job *job, unsigned count, struct kv_slice *cuts)
{
	size_t n = job->upper_count + job->lower_count;
	struct start *starts = calloc(n, sizeof(*starts));
	uint64_t seen = 0;
	unsigned made = 0;

	if (!starts)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const struct table_meta *m = table_get_meta(
			i < job->upper_count ? job->upper[i] : job->lower[i - job->upper_count]);

		starts[i] = (struct start){kv_buf_slice(&m->smallest), m->stored_bytes};
	}
	qsort(starts, n, sizeof(*starts), compare_starts);
	for (size_t i = 0; i < n && made + 1 < count; i++) {
		/* Before the table at which so much of the whole has passed; never an empty part.
		 */
		if (seen * count >= job->bytes * (made + 1) &&
		    slice_compare(starts[i].key, made ? cuts[made - 1] : starts[0].key) > 0)
			cuts[made++] = starts[i].key;
		seen += starts[i].bytes;
	}
	free(starts);
	return (int)made;
}

static int divide(struct rewrite *r, unsigned threads, struct part *parts, unsigned *count)
{
	struct kv_slice cuts[COMPACTION_PARTS_MAX];
	uint64_t worth = r->job->bytes / (PART_TABLES * r->job->table_bytes);
	unsigned want = (unsigned)min_u64(min_u64(threads, COMPACTION_PARTS_MAX), worth);
	int made = want > 1 ? compaction_cuts(r->job, want, cuts) : 0;

	if (made < 0)
		return made;
	*count = (unsigned)made + 1;
	for (unsigned i = 0; i < *count; i++) {
		parts[i] = (struct part){.r = r, .main = i == 0};
		if (i)
			parts[i].from = cuts[i - 1];
		if (i + 1 < *count)
			parts[i].to = cuts[i];
	}
	return 0;
}

/* The error that explains the others: not that somebody else stopped. */
static int first_error(const struct part *parts, unsigned count)
{
	int err = 0;

	for (unsigned i = 0; i < count; i++) {
		if (parts[i].err && (!err || err == -KV_E_INTERRUPTED))
			err = parts[i].err;
	}
	return err;
}

static int run_parts(struct rewrite *r, struct part *parts, unsigned count)
{
	for (unsigned i = 1; i < count; i++)
		parts[i].started =
			os_thread_start(&parts[i].thread, "kv-part", run_part, &parts[i]) == 0;
	run_part(&parts[0]);
	for (unsigned i = 1; i < count; i++) {
		if (parts[i].started)
			os_thread_join(&parts[i].thread);
		else if (!parts[0].err)
			run_part(&parts[i]);
		else
			parts[i].err = -KV_E_INTERRUPTED;
	}
	for (unsigned i = 0; i < count; i++)
		r->job->damaged = r->job->damaged || parts[i].damaged;
	return first_error(parts, count);
}

/* ---- the edit ----------------------------------------------------------------------------- */

/* All parts' tables and deltas in one edit. The arrays are the caller's to free. */
static int gather(struct part *parts, unsigned count, struct version_edit *edit)
{
	struct version_edit one[COMPACTION_PARTS_MAX] = {{0}};
	struct segment_delta *deltas;
	size_t tables = 0;
	size_t delta_count = 0;
	int err = 0;

	for (unsigned i = 0; !err && i < count; i++) {
		err = output_edit(parts[i].output, &one[i]);
		tables += one[i].add_count;
		delta_count += one[i].delta_count;
	}
	if (err)
		return err;
	edit->add = calloc(tables + 1, sizeof(*edit->add));
	deltas = calloc(delta_count + 1, sizeof(*deltas));
	edit->deltas = deltas;
	if (!edit->add || !deltas)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		for (size_t j = 0; j < one[i].add_count; j++)
			edit->add[edit->add_count++] = one[i].add[j];
		for (size_t j = 0; j < one[i].delta_count; j++)
			deltas[edit->delta_count++] = one[i].deltas[j];
	}
	return 0;
}

static int apply_parts(struct rewrite *r, struct part *parts, unsigned count)
{
	struct version_edit edit = {.remove = r->job->ids, .remove_count = r->job->id_count};
	int err = gather(parts, count, &edit);

	if (!err) {
		/* Values that were moved become durable with the edit. */
		values_seal(r->db->values);
		err = versions_apply(r->db->versions, &edit);
	}
	free(edit.add);
	free((void *)(uintptr_t)edit.deltas);
	return err;
}

static int prepare(struct rewrite *r)
{
	const struct compaction_job *job = r->job;
	int err = range_set_new(&r->ranges);

	if (!err)
		err = add_ranges(job->upper, job->upper_count, r->ranges);
	if (!err)
		err = add_ranges(job->lower, job->lower_count, r->ranges);
	r->job->damaged = is_damage(err);
	r->gc_id = versions_next_table_id(r->db->versions);
	return err ? err : gc_init(&r->gc, r->db->snapshots);
}

int compaction_rewrite(struct kv_db *db, struct compaction_job *job,
		       const struct compaction_watch *watch, unsigned threads, uint64_t *written)
{
	struct rewrite r = {.db = db, .job = job, .watch = watch};
	struct part parts[COMPACTION_PARTS_MAX] = {{0}};
	unsigned count = 0;
	uint64_t bytes = 0;
	int err;

	err = prepare(&r);
	if (!err)
		err = divide(&r, threads, parts, &count);
	if (!err)
		err = run_parts(&r, parts, count);
	for (unsigned i = 0; !err && i < count; i++)
		bytes += output_bytes(parts[i].output);
	if (!err)
		err = apply_parts(&r, parts, count);
	for (unsigned i = 0; i < count; i++) {
		if (parts[i].output && err)
			output_failed(parts[i].output, err);
		else if (parts[i].output)
			output_committed(parts[i].output);
		output_free(parts[i].output);
	}
	if (!err)
		*written = bytes;
	gc_fini(&r.gc);
	range_set_free(r.ranges);
	return err;
}
