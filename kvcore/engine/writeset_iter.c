/* SPDX-License-Identifier: MIT */
/*
 * Iterating over a write set. In memory that is walking a tree, found again by key when the
 * tree has changed. With runs it is a merge, in which the newest version of a key comes
 * first and is the one that counts; going back, it is found by seeking the key.
 *
 * A spill, a rollback or a merge of runs exchanges what there is to iterate over (the set's
 * layout). The iterator holds what it stands in, so that what it lent stays valid, and
 * looks again at its next move.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/skip_iter.h"
#include "kvcore/engine/writeset_internal.h"

/* ---- what is in memory ------------------------------------------------------------ */

struct mem_iter {
	struct iter base;
	struct writemem *mem;	  /* held */
	struct kv_slice key;	  /* in the arena */
	const struct writeop *at; /* NULL: not positioned */
	struct btree_pos pos;	  /* of key, as long as the tree has not changed */
	uint64_t changes;
};

static struct mem_iter *mem_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct mem_iter, base);
}

/* Stand on the first key from @p on, in the direction, that has an operation. */
static int mem_stand(struct mem_iter *mi, struct btree_pos p, bool forward)
{
	while (btree_valid(p) && !btree_value(p))
		p = forward ? btree_next(p) : btree_prev(p);
	mi->at = NULL;
	if (!btree_valid(p))
		return -KV_E_NOTFOUND;
	mi->pos = p;
	mi->changes = mi->mem->tree.changes;
	mi->key = btree_key(p);
	mi->at = btree_value(p);
	return 0;
}

static int mem_first(struct iter *it)
{
	struct mem_iter *mi = mem_of(it);

	return mem_stand(mi, btree_first(&mi->mem->tree), true);
}

static int mem_last(struct iter *it)
{
	struct mem_iter *mi = mem_of(it);

	return mem_stand(mi, btree_last(&mi->mem->tree), false);
}

static int mem_seek(struct iter *it, struct kv_slice ikey)
{
	struct mem_iter *mi = mem_of(it);

	return mem_stand(mi, btree_seek(&mi->mem->tree, ikey), true);
}

static int mem_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct mem_iter *mi = mem_of(it);

	return mem_stand(mi, btree_seek_before(&mi->mem->tree, ikey), false);
}

static int mem_next(struct iter *it)
{
	struct mem_iter *mi = mem_of(it);
	struct btree_pos p;

	KV_ASSERT(mi->at);
	if (mi->changes == mi->mem->tree.changes)
		return mem_stand(mi, btree_next(mi->pos), true);
	p = btree_seek(&mi->mem->tree, mi->key);
	if (btree_valid(p) && slice_equal(btree_key(p), mi->key)) /* it may have been removed */
		p = btree_next(p);
	return mem_stand(mi, p, true);
}

static int mem_prev(struct iter *it)
{
	struct mem_iter *mi = mem_of(it);

	KV_ASSERT(mi->at);
	if (mi->changes == mi->mem->tree.changes)
		return mem_stand(mi, btree_prev(mi->pos), false);
	return mem_stand(mi, btree_seek_before(&mi->mem->tree, mi->key), false);
}

static void mem_entry(struct iter *it, struct entry *out)
{
	struct mem_iter *mi = mem_of(it);

	KV_ASSERT(mi->at);
	*out = (struct entry){mi->key, KV_SEQ_MAX, mi->at->kind,
			      kv_slice_of(mi->at->value, mi->at->value_len)};
}

static void mem_close(struct iter *it)
{
	writeset_mem_unref(mem_of(it)->mem);
	free(mem_of(it));
}

static const struct iter_ops mem_iter_ops = {
	.first = mem_first,
	.last = mem_last,
	.seek = mem_seek,
	.seek_before = mem_seek_before,
	.next = mem_next,
	.prev = mem_prev,
	.entry = mem_entry,
	.close = mem_close,
};

static int mem_iter_new(struct writemem *mem, struct iter **out)
{
	struct mem_iter *mi = calloc(1, sizeof(*mi));

	if (!mi)
		return -ENOMEM;
	mi->base.ops = &mem_iter_ops;
	mi->mem = mem;
	mem->refs++;
	*out = &mi->base;
	return 0;
}

/* ---- the whole set -------------------------------------------------------------------- */

struct writeset_iter {
	struct iter base;
	struct writeset *w;
	unsigned flags;		 /* for tables of runs */
	struct iter *inner;	 /* NULL: to be opened */
	uint64_t layout;	 /* for which it was opened */
	struct spill_run **held; /* the runs that it reads */
	size_t held_count;
	struct kv_buf key; /* with runs, or after a change of the layout: the present one */
};

static struct writeset_iter *iter_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct writeset_iter, base);
}

static void close_inner(struct writeset_iter *wi)
{
	iter_close(wi->inner);
	wi->inner = NULL;
	while (wi->held_count)
		spill_run_unref(wi->held[--wi->held_count]);
	free(wi->held);
	wi->held = NULL;
}

