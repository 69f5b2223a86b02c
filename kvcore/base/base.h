/* SPDX-License-Identifier: MIT */
/* Assertions, small helpers and compiler attributes. Depends on libc only. */
#ifndef KVCORE_BASE_BASE_H
#define KVCORE_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kvcore/kv_types.h"

/*
 * KV_ASSERT states what a programmer must have got right, and stays on in
 * release builds. Bytes from disk, options and names are never asserted: they
 * are decoded and refused.
 */
#define KV_ASSERT(cond) ((cond) ? (void)0 : base_assert_failed(#cond, __FILE__, __LINE__))
#ifdef NDEBUG
#define KV_DEBUG_ASSERT(cond) ((void)sizeof(cond))
#else
#define KV_DEBUG_ASSERT(cond) KV_ASSERT(cond)
#endif

_Noreturn void base_assert_failed(const char *cond, const char *file, int line);

#define KV_ARRAY_COUNT(a)		   (sizeof(a) / sizeof((a)[0]))
#define KV_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t align_up_u64(uint64_t v, uint64_t a)
{
	return (v + a - 1) / a * a;
}

static inline uint64_t align_down_u64(uint64_t v, uint64_t a)
{
	return v / a * a;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Byte order of keys: memcmp, then the shorter one first. An empty slice may have a null
 * pointer, which memcmp() must not see. */
static inline int slice_compare(struct kv_slice a, struct kv_slice b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.data, b.data, common) : 0;

	if (order)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

static inline bool slice_equal(struct kv_slice a, struct kv_slice b)
{
	return a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len));
}

bool slice_has_prefix(struct kv_slice s, struct kv_slice prefix);
/* Length of the longest common prefix. */
size_t slice_common_prefix(struct kv_slice a, struct kv_slice b);

#endif
