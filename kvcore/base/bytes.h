/* SPDX-License-Identifier: MIT */
/*
 * On-disk integers: byte arrays, so that alignment is 1, nothing needs a packed
 * attribute, and an unswapped access does not compile. le for fields, be for
 * keys that must sort.
 *
 * On a little-endian machine a field is one load: compilers do not make one out of
 * shifts whose bytes came through memory themselves.
 */
#ifndef KVCORE_BASE_BYTES_H
#define KVCORE_BASE_BYTES_H

#include <stdint.h>
#include <string.h>

#define BYTES_NATIVE_LE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

struct le16 {
	uint8_t b[2];
};
struct le32 {
	uint8_t b[4];
};
struct le64 {
	uint8_t b[8];
};

static inline uint16_t le16_get(struct le16 v)
{
#if BYTES_NATIVE_LE
	uint16_t r;

	memcpy(&r, &v, sizeof(r));
	return r;
#else
	return (uint16_t)(v.b[0] | v.b[1] << 8);
#endif
}

static inline struct le16 le16_of(uint16_t v)
{
	return (struct le16){{(uint8_t)v, (uint8_t)(v >> 8)}};
}

static inline uint32_t le32_get(struct le32 v)
{
#if BYTES_NATIVE_LE
	uint32_t r;

	memcpy(&r, &v, sizeof(r));
	return r;
#else
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 |
	       (uint32_t)v.b[3] << 24;
#endif
}

static inline struct le32 le32_of(uint32_t v)
{
	return (struct le32){
		{(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)}};
}

static inline uint64_t le64_get(struct le64 v)
{
	uint64_t r = 0;

#if BYTES_NATIVE_LE
	memcpy(&r, &v, sizeof(r));
#else
	for (int i = 7; i >= 0; i--)
		r = r << 8 | v.b[i];
#endif
	return r;
}

static inline struct le64 le64_of(uint64_t v)
{
	struct le64 r;

#if BYTES_NATIVE_LE
	memcpy(&r, &v, sizeof(r));
#else
	for (int i = 0; i < 8; i++) {
		r.b[i] = (uint8_t)v;
		v >>= 8;
	}
#endif
	return r;
}

static inline void be16_put(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline uint16_t be16_at(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void be32_put(uint8_t *p, uint32_t v)
{
	be16_put(p, (uint16_t)(v >> 16));
	be16_put(p + 2, (uint16_t)v);
}

static inline uint32_t be32_at(const uint8_t *p)
{
#if BYTES_NATIVE_LE
	uint32_t r;

	memcpy(&r, p, sizeof(r));
	return __builtin_bswap32(r);
#else
	return (uint32_t)be16_at(p) << 16 | be16_at(p + 2);
#endif
}

static inline void be64_put(uint8_t *p, uint64_t v)
{
	be32_put(p, (uint32_t)(v >> 32));
	be32_put(p + 4, (uint32_t)v);
}

static inline uint64_t be64_at(const uint8_t *p)
{
#if BYTES_NATIVE_LE
	uint64_t r;

	memcpy(&r, p, sizeof(r));
	return __builtin_bswap64(r);
#else
	return (uint64_t)be32_at(p) << 32 | be32_at(p + 4);
#endif
}

#endif
