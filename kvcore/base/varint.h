/* SPDX-License-Identifier: MIT */
/* LEB128 unsigned integers. */
#ifndef KVCORE_BASE_VARINT_H
#define KVCORE_BASE_VARINT_H

#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX_BYTES 10U

/* Write @v at @out, which has room for VARINT_MAX_BYTES; return the bytes written. */
size_t varint_put(uint8_t *out, uint64_t v);
/* Bytes that varint_put() would write. */
size_t varint_len(uint64_t v);
/* As varint_get(), for any length. */
const uint8_t *varint_get_long(const uint8_t *p, const uint8_t *end, uint64_t *out);

/* Read at @p, not beyond @end; return the position after it, NULL if malformed. */
static inline const uint8_t *varint_get(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
	if (p < end && *p < 0x80) { /* nearly all of a table page's */
		*out = *p;
		return p + 1;
	}
	return varint_get_long(p, end, out);
}

#endif
