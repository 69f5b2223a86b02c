/* SPDX-License-Identifier: MIT */
/*
 * A fast 64-bit hash for filters, hash tables and the cache. Stored in filters,
 * so its values are part of the on-disk format (docs/format.md) and never
 * change. Not for checksums.
 */
#ifndef KVCORE_BASE_HASH_H
#define KVCORE_BASE_HASH_H

#include "kvcore/kv_types.h"

uint64_t hash_bytes(struct kv_slice s, uint64_t seed);
/* A bijective mix of one integer (splitmix64's finaliser). */
uint64_t hash_u64(uint64_t v);

#endif
