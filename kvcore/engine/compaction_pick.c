/* SPDX-License-Identifier: MIT */
/*
 * Choosing compactions.
 *
 * Order rule: data of a key in a lower-numbered level, or nearer to the front of
 * level 0, is newer. So a compaction of level 0 takes every table from some place to the
 * end of the list, and of another level takes any table, with all tables of the output
 * level that overlap the hull of what it takes.
 *
 *   sizes  the level most above its target; in it the table that drags the least of the
 *          next level along, those full of deletes first
 *   deletes  when no size is above target: tables of which more than a quarter is deletes, or
 *          that hold range deletes, go down, and at the bottom are rewritten without them as
 *          soon as no snapshot needs them
 *   values   in idle time: tables that refer to values in mostly dead segments are rewritten,
 *          which moves the values
 *
 * Each choice makes something smaller that does not grow back by itself, so the work of idle
 * time comes to an end.
 */
#include "kvcore/engine/compaction_pick.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/values.h"
#include "kvcore/engine/version_internal.h"

#define PICK_ATTEMPTS	   8U
#define SCORE_ONE	   1000U
#define DENSE_DELETES_PART 4U /* a quarter of the entries */
#define SWEEP_PART	   8U /* of all value bytes: so much in mostly dead segments is worth it */

static bool full_of_deletes(const struct table_meta *m)
{
	return m->range_count || m->delete_count > m->entry_count / DENSE_DELETES_PART;
}

/* ---- shape and debt ------------------------------------------------------------- */

void compaction_pick_shape(const struct version *v, uint64_t base_bytes,
			   struct compaction_shape *out)
{
	struct compaction_shape s = {.base = COMPACTION_LAST};
	uint64_t bytes = v->level[COMPACTION_LAST].bytes;

	s.target[COMPACTION_LAST] = UINT64_MAX;
	while (s.base > 1 && bytes / COMPACTION_FANOUT >= base_bytes) {
		bytes /= COMPACTION_FANOUT;
		s.base--;
		s.target[s.base] = bytes;
	}
	*out = s;
}

/* Level 0 from here on can be compacted: what is behind a damaged table is not below it. */
size_t compaction_level0_from(struct versions *vs, const struct version *v)
{
	size_t from = 0;

	for (size_t i = 0; i < v->level[0].count; i++) {
		if (versions_claim_of(vs, compaction_meta(&v->level[0], i)->id) == VERSION_DAMAGED)
			from = i + 1;
	}
	return from;
}

/* Neighbours in order and disjoint, as the tables of one flush, count as one. */
static unsigned level0_runs(const struct version *v, size_t from)
{
	const struct version_level *l = &v->level[0];
	unsigned runs = 0;

	for (size_t i = from; i < l->count; i++) {
		if (i == from ||
		    !version_table_before(compaction_meta(l, i - 1), compaction_meta(l, i)))
			runs++;
	}
	return runs;
}

/* In thousandths: from 1000 on there is something to do. */
static uint64_t level_score(const struct version *v, const struct compaction_shape *shape,
			    unsigned level, size_t level0)
{
	uint64_t bytes = v->level[level].bytes;

	if (level == 0)
		return (uint64_t)level0_runs(v, level0) * SCORE_ONE / COMPACTION_L0_START;
	if (level == COMPACTION_LAST || !bytes)
		return 0;
	if (!shape->target[level])
		return 2U * SCORE_ONE;
	return bytes * SCORE_ONE / shape->target[level];
}

static unsigned score_debt(uint64_t score, unsigned level)
{
	/* Level 0: 1000 at COMPACTION_L0_STOP runs. The others: at eleven times the target. */
	uint64_t full = level ? 10U * SCORE_ONE
			      : (COMPACTION_L0_STOP - COMPACTION_L0_START) * SCORE_ONE /
					COMPACTION_L0_START;

	if (score < SCORE_ONE)
		return 0;
	return (unsigned)min_u64(1 + (score - SCORE_ONE) * 1000 / full, 1000);
}

/* ---- choosing ------------------------------------------------------------------------- */

static void choose_level0(const struct version *v, const struct compaction_policy *policy,
			  size_t from, struct compaction_choice *c)
{
	const struct version_level *l = &v->level[0];
	struct compaction_shape shape;
	size_t oldest = l->count - 1;

	compaction_pick_shape(v, policy->base_bytes, &shape);
	*c = (struct compaction_choice){0, 1, from, l->count - from, NULL};
	/* Levels above the base are empty unless the data shrank; then those come first. */
	while (c->out_level < shape.base && !v->level[c->out_level].count)
		c->out_level++;
	if (compaction_choice_bytes(v, c) <= policy->room)
		return;
	while (oldest > from &&
	       version_table_before(compaction_meta(l, oldest - 1), compaction_meta(l, oldest)))
		oldest--;
	c->first = oldest;
	c->count = l->count - oldest;
}

