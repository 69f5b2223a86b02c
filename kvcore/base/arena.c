/* SPDX-License-Identifier: MIT */
/*
 * Allocation in blocks that are freed together. Blocks grow with the arena, so
 * that a small one stays small and a large one calls the heap seldom. A large
 * piece gets a block of its own behind the current one, whose rest is not lost.
 */
#include "kvcore/base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/prefault.h"

#define ARENA_ALIGN	8U
#define ARENA_BLOCK_MIN 1024U /* what malloc() has at hand for the thread */
#define ARENA_BLOCK_MAX (256U * 1024)

struct arena_block {
	struct arena_block *next;
	uint8_t data[];
};

void arena_init(struct arena *a)
{
	a->blocks = NULL;
	a->pos = NULL;
	a->left = 0;
	atomic_init(&a->bytes, 0);
}

void arena_fini(struct arena *a)
{
	struct arena_block *block = a->blocks;

	while (block) {
		struct arena_block *next = block->next;

		free(block);
		block = next;
	}
	arena_init(a);
}

static struct arena_block *arena_block_new(struct arena *a, size_t len)
{
	struct arena_block *block = malloc(sizeof(*block) + len);

	if (!block)
		return NULL;
	prefault(block, sizeof(*block) + len);
	/* relaxed: a figure for accounting, it publishes nothing */
	atomic_fetch_add_explicit(&a->bytes, sizeof(*block) + len, memory_order_relaxed);
	return block;
}

static void *arena_alloc_own(struct arena *a, size_t len)
{
	struct arena_block *block = arena_block_new(a, len);

	if (!block)
		return NULL;
	if (a->blocks) {
		block->next = a->blocks->next;
		a->blocks->next = block;
	} else {
		block->next = NULL;
		a->blocks = block;
	}
	return block->data;
}

void *arena_alloc(struct arena *a, size_t len)
{
	struct arena_block *block;
	size_t size;
	void *p;

	if (len > PTRDIFF_MAX - ARENA_BLOCK_MAX)
		return NULL;
	len = (len + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
	if (len > a->left) {
		size = arena_bytes(a) / 4;
		if (size < ARENA_BLOCK_MIN)
			size = ARENA_BLOCK_MIN;
		if (size > ARENA_BLOCK_MAX)
			size = ARENA_BLOCK_MAX;
		size -= sizeof(*block);
		if (len > size / 4)
			return arena_alloc_own(a, len);
		block = arena_block_new(a, size);
		if (!block)
			return NULL;
		block->next = a->blocks;
		a->blocks = block;
		a->pos = block->data;
		a->left = size;
	}
	if (!a->pos) /* only for a first piece of no bytes */
		return arena_alloc_own(a, ARENA_ALIGN);
	p = a->pos;
	a->pos += len;
	a->left -= len;
	return p;
}

uint8_t *arena_copy(struct arena *a, struct kv_slice s)
{
	uint8_t *p = arena_alloc(a, s.len);

	if (p && s.len)
		memcpy(p, s.data, s.len);
	return p;
}

size_t arena_bytes(const struct arena *a)
{
	return atomic_load_explicit(&a->bytes, memory_order_relaxed);
}
