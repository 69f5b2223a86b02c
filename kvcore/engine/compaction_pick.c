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
 *          soon as no snapshot needs them. Each such step strictly ends, so idle time does.
 */
#include "kvcore/engine/compaction_pick.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/version_internal.h"

#define PICK_ATTEMPTS	   8U
#define SCORE_ONE	   1000U
#define GRANDPARENT_TABLES 10U /* that a moved table may overlap */
#define REWRITE_TABLES	   2U  /* of one step in the last level */
#define DENSE_DELETES_PART 4U  /* a quarter of the entries */

struct span {
	struct kv_slice first, last;
	bool exclusive; /* without last */
};

static const struct table_meta *meta_at(const struct version_level *l, size_t i)
{
	return table_get_meta(l->tables[i]);
}

static struct span span_of(const struct table_meta *m)
{
	return (struct span){kv_buf_slice(&m->smallest), kv_buf_slice(&m->largest),
			     m->largest_exclusive};
}

static void span_extend(struct span *s, const struct table_meta *m)
{
	struct span t = span_of(m);
	int order = slice_compare(t.last, s->last);

	if (slice_compare(t.first, s->first) < 0)
		s->first = t.first;
	if (order > 0) {
		s->last = t.last;
		s->exclusive = t.exclusive;
	} else if (order == 0) {
		s->exclusive = s->exclusive && t.exclusive;
	}
}

static bool overlaps(const struct span *s, const struct table_meta *m)
{
	struct span t = span_of(m);
	int front = slice_compare(t.last, s->first);
	int back = slice_compare(t.first, s->last);

	return (front > 0 || (front == 0 && !t.exclusive)) &&
	       (back < 0 || (back == 0 && !s->exclusive));
}

static bool full_of_deletes(const struct table_meta *m)
{
	return m->range_count || m->delete_count > m->entry_count / DENSE_DELETES_PART;
}

/* ---- shape and debt ------------------------------------------------------------- */

void compaction_pick_shape(const struct version *v, uint64_t table_bytes,
			   struct compaction_shape *out)
{
	struct compaction_shape s = {.base = COMPACTION_LAST};
	uint64_t bytes = v->level[COMPACTION_LAST].bytes;

	s.target[COMPACTION_LAST] = UINT64_MAX;
	while (s.base > 1 && bytes / COMPACTION_FANOUT >= table_bytes) {
		bytes /= COMPACTION_FANOUT;
		s.base--;
		s.target[s.base] = bytes;
	}
	*out = s;
}

/* Level 0 from here on can be compacted: what is behind a damaged table is not below it. */
static size_t level0_from(struct versions *vs, const struct version *v)
{
	size_t from = 0;

	for (size_t i = 0; i < v->level[0].count; i++) {
		if (versions_claim_of(vs, meta_at(&v->level[0], i)->id) == VERSION_DAMAGED)
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
		if (i == from || !version_table_before(meta_at(l, i - 1), meta_at(l, i)))
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

/* ---- building a job --------------------------------------------------------------- */

void compaction_job_fini(struct compaction_job *job)
{
	struct version *v = job->version;

	if (job->id_count)
		versions_unclaim(v->set, job->ids, job->id_count, job->damaged);
	free(job->upper);
	free(job->lower);
	free(job->ids);
	*job = (struct compaction_job){0};
	if (v)
		version_unref(v);
}

static bool mutually_disjoint(const struct compaction_job *job)
{
	for (size_t i = 0; i < job->upper_count; i++) {
		struct span s = span_of(table_get_meta(job->upper[i]));

		for (size_t j = i + 1; j < job->upper_count; j++) {
			if (overlaps(&s, table_get_meta(job->upper[j])))
				return false;
		}
	}
	return true;
}

/* Would a rewrite at the output level get rid of deletes that a move would keep? */
static bool has_droppable_deletes(const struct version *v, const struct compaction_policy *policy,
				  const struct table_meta *m, unsigned out_level)
{
	struct span s = span_of(m);

	return (m->delete_count || m->range_count) && !policy->keep_all &&
	       m->seq_min <= policy->oldest &&
	       !version_overlaps(v, out_level + 1, s.first, s.last, s.exclusive);
}

static uint64_t overlap_bytes(const struct version_level *l, const struct span *s)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->count; i++) {
		if (overlaps(s, meta_at(l, i)))
			bytes += meta_at(l, i)->stored_bytes;
	}
	return bytes;
}

