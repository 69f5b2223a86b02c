/* SPDX-License-Identifier: MIT */
/*
 * Ranges. All that are held or wanted stand in one interval tree under the graph
 * mutex. A request enters the tree first, and gathers an edge to everything that is in its
 * way at that moment: earlier ranges from the tree, holders of keys from the shards.
 * Later requests find it in the tree and wait for it, so the set of whom it
 * waits for only shrinks, and when its last edge goes it is granted.
 *
 * A key meets ranges when it has won its lock in its shard: a range that came
 * first makes it wait, as a point in the same tree; a range that comes later finds the
 * hold in the shard, or the point in the tree.
 *
 *   lock_acquire_range() -> in the tree -> edges gathered -> no edge left: held
 *                                              |-- time-out, deadlock --> gone
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/lock_graph.h"

static struct lock_span *span_of(struct lock_tree_node *n)
{
	return KV_CONTAINER_OF(n, struct lock_span, node);
}

/* ---- edges; all under the graph mutex ------------------------------------------- */

static int edge_add(struct lock_span *waiter, struct lock_owner *blocker, struct lock_span *reason)
{
	struct lock_edge *e = malloc(sizeof(*e));

	if (!e)
		return -ENOMEM;
	*e = (struct lock_edge){waiter, blocker, reason, waiter->edges, NULL, blocker->blocks};
	waiter->edges = e;
	waiter->blockers++;
	if (e->next)
		e->next->prev = e;
	blocker->blocks = e;
	atomic_fetch_add_explicit(&blocker->blocks_count, 1, memory_order_relaxed);
	return 0;
}

/* Its waiter is granted what it wants if this was the last. */
static void edge_drop(struct lock_edge *e)
{
	struct lock_span *waiter = e->waiter;
	struct lock_edge **link = &waiter->edges;

	while (*link != e)
		link = &(*link)->waiter_next;
	*link = e->waiter_next;
	if (e->prev)
		e->prev->next = e->next;
	else
		e->blocker->blocks = e->next;
	if (e->next)
		e->next->prev = e->prev;
	atomic_fetch_sub_explicit(&e->blocker->blocks_count, 1, memory_order_relaxed);
	free(e);
	if (--waiter->blockers == 0) {
		waiter->owner->waits_with = NULL;
		os_cond_signal(&waiter->owner->granted);
	}
}

static bool waits_for(const struct lock_span *span, const struct lock_owner *o)
{
	const struct lock_edge *e = span->edges;

	while (e && e->blocker != o)
		e = e->waiter_next;
	return e != NULL;
}

/* The spans that wait because of @reason, of the same owner, do so no more. */
static void withdraw(struct lock_span *reason)
{
	struct lock_edge *e = reason->owner->blocks;

	while (e) {
		struct lock_edge *next = e->next;

		if (e->reason == reason)
			edge_drop(e);
		e = next;
	}
}

/* They wait for the owner's locks from now on. */
static void settle(const struct lock_span *reason)
{
	for (struct lock_edge *e = reason->owner->blocks; e; e = e->next) {
		if (e->reason == reason)
			e->reason = NULL;
	}
}

/* ---- gathering -------------------------------------------------------------------- */

struct gather {
	struct lock_span *span;
	struct lock_manager *lm;
	int err;
};

/* A range that is still asking the shards will find what the owner, whose thread this is, holds. */
static bool will_wait(const struct lock_span *span, const struct lock_owner *o)
{
	for (const struct held *h = o->first; h; h = h->owner_next) {
		struct kv_slice key = h->lock->node.from;

		if (lock_conflict(h->shown, span->mode) &&
		    slice_compare(span->node.from, key) <= 0 &&
		    slice_compare(key, span->node.to) < 0)
			return true;
	}
	return false;
}

static bool gather_span(void *ctx, struct lock_tree_node *n)
{
	struct gather *g = ctx;
	struct lock_span *other = span_of(n);
	struct lock_owner *o = g->span->owner;

	if (other->owner == o || !lock_conflict(other->mode, g->span->mode) ||
	    (other->point && g->span->point))
		return true;
	/* Go before a range that cannot go on before this owner has. */
	if (other->blockers && (waits_for(other, o) || (other->gathering && will_wait(other, o))))
		return true;
	g->err = edge_add(g->span, other->owner, other);
	return !g->err;
}

