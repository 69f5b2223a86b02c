/* SPDX-License-Identifier: MIT */
/*
 * Pages of tables from the disk. A page is found through its reference only,
 * which gives its place, its length and its checksum, so the bytes are trusted
 * after one hash and one walk over their structure. Extents are whole blocks,
 * so alignment within a table is alignment on the volume, and a page that
 * straddles extents is gathered by reading both parts behind each other.
 */
#include "kvcore/table/table_read.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/base/prefault.h"
#include "kvcore/table/filter.h"

#define PREFETCH_LINE  64U
#define PREFETCH_SHARE 16U

/* ---- bytes ----------------------------------------------------------------- */

void table_span_fini(struct table_span *span)
{
	free(span->buf);
	*span = (struct table_span){0};
}

static int span_reserve(struct table_span *span, size_t len)
{
	uint8_t *buf;

	if (len <= span->cap)
		return 0;
	buf = aligned_alloc(OS_IO_ALIGN, len);
	if (!buf)
		return -ENOMEM;
	prefault(buf, len);
	table_span_fini(span);
	span->buf = buf;
	span->cap = len;
	return 0;
}

/* All aligned. */
static int read_extents(const struct table_source *src, uint64_t off, uint8_t *buf, size_t len)
{
	const struct table_meta *meta = src->meta;
	uint64_t before = 0; /* bytes of the extents passed */
	int err;

	for (uint32_t i = 0; i < meta->extent_count && len > 0; i++) {
		const struct extent *e = &meta->extents[i];
		uint64_t skip = off - before, n;

		if (skip < e->len) {
			n = min_u64(e->len - skip, len);
			err = os_volume_read(src->env->volume, e->off + skip, buf, (size_t)n,
					     OS_IO_DIRECT);
			if (err)
				return err;
			buf += n;
			off += n;
			len -= (size_t)n;
		}
		before += e->len;
	}
	return len > 0 ? -KV_E_CORRUPT : 0;
}

bool table_span_holds(const struct table_span *span, uint64_t off, size_t len)
{
	return off >= span->off && off - span->off <= span->len &&
	       len <= span->len - (off - span->off);
}

int table_read_span(const struct table_source *src, uint64_t off, size_t len,
		    struct table_span *span)
{
	uint64_t from = align_down_u64(off, OS_IO_ALIGN), to;
	int err;

	if (table_span_holds(span, off, len))
		return 0;
	if (off > src->meta->stored_bytes || len > src->meta->stored_bytes - off)
		return -KV_E_CORRUPT;
	to = align_up_u64(off + len, OS_IO_ALIGN);
	err = span_reserve(span, (size_t)(to - from));
	if (err)
		return err;
	span->len = 0;
	err = read_extents(src, from, span->buf, (size_t)(to - from));
	if (err)
		return err;
	span->off = from;
	span->len = (size_t)(to - from);
	return 0;
}

/* ---- pages ----------------------------------------------------------------- */

static uint32_t raw_max(uint32_t height)
{
	return height == TABLE_HEIGHT_FILTER || height == TABLE_HEIGHT_RANGES ? FILTER_RAW_MAX
									      : PAGE_RAW_MAX;
}

static enum page_type type_of(uint32_t height)
{
	switch (height) {
	case TABLE_HEIGHT_FILTER:
		return PAGE_FILTER;
	case TABLE_HEIGHT_RANGES:
		return PAGE_RANGES;
	default:
		return height == 1 ? PAGE_LEAF : PAGE_INNER;
	}
}

static int check_ref(const struct table_meta *meta, const struct page_ref *ref, uint32_t height)
{
	if (ref->stored_len == 0 || ref->stored_len > ref->raw_len ||
	    ref->raw_len > raw_max(height))
		return -KV_E_CORRUPT;
	if (ref->off > meta->stored_bytes || ref->stored_len > meta->stored_bytes - ref->off)
		return -KV_E_CORRUPT;
	return 0;
}

