/* SPDX-License-Identifier: MIT */
/*
 * Reading leaf and inner pages. page_validate() is the gate for untrusted bytes:
 * it proves that slots, cells, keys and child references are in bounds and in
 * order, so that a search is a few comparisons and nothing else. Cells must
 * lie one behind the other without gaps, so that none can overlap and each one's
 * end is the next one's beginning.
 */
#include "kvcore/table/page.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/varint.h"

#define PREFETCH_LINE  64U
#define PREFETCH_CELLS 1024U /* bytes: some ten short cells */

static uint32_t head_at(const struct page *p, uint32_t i)
{
	return be32_at(p->heads + (size_t)i * PAGE_HEAD_LEN);
}

static size_t slot_at(const struct page *p, uint32_t i)
{
	struct le32 off32;
	struct le16 off16;

	if (p->wide) {
		memcpy(&off32, p->slots + (size_t)i * 4, sizeof(off32));
		return le32_get(off32);
	}
	memcpy(&off16, p->slots + (size_t)i * 2, sizeof(off16));
	return le16_get(off16);
}

/* The first bytes of a suffix as a number that sorts as they do, padded with zeros. */
static uint32_t head_of(struct kv_slice suffix)
{
	uint8_t b[PAGE_HEAD_LEN] = {0};

	if (suffix.len >= PAGE_HEAD_LEN)
		return be32_at(suffix.data);
	for (size_t i = 0; i < suffix.len; i++)
		b[i] = suffix.data[i];
	return be32_at(b);
}

static const uint8_t *get_varint(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
	if (p < end && *p < 0x80) {
		*out = *p;
		return p + 1;
	}
	return varint_get(p, end, out);
}

/* Never reads outside [p, end). False if it does not hold a cell. */
static bool parse_cell(const struct page *page, const uint8_t *p, const uint8_t *end,
		       struct page_cell *out)
{
	uint64_t suffix_len, seq;
	size_t rest_len;

	if (p == end)
		return false;
	out->tag = *p++;
	p = get_varint(p, end, &suffix_len);
	if (!p || suffix_len > IKEY_MAX)
		return false;
	p = get_varint(p, end, &seq);
	if (!p || seq > KV_SEQ_MAX - page->base_seq)
		return false;
	rest_len = suffix_len > PAGE_HEAD_LEN ? (size_t)suffix_len - PAGE_HEAD_LEN : 0;
	if (rest_len > (size_t)(end - p))
		return false;
	out->suffix_len = (uint32_t)suffix_len;
	out->seq = page->base_seq + seq;
	if (page->data[0] == PAGE_INNER && !(out->tag & PAGE_SEP_HAS_SEQ))
		out->seq = KV_SEQ_MAX;
	out->rest = kv_slice_of(p, rest_len);
	out->payload = kv_slice_of(p + rest_len, (size_t)(end - p) - rest_len);
	return true;
}

/* Of keys whose heads are equal. */
static int compare_same_head(size_t a_suffix_len, struct kv_slice a_rest, size_t b_suffix_len,
			     struct kv_slice b_rest)
{
	if (a_suffix_len < PAGE_HEAD_LEN || b_suffix_len < PAGE_HEAD_LEN)
		return (a_suffix_len > b_suffix_len) - (a_suffix_len < b_suffix_len);
	return slice_compare(a_rest, b_rest);
}

/* ---- validation ---------------------------------------------------------- */

static int parse_header(const uint8_t *data, size_t len, struct page *out)
{
	struct page_header_disk h;
	size_t fixed;

	if (len < sizeof(h) || len > PAGE_RAW_MAX)
		return -KV_E_CORRUPT;
	memcpy(&h, data, sizeof(h));
	if (h.flags != (len > PAGE_NARROW_MAX ? PAGE_WIDE_SLOTS : 0))
		return -KV_E_CORRUPT;
	if (le32_get(h.count) == 0 || le32_get(h.count) > len)
		return -KV_E_CORRUPT;
	if (le16_get(h.prefix_len) > IKEY_MAX)
		return -KV_E_CORRUPT;
	/* At most 2^18 * 8 + 2^12: no overflow. */
	fixed = sizeof(h) + le16_get(h.prefix_len) +
		(size_t)le32_get(h.count) * (PAGE_HEAD_LEN + (h.flags ? 4U : 2U));
	if (fixed > len)
		return -KV_E_CORRUPT;
	*out = page_view(data, len);
	return slot_at(out, 0) == sizeof(h) + out->prefix_len ? 0 : -KV_E_CORRUPT;
}

