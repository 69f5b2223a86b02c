/* SPDX-License-Identifier: MIT */
/*
 * The order of entries: keys rising, and of one key the newest version first, so
 * that a reader of any snapshot meets the version it may see before older ones.
 */
#include "kvcore/format/entry.h"

#include "kvcore/base/base.h"

int entry_compare(const struct entry *a, const struct entry *b)
{
	int order = slice_compare(a->key, b->key);

	if (order)
		return order;
	return (a->seq < b->seq) - (a->seq > b->seq);
}
