/* SPDX-License-Identifier: MIT */
/*
 * The stream of kvfs send: the first byte is the kind of an item, the rest its payload. What
 * decodes must encode to the same bytes. The same bytes are also taken for a frame.
 */
#include <string.h>

#include "fusefs/model/stream.h"
#include "kvcore/base/buf.h"
#include "tests/fuzz/fuzz.h"

static void frame(struct kv_slice in)
{
	struct stream_chain chain;
	struct kv_slice payload;
	uint8_t kind;
	size_t len = 0;

	FUZZ_CHECK(!stream_chain_init(&chain));
	if (!stream_get(&chain, in, &kind, &payload, &len))
		FUZZ_CHECK(len <= in.len && payload.len < len);
	stream_chain_fini(&chain);
}

void fuzz_one(const uint8_t *data, size_t len)
{
	struct stream_item item;
	struct kv_buf out = {0};
	struct kv_slice in;

	if (!len)
		return;
	in = kv_slice_of(data + 1, len - 1);
	if (!stream_decode(data[0], in, &item)) {
		FUZZ_CHECK(!stream_encode(&item, &out));
		FUZZ_CHECK(out.len == in.len && !memcmp(out.data, in.data, in.len));
	}
	kv_buf_free(&out);
	frame(in);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t cap)
{
	static const uint8_t xattrs[] = {6, 0, 1, 0, 0, 0, 'u', 's', 'e', 'r', '.', 'a', 'v'};
	struct stream_item item = {
		.kind = (enum stream_kind)n,
		.path = {(const uint8_t *)"dir\0name", 8},
		.from = {(const uint8_t *)"dir\0old", 7},
		.bytes = {(const uint8_t *)"hello", 5},
		.xattrs = {xattrs, sizeof(xattrs)},
		.origin = STREAM_OLD_PATH,
		.body = STREAM_BODY_INLINE,
		.chunk = 3,
		.attr = {.mode = S_IFREG | 0644, .nlink = 1, .size = 5},
	};
	struct kv_buf buf = {0};
	size_t len;

	if (n >= STREAM_KINDS)
		return 0;
	if (n == STREAM_BEGIN) {
		item.path = kv_slice_of("new", 3);
		item.from = kv_slice_of("old", 3);
	}
	FUZZ_CHECK(!stream_encode(&item, &buf));
	FUZZ_CHECK(buf.len + 1 <= cap);
	out[0] = (uint8_t)n;
	memcpy(out + 1, buf.data, buf.len);
	len = buf.len + 1;
	kv_buf_free(&buf);
	FUZZ_CHECK(!stream_decode(out[0], kv_slice_of(out + 1, len - 1), &item));
	return len;
}
