/* SPDX-License-Identifier: MIT */
/*
 * Intervals [from, to) of ikeys in order, with the question "which overlap this
 * one?". A treap whose nodes lie in the caller's objects, so that inserting allocates
 * nothing and cannot fail, each augmented with the furthest end below it (Cormen
 * et al., Introduction to Algorithms, interval trees; Seidel and Aragon, Randomized
 * Search Trees, 1996).
 *
 * Thread safety: the caller's.
 */
#ifndef KVCORE_ENGINE_LOCK_TREE_H
#define KVCORE_ENGINE_LOCK_TREE_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

struct lock_tree_node {
	struct lock_tree_node *left, *right;
	uint64_t priority;
	struct kv_slice from, to; /* set by the caller, who keeps the bytes; from < to */
	struct kv_slice furthest; /* the largest @to of this node and all below it */
};

struct lock_tree {
	struct lock_tree_node *root;
	uint64_t random; /* state of the priorities' generator */
};

/* Several intervals may begin at the same key, or be equal. */
void lock_tree_insert(struct lock_tree *t, struct lock_tree_node *n);
/* @n is in the tree. */
void lock_tree_remove(struct lock_tree *t, struct lock_tree_node *n);
/* Call @visit for each interval that overlaps [from, to), in order, until it returns false. */
void lock_tree_each(const struct lock_tree *t, struct kv_slice from, struct kv_slice to,
		    bool (*visit)(void *ctx, struct lock_tree_node *n), void *ctx);

#endif
