/* SPDX-License-Identifier: MIT */
/*
 * LEB128 unsigned integers: seven bits a byte, low ones first, the top bit says
 * that more follow. Only the shortest form is accepted, so that each number has
 * one encoding and equal structures are equal bytes.
 */
#include "kvcore/base/varint.h"

#include <stddef.h>
#include <string.h>

#include "kvcore/base/bytes.h"

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

/* Eight bytes at a time: the seven-bit groups up to the first clear top bit pushed together.
 * Returns the bytes taken; 0: longer than eight, or not the shortest form. */
static size_t get_from_word(uint64_t w, uint64_t *out)
{
	uint64_t stop = ~w & 0x8080808080808080U;
	size_t n;

	if (!stop)
		return 0;
	n = (size_t)__builtin_ctzll(stop) / 8 + 1;
	w &= stop ^ (stop - 1); /* the number's own bytes */
	if (n > 1 && !(w >> (8 * (n - 1))))
		return 0;
	w = (w & 0x007f007f007f007fU) | (w & 0x7f007f007f007f00U) >> 1;
	w = (w & 0x00003fff00003fffU) | (w & 0x3fff00003fff0000U) >> 2;
	*out = (w & 0x000000000fffffffU) | (w & 0x0fffffff00000000U) >> 4;
	return n;
}

const uint8_t *varint_get_long(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
	uint64_t v = 0;

	if (end - p >= (ptrdiff_t)sizeof(struct le64)) {
		struct le64 word;
		size_t n;

		memcpy(&word, p, sizeof(word));
		n = get_from_word(le64_get(word), out);
		if (n)
			return p + n;
	}
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