/* Prepare @span, whose owner, mode and bounds are set, and find the spans in its way. */
static int gather_spans(struct lock_manager *lm, struct lock_span *span)
{
	struct gather g = {.span = span, .lm = lm};

	span->edges = NULL;
	span->blockers = 1;
	lock_tree_each(&lm->spans, span->node.from, span->node.to, gather_span, &g);
	return g.err;
}

/* A holder of a key in the range. */
static int gather_holder(struct gather *g, struct lock_owner *holder)
{
	int err = 0;

	os_mutex_lock(&g->lm->graph);
	if (!waits_for(g->span, holder))
		err = edge_add(g->span, holder, NULL);
	os_mutex_unlock(&g->lm->graph);
	return err;
}

static bool gather_lock(void *ctx, struct lock_tree_node *n)
{
	struct gather *g = ctx;
	const struct lock *l = KV_CONTAINER_OF(n, struct lock, node);

	for (const struct held *h = l->holders; h && !g->err; h = h->next) {
		if (h->owner != g->span->owner && lock_conflict(h->shown, g->span->mode))
			g->err = gather_holder(g, h->owner);
	}
	return !g->err;
}

static int gather_keys(struct lock_manager *lm, struct lock_span *span)
{
	struct gather g = {.span = span, .lm = lm};

	for (unsigned i = 0; i < LOCK_SHARDS && !g.err; i++) {
		struct lock_shard *s = &lm->shards[i];

		os_mutex_lock(&s->mu);
		lock_table_each(s, span->node.from, span->node.to, gather_lock, &g);
		os_mutex_unlock(&s->mu);
	}
	return g.err;
}

/* ---- waiting ------------------------------------------------------------------------- */

/* All edges are there. Decide whether to wait; spans that are granted have no blockers. */
static int start_waiting(struct lock_manager *lm, struct lock_span *span, uint64_t deadline_ns)
{
	struct lock_owner *o = span->owner;

	if (--span->blockers == 0) {
		o->waits_with = NULL;
		return 0;
	}
	o->waits_with = span;
	if (!deadline_ns)
		return -KV_E_LOCK_TIMEOUT;
	if (lock_graph_cycle(o, ++lm->searches)) {
		atomic_fetch_add_explicit(&lm->deadlocks, 1, memory_order_relaxed);
		return -KV_E_DEADLOCK;
	}
	atomic_fetch_add_explicit(&lm->waits, 1, memory_order_relaxed);
	return 0;
}

/* Give a request up. It is granted nothing, and nobody waits for it. */
static void cancel(struct lock_span *span)
{
	span->owner->waits_with = NULL;
	span->blockers += 1; /* so that dropping the last edge grants nothing */
	while (span->edges)
		edge_drop(span->edges);
	withdraw(span);
}

static void wait_for_edges(const struct lock_span *span, uint64_t deadline_ns)
{
	while (span->blockers && lock_wait(span->owner, deadline_ns))
		;
}

/* ---- keys ------------------------------------------------------------------------------ */

int lock_range_pass(struct lock_owner *o, struct lock_shard *s, struct held *h,
		    uint64_t deadline_ns)
{
	struct lock_manager *lm = o->lm;
	struct lock_span *p = &o->point;
	int err;

	os_mutex_lock(&s->mu);
	os_mutex_lock(&lm->graph);
	p->owner = o;
	p->mode = h->mode;
	p->point = true;
	p->node.from = h->lock->node.from;
	p->node.to = h->lock->node.to;
	err = gather_spans(lm, p);
	if (!err)
		err = start_waiting(lm, p, deadline_ns);
	if (!err && p->blockers) {
		lock_tree_insert(&lm->spans, &p->node);
		os_mutex_unlock(&s->mu);
		wait_for_edges(p, deadline_ns);
		os_mutex_unlock(&lm->graph);
		os_mutex_lock(&s->mu);
		os_mutex_lock(&lm->graph);
		if (p->blockers)
			err = -KV_E_LOCK_TIMEOUT;
		else
			settle(p);
		lock_tree_remove(&lm->spans, &p->node);
	}
	if (err)
		cancel(p);
	else
		h->shown = h->mode;
	os_mutex_unlock(&lm->graph);
	os_mutex_unlock(&s->mu);
	return err;
}

/* ---- ranges -------------------------------------------------------------------------------- */

struct cover {
	const struct lock_span *span;
	bool found;
};

