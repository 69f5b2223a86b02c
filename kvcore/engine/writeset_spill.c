/* SPDX-License-Identifier: MIT */
/*
 * Spilling. The operations in memory become one run for each stretch between two
 * savepoints, so that rolling back drops whole runs: those of a stretch are the ones of the
 * tree and of the undo log that were made in it. With many savepoints that would be
 * many runs, so then the set stays in memory.
 *
 * When enough runs of about one size have gathered behind the newest savepoint they are
 * merged into one, as in a tiered LSM tree: their number stays logarithmic, for reads and
 * for the merge at commit. What a range delete between two of them hides is left out; it
 * cannot be rolled back without them.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/skip_iter.h"
#include "kvcore/engine/writeset_internal.h"

#define SAVEPOINTS_MAX 16U /* with more, nothing is spilled */
#define TIER	       12U /* runs of one size that are merged */
#define TIER_GROWTH    4U  /* runs within this factor are of one size */
#define RUNS_MAX       48U /* with more, sizes are not looked at */

/* ---- memory -> runs ------------------------------------------------------------ */

struct item {
	struct kv_slice key;
	const struct writeop *op;
};

struct stretch {
	uint64_t from, to; /* generations, without to */
	struct item *items;
	size_t count, cap;
};

static int gather(struct stretch *s, struct kv_slice key, const struct writeop *op)
{
	struct item *items;

	if (!op || op->gen < s->from || op->gen >= s->to)
		return 0;
	items = writeset_grown(s->items, s->count, 1, &s->cap, sizeof(*items));
	if (!items)
		return -ENOMEM;
	s->items = items;
	items[s->count++] = (struct item){key, op};
	return 0;
}

static int compare_items(const void *a, const void *b)
{
	const struct item *x = a;
	const struct item *y = b;

	return slice_compare(x->key, y->key);
}

/* All operations of the stretch; there is at most one a key. */
static int gather_stretch(const struct writeset *w, struct stretch *s)
{
	int err = 0;

	for (struct btree_pos p = btree_first(&w->mem->tree); !err && btree_valid(p);
	     p = btree_next(p))
		err = gather(s, btree_key(p), btree_value(p));
	for (size_t i = 0; !err && i < w->undo_count; i++)
		err = gather(s, w->undo[i].key, w->undo[i].displaced);
	if (!err && w->undo_count && s->count)
		qsort(s->items, s->count, sizeof(*s->items), compare_items);
	return err;
}

static int write_items(const struct writeset *w, const struct stretch *s, struct spill_run **out)
{
	struct spill_writer *writer = NULL;
	int err = spill_writer_new(w->spill, WRITESET_POINT_SEQ(s->to - 1), &writer);

	if (err)
		return err;
	for (size_t i = 0; !err && i < s->count; i++) {
		const struct writeop *op = s->items[i].op;

		err = spill_writer_add(writer, s->items[i].key, op->kind,
				       kv_slice_of(op->value, op->value_len));
	}
	if (!err)
		return spill_writer_finish(writer, out);
	spill_writer_abandon(writer);
	return err;
}

/* @out: NULL if there is nothing. */
static int write_stretch(const struct writeset *w, size_t savepoint, struct spill_run **out)
{
	struct stretch s = {
		.from = savepoint ? w->savepoints[savepoint - 1].gen : 0,
		.to = savepoint < w->savepoint_count ? w->savepoints[savepoint].gen : w->gen + 1,
	};
	int err = gather_stretch(w, &s);
	unsigned tries = 0;

	*out = NULL;
	if (!err && s.count)
		err = write_items(w, &s, out);
	while (err == -KV_E_NOSPACE && w->spill->reclaim &&
	       w->spill->reclaim(w->spill->reclaim_ctx, &tries))
		err = write_items(w, &s, out);
	free(s.items);
	return err;
}

/* ---- runs -> run ------------------------------------------------------------------- */

static int open_runs(const struct writeset *w, size_t first, struct iter **out)
{
	const kv_seq newest = spill_run_seq(w->runs[w->run_count - 1]);
	size_t count = w->run_count - first;
	struct iter *sources[TIER];
	size_t n = 0;
	int err = 0;

	KV_ASSERT(count <= TIER);
	for (; !err && n < count; n += !err) {
		struct spill_run *r = w->runs[first + n];

		err = spill_run_iter(r, TABLE_ITER_ONCE | TABLE_ITER_READAHEAD, &sources[n]);
		if (!err && w->range_set)
			err = skip_iter_new(sources[n], w->range_set, spill_run_seq(r), newest,
					    &sources[n]);
	}
	if (!err)
		return merge_iter_new(sources, count, out);
	while (n)
		iter_close(sources[--n]);
	return err;
}

