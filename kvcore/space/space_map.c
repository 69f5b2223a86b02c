/* SPDX-License-Identifier: MIT */
/*
 * Two AVL trees through the same nodes. Their depth is bounded whatever the
 * order of insertion, which a hostile manifest could choose, so recursion is
 * safe. A node is made only when an extent is added without a neighbour or one
 * is split; whatever may fail is done before anything is changed.
 */
#include "kvcore/space/space_map.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

enum side { LEFT, RIGHT, SIDES };

struct space_node {
	struct extent e;
	struct space_node *child[SPACE_ORDERS][SIDES];
	int height[SPACE_ORDERS];
};

/* ---- one AVL tree ------------------------------------------------------- */

static int compare(enum space_order o, struct extent a, struct extent b)
{
	if (o == SPACE_BY_LEN && a.len != b.len)
		return a.len < b.len ? -1 : 1;
	return (a.off > b.off) - (a.off < b.off);
}

static int height(enum space_order o, const struct space_node *n)
{
	return n ? n->height[o] : 0;
}

static void measure(enum space_order o, struct space_node *n)
{
	int l = height(o, n->child[o][LEFT]);
	int r = height(o, n->child[o][RIGHT]);

	n->height[o] = 1 + (l > r ? l : r);
}

/* Lift the child on @side above @n; returns the new top. */
static struct space_node *rotate(enum space_order o, struct space_node *n, enum side side)
{
	struct space_node *top = n->child[o][side];

	n->child[o][side] = top->child[o][!side];
	top->child[o][!side] = n;
	measure(o, n);
	measure(o, top);
	return top;
}

static struct space_node *balance(enum space_order o, struct space_node *n)
{
	int lean = height(o, n->child[o][RIGHT]) - height(o, n->child[o][LEFT]);
	enum side side = lean > 0 ? RIGHT : LEFT;
	struct space_node *c = n->child[o][side];

	measure(o, n);
	if (lean >= -1 && lean <= 1)
		return n;
	if (height(o, c->child[o][!side]) > height(o, c->child[o][side]))
		n->child[o][side] = rotate(o, c, side == LEFT ? RIGHT : LEFT);
	return rotate(o, n, side);
}

static struct space_node *tree_insert(enum space_order o, struct space_node *at,
				      struct space_node *n)
{
	enum side side;

	if (!at) {
		n->child[o][LEFT] = NULL;
		n->child[o][RIGHT] = NULL;
		n->height[o] = 1;
		return n;
	}
	side = compare(o, n->e, at->e) < 0 ? LEFT : RIGHT;
	at->child[o][side] = tree_insert(o, at->child[o][side], n);
	return balance(o, at);
}

static struct space_node *take_first(enum space_order o, struct space_node *at,
				     struct space_node **first)
{
	if (!at->child[o][LEFT]) {
		*first = at;
		return at->child[o][RIGHT];
	}
	at->child[o][LEFT] = take_first(o, at->child[o][LEFT], first);
	return balance(o, at);
}

static struct space_node *tree_remove(enum space_order o, struct space_node *at,
				      struct space_node *n)
{
	struct space_node *next;
	struct space_node *rest;
	enum side side;

	KV_ASSERT(at);
	if (at != n) {
		side = compare(o, n->e, at->e) < 0 ? LEFT : RIGHT;
		at->child[o][side] = tree_remove(o, at->child[o][side], n);
		return balance(o, at);
	}
	if (!n->child[o][LEFT])
		return n->child[o][RIGHT];
	if (!n->child[o][RIGHT])
		return n->child[o][LEFT];
	rest = take_first(o, n->child[o][RIGHT], &next);
	next->child[o][LEFT] = n->child[o][LEFT];
	next->child[o][RIGHT] = rest;
	return balance(o, next);
}

/* ---- both trees --------------------------------------------------------- */

static void link_node(struct space_map *m, struct space_node *n)
{
	m->root[SPACE_BY_OFF] = tree_insert(SPACE_BY_OFF, m->root[SPACE_BY_OFF], n);
	m->root[SPACE_BY_LEN] = tree_insert(SPACE_BY_LEN, m->root[SPACE_BY_LEN], n);
	m->bytes += n->e.len;
	m->count++;
}

static void unlink_node(struct space_map *m, struct space_node *n)
{
	m->root[SPACE_BY_OFF] = tree_remove(SPACE_BY_OFF, m->root[SPACE_BY_OFF], n);
	m->root[SPACE_BY_LEN] = tree_remove(SPACE_BY_LEN, m->root[SPACE_BY_LEN], n);
	m->bytes -= n->e.len;
	m->count--;
}

/* The last node that begins at or before @off, and the first that begins after it. */
static void around(const struct space_map *m, uint64_t off, struct space_node **before,
		   struct space_node **after)
{
	struct space_node *n = m->root[SPACE_BY_OFF];

