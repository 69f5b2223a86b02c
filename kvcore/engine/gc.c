/* SPDX-License-Identifier: MIT */
/*
 * Garbage collection of versions by the exact list of live snapshots.
 *
 * A delete is special in two ways. Hidden like any version, it goes. And if
 * every snapshot sees it and nothing of the key is stored deeper, then it says
 * nothing that its absence would not say, and goes too. What it hides in the same merge
 * goes by the general rule: older versions end at the delete's seq, and no live
 * snapshot is below that.
 */
#include "kvcore/engine/gc.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

int gc_init(struct gc *gc, struct snapshots *snapshots)
{
	kv_seq before = snapshots_floor(snapshots), floor;
	struct gc g = {0};
	int err = snapshots_live(snapshots, &g.live, &g.live_count, &g.keep_all);

	if (err)
		return err;
	KV_ASSERT(g.live_count > 0);
	floor = min_u64(before, snapshots_floor(snapshots));
	if (!floor)
		g.keep_all = true; /* history is just beginning */
	else if (floor != KV_SEQ_MAX)
		g.history = floor;
	*gc = g;
	return 0;
}

void gc_fini(struct gc *gc)
{
	free(gc->live);
	gc->live = NULL;
	gc->live_count = 0;
}

bool gc_needed(const struct gc *gc, kv_seq seq, kv_seq until)
{
	size_t lo = 0;
	size_t hi = gc->live_count;

	if (gc->keep_all || seq > gc->live[gc->live_count - 1] ||
	    (gc->history && until > gc->history))
		return true;
	while (lo < hi) { /* the first live one that is at or above seq */
		size_t mid = lo + (hi - lo) / 2;

		if (gc->live[mid] < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < gc->live_count && gc->live[lo] < until;
}

kv_seq gc_oldest(const struct gc *gc)
{
	return gc->history ? min_u64(gc->history, gc->live[0]) : gc->live[0];
}

/* Does every reader there is or will be see what was written at @seq? */
static bool seen_by_all(const struct gc *gc, kv_seq seq)
{
	return !gc->keep_all && seq <= gc_oldest(gc);
}

void gc_filter_init(struct gc_filter *f, const struct gc *gc, const struct range_set *ranges,
		    struct gc_below below)
{
	*f = (struct gc_filter){gc, ranges, below, 0, KV_SEQ_MAX};
}

/* The oldest range delete over @key that is newer than @seq; KV_SEQ_MAX if there is none. */
static kv_seq deleted_at(struct gc_filter *f, struct kv_slice key, kv_seq seq)
{
	size_t count = f->ranges ? range_set_count(f->ranges) : 0;
	struct range_fragment frag = {0};

	for (; f->fragment < count; f->fragment++) {
		frag = range_set_at(f->ranges, f->fragment);
		if (slice_compare(key, frag.to) < 0)
			break;
	}
	if (f->fragment == count || slice_compare(key, frag.from) < 0)
		return KV_SEQ_MAX;
	for (size_t i = frag.seq_count; i > 0; i--) {
		if (frag.seqs[i - 1] > seq)
			return frag.seqs[i - 1];
	}
	return KV_SEQ_MAX;
}

bool gc_filter_keep(struct gc_filter *f, const struct entry *e, bool first)
{
	kv_seq until = first ? KV_SEQ_MAX : f->newer;

	f->newer = e->seq;
	until = min_u64(until, deleted_at(f, e->key, e->seq));
	if (!gc_needed(f->gc, e->seq, until))
		return false;
	return e->kind != ENTRY_DELETE || !seen_by_all(f->gc, e->seq) ||
	       f->below.overlaps(f->below.ctx, e->key, e->key, false);
}

int gc_filter_ranges(const struct gc *gc, const struct range_set *in, struct gc_below below,
		     struct range_set *out)
{
	for (size_t i = 0; i < range_set_count(in); i++) {
		struct range_fragment frag = range_set_at(in, i);
		kv_seq until = KV_SEQ_MAX;

		for (size_t j = 0; j < frag.seq_count; j++) {
			kv_seq seq = frag.seqs[j];
			int err = 0;

			if (gc_needed(gc, seq, until) &&
			    (!seen_by_all(gc, seq) ||
			     below.overlaps(below.ctx, frag.from, frag.to, true)))
				err = range_set_add(out, frag.from, frag.to, seq);
			if (err)
				return err;
			until = seq;
		}
	}
	return 0;
}