static bool leaf_cell_ok(const struct page_cell *c, size_t key_len)
{
	struct value_ref ref;

	if (key_len < IKEY_PREFIX_LEN)
		return false;
	switch (c->tag) {
	case ENTRY_DELETE:
		return c->payload.len == 0;
	case ENTRY_PUT:
		return c->payload.len <= VALUE_INLINE_MAX;
	case ENTRY_PUT_REF:
		return value_ref_decode(c->payload, &ref) == 0;
	default:
		return false;
	}
}

static bool parse_ref(struct kv_slice in, struct page_ref *out)
{
	struct cursor c = cursor_of(in);
	uint64_t off = cursor_varint(&c);
	uint64_t stored_len = cursor_varint(&c);
	uint64_t raw_len = cursor_varint(&c);
	struct kv_slice sum = cursor_bytes(&c, CHECKSUM_LEN);

	if (cursor_finish(&c) || stored_len > UINT32_MAX || raw_len > UINT32_MAX)
		return false;
	out->off = off;
	out->stored_len = (uint32_t)stored_len;
	out->raw_len = (uint32_t)raw_len;
	memcpy(out->sum, sum.data, CHECKSUM_LEN);
	return true;
}

/* Children of a page lie in order and before it: the pages of a table form no cycle. */
static bool inner_cell_ok(const struct page_cell *c, const struct page_limits *limits,
			  uint64_t *floor)
{
	struct page_ref ref;

	if (c->tag & ~PAGE_SEP_HAS_SEQ)
		return false;
	if (!parse_ref(c->payload, &ref))
		return false;
	if (ref.stored_len == 0 || ref.stored_len > ref.raw_len || ref.raw_len > PAGE_RAW_MAX)
		return false;
	if (ref.off < *floor || ref.off > limits->children_end ||
	    ref.stored_len > limits->children_end - ref.off)
		return false;
	*floor = ref.off + ref.stored_len;
	return true;
}

static bool head_padded(const struct page *p, uint32_t i, uint32_t suffix_len)
{
	const uint8_t *head = p->heads + (size_t)i * PAGE_HEAD_LEN;

	for (uint32_t b = suffix_len; b < PAGE_HEAD_LEN; b++)
		if (head[b] != 0)
			return false;
	return true;
}

/* Is cell @i, decoded in @c, behind cell @i - 1, decoded in @before? */
static bool in_order(const struct page *p, uint32_t i, const struct page_cell *before,
		     const struct page_cell *c)
{
	uint32_t head_before = head_at(p, i - 1), head = head_at(p, i);
	int order;

	if (head_before != head)
		return head_before < head;
	order = compare_same_head(before->suffix_len, before->rest, c->suffix_len, c->rest);
	return order < 0 || (order == 0 && before->seq > c->seq);
}

static int validate_cells(const struct page *p, const struct page_limits *limits)
{
	struct page_cell before = {0}, c;
	uint64_t floor = 0;

	for (uint32_t i = 0; i < p->count; i++) {
		size_t from = slot_at(p, i);
		size_t to = i + 1 < p->count ? slot_at(p, i + 1) : p->cells_end;

		if (from > to || to > p->cells_end ||
		    !parse_cell(p, p->data + from, p->data + to, &c))
			return -KV_E_CORRUPT;
		if (p->prefix_len + c.suffix_len > IKEY_MAX || !head_padded(p, i, c.suffix_len))
			return -KV_E_CORRUPT;
		if (limits->type == PAGE_LEAF ? !leaf_cell_ok(&c, p->prefix_len + c.suffix_len)
					      : !inner_cell_ok(&c, limits, &floor))
			return -KV_E_CORRUPT;
		if (i > 0 && !in_order(p, i, &before, &c))
			return -KV_E_CORRUPT;
		before = c;
	}
	return 0;
}

