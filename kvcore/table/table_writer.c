/* SPDX-License-Identifier: MIT */
/*
 * Extents are asked for in small steps, so that a small table on a nearly full
 * volume takes what it needs; the more there are, the larger the steps, so that
 * TABLE_EXTENTS_MAX is no limit but where free space is in crumbs: then it is
 * -KV_E_NOSPACE, and a smaller table may still fit.
 */
#include "kvcore/table/table_writer.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/table/table_read.h"

#define EXTENT_STEP	(1024U * 1024) /* first steps, bytes */
#define EXTENT_TIGHT	(128U * 1024)  /* the same where room is short */
#define STEPS_TO_DOUBLE 6U	       /* extents after which the step doubles */

int table_writer_init(struct table_writer *w)
{
	return writeback_new(w->env->volume, w->env->cache, &w->writeback);
}

void table_writer_fini(struct table_writer *w)
{
	writeback_free(w->writeback);
	w->writeback = NULL;
	kv_buf_free(&w->compressed);
}

/* What a small table does not need of its extent is missed by the values that a compaction moves
 * meanwhile on a volume that is nearly full. */
static uint64_t first_step(const struct table_writer *w)
{
	return space_has_room(w->env->space, EXTENT_STEP) ? EXTENT_STEP : EXTENT_TIGHT;
}

static int next_extent(struct table_writer *w)
{
	uint64_t want = first_step(w) << w->extent_count / STEPS_TO_DOUBLE;
	struct extent *last = w->extent_count > 0 ? &w->extents[w->extent_count - 1] : NULL;
	struct extent e;
	int err;

	err = space_alloc(w->env->space, w->class, want, FORMAT_BLOCK, &e);
	if (err)
		return err;
	if (last && last->off + last->len == e.off) {
		last->len += e.len;
	} else if (w->extent_count < TABLE_EXTENTS_MAX) {
		w->extents[w->extent_count++] = e;
	} else {
		space_release(w->env->space, e);
		return -KV_E_NOSPACE;
	}
	w->present = e;
	writeback_set_extent(w->writeback, e);
	return 0;
}

static int put_bytes(struct table_writer *w, struct kv_slice bytes)
{
	int err;

	while (bytes.len > 0) {
		size_t n = (size_t)min_u64(bytes.len, writeback_room(w->writeback));

		if (n == 0) {
			err = next_extent(w);
			if (err)
				return err;
			continue;
		}
		err = writeback_append(w->writeback, kv_slice_of(bytes.data, n));
		if (err)
			return err;
		bytes = kv_slice_of(bytes.data + n, bytes.len - n);
		w->off += n;
	}
	return 0;
}

/*
 * Inner pages and filters are read by every lookup. A leaf is not kept: memory that was never
 * used before costs more than reading those leaves that are wanted. Without memory nothing is.
 */
static void keep_in_cache(struct table_writer *w, struct kv_slice raw, uint32_t height,
			  uint64_t off)
{
	struct cache_key key = {w->id, off};
	struct cache_page *page;
	uint8_t *copy = table_raw_alloc(raw.len, height);

	if (!copy)
		return;
	memcpy(copy, raw.data, raw.len);
	if (cache_insert(w->env->cache, key, copy, raw.len, CACHE_HIGH, &page) == 0)
		cache_unpin(w->env->cache, page);
}

int table_writer_put(struct table_writer *w, struct kv_slice raw, uint32_t height, bool compress,
		     struct page_ref *ref)
{
	struct page_ref r = {.off = w->off, .raw_len = (uint32_t)raw.len};
	struct kv_slice stored = raw;
	int err;

	w->compressed.len = 0;
	if (compress) {
		err = compress_page(w->env->compress, raw, &w->compressed);
		if (err)
			return err;
	}
	if (w->compressed.len > 0)
		stored = kv_buf_slice(&w->compressed);
	r.stored_len = (uint32_t)stored.len;
	err = checksum_compute(w->env->checksum, &stored, 1, r.sum);
	if (err)
		return err;
	err = put_bytes(w, stored);
	if (err)
		return err;
	if (w->warm && height != 1 && height != TABLE_HEIGHT_RANGES)
		keep_in_cache(w, raw, height, r.off);
	*ref = r;
	return 0;
}

int table_writer_finish(struct table_writer *w)
{
	struct extent *last = &w->extents[w->extent_count - 1];
	uint64_t used, rest;
	int err;

	KV_ASSERT(w->extent_count > 0);
	err = writeback_finish(w->writeback, &used);
	if (err)
		return err;
	rest = w->present.len - used;
	if (rest > 0) {
		space_release(w->env->space, (struct extent){w->present.off + used, rest});
		last->len -= rest;
		w->present.len = used;
	}
	return 0;
}

void table_writer_discard(struct table_writer *w)
{
	if (w->warm)
		cache_drop_owner(w->env->cache, w->id);
	for (uint32_t i = 0; i < w->extent_count; i++)
		space_release(w->env->space, w->extents[i]);
	w->extent_count = 0;
}
