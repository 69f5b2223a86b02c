/* SPDX-License-Identifier: MIT */
/*
 * The newest part of the database: an in-memory B+-tree from ikeys to version
 * chains (newest first), and range deletes, in arenas. Filled by commits, frozen when
 * full, flushed into tables, freed when its last reader is gone.
 *
 *   active --memtable_freeze()--> frozen --flush--> unreferenced by the db
 *
 * Thread safety: any number of threads read and add at once. Reads take no lock and write
 * nothing shared. What a read returns is borrowed and stays valid as long as the caller holds a
 * reference, since nothing is freed before the memtable is.
 */
#ifndef KVCORE_ENGINE_MEMTABLE_H
#define KVCORE_ENGINE_MEMTABLE_H

#include <stdbool.h>

#include "kvcore/cache/cache.h"
#include "kvcore/table/iter.h"
#include "kvcore/table/range_del.h"

struct memtable;

/* @budget: its memory is charged here as it grows; borrowed; may be NULL. One reference is the
 * caller's. */
int memtable_new(struct cache *budget, struct memtable **out) KV_MUST_CHECK;
struct memtable *memtable_ref(struct memtable *m);
void memtable_unref(struct memtable *m); /* NULL is allowed */

/*
 * Add a version; key and value are copied. Versions of a key may come in any order of their
 * seqs; one with the seq of another (one transaction) replaces it. It is seen at once by who
 * reads at its seq, so that is published afterwards.
 * Return: 0, -ENOMEM (unchanged).
 */
int memtable_add(struct memtable *m, const struct entry *e) KV_MUST_CHECK;
/*
 * Delete [from, to) as of seq. One thread at a time, by rising seq.
 * Return: 0, -ENOMEM (it may hold for a part of the interval).
 */
int memtable_add_range(struct memtable *m, struct kv_slice from, struct kv_slice to, kv_seq seq)
	KV_MUST_CHECK;

/* No more additions. @seq_max: no entry of it has a greater seq */
void memtable_freeze(struct memtable *m, kv_seq seq_max);
/* That bound; KV_SEQ_MAX before it is frozen. */
kv_seq memtable_seq_max(const struct memtable *m);

/*
 * Newest point version with seq <= max_seq, whatever range deletes say.
 * Return: 0 or -KV_E_NOTFOUND.
 */
int memtable_get(struct memtable *m, struct kv_slice ikey, kv_seq max_seq, struct entry *out)
	KV_MUST_CHECK;
/* Newest seq <= max_seq of a range delete covering the ikey; 0: none. */
kv_seq memtable_covering(struct memtable *m, struct kv_slice ikey, kv_seq max_seq);
/* Does it hold any range delete? Cheap. */
bool memtable_has_ranges(struct memtable *m);
/* Has any delete, of a key or a range, been added? A hint. */
bool memtable_has_deletes(const struct memtable *m);
/* Copy what range deletes say of [from, to) into @out, added to what is there. @to empty: no bound
 */
int memtable_ranges(struct memtable *m, struct kv_slice from, struct kv_slice to,
		    struct range_set *out) KV_MUST_CHECK;
/* Are there more than @limit keys in [from, to)? Looks at that many. */
bool memtable_has_more(struct memtable *m, struct kv_slice from, struct kv_slice to, size_t limit);

/*
 * Iterates over what is there, including what is added meanwhile. Holds a reference.
 */
int memtable_iter_new(struct memtable *m, struct iter **out) KV_MUST_CHECK;
/*
 * The same, over what a snapshot sees: of each key only its newest version with seq <= max_seq.
 * The snapshot is registered, so that nothing is added to it any more.
 */
int memtable_iter_at(struct memtable *m, kv_seq max_seq, struct iter **out) KV_MUST_CHECK;

size_t memtable_bytes(const struct memtable *m); /* of heap; any thread */
size_t memtable_entries(const struct memtable *m);
bool memtable_empty(const struct memtable *m); /* neither entries nor range deletes */

#endif
