/* SPDX-License-Identifier: MIT */
/*
 * Write sets. Operations, keys and range bounds are in an arena, so whatever an
 * iterator or a caller borrowed stays valid until the set is emptied. While a savepoint
 * exists, a change of a key first logs what it displaces; removal then only
 * clears the key's slot in the tree, so that rolling back allocates nothing for
 * point operations and cannot fail half-way.
 *
 * Each operation remembers the newest savepoint at its time (its era). What is
 * displaced within the same era was already replaced once since that savepoint,
 * so it can never be rolled back to: nothing is logged, its ref is dropped at once.
 */
#include "kvcore/engine/writeset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"
#include "kvcore/base/btree.h"

#define POINT_SEQ KV_SEQ_MAX
#define RANGE_SEQ (KV_SEQ_MAX - 1)

struct writeop {
	unsigned era;
	enum entry_kind kind;
	size_t key_len;
	size_t value_len;
	uint8_t value[];
};

struct undo {
	struct kv_slice key;	   /* the tree's */
	struct writeop *displaced; /* NULL: there was no operation */
};

struct interval {
	struct kv_slice from, to;
};

struct savepoint {
	unsigned number;
	size_t undo_count;
	size_t range_count;
};

struct writeset {
	struct writeset_hooks hooks;
	struct arena arena;
	struct btree tree; /* ikey -> struct writeop, NULL: none (any more) */
	size_t points;	   /* operations in the tree */
	size_t bytes;	   /* of keys and values */
	bool refs_forgotten;
	struct interval *ranges; /* in the order of their making */
	size_t range_count, range_cap;
	struct range_set *range_set; /* the same; NULL: there are none */
	struct range_set *no_ranges; /* always empty */
	struct undo *undo;
	size_t undo_count, undo_cap;
	struct savepoint *savepoints; /* numbers rising */
	size_t savepoint_count, savepoint_cap;
	unsigned last_savepoint; /* highest number ever given out */
};

/* Room for @more elements of @size after @count; NULL when out of memory. */
static void *grown(void *array, size_t count, size_t more, size_t *cap, size_t size)
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

int writeset_new(const struct writeset_hooks *hooks, struct writeset **out)
{
	struct writeset *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	err = range_set_new(&w->no_ranges);
	if (err) {
		free(w);
		return err;
	}
	if (hooks)
		w->hooks = *hooks;
	arena_init(&w->arena);
	btree_init(&w->tree);
	*out = w;
	return 0;
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
	for (struct btree_pos p = btree_first(&w->tree); btree_valid(p); p = btree_next(p))
		drop(w, btree_value(p));
}

static void release(struct writeset *w)
{
	drop_all(w);
	btree_fini(&w->tree);
	arena_fini(&w->arena);
	range_set_free(w->range_set);
	w->range_set = NULL;
}

void writeset_free(struct writeset *w)
{
	if (!w)
		return;
	release(w);
	range_set_free(w->no_ranges);
	free(w->ranges);
	free(w->undo);
	free(w->savepoints);
	free(w);
}

void writeset_forget_refs(struct writeset *w)
{
	w->refs_forgotten = true;
}

void writeset_clear(struct writeset *w)
{
	release(w);
	w->points = 0;
	w->bytes = 0;
	w->refs_forgotten = false;
	w->range_count = 0;
	w->undo_count = 0;
	w->savepoint_count = 0;
	w->last_savepoint = 0;
}

/* ---- changes ------------------------------------------------------------ */

static unsigned era_now(const struct writeset *w)
{
	return w->savepoint_count ? w->savepoints[w->savepoint_count - 1].number : 0;
}

/* Must displacing @op (NULL: nothing) from its key be logged? */
static bool must_log(const struct writeset *w, const struct writeop *op)
{
	return w->savepoint_count && (!op || op->era != era_now(w));
}

static int undo_reserve(struct writeset *w, size_t more)
{
	struct undo *undo;

	if (!w->savepoint_count || !more)
		return 0;
	undo = grown(w->undo, w->undo_count, more, &w->undo_cap, sizeof(*undo));

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

	*slot = btree_find(&w->tree, ikey);
	if (*slot) {
		if (w->savepoint_count) /* only the undo log wants it */
			*tree_key = btree_key(btree_find_pos(&w->tree, ikey));
		return 0;
	}
	copy = arena_copy(&w->arena, ikey);
	if (!copy)
		return -ENOMEM;
	*tree_key = kv_slice_of(copy, ikey.len);
	return btree_insert(&w->tree, *tree_key, slot, &inserted);
}

