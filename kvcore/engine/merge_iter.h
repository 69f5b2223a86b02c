/* SPDX-License-Identifier: MIT */
/*
 * Merges iterators into one order (entry_compare). Sources must not hold the
 * same (ikey, seq) twice; if they do, the earlier source's comes first.
 * Thread safety: one thread per iterator.
 */
#ifndef KVCORE_ENGINE_MERGE_ITER_H
#define KVCORE_ENGINE_MERGE_ITER_H

#include "kvcore/table/iter.h"

/*
 * @sources: taken over (closed with the merge), also on failure; the array is copied
 */
int merge_iter_new(struct iter **sources, size_t count, struct iter **out) KV_MUST_CHECK;

#endif
