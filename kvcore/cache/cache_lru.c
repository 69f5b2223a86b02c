/* SPDX-License-Identifier: MIT */
/*
 * Replacement: which pages go when the budget is spent.
 *
 * The probationary list is in order of insertion; a page leaves it for the protected list
 * with its second use, at once. In the protected list uses only set a flag, so that a hit
 * writes nothing shared but the page's own state; a page that reaches the old end with the flag
 * set starts again at the new end (the second chance of Corbato's clock, 1968). How many may
 * do so in a row is limited, so that no insertion walks a long list.
 */
#include "kvcore/base/base.h"
#include "kvcore/cache/cache_internal.h"

#define PROTECTED_EIGHTS 6U /* of the pages' room: 3/4 */
#define CHANCES_MAX	 8U /* second chances given for each page that becomes protected */

/* How many bytes of a shard may be protected. */
static size_t protected_max(struct cache *c)
{
	size_t charged = cache_load(&c->charged);

	if (charged >= c->budget)
		return 0;
	return (c->budget - charged) / c->shard_count / 8 * PROTECTED_EIGHTS;
}

void cache_lru_remove(struct cache_shard *s, struct cache_desc *d)
{
	struct cache_lru *l = &s->lru[d->part];

	if (d->newer)
		d->newer->older = d->older;
	else
		l->newest = d->older;
	if (d->older)
		d->older->newer = d->newer;
	else
		l->oldest = d->newer;
	d->newer = NULL;
	d->older = NULL;
	l->bytes -= cache_cost(d->view.len);
}

/* Readers see by the flag whether the next use is worth the mutex. Relaxed: only a hint. */
static void enter_part(struct cache_shard *s, struct cache_desc *d, enum cache_part part)
{
	d->part = part;
	s->lru[part].bytes += cache_cost(d->view.len);
	atomic_fetch_and_explicit(&d->state, ~(CACHE_SETTLED | CACHE_USED), memory_order_relaxed);
	if (part != CACHE_PROBATIONARY)
		atomic_fetch_or_explicit(&d->state, CACHE_SETTLED, memory_order_relaxed);
}

void cache_lru_add_newest(struct cache_shard *s, struct cache_desc *d, enum cache_part part)
{
	struct cache_lru *l = &s->lru[part];

	d->older = l->newest;
	if (l->newest)
		l->newest->newer = d;
	else
		l->oldest = d;
	l->newest = d;
	enter_part(s, d, part);
}

void cache_lru_add_oldest(struct cache_shard *s, struct cache_desc *d, enum cache_part part)
{
	struct cache_lru *l = &s->lru[part];

	d->newer = l->oldest;
	if (l->oldest)
		l->oldest->older = d;
	else
		l->newest = d;
	l->oldest = d;
	enter_part(s, d, part);
}

/* Was the page used since it was asked last? Then it goes to the new end once more. */
static bool second_chance(struct cache_shard *s, struct cache_desc *d)
{
	if (!(atomic_load_explicit(&d->state, memory_order_relaxed) & CACHE_USED))
		return false;
	cache_lru_remove(s, d);
	cache_lru_add_newest(s, d, CACHE_PROTECTED);
	return true;
}

void cache_lru_protect(struct cache *c, struct cache_shard *s, struct cache_desc *d)
{
	struct cache_lru *l = &s->lru[CACHE_PROTECTED];
	size_t max = protected_max(c);
	unsigned chances = CHANCES_MAX;

	cache_lru_add_newest(s, d, CACHE_PROTECTED);
	while (l->bytes > max && l->oldest != l->newest) {
		struct cache_desc *q = l->oldest;

		if (chances > 0 && second_chance(s, q)) {
			chances--;
			continue;
		}
		cache_lru_remove(s, q);
		cache_lru_add_newest(s, q, CACHE_PROBATIONARY);
	}
}

void cache_lru_detach(struct cache *c, struct cache_shard *s, struct cache_desc *d)
{
	struct cache_desc *_Atomic *link = cache_bucket_of(c, s, cache_hash(cache_key_of(d)));
	struct cache_desc *p;

	while ((p = atomic_load_explicit(link, memory_order_relaxed)) != d)
		link = &p->chain;
	/* Its own link stays, for readers who stand on it. Release: as for an insertion. */
	atomic_store_explicit(link, atomic_load_explicit(&d->chain, memory_order_relaxed),
			      memory_order_release);
	cache_lru_remove(s, d);
	cache_sub(&c->page_bytes, cache_cost(d->view.len));
}

/*
 * Out of readers' reach, unless it is pinned or looked at. Acquire: after all uses that have
 * ended. In one order with the reader's steps: see cache_glance.c.
 */
static bool close_page(const struct cache *c, struct cache_desc *d)
{
	uint32_t state = atomic_load_explicit(&d->state, memory_order_relaxed);

	do {
		if (state & CACHE_PINS)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&d->state, &state, 0, memory_order_seq_cst,
							memory_order_relaxed));
	if (!cache_glanced_at(c, d))
		return true;
	/* Nobody changed it meanwhile, since a pin needs CACHED. */
	atomic_store_explicit(&d->state, state, memory_order_release);
	return false;
}

/* Evict from the old end of a part until the budget holds. @spare: what was used lately. */
static void evict(struct cache *c, struct cache_shard *s, enum cache_part part, bool spare)
{
	struct cache_desc *victims = NULL;
	struct cache_desc *last, *d, *newer;

	os_mutex_lock(&s->mu);
	last = s->lru[part].newest;
	for (d = s->lru[part].oldest; d && cache_over_budget(c); d = newer) {
		newer = d == last ? NULL : d->newer;
		if (spare && second_chance(s, d))
			continue;
		if (!close_page(c, d))
			continue;
		cache_lru_detach(c, s, d);
		s->evictions++;
		d->newer = victims;
		victims = d;
	}
	os_mutex_unlock(&s->mu);
	cache_page_free_all(s, victims);
}

bool cache_lru_make_room(struct cache *c, size_t first)
{
	static const struct {
		enum cache_part part;
		bool spare;
	} turns[] = {
		{CACHE_PROBATIONARY, false}, {CACHE_PROTECTED, true}, {CACHE_PROTECTED, false}};

	for (size_t t = 0; t < KV_ARRAY_COUNT(turns); t++)
		for (unsigned i = 0; i < c->shard_count && cache_over_budget(c); i++)
			evict(c, &c->shards[(first + i) & (c->shard_count - 1)], turns[t].part,
			      turns[t].spare);
	return !cache_over_budget(c);
}
