/* SPDX-License-Identifier: MIT */
/*
 * Page and value compression, the only file that includes Snappy. Snappy's
 * decoder checks every copy against the bounds of input and output, but it
 * believes the length in the stream: that is compared with the length that the
 * page's parent holds before a byte is written.
 */
#include "kvcore/format/compress.h"

#include <errno.h>
#include <snappy-c.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

static const char *const compress_names[] = {
	[COMPRESS_NONE] = "none",
	[COMPRESS_SNAPPY] = "snappy",
};

int compress_algo_by_name(const char *name, enum compress_algo *out)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(compress_names); i++) {
		if (!strcmp(compress_names[i], name)) {
			*out = (enum compress_algo)i;
			return 0;
		}
	}
	return -KV_E_INVALID;
}

const char *compress_algo_name(unsigned algo)
{
	return algo < KV_ARRAY_COUNT(compress_names) ? compress_names[algo] : NULL;
}

int compress_page(enum compress_algo algo, struct kv_slice raw, struct kv_buf *out)
{
	size_t len = snappy_max_compressed_length(raw.len);
	int err;

	buf_clear(out);
	if (algo != COMPRESS_SNAPPY || !raw.len)
		return 0;
	err = buf_reserve(out, len);
	if (err)
		return err;
	if (snappy_compress((const char *)raw.data, raw.len, (char *)out->data, &len) != SNAPPY_OK)
		return 0; /* only for too small an output: store it raw */
	if (len <= raw.len - raw.len / 8 && len < raw.len)
		out->len = len;
	return 0;
}

int decompress_page(enum compress_algo algo, struct kv_slice stored, uint8_t *out, size_t raw_len)
{
	const char *in = (const char *)stored.data;
	size_t len = 0;

	if (stored.len == raw_len) {
		if (raw_len)
			memcpy(out, stored.data, raw_len);
		return 0;
	}
	if (algo != COMPRESS_SNAPPY || !stored.len)
		return -KV_E_CORRUPT;
	if (snappy_uncompressed_length(in, stored.len, &len) != SNAPPY_OK || len != raw_len)
		return -KV_E_CORRUPT;
	if (snappy_uncompress(in, stored.len, (char *)out, &len) != SNAPPY_OK || len != raw_len)
		return -KV_E_CORRUPT;
	return 0;
}
