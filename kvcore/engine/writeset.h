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
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_WRITESET_H
#define KVCORE_ENGINE_WRITESET_H

#include "kvcore/table/iter.h"
#include "kvcore/table/range_del.h"

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
/* Empty it, for reuse. As free and new. */
void writeset_clear(struct writeset *w);

int writeset_put(struct writeset *w, struct kv_slice ikey, enum entry_kind kind,
		 struct kv_slice value) KV_MUST_CHECK; /* ENTRY_PUT, _PUT_REF, _DELETE */
int writeset_delete_range(struct writeset *w, struct kv_slice from, struct kv_slice to)
	KV_MUST_CHECK;

/* Numbers rise from 1; a rolled-back one stays valid. */
int writeset_savepoint(struct writeset *w, unsigned *out) KV_MUST_CHECK;
int writeset_rollback_to(struct writeset *w, unsigned savepoint) KV_MUST_CHECK; /* -KV_E_INVALID */

/* The operation on a key: 0 with kind and borrowed value, -KV_E_NOTFOUND if the set says
 * nothing of it. A key covered only by a range delete of the set is ENTRY_DELETE. */
int writeset_get(const struct writeset *w, struct kv_slice ikey, enum entry_kind *kind,
		 struct kv_slice *value) KV_MUST_CHECK;
bool writeset_empty(const struct writeset *w);
size_t writeset_ops(const struct writeset *w);	 /* point operations and range deletes */
size_t writeset_bytes(const struct writeset *w); /* of keys and values */
/* Range deletes with seq KV_SEQ_MAX - 1. */
const struct range_set *writeset_ranges(const struct writeset *w);
/* Point operations with seq KV_SEQ_MAX. Sees later changes; repositions by key. */
int writeset_iter_new(struct writeset *w, struct iter **out) KV_MUST_CHECK;

/* All operations in commit order: range deletes, then points by key. */
int writeset_each(const struct writeset *w,
		  int (*op)(void *ctx, enum entry_kind kind, struct kv_slice key,
			    struct kv_slice value),
		  void *ctx) KV_MUST_CHECK;

#endif
