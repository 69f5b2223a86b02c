/* SPDX-License-Identifier: MIT */
/*
 * Write sets: life, changes, savepoints, point reads. Operations, keys and range bounds are
 * in an arena, so whatever a caller borrowed stays valid until the set is emptied or spilled;
 * iterators hold the memory they stand in. While a savepoint exists, a change of a key first
 * logs what it displaces; removal then only clears the key's slot in the tree, so that rolling
 * back allocates nothing for point operations and cannot fail half-way.
 *
 * Time in a set is counted in generations: a savepoint or a spill begins a new one. What is
 * displaced by a change since the newest savepoint can never be rolled back to: nothing is
 * logged, its ref is dropped at once.
 */
#include "kvcore/engine/writeset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/writeset_internal.h"

#define CHARGE_STEP (256U * 1024) /* memory is accounted for in pieces of this */

void *writeset_grown(void *array, size_t count, size_t more, size_t *cap, size_t size)
{
	size_t want = *cap ? *cap : 8;

	if (count + more <= *cap)
		return array;
	while (want < count + more)
		want *= 2;
	array = realloc(array, want * size);
	if (array)
		*cap = want;
	return array;
}

/* ---- life --------------------------------------------------------------- */

int writeset_mem_new(struct writemem **out)
{
	struct writemem *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->refs = 1;
	arena_init(&m->arena);
	btree_init(&m->tree);
	*out = m;
	return 0;
}

void writeset_mem_unref(struct writemem *m)
{
	if (!m || --m->refs)
		return;
	btree_fini(&m->tree);
	arena_fini(&m->arena);
	free(m);
}

int writeset_new(const struct writeset_hooks *hooks, struct writeset **out)
{
	struct writeset *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	err = range_set_new(&w->no_ranges);
	if (!err)
		err = writeset_mem_new(&w->mem);
	if (err) {
		range_set_free(w->no_ranges);
		free(w);
		return err;
	}
	arena_init(&w->bounds);
	if (hooks)
		w->hooks = *hooks;
	*out = w;
	return 0;
}

void writeset_spill_to(struct writeset *w, const struct spill_env *env, size_t bytes)
{
	w->spill = env;
	w->spill_bytes = bytes;
}

size_t writeset_memory(const struct writeset *w)
{
	return arena_bytes(&w->mem->arena) + w->mem->tree.bytes + w->undo_cap * sizeof(*w->undo);
}

/* Keep the budget informed; small sets are not worth it. */
static void charge(struct writeset *w, size_t bytes)
{
	struct cache *budget = w->spill ? w->spill->tables->cache : NULL;

	bytes -= bytes % CHARGE_STEP;
	if (!budget || bytes == w->charged)
		return;
	if (bytes > w->charged)
		cache_charge(budget, bytes - w->charged);
	else
		cache_uncharge(budget, w->charged - bytes);
	w->charged = bytes;
}

static void drop(struct writeset *w, const struct writeop *op)
{
	if (op && op->kind == ENTRY_PUT_REF && w->hooks.drop_ref)
		w->hooks.drop_ref(w->hooks.ctx, kv_slice_of(op->value, op->value_len));
}

/* The refs of everything; after a commit only of what was displaced, which the log knows nothing
 * of. */
static void drop_all(struct writeset *w)
{
	if (!w->hooks.drop_ref)
		return;
	for (size_t i = 0; i < w->undo_count; i++)
		drop(w, w->undo[i].displaced);
	if (w->refs_forgotten)
		return;
	for (struct btree_pos p = btree_first(&w->mem->tree); btree_valid(p); p = btree_next(p))
		drop(w, btree_value(p));
}

/* All but the memory of operations. */
static void release(struct writeset *w)
{
	drop_all(w);
	while (w->run_count)
		spill_run_unref(w->runs[--w->run_count]);
	range_set_free(w->range_set);
	w->range_set = NULL;
	arena_fini(&w->bounds);
	kv_buf_free(&w->value);
	charge(w, 0);
}

void writeset_free(struct writeset *w)
{
	if (!w)
		return;
	release(w);
	writeset_mem_unref(w->mem);
	range_set_free(w->no_ranges);
	free(w->ranges);
	free(w->undo);
	free(w->savepoints);
	free(w->runs);
	free(w);
}

void writeset_forget_refs(struct writeset *w)
{
	w->refs_forgotten = true;
}

