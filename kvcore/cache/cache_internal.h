/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files of this layer that are the page cache: pages' descriptors and shards.
 *
 * A descriptor's memory is type-stable: it comes from chunks that are given back only with the
 * cache, so a reader may look at one that it found without a lock, whatever became of it
 * meanwhile. What it may rely on is decided by one word, the state, in which pins are
 * counted; docs/concurrency.md has the protocol and its memory orders.
 *
 *   free --insert--> CACHED --last pin gone, evicted--> free
 *                      `--owner dropped, pinned--> loose --last unpin--> free
 */
#ifndef KVCORE_CACHE_CACHE_INTERNAL_H
#define KVCORE_CACHE_CACHE_INTERNAL_H

#include <stdatomic.h>

#include "kvcore/cache/cache.h"
#include "kvcore/os/os_stats.h"
#include "kvcore/os/os_thread.h"

#define CACHE_LINE	      64U
#define CACHE_MALLOC_OVERHEAD 16U /* bytes that the allocator adds to a block, about */

/* State of a page: how often it is pinned, and flags. Without CACHED nobody pins it. */
#define CACHE_PINS    0x1fffffffU
#define CACHE_USED    0x20000000U /* since eviction looked last; of settled pages */
#define CACHE_SETTLED 0x40000000U /* not on probation */
#define CACHE_CACHED  0x80000000U /* in its shard's table */

/* Eviction looks into the first two; a page that is held is in the third. One that was handed
 * out uncached is in none, and its descriptor is a block of its own. */
enum cache_part {
	CACHE_PROBATIONARY,
	CACHE_PROTECTED,
	CACHE_HELD,
	CACHE_PART_COUNT,
	CACHE_UNCACHED = CACHE_PART_COUNT
};

/* One cache line: all that a hit looks at. */
struct cache_desc {
	struct cache_page view;		  /* [const] while cached or pinned; data is on the heap */
	_Atomic uint32_t state;		  /* [atomic] */
	enum cache_part part;		  /* [shard] */
	_Atomic uint64_t owner;		  /* [atomic] the key; constant while cached or pinned */
	_Atomic uint64_t off;		  /* [atomic] */
	struct cache_desc *_Atomic chain; /* [atomic] next in the bucket; changed by the shard */
	struct cache_desc *newer;	  /* [shard] in a list; of free or evicted ones, next */
	struct cache_desc *older;	  /* [shard] */
};

struct cache_lru {
	struct cache_desc *newest;
	struct cache_desc *oldest;
	size_t bytes;
};

struct cache_shard {
	_Alignas(CACHE_LINE) struct os_mutex mu;
	struct cache_lru lru[CACHE_PART_COUNT]; /* [mu] */
	struct cache_desc *free;		/* [mu] chained by newer */
	struct cache_desc *chunks;		/* [mu] first of each, chained by newer */
	uint64_t misses, evictions;		/* [mu] */
	/* Its pages by hash, for readers without a lock; changed under mu. */
	_Alignas(CACHE_LINE) struct cache_desc *_Atomic *buckets; /* [const] heap */
};

#define CACHE_GLANCES 64U /* at a time; more readers than that pin */

/* The page that a thread looks at, on a line of its own. */
struct cache_glance {
	_Alignas(CACHE_LINE) struct cache_desc *_Atomic page; /* [atomic] NULL: free */
};

struct cache {
	size_t budget;		    /* [const] */
	unsigned shard_count;	    /* [const] power of 2 */
	size_t bucket_count;	    /* [const] of a shard, power of 2 */
	struct cache_shard *shards; /* [const] heap, aligned */
	_Atomic size_t page_bytes;  /* of all cached pages, descriptors and tables; changed under a
				     * shard's mutex or before insertion; relaxed, it only steers
				     * eviction */
	_Atomic size_t charged;	    /* as page_bytes */
	_Atomic size_t held; /* bytes of held pages; relaxed, a limit to within a few pages */
	_Atomic size_t loose_count;   /* pinned pages that are not in a table; relaxed */
	struct os_stats stats;	      /* hits: a counter that threads do not share */
	struct cache_glance *glances; /* [const] heap, aligned */
};

/* ---- accounting ---------------------------------------------------------- */

static inline size_t cache_load(_Atomic size_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static inline void cache_add(_Atomic size_t *v, size_t n)
{
	atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

void cache_sub(_Atomic size_t *v, size_t n);

static inline bool cache_over_budget(struct cache *c)
{
	return cache_load(&c->page_bytes) + cache_load(&c->charged) > c->budget;
}

/* Bytes of the budget that a page takes, apart from its descriptor. */
static inline size_t cache_cost(size_t len)
{
	return len + CACHE_MALLOC_OVERHEAD;
}

/* ---- pages (cache_page.c) ------------------------------------------------- */

uint64_t cache_hash(struct cache_key key);
static inline struct cache_key cache_key_of(struct cache_desc *d)
{
	return (struct cache_key){atomic_load_explicit(&d->owner, memory_order_relaxed),
				  atomic_load_explicit(&d->off, memory_order_relaxed)};
}
static inline struct cache_shard *cache_shard_of(const struct cache *c, uint64_t hash)
{
	return &c->shards[(hash >> 48) & (c->shard_count - 1)]; /* buckets use the low bits */
}
static inline struct cache_desc *_Atomic *
cache_bucket_of(const struct cache *c, const struct cache_shard *s, uint64_t hash)
{
	return &s->buckets[hash & (c->bucket_count - 1)];
}

static inline bool cache_is_key(struct cache_desc *d, struct cache_key key)
{
	return atomic_load_explicit(&d->owner, memory_order_relaxed) == key.owner &&
	       atomic_load_explicit(&d->off, memory_order_relaxed) == key.off;
}

#define CACHE_WALK_MAX 64U /* steps along a chain that may lead elsewhere meanwhile */

/* Without a lock: a page that had the key when it was looked at. NULL says nothing: the chain may
 * have changed. */
static inline struct cache_desc *cache_page_find(const struct cache *c, const struct cache_shard *s,
						 struct cache_key key, uint64_t hash)
{
	struct cache_desc *d =
		atomic_load_explicit(cache_bucket_of(c, s, hash), memory_order_acquire);

	for (unsigned i = 0; d && i < CACHE_WALK_MAX; i++) {
		if (cache_is_key(d, key))
			return d;
		d = atomic_load_explicit(&d->chain, memory_order_acquire);
	}
	return NULL;
}

/* A free descriptor, NULL without memory. */
struct cache_desc *cache_page_take(struct cache *c, struct cache_shard *s) KV_REQUIRES(s->mu);
void cache_page_give(struct cache_shard *s, struct cache_desc *d) KV_REQUIRES(s->mu);
/* Give up a pin; the last one of a page that is not cached frees it. */
void cache_page_unref(struct cache *c, struct cache_desc *d);
/* Free pages that nobody pins any more, of one shard, chained by newer. Not under its mutex, and
 * not before nobody looks at them: cache_glance_wait(). */
void cache_page_free_all(struct cache_shard *s, struct cache_desc *list);

/* ---- glances (cache_glance.c) --------------------------------------------- */

/* Does somebody look at @d? To be asked after CACHED was taken off. */
bool cache_glanced_at(const struct cache *c, const struct cache_desc *d);
/* Wait until nobody looks at pages, chained by newer, that are not CACHED any more. */
void cache_glance_wait(const struct cache *c, const struct cache_desc *list);

/* ---- replacement (cache_lru.c) -------------------------------------------- */

void cache_lru_remove(struct cache_shard *s, struct cache_desc *d) KV_REQUIRES(s->mu);
void cache_lru_add_newest(struct cache_shard *s, struct cache_desc *d, enum cache_part part)
	KV_REQUIRES(s->mu);
void cache_lru_add_oldest(struct cache_shard *s, struct cache_desc *d, enum cache_part part)
	KV_REQUIRES(s->mu);
/* To the protected part's new end; what overflows it goes back on probation. */
void cache_lru_protect(struct cache *c, struct cache_shard *s, struct cache_desc *d)
	KV_REQUIRES(s->mu);
/* Out of table and list, not counted any more; its state is the caller's affair. */
void cache_lru_detach(struct cache *c, struct cache_shard *s, struct cache_desc *d)
	KV_REQUIRES(s->mu);
/* Evict, beginning with shard @first, until the budget holds. Return whether it does. */
bool cache_lru_make_room(struct cache *c, size_t first);

#endif