static int validate_bounds(const struct page *p, const struct table_meta *meta)
{
	uint8_t key[PAGE_KEY_ROOM];
	struct page_cell c;
	int order;

	page_get_cell(p, 0, &c);
	order = slice_compare(kv_slice_of(key, page_get_key(p, 0, &c, key)),
			      kv_buf_slice(&meta->smallest));
	if (order < 0)
		return -KV_E_CORRUPT;
	page_get_cell(p, p->count - 1, &c);
	order = slice_compare(kv_slice_of(key, page_get_key(p, p->count - 1, &c, key)),
			      kv_buf_slice(&meta->largest));
	if (order > 0 || (order == 0 && meta->largest_exclusive))
		return -KV_E_CORRUPT;
	return 0;
}

int page_validate(const uint8_t *data, size_t len, const struct page_limits *limits)
{
	struct page p;
	int err;

	err = parse_header(data, len, &p);
	if (err)
		return err;
	if (data[0] != limits->type || (limits->type == PAGE_INNER && p.base_seq != 0))
		return -KV_E_CORRUPT;
	err = validate_cells(&p, limits);
	if (err)
		return err;
	if (limits->type == PAGE_LEAF && limits->bounds)
		return validate_bounds(&p, limits->bounds);
	return 0;
}

/* ---- reading ------------------------------------------------------------- */

struct page page_view(const uint8_t *data, size_t len)
{
	struct page_header_disk h;
	struct page p;

	memcpy(&h, data, sizeof(h));
	p.data = data;
	p.len = len;
	p.count = le32_get(h.count);
	p.prefix_len = le16_get(h.prefix_len);
	p.wide = h.flags & PAGE_WIDE_SLOTS;
	p.base_seq = le64_get(h.base_seq);
	p.prefix = data + sizeof(h);
	p.cells_end = len - (size_t)p.count * (PAGE_HEAD_LEN + (p.wide ? 4U : 2U));
	p.heads = data + p.cells_end;
	p.slots = p.heads + (size_t)p.count * PAGE_HEAD_LEN;
	return p;
}

/* Of a validated page: it ends, in the shortest form. */
static inline uint64_t take_varint(const uint8_t **at)
{
	const uint8_t *p = *at;
	uint64_t v = *p++;

	if (v >= 0x80) {
		unsigned shift = 7;
		uint64_t byte;

		v &= 0x7f;
		do {
			byte = *p++;
			v |= (byte & 0x7f) << shift;
			shift += 7;
		} while (byte >= 0x80);
	}
	*at = p;
	return v;
}

void page_get_cell(const struct page *p, uint32_t i, struct page_cell *out)
{
	const uint8_t *c = p->data + slot_at(p, i);
	const uint8_t *end = p->data + (i + 1 < p->count ? slot_at(p, i + 1) : p->cells_end);
	size_t rest_len;

	out->tag = *c++;
	out->suffix_len = (uint32_t)take_varint(&c);
	out->seq = p->base_seq + take_varint(&c);
	if (p->data[0] == PAGE_INNER && !(out->tag & PAGE_SEP_HAS_SEQ))
		out->seq = KV_SEQ_MAX;
	rest_len = out->suffix_len > PAGE_HEAD_LEN ? out->suffix_len - PAGE_HEAD_LEN : 0;
	KV_ASSERT(c + rest_len <= end);
	out->rest = kv_slice_of(c, rest_len);
	out->payload = kv_slice_of(c + rest_len, (size_t)(end - c) - rest_len);
}

void page_prefetch_cells(const struct page *p, uint32_t i)
{
	size_t from = slot_at(p, i), to = min_u64(from + PREFETCH_CELLS, p->cells_end);

	for (; from < to; from += PREFETCH_LINE)
		__builtin_prefetch(p->data + from);
}

void page_get_child(const struct page *p, uint32_t i, struct page_ref *out)
{
	struct page_cell cell;
	const uint8_t *c;

	page_get_cell(p, i, &cell);
	c = cell.payload.data;
	out->off = take_varint(&c);
	out->stored_len = (uint32_t)take_varint(&c);
	out->raw_len = (uint32_t)take_varint(&c);
	KV_ASSERT(c + CHECKSUM_LEN == cell.payload.data + cell.payload.len);
	memcpy(out->sum, c, CHECKSUM_LEN);
}

