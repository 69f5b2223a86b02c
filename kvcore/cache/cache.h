/* SPDX-License-Identifier: MIT */
/*
 * The page cache: table pages and filters in memory, decoded from disk once.
 * One budget covers cached pages, pages on their way to the disk (writeback.h)
 * and whatever else is charged to it (memtables), and is a hard cap for pages:
 * an insertion first evicts, and if everything is pinned the page is handed to
 * the caller uncached (freed at its unpin).
 *
 * Replacement: LRU in two parts (segmented LRU, Karedla et al. 1994). A page
 * enters the probationary part; a second use moves it to the protected part,
 * which holds at most 3/4 of the pages' bytes and overflows back into the
 * probationary one. A scan therefore cannot push out what is used repeatedly.
 *
 * The cache is split into shards by key, each with a mutex (OS_RANK_CACHE) held
 * for a few instructions and never across I/O. A hit takes none, but for the second
 * use of a page, and a glance at a page that is in use writes nothing shared at all.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef KVCORE_CACHE_CACHE_H
#define KVCORE_CACHE_CACHE_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

struct cache;

struct cache_key {
	uint64_t owner; /* table id */
	uint64_t off;	/* of the page within it */
};

/* A pinned page: content constant, valid until cache_unpin(). */
struct cache_page {
	const uint8_t *data; /* [const] */
	size_t len;	     /* [const] */
};

enum cache_priority {
	CACHE_NORMAL,
	CACHE_HIGH, /* filters, inner pages: enter the protected part at once */
	CACHE_ONCE, /* scans, compaction: a hit does not promote; evicted first */
};

/* @budget: bytes. Return: 0, -ENOMEM. */
int cache_new(size_t budget, struct cache **out) KV_MUST_CHECK;
/* No page may be pinned. */
void cache_free(struct cache *c);

/* The page, pinned, or NULL. */
struct cache_page *cache_lookup(struct cache *c, struct cache_key key, enum cache_priority prio);

/*
 * Put a page in. @data came from malloc and now belongs to the cache, also on
 * failure. If the key is there already, that page is returned and @data freed.
 * Return: 0 with the page pinned, -ENOMEM.
 */
int cache_insert(struct cache *c, struct cache_key key, uint8_t *data, size_t len,
		 enum cache_priority prio, struct cache_page **out) KV_MUST_CHECK;

void cache_unpin(struct cache *c, struct cache_page *page);

/*
 * Look at a page for a moment: as a pin, but it writes nothing that other readers of the page
 * have to fetch. Nothing may be waited for, and no other glance begun, before its end, and nobody
 * may drop the owner until then.
 * @glance: for cache_glance_end()
 * Return: the page, or NULL: it is not there, or cannot be had this way now; cache_lookup() it.
 */
struct cache_glance;
const struct cache_page *cache_glance(struct cache *c, struct cache_key key,
				      struct cache_glance **glance);
void cache_glance_end(struct cache_glance *glance);

/*
 * Keep a pinned page at hand: it leaves the reach of eviction, and the pin becomes the
 * hold's, until cache_let_go(). Readers of the holder then need no lookup and no pin
 * of their own. Held pages are at most a quarter of the budget together.
 * Return: false if they are already, or if the page is held; the pin stays the caller's.
 */
bool cache_hold(struct cache *c, struct cache_page *page);
void cache_let_go(struct cache *c, struct cache_page *page);

/* Forget all pages of an owner; pinned ones go when they are unpinned. */
void cache_drop_owner(struct cache *c, uint64_t owner);

/*
 * Account memory that is not a page. Charging evicts pages to make room; it
 * never fails, since the caller already has the memory.
 */
void cache_charge(struct cache *c, size_t bytes);
void cache_uncharge(struct cache *c, size_t bytes);

struct cache_stat {
	uint64_t hits, misses, evictions;
	size_t budget, page_bytes, charged_bytes;
};
void cache_get_stat(struct cache *c, struct cache_stat *out);

#endif
