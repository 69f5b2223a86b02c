/* SPDX-License-Identifier: MIT */
/*
 * The in-memory B+-tree. Insertion allocates all nodes it will need before it
 * changes anything; removal evens out or merges neighbours. Invariants, verified
 * by btree_check():
 *   - separator i of an inner node is the very key (same memory) that is the
 *     smallest below child i + 1, so no separator outlives its key;
 *   - every node but the root has at least BTREE_NODE_MIN keys; all leaves are at one depth;
 *   - skip is at most the length of the prefix that first and last key share.
 */
#include "kvcore/base/btree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/btree_node.h"

/* Nodes from the root to a leaf, and the child taken in each. */
struct path {
	struct btree_node *node[BTREE_DEPTH_MAX];
	unsigned idx[BTREE_DEPTH_MAX];
	unsigned depth; /* of the leaf */
};

static unsigned child_search(const struct btree_node *n, struct kv_slice key)
{
	bool equal;
	unsigned i = btree_node_search(n, key, &equal);

	return equal ? i + 1 : i;
}

static void node_release(struct btree *t, struct btree_node *n)
{
	t->bytes -= sizeof(*n);
	free(n);
}

/* ---- life --------------------------------------------------------------- */

void btree_init(struct btree *t)
{
	*t = (struct btree){0};
}

static void node_free_all(struct btree_node *n)
{
	if (!n->leaf) {
		for (unsigned i = 0; i <= n->count; i++)
			node_free_all(btree_node_child(n, i));
	}
	free(n);
}

void btree_fini(struct btree *t)
{
	if (t->root)
		node_free_all(t->root);
	*t = (struct btree){0};
}

/* ---- insertion ---------------------------------------------------------- */

static void path_descend(const struct btree *t, struct kv_slice key, struct path *p)
{
	struct btree_node *n = t->root;

	p->depth = 0;
	while (!n->leaf) {
		KV_ASSERT(p->depth < BTREE_DEPTH_MAX - 1);
		p->node[p->depth] = n;
		p->idx[p->depth] = child_search(n, key);
		n = btree_node_child(n, p->idx[p->depth]);
		btree_node_prefetch(n);
		p->depth++;
	}
	p->node[p->depth] = n;
	p->idx[p->depth] = 0;
}

/* Allocate the nodes that an insertion along the path splits off, chained by next. */
static int spares_new(const struct path *p, struct btree_node **out)
{
	struct btree_node *spares = NULL;
	unsigned need = 0;

	while (need <= p->depth && p->node[p->depth - need]->count == BTREE_NODE_KEYS)
		need++;
	if (need > p->depth)
		need++; /* the root splits: a new one above it */
	while (need--) {
		struct btree_node *n = btree_node_new(false);

		if (!n)
			goto fail;
		n->next = spares;
		spares = n;
	}
	*out = spares;
	return 0;
fail:
	while (spares) {
		struct btree_node *next = spares->next;

		free(spares);
		spares = next;
	}
	return -ENOMEM;
}

static struct btree_node *spare_take(struct btree *t, struct btree_node **spares, bool leaf)
{
	struct btree_node *n = *spares;

	KV_ASSERT(n); /* as many as the path needs were made before */
	*spares = n->next;
	n->next = NULL;
	n->leaf = leaf;
	t->bytes += sizeof(*n);
	return n;
}

/*
 * Move the upper part of a full node into the empty @right. Appending at the end
 * of the tree leaves the left node fuller, since nothing more will come there.
 * Returns the number of keys that stay; an inner node's key of that index is to move up.
 */
static unsigned node_split(struct btree_node *n, struct btree_node *right, bool append)
{
	unsigned keep = append ? BTREE_NODE_KEYS - BTREE_NODE_MIN : BTREE_NODE_KEYS / 2;
	unsigned from = n->leaf ? keep : keep + 1;
	unsigned moved = BTREE_NODE_KEYS - from;

	memcpy(right->data, &n->data[from], moved * sizeof(n->data[0]));
	memcpy(right->len, &n->len[from], moved * sizeof(n->len[0]));
	memcpy(right->ptr, &n->ptr[from], (n->leaf ? moved : moved + 1) * sizeof(n->ptr[0]));
	right->count = (uint16_t)moved;
	n->count = (uint16_t)keep;
	btree_node_refresh(n);
	btree_node_refresh(right);
	if (n->leaf) {
		right->prev = n;
		right->next = n->next;
		if (n->next)
			n->next->prev = right;
		n->next = right;
	}
	return keep;
}

/* Insert a separator and the child right of it above @depth; splits as far up as needed. */
static void insert_above(struct btree *t, struct path *p, unsigned depth, struct kv_slice sep,
			 struct btree_node *right, struct btree_node **spares)
{
	struct btree_node *root;
	bool append = !right->next && right->leaf;

