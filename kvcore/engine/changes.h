/* SPDX-License-Identifier: MIT */
/*
 * Where versions with numbers in (low, high] can be: memtables, and tables whose highest number is
 * above low. All other tables are passed over unread. Thread safety: one thread per structure.
 */
#ifndef KVCORE_ENGINE_CHANGES_H
#define KVCORE_ENGINE_CHANGES_H

#include "kvcore/engine/db.h"
#include "kvcore/table/iter.h"

struct changes {
	kv_seq low, high;	    /* by the caller; versions in (low, high] count */
	struct kv_buf lower, upper; /* by the caller: ikeys */
	struct view *view;
	struct table **tables; /* of all levels, those looked at; level iterators borrow it */
	size_t table_count;
	struct iter *points;	  /* NULL: not open */
	struct range_set *ranges; /* clipped to [lower, upper); of any number */
};

/* Take the current view. Return: 0, -ENOMEM, errors of reading; changes_close() in any case. */
int changes_open(struct changes *c, struct kv_db *db) KV_MUST_CHECK;
void changes_close(struct changes *c); /* zero-initialised is allowed */

static inline bool changes_count(const struct changes *c, kv_seq seq)
{
	return seq > c->low && seq <= c->high;
}

#endif
