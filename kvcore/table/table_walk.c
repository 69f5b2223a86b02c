/* SPDX-License-Identifier: MIT */
/*
 * Visiting every page of a table for verify and repair. Nothing goes through
 * the cache, and a damaged page costs its subtree only. Each page is held to the
 * bounds that its parent's separators give it, so whole leaves come in order.
 * This also ends the walk of a forged table: the bounds of two places are
 * disjoint or one is above the other, no page is empty, and children lie before
 * their parents, so no page is sound in two places.
 */
#include "kvcore/table/table.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/table/range_page.h"
#include "kvcore/table/table_read.h"

/* A place between entries: before (key, seq). */
struct bound {
	bool set;
	struct kv_slice key;
	kv_seq seq;
};

struct walker {
	struct table_source source;
	const struct table_walk *walk;
	struct table_span span;
};

static int visit(struct walker *w, const struct page_ref *ref, uint32_t height,
		 const struct bound *from, const struct bound *to);

/* Damage is for the page callback; anything else ends the walk. */
static bool is_damage(int err)
{
	return err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO;
}

/* Is (key, seq) before the bound? */
static bool before(struct kv_slice key, kv_seq seq, const struct bound *b)
{
	int order = slice_compare(key, b->key);

	return order < 0 || (order == 0 && seq > b->seq);
}

static int check_bounds(const struct page *p, const struct bound *from, const struct bound *to)
{
	uint8_t key[PAGE_KEY_ROOM];
	struct page_cell c;
	struct kv_slice k;

	page_get_cell(p, 0, &c);
	k = kv_slice_of(key, page_get_key(p, 0, &c, key));
	if (from->set && before(k, c.seq, from))
		return -KV_E_CORRUPT;
	page_get_cell(p, p->count - 1, &c);
	k = kv_slice_of(key, page_get_key(p, p->count - 1, &c, key));
	if (to->set && !before(k, c.seq, to))
		return -KV_E_CORRUPT;
	return 0;
}

static int visit_entries(struct walker *w, const struct page *p)
{
	uint8_t key[PAGE_KEY_ROOM];
	struct page_cell c;
	struct entry e;
	int err;

	for (uint32_t i = 0; i < p->count && w->walk->entry; i++) {
		page_get_cell(p, i, &c);
		e.key = kv_slice_of(key, page_get_key(p, i, &c, key));
		e.seq = c.seq;
		e.kind = (enum entry_kind)c.tag;
		e.value = c.payload;
		err = w->walk->entry(w->walk->ctx, &e);
		if (err)
			return err;
	}
	return 0;
}

/* The separator before child @i; the key is put into @room. */
static struct bound separator(const struct page *p, uint32_t i, uint8_t *room)
{
	struct page_cell c;

	page_get_cell(p, i, &c);
	return (struct bound){true, kv_slice_of(room, page_get_key(p, i, &c, room)), c.seq};
}

static int visit_children(struct walker *w, const struct page *p, uint32_t height,
			  const struct bound *from, const struct bound *to)
{
	uint8_t lower_key[PAGE_KEY_ROOM], upper_key[PAGE_KEY_ROOM];
	struct page_ref ref;
	int err;

	for (uint32_t i = 0; i < p->count; i++) {
		struct bound lower = *from, upper = *to;

		if (i > 0)
			lower = separator(p, i, lower_key);
		if (i + 1 < p->count)
			upper = separator(p, i + 1, upper_key);
		page_get_child(p, i, &ref);
		err = visit(w, &ref, height - 1, &lower, &upper);
		if (err)
			return err;
	}
	return 0;
}

static int report(struct walker *w, const struct page_ref *ref, int err, const struct bound *from,
		  const struct bound *to)
{
	uint8_t room[PAGE_KEY_ROOM];
	struct kv_slice to_key = to->key;

	if (!w->walk->page)
		return 0;
	/* Versions of the key that divides may be on this side too: then it is the
	 * key's successor that is the first not concerned. */
	if (to->set && to->seq != KV_SEQ_MAX) {
		for (size_t i = 0; i < to->key.len; i++)
			room[i] = to->key.data[i];
		room[to->key.len] = 0;
		to_key = kv_slice_of(room, to->key.len + 1);
	}
	return w->walk->page(w->walk->ctx, ref, err, from->key, to_key);
}

static int visit(struct walker *w, const struct page_ref *ref, uint32_t height,
		 const struct bound *from, const struct bound *to)
{
	uint8_t *raw = NULL;
	struct page p;
	int err, damage;

	err = table_read_page(&w->source, ref, height, &w->span, &raw);
	if (!err) {
		p = page_view(raw, ref->raw_len);
		err = check_bounds(&p, from, to);
	}
	if (err && !is_damage(err))
		goto out;
	damage = err;
	err = report(w, ref, damage, from, to);
	if (err || damage)
		goto out;
	if (height > 1)
		err = visit_children(w, &p, height, from, to);
	else
		err = visit_entries(w, &p);
out:
	free(raw);
	return err;
}

/* Pages beside the tree. */
static int visit_single(struct walker *w, const struct page_ref *ref, uint32_t height)
{
	static const struct bound none;
	struct range_set *ranges = NULL;
	uint8_t *raw = NULL;
	int err;

	if (ref->stored_len == 0)
		return 0;
	err = table_read_page(&w->source, ref, height, &w->span, &raw);
	if (!err && height == TABLE_HEIGHT_RANGES)
		err = range_page_decode(kv_slice_of(raw, ref->raw_len), &ranges);
	range_set_free(ranges);
	free(raw);
	if (err && !is_damage(err))
		return err;
	return report(w, ref, err, &none, &none);
}

int table_walk(const struct table_env *env, const struct table_meta *meta,
	       const struct table_walk *walk)
{
	static const struct bound none;
	struct walker w = {
		.source = {.env = env, .meta = meta, .bounds = false},
		.walk = walk,
	};
	int err;

	err = table_check_meta(meta);
	if (err)
		return err;
	err = visit_single(&w, &meta->filter, TABLE_HEIGHT_FILTER);
	if (!err)
		err = visit_single(&w, &meta->ranges, TABLE_HEIGHT_RANGES);
	if (!err && meta->height > 0)
		err = visit(&w, &meta->root, meta->height, &none, &none);
	table_span_fini(&w.span);
	return err;
}
