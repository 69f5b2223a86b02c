/* SPDX-License-Identifier: MIT */
/*
 * Iterating over a table: a stack of pages from the root to a leaf, each with the
 * index of the child or cell where the iterator is. Pages of the path stay in
 * use until the path leaves them, so steps within a leaf touch nothing shared.
 *
 * A table whose checksums were forged may hold any pages in any place. Each
 * crossing from one leaf to another is therefore checked to go the right way: a
 * scan of any bytes ends, and what it yields is in order.
 *
 *   seek ---> descend --> settle ---> positioned <--- next, prev
 *   first, last ---^         `--> cross --^   `--> cross --^
 */
#include "kvcore/table/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/table/table_read.h"

#define AHEAD_MIN (128U * 1024) /* of reading ahead, bytes */
#define AHEAD_MAX (1024U * 1024)
#define AHEAD_RUN 2U  /* leaves crossed forward before reading ahead pays */
#define KEY_SHORT 96U /* bytes of a key for which an iterator has room of its own */

struct step {
	struct table_page page;
	uint32_t i; /* child or cell */
};

struct table_iter {
	struct iter base;
	struct table *t;
	unsigned flags;
	bool positioned;
	unsigned run; /* leaves crossed forward since the last other move, up to AHEAD_RUN */
	size_t ahead; /* bytes to read next */
	struct table_span span;
	struct page_cell cell; /* of the present entry */
	size_t key_len;
	size_t key_room;
	uint8_t *key; /* short, or key_room bytes of heap */
	/* The leaf whose prefix the key begins with, if any: steps within it leave that alone. */
	const uint8_t *prefix_of;
	uint8_t short_key[KEY_SHORT];
	struct step path[]; /* from the root; a leaf is at meta.height - 1 */
};

/* Which end of a page to enter, or where to look. */
enum aim { AIM_FIRST, AIM_LAST, AIM_KEY };

static struct table_iter *iter_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct table_iter, base);
}

static struct step *leaf_of(struct table_iter *it)
{
	return &it->path[it->t->meta.height - 1];
}

static struct kv_slice key_of(const struct table_iter *it)
{
	return kv_slice_of(it->key, it->key_len);
}

/* Room for any key. */
static int grow_key(struct table_iter *it)
{
	uint8_t *key = malloc(PAGE_KEY_ROOM);

	if (!key)
		return -ENOMEM;
	memcpy(key, it->key, it->key_len);
	it->key = key;
	it->key_room = PAGE_KEY_ROOM;
	return 0;
}

/* Positioned on the leaf's present cell. Return: 0, -ENOMEM (not positioned). */
static int settle(struct table_iter *it)
{
	const struct step *leaf = leaf_of(it);
	const struct page *p = &leaf->page.view;
	int err;

	page_get_cell(p, leaf->i, &it->cell);
	if (p->prefix_len + PAGE_HEAD_LEN + it->cell.rest.len > it->key_room) {
		it->positioned = false;
		err = grow_key(it);
		if (err)
			return err;
	}
	if (it->prefix_of != p->data) {
		memcpy(it->key, p->prefix, p->prefix_len);
		it->prefix_of = p->data;
	}
	it->key_len =
		p->prefix_len + page_get_suffix(p, leaf->i, &it->cell, it->key + p->prefix_len);
	it->positioned = true;
	return 0;
}

/* ---- pages ------------------------------------------------------------------- */

/*
 * Leaves lie in key order, so what follows one on the disk is what a scan wants
 * next. If the long read fails, the page alone may still be readable.
 */
static void read_ahead(struct table_iter *it, const struct page_ref *ref)
{
	uint64_t left = it->t->meta.stored_bytes - ref->off;
	size_t len = (size_t)max_u64(ref->stored_len, min_u64(it->ahead, left));
	int err;

	err = table_read_span(&it->t->source, ref->off, len, &it->span);
	it->ahead = err ? AHEAD_MIN : (size_t)min_u64(2 * it->ahead, AHEAD_MAX);
}

static int use_page(struct table_iter *it, const struct page_ref *ref, uint32_t height,
		    struct table_page *out)
{
	bool once = it->flags & TABLE_ITER_ONCE;
	int err;