	while (depth > 0) {
		struct btree_node *n = p->node[--depth];
		unsigned i = p->idx[depth];
		struct btree_node *split;
		struct kv_slice up;
		unsigned keep;

		if (n->count < BTREE_NODE_KEYS) {
			btree_node_insert(n, i, sep, i + 1, right);
			return;
		}
		split = spare_take(t, spares, false);
		up = btree_node_key(n, append && i == BTREE_NODE_KEYS
					       ? BTREE_NODE_KEYS - BTREE_NODE_MIN
					       : BTREE_NODE_KEYS / 2);
		keep = node_split(n, split, append && i == BTREE_NODE_KEYS);
		if (i <= keep)
			btree_node_insert(n, i, sep, i + 1, right);
		else
			btree_node_insert(split, i - keep - 1, sep, i - keep, right);
		sep = up;
		right = split;
	}
	root = spare_take(t, spares, false);
	root->ptr[0] = t->root;
	btree_node_insert(root, 0, sep, 1, right);
	t->root = root;
}

int btree_insert(struct btree *t, struct kv_slice key, void ***slot, bool *inserted)
{
	struct btree_node *spares = NULL, *n, *right;
	struct path p;
	unsigned i, keep;
	bool equal;
	int err;

	KV_ASSERT(key.len <= UINT32_MAX);
	if (!t->root) {
		t->root = btree_node_new(true);
		if (!t->root)
			return -ENOMEM;
		t->bytes += sizeof(*t->root);
	}
	path_descend(t, key, &p);
	n = p.node[p.depth];
	i = btree_node_search(n, key, &equal);
	*inserted = !equal;
	if (equal) {
		*slot = &n->ptr[i];
		return 0;
	}
	if (n->count == BTREE_NODE_KEYS) {
		err = spares_new(&p, &spares);
		if (err)
			return err;
		right = spare_take(t, &spares, true);
		keep = node_split(n, right, i == BTREE_NODE_KEYS && !n->next);
		if (i > keep) {
			btree_node_insert(right, i - keep, key, i - keep, NULL);
			*slot = &right->ptr[i - keep];
		} else {
			btree_node_insert(n, i, key, i, NULL);
			*slot = &n->ptr[i];
		}
		insert_above(t, &p, p.depth, btree_node_key(right, 0), right, &spares);
	} else {
		btree_node_insert(n, i, key, i, NULL);
		*slot = &n->ptr[i];
	}
	t->count++;
	t->changes++;
	return 0;
}

/* ---- removal ------------------------------------------------------------ */

/* Two neighbours' keys and pointers in one row. */
struct row {
	const uint8_t *data[2 * BTREE_NODE_KEYS + 1];
	uint32_t len[2 * BTREE_NODE_KEYS + 1];
	void *ptr[2 * BTREE_NODE_KEYS + 2];
	unsigned keys, ptrs;
};

static void row_add(struct row *r, const struct btree_node *n)
{
	unsigned ptrs = n->leaf ? n->count : n->count + 1U;

	memcpy(&r->data[r->keys], n->data, n->count * sizeof(n->data[0]));
	memcpy(&r->len[r->keys], n->len, n->count * sizeof(n->len[0]));
	memcpy(&r->ptr[r->ptrs], n->ptr, ptrs * sizeof(n->ptr[0]));
	r->keys += n->count;
	r->ptrs += ptrs;
}

static void row_fill(const struct row *r, unsigned from, unsigned count, struct btree_node *n)
{
	memcpy(n->data, &r->data[from], count * sizeof(n->data[0]));
	memcpy(n->len, &r->len[from], count * sizeof(n->len[0]));
	memcpy(n->ptr, &r->ptr[from], (n->leaf ? count : count + 1) * sizeof(n->ptr[0]));
	n->count = (uint16_t)count;
	btree_node_refresh(n);
}

/*
 * Even out children @i and @i + 1 of @parent, or merge them into the former.
 * Returns whether the parent lost a key.
 */
static bool node_balance(struct btree *t, struct btree_node *parent, unsigned i)
{
	struct btree_node *left = btree_node_child(parent, i),
			  *right = btree_node_child(parent, i + 1);
	struct row r = {.keys = 0, .ptrs = 0};
	unsigned keep;

	row_add(&r, left);
	if (!left->leaf) {
		r.data[r.keys] = parent->data[i];
		r.len[r.keys++] = parent->len[i];
	}
	row_add(&r, right);
	if (r.keys <= BTREE_NODE_MERGE) {
		row_fill(&r, 0, r.keys, left);
		if (left->leaf) {
			left->next = right->next;
			if (right->next)
				right->next->prev = left;
		}
		btree_node_erase(parent, i, i + 1);
		node_release(t, right);
		return true;
	}
	keep = r.keys / 2;
	row_fill(&r, 0, keep, left);
	if (left->leaf)
		row_fill(&r, keep, r.keys - keep, right);
	else
		row_fill(&r, keep + 1, r.keys - keep - 1, right);
	btree_node_set_key(parent, i, kv_slice_of(r.data[keep], r.len[keep]));
	return false;
}