static int add_run(struct writeset_iter *wi, struct spill_run *r, struct iter **out)
{
	struct iter *it;
	int err = spill_run_iter(r, wi->flags, &it);

	if (err)
		return err;
	wi->held[wi->held_count++] = spill_run_ref(r);
	if (wi->w->range_set)
		err = skip_iter_new(it, wi->w->range_set, spill_run_seq(r), KV_SEQ_MAX, &it);
	if (!err)
		*out = it;
	return err;
}

/* Takes the place of all sources, newest first. */
static int open_sources(struct writeset_iter *wi, struct iter **sources)
{
	struct writeset *w = wi->w;
	int err = mem_iter_new(w->mem, &sources[0]);
	size_t n = !err;

	for (size_t i = w->run_count; !err && i-- > 0; n += !err)
		err = add_run(wi, w->runs[i], &sources[n]);
	if (!err)
		return merge_iter_new(sources, n, &wi->inner);
	while (n)
		iter_close(sources[--n]);
	return err;
}

/* Before a move: look again if there is something else to iterate over. */
static int refresh(struct writeset_iter *wi)
{
	size_t room = wi->w->run_count + 1;
	struct iter **sources;
	int err = -ENOMEM;

	if (wi->inner && wi->layout == wi->w->layout)
		return 0;
	close_inner(wi);
	sources = calloc(room, sizeof(struct iter *));
	wi->held = calloc(room, sizeof(struct spill_run *));
	if (sources && wi->held)
		err = open_sources(wi, sources);
	free(sources);
	if (err)
		close_inner(wi);
	wi->layout = wi->w->layout;
	return err;
}

/* As refresh(), from a position, whose key is then kept. @moved: the position is gone. */
static int refresh_at(struct writeset_iter *wi, bool *moved)
{
	struct entry e;
	int err;

	*moved = wi->layout != wi->w->layout;
	if (!*moved)
		return 0;
	if (!wi->held_count) {
		iter_entry(wi->inner, &e);
		err = buf_assign(&wi->key, e.key);
		if (err)
			return err;
	}
	return refresh(wi);
}

/* The inner iterator stands on the newest version of a key, unless @err. */
static int stand(struct writeset_iter *wi, int err)
{
	struct entry e;

	if (err || !wi->held_count)
		return err;
	iter_entry(wi->inner, &e);
	return buf_assign(&wi->key, e.key);
}

/* The same after a step back, which leads to the oldest version of a key. */
static int stand_back(struct writeset_iter *wi, int err)
{
	err = stand(wi, err);
	return err || !wi->held_count ? err : iter_seek(wi->inner, kv_buf_slice(&wi->key));
}

static int op_first(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);
	int err = refresh(wi);

	return err ? err : stand(wi, iter_first(wi->inner));
}

static int op_last(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);
	int err = refresh(wi);

	return err ? err : stand_back(wi, iter_last(wi->inner));
}

static int op_seek(struct iter *it, struct kv_slice ikey)
{
	struct writeset_iter *wi = iter_of(it);
	int err = refresh(wi);

	return err ? err : stand(wi, iter_seek(wi->inner, ikey));
}

static int op_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct writeset_iter *wi = iter_of(it);
	int err = refresh(wi);

	return err ? err : stand_back(wi, iter_seek_before(wi->inner, ikey));
}

/* Is the inner iterator, having moved to @err, still on the kept key? */
static bool at_kept_key(const struct writeset_iter *wi, int err)
{
	struct entry e;

	if (err)
		return false;
	iter_entry(wi->inner, &e);
	return slice_equal(e.key, kv_buf_slice(&wi->key));
}

static int op_next(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);
	bool moved;
	int err = refresh_at(wi, &moved);

	if (err)
		return err;
	if (!moved && !wi->held_count)
		return iter_next(wi->inner);
	err = moved ? iter_seek(wi->inner, kv_buf_slice(&wi->key)) : iter_next(wi->inner);
	while (at_kept_key(wi, err))
		err = iter_next(wi->inner);
	return stand(wi, err);
}

static int op_prev(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);
	bool moved;
	int err = refresh_at(wi, &moved);

	if (err)
		return err;
	if (!moved && !wi->held_count)
		return iter_prev(wi->inner);
	return stand_back(wi, iter_seek_before(wi->inner, kv_buf_slice(&wi->key)));
}

static void op_entry(struct iter *it, struct entry *out)
{
	iter_entry(iter_of(it)->inner, out);
	out->seq = KV_SEQ_MAX;
}

static void op_close(struct iter *it)
{
	struct writeset_iter *wi = iter_of(it);

	close_inner(wi);
	kv_buf_free(&wi->key);
	free(wi);
}

static const struct iter_ops writeset_iter_ops = {
	.first = op_first,
	.last = op_last,
	.seek = op_seek,
	.seek_before = op_seek_before,
	.next = op_next,
	.prev = op_prev,
	.entry = op_entry,
	.close = op_close,
};

int writeset_iter_new(struct writeset *w, bool once, struct iter **out)
{
	struct writeset_iter *wi = calloc(1, sizeof(*wi));

	if (!wi)
		return -ENOMEM;
	wi->base.ops = &writeset_iter_ops;
	wi->w = w;
	wi->flags = TABLE_ITER_READAHEAD | (once ? TABLE_ITER_ONCE : 0U);
	*out = &wi->base;
	return 0;
}
