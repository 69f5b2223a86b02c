/* SPDX-License-Identifier: MIT */
/*
 * Nodes of the B+-tree; private to btree*.c. The keys of a node share their
 * first `skip` bytes, and heads are the 8 bytes after those (big-endian, padded
 * with zeros): keys that differ late, such as paths and decimal numbers, are
 * still told apart by integers.
 */
#ifndef KVCORE_BASE_BTREE_NODE_H
#define KVCORE_BASE_BTREE_NODE_H

#include <stdbool.h>
#include <stddef.h>

#include "kvcore/base/btree.h"

#define BTREE_NODE_KEYS 32U
#define BTREE_NODE_MIN	(BTREE_NODE_KEYS / 4)
#define BTREE_NODE_MERGE                                                                           \
	(BTREE_NODE_KEYS * 3 / 4) /* merge two nodes of at most this many keys together */
#define BTREE_DEPTH_MAX 24U	  /* of a tree with more keys than memory can hold */

#define BTREE_PREFIX_MAX 40U /* what is left of the first cache line */

struct btree_node {
	uint32_t skip;
	uint16_t count; /* of keys */
	bool leaf;
	struct btree_node *prev, *next;	  /* leaves only, in key order */
	uint8_t prefix[BTREE_PREFIX_MAX]; /* a copy of the shared bytes, as far as there is room */
	uint64_t head[BTREE_NODE_KEYS];
	const uint8_t *data[BTREE_NODE_KEYS];
	uint32_t len[BTREE_NODE_KEYS];
	void *ptr[BTREE_NODE_KEYS + 1]; /* leaf: values; inner: children, one more than keys */
};

static inline struct kv_slice btree_node_key(const struct btree_node *n, unsigned i)
{
	return kv_slice_of(n->data[i], n->len[i]);
}

static inline struct btree_node *btree_node_child(const struct btree_node *n, unsigned i)
{
	return n->ptr[i];
}

/* Ask for the lines that a search reads first, all at once: they are seldom in the cache. */
static inline void btree_node_prefetch(const struct btree_node *n)
{
	const char *p = (const char *)n;

	for (size_t off = 0; off < offsetof(struct btree_node, data); off += 64)
		__builtin_prefetch(p + off);
}

uint64_t btree_node_head(struct kv_slice key, size_t skip);
/* Index of the first key >= @key. */
unsigned btree_node_search(const struct btree_node *n, struct kv_slice key, bool *equal);
/* Compute prefix and heads anew from the keys. */
void btree_node_refresh(struct btree_node *n);
void btree_node_set_key(struct btree_node *n, unsigned i, struct kv_slice key);
/* The node has room. The key's pointer goes to @ptr_idx: @i in a leaf, @i + 1 in an inner node. */
void btree_node_insert(struct btree_node *n, unsigned i, struct kv_slice key, unsigned ptr_idx,
		       void *ptr);
void btree_node_erase(struct btree_node *n, unsigned i, unsigned ptr_idx);
/* Empty; NULL when out of memory. */
struct btree_node *btree_node_new(bool leaf);

#endif