void writeset_clear(struct writeset *w)
{
	KV_ASSERT(w->mem->refs == 1); /* no iterator is left */
	release(w);
	btree_fini(&w->mem->tree);
	btree_init(&w->mem->tree);
	arena_fini(&w->mem->arena);
	w->points = 0;
	w->bytes = 0;
	w->refs_forgotten = false;
	w->range_count = 0;
	w->undo_count = 0;
	w->savepoint_count = 0;
	w->last_savepoint = 0;
	w->gen = 0;
	w->layout++;
}

/* ---- changes ------------------------------------------------------------ */

/* Must displacing @op (NULL: nothing) from its key be logged? */
static bool must_log(const struct writeset *w, const struct writeop *op)
{
	return w->savepoint_count && (!op || op->gen < w->savepoints[w->savepoint_count - 1].gen);
}

static int undo_reserve(struct writeset *w, size_t more)
{
	struct undo *undo;

	if (!w->savepoint_count || !more)
		return 0;
	undo = writeset_grown(w->undo, w->undo_count, more, &w->undo_cap, sizeof(*undo));

	if (!undo)
		return -ENOMEM;
	w->undo = undo;
	return 0;
}

static void count_op(struct writeset *w, const struct writeop *op)
{
	if (!op)
		return;
	w->points++;
	w->bytes += op->key_len + op->value_len;
}

static void uncount_op(struct writeset *w, const struct writeop *op)
{
	if (!op)
		return;
	w->points--;
	w->bytes -= op->key_len + op->value_len;
}

/* Put @op (NULL: none) into a key's slot. Room in the undo log was reserved. */
static void replace(struct writeset *w, struct kv_slice tree_key, void **slot, struct writeop *op)
{
	struct writeop *old = *slot;

	if (must_log(w, old))
		w->undo[w->undo_count++] = (struct undo){tree_key, old};
	else
		drop(w, old);
	uncount_op(w, old);
	count_op(w, op);
	*slot = op;
}

/* The key's slot in the tree, made if need be, and the tree's copy of the key. */
static int slot_of(struct writeset *w, struct kv_slice ikey, void ***slot,
		   struct kv_slice *tree_key)
{
	uint8_t *copy;
	bool inserted;

	*slot = btree_find(&w->mem->tree, ikey);
	if (*slot) {
		if (w->savepoint_count) /* only the undo log wants it */
			*tree_key = btree_key(btree_find_pos(&w->mem->tree, ikey));
		return 0;
	}
	copy = arena_copy(&w->mem->arena, ikey);
	if (!copy)
		return -ENOMEM;
	*tree_key = kv_slice_of(copy, ikey.len);
	return btree_insert(&w->mem->tree, *tree_key, slot, &inserted);
}

/* Spill what does not fit the memory that the set may take. */
static int make_room(struct writeset *w)
{
	int err;

	if (!w->spill || writeset_memory(w) < w->spill_bytes)
		return 0;
	err = writeset_spill(w);
	charge(w, writeset_memory(w));
	return err;
}

int writeset_put(struct writeset *w, struct kv_slice ikey, enum entry_kind kind,
		 struct kv_slice value)
{
	struct kv_slice tree_key = {NULL, 0};
	struct writeop *op;
	void **slot;
	int err;

	KV_ASSERT(kind != ENTRY_RANGE_DELETE);
	err = make_room(w);
	if (!err)
		err = undo_reserve(w, 1);
	if (err)
		return err;
	op = arena_alloc(&w->mem->arena, sizeof(*op) + value.len);
	if (!op)
		return -ENOMEM;
	op->gen = w->gen;
	op->kind = kind;
	op->key_len = ikey.len;
	op->value_len = value.len;
	if (value.len)
		memcpy(op->value, value.data, value.len);
	err = slot_of(w, ikey, &slot, &tree_key);
	if (err)
		return err;
	replace(w, tree_key, slot, op);
	if (w->spill)
		charge(w, writeset_memory(w));
	return 0;
}

