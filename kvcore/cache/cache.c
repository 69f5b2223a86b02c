/* SPDX-License-Identifier: MIT */
/*
 * The page cache: a hash table and lists of pages a shard, one budget for all.
 *
 * A hit takes no lock: it walks the bucket's chain, pins the page by a compare-and-swap of
 * its state, which fails unless the page is cached at that moment, and then looks whether it
 * is still the page that was meant, since its descriptor may have been reused in between. Whatever
 * goes wrong on that way looks like a miss, and a miss is decided under the shard's mutex. So is
 * the second use of a page, which moves it from one list to the other.
 *
 * Room is made before a page goes in (cache_lru.c).
 */
#include "kvcore/cache/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/cache/cache_internal.h"

#define SHARDS_MAX	16U
#define SHARD_BYTES_MIN ((size_t)2 * 1024 * 1024) /* a smaller share is not worth a shard */
#define BUCKETS_MIN	16U
#define BUCKET_BYTES	4096U /* of the budget a bucket: about a page each */
#define DROP_BATCH	1024U /* buckets looked at in one holding of the mutex */
#define HELD_SHARE	4U    /* of the budget, a quarter, may be held */

/* Between finding a page and pinning it: a test puts an eviction here. */
#ifndef CACHE_GAP
#define CACHE_GAP(c) ((void)(c))
#endif

/* ---- lookup ---------------------------------------------------------------- */

/* On the second use. */
static void promote(struct cache *c, struct cache_shard *s, struct cache_desc *d)
{
	os_mutex_lock(&s->mu);
	if (d->part == CACHE_PROBATIONARY &&
	    atomic_load_explicit(&d->state, memory_order_relaxed) & CACHE_CACHED) {
		cache_lru_remove(s, d);
		cache_lru_protect(c, s, d);
	}
	os_mutex_unlock(&s->mu);
}

/*
 * Pin the page if it is cached. Acquire pairs with the release of insert_or_use(): the pin is of
 * that life of the descriptor whose state it changed, and sees its content and its key.
 */
static bool pin(struct cache_desc *d, enum cache_priority prio, uint32_t *before)
{
	uint32_t used = prio == CACHE_ONCE ? 0 : CACHE_USED;
	uint32_t state = atomic_load_explicit(&d->state, memory_order_relaxed);

	do {
		if (!(state & CACHE_CACHED))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(
		&d->state, &state, (state + 1) | used, memory_order_acquire, memory_order_relaxed));
	*before = state;
	return true;
}

/* @d had the key when it was looked at. NULL: it has not any more. */
static struct cache_desc *pin_found(struct cache *c, struct cache_shard *s, struct cache_desc *d,
				    struct cache_key key, enum cache_priority prio)
{
	uint32_t before;

	CACHE_GAP(c);
	if (!pin(d, prio, &before))
		return NULL;
	if (!cache_is_key(d, key)) { /* reused for another page */
		cache_page_unref(c, d);
		return NULL;
	}
	if (prio != CACHE_ONCE && !(before & CACHE_SETTLED))
		promote(c, s, d);
	return d;
}

/* Under the mutex: pin the page of that key and note the use. NULL: it is not there. */
static struct cache_desc *use_locked(struct cache *c, struct cache_shard *s, struct cache_key key,
				     uint64_t hash, enum cache_priority prio) KV_REQUIRES(s->mu)
{
	struct cache_desc *d =
		atomic_load_explicit(cache_bucket_of(c, s, hash), memory_order_relaxed);
	uint32_t before;

	while (d && !cache_is_key(d, key))
		d = atomic_load_explicit(&d->chain, memory_order_relaxed);
	if (!d || !pin(d, prio, &before))
		return NULL;
	if (prio != CACHE_ONCE && d->part == CACHE_PROBATIONARY) {
		cache_lru_remove(s, d);
		cache_lru_protect(c, s, d);
	}
	return d;
}

struct cache_page *cache_lookup(struct cache *c, struct cache_key key, enum cache_priority prio)
{
	uint64_t hash = cache_hash(key);
	struct cache_shard *s = cache_shard_of(c, hash);
	struct cache_desc *d = cache_page_find(c, s, key, hash);

