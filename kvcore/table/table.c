/* SPDX-License-Identifier: MIT */
/*
 * Reading tables: opening, point lookup, range deletes. A lookup follows one
 * path from the root, pinning a page at a time. Versions of one key may go on
 * over a page's end; the separator there carries a seq, so that the path to the one
 * leaf that can hold the wanted version is still unique, except that this
 * version may be the first of the next leaf: then the lookup runs once more, for it.
 */
#include "kvcore/table/table.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/table/filter.h"
#include "kvcore/table/range_page.h"
#include "kvcore/table/table_read.h"

int table_open(const struct table_env *env, const struct table_meta *meta, struct table **out)
{
	struct table *t;
	int err;

	err = table_check_meta(meta);
	if (err)
		return err;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	err = table_meta_copy(meta, &t->meta);
	if (err) {
		free(t);
		return err;
	}
	t->source = (struct table_source){.env = env, .meta = &t->meta, .bounds = true};
	atomic_init(&t->ranges, NULL);
	atomic_init(&t->filter_lost, false);
	atomic_init(&t->filter, NULL);
	atomic_init(&t->root, NULL);
	*out = t;
	return 0;
}

static void let_go(struct cache *cache, struct cache_page *_Atomic *at)
{
	struct cache_page *held = atomic_load_explicit(at, memory_order_acquire);

	if (held)
		cache_let_go(cache, held);
}

void table_close(struct table *t, bool dropped)
{
	struct cache *cache = t->source.env->cache;
	struct range_set *ranges = atomic_load_explicit(&t->ranges, memory_order_acquire);

	if (ranges) {
		cache_uncharge(cache, range_set_bytes(ranges));
		range_set_free(ranges);
	}
	let_go(cache, &t->filter);
	let_go(cache, &t->root);
	if (dropped)
		cache_drop_owner(cache, t->meta.id);
	table_meta_fini(&t->meta);
	free(t);
}

const struct table_meta *table_get_meta(const struct table *t)
{
	return &t->meta;
}

bool table_covers(const struct table *t, struct kv_slice ikey)
{
	int order;

	if (slice_compare(ikey, kv_buf_slice(&t->meta.smallest)) < 0)
		return false;
	order = slice_compare(ikey, kv_buf_slice(&t->meta.largest));
	return order < 0 || (order == 0 && !t->meta.largest_exclusive);
}

/* ---- filter ---------------------------------------------------------------- */

/* Leaves @page empty if there is no filter. Return: 0 or why it cannot be read. */
static int use_filter(struct table *t, struct table_span *span, struct table_page *page)
{
	if (t->meta.filter.stored_len == 0)
		return 0;
	return table_use_page(t, &t->meta.filter, TABLE_HEIGHT_FILTER, false, span, page);
}

int table_filter_admits(struct table *t, struct kv_slice ikey, bool *out)
{
	struct table_page page = {0};
	struct table_span span = {0};
	int err = use_filter(t, &span, &page);

	*out = !page.data || filter_admits_key(page.data, ikey);
	table_drop_page(t, &page);
	table_span_fini(&span);
	return err;
}

static void count(struct table *t, enum os_stat i)
{
	if (t->source.env->stats)
		os_stats_add(t->source.env->stats, i, 1);
}

static bool admits(const struct table *t, const uint8_t *data, bool prefix, uint64_t hash)
{
	return (prefix && !filter_has_rules(data, t->source.env->prefixes)) ||
	       filter_admits(data, hash);
}

/* A lost filter costs reads, not answers: it is reported once and then done without. */
static bool admits_loaded(struct table *t, bool prefix, uint64_t hash)
{
	struct table_page page = {0};
	struct table_span span = {0};
	int err = use_filter(t, &span, &page);
	bool yes = !page.data || admits(t, page.data, prefix, hash);

	table_drop_page(t, &page);
	table_span_fini(&span);
	if (err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO)
		atomic_store_explicit(&t->filter_lost, true, memory_order_relaxed);
	return yes;
}

/* @prefix: @hash is of a prefix and not of a key */
static bool may_contain(struct table *t, bool prefix, uint64_t hash)
{
	struct cache_page *held = atomic_load_explicit(&t->filter, memory_order_acquire);
	bool yes;

	if (!held && (!t->meta.filter.stored_len ||
		      atomic_load_explicit(&t->filter_lost, memory_order_relaxed)))
		return true;
	count(t, OS_STAT_filter_checks);
	yes = held ? admits(t, held->data, prefix, hash) : admits_loaded(t, prefix, hash);
	if (!yes)
		count(t, OS_STAT_filter_useful);
	return yes;
}

bool table_admits_prefix(struct table *t, uint64_t hash)
{
	return may_contain(t, true, hash);
}

/* ---- get ------------------------------------------------------------------- */

/* Where a lookup is. */
struct lookup {
	struct table *t;
	struct table_span span;
	struct kv_slice ikey;
	kv_seq max_seq;
	bool at_end;  /* every entry of the leaf is before (ikey, max_seq) */
	bool goes_on; /* the next leaf begins with a version of ikey: */
	kv_seq next_seq;
	kv_seq seq; /* what was found */
	enum entry_kind kind;
};