static bool cover_visit(void *ctx, struct lock_tree_node *n)
{
	struct cover *c = ctx;
	const struct lock_span *other = span_of(n);

	c->found = other->owner == c->span->owner && !other->point &&
		   other->mode >= c->span->mode &&
		   slice_compare(other->node.from, c->span->node.from) <= 0 &&
		   slice_compare(other->node.to, c->span->node.to) >= 0;
	return !c->found;
}

static bool covered(struct lock_manager *lm, const struct lock_span *span)
{
	struct cover c = {.span = span};

	if (!span->owner->spans)
		return false;
	os_mutex_lock(&lm->graph);
	lock_tree_each(&lm->spans, span->node.from, span->node.to, cover_visit, &c);
	os_mutex_unlock(&lm->graph);
	return c.found;
}

static struct lock_span *span_new(struct lock_owner *o, struct kv_slice from, struct kv_slice to,
				  enum lock_mode mode)
{
	struct lock_span *span = calloc(1, sizeof(*span) + from.len + to.len);
	uint8_t *bounds;

	if (!span)
		return NULL;
	bounds = (uint8_t *)(span + 1);
	span->owner = o;
	span->mode = mode;
	if (from.len)
		memcpy(bounds, from.data, from.len);
	memcpy(bounds + from.len, to.data, to.len);
	span->node.from = kv_slice_of(bounds, from.len);
	span->node.to = kv_slice_of(bounds + from.len, to.len);
	return span;
}

/* Enter the tree, gather, wait. On error it has left the tree again. */
static int take(struct lock_manager *lm, struct lock_span *span, uint64_t deadline_ns)
{
	int err;

	os_mutex_lock(&lm->graph);
	span->gathering = true;
	err = gather_spans(lm, span);
	lock_tree_insert(&lm->spans, &span->node);
	span->owner->waits_with = span; /* searches by others may pass through it already */
	atomic_fetch_add_explicit(&lm->ranges, 1, memory_order_relaxed);
	os_mutex_unlock(&lm->graph);
	if (!err)
		err = gather_keys(lm, span);
	os_mutex_lock(&lm->graph);
	span->gathering = false;
	if (!err)
		err = start_waiting(lm, span, deadline_ns);
	if (!err) {
		wait_for_edges(span, deadline_ns);
		if (span->blockers)
			err = -KV_E_LOCK_TIMEOUT;
	}
	if (err) {
		lock_tree_remove(&lm->spans, &span->node);
		atomic_fetch_sub_explicit(&lm->ranges, 1, memory_order_release);
		cancel(span);
	}
	os_mutex_unlock(&lm->graph);
	return err;
}

int lock_acquire_range(struct lock_owner *o, struct kv_slice from, struct kv_slice to,
		       enum lock_mode mode, unsigned timeout_ms)
{
	struct lock_manager *lm = o->lm;
	struct lock_span *span = span_new(o, from, to, mode);
	int err = 0;

	if (!span)
		return -ENOMEM;
	if (covered(lm, span))
		goto out;
	err = take(lm, span, lock_deadline(timeout_ms));
	if (err == -KV_E_LOCK_TIMEOUT)
		atomic_fetch_add_explicit(&lm->timeouts, 1, memory_order_relaxed);
	if (err)
		goto out;
	span->next_held = o->spans;
	o->spans = span;
	o->span_count++;
	span = NULL;
out:
	free(span);
	return err;
}

void lock_range_release(struct lock_owner *o)
{
	struct lock_manager *lm = o->lm;

	/* Whoever came to wait for a lock of this owner did so before that lock was released. */
	if (!o->spans && !atomic_load_explicit(&o->blocks_count, memory_order_relaxed))
		return;
	os_mutex_lock(&lm->graph);
	for (struct lock_span *s = o->spans; s; s = s->next_held)
		lock_tree_remove(&lm->spans, &s->node);
	/* Pairs with lock_ranges_in_use(): who sees no range sees what was done under them. */
	atomic_fetch_sub_explicit(&lm->ranges, o->span_count, memory_order_release);
	while (o->blocks)
		edge_drop(o->blocks); /* NOLINT(clang-analyzer-unix.Malloc): it moves the head */
	os_mutex_unlock(&lm->graph);
	while (o->spans) {
		struct lock_span *s = o->spans;

		o->spans = s->next_held;
		free(s);
	}
	o->span_count = 0;
}