/* Removing the first key of a leaf leaves a separator that points to it. */
static void separator_fix(struct path *p, struct kv_slice first)
{
	for (unsigned d = p->depth; d-- > 0;) {
		if (p->idx[d] > 0) {
			btree_node_set_key(p->node[d], p->idx[d] - 1, first);
			return;
		}
	}
}

void *btree_remove(struct btree *t, struct kv_slice key, struct kv_slice *stored_key)
{
	struct btree_node *n;
	struct path p;
	unsigned i, d;
	bool equal;
	void *value;

	if (!t->root)
		return NULL;
	path_descend(t, key, &p);
	n = p.node[p.depth];
	i = btree_node_search(n, key, &equal);
	if (!equal)
		return NULL;
	value = n->ptr[i];
	if (stored_key)
		*stored_key = btree_node_key(n, i);
	btree_node_erase(n, i, i);
	if (i == 0 && n->count)
		separator_fix(&p, btree_node_key(n, 0));
	for (d = p.depth; d > 0 && p.node[d]->count < BTREE_NODE_MIN; d--) {
		struct btree_node *parent = p.node[d - 1];
		unsigned idx = p.idx[d - 1];

		if (!node_balance(t, parent, idx > 0 ? idx - 1 : 0))
			break;
	}
	n = t->root;
	if (n->count == 0) {
		t->root = n->leaf ? NULL : btree_node_child(n, 0);
		node_release(t, n);
	}
	t->count--;
	t->changes++;
	return value;
}

/* ---- reading ------------------------------------------------------------ */

static struct btree_node *leaf_of(const struct btree *t, struct kv_slice key)
{
	struct btree_node *n = t->root;

	while (n && !n->leaf) {
		n = btree_node_child(n, child_search(n, key));
		btree_node_prefetch(n);
	}
	return n;
}

struct btree_pos btree_find_pos(const struct btree *t, struct kv_slice key)
{
	struct btree_pos p = {leaf_of(t, key), 0};
	bool equal;

	if (!p.node)
		return p;
	p.slot = btree_node_search(p.node, key, &equal);
	if (!equal)
		p.node = NULL;
	return p;
}

void **btree_find(const struct btree *t, struct kv_slice key)
{
	struct btree_pos p = btree_find_pos(t, key);

	return p.node ? &p.node->ptr[p.slot] : NULL;
}

struct btree_pos btree_first(const struct btree *t)
{
	struct btree_node *n = t->root;

	while (n && !n->leaf)
		n = btree_node_child(n, 0);
	return (struct btree_pos){n && n->count ? n : NULL, 0};
}

struct btree_pos btree_last(const struct btree *t)
{
	struct btree_node *n = t->root;

	while (n && !n->leaf)
		n = btree_node_child(n, n->count);
	if (!n || !n->count)
		return (struct btree_pos){NULL, 0};
	return (struct btree_pos){n, n->count - 1U};
}

struct btree_pos btree_seek(const struct btree *t, struct kv_slice key)
{
	struct btree_node *n = leaf_of(t, key);
	unsigned i;
	bool equal;

	if (!n)
		return (struct btree_pos){NULL, 0};
	i = btree_node_search(n, key, &equal);
	if (i < n->count)
		return (struct btree_pos){n, i};
	return (struct btree_pos){n->next, 0};
}

struct btree_pos btree_seek_before(const struct btree *t, struct kv_slice key)
{
	struct btree_node *n = leaf_of(t, key);
	bool equal;

	if (!n)
		return (struct btree_pos){NULL, 0};
	return btree_prev((struct btree_pos){n, btree_node_search(n, key, &equal)});
}

struct btree_pos btree_next(struct btree_pos p)
{
	if (p.slot + 1 < p.node->count)
		return (struct btree_pos){p.node, p.slot + 1};
	return (struct btree_pos){p.node->next, 0};
}

struct btree_pos btree_prev(struct btree_pos p)
{
	if (p.slot > 0)
		return (struct btree_pos){p.node, p.slot - 1};
	p.node = p.node->prev;
	return (struct btree_pos){p.node, p.node ? p.node->count - 1U : 0};
}

struct kv_slice btree_key(struct btree_pos p)
{
	return btree_node_key(p.node, p.slot);
}

void *btree_value(struct btree_pos p)
{
	return p.node->ptr[p.slot];
}