	*before = NULL;
	*after = NULL;
	while (n) {
		if (n->e.off <= off) {
			*before = n;
			n = n->child[SPACE_BY_OFF][RIGHT];
		} else {
			*after = n;
			n = n->child[SPACE_BY_OFF][LEFT];
		}
	}
}

static void free_tree(struct space_node *n)
{
	if (!n)
		return;
	free_tree(n->child[SPACE_BY_OFF][LEFT]);
	free_tree(n->child[SPACE_BY_OFF][RIGHT]);
	free(n);
}

void space_map_fini(struct space_map *m)
{
	free_tree(m->root[SPACE_BY_OFF]);
	*m = (struct space_map){0};
}

int space_map_add(struct space_map *m, struct extent e)
{
	struct space_node *before;
	struct space_node *after;
	struct space_node *n = NULL;

	KV_ASSERT(e.len != 0 && e.off <= UINT64_MAX - e.len);
	around(m, e.off, &before, &after);
	KV_ASSERT(!before || before->e.off + before->e.len <= e.off);
	KV_ASSERT(!after || e.off + e.len <= after->e.off);
	if (before && before->e.off + before->e.len == e.off) {
		unlink_node(m, before);
		e = (struct extent){before->e.off, before->e.len + e.len};
		n = before;
	}
	if (after && e.off + e.len == after->e.off) {
		unlink_node(m, after);
		e.len += after->e.len;
		if (n)
			free(after);
		else
			n = after;
	}
	if (!n)
		n = malloc(sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->e = e;
	link_node(m, n);
	return 0;
}

int space_map_remove(struct space_map *m, struct extent e)
{
	struct space_node *n;
	struct space_node *after;
	struct space_node *second = NULL;
	struct extent left;
	struct extent right;

	around(m, e.off, &n, &after);
	if (!n || e.len == 0 || e.off - n->e.off >= n->e.len ||
	    e.len > n->e.len - (e.off - n->e.off))
		return -KV_E_NOTFOUND;
	left = (struct extent){n->e.off, e.off - n->e.off};
	right = (struct extent){e.off + e.len, n->e.len - left.len - e.len};
	if (left.len != 0 && right.len != 0) {
		second = malloc(sizeof(*second));
		if (!second)
			return -ENOMEM;
	}
	unlink_node(m, n);
	if (second) {
		second->e = right;
		link_node(m, second);
	}
	if (left.len == 0 && right.len == 0) {
		free(n);
		return 0;
	}
	n->e = left.len != 0 ? left : right;
	link_node(m, n);
	return 0;
}

bool space_map_fit(const struct space_map *m, uint64_t len, struct extent *out)
{
	const struct space_node *n = m->root[SPACE_BY_LEN];
	const struct space_node *best = NULL;

	while (n) {
		if (n->e.len >= len) {
			best = n;
			n = n->child[SPACE_BY_LEN][LEFT];
		} else {
			n = n->child[SPACE_BY_LEN][RIGHT];
		}
	}
	if (best)
		*out = best->e;
	return best != NULL;
}

static bool last_of(const struct space_map *m, enum space_order order, struct extent *out)
{
	const struct space_node *n = m->root[order];

	if (!n)
		return false;
	while (n->child[order][RIGHT])
		n = n->child[order][RIGHT];
	*out = n->e;
	return true;
}

bool space_map_largest(const struct space_map *m, struct extent *out)
{
	return last_of(m, SPACE_BY_LEN, out);
}

bool space_map_last(const struct space_map *m, struct extent *out)
{
	return last_of(m, SPACE_BY_OFF, out);
}

/* ---- check -------------------------------------------------------------- */

struct walk {
	const struct space_node *last;
	uint64_t bytes;
	uint64_t count;
	bool good;
};

static void check_tree(enum space_order o, const struct space_node *n, struct walk *w)
{
	int l;
	int r;

	if (!n)
		return;
	l = height(o, n->child[o][LEFT]);
	r = height(o, n->child[o][RIGHT]);
	if (n->height[o] != 1 + (l > r ? l : r) || l - r > 1 || r - l > 1)
		w->good = false;
	check_tree(o, n->child[o][LEFT], w);
	if (w->last && compare(o, w->last->e, n->e) >= 0)
		w->good = false;
	if (w->last && o == SPACE_BY_OFF && w->last->e.off + w->last->e.len >= n->e.off)
		w->good = false;
	w->last = n;
	w->bytes += n->e.len;
	w->count++;
	check_tree(o, n->child[o][RIGHT], w);
}

bool space_map_check(const struct space_map *m)
{
	for (unsigned o = 0; o < SPACE_ORDERS; o++) {
		struct walk w = {.good = true};

		check_tree((enum space_order)o, m->root[o], &w);
		if (!w.good || w.bytes != m->bytes || w.count != m->count)
			return false;
	}
	return true;
}
