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
#include "kvcore/engine/changes.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_diff.h"

struct kv_diff {
	struct kv_txn *from, *to;
	struct kv_txn *older;
	struct changes c;     /* not open: there is nothing to look at */
	bool at_point;	      /* its points stand on a version that counts */
	size_t fragment;      /* the present one, or the next */
	struct kv_iter *kept; /* keys of the older state */
	bool at_kept;	      /* it stands within the present fragment */
	bool started;
	struct kv_buf key; /* ikey */
};

/* ---- opening ------------------------------------------------------------------------- */

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
	d->c.low = d->older->snapshot;
	d->c.high = max_u64(from->snapshot, to->snapshot);
	err = db_iter_bounds(keyspace, range, &d->c.lower, &d->c.upper);
	if (!err && d->c.low < d->c.high &&
	    slice_compare(kv_buf_slice(&d->c.lower), kv_buf_slice(&d->c.upper)) < 0) {
		err = changes_open(&d->c, from->db);
	}
	if (!err && d->c.ranges && range_set_count(d->c.ranges))
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
	changes_close(&d->c);
	kv_buf_free(&d->key);
	free(d);
}

/* ---- candidates ------------------------------------------------------------------------- */

/* From where the points stand, on to a version that counts, of another key than the present. */
static int settle_points(struct kv_diff *d, int err)
{
	struct entry e;

	d->at_point = false;
	for (; !err; err = iter_next(d->c.points)) {
		iter_entry(d->c.points, &e);
		if (slice_compare(e.key, kv_buf_slice(&d->c.upper)) >= 0)
			return 0;
		if (changes_count(&d->c, e.seq) && !slice_equal(e.key, kv_buf_slice(&d->key))) {
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
		if (changes_count(&d->c, f->seqs[i]))
			return true;
	return false;
}

static int compare_kept(const struct kv_diff *d, struct kv_slice ikey)
{
	uint8_t buf[IKEY_MAX];

	return slice_compare(
		ikey_make(buf, ikey_keyspace(kv_buf_slice(&d->c.lower)), kv_iter_key(d->kept)),
		ikey);
}

/* From where the kept keys stand, on to one within a fragment that counts. */
static int settle_kept(struct kv_diff *d, int err)
{
	struct range_fragment f;

	d->at_kept = false;
	while (!err && d->fragment < range_set_count(d->c.ranges)) {
		f = range_set_at(d->c.ranges, d->fragment);
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
	if (d->c.points)
		err = settle_points(d, iter_seek(d->c.points, kv_buf_slice(&d->c.lower)));
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
		kept = ikey_make(buf, ikey_keyspace(kv_buf_slice(&d->c.lower)),
				 kv_iter_key(d->kept));
	if (d->at_point)
		iter_entry(d->c.points, &e);
	order = !d->at_kept ? -1 : !d->at_point ? 1 : slice_compare(e.key, kept);
	err = buf_assign(&d->key, order <= 0 ? e.key : kept);
	if (!err && order <= 0)
		err = settle_points(d, iter_next(d->c.points));
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