	if (height == 1 && it->run >= AHEAD_RUN && (it->flags & TABLE_ITER_READAHEAD) &&
	    !table_span_holds(&it->span, ref->off, ref->stored_len)) {
		err = table_use_cached_page(it->t, ref, height, once, out);
		if (err != -KV_E_NOTFOUND)
			return err;
		if (ref->off < it->t->meta.stored_bytes)
			read_ahead(it, ref);
	}
	return table_use_page(it->t, ref, height, once, &it->span, out);
}

/* Put the page on the path, unless it is there. */
static int enter(struct table_iter *it, uint32_t depth, const struct page_ref *ref)
{
	struct step *step = &it->path[depth];

	if (step->page.data && step->page.off == ref->off && step->page.view.len == ref->raw_len)
		return 0;
	table_drop_page(it->t, &step->page);
	it->prefix_of = NULL; /* another page may come to lie at the same address */
	return use_page(it, ref, it->t->meta.height - depth, &step->page);
}

static void take_aim(struct table_iter *it, uint32_t depth, enum aim aim, struct kv_slice ikey)
{
	struct step *step = &it->path[depth];

	if (aim == AIM_FIRST)
		step->i = 0;
	else if (aim == AIM_LAST)
		step->i = step->page.view.count - 1;
	else if (depth + 1 < it->t->meta.height)
		step->i = page_find_child(&step->page.view, ikey, KV_SEQ_MAX);
	else
		step->i = page_lower_bound(&step->page.view, ikey, KV_SEQ_MAX);
}

/* From the page at @depth, whose index is set, down to a leaf. */
static int descend(struct table_iter *it, uint32_t depth, enum aim aim, struct kv_slice ikey)
{
	struct page_ref ref;
	int err;

	for (; depth + 1 < it->t->meta.height; depth++) {
		page_get_child(&it->path[depth].page.view, it->path[depth].i, &ref);
		err = enter(it, depth + 1, &ref);
		if (err)
			return err;
		take_aim(it, depth + 1, aim, ikey);
	}
	return 0;
}

/* From the root to a leaf. */
static int descend_from_root(struct table_iter *it, enum aim aim, struct kv_slice ikey)
{
	int err;

	it->positioned = false;
	if (it->t->meta.height == 0)
		return -KV_E_NOTFOUND;
	err = enter(it, 0, &it->t->meta.root);
	if (err)
		return err;
	take_aim(it, 0, aim, ikey);
	return descend(it, 0, aim, ikey);
}

/* To the first cell of the next leaf or the last of the one before. */
static int cross(struct table_iter *it, bool forward)
{
	uint32_t depth = it->t->meta.height - 1;

	it->positioned = false;
	do {
		if (depth == 0)
			return -KV_E_NOTFOUND;
		depth--;
	} while (forward ? it->path[depth].i + 1 == it->path[depth].page.view.count
			 : it->path[depth].i == 0);
	it->path[depth].i = forward ? it->path[depth].i + 1 : it->path[depth].i - 1;
	if (!forward)
		it->run = 0;
	else if (it->run < AHEAD_RUN && ++it->run == AHEAD_RUN)
		it->ahead = AHEAD_MIN;
	return descend(it, depth, forward ? AIM_FIRST : AIM_LAST, (struct kv_slice){0});
}

static int damaged(struct table_iter *it)
{
	struct table_page *leaf = &leaf_of(it)->page;
	struct page_ref ref = {.off = leaf->off, .raw_len = (uint32_t)leaf->view.len};

	it->positioned = false;
	table_report(it->t, &ref, -KV_E_CORRUPT);
	return -KV_E_CORRUPT;
}

/* Cross from a present entry, and see that the new one is on the other side of it. */
static int cross_in_order(struct table_iter *it, bool forward)
{
	uint8_t key[PAGE_KEY_ROOM];
	struct entry before, now;
	int err, order;

	memcpy(key, it->key, it->key_len);
	before = (struct entry){.key = kv_slice_of(key, it->key_len), .seq = it->cell.seq};
	err = cross(it, forward);
	if (err)
		return err;
	err = settle(it);
	if (err)
		return err;
	now = (struct entry){.key = key_of(it), .seq = it->cell.seq};
	order = entry_compare(&before, &now);
	return forward == (order < 0) && order != 0 ? 0 : damaged(it);
}

/* ---- movement ---------------------------------------------------------------- */

