/* SPDX-License-Identifier: MIT */
/*
 * A memtable's inside, shared by memtable.c, memtable_iter.c and memtable_range.c.
 */
#ifndef KVCORE_ENGINE_MEMTABLE_INTERNAL_H
#define KVCORE_ENGINE_MEMTABLE_INTERNAL_H

#include "kvcore/engine/memtable.h"
#include "kvcore/engine/memtree.h"

#define MEMTABLE_SHARDS 8U

/*
 * A version of a key, or a range delete over all keys from a bound to the next one. `older`
 * leads on from the newest by falling seq and is final once the version can be reached, except
 * that an older version may still be put in between. Of two with an equal seq the first
 * replaces the second. `newer` is a hint: NULL, or some version that stands nearer to the front.
 */
struct memversion {
	_Atomic(struct memversion *) older;
	_Atomic(struct memversion *) newer;
	kv_seq seq;
	uint32_t value_len;
	uint8_t kind; /* enum entry_kind */
	uint8_t value[];
};

/* An arena that one inserter at a time has. */
struct memshard {
	_Alignas(64) _Atomic bool taken;
	_Atomic size_t entries; /* versions added with this shard */
	struct arena arena;	/* [taken] */
	size_t counted;		/* [taken] bytes of the arena in the memtable's sum */
};

struct memtable {
	struct memshard shard[MEMTABLE_SHARDS];
	_Alignas(64) struct cache *budget; /* [const] may be NULL */
	struct memtree points;		   /* ikey -> versions */
	struct memtree ranges;		   /* bound -> range deletes from there to the next bound */
	_Atomic unsigned refs;
	_Atomic kv_seq seq_max; /* KV_SEQ_MAX until it is frozen, after the last addition */
	_Atomic bool ranged;	/* holds range deletes */
	_Atomic bool deletes;	/* holds deletes of either kind */
	_Atomic size_t bytes;	/* of heap */
	_Atomic size_t charged; /* to the budget */
};

/* A shard for one addition, given back when it is done. */
struct memshard *memtable_shard_take(struct memtable *m);
void memtable_shard_give(struct memtable *m, struct memshard *s);

/* A version that is not linked; NULL when out of memory. */
struct memversion *memtable_version(struct arena *arena, const struct entry *e);
static inline struct memversion *memversion_load(const _Atomic(struct memversion *) *link)
{
	/* Acquire pairs with the release with which the version was linked. */
	return atomic_load_explicit(link, memory_order_acquire);
}

static inline struct memversion *memtable_newest(const struct memkey *k)
{
	return memversion_load(&k->newest);
}

/* The first of the versions with the same seq: it replaces the others. */
struct memversion *memtable_front(struct memversion *v);
/* The key's oldest version; the next older one and the next newer one, NULL if there is none. */
struct memversion *memtable_oldest(struct memkey *k);
/* Its newest one with seq <= max_seq; NULL: it has none. */
struct memversion *memtable_visible(struct memkey *k, kv_seq max_seq);
struct memversion *memtable_older(struct memversion *v);
struct memversion *memtable_newer(const struct memkey *k, struct memversion *v);

static inline void memtable_entry(const struct memkey *k, const struct memversion *v,
				  struct entry *out)
{
	out->key = memkey_slice(k);
	out->seq = v->seq;
	out->kind = (enum entry_kind)v->kind;
	out->value = kv_slice_of(v->value, v->value_len);
}

#endif