int table_check_meta(const struct table_meta *meta)
{
	uint64_t left = meta->stored_bytes;
	int err;

	if (meta->height > TABLE_HEIGHT_MAX || meta->extent_count > TABLE_EXTENTS_MAX)
		return -KV_E_CORRUPT;
	for (uint32_t i = 0; i < meta->extent_count; i++) {
		const struct extent *e = &meta->extents[i];

		if (e->off % OS_IO_ALIGN != 0 || e->len % OS_IO_ALIGN != 0 || e->len == 0 ||
		    e->len > UINT64_MAX - e->off)
			return -KV_E_CORRUPT;
		left -= min_u64(left, e->len);
	}
	if (left > 0)
		return -KV_E_CORRUPT;
	if (meta->height > 0) {
		err = check_ref(meta, &meta->root, meta->height);
		if (err)
			return err;
	}
	if (meta->filter.stored_len > 0) {
		err = check_ref(meta, &meta->filter, TABLE_HEIGHT_FILTER);
		if (err)
			return err;
	}
	if (meta->ranges.stored_len > 0)
		return check_ref(meta, &meta->ranges, TABLE_HEIGHT_RANGES);
	return 0;
}

static int validate(const struct table_source *src, const struct page_ref *ref, uint32_t height,
		    const uint8_t *raw)
{
	struct page_limits limits = {
		.type = type_of(height),
		.children_end = ref->off,
		.bounds = src->bounds ? src->meta : NULL,
	};

	switch (limits.type) {
	case PAGE_FILTER:
		return filter_validate(raw, ref->raw_len);
	case PAGE_RANGES:
		return raw[0] == PAGE_RANGES ? 0 : -KV_E_CORRUPT;
	default:
		return page_validate(raw, ref->raw_len, &limits);
	}
}

uint8_t *table_raw_alloc(size_t len, uint32_t height)
{
	/* Blocks of a filter are cache lines. */
	uint8_t *raw =
		height == TABLE_HEIGHT_FILTER
			? aligned_alloc(FILTER_BLOCK, (size_t)align_up_u64(len, FILTER_BLOCK))
			: malloc(len);

	if (raw)
		prefault(raw, len);
	return raw;
}

int table_read_page(const struct table_source *src, const struct page_ref *ref, uint32_t height,
		    struct table_span *span, uint8_t **out)
{
	struct kv_slice stored;
	uint8_t *raw = NULL;
	int err;

	err = check_ref(src->meta, ref, height);
	if (err)
		return err;
	err = table_read_span(src, ref->off, ref->stored_len, span);
	if (err)
		return err;
	stored = kv_slice_of(span->buf + (ref->off - span->off), ref->stored_len);
	err = checksum_verify(src->env->checksum, stored, ref->sum);
	if (err)
		return err;
	raw = table_raw_alloc(ref->raw_len, height);
	if (!raw)
		return -ENOMEM;
	err = decompress_page(src->env->compress, stored, raw, ref->raw_len);
	if (err)
		goto out;
	err = validate(src, ref, height, raw);
	if (err)
		goto out;
	*out = raw;
	raw = NULL;
out:
	free(raw);
	return err;
}

/* ---- through the cache ------------------------------------------------------- */

static enum cache_priority priority(uint32_t height, bool once)
{
	if (once)
		return CACHE_ONCE;
	return height == 1 ? CACHE_NORMAL : CACHE_HIGH;
}

static void set_page(struct table_page *out, const struct page_ref *ref, uint32_t height,
		     const uint8_t *data)
{
	out->data = data;
	out->off = ref->off;
	if (height != TABLE_HEIGHT_FILTER)
		out->view = page_view(data, ref->raw_len);
}

/*
 * A page came into the cache through some reference to its place. Another one that does
 * not mean the same is damage (only a forged table has such).
 */
static bool same_page(const struct cache_page *cached, const struct page_ref *ref, uint32_t height)
{
	return cached->len == ref->raw_len && cached->data[0] == type_of(height);
}

/*
 * Where a search in a leaf will look: the header in front, heads and slots behind the cells. Each
 * of their lines is a miss of its own in a cache that is larger than the processor's; asked for
 * together they come together. The arrays of entries of some hundred bytes are a sixteenth of the
 * page.
 */
static void prefetch_leaf(const uint8_t *data, size_t len)
{
	__builtin_prefetch(data);
	for (size_t off = len - len / PREFETCH_SHARE; off < len; off += PREFETCH_LINE)
		__builtin_prefetch(data + off);
}

int table_use_cached_page(struct table *t, const struct page_ref *ref, uint32_t height, bool once,
			  struct table_page *out)
{
	struct cache *cache = t->source.env->cache;
	struct cache_key key = {t->meta.id, ref->off};
	struct cache_page *cached = cache_lookup(cache, key, priority(height, once));

	if (!cached)
		return -KV_E_NOTFOUND;
	if (height == 1)
		prefetch_leaf(cached->data, cached->len);
	if (!same_page(cached, ref, height)) {
		cache_unpin(cache, cached);
		table_report(t, ref, -KV_E_CORRUPT);
		return -KV_E_CORRUPT;
	}
	out->cached = cached;
	set_page(out, ref, height, cached->data);
	return 0;
}

