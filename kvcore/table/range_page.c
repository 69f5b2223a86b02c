/* SPDX-License-Identifier: MIT */
/*
 * Range deletes on disk: the fragments in order, each with its bounds and its
 * seqs, the first in full and each further one as the distance to the one before.
 * Decoding proves that fragments are disjoint and in order, on which every
 * query relies.
 */
#include "kvcore/table/range_page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

static int encode_fragment(const struct range_fragment *f, struct kv_buf *out)
{
	int err;

	err = buf_append_lenslice(out, f->from);
	if (err)
		return err;
	err = buf_append_lenslice(out, f->to);
	if (err)
		return err;
	err = buf_append_varint(out, f->seq_count);
	if (err)
		return err;
	for (size_t i = 0; i < f->seq_count; i++) {
		err = buf_append_varint(out, i == 0 ? f->seqs[0] : f->seqs[i - 1] - f->seqs[i]);
		if (err)
			return err;
	}
	return 0;
}

int range_page_encode(const struct range_set *set, struct kv_buf *out)
{
	struct range_page_header_disk h = {.type = PAGE_RANGES};
	int err;

	KV_ASSERT(range_set_count(set) > 0 && range_set_count(set) <= UINT32_MAX);
	h.count = le32_of((uint32_t)range_set_count(set));
	buf_clear(out);
	err = buf_append(out, &h, sizeof(h));
	if (err)
		return err;
	for (size_t i = 0; i < range_set_count(set); i++) {
		struct range_fragment f = range_set_at(set, i);

		err = encode_fragment(&f, out);
		if (err)
			return err;
	}
	return 0;
}

/* Fills @seqs, which has room for @count. */
static bool decode_seqs(struct cursor *c, kv_seq *seqs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t v = cursor_varint(c);

		if (i > 0 && (v == 0 || v > seqs[i - 1]))
			return false;
		seqs[i] = i > 0 ? seqs[i - 1] - v : v;
	}
	return !c->bad;
}

static bool bound_ok(struct kv_slice key)
{
	return key.len >= 1 && key.len <= IKEY_MAX + 1U;
}

/* @end: where the fragment before ended. */
static int decode_fragment(struct cursor *c, struct range_set *set, struct kv_slice *end)
{
	struct kv_slice from = cursor_lenslice(c);
	struct kv_slice to = cursor_lenslice(c);
	uint64_t count = cursor_varint(c);
	kv_seq *seqs;
	int err;

	/* A seq takes a byte at least, so the page bounds what is allocated for it. */
	if (c->bad || count == 0 || count > cursor_left(c))
		return -KV_E_CORRUPT;
	if (!bound_ok(from) || !bound_ok(to) || slice_compare(*end, from) > 0 ||
	    slice_compare(from, to) >= 0)
		return -KV_E_CORRUPT;
	seqs = malloc((size_t)count * sizeof(*seqs));
	if (!seqs)
		return -ENOMEM;
	err = decode_seqs(c, seqs, (size_t)count) ? 0 : -KV_E_CORRUPT;
	if (!err)
		err = range_set_append(set, from, to, seqs, (size_t)count);
	free(seqs);
	*end = to;
	return err;
}

int range_page_decode(struct kv_slice in, struct range_set **out)
{
	struct range_page_header_disk h;
	struct range_set *set = NULL;
	struct kv_slice end = {0};
	struct cursor c;
	uint32_t count;
	int err;

	if (in.len < sizeof(h))
		return -KV_E_CORRUPT;
	memcpy(&h, in.data, sizeof(h));
	count = le32_get(h.count);
	if (h.type != PAGE_RANGES || h.zero0[0] || h.zero0[1] || h.zero0[2] || count == 0)
		return -KV_E_CORRUPT;
	err = range_set_new(&set);
	if (err)
		return err;
	c = cursor_of(kv_slice_of(in.data + sizeof(h), in.len - sizeof(h)));
	for (uint32_t i = 0; i < count && !err; i++)
		err = decode_fragment(&c, set, &end);
	if (!err)
		err = cursor_finish(&c);
	if (err)
		goto out;
	*out = set;
	set = NULL;
out:
	range_set_free(set);
	return err;
}
