/* SPDX-License-Identifier: MIT */
/*
 * Descents, insertion and walks of the concurrent B+-tree. A descent validates the parent
 * after it has read the child's version, so the child was the right one at that
 * version; whatever fails to validate starts again at the root.
 *
 * An inserter splits full nodes on its way down, so a parent always has room. Node
 * and parent are locked at the versions seen, which is a try that never waits
 * with a lock held: there is no deadlock. The root splits by moving its content into
 * two new children and so stays in place.
 *
 * Neighbours are found through the bounds: behind a leaf comes the one that holds its
 * high bound, which is a key of the tree. No leaf links to another.
 */
#include "kvcore/engine/memtree.h"

#include <errno.h>

#include "kvcore/engine/memnode.h"

static const struct memtree_pos nowhere;

int memtree_init(struct memtree *t, struct arena *arena)
{
	t->root = memnode_new(arena, 0, true);
	return t->root ? 0 : -ENOMEM;
}

/* ---- descents ------------------------------------------------------------- */

/* Ask for the lines that a search reads first, all at once: they are seldom in the cache. */
static void prefetch(const struct memnode *n)
{
	const char *p = (const char *)n;

	for (size_t off = 0; off < offsetof(struct memnode, key); off += 64)
		__builtin_prefetch(p + off);
}

/* A node on the way down; version is what all that was read of it is validated against. */
struct step {
	struct memnode *n;
	uint64_t version;
	struct memnode_meta m;
};

static struct step step_root(const struct memtree *t)
{
	struct step s = {.n = t->root};

	s.version = memnode_version(s.n);
	s.m = memnode_meta(s.n);
	return s;
}

/* To the child of index @i. false: the node changed meanwhile. */
static bool step_down(struct step *s, unsigned i)
{
	struct step next = {.n = memnode_child(s->n, i)};

	prefetch(next.n);
	next.version = memnode_version(next.n);
	if (!memnode_valid(s->n, s->version))
		return false;
	next.m = memnode_meta(next.n);
	*s = next;
	return true;
}

/* Which way a descent turns at a separator that equals the key. */
enum turn { TURN_RIGHT, TURN_LEFT };

static unsigned child_index(const struct step *s, struct kv_slice key, enum turn turn)
{
	bool equal;
	unsigned i = memnode_search(s->n, s->m, key, &equal);

	return equal && turn == TURN_RIGHT ? i + 1 : i;
}

/* The leaf whose keys are from low up to without high (TURN_LEFT: above low up to high). */
static struct step descend(const struct memtree *t, struct kv_slice key, enum turn turn)
{
	struct step s;

restart:
	s = step_root(t);
	while (s.m.level) {
		if (!step_down(&s, child_index(&s, key, turn)))
			goto restart;
	}
	return s;
}

static struct memtree_pos pos_at(const struct step *s, unsigned slot)
{
	return (struct memtree_pos){s->n, s->version, slot, memnode_key(s->n, slot)};
}

struct memtree_pos memtree_find(const struct memtree *t, struct kv_slice key)
{
	struct memtree_pos p;
	struct step s;
	bool equal;

	do {
		s = descend(t, key, TURN_RIGHT);
		p = (struct memtree_pos){s.n, s.version, memnode_search(s.n, s.m, key, &equal),
					 NULL};
		if (equal)
			p.key = memnode_key(s.n, p.slot);
	} while (!memnode_valid(s.n, s.version));
	return p;
}

/* ---- insertion ------------------------------------------------------------ */

static int split_root(struct arena *arena, struct step *s, unsigned keep)
{
	struct memnode *left = memnode_new(arena, s->m.level, false);
	struct memnode *right = memnode_new(arena, s->m.level, false);
	struct memkey *sep;

	if (!left || !right)
		return -ENOMEM;
	if (!memnode_lock(s->n, s->version))
		return 0;
	memnode_move(s->n, left);
	sep = memnode_split(left, keep, right);
	memnode_adopt(s->n, left, sep, right);
	memnode_unlock(s->n, s->version, true);
	return 0;
}

/*
 * Split a full node, or let it be if it or its parent changed: the caller starts again in any
 * case. What was made for a split that another thread did stays unused in the arena.
 */
static int split(struct arena *arena, struct step *parent, struct step *s, struct kv_slice key)
{
	unsigned keep = MEMNODE_KEYS / 2;
	struct memnode *right;
	struct memkey *sep;
	bool equal, locked;

	/* Keys that come in order leave full leaves behind. */
	if (!s->m.level && s->m.edge && memnode_search(s->n, s->m, key, &equal) == MEMNODE_KEYS)
		keep = MEMNODE_KEYS - 1;
	if (!parent->n)
		return split_root(arena, s, keep);
	right = memnode_new(arena, s->m.level, false);
	if (!right)
		return -ENOMEM;
	if (!memnode_lock(parent->n, parent->version))
		return 0;
	locked = memnode_lock(s->n, s->version);
	if (locked) {
		sep = memnode_split(s->n, keep, right);
		memnode_insert(parent->n,
			       memnode_search(parent->n, parent->m, memkey_slice(sep), &equal), sep,
			       right);
		memnode_unlock(s->n, s->version, true);
	}
	memnode_unlock(parent->n, parent->version, locked);
	return 0;
}

