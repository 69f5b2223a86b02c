/* SPDX-License-Identifier: MIT */
/*
 * Which seqs somebody can still read: read transactions, snapshot handles and
 * named snapshots. What flush and compaction may drop follows from this exact
 * list, not only from the oldest.
 *
 * Thread safety: any thread; mutexes of the ranks from OS_RANK_SNAPSHOTS on, one a shard.
 */
#ifndef KVCORE_ENGINE_SNAPSHOTS_H
#define KVCORE_ENGINE_SNAPSHOTS_H

#include <stdatomic.h>

#include "kvcore/os/os_thread.h"

struct snapshots;

int snapshots_new(struct snapshots **out) KV_MUST_CHECK;
void snapshots_free(struct snapshots *s);

/* The newest seq that is visible; set by the commit leader, rising. */
void snapshots_publish(struct snapshots *s, kv_seq seq);
kv_seq snapshots_visible(struct snapshots *s);

/* Register the visible seq and return it through @seq. Return: 0, -ENOMEM. */
int snapshots_acquire(struct snapshots *s, kv_seq *seq) KV_MUST_CHECK;
/* Register one more holder of a seq that is known to be held already. */
int snapshots_hold(struct snapshots *s, kv_seq seq) KV_MUST_CHECK;
void snapshots_release(struct snapshots *s, kv_seq seq);

/*
 * Forbid dropping anything at all: until the named snapshots are known, at recovery.
 */
void snapshots_keep_all(struct snapshots *s, bool keep);

/*
 * Forbid dropping what a state at or after @seq can see, whether or not somebody holds it;
 * KV_SEQ_MAX: allow it again. To begin, first 0, then a visible seq that was read after that, so
 * that no list made before lacks anything. snapshots_floor() is read before a list is made and
 * after, and the lower value counts: so a hold of what it covers, taken before it rises, is seen.
 */
void snapshots_keep_from(struct snapshots *s, kv_seq seq);
kv_seq snapshots_floor(struct snapshots *s);

/*
 * The list at this moment, rising and distinct, ending with the visible seq: a
 * version is needed if it is the newest one at or below some element. A snapshot
 * taken later is at or above the last element. Freed by the caller with free().
 * @keep_all: nothing may be dropped.
 */
int snapshots_live(struct snapshots *s, kv_seq **out, size_t *count, bool *keep_all) KV_MUST_CHECK;

#endif
