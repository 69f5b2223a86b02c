/* SPDX-License-Identifier: MIT */
/*
 * The search of the waits-for graph. Only edges that matter for reachability are
 * followed: a waiter leads to the requests ahead of it up to the nearest
 * exclusive one, which leads on to all before; the front of the
 * queue leads to the holders. Who waits for ranges, or with one, has a list of those
 * in the way. The list of owners still to be visited runs
 * through the owners themselves, so a search allocates nothing and cannot fail.
 */
#include "kvcore/engine/lock_graph.h"

#include <stddef.h>

struct search {
	const struct lock_owner *target;
	uint64_t number;
	struct lock_owner *pending;
	bool found;
};

static void visit(struct search *s, struct lock_owner *o)
{
	if (o == s->target)
		s->found = true;
	if (o->search == s->number || (!o->waits_for && !o->waits_with))
		return;
	o->search = s->number;
	o->search_next = s->pending;
	s->pending = o;
}

static void visit_blockers(struct search *s, const struct lock_owner *o)
{
	const struct lock *l = o->waits_for;

	if (o->waits_with) {
		for (const struct lock_edge *e = o->waits_with->edges; e; e = e->waiter_next)
			visit(s, e->blocker);
		return;
	}
	for (struct lock_owner *q = o->queue_prev; q; q = q->queue_prev) {
		visit(s, q); /* if both share: harmless, it waits for nobody else than @o */
		if (q->want_mode == LOCK_EXCLUSIVE)
			return;
	}
	for (const struct held *h = l->holders; h; h = h->next) {
		if (h->owner == o)
			continue; /* an upgrade */
		if (o->want_mode == LOCK_EXCLUSIVE || h->mode == LOCK_EXCLUSIVE)
			visit(s, h->owner);
	}
}

bool lock_graph_cycle(struct lock_owner *from, uint64_t search)
{
	struct search s = {.target = from, .number = search};

	from->search = search;
	visit_blockers(&s, from);
	while (s.pending && !s.found) {
		struct lock_owner *o = s.pending;

		s.pending = o->search_next;
		visit_blockers(&s, o);
	}
	return s.found;
}
