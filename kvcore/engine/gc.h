/* SPDX-License-Identifier: MIT */
/*
 * Which versions of a key, and which range deletes, flush and compaction must
 * keep: those that some live snapshot can still read, and those newer than
 * every snapshot. A snapshot L reads the newest version at or below L, unless a
 * range delete at or below L is newer than that version. So a version s that is
 * superseded at u (by the next newer version or by a range delete over the key,
 * whichever came first) is needed exactly if a live L has s <= L < u. While history is
 * kept, every L from its beginning on is as if live.
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_GC_H
#define KVCORE_ENGINE_GC_H

#include "kvcore/engine/snapshots.h"
#include "kvcore/table/range_del.h"

struct gc {
	kv_seq *live; /* rising, at least one; the last is the visible seq */
	size_t live_count;
	kv_seq history; /* states from it on are all kept, if it is not 0 */
	bool keep_all;
};

/* The oldest state that somebody can read. */
kv_seq gc_oldest(const struct gc *gc);

/* The live snapshots of this moment. Return: 0, -ENOMEM. */
int gc_init(struct gc *gc, struct snapshots *snapshots) KV_MUST_CHECK;
void gc_fini(struct gc *gc);

/* Is something written at @seq and superseded at @until (KV_SEQ_MAX: never) still needed? */
bool gc_needed(const struct gc *gc, kv_seq seq, kv_seq until);

/*
 * Is anything in the keys [first, last] (or without @last, if @exclusive) stored below what is
 * being merged? Then deletes of those keys must stay.
 */
struct gc_below {
	bool (*overlaps)(void *ctx, struct kv_slice first, struct kv_slice last, bool exclusive);
	void *ctx;
};

/* Goes over the versions of keys in order (entry_compare). */
struct gc_filter {
	const struct gc *gc;
	const struct range_set *ranges; /* all range deletes of what is merged */
	struct gc_below below;
	size_t fragment; /* the first one that ends behind the present key */
	kv_seq newer;	 /* of the version before; KV_SEQ_MAX at a key's first */
};

void gc_filter_init(struct gc_filter *f, const struct gc *gc, const struct range_set *ranges,
		    struct gc_below below);
/* Must this entry be kept? @first: it is the newest version of its key. */
bool gc_filter_keep(struct gc_filter *f, const struct entry *e, bool first);

/*
 * The range deletes of @in that must be kept.
 * @out: an empty set. Return: 0, -ENOMEM.
 */
int gc_filter_ranges(const struct gc *gc, const struct range_set *in, struct gc_below below,
		     struct range_set *out) KV_MUST_CHECK;

#endif
