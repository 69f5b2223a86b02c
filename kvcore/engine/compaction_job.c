/* SPDX-License-Identifier: MIT */
/*
 * Building compaction jobs.
 *
 * The tables of the output level that come along are those that overlap the hull
 * of the chosen ones, not only one of them: the outputs divide the hull among
 * themselves, so nothing else may lie in it. Where nothing does, and a rewrite
 * would drop nothing, the tables change their level as they are.
 */
#include "kvcore/engine/compaction_job.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

#define GRANDPARENT_TABLES 10U /* that a moved table may overlap, in full ones */

const struct table_meta *compaction_meta(const struct version_level *l, size_t i)
{
	return table_get_meta(l->tables[i]);
}

struct compaction_span compaction_span_of(const struct table_meta *m)
{
	return (struct compaction_span){kv_buf_slice(&m->smallest), kv_buf_slice(&m->largest),
					m->largest_exclusive};
}

static void span_extend(struct compaction_span *s, const struct table_meta *m)
{
	struct compaction_span t = compaction_span_of(m);
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

bool compaction_overlaps(const struct compaction_span *s, const struct table_meta *m)
{
	struct compaction_span t = compaction_span_of(m);
	int front = slice_compare(t.last, s->first);
	int back = slice_compare(t.first, s->last);

	return (front > 0 || (front == 0 && !t.exclusive)) &&
	       (back < 0 || (back == 0 && !s->exclusive));
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
		struct compaction_span s = compaction_span_of(table_get_meta(job->upper[i]));

		for (size_t j = i + 1; j < job->upper_count; j++) {
			if (compaction_overlaps(&s, table_get_meta(job->upper[j])))
				return false;
		}
	}
	return true;
}

/* Would a rewrite at the output level get rid of deletes that a move would keep? */
static bool has_droppable_deletes(const struct version *v, const struct compaction_policy *policy,
				  const struct table_meta *m, unsigned out_level)
{
	struct compaction_span s = compaction_span_of(m);

	return (m->delete_count || m->range_count) && !policy->keep_all &&
	       m->seq_min <= policy->oldest &&
	       !version_overlaps(v, out_level + 1, s.first, s.last, s.exclusive);
}

size_t compaction_first_overlap(const struct version_level *l, const struct compaction_span *s)
{
	size_t lo = 0;
	size_t hi = l->count;

	while (lo < hi) { /* the first one that does not end before the span */
		size_t mid = lo + (hi - lo) / 2;
		struct compaction_span t = compaction_span_of(compaction_meta(l, mid));
		int order = slice_compare(t.last, s->first);

		if (order < 0 || (order == 0 && t.exclusive))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

uint64_t compaction_overlap_bytes(const struct version_level *l, const struct compaction_span *s)
{
	uint64_t bytes = 0;

	for (size_t i = compaction_first_overlap(l, s);
	     i < l->count && compaction_overlaps(s, compaction_meta(l, i)); i++)
		bytes += compaction_meta(l, i)->stored_bytes;
	return bytes;
}

static bool can_move(const struct compaction_job *job, const struct compaction_policy *policy)
{
	const struct version *v = job->version;

	if (job->lower_count || job->level == job->out_level || !mutually_disjoint(job))
		return false;
	for (size_t i = 0; i < job->upper_count; i++) {
		const struct table_meta *m = table_get_meta(job->upper[i]);
		struct compaction_span s = compaction_span_of(m);

		if (has_droppable_deletes(v, policy, m, job->out_level))
			return false;
		if (job->out_level < COMPACTION_LAST &&
		    compaction_overlap_bytes(&v->level[job->out_level + 1], &s) >
			    GRANDPARENT_TABLES * policy->table_bytes)
			return false;
	}
	return true;
}

static int fill_lower(struct compaction_job *job)
{
	const struct version_level *l = &job->version->level[job->out_level];
	struct compaction_span s = compaction_span_of(table_get_meta(job->upper[0]));

	if (job->level == job->out_level)
		return 0;
	for (size_t i = 1; i < job->upper_count; i++)
		span_extend(&s, table_get_meta(job->upper[i]));
	job->lower = calloc(l->count + 1, sizeof(struct table *));
	if (!job->lower)
		return -ENOMEM;
	for (size_t i = compaction_first_overlap(l, &s);
	     i < l->count && compaction_overlaps(&s, compaction_meta(l, i)); i++)
		job->lower[job->lower_count++] = l->tables[i];
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

int compaction_job_make(struct versions *vs, const struct version *v,
			const struct compaction_choice *c, const struct compaction_policy *policy,
			bool may_move, struct compaction_job *out)
{
	struct compaction_job job = {
		.level = c->level, .out_level = c->out_level, .reason = c->reason};
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
	job.table_bytes = policy->table_bytes;
	job.move = may_move && can_move(&job, policy);
	*out = job;
	return 0;
out:
	compaction_job_fini(&job);
	return err;
}

uint64_t compaction_choice_bytes(const struct version *v, const struct compaction_choice *c)
{
	const struct version_level *l = &v->level[c->level];
	struct compaction_span s = compaction_span_of(compaction_meta(l, c->first));
	uint64_t bytes = 0;

	for (size_t i = c->first; i < c->first + c->count; i++) {
		bytes += compaction_meta(l, i)->stored_bytes;
		span_extend(&s, compaction_meta(l, i));
	}
	if (c->level == c->out_level)
		return bytes;
	return bytes + compaction_overlap_bytes(&v->level[c->out_level], &s);
}

enum version_claim compaction_claim_of_choice(struct versions *vs, const struct version *v,
					      const struct compaction_choice *c)
{
	const struct version_level *l = &v->level[c->level];
	const struct version_level *below = &v->level[c->out_level];
	struct compaction_span s = compaction_span_of(compaction_meta(l, c->first));
	enum version_claim worst = VERSION_UNCLAIMED, claim;

	for (size_t i = c->first; i < c->first + c->count; i++) {
		claim = versions_claim_of(vs, compaction_meta(l, i)->id);
		worst = claim > worst ? claim : worst;
		span_extend(&s, compaction_meta(l, i));
	}
	if (c->level == c->out_level)
		return worst;
	for (size_t i = compaction_first_overlap(below, &s);
	     i < below->count && compaction_overlaps(&s, compaction_meta(below, i)); i++) {
		claim = versions_claim_of(vs, compaction_meta(below, i)->id);
		worst = claim > worst ? claim : worst;
	}
	return worst;
}