	if (d)
		d = pin_found(c, s, d, key, prio);
	if (!d) {
		os_mutex_lock(&s->mu);
		d = use_locked(c, s, key, hash, prio);
		s->misses += !d;
		os_mutex_unlock(&s->mu);
	}
	if (!d)
		return NULL;
	os_stats_add(&c->stats, OS_STAT_cache_hits, 1);
	return &d->view;
}

/* ---- insertion ------------------------------------------------------------- */

/* Hand a page out uncached, for there is no room. */
static int hand_out(struct cache *c, struct cache_key key, struct cache_page view,
		    struct cache_desc **out)
{
	struct cache_desc *d = aligned_alloc(CACHE_LINE, sizeof(*d));

	if (!d)
		return -ENOMEM;
	memset(d, 0, sizeof(*d));
	d->view = view;
	d->part = CACHE_UNCACHED;
	atomic_init(&d->state, 1);
	atomic_init(&d->owner, key.owner);
	atomic_init(&d->off, key.off);
	cache_add(&c->loose_count, 1);
	*out = d;
	return 0;
}

/* Make a descriptor a cached page, pinned once. */
static void publish(struct cache *c, struct cache_shard *s, struct cache_desc *d, uint64_t hash,
		    enum cache_priority prio) KV_REQUIRES(s->mu)
{
	struct cache_desc *_Atomic *bucket = cache_bucket_of(c, s, hash);

	atomic_store_explicit(&d->chain, atomic_load_explicit(bucket, memory_order_relaxed),
			      memory_order_relaxed);
	/* Nobody changes the state of a page that is not cached. Release: what was written to the
	 * descriptor before belongs to this life of it. */
	atomic_store_explicit(&d->state, CACHE_CACHED | 1, memory_order_release);
	atomic_store_explicit(bucket, d, memory_order_release);
	if (prio == CACHE_HIGH)
		cache_lru_protect(c, s, d);
	else if (prio == CACHE_ONCE)
		cache_lru_add_oldest(s, d, CACHE_PROBATIONARY);
	else
		cache_lru_add_newest(s, d, CACHE_PROBATIONARY);
}

/* A descriptor for a page that is not there yet, in *fresh, or the page, pinned, in *found. */
static int prepare(struct cache *c, struct cache_shard *s, struct cache_key key,
		   enum cache_priority prio, struct cache_desc **fresh, struct cache_desc **found)
{
	os_mutex_lock(&s->mu);
	*found = use_locked(c, s, key, cache_hash(key), prio);
	*fresh = *found ? NULL : cache_page_take(c, s);
	os_mutex_unlock(&s->mu);
	return *found || *fresh ? 0 : -ENOMEM;
}

/* Put a page, which has room by now, into its shard, or find that it is there. */
static struct cache_desc *insert_or_use(struct cache *c, struct cache_shard *s,
					struct cache_desc *fresh, enum cache_priority prio)
{
	struct cache_key key = cache_key_of(fresh);
	uint64_t hash = cache_hash(key);
	struct cache_desc *d;

	os_mutex_lock(&s->mu);
	d = use_locked(c, s, key, hash, prio);
	if (!d)
		publish(c, s, fresh, hash, prio);
	os_mutex_unlock(&s->mu);
	return d ? d : fresh;
}

/* @fresh: a descriptor of the shard. Takes @view's data over if it succeeds. */
static int insert_fresh(struct cache *c, struct cache_desc *fresh, struct cache_key key,
			struct cache_page view, enum cache_priority prio, struct cache_desc **out)
{
	uint64_t hash = cache_hash(key);
	struct cache_shard *s = cache_shard_of(c, hash);
	struct cache_desc *d;
	bool room;
	int err;

