/* SPDX-License-Identifier: MIT */
/*
 * The versions of keys, as they are stored: what states need of them, and what compaction has not
 * dropped yet. Nothing is held, so who wants those of certain states looks afterwards whether these
 * can still be read. Range deletes count as versions of the keys that they hide.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/changes.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_history.h"

struct kv_past {
	struct changes c;
	struct kv_buf key;	      /* ikey of the present key; empty: none */
	struct range_fragment hidden; /* over it; seq_count 0: none */
	size_t next_hidden;	      /* in hidden.seqs, the first that was not told */
	bool started;
	bool move; /* the present point was told */
	bool at_point;
};

int kv_past_open(struct kv_db *db, unsigned keyspace, const struct kv_range *range,
		 struct kv_past **out)
{
	struct kv_past *p;
	int err;

	if (keyspace == KEYSPACE_SYSTEM || keyspace > KV_KEYSPACE_MAX)
		return -KV_E_INVALID;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->c.high = KV_SEQ_MAX;
	err = db_iter_bounds(keyspace, range, &p->c.lower, &p->c.upper);
	if (!err && slice_compare(kv_buf_slice(&p->c.lower), kv_buf_slice(&p->c.upper)) < 0)
		err = changes_open(&p->c, db);
	if (err)
		kv_past_close(p);
	else
		*out = p;
	return err;
}

void kv_past_close(struct kv_past *p)
{
	if (!p)
		return;
	changes_close(&p->c);
	kv_buf_free(&p->key);
	free(p);
}

/* After the iterator was moved with result @err. */
static int settle(struct kv_past *p, int err)
{
	struct entry e;

	p->move = false;
	p->at_point = !err;
	if (err)
		return err;
	iter_entry(p->c.points, &e);
	p->at_point = slice_compare(e.key, kv_buf_slice(&p->c.upper)) < 0;
	return p->at_point ? 0 : -KV_E_NOTFOUND;
}

int kv_past_seek(struct kv_past *p, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err;

	if (key.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	p->started = true;
	buf_clear(&p->key);
	if (!p->c.points)
		return 0;
	ikey = ikey_make(buf, ikey_keyspace(kv_buf_slice(&p->c.lower)), key);
	if (slice_compare(ikey, kv_buf_slice(&p->c.lower)) < 0)
		ikey = kv_buf_slice(&p->c.lower);
	err = settle(p, iter_seek(p->c.points, ikey));
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The point is of another key than the one before. */
static int take_key(struct kv_past *p, struct kv_slice ikey)
{
	size_t i = range_set_find(p->c.ranges, ikey);

	p->hidden = (struct range_fragment){.seq_count = 0};
	p->next_hidden = 0;
	if (i < range_set_count(p->c.ranges)) {
		p->hidden = range_set_at(p->c.ranges, i);
		if (slice_compare(p->hidden.from, ikey) > 0)
			p->hidden.seq_count = 0;
	}
	return buf_assign(&p->key, ikey);
}

int kv_past_next(struct kv_past *p, struct kv_past_version *out)
{
	struct entry e;
	int err = p->started ? 0 : kv_past_seek(p, kv_slice_of(NULL, 0));

	if (!err && p->move)
		err = settle(p, iter_next(p->c.points));
	if (!err && !p->at_point)
		err = -KV_E_NOTFOUND;
	if (err)
		return err;
	iter_entry(p->c.points, &e);
	if (!slice_equal(e.key, kv_buf_slice(&p->key)))
		err = take_key(p, e.key);
	if (err)
		return err;
	*out = (struct kv_past_version){.key = ikey_user(e.key), .deleted = true};
	if (p->next_hidden < p->hidden.seq_count && p->hidden.seqs[p->next_hidden] > e.seq) {
		out->seq = p->hidden.seqs[p->next_hidden++];
		return 0;
	}
	while (p->next_hidden < p->hidden.seq_count && p->hidden.seqs[p->next_hidden] >= e.seq)
		p->next_hidden++; /* it came before the point, in one commit */
	out->seq = e.seq;
	out->deleted = e.kind == ENTRY_DELETE;
	out->has_value = e.kind == ENTRY_PUT;
	if (out->has_value)
		out->value = e.value;
	p->move = true;
	return 0;
}
