/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of pages: where they come from and when they go.
 *
 * Those of cached pages come in chunks, which a shard keeps until the end, so that a reader
 * without a lock never looks at memory that is something else by now. A page that was never
 * in a table is in nobody's sight but its user's; its descriptor is a block of its own.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/cache/cache_internal.h"

static_assert(sizeof(struct cache_desc) == CACHE_LINE, "a hit looks at one line");

#define CHUNK_DESCS 64U /* the first of them links the chunks */

void cache_sub(_Atomic size_t *v, size_t n)
{
	size_t before = atomic_fetch_sub_explicit(v, n, memory_order_relaxed);

	KV_ASSERT(before >= n);
}

uint64_t cache_hash(struct cache_key key)
{
	return hash_u64(key.owner * 0x9e3779b97f4a7c15U + key.off);
}

static bool add_chunk(struct cache *c, struct cache_shard *s) KV_REQUIRES(s->mu)
{
	const size_t bytes = CHUNK_DESCS * sizeof(struct cache_desc);
	struct cache_desc *chunk = aligned_alloc(CACHE_LINE, bytes);

	if (!chunk)
		return false;
	memset(chunk, 0, bytes);
	chunk[0].newer = s->chunks;
	s->chunks = chunk;
	for (size_t i = 1; i < CHUNK_DESCS; i++)
		cache_page_give(s, &chunk[i]);
	cache_add(&c->page_bytes, bytes);
	return true;
}

struct cache_desc *cache_page_take(struct cache *c, struct cache_shard *s)
{
	struct cache_desc *d;

	if (!s->free && !add_chunk(c, s))
		return NULL;
	d = s->free;
	s->free = d->newer;
	d->newer = NULL;
	return d;
}

void cache_page_give(struct cache_shard *s, struct cache_desc *d)
{
	d->newer = s->free;
	s->free = d;
}

static void free_data(struct cache_desc *d)
{
	free((void *)(uintptr_t)d->view.data);
	d->view.data = NULL;
}

void cache_page_free_all(struct cache_shard *s, struct cache_desc *list)
{
	struct cache_desc *d;

	if (!list)
		return;
	for (d = list; d; d = d->newer)
		free_data(d);
	os_mutex_lock(&s->mu);
	while ((d = list)) {
		list = d->newer;
		cache_page_give(s, d);
	}
	os_mutex_unlock(&s->mu);
}

void cache_page_unref(struct cache *c, struct cache_desc *d)
{
	/* Release: who frees or reuses the page comes after this use; acquire: that is us. */
	uint32_t before = atomic_fetch_sub_explicit(&d->state, 1, memory_order_acq_rel);

	if ((before & (CACHE_CACHED | CACHE_PINS)) != 1)
		return;
	cache_sub(&c->loose_count, 1);
	if (d->part == CACHE_UNCACHED) {
		free_data(d);
		free(d);
		return;
	}
	d->newer = NULL;
	cache_glance_wait(c, d);
	cache_page_free_all(cache_shard_of(c, cache_hash(cache_key_of(d))), d);
}