int writeset_put(struct writeset *w, struct kv_slice ikey, enum entry_kind kind,
		 struct kv_slice value)
{
	struct kv_slice tree_key = {NULL, 0};
	struct writeop *op;
	void **slot;
	int err;

	KV_ASSERT(kind != ENTRY_RANGE_DELETE);
	err = undo_reserve(w, 1);
	if (err)
		return err;
	op = arena_alloc(&w->arena, sizeof(*op) + value.len);
	if (!op)
		return -ENOMEM;
	op->era = era_now(w);
	op->kind = kind;
	op->key_len = ikey.len;
	op->value_len = value.len;
	if (value.len)
		memcpy(op->value, value.data, value.len);
	err = slot_of(w, ikey, &slot, &tree_key);
	if (err)
		return err;
	replace(w, tree_key, slot, op);
	return 0;
}

/* Remove the operations on keys in [from, to). Room in the undo log was reserved. */
static void remove_points(struct writeset *w, struct interval range)
{
	struct btree_pos p = btree_seek(&w->tree, range.from);

	while (btree_valid(p) && slice_compare(btree_key(p), range.to) < 0) {
		struct kv_slice key = btree_key(p);

		if (btree_value(p))
			replace(w, key, btree_find(&w->tree, key), NULL);
		if (w->savepoint_count) {
			p = btree_next(p);
		} else {
			(void)btree_remove(&w->tree, key, NULL);
			p = btree_seek(&w->tree, range.from);
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
		err = range_set_add(set, ranges[i].from, ranges[i].to, RANGE_SEQ);
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

	ranges = grown(w->ranges, w->range_count, 1, &w->range_cap, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	w->ranges = ranges;
	if (w->range_set)
		err = range_set_add(w->range_set, range.from, range.to, RANGE_SEQ);
	else
		err = ranges_build(&range, 1, &w->range_set);
	if (err)
		return err;
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
	for (struct btree_pos p = btree_seek(&w->tree, from);
	     w->savepoint_count && btree_valid(p) && slice_compare(btree_key(p), to) < 0;
	     p = btree_next(p))
		displaced++;
	err = undo_reserve(w, displaced);
	if (err)
		return err;
	from_copy = arena_copy(&w->arena, from);
	to_copy = arena_copy(&w->arena, to);
	if (!from_copy || !to_copy)
		return -ENOMEM;
	range = (struct interval){kv_slice_of(from_copy, from.len), kv_slice_of(to_copy, to.len)};
	err = ranges_add(w, range);
	if (err)
		return err;
	remove_points(w, range);
	return 0;
}

/* ---- savepoints --------------------------------------------------------- */

int writeset_savepoint(struct writeset *w, unsigned *out)
{
	struct savepoint *list =
		grown(w->savepoints, w->savepoint_count, 1, &w->savepoint_cap, sizeof(*list));

	if (!list)
		return -ENOMEM;
	w->savepoints = list;
	list[w->savepoint_count++] =
		(struct savepoint){++w->last_savepoint, w->undo_count, w->range_count};
	*out = w->last_savepoint;
	return 0;
}

int writeset_rollback_to(struct writeset *w, unsigned savepoint)
{
	size_t keep = w->savepoint_count;
	struct range_set *set;
	struct savepoint sp;
	int err;

	while (keep && w->savepoints[keep - 1].number != savepoint)
		keep--;
	if (!keep)
		return -KV_E_INVALID;
	sp = w->savepoints[keep - 1];
	if (sp.range_count != w->range_count) {
		err = ranges_build(w->ranges, sp.range_count, &set);
		if (err)
			return err;
		range_set_free(w->range_set);
		w->range_set = set;
	}
	while (w->range_count > sp.range_count) {
		const struct interval *range = &w->ranges[--w->range_count];

		w->bytes -= range->from.len + range->to.len;
	}
	while (w->undo_count > sp.undo_count) {
		const struct undo *u = &w->undo[--w->undo_count];
		void **slot = btree_find(&w->tree, u->key);

		drop(w, *slot);
		uncount_op(w, *slot);
		count_op(w, u->displaced);
		*slot = u->displaced;
	}
	w->savepoint_count = keep;
	return 0;
}

/* ---- reading ------------------------------------------------------------ */

int writeset_get(const struct writeset *w, struct kv_slice ikey, enum entry_kind *kind,
		 struct kv_slice *value)
{
	void **slot = btree_find(&w->tree, ikey);

	if (slot && *slot) {
		const struct writeop *op = *slot;

		*kind = op->kind;
		*value = kv_slice_of(op->value, op->value_len);
		return 0;
	}
	if (!w->range_set || !range_set_covering(w->range_set, ikey, RANGE_SEQ))
		return -KV_E_NOTFOUND;
	*kind = ENTRY_DELETE;
	*value = kv_slice_of(NULL, 0);
	return 0;
}

bool writeset_empty(const struct writeset *w)
{
	return writeset_ops(w) == 0;
}

size_t writeset_ops(const struct writeset *w)
{
	return w->points + w->range_count;
}

size_t writeset_bytes(const struct writeset *w)
{
	return w->bytes;
}

const struct range_set *writeset_ranges(const struct writeset *w)
{
	return w->range_set ? w->range_set : w->no_ranges;
}

int writeset_each(const struct writeset *w,
		  int (*op)(void *ctx, enum entry_kind kind, struct kv_slice key,
			    struct kv_slice value),
		  void *ctx)
{
	int err;

	for (size_t i = 0; i < w->range_count; i++) {
		err = op(ctx, ENTRY_RANGE_DELETE, w->ranges[i].from, w->ranges[i].to);
		if (err)
			return err;
	}
	for (struct btree_pos p = btree_first(&w->tree); btree_valid(p); p = btree_next(p)) {
		const struct writeop *wop = btree_value(p);

		if (!wop)
			continue;
		err = op(ctx, wop->kind, btree_key(p), kv_slice_of(wop->value, wop->value_len));
		if (err)
			return err;
	}
	return 0;
}

/* ---- iterator ----------------------------------------------------------- */

struct writeset_iter {
	struct iter base;
	struct writeset *w;
	struct kv_slice key;	  /* in the arena */
	const struct writeop *at; /* NULL: not positioned */
	struct btree_pos pos;	  /* of key, as long as the tree has not changed */
	uint64_t changes;
};

static struct writeset_iter *iter_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct writeset_iter, base);
}

/* Stand on the first key from @p on, in the direction, that has an operation. */
static int stand(struct writeset_iter *wi, struct btree_pos p, bool forward)
{
	while (btree_valid(p) && !btree_value(p))
		p = forward ? btree_next(p) : btree_prev(p);
	wi->at = NULL;
	if (!btree_valid(p))
		return -KV_E_NOTFOUND;
	wi->pos = p;
	wi->changes = wi->w->tree.changes;
	wi->key = btree_key(p);
	wi->at = btree_value(p);
	return 0;
}

static int op_first(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);

	return stand(wi, btree_first(&wi->w->tree), true);
}

