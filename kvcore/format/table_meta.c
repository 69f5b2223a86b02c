/* SPDX-License-Identifier: MIT */
/*
 * One table within the manifest: copy, release, encode, decode. Extents are
 * stored in blocks rather than bytes, so that an unaligned one cannot be said.
 * A page that is not there is the single byte 0. What is decoded has been
 * through table_meta_valid(), so readers of pages can add offsets and lengths
 * without overflow and allocate what raw_len says.
 */
#include "kvcore/format/table_meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define TABLE_META_LARGEST_EXCLUSIVE 1U
#define TABLE_META_OLD_VERSIONS	     2U /* their bytes follow */

void table_meta_fini(struct table_meta *m)
{
	kv_buf_free(&m->smallest);
	kv_buf_free(&m->largest);
	free(m->extents);
	m->extents = NULL;
	m->extent_count = 0;
}

int table_meta_copy(const struct table_meta *m, struct table_meta *out)
{
	struct table_meta copy = *m;
	int err;

	copy.smallest = (struct kv_buf){0};
	copy.largest = (struct kv_buf){0};
	copy.extents = NULL;
	err = buf_assign(&copy.smallest, kv_buf_slice(&m->smallest));
	if (err)
		goto out;
	err = buf_assign(&copy.largest, kv_buf_slice(&m->largest));
	if (err)
		goto out;
	if (m->extent_count) {
		copy.extents = calloc(m->extent_count, sizeof(*copy.extents));
		if (!copy.extents) {
			err = -ENOMEM;
			goto out;
		}
		memcpy(copy.extents, m->extents, m->extent_count * sizeof(*copy.extents));
	}
	*out = copy;
	return 0;
out:
	table_meta_fini(&copy);
	return err;
}

static bool page_ref_valid(const struct page_ref *p, uint32_t raw_max, uint64_t stored_bytes)
{
	if (!p->stored_len)
		return true;
	return p->stored_len <= p->raw_len && p->raw_len <= raw_max &&
	       p->stored_len <= stored_bytes && p->off <= stored_bytes - p->stored_len;
}

static bool table_meta_bounds_valid(const struct table_meta *m)
{
	int order = slice_compare(kv_buf_slice(&m->smallest), kv_buf_slice(&m->largest));

	if (m->smallest.len < IKEY_PREFIX_LEN || m->smallest.len > IKEY_MAX)
		return false;
	if (m->largest.len < IKEY_PREFIX_LEN || m->largest.len > IKEY_MAX)
		return false;
	return m->largest_exclusive ? order < 0 : order <= 0;
}

static bool table_meta_extents_valid(const struct table_meta *m)
{
	uint64_t total = 0;

	if (!m->extent_count || m->extent_count > TABLE_EXTENTS_MAX)
		return false;
	for (uint32_t i = 0; i < m->extent_count; i++) {
		struct extent e = m->extents[i];

		if (e.off % FORMAT_BLOCK || e.len % FORMAT_BLOCK || !e.len || e.len > INT64_MAX ||
		    e.off > INT64_MAX - e.len || e.len > INT64_MAX - total)
			return false;
		total += e.len;
	}
	return m->stored_bytes && m->stored_bytes <= total;
}

bool table_meta_valid(const struct table_meta *m)
{
	bool has_entries = m->root.stored_len;
	bool has_ranges = m->ranges.stored_len;

	if (!m->id || m->level >= KV_LEVELS || m->height > TABLE_HEIGHT_MAX)
		return false;
	if (has_entries != (m->height != 0) || (!has_entries && !has_ranges))
		return false;
	if (has_entries != (m->entry_count != 0) || has_ranges != (m->range_count != 0))
		return false;
	if (m->delete_count > m->entry_count || m->seq_min > m->seq_max)
		return false;
	return table_meta_extents_valid(m) && table_meta_bounds_valid(m) &&
	       page_ref_valid(&m->root, PAGE_RAW_MAX, m->stored_bytes) &&
	       page_ref_valid(&m->filter, FILTER_RAW_MAX, m->stored_bytes) &&
	       page_ref_valid(&m->ranges, FILTER_RAW_MAX, m->stored_bytes);
}

int table_meta_extent_append(struct kv_buf *out, struct extent e)
{
	int err = buf_append_varint(out, e.off / FORMAT_BLOCK);

	if (err)
		return err;
	return buf_append_varint(out, e.len / FORMAT_BLOCK);
}

struct extent table_meta_extent_read(struct cursor *c)
{
	const uint64_t limit = INT64_MAX / FORMAT_BLOCK; /* blocks */
	uint64_t off = cursor_varint(c);
	uint64_t len = cursor_varint(c);

	if (c->bad || !len || len > limit || off > limit - len) {
		c->bad = true;
		return (struct extent){0, 0};
	}
	return (struct extent){off * FORMAT_BLOCK, len * FORMAT_BLOCK};
}

