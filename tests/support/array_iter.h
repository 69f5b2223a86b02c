/* SPDX-License-Identifier: MIT */
/*
 * An iterator over a sorted array of entries, and the comparison of any iterator
 * with such an array by a random walk. The array is the model that merging,
 * level, memtable and write set iterators are tested against.
 */
#ifndef TESTS_SUPPORT_ARRAY_ITER_H
#define TESTS_SUPPORT_ARRAY_ITER_H

#include "kvcore/table/iter.h"
#include "tests/support/test_suite.h"

/* What a test may want to know of, or do to, array iterators. Zero: nothing. */
struct array_iter_control {
	unsigned open;	  /* iterators that are not closed */
	unsigned opened;  /* ever */
	unsigned fail_in; /* the so many-th movement from now fails; 0: none */
	int err;	  /* with this */
};

/* @entries: sorted, borrowed. @control: may be NULL. */
struct iter *array_iter_new(const struct entry *entries, size_t count,
			    struct array_iter_control *control);

/* Index of the first entry with key >= @ikey. */
size_t array_lower_bound(const struct entry *entries, size_t count, struct kv_slice ikey);

bool array_entry_equal(const struct entry *a, const struct entry *b);

/*
 * Move @it at random, with many turns, and compare every result with the array. @probes: keys
 * to seek, at least one.
 */
void array_iter_walk(struct iter *it, const struct entry *entries, size_t count,
		     const struct kv_slice *probes, size_t probe_count, unsigned steps,
		     struct test_rng *rng);

#endif