/* Does the table hold a page of this height: its root, its filter? */
static bool may_hold(const struct table *t, uint32_t height)
{
	return height == TABLE_HEIGHT_FILTER || height == t->meta.height;
}

/* Let the table hold a page in use at @at, its place, if it does not yet. */
static void hold(struct cache *cache, struct cache_page *_Atomic *at, const struct page_ref *ref,
		 uint32_t height, struct table_page *page)
{
	struct cache_page *none = NULL;

	if (!cache_hold(cache, page->cached))
		return;
	if (atomic_compare_exchange_strong_explicit(at, &none, page->cached, memory_order_acq_rel,
						    memory_order_acquire)) {
		page->cached = NULL;
		return;
	}
	/* Another thread was first, with another copy of the page. */
	cache_let_go(cache, page->cached);
	page->cached = NULL;
	set_page(page, ref, height, none->data);
}

static int use_page(struct table *t, const struct page_ref *ref, uint32_t height, bool once,
		    struct table_span *span, struct table_page *out)
{
	struct cache *cache = t->source.env->cache;
	struct cache_key key = {t->meta.id, ref->off};
	struct cache_page *cached;
	uint8_t *raw;
	int err;

	err = table_use_cached_page(t, ref, height, once, out);
	if (err != -KV_E_NOTFOUND)
		return err;
	err = table_read_page(&t->source, ref, height, span, &raw);
	if (err) {
		table_report(t, ref, err);
		return err;
	}
	if (once) {
		out->own = raw;
		set_page(out, ref, height, raw);
		return 0;
	}
	err = cache_insert(cache, key, raw, ref->raw_len, priority(height, once), &cached);
	if (err)
		return err;
	/* Another thread's page may have been there first. */
	if (!same_page(cached, ref, height)) {
		cache_unpin(cache, cached);
		table_report(t, ref, -KV_E_CORRUPT);
		return -KV_E_CORRUPT;
	}
	out->cached = cached;
	set_page(out, ref, height, cached->data);
	return 0;
}

int table_use_page(struct table *t, const struct page_ref *ref, uint32_t height, bool once,
		   struct table_span *span, struct table_page *out)
{
	struct cache_page *_Atomic *at = height == TABLE_HEIGHT_FILTER ? &t->filter : &t->root;
	struct cache_page *held = NULL;
	int err;

	if (may_hold(t, height))
		held = atomic_load_explicit(at, memory_order_acquire);
	if (held) {
		set_page(out, ref, height, held->data);
		return 0;
	}
	err = use_page(t, ref, height, once, span, out);
	if (!err && may_hold(t, height) && out->cached && !once)
		hold(t->source.env->cache, at, ref, height, out);
	return err;
}

int table_glance_at_page(struct table *t, const struct page_ref *ref, uint32_t height,
			 struct table_span *span, struct table_page *out)
{
	struct cache_key key = {t->meta.id, ref->off};
	const struct cache_page *seen;

	if (may_hold(t, height))
		return table_use_page(t, ref, height, false, span, out);
	seen = cache_glance(t->source.env->cache, key, &out->glance);
	if (!seen)
		return table_use_page(t, ref, height, false, span, out);
	if (height == 1)
		prefetch_leaf(seen->data, seen->len);
	if (!same_page(seen, ref, height)) {
		table_drop_page(t, out);
		table_report(t, ref, -KV_E_CORRUPT);
		return -KV_E_CORRUPT;
	}
	set_page(out, ref, height, seen->data);
	return 0;
}

void table_drop_page(struct table *t, struct table_page *page)
{
	if (page->glance)
		cache_glance_end(page->glance);
	if (page->cached)
		cache_unpin(t->source.env->cache, page->cached);
	free(page->own);
	*page = (struct table_page){0};
}

void table_report(const struct table *t, const struct page_ref *ref, int err)
{
	const struct table_env *env = t->source.env;

	if (err != -KV_E_CHECKSUM && err != -KV_E_CORRUPT && err != -EIO)
		return;
	logmsg(env->log, KV_LOG_ERROR, "table: damaged page table=%llu off=%llu len=%u: %s",
	       (unsigned long long)t->meta.id, (unsigned long long)ref->off, ref->stored_len,
	       kv_strerror(err));
	if (env->damage)
		env->damage(env->damage_ctx, t->meta.id, ref, err);
}
