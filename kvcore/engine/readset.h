/* SPDX-License-Identifier: MIT */
/*
 * What an optimistic transaction has read: keys and ranges of ikeys, to be
 * validated at its commit. Memory is bounded: beyond READSET_BYTES_MAX neighbouring
 * intervals of a keyspace are taken together, which can only invent a conflict, never
 * hide one.
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_READSET_H
#define KVCORE_ENGINE_READSET_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

#define READSET_BYTES_MAX (4U * 1024 * 1024) /* of keys and their places */

struct readset;

int readset_new(struct readset **out) KV_MUST_CHECK;
void readset_free(struct readset *r); /* NULL is allowed */
/* [from, to), or the one key @from if @to is empty. Copied. Return: 0, -ENOMEM (unchanged). */
int readset_add(struct readset *r, struct kv_slice from, struct kv_slice to) KV_MUST_CHECK;
bool readset_empty(const struct readset *r);
/*
 * In order, disjoint; @to is empty for a key. The slices are valid until the set changes.
 * Stops at an error of @fn. Return: 0, -ENOMEM, or what @fn returned.
 */
int readset_each(struct readset *r, int (*fn)(void *ctx, struct kv_slice from, struct kv_slice to),
		 void *ctx) KV_MUST_CHECK;

#endif