static bool can_move(const struct compaction_job *job, const struct compaction_policy *policy)
{
	const struct version *v = job->version;

	if (job->lower_count || job->level == job->out_level || !policy || !mutually_disjoint(job))
		return false;
	for (size_t i = 0; i < job->upper_count; i++) {
		const struct table_meta *m = table_get_meta(job->upper[i]);
		struct span s = span_of(m);

		if (has_droppable_deletes(v, policy, m, job->out_level))
			return false;
		if (job->out_level < COMPACTION_LAST &&
		    overlap_bytes(&v->level[job->out_level + 1], &s) >
			    GRANDPARENT_TABLES * policy->table_bytes)
			return false;
	}
	return true;
}

static int fill_lower(struct compaction_job *job)
{
	const struct version_level *l = &job->version->level[job->out_level];
	struct span s = span_of(table_get_meta(job->upper[0]));

	if (job->level == job->out_level)
		return 0;
	for (size_t i = 1; i < job->upper_count; i++)
		span_extend(&s, table_get_meta(job->upper[i]));
	job->lower = calloc(l->count + 1, sizeof(struct table *));
	if (!job->lower)
		return -ENOMEM;
	for (size_t i = 0; i < l->count; i++) {
		if (overlaps(&s, meta_at(l, i)))
			job->lower[job->lower_count++] = l->tables[i];
	}
	return 0;
}

static int claim_inputs(struct versions *vs, struct compaction_job *job)
{
	size_t n = 0;
	int err;

	job->ids = calloc(job->upper_count + job->lower_count, sizeof(*job->ids));
	if (!job->ids)
		return -ENOMEM;
	for (size_t i = 0; i < job->upper_count; i++)
		job->ids[n++] = table_get_meta(job->upper[i])->id;
	for (size_t i = 0; i < job->lower_count; i++)
		job->ids[n++] = table_get_meta(job->lower[i])->id;
	err = versions_claim(vs, job->version, job->ids, n);
	if (!err)
		job->id_count = n;
	return err;
}

/* What is asked for: @count tables of @level from @first on, into @out_level. */
struct choice {
	unsigned level, out_level;
	size_t first, count;
};

/* @policy: NULL never moves without rewriting. Return: 0, -KV_E_BUSY, -ENOMEM. */
static int make_job(struct versions *vs, const struct version *v, const struct choice *c,
		    const struct compaction_policy *policy, struct compaction_job *out)
{
	struct compaction_job job = {.level = c->level, .out_level = c->out_level};
	const struct version_level *l = &v->level[c->level];
	int err = -ENOMEM;

	job.version = versions_current(vs);
	if (job.version != v) { /* it changed since the choice */
		err = -KV_E_BUSY;
		goto out;
	}
	job.upper = calloc(c->count, sizeof(struct table *));
	if (!job.upper)
		goto out;
	for (size_t i = 0; i < c->count; i++)
		job.upper[job.upper_count++] = l->tables[c->first + i];
	err = fill_lower(&job);
	if (!err)
		err = claim_inputs(vs, &job);
	if (err)
		goto out;
	for (size_t i = 0; i < job.upper_count; i++)
		job.bytes += table_get_meta(job.upper[i])->stored_bytes;
	for (size_t i = 0; i < job.lower_count; i++)
		job.bytes += table_get_meta(job.lower[i])->stored_bytes;
	job.move = can_move(&job, policy);
	*out = job;
	return 0;
out:
	compaction_job_fini(&job);
	return err;
}

/* ---- choosing ------------------------------------------------------------------------- */

static void choose_level0(const struct version *v, const struct compaction_shape *shape,
			  size_t from, struct choice *c)
{
	*c = (struct choice){0, 1, from, v->level[0].count - from};
	/* Levels above the base are empty unless the data shrank; then those come first. */
	while (c->out_level < shape->base && !v->level[c->out_level].count)
		c->out_level++;
}

