/* SPDX-License-Identifier: MIT */
/*
 * The checker. Transactions that a crash took away, and those that only read and may
 * have seen them, are left out; what remains must be consistent with the lists and sets
 * at the end. Cycles are searched as strongly connected components (Tarjan) of the
 * graph with growing sets of edges; one rw is looked for by a walk from each rw in a component.
 */
#include "tests/support/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WW = 1, WR = 2, RW = 4 };

struct edge {
	uint32_t from, to;
	unsigned kind;
};

struct check {
	const struct history *h;
	bool *in; /* transactions that count */
	struct edge *edges;
	size_t edge_count, edge_cap;
	size_t *first; /* of a transaction's edges, sorted */
	unsigned found;
	/* Tarjan */
	unsigned kinds;
	uint32_t *number, *low, *stack, *component;
	uint32_t next, depth, components;
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static void report(struct check *c, enum history_anomaly a, const char *what, size_t x, size_t y)
{
	if (!(c->found & a) && !c->h->quiet)
		printf("history: %s: transactions %zu, %zu (seq %llu, %llu)\n", what, x, y,
		       (unsigned long long)c->h->txns[x].seq,
		       (unsigned long long)c->h->txns[y].seq);
	c->found |= a;
}

static size_t txn_of(uint32_t id)
{
	return id / HISTORY_OPS;
}

static bool in_list(const uint32_t *ids, size_t count, uint32_t id)
{
	for (size_t i = 0; i < count; i++) {
		if (ids[i] == id)
			return true;
	}
	return false;
}

/* ---- who counts -------------------------------------------------------------------- */

/* How many of a transaction's writes are there in the end, and how many it made. */
static void count_writes(const struct check *c, size_t t, unsigned *there, unsigned *made)
{
	const struct history_txn *txn = &c->h->txns[t];

	*there = *made = 0;
	for (unsigned i = 0; i < txn->op_count; i++) {
		const struct history_object *o = &c->h->objects[txn->op[i].object];

		if (txn->op[i].kind != HISTORY_APPEND && txn->op[i].kind != HISTORY_INSERT)
			continue;
		*made += 1;
		*there += in_list(o->ids, o->count, (uint32_t)(t * HISTORY_OPS + i));
	}
}

static void choose(struct check *c)
{
	uint64_t first_lost = UINT64_MAX;

	for (size_t t = 0; t < c->h->txn_count; t++) {
		const struct history_txn *txn = &c->h->txns[t];
		unsigned there, made;

		count_writes(c, t, &there, &made);
		if (there && there < made)
			report(c, HISTORY_TORN, "torn", t, t);
		if (there && txn->fate == HISTORY_ABORTED)
			report(c, HISTORY_G1A, "aborted but there", t, t);
		c->in[t] = made ? there > 0 : txn->fate == HISTORY_COMMITTED && !c->h->crashed;
		if (!made || there || txn->fate != HISTORY_COMMITTED)
			continue;
		if (!c->h->crashed || txn->durable)
			report(c, HISTORY_LOST, "lost", t, t);
		if (txn->seq < first_lost)
			first_lost = txn->seq;
	}
	for (size_t t = 0; t < c->h->txn_count; t++) {
		if (c->in[t] && c->h->txns[t].seq > first_lost)
			report(c, HISTORY_LOST, "there, but one before it is lost", t, t);
	}
}

/* ---- edges --------------------------------------------------------------------------- */

static void edge_add(struct check *c, size_t from, size_t to, unsigned kind)
{
	uint64_t x = c->h->txns[from].seq, y = c->h->txns[to].seq;

	if (from == to || !c->in[from] || !c->in[to])
		return;
	if (c->edge_count == c->edge_cap) {
		c->edge_cap = c->edge_cap ? 2 * c->edge_cap : 1024;
		c->edges = must(realloc(c->edges, c->edge_cap * sizeof(*c->edges)));
	}
	c->edges[c->edge_count++] = (struct edge){(uint32_t)from, (uint32_t)to, kind};
	if (x && y && x >= y) {
		if (kind == RW)
			report(c, HISTORY_COMMITS, "overwritten before it committed", from, to);
		else
			report(c, HISTORY_DEPENDS, "depends on a later commit", from, to);
	}
}

static void order_of_list(struct check *c, const struct history_object *o)
{
	for (size_t i = 0; i + 1 < o->count; i++)
		edge_add(c, txn_of(o->ids[i]), txn_of(o->ids[i + 1]), WW);
}

/* The own appends before operation @n to its list must be at the end of what it saw. */
static size_t own_writes(struct check *c, size_t t, unsigned n)
{
	const struct history_txn *txn = &c->h->txns[t];
	const struct history_op *op = &txn->op[n];
	enum history_kind kind = op->kind == HISTORY_READ ? HISTORY_APPEND : HISTORY_INSERT;
	size_t own = 0;

	for (unsigned i = 0; i < n; i++) {
		if (txn->op[i].kind != kind || txn->op[i].object != op->object)
			continue;
		own++;
		if (!in_list(op->seen, op->count, (uint32_t)(t * HISTORY_OPS + i)))
			report(c, HISTORY_ORDER, "an own write is not seen", t, t);
	}
	return own;
}

/* Did the transaction append to the object again after @id? */
static bool is_intermediate(const struct check *c, uint32_t id)
{
	const struct history_txn *txn = &c->h->txns[txn_of(id)];
	unsigned n = id % HISTORY_OPS;

	for (unsigned i = n + 1; i < txn->op_count; i++) {
		if (txn->op[i].kind == txn->op[n].kind && txn->op[i].object == txn->op[n].object)
			return true;
	}
	return false;
}

static void read_of_list(struct check *c, size_t t, unsigned n)
{
	const struct history_op *op = &c->h->txns[t].op[n];
	const struct history_object *o = &c->h->objects[op->object];
	size_t own = own_writes(c, t, n), others = op->count - own;

	if (own > op->count)
		return;
	for (size_t i = 0; i < others; i++) {
		if (c->h->txns[txn_of(op->seen[i])].fate == HISTORY_ABORTED)
			report(c, HISTORY_G1A, "aborted read", t, txn_of(op->seen[i]));
	}
	if (others > o->count ||
	    (others && memcmp(op->seen, o->ids, others * sizeof(*op->seen)) != 0)) {
		report(c, HISTORY_ORDER, "a read is no prefix", t, t);
		return;
	}
	if (others && txn_of(op->seen[others - 1]) != t) {
		if (is_intermediate(c, op->seen[others - 1]))
			report(c, HISTORY_G1B, "intermediate read", t,
			       txn_of(op->seen[others - 1]));
		edge_add(c, txn_of(op->seen[others - 1]), t, WR);
	}
	if (others < o->count)
		edge_add(c, t, txn_of(o->ids[others]), RW);
}

static void scan_of_set(struct check *c, size_t t, unsigned n)
{
	const struct history_op *op = &c->h->txns[t].op[n];
	const struct history_object *o = &c->h->objects[op->object];

	(void)own_writes(c, t, n);
	for (size_t i = 0; i < op->count; i++) {
		size_t other = txn_of(op->seen[i]);

		if (other != t && c->h->txns[other].fate == HISTORY_ABORTED)
			report(c, HISTORY_G1A, "aborted read by a scan", t, other);
		edge_add(c, other, t, WR);
	}
	for (size_t i = 0; i < o->count; i++) {
		if (!in_list(op->seen, op->count, o->ids[i]))
			edge_add(c, t, txn_of(o->ids[i]), RW);
	}
}

static void gather(struct check *c)
{
	for (size_t i = 0; i < c->h->object_count; i++) {
		if (!c->h->objects[i].set)
			order_of_list(c, &c->h->objects[i]);
	}
	for (size_t t = 0; t < c->h->txn_count; t++) {
		for (unsigned n = 0; c->in[t] && n < c->h->txns[t].op_count; n++) {
			if (c->h->txns[t].op[n].kind == HISTORY_READ)
				read_of_list(c, t, n);
			else if (c->h->txns[t].op[n].kind == HISTORY_SCAN)
				scan_of_set(c, t, n);
		}
	}
}

/* ---- cycles ---------------------------------------------------------------------------- */

static int compare_edges(const void *a, const void *b)
{
	const struct edge *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static void sort_edges(struct check *c)
{
	size_t e = 0;

	if (c->edge_count)
		qsort(c->edges, c->edge_count, sizeof(*c->edges), compare_edges);
	for (size_t t = 0; t <= c->h->txn_count; t++) {
		while (e < c->edge_count && c->edges[e].from < t)
			e++;
		c->first[t] = e;
	}
}

static void connect(struct check *c, uint32_t v)
{
	c->number[v] = c->low[v] = ++c->next;
	c->stack[c->depth++] = v;
	for (size_t e = c->first[v]; e < c->first[v + 1]; e++) {
		uint32_t w = c->edges[e].to;

		if (!(c->edges[e].kind & c->kinds))
			continue;
		if (!c->number[w])
			connect(c, w);
		if (!c->component[w] && c->low[w] < c->low[v])
			c->low[v] = c->low[w];
	}
	if (c->low[v] != c->number[v])
		return;
	c->components++;
	do
		c->component[c->stack[--c->depth]] = c->components;
	while (c->stack[c->depth] != v);
}

/* Find the components; report @a for a pair in the same one, unless it is 0. */
static void components(struct check *c, unsigned kinds, enum history_anomaly a, const char *what)
{
	size_t n = c->h->txn_count;

	memset(c->number, 0, n * sizeof(*c->number));
	memset(c->component, 0, n * sizeof(*c->component));
	c->kinds = kinds;
	c->next = c->depth = c->components = 0;
	for (size_t t = 0; t < n; t++) {
		if (!c->number[t])
			connect(c, (uint32_t)t);
	}
	for (size_t e = 0; e < c->edge_count; e++) {
		const struct edge *x = &c->edges[e];

		if ((x->kind & kinds) && c->component[x->from] == c->component[x->to])
			report(c, a, what, x->from, x->to);
	}
}

/* Is @to reached from @from by ww and wr within the component? Uses number as marks. */
static bool reaches(struct check *c, uint32_t from, uint32_t to, uint32_t mark)
{
	c->depth = 0;
	c->stack[c->depth++] = from;
	c->number[from] = mark;
	while (c->depth) {
		uint32_t v = c->stack[--c->depth];

		if (v == to)
			return true;
		for (size_t e = c->first[v]; e < c->first[v + 1]; e++) {
			uint32_t w = c->edges[e].to;

			if (c->edges[e].kind == RW || c->number[w] == mark ||
			    c->component[w] != c->component[v])
				continue;
			c->number[w] = mark;
			c->stack[c->depth++] = w;
		}
	}
	return false;
}

static void single_rw(struct check *c)
{
	uint32_t mark = UINT32_MAX;

	for (size_t e = 0; e < c->edge_count; e++) {
		const struct edge x = c->edges[e];

		if (x.kind == RW && c->component[x.from] == c->component[x.to] &&
		    reaches(c, x.to, x.from, mark--))
			report(c, HISTORY_G_SINGLE, "G-single", x.from, x.to);
	}
}

unsigned history_check(const struct history *h)
{
	struct check c = {.h = h};
	size_t n = h->txn_count + 1;

	c.in = must(calloc(n, sizeof(*c.in)));
	c.first = must(calloc(n + 1, sizeof(*c.first)));
	c.number = must(calloc(n, sizeof(*c.number)));
	c.low = must(calloc(n, sizeof(*c.low)));
	c.stack = must(calloc(n, sizeof(*c.stack)));
	c.component = must(calloc(n, sizeof(*c.component)));
	choose(&c);
	gather(&c);
	sort_edges(&c);
	components(&c, WW, HISTORY_G0, "G0");
	components(&c, WW | WR, HISTORY_G1C, "G1c");
	components(&c, WW | WR | RW, HISTORY_G2, "G2");
	single_rw(&c);
	free(c.in);
	free(c.edges);
	free(c.first);
	free(c.number);
	free(c.low);
	free(c.stack);
	free(c.component);
	return c.found;
}
