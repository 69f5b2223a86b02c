/* SPDX-License-Identifier: MIT */
/*
 * Making leaf and inner pages. The keys of a page are sorted, so what the first
 * and the last have in common is common to all. Cells are packed in key order
 * without gaps, the arrays behind them: there is one encoding of a list of items, and
 * the decoder refuses all others.
 */
#include "kvcore/table/page.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/varint.h"

size_t page_ref_encode(const struct page_ref *ref, uint8_t *out)
{
	size_t n = varint_put(out, ref->off);

	n += varint_put(out + n, ref->stored_len);
	n += varint_put(out + n, ref->raw_len);
	memcpy(out + n, ref->sum, CHECKSUM_LEN);
	return n + CHECKSUM_LEN;
}

static size_t rest_len(size_t suffix_len)
{
	return suffix_len > PAGE_HEAD_LEN ? suffix_len - PAGE_HEAD_LEN : 0;
}

static size_t cell_len(const struct page_item *item, size_t prefix_len, kv_seq base_seq)
{
	size_t suffix_len = item->key.len - prefix_len;

	return 1 + varint_len(suffix_len) + varint_len(item->seq - base_seq) +
	       rest_len(suffix_len) + item->payload.len;
}

static uint8_t *put_bytes(uint8_t *p, const uint8_t *data, size_t len)
{
	if (len > 0)
		memcpy(p, data, len);
	return p + len;
}

static uint8_t *put_cell(uint8_t *p, uint8_t *head, const struct page_item *item, size_t prefix_len,
			 kv_seq base_seq)
{
	const uint8_t *suffix = item->key.data + prefix_len;
	size_t suffix_len = item->key.len - prefix_len;

	put_bytes(head, suffix, min_u64(suffix_len, PAGE_HEAD_LEN));
	*p++ = item->tag;
	p += varint_put(p, suffix_len);
	p += varint_put(p, item->seq - base_seq);
	if (suffix_len > PAGE_HEAD_LEN)
		p = put_bytes(p, suffix + PAGE_HEAD_LEN, suffix_len - PAGE_HEAD_LEN);
	return put_bytes(p, item->payload.data, item->payload.len);
}

static void put_slot(uint8_t *slots, size_t i, bool wide, size_t off)
{
	struct le32 off32 = le32_of((uint32_t)off);
	struct le16 off16 = le16_of((uint16_t)off);

	if (wide)
		memcpy(slots + 4 * i, &off32, sizeof(off32));
	else
		memcpy(slots + 2 * i, &off16, sizeof(off16));
}

int page_encode(enum page_type type, const struct page_item *items, size_t count,
		struct kv_buf *out)
{
	size_t prefix_len = slice_common_prefix(items[0].key, items[count - 1].key);
	struct page_header_disk header = {0};
	kv_seq base_seq = type == PAGE_LEAF ? KV_SEQ_MAX : 0;
	size_t len = sizeof(header) + prefix_len + count * (PAGE_HEAD_LEN + 2);
	uint8_t *heads, *slots, *p;
	bool wide;
	int err;

	KV_ASSERT(count > 0);
	for (size_t i = 0; type == PAGE_LEAF && i < count; i++)
		base_seq = min_u64(base_seq, items[i].seq);
	for (size_t i = 0; i < count; i++)
		len += cell_len(&items[i], prefix_len, base_seq);
	wide = len > PAGE_NARROW_MAX;
	if (wide)
		len += 2 * count;
	KV_ASSERT(len <= PAGE_RAW_MAX);
	buf_clear(out);
	err = buf_resize(out, len);
	if (err)
		return err;

	header.type = (uint8_t)type;
	header.flags = wide ? PAGE_WIDE_SLOTS : 0;
	header.prefix_len = le16_of((uint16_t)prefix_len);
	header.count = le32_of((uint32_t)count);
	header.base_seq = le64_of(base_seq);
	memcpy(out->data, &header, sizeof(header));
	heads = out->data + len - count * (PAGE_HEAD_LEN + (wide ? 4U : 2U));
	slots = heads + count * PAGE_HEAD_LEN;
	p = put_bytes(out->data + sizeof(header), items[0].key.data, prefix_len);
	for (size_t i = 0; i < count; i++) {
		put_slot(slots, i, wide, (size_t)(p - out->data));
		p = put_cell(p, heads + i * PAGE_HEAD_LEN, &items[i], prefix_len, base_seq);
	}
	KV_ASSERT(p == heads);
	return 0;
}
