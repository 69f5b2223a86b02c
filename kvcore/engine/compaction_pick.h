/* SPDX-License-Identifier: MIT */
/*
 * What to compact next. Leveled, with the sizes of the levels derived from the
 * last one (RocksDB's dynamic level sizes, 2015): the last level has most of the data,
 * each one above an eighth of that below it, and levels that would be too small to be worth a
 * rewrite stay empty: level 0 goes straight to the first that is in use. So stale
 * versions are at most about a seventh of the data.
 *
 * Thread safety: any thread.
 */
#ifndef KVCORE_ENGINE_COMPACTION_PICK_H
#define KVCORE_ENGINE_COMPACTION_PICK_H

#include "kvcore/engine/compaction_job.h"

#define COMPACTION_FANOUT   8U
#define COMPACTION_L0_START 4U	/* sorted runs in level 0: there is work */
#define COMPACTION_L0_STOP  20U /* writers should be stopped */

/* Bytes that each level should hold at most, and the level into which level 0 goes. */
struct compaction_shape {
	uint64_t target[KV_LEVELS]; /* 0: it should be empty */
	unsigned base;
};
void compaction_pick_shape(const struct version *v, uint64_t base_bytes,
			   struct compaction_shape *out);

/* See compaction_debt(). */
unsigned compaction_pick_debt(struct versions *vs, const struct version *v,
			      const struct compaction_policy *policy);

/*
 * Choose and claim the inputs of the most urgent work.
 * Return: 0, -KV_E_NOTFOUND (nothing to do, or all of it is claimed), -ENOMEM.
 */
int compaction_pick(struct versions *vs, const struct compaction_policy *policy,
		    struct compaction_job *out) KV_MUST_CHECK;

/*
 * For a full compaction: the next step towards all data up to @seq being in tables of the last
 * level whose contents were chosen after the table id @after_id was given out. An id of its own
 * would not say so: a compaction that was running then names its tables later.
 * Return: as above; -KV_E_BUSY: other compactions have what is left.
 */
int compaction_pick_full(struct versions *vs, const struct compaction_policy *policy, kv_seq seq,
			 uint64_t after_id, struct compaction_job *out) KV_MUST_CHECK;

/* Does a full compaction still have to rewrite the table? */
bool compaction_full_owes(const struct table_meta *m, unsigned level, kv_seq seq,
			  uint64_t after_id);

/* ---- shared by the choices ---- */

/* Level 0 from here on can be compacted: what is behind a damaged table is not below it. */
size_t compaction_level0_from(struct versions *vs, const struct version *v);
/*
 * All of level 0 from @from on, where there is something, or, where room is short, only its oldest
 * run. Return: the claim state of that level and of all that is dragged along, the worst of them.
 */
enum version_claim compaction_choose_level0(struct versions *vs, const struct version *v,
					    const struct compaction_policy *policy, size_t from,
					    struct compaction_choice *c);
/* The claim state of a table and of all it drags along into the next level: the worst of them.
 * @dragged: stored bytes of the latter, complete unless damaged */
enum version_claim compaction_claim_of_step(struct versions *vs, const struct version *v,
					    unsigned level, size_t at, uint64_t *dragged);

#endif
