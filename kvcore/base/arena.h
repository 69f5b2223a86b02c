/* SPDX-License-Identifier: MIT */
/*
 * Allocation in blocks that are freed together. Pointers stay valid until
 * arena_fini(). Thread safety: callers serialise arena_alloc(); arena_bytes()
 * may be called from any thread.
 */
#ifndef KVCORE_BASE_ARENA_H
#define KVCORE_BASE_ARENA_H

#include <stdatomic.h>
#include <stddef.h>

#include "kvcore/kv_types.h"

struct arena_block;

struct arena {
	struct arena_block *blocks; /* newest first */
	uint8_t *pos;
	size_t left;
	_Atomic size_t bytes; /* [atomic] taken from the heap */
};

void arena_init(struct arena *a);
void arena_fini(struct arena *a);
/* 8-byte aligned, not zeroed; NULL when out of memory. */
void *arena_alloc(struct arena *a, size_t len);
/* A copy of @s, NULL when out of memory. */
uint8_t *arena_copy(struct arena *a, struct kv_slice s);
size_t arena_bytes(const struct arena *a);

#endif
