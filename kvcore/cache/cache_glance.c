/* SPDX-License-Identifier: MIT */
/*
 * Glances: hazard pointers (Michael, IEEE TPDS 2004) for pages. A pin changes the page's state, a
 * line that every other reader of the page then has to fetch again; a glance only reads it, and
 * writes a line of its own.
 *
 * A reader stores the page's address into a slot, and then looks whether the page is CACHED. Who
 * ends a page's life takes CACHED off first and looks at the slots afterwards. These four accesses
 * are sequentially consistent, so one of the two sees the other: while a slot names a page that
 * its reader saw CACHED, that life of the descriptor does not end, and the comparison of the key
 * that follows decides which page it is. Eviction leaves such a page where it is; where a
 * page must go, its memory waits for the reader, who waits for nothing.
 *
 * Only pages whose state already says all that a use would write are looked at: settled ones that
 * were used since eviction looked last. Others are pinned.
 */
#include "kvcore/base/base.h"
#include "kvcore/cache/cache_internal.h"

#define WANTED (CACHE_CACHED | CACHE_SETTLED | CACHE_USED)

/* Between finding a page and naming it, and between naming it and looking again: a test puts an
 * eviction here. */
#ifndef CACHE_GLANCE_GAP
#define CACHE_GLANCE_GAP(c) ((void)(c))
#endif

const struct cache_page *cache_glance(struct cache *c, struct cache_key key,
				      struct cache_glance **glance)
{
	struct cache_glance *g = &c->glances[os_thread_hint() % CACHE_GLANCES];
	uint64_t hash = cache_hash(key);
	struct cache_desc *d = cache_page_find(c, cache_shard_of(c, hash), key, hash);
	struct cache_desc *none = NULL;

	CACHE_GLANCE_GAP(c);
	if (!d || !atomic_compare_exchange_strong(&g->page, &none, d))
		return NULL;
	CACHE_GLANCE_GAP(c);
	if ((atomic_load(&d->state) & WANTED) != WANTED || !cache_is_key(d, key)) {
		cache_glance_end(g);
		return NULL;
	}
	os_stats_add(&c->stats, OS_STAT_cache_hits, 1);
	*glance = g;
	return &d->view;
}

void cache_glance_end(struct cache_glance *glance)
{
	/* Release: who frees the page comes after this use. */
	atomic_store_explicit(&glance->page, NULL, memory_order_release);
}

bool cache_glanced_at(const struct cache *c, const struct cache_desc *d)
{
	for (unsigned i = 0; i < CACHE_GLANCES; i++)
		if (atomic_load(&c->glances[i].page) == d)
			return true;
	return false;
}

void cache_glance_wait(const struct cache *c, const struct cache_desc *list)
{
	unsigned turns = 0;

	for (; list; list = list->newer)
		while (cache_glanced_at(c, list))
			os_thread_relax(&turns);
}
