/* SPDX-License-Identifier: MIT */
/*
 * The merging iterator: a binary heap of the positioned sources, ordered by what
 * comes next in the present direction (Knuth, The Art of Computer Programming,
 * volume 3, section 5.4.1). Each source's entry is kept with it, so a comparison
 * calls no source. When the direction turns, all other sources are positioned
 * anew on the far side of the current entry.
 *
 * The total order is (ikey ascending, seq descending, index of the source).
 */
#include "kvcore/engine/merge_iter.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

struct source {
	struct iter *it;
	struct entry at; /* valid while in the heap */
	size_t index;
};

struct merge_iter {
	struct iter base;
	size_t count;
	size_t heap_len; /* 0: not positioned */
	bool reverse;
	struct source **heap; /* the current entry's source is the first; behind the sources */
	struct source sources[];
};

static struct merge_iter *merge_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct merge_iter, base);
}

/* ---- order and heap ----------------------------------------------------- */

static int source_compare(const struct source *a, const struct source *b)
{
	int c = entry_compare(&a->at, &b->at);

	if (c == 0)
		c = a->index < b->index ? -1 : a->index > b->index;
	return c;
}

static bool comes_before(const struct merge_iter *mi, const struct source *a,
			 const struct source *b)
{
	int c = source_compare(a, b);

	return mi->reverse ? c > 0 : c < 0;
}

static void sift_down(struct merge_iter *mi, size_t i)
{
	struct source *moving = mi->heap[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= mi->heap_len)
			break;
		if (child + 1 < mi->heap_len &&
		    comes_before(mi, mi->heap[child + 1], mi->heap[child]))
			child++;
		if (!comes_before(mi, mi->heap[child], moving))
			break;
		mi->heap[i] = mi->heap[child];
		i = child;
	}
	mi->heap[i] = moving;
}

static int heap_build(struct merge_iter *mi)
{
	for (size_t i = mi->heap_len / 2; i-- > 0;)
		sift_down(mi, i);
	return mi->heap_len ? 0 : -KV_E_NOTFOUND;
}

/*
 * Take the result of moving a source: put it into the heap's array if it stands
 * on an entry. Returns 0 or the error.
 */
static int source_add(struct merge_iter *mi, struct source *s, int moved)
{
	if (moved == -KV_E_NOTFOUND)
		return 0;
	if (moved)
		return moved;
	iter_entry(s->it, &s->at);
	mi->heap[mi->heap_len++] = s;
	return 0;
}

/* ---- positioning from nothing ------------------------------------------- */

static int position_all(struct merge_iter *mi, bool reverse, struct kv_slice ikey,
			int (*move)(struct iter *it, struct kv_slice ikey))
{
	mi->heap_len = 0;
	mi->reverse = reverse;
	for (size_t i = 0; i < mi->count; i++) {
		struct source *s = &mi->sources[i];
		int err = source_add(mi, s, move(s->it, ikey));

		if (err) {
			mi->heap_len = 0;
			return err;
		}
	}
	return heap_build(mi);
}

static int move_first(struct iter *it, struct kv_slice ikey)
{
	(void)ikey;
	return iter_first(it);
}

static int move_last(struct iter *it, struct kv_slice ikey)
{
	(void)ikey;
	return iter_last(it);
}

static int op_first(struct iter *it)
{
	return position_all(merge_of(it), false, kv_slice_of(NULL, 0), move_first);
}

static int op_last(struct iter *it)
{
	return position_all(merge_of(it), true, kv_slice_of(NULL, 0), move_last);
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	return position_all(merge_of(it), false, ikey, iter_seek);
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	return position_all(merge_of(it), true, ikey, iter_seek_before);
}

/* ---- stepping ----------------------------------------------------------- */

/* Position @s on its first entry after @current in the total order. */
static int source_after(struct source *s, const struct source *current)
{
	int err = iter_seek(s->it, current->at.key);

	while (!err) {
		iter_entry(s->it, &s->at);
		if (source_compare(s, current) > 0)
			break;
		err = iter_next(s->it);
	}
	return err;
}

/* Position @s on its last entry before @current in the total order. */
static int source_before(struct source *s, const struct source *current)
{
	int err = source_after(s, current);

	if (err == -KV_E_NOTFOUND)
		return iter_last(s->it);
	return err ? err : iter_prev(s->it);
}

/*
 * All sources but the current one onto the far side of the current entry, and
 * the current one a step on. Its entry stays valid until it moves, last.
 */
static int turn(struct merge_iter *mi, bool reverse)
{
	struct source *current = mi->heap[0];
	int err;

	mi->heap_len = 0;
	mi->reverse = reverse;
	for (size_t i = 0; i < mi->count; i++) {
		struct source *s = &mi->sources[i];

		if (s == current)
			continue;
		err = reverse ? source_before(s, current) : source_after(s, current);
		err = source_add(mi, s, err);
		if (err)
			goto out;
	}
	err = reverse ? iter_prev(current->it) : iter_next(current->it);
	err = source_add(mi, current, err);
	if (err)
		goto out;
	return heap_build(mi);
out:
	mi->heap_len = 0;
	return err;
}

static int step(struct merge_iter *mi, bool reverse)
{
	struct source *current;
	int err;

	KV_ASSERT(mi->heap_len);
	if (mi->reverse != reverse)
		return turn(mi, reverse);
	current = mi->heap[0];
	err = reverse ? iter_prev(current->it) : iter_next(current->it);
	if (!err) {
		iter_entry(current->it, &current->at);
		if (mi->heap_len > 1) /* else it is alone */
			sift_down(mi, 0);
		return 0;
	}
	if (err != -KV_E_NOTFOUND) {
		mi->heap_len = 0;
		return err;
	}
	mi->heap[0] = mi->heap[--mi->heap_len];
	if (!mi->heap_len)
		return -KV_E_NOTFOUND;
	sift_down(mi, 0);
	return 0;
}

static int op_next(struct iter *it)
{
	return step(merge_of(it), false);
}

static int op_prev(struct iter *it)
{
	return step(merge_of(it), true);
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct merge_iter *mi = merge_of(it);

	KV_ASSERT(mi->heap_len);
	*out = mi->heap[0]->at;
}

/* ---- life --------------------------------------------------------------- */

static void op_close(struct iter *it)
{
	struct merge_iter *mi = merge_of(it);

	for (size_t i = 0; i < mi->count; i++)
		iter_close(mi->sources[i].it);
	free(mi);
}

static const struct iter_ops merge_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

int merge_iter_new(struct iter **sources, size_t count, struct iter **out)
{
	struct merge_iter *mi;

	if (count == 1) { /* nothing to merge */
		*out = sources[0];
		return 0;
	}
	mi = malloc(sizeof(*mi) + count * (sizeof(mi->sources[0]) + sizeof(mi->heap[0])));
	if (!mi) {
		for (size_t i = 0; i < count; i++)
			iter_close(sources[i]);
		return -ENOMEM;
	}
	mi->base.ops = &merge_iter_ops;
	mi->count = count;
	mi->heap_len = 0;
	mi->reverse = false;
	mi->heap = (struct source **)(void *)&mi->sources[count];
	for (size_t i = 0; i < count; i++) {
		mi->sources[i].it = sources[i];
		mi->sources[i].index = i;
	}
	*out = &mi->base;
	return 0;
}
