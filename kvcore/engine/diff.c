/* SPDX-License-Identifier: MIT */
/*
 * What differs between two states. A key differs only if some version of it, or a
 * range delete over it, has a number above the older state's and not above the
 * newer's. Such versions lie in memtables and in tables whose highest number is above
 * the older state's; all other tables are passed over unread. What a state needs is
 * pinned by its transaction, so compaction has dropped none of them but such as made
 * no difference.
 *
 * Two rising sequences of candidates are merged: the keys of those versions, and the
 * keys that the older state has where it was deleted since by a range. A candidate
 * that is in neither state is passed over.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/merge_iter.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_diff.h"

struct kv_diff {
	struct kv_txn *from, *to;
	struct kv_txn *older;
	kv_seq low, high; /* versions in (low, high] count */
	struct view *view;
	struct kv_buf lower, upper; /* ikeys */
	struct table **tables;	    /* of all levels, those looked at; level iterators borrow it */
	size_t table_count;
	struct iter *points; /* NULL: nothing to look at */
	bool at_point;	     /* it stands on a version that counts */
	struct range_set *ranges;
	size_t fragment;      /* the present one, or the next */
	struct kv_iter *kept; /* keys of the older state */
	bool at_kept;	      /* it stands within the present fragment */
	bool started;
	struct kv_buf key; /* ikey */
};

/* ---- opening ------------------------------------------------------------------------- */

static bool is_newer(const struct kv_diff *d, struct table *t)
{
	const struct table_meta *m = table_get_meta(t);

	return m->seq_max > d->low && m->seq_min <= d->high &&
	       slice_compare(kv_buf_slice(&m->smallest), kv_buf_slice(&d->upper)) < 0 &&
	       slice_compare(kv_buf_slice(&m->largest), kv_buf_slice(&d->lower)) >= 0;
}

static int add_memtable(struct memtable *m, struct range_set *ranges, struct iter **list,
			size_t *count)
{
	const struct kv_slice unbounded = {NULL, 0};
	int err = 0;

	if (memtable_has_ranges(m))
		err = memtable_ranges(m, unbounded, unbounded, ranges);
	if (!err)
		err = memtable_iter_new(m, &list[*count]);
	if (!err)
		(*count)++;
	return err;
}

static int add_table_ranges(struct table *t, struct range_set *ranges)
{
	const struct range_set *set = NULL;
	int err = 0;

	if (table_get_meta(t)->range_count)
		err = table_ranges(t, &set);
	return err || !set
		       ? err
		       : range_set_add_set(ranges, set, kv_slice_of(NULL, 0), kv_slice_of(NULL, 0));
}

/* Level 0: a source for each table. Others: one for those of the level that are looked at. */
static int add_level(struct kv_diff *d, unsigned n, struct range_set *ranges, struct iter **list,
		     size_t *count)
{
	const struct version_level *l = &d->view->version->level[n];
	size_t first = d->table_count;
	int err = 0;

	for (size_t i = 0; !err && i < l->count; i++) {
		if (!is_newer(d, l->tables[i]))
			continue;
		d->tables[d->table_count++] = l->tables[i];
		err = add_table_ranges(l->tables[i], ranges);
		if (!err && !n) {
			err = table_iter_new(l->tables[i], TABLE_ITER_READAHEAD, &list[*count]);
			*count += !err;
		}
	}
	if (!err && n && d->table_count > first) {
		err = level_iter_new(d->tables + first, d->table_count - first,
				     TABLE_ITER_READAHEAD, &list[*count]);
		*count += !err;
	}
	return err;
}

static int add_all(struct kv_diff *d, struct range_set *ranges, struct iter **list, size_t *count)
{
	struct view *v = d->view;
	int err = add_memtable(v->active, ranges, list, count);

	for (unsigned i = 0; !err && i < v->frozen_count; i++)
		err = add_memtable(v->frozen[i], ranges, list, count);
	for (unsigned n = 0; !err && n < KV_LEVELS; n++)
		err = add_level(d, n, ranges, list, count);
	return err;
}

static int open_sources(struct kv_diff *d)
{
	size_t tables = 0, count = 0;
	struct range_set *ranges = NULL;
	struct iter **list;
	int err;

	for (unsigned n = 0; n < KV_LEVELS; n++)
		tables += d->view->version->level[n].count;
	d->tables = calloc(tables + 1, sizeof(*d->tables));
	list = calloc(1 + VIEW_FROZEN_MAX + tables + KV_LEVELS, sizeof(*list));
	err = d->tables && list ? range_set_new(&ranges) : -ENOMEM;
	if (!err)
		err = range_set_new(&d->ranges);
	if (!err)
		err = add_all(d, ranges, list, &count);
	/* Those of memtables are of all keyspaces. */
	if (!err && range_set_count(ranges))
		err = range_set_add_set(d->ranges, ranges, kv_buf_slice(&d->lower),
					kv_buf_slice(&d->upper));
	if (!err)
		err = merge_iter_new(list, count, &d->points);
	else
		for (size_t i = 0; i < count; i++)
			iter_close(list[i]);
	free(list);
	range_set_free(ranges);
	return err;
}