static int op_last(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);

	return stand(wi, btree_last(&wi->w->tree), false);
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct writeset_iter *wi = iter_of(it);

	return stand(wi, btree_seek(&wi->w->tree, ikey), true);
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct writeset_iter *wi = iter_of(it);

	return stand(wi, btree_seek_before(&wi->w->tree, ikey), false);
}

static int op_next(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);
	struct btree_pos p;

	KV_ASSERT(wi->at);
	if (wi->changes == wi->w->tree.changes)
		return stand(wi, btree_next(wi->pos), true);
	p = btree_seek(&wi->w->tree, wi->key);
	if (btree_valid(p) && slice_equal(btree_key(p), wi->key)) /* it may have been removed */
		p = btree_next(p);
	return stand(wi, p, true);
}

static int op_prev(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);

	KV_ASSERT(wi->at);
	if (wi->changes == wi->w->tree.changes)
		return stand(wi, btree_prev(wi->pos), false);
	return stand(wi, btree_seek_before(&wi->w->tree, wi->key), false);
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct writeset_iter *wi = iter_of(it);

	KV_ASSERT(wi->at);
	out->key = wi->key;
	out->seq = POINT_SEQ;
	out->kind = wi->at->kind;
	out->value = kv_slice_of(wi->at->value, wi->at->value_len);
}

static void op_close(struct iter *it)
{
	free(iter_of(it));
}

static const struct iter_ops writeset_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

int writeset_iter_new(struct writeset *w, struct iter **out)
{
	struct writeset_iter *wi = calloc(1, sizeof(*wi));

	if (!wi)
		return -ENOMEM;
	wi->base.ops = &writeset_iter_ops;
	wi->w = w;
	*out = &wi->base;
	return 0;
}
