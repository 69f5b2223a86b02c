/* SPDX-License-Identifier: MIT */
/*
 * Iterates over the disjoint, sorted tables of one level as one sequence,
 * opening a table's iterator only when it gets there.
 * Thread safety: one thread per iterator; the tables outlive it.
 */
#ifndef KVCORE_ENGINE_LEVEL_ITER_H
#define KVCORE_ENGINE_LEVEL_ITER_H

#include "kvcore/table/table.h"

/* Index of the first of a level's tables that reaches to @ikey or beyond; @count: none does. */
size_t level_find(struct table *const *tables, size_t count, struct kv_slice ikey);

/* @tables: borrowed, valid as long as the iterator. @flags: enum table_iter_flags. */
int level_iter_new(struct table *const *tables, size_t count, unsigned flags, struct iter **out)
	KV_MUST_CHECK;

#endif
