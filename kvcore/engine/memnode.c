/* SPDX-License-Identifier: MIT */
/*
 * Searching and changing one node of the concurrent B+-tree. A search is a binary
 * search of integers; keys are looked at only where heads are equal. Heads are
 * computed anew, which touches every key, only when a split leaves a node whose
 * heads say little, or when a key without the skipped bytes enters an edge node.
 */
#include "kvcore/engine/memnode.h"

#include <string.h>

#include "kvcore/base/bytes.h"

/* Heads that share this many bytes say too little. */
#define HEAD_DULL_BITS 32

static uint64_t head_at(const struct memnode *n, unsigned i)
{
	return atomic_load_explicit(&n->head[i], memory_order_acquire);
}

static void set_head(struct memnode *n, unsigned i, uint64_t head)
{
	atomic_store_explicit(&n->head[i], head, memory_order_release);
}

static void set_key(struct memnode *n, unsigned i, struct memkey *key)
{
	atomic_store_explicit(&n->key[i], key, memory_order_release);
}

static void set_child(struct memnode *n, unsigned i, struct memnode *child)
{
	atomic_store_explicit(&n->child[i], child, memory_order_release);
}

static void set_meta(struct memnode *n, struct memnode_meta m)
{
	uint64_t w = (uint64_t)m.skip << 32 | (m.edge ? 1U << 16 : 0U) | m.level << 8 | m.count;

	atomic_store_explicit(&n->meta, w, memory_order_release);
}

static struct memkey *low_of(const struct memnode *n)
{
	return atomic_load_explicit(&n->low, memory_order_acquire);
}

static struct memkey *high_of(const struct memnode *n)
{
	return atomic_load_explicit(&n->high, memory_order_acquire);
}

static void set_bounds(struct memnode *n, struct memkey *low, struct memkey *high)
{
	atomic_store_explicit(&n->low, low, memory_order_release);
	atomic_store_explicit(&n->high, high, memory_order_release);
}

struct memnode *memnode_new(struct arena *arena, unsigned level, bool root)
{
	/* The root begins as a leaf and gets children later. */
	size_t children = level || root ? MEMNODE_KEYS + 1 : 0;
	struct memnode *n =
		arena_alloc(arena, sizeof(*n) + children * sizeof(_Atomic(struct memnode *)));

	if (!n)
		return NULL;
	atomic_init(&n->version, 0);
	atomic_init(&n->low, NULL);
	atomic_init(&n->high, NULL);
	set_meta(n, (struct memnode_meta){.level = level, .edge = true});
	return n;
}

/* ---- searching ------------------------------------------------------------ */

uint64_t memnode_head(struct kv_slice key, size_t skip)
{
	uint8_t padded[8] = {0};

	if (key.len >= skip + sizeof(padded))
		return be64_at(key.data + skip);
	if (key.len > skip)
		memcpy(padded, key.data + skip, key.len - skip);
	return be64_at(padded);
}

/* Where does @key stand relative to the keys that share the skipped bytes of an edge node? */
static int prefix_compare(const struct memnode *n, struct memnode_meta m, struct kv_slice key)
{
	struct kv_slice first;

	if (!m.skip || !m.count)
		return 0;
	first = memkey_slice(memnode_key(n, 0));
	first.len = min_u64(first.len, m.skip); /* it is longer, unless what was read is torn */
	if (key.len >= first.len)
		key.len = first.len;
	return slice_compare(key, first);
}

/* First of @count sorted numbers that is not below @head. */
static unsigned head_lower_bound(const struct memnode *n, unsigned count, uint64_t head)
{
	unsigned base = 0;

	if (!count)
		return 0;
	while (count > 1) {
		unsigned half = count / 2;

		base += head_at(n, base + half - 1) < head ? half : 0;
		count -= half;
	}
	return base + (head_at(n, base) < head);
}

