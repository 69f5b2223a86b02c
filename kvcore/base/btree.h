/* SPDX-License-Identifier: MIT */
/*
 * An in-memory B+-tree (Bayer and McCreight 1972; Comer, The Ubiquitous B-Tree,
 * 1979) from byte-string keys to pointers, with nodes split, merged and
 * rebalanced. Keys and values belong to the caller and must stay valid while
 * they are in the tree. Each node keeps the first 8 bytes of its keys as
 * integers, so that most comparisons touch no key.
 *
 * Thread safety: readers concurrently, a writer alone; the caller locks.
 */
#ifndef KVCORE_BASE_BTREE_H
#define KVCORE_BASE_BTREE_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

struct btree_node;

struct btree {
	struct btree_node *root;
	size_t count;
	size_t bytes;	  /* of nodes, for accounting */
	uint64_t changes; /* grows with each insertion and removal */
};

void btree_init(struct btree *t);
void btree_fini(struct btree *t); /* frees the nodes, not keys and values */

/*
 * Find or insert. *slot is where the value is, valid until the tree changes; a
 * new one holds NULL. @key is only kept if *inserted.
 * Return: 0, -ENOMEM (unchanged).
 */
int btree_insert(struct btree *t, struct kv_slice key, void ***slot, bool *inserted) KV_MUST_CHECK;
/* The value's place, NULL if the key is not there. */
void **btree_find(const struct btree *t, struct kv_slice key);
/* Returns the removed value and its stored key (may be NULL), or NULL if the key is not there. */
void *btree_remove(struct btree *t, struct kv_slice key, struct kv_slice *stored_key);

/* A position; made invalid by any change of the tree. node NULL: none. */
struct btree_pos {
	struct btree_node *node;
	unsigned slot;
};
struct btree_pos btree_first(const struct btree *t);
struct btree_pos btree_last(const struct btree *t);
/* The very key, or none. */
struct btree_pos btree_find_pos(const struct btree *t, struct kv_slice key);
/* First key >= @key. */
struct btree_pos btree_seek(const struct btree *t, struct kv_slice key);
/* Last key < @key. */
struct btree_pos btree_seek_before(const struct btree *t, struct kv_slice key);
struct btree_pos btree_next(struct btree_pos p);
struct btree_pos btree_prev(struct btree_pos p);
static inline bool btree_valid(struct btree_pos p)
{
	return p.node != NULL;
}
struct kv_slice btree_key(struct btree_pos p);
void *btree_value(struct btree_pos p);

/* Check every invariant of the structure; for tests. */
bool btree_check(const struct btree *t);

#endif
