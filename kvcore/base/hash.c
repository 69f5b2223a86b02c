/* SPDX-License-Identifier: MIT */
/*
 * A 64-bit hash that folds 64x64 -> 128 bit products, 16 bytes a step, after
 * the idea of Wang Yi's wyhash (https://github.com/wangyi-fudan/wyhash); its
 * values are not those of wyhash. Bytes are read as little-endian numbers on
 * every machine, because filters on disk hold these values: a change of this
 * file is a change of the format, and a test pins values.
 */
#include "kvcore/base/hash.h"

#include <string.h>

#include "kvcore/base/bytes.h"

__extension__ typedef unsigned __int128 hash_u128;

/* Odd numbers of balanced bits. */
#define HASH_K0 0xa0761d6478bd642fULL
#define HASH_K1 0xe7037ed1a0b428dbULL
#define HASH_K2 0x8ebc6af09c88c6e3ULL

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
	hash_u128 product = (hash_u128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_read64(const uint8_t *p)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
#else
	struct le64 v;

	memcpy(&v, p, sizeof(v));
	return le64_get(v);
#endif
}

static inline uint64_t hash_read32(const uint8_t *p)
{
	struct le32 v;

	memcpy(&v, p, sizeof(v));
	return le32_get(v);
}

uint64_t hash_bytes(struct kv_slice s, uint64_t seed)
{
	const uint8_t *p = s.data;
	uint64_t h = hash_fold(seed ^ HASH_K0, HASH_K1);
	size_t left = s.len;
	uint64_t a = 0, b = 0;

	while (left > 16) {
		h = hash_fold(hash_read64(p) ^ HASH_K1, hash_read64(p + 8) ^ h);
		p += 16;
		left -= 16;
	}
	if (left >= 8) {
		a = hash_read64(p);
		b = hash_read64(p + left - 8);
	} else if (left >= 4) {
		a = hash_read32(p);
		b = hash_read32(p + left - 4);
	} else if (left) {
		a = (uint64_t)p[0] << 16 | (uint64_t)p[left / 2] << 8 | p[left - 1];
	}
	return hash_fold(hash_fold(a ^ HASH_K1, b ^ h) ^ HASH_K2, (uint64_t)s.len ^ HASH_K0);
}

uint64_t hash_u64(uint64_t v)
{
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ v >> 27) * 0x94d049bb133111ebULL;
	return v ^ v >> 31;
}
