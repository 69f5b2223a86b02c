/* SPDX-License-Identifier: MIT */
/*
 * Memtables: the tree (memtree.c) leads from a key to its newest version, and
 * versions are singly linked lists that are only ever added to: readers follow them
 * without a lock, inserters link with one compare-and-swap. A key's record and its
 * first version are one piece of memory, so that a lookup of a key with
 * one version touches nothing else.
 *
 * Memory comes from a few arenas. An inserter takes one that is free for the time of an
 * addition, beginning at its own, so inserters do not wait for each other.
 */
#include "kvcore/engine/memtable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/memtable_internal.h"
#include "kvcore/os/os_thread.h"

#define CHARGE_STEP (64U * 1024) /* bytes; the budget's mutex is not wanted for each addition */

/* ---- shards and accounting ------------------------------------------------ */

struct memshard *memtable_shard_take(struct memtable *m)
{
	unsigned hint = os_thread_hint();
	unsigned turns = 0;

	for (;;) {
		for (unsigned i = 0; i < MEMTABLE_SHARDS; i++) {
			struct memshard *s = &m->shard[(hint + i) % MEMTABLE_SHARDS];

			/* Acquire pairs with the release in memtable_shard_give(): the arena. */
			if (!atomic_load_explicit(&s->taken, memory_order_relaxed) &&
			    !atomic_exchange_explicit(&s->taken, true, memory_order_acquire))
				return s;
		}
		os_thread_relax(&turns);
	}
}

static void charge(struct memtable *m, size_t bytes)
{
	size_t want = align_up_u64(bytes, CHARGE_STEP);
	size_t have = atomic_load_explicit(&m->charged, memory_order_relaxed);

	if (!m->budget)
		return;
	while (have < want) {
		if (atomic_compare_exchange_weak_explicit(
			    &m->charged, &have, want, memory_order_relaxed, memory_order_relaxed)) {
			cache_charge(m->budget, want - have);
			return;
		}
	}
}

void memtable_shard_give(struct memtable *m, struct memshard *s)
{
	size_t grown = arena_bytes(&s->arena) - s->counted;

	if (grown) { /* a block more: seldom */
		s->counted += grown;
		charge(m,
		       grown + atomic_fetch_add_explicit(&m->bytes, grown, memory_order_relaxed));
	}
	atomic_store_explicit(&s->taken, false, memory_order_release);
}

/* ---- life ----------------------------------------------------------------- */

static void memtable_free(struct memtable *m)
{
	for (unsigned i = 0; i < MEMTABLE_SHARDS; i++)
		arena_fini(&m->shard[i].arena);
	free(m);
}

int memtable_new(struct cache *budget, struct memtable **out)
{
	struct memtable *m = aligned_alloc(_Alignof(struct memtable), sizeof(*m));
	struct memshard *s;
	int err;

	if (!m)
		return -ENOMEM;
	memset(m, 0, sizeof(*m));
	m->budget = budget;
	atomic_init(&m->refs, 1);
	atomic_init(&m->bytes, sizeof(*m));
	atomic_init(&m->seq_max, KV_SEQ_MAX);
	for (unsigned i = 0; i < MEMTABLE_SHARDS; i++)
		arena_init(&m->shard[i].arena);
	s = memtable_shard_take(m);
	err = memtree_init(&m->points, &s->arena);
	if (!err)
		err = memtree_init(&m->ranges, &s->arena);
	memtable_shard_give(m, s);
	if (err) {
		memtable_unref(m);
		return err;
	}
	*out = m;
	return 0;
}

struct memtable *memtable_ref(struct memtable *m)
{
	atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
	return m;
}

void memtable_unref(struct memtable *m)
{
	/* Acquire: whoever frees it sees all that others did before they let go. */
	if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (m->budget)
		cache_uncharge(m->budget, atomic_load(&m->charged));
	memtable_free(m);
}

void memtable_freeze(struct memtable *m, kv_seq seq_max)
{
	atomic_store_explicit(&m->seq_max, seq_max, memory_order_release);
}

kv_seq memtable_seq_max(const struct memtable *m)
{
	return atomic_load_explicit(&m->seq_max, memory_order_acquire);
}

/* ---- versions ------------------------------------------------------------- */

static void version_fill(struct memversion *v, const struct entry *e)
{
	atomic_init(&v->older, NULL);
	atomic_init(&v->newer, NULL);
	v->seq = e->seq;
	v->kind = (uint8_t)e->kind;
	v->value_len = (uint32_t)e->value.len;
	if (e->value.len)
		memcpy(v->value, e->value.data, e->value.len);
}

struct memversion *memtable_version(struct arena *arena, const struct entry *e)
{
	struct memversion *v = arena_alloc(arena, sizeof(*v) + e->value.len);

	if (v)
		version_fill(v, e);
	return v;
}

/* Where in its piece of memory the first version of a key is. */
static size_t first_version_off(size_t key_len)
{
	return align_up_u64(sizeof(struct memkey) + key_len, _Alignof(struct memversion));
}

static struct memversion *first_version(struct memkey *k)
{
	return (struct memversion *)(void *)((uint8_t *)k + first_version_off(k->len));
}

/* A key's record with the entry as its first version. */
static struct memkey *key_new(struct arena *arena, const struct entry *e)
{
	size_t off = first_version_off(e->key.len);
	struct memkey *k = arena_alloc(arena, off + sizeof(struct memversion) + e->value.len);

	if (!k)
		return NULL;
	k->len = (uint32_t)e->key.len;
	if (e->key.len)
		memcpy(k->bytes, e->key.data, e->key.len);
	version_fill(first_version(k), e);
	atomic_init(&k->newest, first_version(k));
	return k;
}