static bool insert_at(struct memtree_pos at, struct memkey *record)
{
	/* The count is of this version if the lock succeeds. */
	if (memnode_meta(at.leaf).count == MEMNODE_KEYS || !memnode_lock(at.leaf, at.version))
		return false;
	memnode_insert(at.leaf, at.slot, record, NULL);
	memnode_unlock(at.leaf, at.version, true);
	return true;
}

/* To the leaf of the record's key, splitting what is full. key NULL and no leaf: start again. */
static int make_place(struct memtree *t, struct arena *arena, struct kv_slice key,
		      struct memtree_pos *out)
{
	struct step parent = {.n = NULL};
	struct step s = step_root(t);
	bool equal;

	*out = nowhere;
	for (;;) {
		if (s.m.count == MEMNODE_KEYS && memnode_valid(s.n, s.version))
			return split(arena, &parent, &s, key);
		if (!s.m.level)
			break;
		parent = s;
		if (!step_down(&s, child_index(&s, key, TURN_RIGHT)))
			return 0;
	}
	*out = (struct memtree_pos){s.n, s.version, memnode_search(s.n, s.m, key, &equal), NULL};
	if (equal)
		out->key = memnode_key(s.n, out->slot);
	if (!memnode_valid(s.n, s.version))
		*out = nowhere;
	return 0;
}

int memtree_insert(struct memtree *t, struct arena *arena, struct memtree_pos at,
		   struct memkey *record, struct memkey **out)
{
	struct kv_slice key = memkey_slice(record);
	int err;

	while (!at.key && !(at.leaf && insert_at(at, record))) {
		err = make_place(t, arena, key, &at);
		if (err)
			return err;
	}
	*out = at.key ? at.key : record;
	return 0;
}

/* ---- walks ---------------------------------------------------------------- */

enum bound { BOUND_LOW, BOUND_HIGH };

static struct memkey *bound_of(const struct memnode *n, enum bound b)
{
	return atomic_load_explicit(b == BOUND_LOW ? &n->low : &n->high, memory_order_acquire);
}

/* The first key >= @key, or > @key if @after. */
static struct memtree_pos seek(const struct memtree *t, struct kv_slice key, bool after)
{
	struct memtree_pos p;
	struct memkey *high;
	struct step s;
	unsigned i;
	bool equal;

	for (;;) {
		s = descend(t, key, TURN_RIGHT);
		i = memnode_search(s.n, s.m, key, &equal);
		if (equal && after)
			i++;
		high = bound_of(s.n, BOUND_HIGH);
		p = i < s.m.count ? pos_at(&s, i) : nowhere;
		if (!memnode_valid(s.n, s.version))
			continue;
		if (p.key || !high)
			return p;
		key = memkey_slice(high);
		after = false;
	}
}

/* The last key < @key. */
struct memtree_pos memtree_seek_before(const struct memtree *t, struct kv_slice key)
{
	struct memtree_pos p;
	struct step s;
	unsigned i;
	bool equal;

	do {
		s = descend(t, key, TURN_LEFT);
		i = memnode_search(s.n, s.m, key, &equal);
		/* A leaf contains its low bound, so only the first one can lack such a key. */
		p = i ? pos_at(&s, i - 1) : nowhere;
	} while (!memnode_valid(s.n, s.version));
	return p;
}

struct memtree_pos memtree_seek(const struct memtree *t, struct kv_slice key)
{
	return seek(t, key, false);
}

struct memtree_pos memtree_floor(const struct memtree *t, struct kv_slice key)
{
	struct memtree_pos p;
	struct step s;
	unsigned i;
	bool equal;

	do {
		s = descend(t, key, TURN_RIGHT);
		i = memnode_search(s.n, s.m, key, &equal);
		i += equal;
		p = i ? pos_at(&s, i - 1) : nowhere;
	} while (!memnode_valid(s.n, s.version));
	return p;
}

struct memtree_pos memtree_first(const struct memtree *t)
{
	return seek(t, kv_slice_of(NULL, 0), false);
}

struct memtree_pos memtree_last(const struct memtree *t)
{
	struct memtree_pos p;
	struct step s;

restart:
	s = step_root(t);
	while (s.m.level) {
		if (!step_down(&s, s.m.count))
			goto restart;
	}
	p = s.m.count ? pos_at(&s, s.m.count - 1) : nowhere;
	if (!memnode_valid(s.n, s.version))
		goto restart;
	return p;
}

struct memtree_pos memtree_next(const struct memtree *t, struct memtree_pos p)
{
	struct memtree_pos next = p;
	struct memkey *high = NULL;

	next.key = NULL;
	next.slot++;
	if (next.slot < memnode_meta(p.leaf).count)
		next.key = memnode_key(p.leaf, next.slot);
	else
		high = bound_of(p.leaf, BOUND_HIGH);
	if (!memnode_valid(p.leaf, p.version))
		return seek(t, memkey_slice(p.key), true);
	if (next.key || !high)
		return next;
	return seek(t, memkey_slice(high), false);
}

struct memtree_pos memtree_prev(const struct memtree *t, struct memtree_pos p)
{
	struct memtree_pos prev = p;

	if (!p.slot)
		return memtree_seek_before(t, memkey_slice(p.key));
	prev.slot--;
	prev.key = memnode_key(p.leaf, prev.slot);
	if (!memnode_valid(p.leaf, p.version))
		return memtree_seek_before(t, memkey_slice(p.key));
	return prev;
}