enum version_claim compaction_choose_level0(struct versions *vs, const struct version *v,
					    const struct compaction_policy *policy, size_t from,
					    struct compaction_choice *c)
{
	enum version_claim worst, claim;

	choose_level0(v, policy, from, c);
	worst = compaction_claim_of_choice(vs, v, c);
	for (size_t i = from; i < v->level[0].count; i++) {
		claim = versions_claim_of(vs, compaction_meta(&v->level[0], i)->id);
		worst = claim > worst ? claim : worst;
	}
	return worst;
}

/* The claim state of a table and of all it drags along: the worst of them. */
enum version_claim compaction_claim_of_step(struct versions *vs, const struct version *v,
					    unsigned level, size_t at, uint64_t *dragged)
{
	const struct table_meta *m = compaction_meta(&v->level[level], at);
	const struct version_level *below = &v->level[level + 1];
	enum version_claim worst = versions_claim_of(vs, m->id);
	struct compaction_span s = compaction_span_of(m);

	*dragged = 0;
	for (size_t i = compaction_first_overlap(below, &s);
	     i < below->count && compaction_overlaps(&s, compaction_meta(below, i)) &&
	     worst != VERSION_DAMAGED;
	     i++) {
		const struct table_meta *b = compaction_meta(below, i);
		enum version_claim c = versions_claim_of(vs, b->id);

		*dragged += b->stored_bytes;
		worst = c > worst ? c : worst;
	}
	return worst;
}

/* The table of a level whose compaction costs least for what it removes from the level. */
static bool choose_table(struct versions *vs, const struct version *v, unsigned level,
			 struct compaction_choice *c)
{
	const struct version_level *l = &v->level[level];
	uint64_t best = UINT64_MAX;

	for (size_t i = 0; i < l->count; i++) {
		const struct table_meta *m = compaction_meta(l, i);
		uint64_t dragged;
		uint64_t cost;

		if (compaction_claim_of_step(vs, v, level, i, &dragged) != VERSION_UNCLAIMED)
			continue;
		cost = dragged * SCORE_ONE / (m->stored_bytes + 1);
		if (full_of_deletes(m))
			cost /= 4;
		if (cost < best) {
			best = cost;
			*c = (struct compaction_choice){level, level + 1, i, 1, NULL};
		}
	}
	return best != UINT64_MAX;
}

/* A table that should go down, or be rewritten where it is, for its deletes. */
static bool choose_deletes(struct versions *vs, const struct version *v,
			   const struct compaction_policy *policy, unsigned level,
			   struct compaction_choice *c)
{
	const struct version_level *l = &v->level[level];
	uint64_t dragged;

	for (size_t i = 0; i < l->count; i++) {
		const struct table_meta *m = compaction_meta(l, i);
		struct compaction_span s = compaction_span_of(m);

		if (!full_of_deletes(m))
			continue;
		if (version_overlaps(v, level + 1, s.first, s.last, s.exclusive)) {
			*c = (struct compaction_choice){level, level + 1, i, 1, NULL};
			if (compaction_claim_of_step(vs, v, level, i, &dragged) ==
			    VERSION_UNCLAIMED)
				return true;
			continue;
		}
		/* Nothing below: all deletes go, which is certain only if every reader sees them.
		 */
		*c = (struct compaction_choice){level, level, i, 1, NULL};
		if (!policy->keep_all && m->seq_max <= policy->oldest &&
		    versions_claim_of(vs, m->id) == VERSION_UNCLAIMED)
			return true;
	}
	return false;
}

static bool level0_has_deletes(const struct version *v, size_t from)
{
	for (size_t i = from; i < v->level[0].count; i++) {
		if (full_of_deletes(compaction_meta(&v->level[0], i)))
			return true;
	}
	return false;
}

static bool choose_by_deletes(struct versions *vs, const struct version *v,
			      const struct compaction_policy *policy, struct compaction_choice *c)
{
	size_t from = compaction_level0_from(vs, v);

	if (policy->idle && level0_has_deletes(v, from) &&
	    compaction_choose_level0(vs, v, policy, from, c) == VERSION_UNCLAIMED)
		return true;
	for (unsigned n = 1; n < KV_LEVELS; n++) {
		if (choose_deletes(vs, v, policy, n, c))
			return true;
	}
	return false;
}

/* Levels by falling score, as far as it is above one. */
static bool choose_by_size(struct versions *vs, const struct version *v,
			   const struct compaction_policy *policy, struct compaction_choice *c)
{
	size_t from = compaction_level0_from(vs, v);
	struct compaction_shape shape;
	uint64_t score[KV_LEVELS];

	compaction_pick_shape(v, policy->base_bytes, &shape);
	for (unsigned n = 0; n < KV_LEVELS; n++)
		score[n] = level_score(v, &shape, n, from);
	for (;;) {
		unsigned top = 0;

		for (unsigned n = 1; n < KV_LEVELS; n++)
			top = score[n] > score[top] ? n : top;
		if (score[top] < SCORE_ONE)
			return false;
		score[top] = 0;
		if (top) {
			if (choose_table(vs, v, top, c))
				return true;
		} else if (compaction_choose_level0(vs, v, policy, from, c) == VERSION_UNCLAIMED) {
			return true;
		}
	}
}