struct memversion *memtable_front(struct memversion *v)
{
	struct memversion *newer;

	while ((newer = memversion_load(&v->newer)) && newer->seq == v->seq)
		v = newer;
	return v;
}

struct memversion *memtable_visible(struct memkey *k, kv_seq max_seq)
{
	struct memversion *v = memtable_newest(k);

	while (v && v->seq > max_seq)
		v = memversion_load(&v->older);
	return v;
}

struct memversion *memtable_older(struct memversion *v)
{
	struct memversion *older = v;

	do {
		older = memversion_load(&older->older);
	} while (older && older->seq == v->seq);
	return older;
}

struct memversion *memtable_oldest(struct memkey *k)
{
	struct memversion *v = first_version(k);
	struct memversion *older;

	/* Nearly always at the end already: versions seldom come out of order. */
	while ((older = memversion_load(&v->older)))
		v = older;
	return memtable_front(v);
}

struct memversion *memtable_newer(const struct memkey *k, struct memversion *v)
{
	struct memversion *newest = memtable_newest(k);
	struct memversion *n = v;
	struct memversion *older;

	if (newest->seq == v->seq)
		return NULL;
	do {
		n = memversion_load(&n->newer);
	} while (n && n->seq == v->seq);
	if (!n)
		n = newest;
	/* Back to the last one before v: others may have come in between since the hint. */
	while ((older = memversion_load(&n->older))->seq > v->seq)
		n = older;
	return memtable_front(n);
}

/* Link @v in front of the first version with a seq not above its own. Returns whether that one
 * has the same seq and so is replaced. */
static bool chain_add(struct memkey *k, struct memversion *v)
{
	for (;;) {
		_Atomic(struct memversion *) *link = &k->newest;
		struct memversion *newer = NULL;
		struct memversion *older;

		while ((older = memversion_load(link)) && older->seq > v->seq) {
			newer = older;
			link = &older->older;
		}
		atomic_store_explicit(&v->older, older, memory_order_relaxed);
		atomic_store_explicit(&v->newer, newer, memory_order_relaxed);
		/* Release: who reaches the version sees its content. */
		if (!atomic_compare_exchange_strong_explicit(link, &older, v, memory_order_release,
							     memory_order_relaxed))
			continue;
		if (older)
			atomic_store_explicit(&older->newer, v, memory_order_release);
		return older && older->seq == v->seq;
	}
}

/* ---- additions ------------------------------------------------------------ */

/* @replaced: there was a version of the same seq. */
static int add_point(struct memtable *m, struct arena *arena, const struct entry *e, bool *replaced)
{
	struct memtree_pos at = memtree_find(&m->points, e->key);
	struct memversion *v;
	struct memkey *fresh;
	struct memkey *k;
	int err;

	*replaced = false;
	if (at.key) {
		v = memtable_version(arena, e);
		if (!v)
			return -ENOMEM;
		*replaced = chain_add(at.key, v);
		return 0;
	}
	fresh = key_new(arena, e);
	if (!fresh)
		return -ENOMEM;
	err = memtree_insert(&m->points, arena, at, fresh, &k);
	if (!err && k != fresh) /* another thread was first: a version of its key */
		*replaced = chain_add(k, first_version(fresh));
	return err;
}

int memtable_add(struct memtable *m, const struct entry *e)
{
	struct memshard *s;
	bool replaced;
	int err;

	KV_ASSERT(memtable_seq_max(m) == KV_SEQ_MAX);
	KV_ASSERT(e->value.len <= UINT32_MAX);
	if (e->kind == ENTRY_DELETE && !memtable_has_deletes(m))
		atomic_store_explicit(&m->deletes, true, memory_order_relaxed);
	s = memtable_shard_take(m);
	err = add_point(m, &s->arena, e, &replaced);
	if (!err && !replaced)
		atomic_store_explicit(&s->entries,
				      1 + atomic_load_explicit(&s->entries, memory_order_relaxed),
				      memory_order_relaxed);
	memtable_shard_give(m, s);
	return err;
}

/* ---- reading -------------------------------------------------------------- */

int memtable_get(struct memtable *m, struct kv_slice ikey, kv_seq max_seq, struct entry *out)
{
	struct memtree_pos p = memtree_find(&m->points, ikey);
	struct memversion *v;

	if (!p.key)
		return -KV_E_NOTFOUND;
	v = memtable_visible(p.key, max_seq);
	if (!v)
		return -KV_E_NOTFOUND;
	memtable_entry(p.key, v, out);
	return 0;
}

bool memtable_has_more(struct memtable *m, struct kv_slice from, struct kv_slice to, size_t limit)
{
	struct memtree_pos p = memtree_seek(&m->points, from);
	size_t n = 0;

	while (p.key && slice_compare(memkey_slice(p.key), to) < 0) {
		if (n++ == limit)
			return true;
		p = memtree_next(&m->points, p);
	}
	return false;
}

bool memtable_has_deletes(const struct memtable *m)
{
	return atomic_load_explicit(&m->deletes, memory_order_relaxed);
}

bool memtable_has_ranges(struct memtable *m)
{
	return atomic_load_explicit(&m->ranged, memory_order_acquire);
}

size_t memtable_bytes(const struct memtable *m)
{
	return atomic_load_explicit(&m->bytes, memory_order_relaxed);
}

size_t memtable_entries(const struct memtable *m)
{
	size_t sum = 0;

	for (unsigned i = 0; i < MEMTABLE_SHARDS; i++)
		sum += atomic_load_explicit(&m->shard[i].entries, memory_order_relaxed);
	return sum;
}

bool memtable_empty(const struct memtable *m)
{
	return memtable_entries(m) == 0 && !atomic_load_explicit(&m->ranged, memory_order_acquire);
}
