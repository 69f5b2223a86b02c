/* SPDX-License-Identifier: MIT */
/*
 * Wraps a source whose entries all have seq <= @seq_max and steps over the
 * intervals in which a newer range delete hides everything it has, with one
 * seek each instead of one step an entry. Entries that are hidden but stand
 * where the source could have newer ones are left for the reader to judge.
 * Thread safety: one thread per iterator.
 */
#ifndef KVCORE_ENGINE_SKIP_ITER_H
#define KVCORE_ENGINE_SKIP_ITER_H

#include "kvcore/table/range_del.h"
#include "kvcore/table/iter.h"

/*
 * @source:   taken over, also on failure
 * @ranges:   borrowed, constant while the iterator lives
 * @seq_max:  of the source
 * @snapshot: range deletes above it do not count
 */
int skip_iter_new(struct iter *source, const struct range_set *ranges, kv_seq seq_max,
		  kv_seq snapshot, struct iter **out) KV_MUST_CHECK;

#endif
