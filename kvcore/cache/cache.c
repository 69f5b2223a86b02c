/* SPDX-License-Identifier: MIT */
/*
 * The page cache: a hash table and two LRU lists a shard, one budget for all.
 *
 * A page is counted: one reference for being cached, one for each pin. Pins are
 * taken under the shard's mutex and released without it, so a page that has
 * only the cache's reference while the mutex is held can be evicted.
 *
 * Room is made before a page goes in, first from the probationary lists of all
 * shards (its own first), then from the protected ones, one mutex at a time.
 * What is evicted is freed after the mutex is released.
 */
#include "kvcore/cache/cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/os/os_thread.h"

#define SHARDS_MAX	 16U
#define SHARD_BYTES_MIN	 ((size_t)2 * 1024 * 1024) /* a smaller share is not worth a shard */
#define BUCKETS_MIN	 64U
#define DROP_BATCH	 1024U /* buckets looked at in one holding of the mutex */
#define CACHE_LINE	 64U
#define MALLOC_OVERHEAD	 16U /* bytes that the allocator adds to a block, about */
#define PROTECTED_EIGHTS 6U  /* of the pages' room: 3/4 */
#define HELD_SHARE	 4U  /* of the budget, a quarter, may be held */

/* Eviction looks into the first two; a page that is held is in the third. */
enum part { PROBATIONARY, PROTECTED, EVICTABLE_COUNT, HELD = EVICTABLE_COUNT, PART_COUNT };

struct page {
	struct cache_page view;
	uint8_t *data;	       /* [const] heap; what view shows */
	struct cache_key key;  /* [const] */
	uint64_t hash;	       /* [const] */
	size_t cost;	       /* [const] bytes with bookkeeping */
	_Atomic unsigned refs; /* last one out frees; acq_rel, so that it sees all uses */
	bool loose;	       /* [shard] not in the table (any more) */
	enum part part;	       /* [shard] */
	struct page *chain;    /* [shard] next in the bucket; when evicted, next to free */
	struct page *newer;    /* [shard] */
	struct page *older;    /* [shard] */
};

struct lru {
	struct page *newest;
	struct page *oldest;
	size_t bytes;
};

struct shard {
	_Alignas(CACHE_LINE) struct os_mutex mu;
	struct page **buckets; /* [mu] heap */
	size_t bucket_count;   /* [mu] power of 2 */
	size_t page_count;     /* [mu] */
	struct lru lru[PART_COUNT];
	uint64_t hits, misses, evictions; /* [mu] */
};

struct cache {
	size_t budget;		   /* [const] */
	unsigned shard_count;	   /* [const] power of 2 */
	struct shard *shards;	   /* [const] heap, aligned */
	_Atomic size_t page_bytes; /* of all cached pages and tables; changed under a shard's mutex
				    * or before insertion; relaxed, it only steers eviction */
	_Atomic size_t charged;	   /* as page_bytes */
	_Atomic size_t held;	   /* bytes of held pages; relaxed, a limit to within a few pages */
	_Atomic size_t loose_count; /* pinned pages that are not in a table; relaxed */
};

/* ---- accounting ---------------------------------------------------------- */