static unsigned search_equal_heads(const struct memnode *n, unsigned lo, unsigned hi,
				   struct kv_slice key, bool *equal)
{
	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;
		int c = slice_compare(memkey_slice(memnode_key(n, mid)), key);

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

unsigned memnode_search(const struct memnode *n, struct memnode_meta m, struct kv_slice key,
			bool *equal)
{
	uint64_t head;
	unsigned lo, hi;
	int c;

	*equal = false;
	if (m.edge) {
		c = prefix_compare(n, m, key);
		if (c)
			return c < 0 ? 0 : m.count;
	}
	head = memnode_head(key, m.skip);
	lo = head_lower_bound(n, m.count, head);
	hi = lo;
	while (hi < m.count && head_at(n, hi) == head)
		hi++;
	return search_equal_heads(n, lo, hi, key, equal);
}

/* ---- changes -------------------------------------------------------------- */

/* Compute the heads anew, skipping what is known to be shared. */
static void refresh(struct memnode *n)
{
	struct memnode_meta m = memnode_meta(n);
	const struct memkey *first = m.edge ? memnode_key(n, 0) : low_of(n);
	const struct memkey *last = m.edge ? memnode_key(n, m.count - 1) : high_of(n);

	m.skip = (uint32_t)slice_common_prefix(memkey_slice(first), memkey_slice(last));
	for (unsigned i = 0; i < m.count; i++)
		set_head(n, i, memnode_head(memkey_slice(memnode_key(n, i)), m.skip));
	set_meta(n, m);
}

/*
 * After a split. What an inner edge node skips is shared by its keys but not by all keys that
 * belong below it, so it must not be skipped any longer when the node is an edge no more.
 */
static void refresh_half(struct memnode *n, bool was_edge)
{
	struct memnode_meta m = memnode_meta(n);

	if (!m.count)
		return;
	if (m.edge != was_edge ||
	    (head_at(n, 0) ^ head_at(n, m.count - 1)) >> (64 - HEAD_DULL_BITS) == 0)
		refresh(n);
}

/* An edge node skips bytes that a new key of it lacks: skip fewer. */
static void shorten_skip(struct memnode *n, const struct memkey *key)
{
	struct memnode_meta m = memnode_meta(n);
	size_t common = slice_common_prefix(memkey_slice(memnode_key(n, 0)), memkey_slice(key));

	if (common >= m.skip)
		return;
	m.skip = (uint32_t)common;
	for (unsigned i = 0; i < m.count; i++)
		set_head(n, i, memnode_head(memkey_slice(memnode_key(n, i)), m.skip));
	set_meta(n, m);
}

void memnode_insert(struct memnode *n, unsigned i, struct memkey *key, struct memnode *right)
{
	struct memnode_meta m = memnode_meta(n);

	KV_DEBUG_ASSERT(m.count < MEMNODE_KEYS && i <= m.count);
	if (m.edge && m.skip && m.count) {
		shorten_skip(n, key);
		m = memnode_meta(n);
	}
	for (unsigned j = m.count; j > i; j--) {
		set_head(n, j, head_at(n, j - 1));
		set_key(n, j, memnode_key(n, j - 1));
	}
	if (right) {
		for (unsigned j = m.count + 1; j > i + 1; j--)
			set_child(n, j, memnode_child(n, j - 1));
		set_child(n, i + 1, right);
	}
	set_head(n, i, memnode_head(memkey_slice(key), m.skip));
	set_key(n, i, key);
	m.count++;
	set_meta(n, m);
}

struct memkey *memnode_split(struct memnode *n, unsigned keep, struct memnode *right)
{
	struct memnode_meta m = memnode_meta(n);
	struct memnode_meta r = m;
	bool was_edge = m.edge;
	struct memkey *sep = memnode_key(n, keep);
	unsigned from = m.level ? keep + 1 : keep;

	for (unsigned i = from; i < m.count; i++) {
		set_head(right, i - from, head_at(n, i));
		set_key(right, i - from, memnode_key(n, i));
	}
	for (unsigned i = from; m.level && i <= m.count; i++)
		set_child(right, i - from, memnode_child(n, i));
	set_bounds(right, sep, high_of(n));
	r.count = m.count - from;
	r.edge = !high_of(n);
	set_meta(right, r);
	set_bounds(n, low_of(n), sep);
	m.count = keep;
	m.edge = !low_of(n);
	set_meta(n, m);
	refresh_half(n, was_edge);
	refresh_half(right, was_edge);
	return sep;
}

void memnode_move(struct memnode *n, struct memnode *to)
{
	struct memnode_meta m = memnode_meta(n);

	for (unsigned i = 0; i < m.count; i++) {
		set_head(to, i, head_at(n, i));
		set_key(to, i, memnode_key(n, i));
	}
	for (unsigned i = 0; m.level && i <= m.count; i++)
		set_child(to, i, memnode_child(n, i));
	set_bounds(to, low_of(n), high_of(n));
	set_meta(to, m);
}

void memnode_adopt(struct memnode *n, struct memnode *left, struct memkey *sep,
		   struct memnode *right)
{
	struct memnode_meta m = memnode_meta(n);

	m.level++;
	m.count = 1;
	m.skip = sep->len;
	set_child(n, 0, left);
	set_child(n, 1, right);
	set_head(n, 0, 0);
	set_key(n, 0, sep);
	set_meta(n, m);
}
