/* SPDX-License-Identifier: MIT */
/*
 * A transaction's or batch's writes before commit: one last operation per key in
 * order, range deletes, and an undo log for savepoints. A range delete first
 * removes the set's own operations in its interval, so that at commit every
 * point operation comes after every range delete of the same set.
 *
 * Large values are given as encoded value_refs (ENTRY_PUT_REF); what happens to
 * a ref that is overwritten, rolled back or dropped is told through @drop_ref.
 * A ref that is displaced while a savepoint is open is dropped only when it can no
 * longer be rolled back to.
 *
 * A set that was told where to (writeset_spill_to) moves its operations out of memory into
 * runs (spill.h) when they take too much of it. Range deletes and the undo log of more than a
 * few savepoints stay in memory.
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_WRITESET_H
#define KVCORE_ENGINE_WRITESET_H

#include "kvcore/engine/spill.h"

struct writeset;

struct writeset_hooks {
	void (*drop_ref)(void *ctx, struct kv_slice encoded_ref);
	void *ctx;
};

int writeset_new(const struct writeset_hooks *hooks, struct writeset **out) KV_MUST_CHECK;
/* Drops the refs of what is still in it, unless writeset_forget_refs() was called. */
void writeset_free(struct writeset *w);
/* The refs now belong to the log: do not drop them. */
void writeset_forget_refs(struct writeset *w);
/* Empty it, for reuse. As free and new. No iterator is left. */
void writeset_clear(struct writeset *w);
/* Keep about @bytes in memory, the rest in runs. @env: borrowed. While it is empty. */
void writeset_spill_to(struct writeset *w, const struct spill_env *env, size_t bytes);

/* Also fails as spill_writer_add(); the operation is then not in the set. */
int writeset_put(struct writeset *w, struct kv_slice ikey, enum entry_kind kind,
		 struct kv_slice value) KV_MUST_CHECK; /* ENTRY_PUT, _PUT_REF, _DELETE */
int writeset_delete_range(struct writeset *w, struct kv_slice from, struct kv_slice to)
	KV_MUST_CHECK;

/* Numbers rise from 1; a rolled-back one stays valid. */
int writeset_savepoint(struct writeset *w, unsigned *out) KV_MUST_CHECK;
int writeset_rollback_to(struct writeset *w, unsigned savepoint) KV_MUST_CHECK; /* -KV_E_INVALID */
/* Forget it and later ones, keeping what was written. */
int writeset_release(struct writeset *w, unsigned savepoint) KV_MUST_CHECK; /* -KV_E_INVALID */

/* The operation on a key: 0 with kind and value (borrowed until the next call),
 * -KV_E_NOTFOUND if the set says nothing of it. A key covered only by a range delete of the
 * set is ENTRY_DELETE. Also errors of reading a run. */
int writeset_get(struct writeset *w, struct kv_slice ikey, enum entry_kind *kind,
		 struct kv_slice *value) KV_MUST_CHECK;
bool writeset_empty(const struct writeset *w);
bool writeset_spilled(const struct writeset *w); /* is any of it in runs? */
size_t writeset_ops(const struct writeset *w);	 /* point operations and range deletes in memory */
size_t writeset_bytes(const struct writeset *w); /* of their keys and values */
/* Range deletes, with seqs above every commit's. Borrowed until the set changes. */
const struct range_set *writeset_ranges(const struct writeset *w);
/*
 * The last operation on each key, with seq KV_SEQ_MAX. Sees later changes; stays right when
 * the set is spilled or rolled back under it.
 * @once: runs are read without keeping their pages in the cache
 */
int writeset_iter_new(struct writeset *w, bool once, struct iter **out) KV_MUST_CHECK;

/* All operations in commit order: range deletes, then points by key. */
typedef int (*writeset_op_fn)(void *ctx, enum entry_kind kind, struct kv_slice key,
			      struct kv_slice value);
int writeset_each(struct writeset *w, writeset_op_fn op, void *ctx) KV_MUST_CHECK;

#endif