	cache_add(&c->page_bytes, cache_cost(view.len));
	room = !cache_over_budget(c) || cache_lru_make_room(c, (size_t)(s - c->shards));
	if (!room) {
		cache_sub(&c->page_bytes, cache_cost(view.len));
		err = hand_out(c, key, view, out);
		cache_page_free_all(s, fresh);
		return err;
	}
	fresh->view = view;
	atomic_store_explicit(&fresh->owner, key.owner, memory_order_relaxed);
	atomic_store_explicit(&fresh->off, key.off, memory_order_relaxed);
	d = insert_or_use(c, s, fresh, prio);
	if (d != fresh) {
		cache_sub(&c->page_bytes, cache_cost(view.len));
		cache_page_free_all(s, fresh);
	}
	*out = d;
	return 0;
}

int cache_insert(struct cache *c, struct cache_key key, uint8_t *data, size_t len,
		 enum cache_priority prio, struct cache_page **out)
{
	struct cache_shard *s = cache_shard_of(c, cache_hash(key));
	struct cache_desc *fresh, *d;
	int err;

	err = prepare(c, s, key, prio, &fresh, &d);
	if (!err && !d) {
		err = insert_fresh(c, fresh, key, (struct cache_page){data, len}, prio, &d);
		if (!err)
			data = NULL;
	}
	free(data);
	if (!err)
		*out = &d->view;
	return err;
}

/* ---- pins and holds -------------------------------------------------------- */

void cache_unpin(struct cache *c, struct cache_page *page)
{
	cache_page_unref(c, KV_CONTAINER_OF(page, struct cache_desc, view));
}

static bool is_cached(struct cache_desc *d)
{
	return atomic_load_explicit(&d->state, memory_order_relaxed) & CACHE_CACHED;
}

bool cache_hold(struct cache *c, struct cache_page *page)
{
	struct cache_desc *d = KV_CONTAINER_OF(page, struct cache_desc, view);
	struct cache_shard *s = cache_shard_of(c, cache_hash(cache_key_of(d)));
	bool ok;

	if (cache_load(&c->held) + cache_cost(page->len) > c->budget / HELD_SHARE)
		return false;
	os_mutex_lock(&s->mu);
	ok = is_cached(d) && d->part != CACHE_HELD;
	if (ok) {
		cache_lru_remove(s, d);
		cache_lru_add_newest(s, d, CACHE_HELD);
		cache_add(&c->held, cache_cost(page->len));
	}
	os_mutex_unlock(&s->mu);
	return ok;
}

void cache_let_go(struct cache *c, struct cache_page *page)
{
	struct cache_desc *d = KV_CONTAINER_OF(page, struct cache_desc, view);
	struct cache_shard *s = cache_shard_of(c, cache_hash(cache_key_of(d)));

	os_mutex_lock(&s->mu);
	if (is_cached(d)) {
		cache_lru_remove(s, d);
		cache_lru_protect(c, s, d);
	}
	os_mutex_unlock(&s->mu);
	cache_sub(&c->held, cache_cost(page->len));
	cache_page_unref(c, d);
}

/* ---- the rest -------------------------------------------------------------- */

/*
 * Detach an owner's pages from some buckets. Return those that nobody pins, chained; the others
 * are loose from now on, and go with their last pin.
 */
static struct cache_desc *drop_batch(struct cache *c, struct cache_shard *s, uint64_t owner,
				     size_t from) KV_REQUIRES(s->mu)
{
	struct cache_desc *gone = NULL;
	struct cache_desc *d, *next;
	uint32_t before;

	for (size_t i = from; i < from + DROP_BATCH && i < c->bucket_count; i++) {
		for (d = atomic_load_explicit(&s->buckets[i], memory_order_relaxed); d; d = next) {
			next = atomic_load_explicit(&d->chain, memory_order_relaxed);
			if (cache_key_of(d).owner != owner)
				continue;
			cache_lru_detach(c, s, d);
			cache_add(&c->loose_count, 1); /* before it can be given up */
			before = atomic_fetch_and_explicit(&d->state, CACHE_PINS,
							   memory_order_seq_cst);
			if (before & CACHE_PINS)
				continue;
			cache_sub(&c->loose_count, 1);
			d->newer = gone;
			gone = d;
		}
	}
	return gone;
}