/* Remove the operations on keys in [from, to). Room in the undo log was reserved. */
static void remove_points(struct writeset *w, struct interval range)
{
	struct btree_pos p = btree_seek(&w->mem->tree, range.from);

	while (btree_valid(p) && slice_compare(btree_key(p), range.to) < 0) {
		struct kv_slice key = btree_key(p);

		if (btree_value(p))
			replace(w, key, btree_find(&w->mem->tree, key), NULL);
		if (w->savepoint_count) {
			p = btree_next(p);
		} else {
			(void)btree_remove(&w->mem->tree, key, NULL);
			p = btree_seek(&w->mem->tree, range.from);
		}
	}
}

/* As a set; NULL for none. */
static int ranges_build(const struct interval *ranges, size_t count, struct range_set **out)
{
	struct range_set *set = NULL;
	int err;

	if (!count) {
		*out = NULL;
		return 0;
	}
	err = range_set_new(&set);
	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		err = range_set_add(set, ranges[i].from, ranges[i].to,
				    WRITESET_RANGE_SEQ(ranges[i].gen));
		if (err) {
			range_set_free(set);
			return err;
		}
	}
	*out = set;
	return 0;
}

static int ranges_add(struct writeset *w, struct interval range)
{
	struct interval *ranges;
	int err;

	ranges = writeset_grown(w->ranges, w->range_count, 1, &w->range_cap, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	w->ranges = ranges;
	if (w->range_set)
		err = range_set_add(w->range_set, range.from, range.to,
				    WRITESET_RANGE_SEQ(range.gen));
	else
		err = ranges_build(&range, 1, &w->range_set);
	if (err)
		return err;
	w->layout += !w->range_count; /* iterators did without the set so far */
	ranges[w->range_count++] = range;
	w->bytes += range.from.len + range.to.len;
	return 0;
}

int writeset_delete_range(struct writeset *w, struct kv_slice from, struct kv_slice to)
{
	struct interval range;
	uint8_t *from_copy, *to_copy;
	size_t displaced = 0;
	int err;

	if (slice_compare(from, to) >= 0)
		return 0;
	for (struct btree_pos p = btree_seek(&w->mem->tree, from);
	     w->savepoint_count && btree_valid(p) && slice_compare(btree_key(p), to) < 0;
	     p = btree_next(p))
		displaced++;
	err = undo_reserve(w, displaced);
	if (err)
		return err;
	from_copy = arena_copy(&w->bounds, from);
	to_copy = arena_copy(&w->bounds, to);
	if (!from_copy || !to_copy)
		return -ENOMEM;
	range = (struct interval){kv_slice_of(from_copy, from.len), kv_slice_of(to_copy, to.len),
				  w->gen};
	err = ranges_add(w, range);
	if (err)
		return err;
	remove_points(w, range);
	return 0;
}

/* ---- savepoints --------------------------------------------------------- */

int writeset_savepoint(struct writeset *w, unsigned *out)
{
	struct savepoint *list = writeset_grown(w->savepoints, w->savepoint_count, 1,
						&w->savepoint_cap, sizeof(*list));

	if (!list)
		return -ENOMEM;
	w->savepoints = list;
	list[w->savepoint_count++] = (struct savepoint){
		.number = ++w->last_savepoint,
		.gen = ++w->gen,
		.undo_count = w->undo_count,
		.range_count = w->range_count,
	};
	*out = w->last_savepoint;
	return 0;
}

/* Index + 1 of a savepoint; 0: there is none of that number. */
static size_t find_savepoint(const struct writeset *w, unsigned savepoint)
{
	size_t n = w->savepoint_count;

	while (n && w->savepoints[n - 1].number != savepoint)
		n--;
	return n;
}

/*
 * What was displaced after the savepoint stays in the log if one before may bring it back, that is
 * if it is from before that one.
 */
int writeset_release(struct writeset *w, unsigned savepoint)
{
	size_t n = find_savepoint(w, savepoint), kept;
	uint64_t floor;

	if (!n)
		return -KV_E_INVALID;
	kept = w->savepoints[n - 1].undo_count;
	w->savepoint_count = n - 1;
	floor = w->savepoint_count ? w->savepoints[n - 2].gen : 0;
	for (size_t i = kept; i < w->undo_count; i++) {
		struct undo *u = &w->undo[i];

		if (w->savepoint_count && (!u->displaced || u->displaced->gen < floor))
			w->undo[kept++] = *u;
		else
			drop(w, u->displaced);
	}
	w->undo_count = kept;
	return 0;
}

int writeset_rollback_to(struct writeset *w, unsigned savepoint)
{
	size_t keep = find_savepoint(w, savepoint);
	struct range_set *set;
	struct savepoint sp;
	int err;

	if (!keep)
		return -KV_E_INVALID;
	sp = w->savepoints[keep - 1];
	if (sp.range_count != w->range_count) {
		err = ranges_build(w->ranges, sp.range_count, &set);
		if (err)
			return err;
		range_set_free(w->range_set);
		w->range_set = set;
		w->layout++;
	}
	while (w->run_count &&
	       spill_run_seq(w->runs[w->run_count - 1]) > WRITESET_RANGE_SEQ(sp.gen)) {
		spill_run_unref(w->runs[--w->run_count]);
		w->layout++;
	}
	while (w->range_count > sp.range_count) {
		const struct interval *range = &w->ranges[--w->range_count];

		w->bytes -= range->from.len + range->to.len;
	}
	while (w->undo_count > sp.undo_count) {
		const struct undo *u = &w->undo[--w->undo_count];
		void **slot = btree_find(&w->mem->tree, u->key);

		drop(w, *slot);
		uncount_op(w, *slot);
		count_op(w, u->displaced);
		*slot = u->displaced;
	}
	w->savepoint_count = keep;
	return 0;
}

/* ---- reading ------------------------------------------------------------ */

/* In the runs, where nothing older than @covering counts. */
static int get_spilled(struct writeset *w, struct kv_slice ikey, kv_seq covering,
		       enum entry_kind *kind, struct kv_slice *value)
{
	uint64_t hash = hash_bytes(ikey, 0);

	for (size_t i = w->run_count; i-- > 0 && spill_run_seq(w->runs[i]) > covering;) {
		int err = spill_run_get(w->runs[i], ikey, hash, kind, &w->value);

		if (err == -KV_E_NOTFOUND)
			continue;
		if (!err)
			*value = kv_buf_slice(&w->value);
		return err;
	}
	return -KV_E_NOTFOUND;
}

int writeset_get(struct writeset *w, struct kv_slice ikey, enum entry_kind *kind,
		 struct kv_slice *value)
{
	void **slot = btree_find(&w->mem->tree, ikey);
	kv_seq covering = 0;
	int err;

	if (slot && *slot) {
		const struct writeop *op = *slot;

		*kind = op->kind;
		*value = kv_slice_of(op->value, op->value_len);
		return 0;
	}
	if (w->range_set)
		covering = range_set_covering(w->range_set, ikey, KV_SEQ_MAX);
	err = w->run_count ? get_spilled(w, ikey, covering, kind, value) : -KV_E_NOTFOUND;
	if (err != -KV_E_NOTFOUND || !covering)
		return err;
	*kind = ENTRY_DELETE;
	*value = kv_slice_of(NULL, 0);
	return 0;
}

bool writeset_empty(const struct writeset *w)
{
	return writeset_ops(w) == 0 && !w->run_count;
}

size_t writeset_ops(const struct writeset *w)
{
	return w->points + w->range_count;
}

bool writeset_spilled(const struct writeset *w)
{
	return w->run_count > 0;
}

size_t writeset_bytes(const struct writeset *w)
{
	return w->bytes;
}

const struct range_set *writeset_ranges(const struct writeset *w)
{
	return w->range_set ? w->range_set : w->no_ranges;
}

/* The points of a set that was spilled. */
static int each_merged(struct writeset *w, writeset_op_fn op, void *ctx)
{
	struct iter *it = NULL;
	struct entry e;
	int err = writeset_iter_new(w, true, &it);

	if (err)
		return err;
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		err = op(ctx, e.kind, e.key, e.value);
		if (err)
			break;
	}
	iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int writeset_each(struct writeset *w, writeset_op_fn op, void *ctx)
{
	int err;

	for (size_t i = 0; i < w->range_count; i++) {
		err = op(ctx, ENTRY_RANGE_DELETE, w->ranges[i].from, w->ranges[i].to);
		if (err)
			return err;
	}
	if (w->run_count)
		return each_merged(w, op, ctx);
	for (struct btree_pos p = btree_first(&w->mem->tree); btree_valid(p); p = btree_next(p)) {
		const struct writeop *wop = btree_value(p);

		if (!wop)
			continue;
		err = op(ctx, wop->kind, btree_key(p), kv_slice_of(wop->value, wop->value_len));
		if (err)
			return err;
	}
	return 0;
}