static int move_first(struct iter *base)
{
	struct table_iter *it = iter_of(base);
	int err;

	/* Who reads a table from its first entry without the cache wants all of it. */
	it->run = it->flags & TABLE_ITER_ONCE ? AHEAD_RUN : 0;
	it->ahead = AHEAD_MIN;
	err = descend_from_root(it, AIM_FIRST, (struct kv_slice){0});
	return err ? err : settle(it);
}

static int move_last(struct iter *base)
{
	struct table_iter *it = iter_of(base);
	int err;

	it->run = 0;
	err = descend_from_root(it, AIM_LAST, (struct kv_slice){0});
	return err ? err : settle(it);
}

static int move_seek(struct iter *base, struct kv_slice ikey)
{
	struct table_iter *it = iter_of(base);
	int err;

	it->run = 0;
	it->ahead = AHEAD_MIN;
	err = descend_from_root(it, AIM_KEY, ikey);
	if (err)
		return err;
	if (leaf_of(it)->i == leaf_of(it)->page.view.count) {
		err = cross(it, true);
		if (err)
			return err;
	}
	page_prefetch_cells(&leaf_of(it)->page.view, leaf_of(it)->i);
	err = settle(it);
	if (err)
		return err;
	return slice_compare(key_of(it), ikey) >= 0 ? 0 : damaged(it);
}

static int move_seek_before(struct iter *base, struct kv_slice ikey)
{
	struct table_iter *it = iter_of(base);
	int err;

	it->run = 0;
	err = descend_from_root(it, AIM_KEY, ikey);
	if (err)
		return err;
	if (leaf_of(it)->i == 0) {
		err = cross(it, false);
		if (err)
			return err;
	} else {
		leaf_of(it)->i--;
	}
	err = settle(it);
	if (err)
		return err;
	return slice_compare(key_of(it), ikey) < 0 ? 0 : damaged(it);
}

static int move_next(struct iter *base)
{
	struct table_iter *it = iter_of(base);
	struct step *leaf = leaf_of(it);

	KV_ASSERT(it->positioned);
	if (leaf->i + 1 == leaf->page.view.count)
		return cross_in_order(it, true);
	leaf->i++;
	return settle(it);
}

static int move_prev(struct iter *base)
{
	struct table_iter *it = iter_of(base);
	struct step *leaf = leaf_of(it);

	KV_ASSERT(it->positioned);
	if (leaf->i == 0)
		return cross_in_order(it, false);
	leaf->i--;
	return settle(it);
}

static void get_entry(struct iter *base, struct entry *out)
{
	struct table_iter *it = iter_of(base);

	KV_ASSERT(it->positioned);
	out->key = key_of(it);
	out->seq = it->cell.seq;
	out->kind = (enum entry_kind)it->cell.tag;
	out->value = it->cell.payload;
}

static void iter_free(struct iter *base)
{
	struct table_iter *it = iter_of(base);

	for (uint32_t depth = 0; depth < it->t->meta.height; depth++)
		table_drop_page(it->t, &it->path[depth].page);
	table_span_fini(&it->span);
	if (it->key != it->short_key)
		free(it->key);
	free(it);
}

static const struct iter_ops table_iter_ops = {
	.first = move_first,
	.last = move_last,
	.seek = move_seek,
	.seek_before = move_seek_before,
	.next = move_next,
	.prev = move_prev,
	.entry = get_entry,
	.close = iter_free,
};

int table_iter_new(struct table *t, unsigned flags, struct iter **out)
{
	/* Small, so that malloc() has it at hand: a seek opens one of these for each level. */
	struct table_iter *it = malloc(sizeof(*it) + t->meta.height * sizeof(it->path[0]));

	if (!it)
		return -ENOMEM;
	it->base.ops = &table_iter_ops;
	it->t = t;
	it->flags = flags;
	it->positioned = false;
	it->run = 0;
	it->ahead = AHEAD_MIN;
	it->span = (struct table_span){0};
	it->key_len = 0;
	it->key_room = KEY_SHORT;
	it->key = it->short_key;
	it->prefix_of = NULL;
	for (uint32_t depth = 0; depth < t->meta.height; depth++)
		it->path[depth] = (struct step){0};
	*out = &it->base;
	return 0;
}
