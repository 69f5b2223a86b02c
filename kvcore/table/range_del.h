/* SPDX-License-Identifier: MIT */
/*
 * Range deletes as disjoint fragments: each fragment is an interval of ikeys and
 * the falling list of the seqs at which it was deleted. Overlapping deletes are
 * split at each other's bounds when they are added, so a query is one binary
 * search and nothing is ever compared with an unfragmented range.
 *
 * A range delete of seq s hides entries of its interval with seq < s. (An entry
 * with the same seq was written after it in the same transaction and stays.)
 *
 * Thread safety: readers concurrently, a writer alone.
 */
#ifndef KVCORE_TABLE_RANGE_DEL_H
#define KVCORE_TABLE_RANGE_DEL_H

#include "kvcore/format/entry.h"

struct range_fragment {
	struct kv_slice from; /* first ikey */
	struct kv_slice to;   /* first ikey after it */
	const kv_seq *seqs;   /* falling, distinct */
	size_t seq_count;     /* at least 1 */
};

struct range_set;

int range_set_new(struct range_set **out) KV_MUST_CHECK;
void range_set_free(struct range_set *s);
/* Copies the keys. from < to. Return: 0, -ENOMEM (the set is as before). */
int range_set_add(struct range_set *s, struct kv_slice from, struct kv_slice to, kv_seq seq)
	KV_MUST_CHECK;
/* All fragments of @from, clipped to [lower, upper); empty slices: no bound. */
int range_set_add_set(struct range_set *s, const struct range_set *from, struct kv_slice lower,
		      struct kv_slice upper) KV_MUST_CHECK;
/*
 * A fragment behind all others, with all its seqs (falling, distinct, at least one): for
 * decoding. Copies. Return: 0, -ENOMEM (the set is as before).
 */
int range_set_append(struct range_set *s, struct kv_slice from, struct kv_slice to,
		     const kv_seq *seqs, size_t seq_count) KV_MUST_CHECK;
size_t range_set_count(const struct range_set *s);
/* @i < count; borrowed until the set changes. */
struct range_fragment range_set_at(const struct range_set *s, size_t i);
/* Newest seq <= max_seq of a range delete covering @ikey; 0: none. */
kv_seq range_set_covering(const struct range_set *s, struct kv_slice ikey, kv_seq max_seq);
/* Index of the first fragment with to > ikey (it may or may not contain it); count: none. */
size_t range_set_find(const struct range_set *s, struct kv_slice ikey);
/* Bytes of heap, for accounting. */
size_t range_set_bytes(const struct range_set *s);

#endif
