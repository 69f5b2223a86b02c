/* SPDX-License-Identifier: MIT */
/*
 * Commits in order, out of memtables and tables, not out of the log: the log is reused
 * at each flush, and lacks commits that were too large for it. Tables are ordered by key, so
 * what was written in the next so many commit numbers is gathered, and sorted by number.
 *
 * A gathering is whole if history still reaches back to its position after the view was
 * taken: nothing that the view holds was written by a compaction that could drop more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/changes.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_history.h"

#define FEED_NUMBERS 65536U /* commit numbers gathered at a time */

struct feed_item {
	kv_seq seq;
	size_t key, key_len; /* in feed->text: an ikey */
	size_t to_len;	     /* of a range: its end follows the key */
	uint8_t kind;	     /* enum kv_feed_kind */
};

struct kv_feed {
	struct kv_db *db;
	kv_seq position; /* returned, or known to be empty, up to it */
	kv_seq gathered; /* all up to it is in items */
	struct kv_buf items;
	struct kv_buf text;
	size_t next; /* item */
	size_t end;  /* of the present commit's items */
};

/* The first commit of all found nothing there, so what it did needs no state before it. */
static bool is_gone(const struct kv_history_info *info, kv_seq position)
{
	return !info->begun || (position < info->from && (position || info->from > 1));
}

int kv_feed_open(struct kv_db *db, kv_seq after, struct kv_feed **out)
{
	struct kv_history_info info;
	struct kv_feed *f;

	kv_history_get(db, &info);
	if (is_gone(&info, after))
		return -KV_E_GONE;
	if (after > info.newest)
		return -KV_E_INVALID;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->db = db;
	f->position = f->gathered = after;
	*out = f;
	return 0;
}

void kv_feed_close(struct kv_feed *f)
{
	if (!f)
		return;
	kv_buf_free(&f->items);
	kv_buf_free(&f->text);
	free(f);
}

/* ---- gathering ---------------------------------------------------------------------------- */

static int add(struct kv_feed *f, kv_seq seq, enum kv_feed_kind kind, struct kv_slice key,
	       struct kv_slice to)
{
	struct feed_item item = {.seq = seq,
				 .key = f->text.len,
				 .key_len = key.len,
				 .to_len = to.len,
				 .kind = (uint8_t)kind};
	int err = buf_append_slice(&f->text, key);

	if (!err)
		err = buf_append_slice(&f->text, to);
	return err ? err : buf_append(&f->items, &item, sizeof(item));
}

static int gather_points(struct kv_feed *f, const struct changes *c)
{
	const struct kv_slice none = {NULL, 0};
	struct entry e;
	int err = iter_seek(c->points, kv_buf_slice(&c->lower));

	for (; !err; err = iter_next(c->points)) {
		iter_entry(c->points, &e);
		if (slice_compare(e.key, kv_buf_slice(&c->upper)) >= 0)
			return 0;
		if (changes_count(c, e.seq))
			err = add(f, e.seq, e.kind == ENTRY_DELETE ? KV_FEED_DELETE : KV_FEED_PUT,
				  e.key, none);
		if (err)
			return err;
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int gather_ranges(struct kv_feed *f, const struct changes *c)
{
	int err = 0;

	for (size_t i = 0; i < range_set_count(c->ranges); i++) {
		struct range_fragment r = range_set_at(c->ranges, i);

		for (size_t j = 0; !err && j < r.seq_count; j++)
			if (changes_count(c, r.seqs[j]))
				err = add(f, r.seqs[j], KV_FEED_DELETE_RANGE, r.from, r.to);
	}
	return err;
}

/* By number; within one as they were gathered: points by key, then ranges. */
static int compare(const void *a, const void *b)
{
	const struct feed_item *x = a, *y = b;

	if (x->seq != y->seq)
		return x->seq < y->seq ? -1 : 1;
	return x->key < y->key ? -1 : x->key > y->key;
}

static int gather(struct kv_feed *f, kv_seq durable)
{
	struct changes c = {.low = f->position,
			    .high = min_u64(durable, f->position + FEED_NUMBERS)};
	struct kv_history_info info;
	uint8_t buf[IKEY_MAX];
	int err;

	buf_clear(&f->items);
	buf_clear(&f->text);
	f->next = f->end = 0;
	err = buf_assign(&c.lower, ikey_make(buf, 1, kv_slice_of(NULL, 0)));
	if (!err)
		err = buf_assign(&c.upper,
				 ikey_make(buf, KV_KEYSPACE_MAX + 1, kv_slice_of(NULL, 0)));
	if (!err)
		err = changes_open(&c, f->db);
	if (!err) {
		kv_history_get(f->db, &info);
		if (is_gone(&info, f->position))
			err = -KV_E_GONE;
	}
	if (!err)
		err = gather_points(f, &c);
	if (!err)
		err = gather_ranges(f, &c);
	if (err) {
		buf_clear(&f->items);
	} else {
		if (f->items.len)
			qsort(f->items.data, f->items.len / sizeof(struct feed_item),
			      sizeof(struct feed_item), compare);
		f->gathered = c.high;
	}
	changes_close(&c);
	return err;
}

/* ---- going over it -------------------------------------------------------------------------- */

static const struct feed_item *item_at(const struct kv_feed *f, size_t i)
{
	return (const struct feed_item *)(const void *)f->items.data + i;
}

int kv_feed_next(struct kv_feed *f, kv_seq *seq)
{
	size_t count = f->items.len / sizeof(struct feed_item);
	struct kv_history_info info;
	int err;

	f->next = f->end;
	while (f->next == count) {
		f->position = f->gathered;
		kv_history_get(f->db, &info);
		if (is_gone(&info, f->position))
			return -KV_E_GONE;
		if (info.durable <= f->position)
			return -KV_E_NOTFOUND;
		err = gather(f, info.durable);
		if (err)
			return err;
		count = f->items.len / sizeof(struct feed_item);
	}
	f->position = item_at(f, f->next)->seq;
	for (f->end = f->next; f->end < count && item_at(f, f->end)->seq == f->position; f->end++)
		;
	*seq = f->position;
	return 0;
}

bool kv_feed_op(struct kv_feed *f, struct kv_feed_op *out)
{
	const struct feed_item *item;
	struct kv_slice ikey, to;

	if (f->next == f->end)
		return false;
	item = item_at(f, f->next++);
	ikey = kv_slice_of(f->text.data + item->key, item->key_len);
	to = kv_slice_of(ikey.data + item->key_len, item->to_len);
	*out = (struct kv_feed_op){
		.kind = (enum kv_feed_kind)item->kind,
		.keyspace = ikey_keyspace(ikey),
		.key = ikey_user(ikey),
	};
	if (to.len && ikey_keyspace(to) == out->keyspace)
		out->to = ikey_user(to);
	return true;
}

kv_seq kv_feed_position(const struct kv_feed *f)
{
	return f->position;
}