/* Does the separator behind child @i continue the key? A deeper answer replaces a higher one. */
static void look_ahead(const struct page *p, uint32_t i, struct lookup *l)
{
	struct page_cell c;

	if (i + 1 == p->count)
		return;
	page_get_cell(p, i + 1, &c);
	l->goes_on = (c.tag & PAGE_SEP_HAS_SEQ) && page_key_equals(p, i + 1, &c, l->ikey);
	l->next_seq = c.seq;
}

/* To the leaf responsible for (ikey, max_seq). */
static int find_leaf(struct lookup *l, bool ahead, struct page_ref *leaf)
{
	struct page_ref ref = l->t->meta.root;
	struct table_page page = {0};
	uint32_t i;
	int err;

	for (uint32_t height = l->t->meta.height; height > 1; height--) {
		err = table_glance_at_page(l->t, &ref, height, &l->span, &page);
		if (err)
			return err;
		i = page_find_child(&page.view, l->ikey, l->max_seq);
		page_get_child(&page.view, i, &ref);
		if (ahead)
			look_ahead(&page.view, i, l);
		table_drop_page(l->t, &page);
	}
	*leaf = ref;
	return 0;
}

static int look_in_leaf(const struct page *p, struct lookup *l, struct kv_buf *value)
{
	uint32_t i = page_lower_bound(p, l->ikey, l->max_seq);
	struct page_cell c;
	int err;

	l->at_end = i == p->count;
	if (l->at_end)
		return -KV_E_NOTFOUND;
	page_get_cell(p, i, &c);
	if (!page_key_equals(p, i, &c, l->ikey))
		return -KV_E_NOTFOUND;
	err = buf_assign(value, c.payload);
	if (err)
		return err;
	l->seq = c.seq;
	l->kind = (enum entry_kind)c.tag;
	return 0;
}

static int look_once(struct lookup *l, struct kv_buf *value)
{
	struct table_page page = {0};
	struct page_ref ref;
	int err;

	err = find_leaf(l, false, &ref);
	if (err)
		return err;
	err = table_glance_at_page(l->t, &ref, 1, &l->span, &page);
	if (err)
		return err;
	err = look_in_leaf(&page.view, l, value);
	table_drop_page(l->t, &page);
	return err;
}

/* The leaf held nothing behind (ikey, max_seq): is the next version the next leaf's first? */
static int look_further(struct lookup *l, struct kv_buf *value)
{
	struct page_ref ref;
	int err;

	err = find_leaf(l, true, &ref);
	if (err)
		return err;
	if (!l->goes_on || l->next_seq >= l->max_seq)
		return -KV_E_NOTFOUND;
	l->max_seq = l->next_seq;
	return look_once(l, value);
}

int table_get(struct table *t, struct kv_slice ikey, uint64_t hash, kv_seq max_seq, kv_seq *seq,
	      enum entry_kind *kind, struct kv_buf *value)
{
	struct lookup l = {.t = t, .ikey = ikey, .max_seq = max_seq};
	int err;

	if (t->meta.height == 0)
		return -KV_E_NOTFOUND;
	if (!may_contain(t, false, hash))
		return -KV_E_NOTFOUND;
	err = look_once(&l, value);
	if (err == -KV_E_NOTFOUND && l.at_end)
		err = look_further(&l, value);
	table_span_fini(&l.span);
	if (err == -KV_E_NOTFOUND && t->meta.filter.stored_len)
		count(t, OS_STAT_filter_false_positives);
	if (err)
		return err;
	*seq = l.seq;
	*kind = l.kind;
	return 0;
}

/* ---- range deletes ----------------------------------------------------------- */

static int load_ranges(struct table *t, struct range_set **out)
{
	struct table_span span = {0};
	uint8_t *raw = NULL;
	int err;

	err = table_read_page(&t->source, &t->meta.ranges, TABLE_HEIGHT_RANGES, &span, &raw);
	if (!err)
		err = range_page_decode(kv_slice_of(raw, t->meta.ranges.raw_len), out);
	if (err)
		table_report(t, &t->meta.ranges, err);
	free(raw);
	table_span_fini(&span);
	return err;
}

int table_ranges(struct table *t, const struct range_set **out)
{
	struct range_set *ranges = atomic_load_explicit(&t->ranges, memory_order_acquire);
	struct range_set *loaded = NULL;
	int err;

	if (ranges || t->meta.ranges.stored_len == 0) {
		*out = ranges;
		return 0;
	}
	err = load_ranges(t, &loaded);
	if (err)
		return err;
	if (atomic_compare_exchange_strong_explicit(&t->ranges, &ranges, loaded,
						    memory_order_acq_rel, memory_order_acquire)) {
		cache_charge(t->source.env->cache, range_set_bytes(loaded));
		ranges = loaded;
	} else {
		range_set_free(loaded);
	}
	*out = ranges;
	return 0;
}
