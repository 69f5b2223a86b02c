/* SPDX-License-Identifier: MIT */
/*
 * The steps of a full compaction: level 0 down, then every level table by table
 * into the next, then what is in the last level and has not been rewritten yet.
 * Each step is small and complete in itself, so it can be interrupted between any
 * two, and needs space for one step only.
 */
#include <errno.h>

#include "kvcore/engine/compaction_pick.h"

#define REWRITE_TABLES 2U /* of one step in the last level, in full ones */

bool compaction_full_owes(const struct table_meta *m, unsigned level, kv_seq seq, uint64_t after_id)
{
	return m->seq_min <= seq && (level < COMPACTION_LAST || m->gc_id <= after_id);
}

/* Return: 0, -KV_E_NOTFOUND (nothing here), -KV_E_BUSY (what there is, is claimed). */
static int choose_full_level(struct versions *vs, const struct version *v, unsigned level,
			     kv_seq seq, uint64_t after_id, struct compaction_choice *c)
{
	const struct version_level *l = &v->level[level];
	int err = -KV_E_NOTFOUND;
	uint64_t dragged;

	for (size_t i = 0; i < l->count; i++) {
		enum version_claim claim;

		if (!compaction_full_owes(compaction_meta(l, i), level, seq, after_id))
			continue;
		claim = compaction_claim_of_step(vs, v, level, i, &dragged);
		*c = (struct compaction_choice){level, level + 1, i, 1, NULL};
		if (claim == VERSION_UNCLAIMED)
			return 0;
		if (claim == VERSION_CLAIMED)
			err = -KV_E_BUSY;
	}
	return err;
}

/* Neighbours in the last level that have not been rewritten yet. */
static int choose_full_last(struct versions *vs, const struct version *v, kv_seq seq,
			    uint64_t after_id, uint64_t max_bytes, struct compaction_choice *c)
{
	const struct version_level *l = &v->level[COMPACTION_LAST];
	int err = -KV_E_NOTFOUND;
	uint64_t bytes = 0;

	*c = (struct compaction_choice){COMPACTION_LAST, COMPACTION_LAST, 0, 0, NULL};
	for (size_t i = 0; i < l->count && bytes < max_bytes; i++) {
		const struct table_meta *m = compaction_meta(l, i);
		bool owed = compaction_full_owes(m, COMPACTION_LAST, seq, after_id);
		enum version_claim claim = versions_claim_of(vs, m->id);

		if (owed && claim == VERSION_UNCLAIMED) {
			c->first = c->count ? c->first : i;
			c->count++;
			bytes += m->stored_bytes;
			continue;
		}
		if (c->count)
			break;
		if (owed && claim == VERSION_CLAIMED)
			err = -KV_E_BUSY;
	}
	return c->count ? 0 : err;
}

static int choose_full(struct versions *vs, const struct version *v,
		       const struct compaction_policy *policy, kv_seq seq, uint64_t after_id,
		       struct compaction_choice *c)
{
	size_t from = compaction_level0_from(vs, v);
	enum version_claim claim;
	bool old = false;
	int err = -KV_E_NOTFOUND;

	for (size_t i = from; i < v->level[0].count; i++)
		old = old ||
		      compaction_full_owes(compaction_meta(&v->level[0], i), 0, seq, after_id);
	if (old) {
		claim = compaction_choose_level0(vs, v, policy, from, c);
		if (claim != VERSION_DAMAGED) /* else it stays, and the rest is done */
			return claim == VERSION_UNCLAIMED ? 0 : -KV_E_BUSY;
	}
	for (unsigned n = 1; n < COMPACTION_LAST && err == -KV_E_NOTFOUND; n++)
		err = choose_full_level(vs, v, n, seq, after_id, c);
	if (err != -KV_E_NOTFOUND)
		return err;
	return choose_full_last(vs, v, seq, after_id, REWRITE_TABLES * policy->table_bytes, c);
}

int compaction_pick_full(struct versions *vs, const struct compaction_policy *policy, kv_seq seq,
			 uint64_t after_id, struct compaction_job *out)
{
	struct version *v = versions_current(vs);
	struct compaction_choice c;
	int err = choose_full(vs, v, policy, seq, after_id, &c);

	c.reason = "asked";
	if (!err)
		err = compaction_job_make(vs, v, &c, policy, false, out);
	version_unref(v);
	return err;
}
