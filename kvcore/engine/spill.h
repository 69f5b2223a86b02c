/* SPDX-License-Identifier: MIT */
/*
 * Runs: what a large transaction wrote, moved out of memory before its commit. A run
 * is a sorted sequence of tables with one entry a key, in extents that no manifest
 * names, so a crash frees it by itself (docs/crash-consistency.md, rule 14).
 *
 * All entries of a run have the same seq, by which the runs of one transaction are ordered;
 * it has nothing to do with commit numbers and lies above them all.
 *
 * Large values that a run refers to are pending (values.h) as long as the run lives.
 *
 * Thread safety: one thread per transaction.
 */
#ifndef KVCORE_ENGINE_SPILL_H
#define KVCORE_ENGINE_SPILL_H

#include "kvcore/engine/values.h"

struct spill_env { /* all borrowed */
	const struct table_env *tables;
	struct versions *versions;
	struct values *values;
	/* The volume is full: as reclaim_space(). May be NULL. */
	bool (*reclaim)(void *ctx, unsigned *tries);
	void *reclaim_ctx;
};

struct spill_run;
struct spill_writer;

int spill_writer_new(const struct spill_env *env, kv_seq seq, struct spill_writer **out)
	KV_MUST_CHECK;
/* Keys strictly rising. Return: 0, -KV_E_NOSPACE, -ENOMEM, -errno of a write. */
int spill_writer_add(struct spill_writer *w, struct kv_slice ikey, enum entry_kind kind,
		     struct kv_slice value) KV_MUST_CHECK;
/* Releases the writer whatever the result. @out: with one reference. */
int spill_writer_finish(struct spill_writer *w, struct spill_run **out) KV_MUST_CHECK;
/* NULL is allowed. The references stay the caller's. */
void spill_writer_abandon(struct spill_writer *w);

struct spill_run *spill_run_ref(struct spill_run *r);
/* With the last reference the space is given back and the large values are settled. NULL is
 * allowed. */
void spill_run_unref(struct spill_run *r);
/* The references to large values belong to somebody else from now on. */
void spill_run_forget_refs(struct spill_run *r);
/* They were copied from other runs, whose references stay theirs: count them once more. */
void spill_run_hold_refs(struct spill_run *r);

kv_seq spill_run_seq(const struct spill_run *r);
uint64_t spill_run_bytes(const struct spill_run *r);   /* of tables */
uint64_t spill_run_entries(const struct spill_run *r); /* at least 1 */
/* @hash: hash_bytes(ikey, 0). Return: 0, -KV_E_NOTFOUND, error of reading. */
int spill_run_get(struct spill_run *r, struct kv_slice ikey, uint64_t hash, enum entry_kind *kind,
		  struct kv_buf *value) KV_MUST_CHECK;
/* The run outlives it. @flags: enum table_iter_flags */
int spill_run_iter(struct spill_run *r, unsigned flags, struct iter **out) KV_MUST_CHECK;

#endif
