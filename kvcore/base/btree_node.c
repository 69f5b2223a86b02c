/* SPDX-License-Identifier: MIT */
/*
 * Searching and changing one node of the B+-tree. The shared prefix is kept as
 * long as it holds and only shortened by an insertion, so that the heads are
 * rarely computed anew.
 */
#include "kvcore/base/btree_node.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"

uint64_t btree_node_head(struct kv_slice key, size_t skip)
{
	uint8_t padded[8] = {0};

	if (key.len >= skip + sizeof(padded))
		return be64_at(key.data + skip);
	if (key.len > skip)
		memcpy(padded, key.data + skip, key.len - skip);
	return be64_at(padded);
}

/* Where do the keys of the node that share its prefix stand relative to @key? */
static int prefix_compare(struct kv_slice key, const struct btree_node *n)
{
	size_t common = min_u64(key.len, n->skip);
	size_t copied = min_u64(common, BTREE_PREFIX_MAX);
	int c = copied ? memcmp(key.data, n->prefix, copied) : 0;

	if (c == 0 && common > copied)
		c = memcmp(key.data + copied, n->data[0] + copied, common - copied);
	return c == 0 && key.len < n->skip ? -1 : c;
}

/* Index of the first head >= @head, from @lo on. */
static unsigned head_search(const struct btree_node *n, unsigned lo, uint64_t head)
{
	unsigned left = n->count - lo;

	while (left) {
		unsigned half = left / 2;

		if (n->head[lo + half] < head) {
			lo += half + 1;
			left -= half + 1;
		} else {
			left = half;
		}
	}
	return lo;
}

/*
 * Index of the first key >= @key. An equal key is recognised before the prefix
 * is looked at, which spares a successful lookup the memory of the first key.
 */
unsigned btree_node_search(const struct btree_node *n, struct kv_slice key, bool *equal)
{
	uint64_t head = btree_node_head(key, n->skip);
	unsigned lo = head_search(n, 0, head);
	unsigned hi = lo;
	int c;

	*equal = lo < n->count && n->head[lo] == head && slice_equal(btree_node_key(n, lo), key);
	if (*equal || !n->count)
		return lo;
	c = prefix_compare(key, n);
	if (c)
		return c < 0 ? 0 : n->count;
	if (lo < n->count && n->head[lo] == head)
		hi = head == UINT64_MAX ? n->count : head_search(n, lo, head + 1);
	while (lo < hi) { /* among equal heads */
		unsigned mid = lo + (hi - lo) / 2;

		c = slice_compare(btree_node_key(n, mid), key);
		if (c == 0) {
			*equal = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void btree_node_refresh(struct btree_node *n)
{
	n->skip = 0;
	if (!n->count)
		return;
	n->skip = (uint32_t)slice_common_prefix(btree_node_key(n, 0),
						btree_node_key(n, n->count - 1U));
	if (n->skip)
		memcpy(n->prefix, n->data[0], min_u64(n->skip, BTREE_PREFIX_MAX));
	for (unsigned i = 0; i < n->count; i++)
		n->head[i] = btree_node_head(btree_node_key(n, i), n->skip);
}

/* Key @i is new at its place: keep the prefix if it shares it. Only an outermost key may not. */
static void node_key_changed(struct btree_node *n, unsigned i)
{
	bool outermost = i == 0 || i == n->count - 1U;

	if (n->count == 1 ||
	    (outermost &&
	     slice_common_prefix(btree_node_key(n, 0), btree_node_key(n, n->count - 1U)) < n->skip))
		btree_node_refresh(n);
	else
		n->head[i] = btree_node_head(btree_node_key(n, i), n->skip);
}

void btree_node_set_key(struct btree_node *n, unsigned i, struct kv_slice key)
{
	n->data[i] = key.data;
	n->len[i] = (uint32_t)key.len;
	node_key_changed(n, i);
}

void btree_node_insert(struct btree_node *n, unsigned i, struct kv_slice key, unsigned ptr_idx,
		       void *ptr)
{
	unsigned more = n->count - i;
	unsigned ptrs = n->leaf ? n->count : n->count + 1U;

	memmove(&n->head[i + 1], &n->head[i], more * sizeof(n->head[0]));
	memmove(&n->data[i + 1], &n->data[i], more * sizeof(n->data[0]));
	memmove(&n->len[i + 1], &n->len[i], more * sizeof(n->len[0]));
	memmove(&n->ptr[ptr_idx + 1], &n->ptr[ptr_idx], (ptrs - ptr_idx) * sizeof(n->ptr[0]));
	n->ptr[ptr_idx] = ptr;
	n->count++;
	btree_node_set_key(n, i, key);
}

void btree_node_erase(struct btree_node *n, unsigned i, unsigned ptr_idx)
{
	unsigned more = n->count - i - 1U;
	unsigned ptrs = n->leaf ? n->count : n->count + 1U;

	memmove(&n->head[i], &n->head[i + 1], more * sizeof(n->head[0]));
	memmove(&n->data[i], &n->data[i + 1], more * sizeof(n->data[0]));
	memmove(&n->len[i], &n->len[i + 1], more * sizeof(n->len[0]));
	memmove(&n->ptr[ptr_idx], &n->ptr[ptr_idx + 1], (ptrs - ptr_idx - 1) * sizeof(n->ptr[0]));
	n->count--;
}

struct btree_node *btree_node_new(bool leaf)
{
	struct btree_node *n = malloc(sizeof(*n));

	if (!n)
		return NULL;
	n->skip = 0;
	n->count = 0;
	n->leaf = leaf;
	n->prev = NULL;
	n->next = NULL;
	return n;
}