/* The newest entry of each key. */
static int copy_newest(struct iter *it, struct spill_writer *out)
{
	struct kv_buf last = {0};
	struct entry e;
	int err;

	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		if (last.len && slice_equal(kv_buf_slice(&last), e.key))
			continue;
		err = buf_assign(&last, e.key);
		if (!err)
			err = spill_writer_add(out, e.key, e.kind, e.value);
		if (err)
			break;
	}
	kv_buf_free(&last);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int merge_runs(const struct writeset *w, size_t first, struct spill_run **out)
{
	struct spill_writer *writer = NULL;
	struct iter *it = NULL;
	int err;

	err = spill_writer_new(w->spill, spill_run_seq(w->runs[w->run_count - 1]), &writer);
	if (!err)
		err = open_runs(w, first, &it);
	if (!err)
		err = copy_newest(it, writer);
	iter_close(it);
	if (!err)
		return spill_writer_finish(writer, out);
	spill_writer_abandon(writer);
	return err;
}

/* Index of the first of the newest runs that should be one; run_count: none. */
static size_t find_tier(const struct writeset *w)
{
	kv_seq floor = w->savepoint_count ? w->savepoints[w->savepoint_count - 1].gen : 0;
	bool any_size = w->run_count > RUNS_MAX;
	uint64_t least = UINT64_MAX;
	uint64_t most = 0;

	for (size_t i = w->run_count; i-- > 0;) {
		uint64_t bytes = spill_run_bytes(w->runs[i]);

		least = min_u64(least, bytes);
		most = max_u64(most, bytes);
		if (spill_run_seq(w->runs[i]) < WRITESET_RANGE_SEQ(floor) ||
		    (most / TIER_GROWTH > least && !any_size))
			break;
		if (w->run_count - i == TIER)
			return i;
	}
	return w->run_count;
}

/*
 * Room is not worth an error: with more runs reading is slower, not wrong.
 */
static int merge_tier(struct writeset *w, bool *did)
{
	size_t first = find_tier(w);
	struct spill_run *run = NULL;
	int err;

	*did = false;
	if (first == w->run_count)
		return 0;
	err = merge_runs(w, first, &run);
	if (err)
		return err == -KV_E_NOSPACE ? 0 : err;
	spill_run_hold_refs(run);
	while (w->run_count > first)
		spill_run_unref(w->runs[--w->run_count]);
	w->runs[w->run_count++] = run;
	w->layout++;
	*did = true;
	return 0;
}

/* ---- interface ------------------------------------------------------------------------- */

static int write_all(const struct writeset *w, struct spill_run **runs, size_t *count)
{
	struct spill_run *run;
	size_t n = 0;
	int err = 0;

	for (size_t i = 0; !err && i <= w->savepoint_count; i++) {
		err = write_stretch(w, i, &run);
		if (!err && run)
			runs[n++] = run;
	}
	while (err && n) {
		spill_run_forget_refs(runs[--n]); /* they are still those of the memory */
		spill_run_unref(runs[n]);
	}
	*count = n;
	return err;
}

int writeset_spill(struct writeset *w)
{
	struct spill_run *fresh[SAVEPOINTS_MAX + 1];
	struct spill_run **runs;
	struct writemem *mem = NULL;
	size_t count = 0;
	bool more = true;
	int err;

	if (w->savepoint_count > SAVEPOINTS_MAX)
		return 0;
	runs = writeset_grown(w->runs, w->run_count, SAVEPOINTS_MAX + 1, &w->run_cap,
			      sizeof(struct spill_run *));
	if (!runs)
		return -ENOMEM;
	w->runs = runs;
	err = writeset_mem_new(&mem);
	if (!err)
		err = write_all(w, fresh, &count);
	if (err) {
		writeset_mem_unref(mem);
		return err;
	}
	for (size_t i = 0; i < count; i++)
		w->runs[w->run_count++] = fresh[i];
	w->bytes = 0;
	for (size_t i = 0; i < w->range_count; i++)
		w->bytes += w->ranges[i].from.len + w->ranges[i].to.len;
	w->points = 0;
	w->undo_count = 0;
	for (size_t i = 0; i < w->savepoint_count; i++)
		w->savepoints[i].undo_count = 0;
	writeset_mem_unref(w->mem);
	w->mem = mem;
	w->gen++;
	w->layout++;
	while (!err && more)
		err = merge_tier(w, &more);
	return err;
}
