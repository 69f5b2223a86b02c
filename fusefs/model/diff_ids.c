/* SPDX-License-Identifier: MIT */
/* Sorted lists of numbers, in which differences and commits look files and contents up. */
#include <stdlib.h>

#include "fusefs/model/diff.h"

static int compare_ids(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int compare_refs(const void *a, const void *b)
{
	const struct diff_ref *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->entry < y->entry ? -1 : x->entry > y->entry;
}

void diff_sort_ids(struct kv_buf *ids)
{
	if (ids->len)
		qsort(ids->data, ids->len / sizeof(uint64_t), sizeof(uint64_t), compare_ids);
}

bool diff_has_id(const struct kv_buf *ids, uint64_t id)
{
	return ids->len && bsearch(&id, ids->data, ids->len / sizeof(uint64_t), sizeof(uint64_t),
				   compare_ids) != NULL;
}

void diff_sort_refs(struct kv_buf *refs)
{
	if (refs->len)
		qsort(refs->data, diff_ref_count(refs), sizeof(struct diff_ref), compare_refs);
}

size_t diff_search_refs(const struct kv_buf *refs, uint64_t id)
{
	size_t lo = 0, hi = diff_ref_count(refs);

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (diff_ref_at(refs, mid)->id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