/* The claim state of a table and of all it drags along: the worst of them. */
static enum version_claim claim_of_step(struct versions *vs, const struct version *v,
					unsigned level, size_t at, uint64_t *dragged)
{
	const struct table_meta *m = meta_at(&v->level[level], at);
	const struct version_level *below = &v->level[level + 1];
	enum version_claim worst = versions_claim_of(vs, m->id);
	struct span s = span_of(m);

	*dragged = 0;
	for (size_t i = 0; i < below->count && worst != VERSION_DAMAGED; i++) {
		const struct table_meta *b = meta_at(below, i);
		enum version_claim c;

		if (!overlaps(&s, b))
			continue;
		*dragged += b->stored_bytes;
		c = versions_claim_of(vs, b->id);
		worst = c > worst ? c : worst;
	}
	return worst;
}

/* The table of a level whose compaction costs least for what it removes from the level. */
static bool choose_table(struct versions *vs, const struct version *v, unsigned level,
			 struct choice *c)
{
	const struct version_level *l = &v->level[level];
	uint64_t best = UINT64_MAX;

	for (size_t i = 0; i < l->count; i++) {
		const struct table_meta *m = meta_at(l, i);
		uint64_t dragged;
		uint64_t cost;

		if (claim_of_step(vs, v, level, i, &dragged) != VERSION_UNCLAIMED)
			continue;
		cost = dragged * SCORE_ONE / (m->stored_bytes + 1);
		if (full_of_deletes(m))
			cost /= 4;
		if (cost < best) {
			best = cost;
			*c = (struct choice){level, level + 1, i, 1};
		}
	}
	return best != UINT64_MAX;
}

/* A table that should go down, or be rewritten where it is, for its deletes. */
static bool choose_deletes(struct versions *vs, const struct version *v,
			   const struct compaction_policy *policy, unsigned level, struct choice *c)
{
	const struct version_level *l = &v->level[level];
	uint64_t dragged;

	for (size_t i = 0; i < l->count; i++) {
		const struct table_meta *m = meta_at(l, i);
		struct span s = span_of(m);

		if (!full_of_deletes(m))
			continue;
		if (version_overlaps(v, level + 1, s.first, s.last, s.exclusive)) {
			*c = (struct choice){level, level + 1, i, 1};
			if (claim_of_step(vs, v, level, i, &dragged) == VERSION_UNCLAIMED)
				return true;
			continue;
		}
		/* Nothing below: all deletes go, which is certain only if every reader sees them.
		 */
		*c = (struct choice){level, level, i, 1};
		if (!policy->keep_all && m->seq_max <= policy->oldest &&
		    versions_claim_of(vs, m->id) == VERSION_UNCLAIMED)
			return true;
	}
	return false;
}

static bool level0_has_deletes(const struct version *v, size_t from)
{
	for (size_t i = from; i < v->level[0].count; i++) {
		if (full_of_deletes(meta_at(&v->level[0], i)))
			return true;
	}
	return false;
}

static bool level0_free(struct versions *vs, const struct version *v, size_t from)
{
	for (size_t i = from; i < v->level[0].count; i++) {
		if (versions_claim_of(vs, meta_at(&v->level[0], i)->id) != VERSION_UNCLAIMED)
			return false;
	}
	return v->level[0].count > from;
}

static bool choose_by_deletes(struct versions *vs, const struct version *v,
			      const struct compaction_policy *policy,
			      const struct compaction_shape *shape, struct choice *c)
{
	size_t from = level0_from(vs, v);

	if (policy->idle && level0_has_deletes(v, from) && level0_free(vs, v, from)) {
		choose_level0(v, shape, from, c);
		return true;
	}
	for (unsigned n = 1; n < KV_LEVELS; n++) {
		if (choose_deletes(vs, v, policy, n, c))
			return true;
	}
	return false;
}

/* Levels by falling score, as far as it is above one. */
static bool choose_by_size(struct versions *vs, const struct version *v,
			   const struct compaction_shape *shape, struct choice *c)
{
	size_t from = level0_from(vs, v);
	uint64_t score[KV_LEVELS];

	for (unsigned n = 0; n < KV_LEVELS; n++)
		score[n] = level_score(v, shape, n, from);
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
		} else if (level0_free(vs, v, from)) {
			choose_level0(v, shape, from, c);
			return true;
		}
	}
}