static int page_ref_append(struct kv_buf *out, const struct page_ref *p)
{
	int err = buf_append_varint(out, p->stored_len);

	if (err || !p->stored_len)
		return err;
	err = buf_append_varint(out, p->off);
	if (err)
		return err;
	err = buf_append_varint(out, p->raw_len);
	if (err)
		return err;
	return buf_append(out, p->sum, CHECKSUM_LEN);
}

static uint32_t read_u32(struct cursor *c)
{
	uint64_t v = cursor_varint(c);

	if (v > UINT32_MAX)
		c->bad = true;
	return (uint32_t)v;
}

static struct page_ref page_ref_read(struct cursor *c)
{
	struct page_ref p = {0};
	struct kv_slice sum;

	p.stored_len = read_u32(c);
	if (!p.stored_len)
		return p;
	p.off = cursor_varint(c);
	p.raw_len = read_u32(c);
	sum = cursor_bytes(c, CHECKSUM_LEN);
	if (!c->bad)
		memcpy(p.sum, sum.data, CHECKSUM_LEN);
	return p;
}

int table_meta_encode(const struct table_meta *m, struct kv_buf *out)
{
	const struct page_ref *pages[] = {&m->root, &m->filter, &m->ranges};
	const uint64_t numbers[] = {m->stored_bytes, m->entry_count, m->delete_count,
				    m->range_count,  m->raw_bytes,   m->ref_bytes,
				    m->seq_min,	     m->seq_max};
	const uint64_t head[] = {m->id, m->level, m->height};
	int err = 0;

	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(head); i++)
		err = buf_append_varint(out, head[i]);
	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(pages); i++)
		err = page_ref_append(out, pages[i]);
	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(numbers); i++)
		err = buf_append_varint(out, numbers[i]);
	if (!err)
		err = buf_append_lenslice(out, kv_buf_slice(&m->smallest));
	if (!err)
		err = buf_append_lenslice(out, kv_buf_slice(&m->largest));
	if (!err)
		err = buf_append_byte(out,
				      (m->largest_exclusive ? TABLE_META_LARGEST_EXCLUSIVE : 0) |
					      (m->old_bytes ? TABLE_META_OLD_VERSIONS : 0));
	if (!err && m->old_bytes)
		err = buf_append_varint(out, m->old_bytes);
	if (!err)
		err = buf_append_varint(out, m->extent_count);
	for (uint32_t i = 0; !err && i < m->extent_count; i++)
		err = table_meta_extent_append(out, m->extents[i]);
	return err;
}

static int table_meta_read_bounds(struct cursor *c, struct table_meta *m)
{
	struct kv_slice smallest = cursor_lenslice(c);
	struct kv_slice largest = cursor_lenslice(c);
	uint8_t flags = cursor_u8(c);
	int err;

	if (c->bad || smallest.len > IKEY_MAX || largest.len > IKEY_MAX ||
	    flags & ~(TABLE_META_LARGEST_EXCLUSIVE | TABLE_META_OLD_VERSIONS))
		return -KV_E_CORRUPT;
	m->largest_exclusive = flags & TABLE_META_LARGEST_EXCLUSIVE;
	if (flags & TABLE_META_OLD_VERSIONS) {
		m->old_bytes = cursor_varint(c);
		if (c->bad || !m->old_bytes)
			return -KV_E_CORRUPT;
	}
	err = buf_assign(&m->smallest, smallest);
	if (err)
		return err;
	return buf_assign(&m->largest, largest);
}

static int table_meta_read_extents(struct cursor *c, struct table_meta *m)
{
	uint64_t count = cursor_varint(c);

	if (c->bad || !count || count > TABLE_EXTENTS_MAX)
		return -KV_E_CORRUPT;
	m->extents = calloc((size_t)count, sizeof(*m->extents));
	if (!m->extents)
		return -ENOMEM;
	m->extent_count = (uint32_t)count;
	for (uint32_t i = 0; i < m->extent_count; i++)
		m->extents[i] = table_meta_extent_read(c);
	return c->bad ? -KV_E_CORRUPT : 0;
}

int table_meta_decode(struct cursor *c, struct table_meta *out)
{
	struct table_meta m = {0};
	int err;

	m.id = cursor_varint(c);
	m.level = read_u32(c);
	m.height = read_u32(c);
	m.root = page_ref_read(c);
	m.filter = page_ref_read(c);
	m.ranges = page_ref_read(c);
	m.stored_bytes = cursor_varint(c);
	m.entry_count = cursor_varint(c);
	m.delete_count = cursor_varint(c);
	m.range_count = cursor_varint(c);
	m.raw_bytes = cursor_varint(c);
	m.ref_bytes = cursor_varint(c);
	m.seq_min = cursor_varint(c);
	m.seq_max = cursor_varint(c);
	err = table_meta_read_bounds(c, &m);
	if (err)
		goto out;
	err = table_meta_read_extents(c, &m);
	if (err)
		goto out;
	if (!table_meta_valid(&m)) {
		err = -KV_E_CORRUPT;
		goto out;
	}
	*out = m;
	return 0;
out:
	table_meta_fini(&m);
	return err;
}
