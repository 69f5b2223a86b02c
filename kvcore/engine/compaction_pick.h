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

#include "kvcore/engine/version.h"

#define COMPACTION_FANOUT   8U
#define COMPACTION_L0_START 4U	/* sorted runs in level 0: there is work */
#define COMPACTION_L0_STOP  20U /* writers should be stopped */
#define COMPACTION_LAST	    (KV_LEVELS - 1)

struct compaction_job {
	struct version *version; /* referenced */
	unsigned level, out_level;
	struct table **upper; /* of level, in its order; heap */
	size_t upper_count;
	struct table **lower; /* of out_level, in its order; heap; none if it is the same level */
	size_t lower_count;
	bool move;     /* no byte need be rewritten */
	bool damaged;  /* set by who runs it: the inputs cannot be read, never pick them again */
	uint64_t *ids; /* of all inputs, claimed; heap */
	size_t id_count;
	uint64_t bytes; /* stored, of the inputs */
};

struct compaction_policy {
	uint64_t table_bytes; /* of a full table; a level that would hold less is skipped */
	kv_seq oldest;	      /* live snapshot; deletes that it sees may be dropped */
	bool keep_all;	      /* nothing may be dropped */
	bool idle; /* no flush for a while: level 0 may be compacted for its deletes alone */
};

/* Bytes that each level should hold at most, and the level into which level 0 goes. */
struct compaction_shape {
	uint64_t target[KV_LEVELS]; /* 0: it should be empty */
	unsigned base;
};
void compaction_pick_shape(const struct version *v, uint64_t table_bytes,
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
 * level with ids above @after_id.
 * Return: as above; -KV_E_BUSY: other compactions have what is left.
 */
int compaction_pick_full(struct versions *vs, const struct compaction_policy *policy, kv_seq seq,
			 uint64_t after_id, struct compaction_job *out) KV_MUST_CHECK;

void compaction_job_fini(struct compaction_job *job);

#endif