/* ---- values ---------------------------------------------------------------------------- */

/* The lowest id of a table that refers to large values; UINT64_MAX: none does. */
static uint64_t oldest_with_refs(const struct version *v)
{
	uint64_t id = UINT64_MAX;

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = compaction_meta(&v->level[n], i);

			if (m->ref_bytes)
				id = min_u64(id, m->id);
		}
	}
	return id;
}

/*
 * Tables with ids below the result may refer to mostly dead segments; 0: it is not worth a
 * sweep. A segment is given its bound when it is first seen to be mostly dead: tables
 * written later had its values moved, or could not move them, and are not asked again.
 */
static uint64_t sweep_bound(struct versions *vs, const struct version *v)
{
	uint64_t oldest = v->segment_count ? oldest_with_refs(v) : UINT64_MAX;
	uint64_t total = 0;
	uint64_t dead = 0;
	uint64_t bound = 0;

	for (size_t i = 0; oldest != UINT64_MAX && i < v->segment_count; i++) {
		struct segment *seg = v->segments[i];
		uint64_t used = atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
		uint64_t before;

		total += used;
		if (!values_mostly_dead(seg))
			continue;
		before = atomic_load_explicit(&seg->sweep_before, memory_order_relaxed);
		if (!before) {
			before = versions_new_table_id(vs);
			atomic_store_explicit(&seg->sweep_before, before, memory_order_relaxed);
		}
		if (before <= oldest)
			continue;
		dead += used -
			min_u64(used, atomic_load_explicit(&seg->live_bytes, memory_order_relaxed));
		bound = max_u64(bound, before);
	}
	return dead > total / SWEEP_PART ? bound : 0;
}

/* Rewrite a table so that the values it refers to leave mostly dead segments. */
static bool choose_by_values(struct versions *vs, const struct version *v,
			     const struct compaction_policy *policy, struct compaction_choice *c)
{
	size_t from = compaction_level0_from(vs, v);
	uint64_t bound = policy->idle ? sweep_bound(vs, v) : 0;

	for (unsigned n = 0; bound && n < KV_LEVELS; n++) {
		for (size_t i = n ? 0 : from; i < v->level[n].count; i++) {
			const struct table_meta *m = compaction_meta(&v->level[n], i);

			if (!m->ref_bytes || m->id >= bound ||
			    versions_claim_of(vs, m->id) != VERSION_UNCLAIMED)
				continue;
			*c = (struct compaction_choice){n, n, i, 1, NULL};
			if (n ||
			    compaction_choose_level0(vs, v, policy, from, c) == VERSION_UNCLAIMED)
				return true;
		}
	}
	return false;
}

static bool choose(struct versions *vs, const struct version *v,
		   const struct compaction_policy *policy, struct compaction_choice *c)
{
	static const struct {
		bool (*choose)(struct versions *, const struct version *,
			       const struct compaction_policy *, struct compaction_choice *);
		const char *reason;
	} ways[] = {
		{choose_by_size, "size"},
		{choose_by_deletes, "deletes"},
		{choose_by_values, "values"},
	};

	for (size_t i = 0; i < KV_ARRAY_COUNT(ways); i++) {
		if (ways[i].choose(vs, v, policy, c)) {
			c->reason = ways[i].reason;
			return true;
		}
	}
	return false;
}

unsigned compaction_pick_debt(struct versions *vs, const struct version *v,
			      const struct compaction_policy *policy)
{
	struct compaction_shape shape;
	size_t from = compaction_level0_from(vs, v);
	struct compaction_choice c;
	unsigned debt = 0;

	compaction_pick_shape(v, policy->base_bytes, &shape);
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		unsigned d = score_debt(level_score(v, &shape, n, from), n);

		debt = d > debt ? d : debt;
	}
	if (!debt && (choose_by_deletes(vs, v, policy, &c) || choose_by_values(vs, v, policy, &c)))
		debt = 1;
	return debt;
}

int compaction_pick(struct versions *vs, const struct compaction_policy *policy,
		    struct compaction_job *out)
{
	int err = -KV_E_BUSY;

	/* The version may change between the choice and the claim. */
	for (unsigned i = 0; i < PICK_ATTEMPTS && err == -KV_E_BUSY; i++) {
		struct version *v = versions_current(vs);
		struct compaction_choice c;

		if (choose(vs, v, policy, &c))
			err = compaction_job_make(vs, v, &c, policy, true, out);
		else
			err = -KV_E_NOTFOUND;
		version_unref(v);
	}
	return err == -KV_E_BUSY ? -KV_E_NOTFOUND : err;
}
