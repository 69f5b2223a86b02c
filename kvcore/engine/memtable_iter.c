/* SPDX-License-Identifier: MIT */
/*
 * Iterators over a memtable, both ways, while others insert. An iterator stands on
 * a version of a key; its place in the tree is validated by each step and found anew
 * from the key if the leaf changed meanwhile.
 *
 * One kind shows all versions, for who writes them out. The other shows what a snapshot
 * sees, one version a key, so that a key that was written a thousand times costs a scan
 * no more than any other.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/engine/memtable_internal.h"

struct memtable_iter {
	struct iter base;
	struct memtable *m;
	struct memtree_pos pos;
	struct memversion *at; /* NULL: not positioned */
	kv_seq max_seq;	       /* of visible_ops: the snapshot */
};

static struct memtable_iter *iter_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct memtable_iter, base);
}

/* Stand on the newest or the oldest version of the key at @p. */
static int stand(struct memtable_iter *mi, struct memtree_pos p, bool oldest)
{
	if (!p.key) {
		mi->at = NULL;
		return -KV_E_NOTFOUND;
	}
	mi->pos = p;
	mi->at = oldest ? memtable_oldest(p.key) : memtable_newest(p.key);
	return 0;
}

static int op_first(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	return stand(mi, memtree_first(&mi->m->points), false);
}

static int op_last(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	return stand(mi, memtree_last(&mi->m->points), true);
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);

	return stand(mi, memtree_seek(&mi->m->points, ikey), false);
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);

	return stand(mi, memtree_seek_before(&mi->m->points, ikey), true);
}

static int op_next(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	struct memversion *older;

	KV_ASSERT(mi->at);
	older = memtable_older(mi->at);
	if (older) {
		mi->at = older;
		return 0;
	}
	return stand(mi, memtree_next(&mi->m->points, mi->pos), false);
}

static int op_prev(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);
	struct memversion *newer;

	KV_ASSERT(mi->at);
	newer = memtable_newer(mi->pos.key, mi->at);
	if (newer) {
		mi->at = newer;
		return 0;
	}
	return stand(mi, memtree_prev(&mi->m->points, mi->pos), true);
}

static void op_entry(struct iter *it, struct entry *out)
{
	struct memtable_iter *mi = iter_of(it);

	KV_ASSERT(mi->at);
	memtable_entry(mi->pos.key, mi->at, out);
}

static void op_close(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	memtable_unref(mi->m);
	free(mi);
}

static const struct iter_ops memtable_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

/* ---- what a snapshot sees --------------------------------------------------- */

/* Stand on the first key from @p on, in the direction of @move, that the snapshot sees. */
static int stand_visible(struct memtable_iter *mi, struct memtree_pos p,
			 struct memtree_pos (*move)(const struct memtree *t, struct memtree_pos p))
{
	for (; p.key; p = move(&mi->m->points, p)) {
		mi->at = memtable_visible(p.key, mi->max_seq);
		if (mi->at) {
			mi->pos = p;
			return 0;
		}
	}
	mi->at = NULL;
	return -KV_E_NOTFOUND;
}

static int visible_first(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	return stand_visible(mi, memtree_first(&mi->m->points), memtree_next);
}

static int visible_last(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	return stand_visible(mi, memtree_last(&mi->m->points), memtree_prev);
}

static int visible_seek(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);

	return stand_visible(mi, memtree_seek(&mi->m->points, ikey), memtree_next);
}

static int visible_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct memtable_iter *mi = iter_of(it);

	return stand_visible(mi, memtree_seek_before(&mi->m->points, ikey), memtree_prev);
}

static int visible_next(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	KV_ASSERT(mi->at);
	return stand_visible(mi, memtree_next(&mi->m->points, mi->pos), memtree_next);
}

static int visible_prev(struct iter *it)
{
	struct memtable_iter *mi = iter_of(it);

	KV_ASSERT(mi->at);
	return stand_visible(mi, memtree_prev(&mi->m->points, mi->pos), memtree_prev);
}

static const struct iter_ops visible_ops = {
	.first = visible_first,
	.last = visible_last,
	.seek = visible_seek,
	.seek_before = visible_seek_before,
	.next = visible_next,
	.prev = visible_prev,
	.entry = op_entry,
	.close = op_close,
};

/* ---- life ------------------------------------------------------------------- */

static int iter_new(struct memtable *m, const struct iter_ops *ops, kv_seq max_seq,
		    struct iter **out)
{
	struct memtable_iter *mi = malloc(sizeof(*mi));

	if (!mi)
		return -ENOMEM;
	*mi = (struct memtable_iter){.base.ops = ops, .m = memtable_ref(m), .max_seq = max_seq};
	*out = &mi->base;
	return 0;
}

int memtable_iter_new(struct memtable *m, struct iter **out)
{
	return iter_new(m, &memtable_iter_ops, KV_SEQ_MAX, out);
}

int memtable_iter_at(struct memtable *m, kv_seq max_seq, struct iter **out)
{
	return iter_new(m, &visible_ops, max_seq, out);
}
