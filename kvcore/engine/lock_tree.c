/* SPDX-License-Identifier: MIT */
/*
 * The interval treap. Nodes are ordered by their first key, equal ones by their
 * address; insertion splits and removal merges. The depth is logarithmic with
 * overwhelming probability, so recursion is bounded in practice by some tens of frames.
 */
#include "kvcore/engine/lock_tree.h"

#include <stddef.h>

#include "kvcore/base/base.h"

static uint64_t next_random(struct lock_tree *t)
{
	uint64_t z = t->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static bool before(const struct lock_tree_node *a, const struct lock_tree_node *b)
{
	int c = slice_compare(a->from, b->from);

	return c ? c < 0 : (uintptr_t)a < (uintptr_t)b;
}

static void widen(struct lock_tree_node *n, const struct lock_tree_node *child)
{
	if (child && slice_compare(child->furthest, n->furthest) > 0)
		n->furthest = child->furthest;
}

static void update(struct lock_tree_node *n)
{
	n->furthest = n->to;
	widen(n, n->left);
	widen(n, n->right);
}

/* Everything before @at to the left, the rest to the right. */
static void split(struct lock_tree_node *n, const struct lock_tree_node *at,
		  struct lock_tree_node **left, struct lock_tree_node **right)
{
	if (!n) {
		*left = NULL;
		*right = NULL;
		return;
	}
	if (before(n, at)) {
		split(n->right, at, &n->right, right);
		*left = n;
	} else {
		split(n->left, at, left, &n->left);
		*right = n;
	}
	update(n);
}

static struct lock_tree_node *merge(struct lock_tree_node *left, struct lock_tree_node *right)
{
	if (!left || !right)
		return left ? left : right;
	if (left->priority > right->priority) {
		left->right = merge(left->right, right);
		update(left);
		return left;
	}
	right->left = merge(left, right->left);
	update(right);
	return right;
}

static struct lock_tree_node *insert(struct lock_tree_node *at, struct lock_tree_node *n)
{
	if (!at || n->priority > at->priority) {
		split(at, n, &n->left, &n->right);
		update(n);
		return n;
	}
	if (before(n, at))
		at->left = insert(at->left, n);
	else
		at->right = insert(at->right, n);
	update(at);
	return at;
}

static struct lock_tree_node *removed(struct lock_tree_node *at, struct lock_tree_node *n)
{
	KV_ASSERT(at);
	if (at == n)
		return merge(n->left, n->right);
	if (before(n, at))
		at->left = removed(at->left, n);
	else
		at->right = removed(at->right, n);
	update(at);
	return at;
}

void lock_tree_insert(struct lock_tree *t, struct lock_tree_node *n)
{
	n->priority = next_random(t);
	t->root = insert(t->root, n);
}

void lock_tree_remove(struct lock_tree *t, struct lock_tree_node *n)
{
	t->root = removed(t->root, n);
}

struct walk {
	struct kv_slice from, to;
	bool (*visit)(void *ctx, struct lock_tree_node *n);
	void *ctx;
};

/* Returns whether to go on. */
static bool walk_below(const struct walk *w, struct lock_tree_node *n)
{
	if (!n || slice_compare(n->furthest, w->from) <= 0)
		return true;
	if (!walk_below(w, n->left))
		return false;
	if (slice_compare(n->from, w->to) >= 0)
		return true;
	if (slice_compare(n->to, w->from) > 0 && !w->visit(w->ctx, n))
		return false;
	return walk_below(w, n->right);
}

void lock_tree_each(const struct lock_tree *t, struct kv_slice from, struct kv_slice to,
		    bool (*visit)(void *ctx, struct lock_tree_node *n), void *ctx)
{
	const struct walk w = {from, to, visit, ctx};

	walk_below(&w, t->root);
}