unsigned compaction_pick_debt(struct versions *vs, const struct version *v,
			      const struct compaction_policy *policy)
{
	struct compaction_shape shape;
	size_t from = level0_from(vs, v);
	struct choice c;
	unsigned debt = 0;

	compaction_pick_shape(v, policy->table_bytes, &shape);
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		unsigned d = score_debt(level_score(v, &shape, n, from), n);

		debt = d > debt ? d : debt;
	}
	if (!debt && choose_by_deletes(vs, v, policy, &shape, &c))
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
		struct compaction_shape shape;
		struct choice c;

		compaction_pick_shape(v, policy->table_bytes, &shape);
		if (choose_by_size(vs, v, &shape, &c) ||
		    choose_by_deletes(vs, v, policy, &shape, &c))
			err = make_job(vs, v, &c, policy, out);
		else
			err = -KV_E_NOTFOUND;
		version_unref(v);
	}
	return err == -KV_E_BUSY ? -KV_E_NOTFOUND : err;
}

/* ---- full compaction -------------------------------------------------------------------- */

/* Return: 0, -KV_E_NOTFOUND (nothing here), -KV_E_BUSY (what there is, is claimed). */
static int choose_full_level(struct versions *vs, const struct version *v, unsigned level,
			     kv_seq seq, struct choice *c)
{
	const struct version_level *l = &v->level[level];
	int err = -KV_E_NOTFOUND;
	uint64_t dragged;

	for (size_t i = 0; i < l->count; i++) {
		enum version_claim claim;

		if (meta_at(l, i)->seq_min > seq)
			continue;
		claim = claim_of_step(vs, v, level, i, &dragged);
		*c = (struct choice){level, level + 1, i, 1};
		if (claim == VERSION_UNCLAIMED)
			return 0;
		if (claim == VERSION_CLAIMED)
			err = -KV_E_BUSY;
	}
	return err;
}

/* Neighbours in the last level that have not been rewritten yet. */
static int choose_full_last(struct versions *vs, const struct version *v, uint64_t after_id,
			    uint64_t max_bytes, struct choice *c)
{
	const struct version_level *l = &v->level[COMPACTION_LAST];
	int err = -KV_E_NOTFOUND;
	uint64_t bytes = 0;

	*c = (struct choice){COMPACTION_LAST, COMPACTION_LAST, 0, 0};
	for (size_t i = 0; i < l->count && bytes < max_bytes; i++) {
		const struct table_meta *m = meta_at(l, i);
		enum version_claim claim = versions_claim_of(vs, m->id);

		if (m->id <= after_id && claim == VERSION_UNCLAIMED) {
			c->first = c->count ? c->first : i;
			c->count++;
			bytes += m->stored_bytes;
			continue;
		}
		if (c->count)
			break;
		if (m->id <= after_id && claim == VERSION_CLAIMED)
			err = -KV_E_BUSY;
	}
	return c->count ? 0 : err;
}

static int choose_full(struct versions *vs, const struct version *v,
		       const struct compaction_policy *policy, kv_seq seq, uint64_t after_id,
		       struct choice *c)
{
	size_t from = level0_from(vs, v);
	struct compaction_shape shape;
	bool old = false;
	int err = -KV_E_NOTFOUND;

	for (size_t i = from; i < v->level[0].count; i++)
		old = old || meta_at(&v->level[0], i)->seq_min <= seq;
	if (old) {
		compaction_pick_shape(v, policy->table_bytes, &shape);
		choose_level0(v, &shape, from, c);
		return level0_free(vs, v, from) ? 0 : -KV_E_BUSY;
	}
	for (unsigned n = 1; n < COMPACTION_LAST && err == -KV_E_NOTFOUND; n++)
		err = choose_full_level(vs, v, n, seq, c);
	if (err != -KV_E_NOTFOUND)
		return err;
	return choose_full_last(vs, v, after_id, REWRITE_TABLES * policy->table_bytes, c);
}

int compaction_pick_full(struct versions *vs, const struct compaction_policy *policy, kv_seq seq,
			 uint64_t after_id, struct compaction_job *out)
{
	struct version *v = versions_current(vs);
	struct choice c;
	int err = choose_full(vs, v, policy, seq, after_id, &c);

	if (!err)
		err = make_job(vs, v, &c, NULL, out);
	version_unref(v);
	return err;
}