int kv_diff_open(struct kv_txn *from, struct kv_txn *to, unsigned keyspace,
		 const struct kv_range *range, struct kv_diff **out)
{
	struct kv_diff *d;
	int err;

	if (!from->readonly || !to->readonly || from->db != to->db || keyspace == KEYSPACE_SYSTEM ||
	    keyspace > KV_KEYSPACE_MAX)
		return -KV_E_INVALID;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->from = from;
	d->to = to;
	d->older = from->snapshot <= to->snapshot ? from : to;
	d->low = d->older->snapshot;
	d->high = max_u64(from->snapshot, to->snapshot);
	err = db_iter_bounds(keyspace, range, &d->lower, &d->upper);
	if (!err && d->low < d->high &&
	    slice_compare(kv_buf_slice(&d->lower), kv_buf_slice(&d->upper)) < 0) {
		d->view = view_get(from->db);
		err = open_sources(d);
	}
	if (!err && d->ranges && range_set_count(d->ranges))
		err = kv_iter_open(d->older, keyspace, range, &d->kept);
	if (err) {
		kv_diff_close(d);
		return err;
	}
	*out = d;
	return 0;
}

void kv_diff_close(struct kv_diff *d)
{
	if (!d)
		return;
	kv_iter_close(d->kept);
	iter_close(d->points);
	range_set_free(d->ranges);
	if (d->view)
		view_unref(d->view);
	free(d->tables);
	kv_buf_free(&d->lower);
	kv_buf_free(&d->upper);
	kv_buf_free(&d->key);
	free(d);
}

/* ---- candidates ------------------------------------------------------------------------- */

/* From where the points stand, on to a version that counts, of another key than the present. */
static int settle_points(struct kv_diff *d, int err)
{
	struct entry e;

	d->at_point = false;
	for (; !err; err = iter_next(d->points)) {
		iter_entry(d->points, &e);
		if (slice_compare(e.key, kv_buf_slice(&d->upper)) >= 0)
			return 0;
		if (e.seq > d->low && e.seq <= d->high &&
		    !slice_equal(e.key, kv_buf_slice(&d->key))) {
			d->at_point = true;
			return 0;
		}
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* Was the fragment deleted between the states? */
static bool fragment_counts(const struct kv_diff *d, const struct range_fragment *f)
{
	for (size_t i = 0; i < f->seq_count; i++)
		if (f->seqs[i] > d->low && f->seqs[i] <= d->high)
			return true;
	return false;
}

static int compare_kept(const struct kv_diff *d, struct kv_slice ikey)
{
	uint8_t buf[IKEY_MAX];

	return slice_compare(
		ikey_make(buf, ikey_keyspace(kv_buf_slice(&d->lower)), kv_iter_key(d->kept)), ikey);
}

/* From where the kept keys stand, on to one within a fragment that counts. */
static int settle_kept(struct kv_diff *d, int err)
{
	struct range_fragment f;

	d->at_kept = false;
	while (!err && d->fragment < range_set_count(d->ranges)) {
		f = range_set_at(d->ranges, d->fragment);
		if (!fragment_counts(d, &f) || compare_kept(d, f.to) >= 0) {
			d->fragment++;
		} else if (compare_kept(d, f.from) < 0) {
			err = kv_iter_seek(d->kept, ikey_user(f.from));
		} else {
			d->at_kept = true;
			return 0;
		}
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int start(struct kv_diff *d)
{
	int err = 0;

	d->started = true;
	if (d->points)
		err = settle_points(d, iter_seek(d->points, kv_buf_slice(&d->lower)));
	if (!err && d->kept)
		err = settle_kept(d, kv_iter_first(d->kept));
	return err;
}

/* The lowest candidate becomes the key, and both sequences move behind it. */
static int take(struct kv_diff *d)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice kept = {0};
	struct entry e = {0};
	int order, err = 0;

	if (d->at_kept)
		kept = ikey_make(buf, ikey_keyspace(kv_buf_slice(&d->lower)), kv_iter_key(d->kept));
	if (d->at_point)
		iter_entry(d->points, &e);
	order = !d->at_kept ? -1 : !d->at_point ? 1 : slice_compare(e.key, kept);
	err = buf_assign(&d->key, order <= 0 ? e.key : kept);
	if (!err && order <= 0)
		err = settle_points(d, iter_next(d->points));
	if (!err && order >= 0)
		err = settle_kept(d, kv_iter_next(d->kept));
	return err;
}

static int read_side(struct kv_diff *d, struct kv_txn *txn, struct kv_buf *value)
{
	struct kv_slice ikey = kv_buf_slice(&d->key);

	if (!ikey.len)
		return -KV_E_INVALID;
	return kv_txn_get(txn, ikey_keyspace(ikey), ikey_user(ikey), value);
}

int kv_diff_next(struct kv_diff *d)
{
	int err = d->started ? 0 : start(d);

	while (!err && (d->at_point || d->at_kept)) {
		err = take(d);
		if (!err)
			err = read_side(d, d->to, NULL);
		if (err == -KV_E_NOTFOUND)
			err = read_side(d, d->from, NULL);
		if (!err)
			return 0;
		if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	buf_clear(&d->key);
	return err ? err : -KV_E_NOTFOUND;
}

struct kv_slice kv_diff_key(const struct kv_diff *d)
{
	return d->key.len ? ikey_user(kv_buf_slice(&d->key)) : kv_slice_of(NULL, 0);
}

int kv_diff_old(struct kv_diff *d, struct kv_buf *value)
{
	return read_side(d, d->from, value);
}

int kv_diff_new(struct kv_diff *d, struct kv_buf *value)
{
	return read_side(d, d->to, value);
}