size_t page_get_suffix(const struct page *p, uint32_t i, const struct page_cell *cell, uint8_t *out)
{
	memcpy(out, p->heads + (size_t)i * PAGE_HEAD_LEN, PAGE_HEAD_LEN);
	if (cell->rest.len > 0)
		memcpy(out + PAGE_HEAD_LEN, cell->rest.data, cell->rest.len);
	return cell->suffix_len;
}

size_t page_get_key(const struct page *p, uint32_t i, const struct page_cell *cell, uint8_t *out)
{
	memcpy(out, p->prefix, p->prefix_len);
	return p->prefix_len + page_get_suffix(p, i, cell, out + p->prefix_len);
}

bool page_key_equals(const struct page *p, uint32_t i, const struct page_cell *cell,
		     struct kv_slice ikey)
{
	const uint8_t *head = p->heads + (size_t)i * PAGE_HEAD_LEN;
	size_t head_len = min_u64(cell->suffix_len, PAGE_HEAD_LEN);

	if (ikey.len != p->prefix_len + cell->suffix_len)
		return false;
	if (ikey.len == 0)
		return true;
	if (memcmp(ikey.data, p->prefix, p->prefix_len) != 0 ||
	    memcmp(ikey.data + p->prefix_len, head, head_len) != 0)
		return false;
	return memcmp(ikey.data + p->prefix_len + head_len, cell->rest.data, cell->rest.len) == 0;
}

/* First index with a head not below @head. Without branches on the data. */
static uint32_t first_head(const struct page *p, uint32_t head)
{
	uint32_t base = 0, n = p->count;

	while (n > 1) {
		uint32_t half = n / 2;

		base += head_at(p, base + half - 1) < head ? half : 0;
		n -= half;
	}
	return base + (head_at(p, base) < head ? 1 : 0);
}

/* Is the cell before (suffix, seq), or @ties and equal to it? Their heads are equal. */
static bool cell_before(const struct page *p, uint32_t i, struct kv_slice suffix, kv_seq seq,
			bool ties)
{
	struct kv_slice rest = {0};
	struct page_cell c;
	int order;

	if (suffix.len > PAGE_HEAD_LEN)
		rest = kv_slice_of(suffix.data + PAGE_HEAD_LEN, suffix.len - PAGE_HEAD_LEN);
	page_get_cell(p, i, &c);
	order = compare_same_head(c.suffix_len, c.rest, suffix.len, rest);
	if (order != 0)
		return order < 0;
	return c.seq > seq || (ties && c.seq == seq);
}

/* First cell behind (ikey, seq); one equal to it counts as behind unless @ties. */
static uint32_t find(const struct page *p, struct kv_slice ikey, kv_seq seq, bool ties)
{
	size_t n = min_u64(ikey.len, p->prefix_len);
	int order = n > 0 ? memcmp(ikey.data, p->prefix, n) : 0;
	struct kv_slice suffix;
	uint32_t head, lo, hi;

	if (order < 0 || (order == 0 && ikey.len < p->prefix_len))
		return 0;
	if (order > 0)
		return p->count;
	suffix.data = n > 0 ? ikey.data + n : ikey.data;
	suffix.len = ikey.len - n;
	head = head_of(suffix);
	lo = first_head(p, head);
	if (lo == p->count || head_at(p, lo) != head)
		return lo;
	hi = lo + 1; /* equal heads are mostly one */
	if (hi < p->count && head_at(p, hi) == head)
		hi = head < UINT32_MAX ? first_head(p, head + 1) : p->count;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (cell_before(p, mid, suffix, seq, ties))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint32_t page_lower_bound(const struct page *p, struct kv_slice ikey, kv_seq seq)
{
	return find(p, ikey, seq, false);
}

uint32_t page_find_child(const struct page *p, struct kv_slice ikey, kv_seq seq)
{
	uint32_t i = find(p, ikey, seq, true);

	return i > 0 ? i - 1 : 0;
}
