/* SPDX-License-Identifier: MIT */
/*
 * The invariants of the concurrent B+-tree, for tests: levels fall by one, keys
 * rise and lie within the bounds, bounds are the separators of the parent, heads
 * are those of the keys, and what a node skips is shared by all that can be in it.
 */
#include "kvcore/engine/memnode.h"

static bool key_below(const struct memkey *a, const struct memkey *b)
{
	return slice_compare(memkey_slice(a), memkey_slice(b)) < 0;
}

static bool keys_ok(const struct memnode *n, struct memnode_meta m)
{
	const struct memkey *low = atomic_load(&n->low);
	const struct memkey *high = atomic_load(&n->high);

	for (unsigned i = 0; i < m.count; i++) {
		const struct memkey *k = memnode_key(n, i);

		if (i && !key_below(memnode_key(n, i - 1), k))
			return false;
		if ((low && key_below(k, low)) || (high && !key_below(k, high)))
			return false;
		if (atomic_load(&n->head[i]) != memnode_head(memkey_slice(k), m.skip))
			return false;
		if (slice_common_prefix(memkey_slice(k), memkey_slice(memnode_key(n, 0))) < m.skip)
			return false;
	}
	if (m.edge != (!low || !high))
		return false;
	return m.edge || slice_common_prefix(memkey_slice(low), memkey_slice(high)) >= m.skip;
}

static bool child_ok(const struct memnode *child, unsigned level, const struct memkey *low,
		     const struct memkey *high)
{
	struct memnode_meta m = memnode_meta(child);

	if (m.level != level || atomic_load(&child->low) != low ||
	    atomic_load(&child->high) != high)
		return false;
	/* A leaf begins with its bound: walks backwards count on it. */
	return level || !low || (m.count && memnode_key(child, 0) == low);
}

static bool node_ok(const struct memnode *n)
{
	struct memnode_meta m = memnode_meta(n);

	if (atomic_load(&n->version) & 1 || m.count > MEMNODE_KEYS || !keys_ok(n, m))
		return false;
	for (unsigned i = 0; m.level && i <= m.count; i++) {
		const struct memkey *low = i ? memnode_key(n, i - 1) : atomic_load(&n->low);
		const struct memkey *high = i < m.count ? memnode_key(n, i) : atomic_load(&n->high);
		const struct memnode *child = memnode_child(n, i);

		if (!child_ok(child, m.level - 1, low, high) || !node_ok(child))
			return false;
	}
	return true;
}

bool memtree_check(const struct memtree *t)
{
	return node_ok(t->root);
}