static size_t load(_Atomic size_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static void add(_Atomic size_t *v, size_t n)
{
	atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

static void sub(_Atomic size_t *v, size_t n)
{
	size_t before = atomic_fetch_sub_explicit(v, n, memory_order_relaxed);

	KV_ASSERT(before >= n);
}

static bool over_budget(struct cache *c)
{
	return load(&c->page_bytes) + load(&c->charged) > c->budget;
}

/* How many bytes of a shard may be protected. */
static size_t protected_max(struct cache *c)
{
	size_t charged = load(&c->charged);

	if (charged >= c->budget)
		return 0;
	return (c->budget - charged) / c->shard_count / 8 * PROTECTED_EIGHTS;
}

/* ---- lists and tables ---------------------------------------------------- */

static void lru_remove(struct shard *s, struct page *p)
{
	struct lru *l = &s->lru[p->part];

	if (p->newer)
		p->newer->older = p->older;
	else
		l->newest = p->older;
	if (p->older)
		p->older->newer = p->newer;
	else
		l->oldest = p->newer;
	p->newer = NULL;
	p->older = NULL;
	l->bytes -= p->cost;
}

static void lru_add_newest(struct shard *s, struct page *p, enum part part)
{
	struct lru *l = &s->lru[part];

	p->part = part;
	p->older = l->newest;
	if (l->newest)
		l->newest->newer = p;
	else
		l->oldest = p;
	l->newest = p;
	l->bytes += p->cost;
}

static void lru_add_oldest(struct shard *s, struct page *p, enum part part)
{
	struct lru *l = &s->lru[part];

	p->part = part;
	p->newer = l->oldest;
	if (l->oldest)
		l->oldest->older = p;
	else
		l->newest = p;
	l->oldest = p;
	l->bytes += p->cost;
}

/* To the protected part's new end; what overflows it goes back on probation. */
static void protect(struct cache *c, struct shard *s, struct page *p)
{
	struct lru *l = &s->lru[PROTECTED];
	size_t max = protected_max(c);

	lru_add_newest(s, p, PROTECTED);
	while (l->bytes > max && l->oldest != l->newest) {
		struct page *q = l->oldest;

		lru_remove(s, q);
		lru_add_newest(s, q, PROBATIONARY);
	}
}

static struct page **bucket_of(struct shard *s, uint64_t hash)
{
	return &s->buckets[hash & (s->bucket_count - 1)];
}

static struct page *table_find(struct shard *s, struct cache_key key, uint64_t hash)
{
	struct page *p = *bucket_of(s, hash);

	while (p && (p->key.owner != key.owner || p->key.off != key.off))
		p = p->chain;
	return p;
}

/* Double the table when it has a page a bucket. Without memory the chains just get longer. */
static void table_grow(struct cache *c, struct shard *s)
{
	struct page **old = s->buckets;
	size_t old_count = s->bucket_count;
	struct page **fresh;

	if (s->page_count < old_count)
		return;
	fresh = calloc(2 * old_count, sizeof(struct page *));
	if (!fresh)
		return;
	s->buckets = fresh;
	s->bucket_count = 2 * old_count;
	for (size_t i = 0; i < old_count; i++)
		while (old[i]) {
			struct page *p = old[i];

			old[i] = p->chain;
			p->chain = *bucket_of(s, p->hash);
			*bucket_of(s, p->hash) = p;
		}
	free(old);
	add(&c->page_bytes, old_count * sizeof(struct page *));
}

/* ---- pages --------------------------------------------------------------- */

static void page_free(struct page *p)
{
	free(p->data);
	free(p);
}

static void page_unref(struct cache *c, struct page *p)
{
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
		return;
	/* Not in a table, or the cache would hold a reference. */
	sub(&c->loose_count, 1);
	page_free(p);
}

static bool is_pinned(const struct page *p)
{
	return atomic_load_explicit(&p->refs, memory_order_acquire) > 1;
}

/* Out of table and list; the cache's reference is the caller's now. */
static void page_detach(struct cache *c, struct shard *s, struct page *p)
{
	struct page **link = bucket_of(s, p->hash);

	while (*link != p)
		link = &(*link)->chain;
	*link = p->chain;
	p->chain = NULL;
	lru_remove(s, p);
	s->page_count--;
	p->loose = true;
	sub(&c->page_bytes, p->cost);
	add(&c->loose_count, 1);
}

static void free_chain(struct cache *c, struct page *p)
{
	while (p) {
		struct page *next = p->chain;

		page_unref(c, p);
		p = next;
	}
}

/* ---- eviction ------------------------------------------------------------ */

/* Evict from the old end of a part until the budget holds. */
static void evict(struct cache *c, struct shard *s, enum part part)
{
	struct page *victims = NULL;
	struct page *p;

	os_mutex_lock(&s->mu);
	p = s->lru[part].oldest;
	while (p && over_budget(c)) {
		struct page *newer = p->newer;

		if (!is_pinned(p)) {
			page_detach(c, s, p);
			s->evictions++;
			p->chain = victims;
			victims = p;
		}
		p = newer;
	}
	os_mutex_unlock(&s->mu);
	free_chain(c, victims);
}

/* Return whether the budget holds now. */
static bool make_room(struct cache *c, size_t first)
{
	for (unsigned part = 0; part < EVICTABLE_COUNT; part++)
		for (unsigned i = 0; i < c->shard_count && over_budget(c); i++)
			evict(c, &c->shards[(first + i) & (c->shard_count - 1)], (enum part)part);
	return !over_budget(c);
}

/* ---- lookup and insertion ------------------------------------------------ */

static uint64_t key_hash(struct cache_key key)
{
	return hash_u64(key.owner * 0x9e3779b97f4a7c15U + key.off);
}

static size_t shard_no(const struct cache *c, uint64_t hash)
{
	return (size_t)(hash >> 48) & (c->shard_count - 1); /* buckets use the low bits */
}

/* Pin a page that is in the table and note the use. */
static void use(struct cache *c, struct shard *s, struct page *p, enum cache_priority prio)
{
	atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	if (prio == CACHE_ONCE || s->lru[PROTECTED].newest == p || p->part == HELD)
		return;
	lru_remove(s, p);
	protect(c, s, p);
}

struct cache_page *cache_lookup(struct cache *c, struct cache_key key, enum cache_priority prio)
{
	uint64_t hash = key_hash(key);
	struct shard *s = &c->shards[shard_no(c, hash)];
	struct page *p;

	os_mutex_lock(&s->mu);
	p = table_find(s, key, hash);
	if (p) {
		use(c, s, p, prio);
		s->hits++;
	} else {
		s->misses++;
	}
	os_mutex_unlock(&s->mu);
	return p ? &p->view : NULL;
}

/* Put a page, which has room by now, into its shard, or find that it is there. */
static struct page *insert_or_use(struct cache *c, struct shard *s, struct page *fresh,
				  enum cache_priority prio)
{
	struct page *p;

	os_mutex_lock(&s->mu);
	p = table_find(s, fresh->key, fresh->hash);
	if (p) {
		use(c, s, p, prio);
		os_mutex_unlock(&s->mu);
		return p;
	}
	table_grow(c, s);
	fresh->chain = *bucket_of(s, fresh->hash);
	*bucket_of(s, fresh->hash) = fresh;
	s->page_count++;
	atomic_store_explicit(&fresh->refs, 2, memory_order_relaxed);
	if (prio == CACHE_HIGH)
		protect(c, s, fresh);
	else if (prio == CACHE_ONCE)
		lru_add_oldest(s, fresh, PROBATIONARY);
	else
		lru_add_newest(s, fresh, PROBATIONARY);
	os_mutex_unlock(&s->mu);
	return fresh;
}

int cache_insert(struct cache *c, struct cache_key key, uint8_t *data, size_t len,
		 enum cache_priority prio, struct cache_page **out)
{
	struct page *fresh = calloc(1, sizeof(*fresh));
	struct page *p;
	size_t first;

	if (!fresh) {
		free(data);
		return -ENOMEM;
	}
	fresh->view = (struct cache_page){data, len};
	fresh->data = data;
	fresh->key = key;
	fresh->hash = key_hash(key);
	fresh->cost = len + sizeof(*fresh) + 2 * MALLOC_OVERHEAD;
	atomic_init(&fresh->refs, 1);
	first = shard_no(c, fresh->hash);
	add(&c->page_bytes, fresh->cost);
	if (over_budget(c) && !make_room(c, first)) {
		sub(&c->page_bytes, fresh->cost);
		fresh->loose = true;
		add(&c->loose_count, 1);
		*out = &fresh->view;
		return 0;
	}
	p = insert_or_use(c, &c->shards[first], fresh, prio);
	if (p != fresh) {
		sub(&c->page_bytes, fresh->cost);
		page_free(fresh);
	} else if (over_budget(c)) { /* the table grew, or others were at it */
		make_room(c, first);
	}
	*out = &p->view;
	return 0;
}

void cache_unpin(struct cache *c, struct cache_page *page)
{
	page_unref(c, KV_CONTAINER_OF(page, struct page, view));
}

bool cache_hold(struct cache *c, struct cache_page *page)
{
	struct page *p = KV_CONTAINER_OF(page, struct page, view);
	struct shard *s = &c->shards[shard_no(c, p->hash)];
	bool ok;

	if (load(&c->held) + p->cost > c->budget / HELD_SHARE)
		return false;
	os_mutex_lock(&s->mu);
	ok = !p->loose && p->part != HELD;
	if (ok) {
		lru_remove(s, p);
		lru_add_newest(s, p, HELD);
		add(&c->held, p->cost);
	}
	os_mutex_unlock(&s->mu);
	return ok;
}

void cache_let_go(struct cache *c, struct cache_page *page)
{
	struct page *p = KV_CONTAINER_OF(page, struct page, view);
	struct shard *s = &c->shards[shard_no(c, p->hash)];

	os_mutex_lock(&s->mu);
	if (!p->loose) {
		lru_remove(s, p);
		protect(c, s, p);
	}
	os_mutex_unlock(&s->mu);
	sub(&c->held, p->cost);
	page_unref(c, p);
}

/* ---- the rest ------------------------------------------------------------ */

/* Detach an owner's pages from some buckets; return them chained. */
static struct page *drop_batch(struct cache *c, struct shard *s, uint64_t owner, size_t from)
{
	struct page *gone = NULL;

	for (size_t i = from; i < from + DROP_BATCH && i < s->bucket_count; i++) {
		struct page *p = s->buckets[i];

		while (p) {
			struct page *next = p->chain;

			if (p->key.owner == owner) {
				page_detach(c, s, p);
				p->chain = gone;
				gone = p;
			}
			p = next;
		}
	}
	return gone;
}

void cache_drop_owner(struct cache *c, uint64_t owner)
{
	for (unsigned n = 0; n < c->shard_count; n++) {
		struct shard *s = &c->shards[n];
		size_t count = 0; /* buckets when the walk began */
		size_t i = 0;
		bool more = true;

		while (more) {
			struct page *gone;

			os_mutex_lock(&s->mu);
			if (s->bucket_count != count) { /* pages moved: begin again */
				count = s->bucket_count;
				i = 0;
			}
			gone = drop_batch(c, s, owner, i);
			i += DROP_BATCH;
			more = i < count;
			os_mutex_unlock(&s->mu);
			free_chain(c, gone);
		}
	}
}

void cache_charge(struct cache *c, size_t bytes)
{
	add(&c->charged, bytes);
	if (over_budget(c))
		make_room(c, os_thread_hint());
}

void cache_uncharge(struct cache *c, size_t bytes)
{
	sub(&c->charged, bytes);
}

void cache_get_stat(struct cache *c, struct cache_stat *out)
{
	struct cache_stat st = {.budget = c->budget};

	for (unsigned i = 0; i < c->shard_count; i++) {
		struct shard *s = &c->shards[i];

		os_mutex_lock(&s->mu);
		st.hits += s->hits;
		st.misses += s->misses;
		st.evictions += s->evictions;
		os_mutex_unlock(&s->mu);
	}
	st.page_bytes = load(&c->page_bytes);
	st.charged_bytes = load(&c->charged);
	*out = st;
}

static int shard_init(struct cache *c, struct shard *s)
{
	int err;

	s->buckets = calloc(BUCKETS_MIN, sizeof(struct page *));
	if (!s->buckets)
		return -ENOMEM;
	err = os_mutex_init(&s->mu, OS_RANK_CACHE);
	if (err) {
		free(s->buckets);
		return err;
	}
	s->bucket_count = BUCKETS_MIN;
	add(&c->page_bytes, BUCKETS_MIN * sizeof(struct page *));
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
	c->shards = aligned_alloc(CACHE_LINE, shards * sizeof(struct shard));
	if (!c->shards) {
		free(c);
		return -ENOMEM;
	}
	memset(c->shards, 0, shards * sizeof(struct shard));
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

void cache_free(struct cache *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->shard_count; i++) {
		struct shard *s = &c->shards[i];

		for (size_t b = 0; b < s->bucket_count; b++)
			while (s->buckets[b]) {
				struct page *p = s->buckets[b];

				KV_ASSERT(!is_pinned(p));
				s->buckets[b] = p->chain;
				page_free(p);
			}
		free(s->buckets);
		os_mutex_fini(&s->mu);
	}
	KV_ASSERT(load(&c->loose_count) == 0);
	free(c->shards);
	free(c);
}
