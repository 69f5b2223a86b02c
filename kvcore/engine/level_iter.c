/* SPDX-License-Identifier: MIT */
/*
 * One level as one sequence. At most one table's iterator is open; it is kept
 * while movement stays in its table. A table may hold range deletes only, or
 * only range deletes in the part that was asked for, so "nothing here" always
 * means: try the neighbour.
 */
#include "kvcore/engine/level_iter.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

struct level_iter {
	struct iter base;
	struct table *const *tables;
	size_t count;
	unsigned flags;
	size_t index;	 /* of the open table */
	struct iter *at; /* of the open table; NULL: none is open */
	bool positioned;
};

static struct level_iter *level_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct level_iter, base);
}

static int open_table(struct level_iter *li, size_t index)
{
	if (li->at && li->index == index)
		return 0;
	iter_close(li->at);
	li->at = NULL;
	li->index = index;
	return table_iter_new(li->tables[index], li->flags, &li->at);
}

/* The first entry of the first table from @index on that has one. */
static int forward_from(struct level_iter *li, size_t index)
{
	int err = -KV_E_NOTFOUND;

	for (; index < li->count && err == -KV_E_NOTFOUND; index++) {
		err = open_table(li, index);
		if (!err)
			err = iter_first(li->at);
	}
	return err;
}

/* The last entry of the last table before @end that has one. */
static int backward_from(struct level_iter *li, size_t end)
{
	int err = -KV_E_NOTFOUND;

	while (end-- > 0 && err == -KV_E_NOTFOUND) {
		err = open_table(li, end);
		if (!err)
			err = iter_last(li->at);
	}
	return err;
}

static int finish(struct level_iter *li, int err)
{
	li->positioned = !err;
	return err;
}

static bool ends_before(const struct table_meta *meta, struct kv_slice ikey)
{
	int c = slice_compare(kv_buf_slice(&meta->largest), ikey);

	return c < 0 || (c == 0 && meta->largest_exclusive);
}

size_t level_find(struct table *const *tables, size_t count, struct kv_slice ikey)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (ends_before(table_get_meta(tables[mid]), ikey))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Number of tables that begin before @ikey. */
static size_t find_beginning(const struct level_iter *li, struct kv_slice ikey)
{
	size_t lo = 0, hi = li->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct table_meta *meta = table_get_meta(li->tables[mid]);

		if (slice_compare(kv_buf_slice(&meta->smallest), ikey) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int op_first(struct iter *it)
{
	struct level_iter *li = level_of(it);

	return finish(li, forward_from(li, 0));
}

static int op_last(struct iter *it)
{
	struct level_iter *li = level_of(it);

	return finish(li, backward_from(li, li->count));
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct level_iter *li = level_of(it);
	size_t index = level_find(li->tables, li->count, ikey);
	int err;

	if (index == li->count)
		return finish(li, -KV_E_NOTFOUND);
	err = open_table(li, index);
	if (!err)
		err = iter_seek(li->at, ikey);
	if (err == -KV_E_NOTFOUND)
		err = forward_from(li, index + 1);
	return finish(li, err);
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct level_iter *li = level_of(it);
	size_t end = find_beginning(li, ikey);
	int err;

	if (end == 0)
		return finish(li, -KV_E_NOTFOUND);
	err = open_table(li, end - 1);
	if (!err)
		err = iter_seek_before(li->at, ikey);
	if (err == -KV_E_NOTFOUND)
		err = backward_from(li, end - 1);
	return finish(li, err);
}

static int op_next(struct iter *it)
{
	struct level_iter *li = level_of(it);
	int err;

	KV_ASSERT(li->positioned);
	err = iter_next(li->at);
	if (err == -KV_E_NOTFOUND)
		err = forward_from(li, li->index + 1);
	return finish(li, err);
}

static int op_prev(struct iter *it)
{
	struct level_iter *li = level_of(it);
	int err;

	KV_ASSERT(li->positioned);
	err = iter_prev(li->at);
	if (err == -KV_E_NOTFOUND)
		err = backward_from(li, li->index);
	return finish(li, err);
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct level_iter *li = level_of(it);

	KV_ASSERT(li->positioned);
	iter_entry(li->at, out);
}

static void op_close(struct iter *it)
{
	struct level_iter *li = level_of(it);

	iter_close(li->at);
	free(li);
}

static const struct iter_ops level_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

int level_iter_new(struct table *const *tables, size_t count, unsigned flags, struct iter **out)
{
	struct level_iter *li = malloc(sizeof(*li));

	if (!li)
		return -ENOMEM;
	*li = (struct level_iter){
		.base.ops = &level_iter_ops, .tables = tables, .count = count, .flags = flags};
	*out = &li->base;
	return 0;
}
