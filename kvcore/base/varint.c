/* SPDX-License-Identifier: MIT */
/*
 * LEB128 unsigned integers: seven bits a byte, low ones first, the top bit says
 * that more follow. Only the shortest form is accepted, so that each number has
 * one encoding and equal structures are equal bytes.
 */
#include "kvcore/base/varint.h"

size_t varint_put(uint8_t *out, uint64_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		out[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	out[n++] = (uint8_t)v;
	return n;
}

size_t varint_len(uint64_t v)
{
	size_t n = 1;

	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

const uint8_t *varint_get_long(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; p < end; shift += 7) {
		uint64_t byte = *p++;

		if (shift == 63 && byte > 1)
			return NULL; /* beyond 64 bits */
		v |= (byte & 0x7f) << shift;
		if (byte < 0x80) {
			if (!byte && shift)
				return NULL; /* not the shortest form */
			*out = v;
			return p;
		}
	}
	return NULL;
}
