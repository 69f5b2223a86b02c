/* SPDX-License-Identifier: MIT */
/*
 * Page and value compression. The only file that includes Snappy is compress.c.
 * Data that does not shrink by at least an eighth is stored raw; the length
 * stored beside the pointer tells which (stored_len == raw_len: raw).
 *
 * Thread safety: any thread.
 */
#ifndef KVCORE_FORMAT_COMPRESS_H
#define KVCORE_FORMAT_COMPRESS_H

#include "kvcore/kv_types.h"

enum compress_algo { /* stored in the superblock; never renumbered */
		     COMPRESS_NONE = 0,
		     COMPRESS_SNAPPY =
			     1, /* https://github.com/google/snappy/blob/main/format_description.txt
				 */
};

int compress_algo_by_name(const char *name, enum compress_algo *out) KV_MUST_CHECK;
const char *compress_algo_name(unsigned algo);

/*
 * Compress @raw into @out (replaced). If it does not pay, @out is left empty
 * and the caller stores @raw itself. Return: 0, -ENOMEM.
 */
int compress_page(enum compress_algo algo, struct kv_slice raw, struct kv_buf *out) KV_MUST_CHECK;

/*
 * Undo it into exactly @raw_len bytes at @out. If stored.len == raw_len the bytes
 * are copied. Return: 0, -KV_E_CORRUPT. Never reads or writes out of bounds.
 */
int decompress_page(enum compress_algo algo, struct kv_slice stored, uint8_t *out, size_t raw_len)
	KV_MUST_CHECK;

#endif
