/* SPDX-License-Identifier: MIT */
/*
 * The tree inside a memtable: an in-memory B+-tree from byte-string keys to key
 * records, for any number of inserters and readers at once. Synchronised by
 * optimistic lock coupling (Leis, Scheibner, Kemper, Neumann: The ART of
 * Practical Synchronization, DaMoN 2016): an inserter locks the one node that it
 * changes, or three for a split; a reader locks and writes nothing, but validates node
 * versions and starts again when it met a change.
 *
 * Keys are never removed. Records and nodes live in arenas and are freed
 * together when nobody can reach the tree any more, so a reader may follow any
 * pointer that it ever read: reclamation needs no epochs. (The tree with removal,
 * merging and rebalancing, for transactions' own writes, is base/btree.h.)
 *
 * Thread safety: all functions from any thread; each inserter brings an arena of its own.
 */
#ifndef KVCORE_ENGINE_MEMTREE_H
#define KVCORE_ENGINE_MEMTREE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"

struct memversion;
struct memnode;

/* A key of the tree; made by the caller, and the tree's as soon as it is inserted. */
struct memkey {
	_Atomic(struct memversion *) newest; /* the caller's */
	uint32_t len;			     /* [const] */
	uint8_t bytes[];		     /* [const] */
};

struct memtree {
	struct memnode *root; /* [const]: the root splits downwards and stays where it is */
};

/* A place in a leaf; key NULL: none. It stays usable whatever is inserted meanwhile. */
struct memtree_pos {
	struct memnode *leaf;
	uint64_t version; /* of the leaf when the place was found */
	unsigned slot;
	struct memkey *key;
};

static inline struct kv_slice memkey_slice(const struct memkey *k)
{
	return kv_slice_of(k->bytes, k->len);
}

int memtree_init(struct memtree *t, struct arena *arena) KV_MUST_CHECK;

/* The key, or key NULL and the place where it would be, for memtree_insert(). */
struct memtree_pos memtree_find(const struct memtree *t, struct kv_slice key);
/*
 * Insert @record unless its key is there meanwhile: *out is the record in the tree.
 * @at: from memtree_find() of this key. Return: 0, -ENOMEM (unchanged).
 */
int memtree_insert(struct memtree *t, struct arena *arena, struct memtree_pos at,
		   struct memkey *record, struct memkey **out) KV_MUST_CHECK;

struct memtree_pos memtree_first(const struct memtree *t);
struct memtree_pos memtree_last(const struct memtree *t);
/* First key >= @key; last key < @key; last key <= @key. */
struct memtree_pos memtree_seek(const struct memtree *t, struct kv_slice key);
struct memtree_pos memtree_seek_before(const struct memtree *t, struct kv_slice key);
struct memtree_pos memtree_floor(const struct memtree *t, struct kv_slice key);
/* From a place with a key. */
struct memtree_pos memtree_next(const struct memtree *t, struct memtree_pos p);
struct memtree_pos memtree_prev(const struct memtree *t, struct memtree_pos p);

/* Check every invariant of the structure while nobody inserts; for tests. */
bool memtree_check(const struct memtree *t);

#endif
