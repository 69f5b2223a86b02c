/* SPDX-License-Identifier: MIT */
/*
 * One interface for everything that yields entries in order (ikey ascending,
 * seq descending): memtables, tables, levels, merges, a transaction's writes.
 * Range deletes are not entries; they come as range sets (range_del.h).
 *
 * Movement returns 0 (positioned), -KV_E_NOTFOUND (no entry there; not
 * positioned) or an error (not positioned). Thread safety: one thread per
 * iterator.
 */
#ifndef KVCORE_TABLE_ITER_H
#define KVCORE_TABLE_ITER_H

#include "kvcore/format/entry.h"

struct iter {
	const struct iter_ops *ops; /* [const] */
};

struct iter_ops {
	int (*first)(struct iter *it);
	int (*last)(struct iter *it);
	/* First entry with key >= ikey, its newest version. */
	int (*seek)(struct iter *it, struct kv_slice ikey);
	/* Last entry with key < ikey, its oldest version. */
	int (*seek_before)(struct iter *it, struct kv_slice ikey);
	/* From a positioned iterator only. */
	int (*next)(struct iter *it);
	int (*prev)(struct iter *it);
	/* Borrowed until the iterator moves or closes. From a positioned iterator only. */
	void (*entry)(struct iter *it, struct entry *out);
	void (*close)(struct iter *it);
};

static inline int iter_first(struct iter *it)
{
	return it->ops->first(it);
}
static inline int iter_last(struct iter *it)
{
	return it->ops->last(it);
}
static inline int iter_seek(struct iter *it, struct kv_slice ikey)
{
	return it->ops->seek(it, ikey);
}
static inline int iter_seek_before(struct iter *it, struct kv_slice ikey)
{
	return it->ops->seek_before(it, ikey);
}
static inline int iter_next(struct iter *it)
{
	return it->ops->next(it);
}
static inline int iter_prev(struct iter *it)
{
	return it->ops->prev(it);
}
static inline void iter_entry(struct iter *it, struct entry *out)
{
	it->ops->entry(it, out);
}
/* NULL is allowed. */
static inline void iter_close(struct iter *it)
{
	if (it)
		it->ops->close(it);
}

#endif
