/* SPDX-License-Identifier: MIT */
/*
 * Verifies the invariants that btree.c states, from the root down, and the
 * chain of leaves. Used by tests after every kind of change.
 */
#include "kvcore/base/btree.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/btree_node.h"

struct check {
	unsigned leaf_depth; /* 0: none seen yet; the root is at depth 1 */
	size_t keys, nodes;
	const struct btree_node *last_leaf;
};

static bool check_keys(const struct btree_node *n, bool is_root)
{
	if (n->count > BTREE_NODE_KEYS || n->count < (is_root ? 1 : BTREE_NODE_MIN))
		return false;
	if (n->skip > slice_common_prefix(btree_node_key(n, 0), btree_node_key(n, n->count - 1U)))
		return false;
	for (unsigned i = 0; i < n->skip && i < BTREE_PREFIX_MAX; i++) {
		if (n->prefix[i] != n->data[0][i])
			return false;
	}
	for (unsigned i = 0; i < n->count; i++) {
		struct kv_slice key = btree_node_key(n, i);

		if (n->head[i] != btree_node_head(key, n->skip))
			return false;
		if (i > 0 && slice_compare(btree_node_key(n, i - 1), key) >= 0)
			return false;
	}
	return true;
}

static bool check_leaf(const struct btree_node *n, unsigned depth, struct check *c)
{
	const struct btree_node *prev = c->last_leaf;

	if (c->leaf_depth && c->leaf_depth != depth)
		return false;
	if (n->prev != prev || (prev && prev->next != n))
		return false;
	if (prev &&
	    slice_compare(btree_node_key(prev, prev->count - 1U), btree_node_key(n, 0)) >= 0)
		return false;
	c->leaf_depth = depth;
	c->keys += n->count;
	c->last_leaf = n;
	return true;
}

/* @first: receives the memory of the smallest key below the node. */
static bool check_node(const struct btree_node *n, unsigned depth, struct check *c,
		       const uint8_t **first)
{
	const uint8_t *child_first;

	c->nodes++;
	if (depth > BTREE_DEPTH_MAX || !check_keys(n, depth == 1))
		return false;
	if (n->leaf) {
		*first = n->data[0];
		return check_leaf(n, depth, c);
	}
	for (unsigned i = 0; i <= n->count; i++) {
		if (!check_node(btree_node_child(n, i), depth + 1, c, &child_first))
			return false;
		if (i == 0)
			*first = child_first;
		else if (n->data[i - 1] != child_first)
			return false;
	}
	return true;
}

bool btree_check(const struct btree *t)
{
	struct check c = {0};
	const uint8_t *first;

	if (t->root && !check_node(t->root, 1, &c, &first))
		return false;
	if (c.last_leaf && c.last_leaf->next)
		return false;
	return c.keys == t->count && c.nodes * sizeof(struct btree_node) == t->bytes;
}
