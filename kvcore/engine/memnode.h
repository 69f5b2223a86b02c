/* SPDX-License-Identifier: MIT */
/*
 * Nodes of the concurrent B+-tree; private to memtree*.c and memnode.c.
 *
 * A node covers the keys from low up to but without high (NULL: no bound), which
 * are keys of the tree. All keys of a node with both bounds share the bytes that the
 * bounds share, so whoever came to it through its parent need not compare them: skip
 * counts them, and heads are the 8 bytes after them (big-endian, padded with
 * zeros). In a node without one of the bounds (edge) the skipped bytes are those that
 * its keys happen to share, and a search compares them with the first key.
 *
 * Memory order. version is odd while an inserter changes the node. Every field is stored with
 * release and loaded with acquire: a reader that saw a store of an inserter then
 * sees the version that this one had set before it, so it notices by comparing the version
 * before and after (Boehm, Can Seqlocks Get Along with Programming Language Memory
 * Models, MSPC 2012). What it read in between may be torn, but every pointer is one that
 * was put there once, so it leads to a node or key of this tree.
 */
#ifndef KVCORE_ENGINE_MEMNODE_H
#define KVCORE_ENGINE_MEMNODE_H

#include "kvcore/engine/memtree.h"
#include "kvcore/os/os_thread.h"

#define MEMNODE_KEYS 32U

struct memnode {
	_Atomic uint64_t version;
	_Atomic uint64_t meta; /* struct memnode_meta in one word */
	_Atomic(struct memkey *) low;
	_Atomic(struct memkey *) high;
	_Atomic uint64_t head[MEMNODE_KEYS];
	_Atomic(struct memkey *) key[MEMNODE_KEYS]; /* rising */
	_Atomic(struct memnode *) child[];	    /* of inner nodes: MEMNODE_KEYS + 1 */
};

struct memnode_meta {
	uint32_t skip;
	unsigned count; /* of keys */
	unsigned level; /* 0: leaf */
	bool edge;	/* lacks a bound */
};

static inline struct memnode_meta memnode_meta(const struct memnode *n)
{
	uint64_t w = atomic_load_explicit(&n->meta, memory_order_acquire);

	return (struct memnode_meta){(uint32_t)(w >> 32), (unsigned)(w & 0xff),
				     (unsigned)(w >> 8 & 0xff), w >> 16 & 1};
}

static inline struct memkey *memnode_key(const struct memnode *n, unsigned i)
{
	return atomic_load_explicit(&n->key[i], memory_order_acquire);
}

static inline struct memnode *memnode_child(const struct memnode *n, unsigned i)
{
	return atomic_load_explicit(&n->child[i], memory_order_acquire);
}

/* The version of a node that nobody is changing; waits for the few stores of who is. */
static inline uint64_t memnode_version(const struct memnode *n)
{
	unsigned spins = 0;
	uint64_t v;

	while ((v = atomic_load_explicit(&n->version, memory_order_acquire)) & 1)
		os_thread_relax(&spins);
	return v;
}

/* Is all that was read since the version was @v of one state? */
static inline bool memnode_valid(const struct memnode *n, uint64_t v)
{
	return atomic_load_explicit(&n->version, memory_order_acquire) == v;
}

/* Lock the node if it is as it was at @v. */
static inline bool memnode_lock(struct memnode *n, uint64_t v)
{
	return atomic_compare_exchange_strong_explicit(&n->version, &v, v + 1, memory_order_acquire,
						       memory_order_relaxed);
}

/* @v: the version given to memnode_lock(). */
static inline void memnode_unlock(struct memnode *n, uint64_t v, bool changed)
{
	atomic_store_explicit(&n->version, changed ? v + 2 : v, memory_order_release);
}

/* Empty, without bounds. NULL when out of memory. */
struct memnode *memnode_new(struct arena *arena, unsigned level, bool root);
/* Index of the first key >= @key; what it returns is to be validated. */
unsigned memnode_search(const struct memnode *n, struct memnode_meta m, struct kv_slice key,
			bool *equal);

/* ---- changes, of a node that is locked or not reachable yet ---------------- */

/* There is room. @right (NULL in a leaf) becomes the child behind the key. */
void memnode_insert(struct memnode *n, unsigned i, struct memkey *key, struct memnode *right);
/*
 * Move the keys from @keep on into @right, which is empty; those of an inner node without the
 * first, which is to go up. Returns the key that separates the two.
 */
struct memkey *memnode_split(struct memnode *n, unsigned keep, struct memnode *right);
/* Move everything into @to, which is empty and of the same level. */
void memnode_move(struct memnode *n, struct memnode *to);
/* An empty inner node, one level up, over two children. */
void memnode_adopt(struct memnode *n, struct memnode *left, struct memkey *sep,
		   struct memnode *right);

uint64_t memnode_head(struct kv_slice key, size_t skip);

#endif