void cache_drop_owner(struct cache *c, uint64_t owner)
{
	for (unsigned n = 0; n < c->shard_count; n++) {
		struct cache_shard *s = &c->shards[n];

		for (size_t i = 0; i < c->bucket_count; i += DROP_BATCH) {
			struct cache_desc *gone;

			os_mutex_lock(&s->mu);
			gone = drop_batch(c, s, owner, i);
			os_mutex_unlock(&s->mu);
			cache_glance_wait(c, gone);
			cache_page_free_all(s, gone);
		}
	}
}

void cache_charge(struct cache *c, size_t bytes)
{
	cache_add(&c->charged, bytes);
	if (cache_over_budget(c))
		cache_lru_make_room(c, os_thread_hint());
}

void cache_uncharge(struct cache *c, size_t bytes)
{
	cache_sub(&c->charged, bytes);
}

void cache_get_stat(struct cache *c, struct cache_stat *out)
{
	struct cache_stat st = {.budget = c->budget};

	st.hits = os_stats_sum(&c->stats, OS_STAT_cache_hits);
	for (unsigned i = 0; i < c->shard_count; i++) {
		struct cache_shard *s = &c->shards[i];

		os_mutex_lock(&s->mu);
		st.misses += s->misses;
		st.evictions += s->evictions;
		os_mutex_unlock(&s->mu);
	}
	st.page_bytes = cache_load(&c->page_bytes);
	st.charged_bytes = cache_load(&c->charged);
	*out = st;
}

static int shard_init(struct cache *c, struct cache_shard *s)
{
	int err;

	s->buckets = calloc(c->bucket_count, sizeof(*s->buckets));
	if (!s->buckets)
		return -ENOMEM;
	err = os_mutex_init(&s->mu, OS_RANK_CACHE);
	if (err) {
		free(s->buckets);
		return err;
	}
	cache_add(&c->page_bytes, c->bucket_count * sizeof(*s->buckets));
	return 0;
}

int cache_new(size_t budget, struct cache **out)
{
	struct cache *c = calloc(1, sizeof(*c));
	unsigned shards = SHARDS_MAX;
	int err = 0;

	if (!c)
		return -ENOMEM;
	while (shards > 1 && budget / shards < SHARD_BYTES_MIN)
		shards /= 2;
	c->budget = budget;
	c->bucket_count = BUCKETS_MIN;
	while (c->bucket_count * BUCKET_BYTES < budget / shards)
		c->bucket_count *= 2;
	c->shards = aligned_alloc(CACHE_LINE, shards * sizeof(struct cache_shard));
	c->glances = aligned_alloc(CACHE_LINE, CACHE_GLANCES * sizeof(struct cache_glance));
	if (!c->shards || !c->glances) {
		free(c->shards);
		free(c->glances);
		free(c);
		return -ENOMEM;
	}
	memset(c->shards, 0, shards * sizeof(struct cache_shard));
	memset(c->glances, 0, CACHE_GLANCES * sizeof(struct cache_glance));
	while (!err && c->shard_count < shards) {
		err = shard_init(c, &c->shards[c->shard_count]);
		if (!err)
			c->shard_count++;
	}
	if (err) {
		cache_free(c);
		return err;
	}
	*out = c;
	return 0;
}

static void shard_fini(struct cache *c, struct cache_shard *s)
{
	struct cache_desc *d, *chunk;

	for (size_t b = 0; b < c->bucket_count; b++) {
		d = atomic_load_explicit(&s->buckets[b], memory_order_acquire);
		for (; d; d = atomic_load_explicit(&d->chain, memory_order_relaxed)) {
			KV_ASSERT(!(atomic_load(&d->state) & CACHE_PINS));
			free((void *)(uintptr_t)d->view.data);
		}
	}
	while ((chunk = s->chunks)) {
		s->chunks = chunk->newer;
		free(chunk);
	}
	free(s->buckets);
	os_mutex_fini(&s->mu);
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->shard_count; i++)
		shard_fini(c, &c->shards[i]);
	KV_ASSERT(cache_load(&c->loose_count) == 0);
	free(c->shards);
	free(c->glances);
	free(c);
}
