/* SPDX-License-Identifier: MIT */
/*
 * A unit of compaction: which tables go where. Built from a choice of tables of
 * one level, to which those of the output level that they overlap are added.
 *
 * Thread safety: any thread.
 */
#ifndef KVCORE_ENGINE_COMPACTION_JOB_H
#define KVCORE_ENGINE_COMPACTION_JOB_H

#include "kvcore/engine/version.h"

#define COMPACTION_LAST (KV_LEVELS - 1)

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
	uint64_t bytes;	      /* stored, of the inputs */
	uint64_t table_bytes; /* of a full output table */
	const char *reason;   /* why it was chosen, a word or two */
};

struct compaction_policy {
	uint64_t table_bytes; /* of a full table */
	uint64_t base_bytes;  /* a level that would hold less is skipped */
	uint64_t room;	      /* free bytes, about, that outputs may take */
	kv_seq oldest;	      /* live snapshot; deletes that it sees may be dropped */
	bool keep_all;	      /* nothing may be dropped */
	bool idle; /* no flush for a while: level 0 may be compacted for its deletes alone */
};

/* What is asked for: @count tables of @level from @first on, into @out_level. */
struct compaction_choice {
	unsigned level, out_level;
	size_t first, count;
	const char *reason;
};

/*
 * Claims the inputs. @v: the version that the choice is about
 * @may_move: without rewriting, where that loses nothing
 * Return: 0, -KV_E_BUSY (@v is not current any more, or an input is claimed), -ENOMEM.
 */
int compaction_job_make(struct versions *vs, const struct version *v,
			const struct compaction_choice *c, const struct compaction_policy *policy,
			bool may_move, struct compaction_job *out) KV_MUST_CHECK;
/* Ends the claims, unless damaged. */
void compaction_job_fini(struct compaction_job *job);

/* ---- keys of tables ---- */

struct compaction_span {
	struct kv_slice first, last;
	bool exclusive; /* without last */
};

const struct table_meta *compaction_meta(const struct version_level *l, size_t i);
struct compaction_span compaction_span_of(const struct table_meta *m);
bool compaction_overlaps(const struct compaction_span *s, const struct table_meta *m);
/* Index of the first table of a sorted level that overlaps, or where it would be; the others
 * follow. */
size_t compaction_first_overlap(const struct version_level *l, const struct compaction_span *s);
/* Stored bytes of the tables of a sorted level that overlap. */
uint64_t compaction_overlap_bytes(const struct version_level *l, const struct compaction_span *s);
/* Everything that a choice would read, bytes. */
uint64_t compaction_choice_bytes(const struct version *v, const struct compaction_choice *c);
/* The claim state of all of that: the worst. */
enum version_claim compaction_claim_of_choice(struct versions *vs, const struct version *v,
					      const struct compaction_choice *c);

#endif
