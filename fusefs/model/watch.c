/* SPDX-License-Identifier: MIT */
/*
 * What a commit did to paths. The engine says which keys it wrote; the states before and
 * after it say what that means. Names that lost a file and names that got it are matched by
 * its id. Paths are those of their own state: where a file was, of the state before,
 * all others of the state after; the index moves from one to the other in between.
 *
 * Each commit is told whole, so memory grows with the largest one.
 */
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/watch.h"
#include "kvcore/base/buf.h"

const char *kvfs_event_word(enum kvfs_event_kind kind)
{
#define WATCH_WORD(NAME, word) word,
	static const char *const words[] = {KVFS_EVENTS(WATCH_WORD)};
#undef WATCH_WORD
	return words[kind];
}

/* ---- life ------------------------------------------------------------------------------- */

static int watch_begin_side(struct kvfs_watch *w, enum diff_side_id side, kv_seq seq)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	int err = kv_history_open(w->fs->db, seq, &w->snapshot[side]);

	options.snapshot = w->snapshot[side];
	return err ? err : kv_txn_begin(w->fs->db, &options, &w->txn[side]);
}

static int watch_begin(struct kvfs_watch *w, kv_seq seq)
{
	int err = watch_begin_side(w, DIFF_OLD, seq - 1);

	return err ? err : watch_begin_side(w, DIFF_NEW, seq);
}

static void watch_end(struct kvfs_watch *w)
{
	for (int side = 0; side < DIFF_SIDES; side++) {
		kv_txn_abort(w->txn[side]);
		kv_snapshot_release(w->snapshot[side]);
		w->txn[side] = NULL;
		w->snapshot[side] = NULL;
	}
}

int kvfs_watch_open(struct kvfs *fs, kv_seq from, struct kv_slice below, struct kvfs_watch **out)
{
	struct kvfs_watch *w = calloc(1, sizeof(*w));
	struct kv_history_info info;
	int err;

	if (!w)
		return -ENOMEM;
	w->fs = fs;
	kv_history_get(fs->db, &info);
	err = buf_assign(&w->below, below);
	if (!err)
		err = kv_feed_open(fs->db,
				   !from		       ? info.newest
				   : from == KVFS_WATCH_OLDEST ? info.from
							       : from - 1,
				   &w->feed);
	if (!err)
		err = watch_begin_side(w, DIFF_OLD, kv_feed_position(w->feed));
	if (!err)
		err = watch_index_init(&w->index, w->txn[DIFF_OLD]);
	watch_end(w);
	if (err)
		kvfs_watch_close(w);
	else
		*out = w;
	return err;
}

void kvfs_watch_close(struct kvfs_watch *w)
{
	if (!w)
		return;
	kv_feed_close(w->feed);
	watch_index_fini(&w->index);
	kv_buf_free(&w->below);
	kv_buf_free(&w->text);
	kv_buf_free(&w->entries);
	kv_buf_free(&w->went);
	kv_buf_free(&w->inodes);
	kv_buf_free(&w->written);
	kv_buf_free(&w->xattrs);
	kv_buf_free(&w->before);
	kv_buf_free(&w->known);
	kv_buf_free(&w->path);
	free(w);
}

kv_seq kvfs_watch_position(const struct kvfs_watch *w)
{
	return kv_feed_position(w->feed);
}

/* ---- which keys it wrote ------------------------------------------------------------------ */

static int watch_add_name(struct kvfs_watch *w, struct kv_slice key)
{
	struct watch_entry e = {.key = w->text.len, .key_len = key.len};
	int err = buf_append_slice(&w->text, key);

	return err ? err : buf_append(&w->entries, &e, sizeof(e));
}

/* The names in a range that the commit deleted. */
static int watch_add_range(struct kvfs_watch *w, const struct kv_feed_op *op)
{
	const struct kv_range range = {.lower = op->key, .upper = op->to};
	struct kv_iter *it;
	int err = kv_iter_open(w->txn[DIFF_OLD], MODEL_NAMES, &range, &it);

	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = watch_add_name(w, kv_iter_key(it));
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* Keys come in order, so ids rise. */
static int watch_add_id(struct kv_buf *ids, struct kv_slice key)
{
	uint64_t id, *last;

	if (key.len < sizeof(id))
		return -KV_E_CORRUPT;
	id = be64_at(key.data);
	last = (uint64_t *)(void *)(ids->data + ids->len);
	return ids->len && last[-1] == id ? 0 : buf_append(ids, &id, sizeof(id));
}

static int watch_add(struct kvfs_watch *w, const struct kv_feed_op *op)
{
	bool range = op->kind == KV_FEED_DELETE_RANGE;
	struct model_key root;

	switch (op->keyspace) {
	case MODEL_NAMES:
		return range ? watch_add_range(w, op) : watch_add_name(w, op->key);
	case MODEL_INODES:
		return range ? 0 : watch_add_id(&w->inodes, op->key);
	case MODEL_DATA:
		return op->kind == KV_FEED_PUT ? watch_add_id(&w->written, op->key) : 0;
	case MODEL_XATTRS:
		return range ? 0 : watch_add_id(&w->xattrs, op->key);
	case MODEL_META:
		place_meta("root", &root);
		w->root = w->root || slice_equal(op->key, model_key_slice(&root));
		return 0;
	default:
		return 0;
	}
}

static int watch_compare_entries(const void *a, const void *b, void *ctx)
{
	const struct watch_entry *x = a, *y = b;
	const uint8_t *text = ctx;

	return slice_compare(kv_slice_of(text + x->key, x->key_len),
			     kv_slice_of(text + y->key, y->key_len));
}

/* A name may have been in a range that was deleted, and written as well. */
static void watch_sort(struct kvfs_watch *w)
{
	size_t count = watch_count(w), kept = 0;

	if (!count)
		return;
	qsort_r(w->entries.data, count, sizeof(struct watch_entry), watch_compare_entries,
		w->text.data);
	for (size_t i = 0; i < count; i++)
		if (!kept ||
		    !slice_equal(watch_key(w, watch_at(w, kept - 1)), watch_key(w, watch_at(w, i))))
			*watch_at(w, kept++) = *watch_at(w, i);
	w->entries.len = kept * sizeof(struct watch_entry);
}

static int watch_gather(struct kvfs_watch *w)
{
	struct kv_feed_op op;
	int err = 0;

	buf_clear(&w->text);
	buf_clear(&w->entries);
	buf_clear(&w->went);
	buf_clear(&w->inodes);
	buf_clear(&w->written);
	buf_clear(&w->xattrs);
	buf_clear(&w->before);
	buf_clear(&w->known);
	w->root = false;
	while (!err && kv_feed_op(w->feed, &op))
		err = watch_add(w, &op);
	watch_sort(w);
	return err;
}

/* ---- the whole --------------------------------------------------------------------------------
 */

int kvfs_watch_next(struct kvfs_watch *w, int (*emit)(void *ctx, const struct kvfs_event *event),
		    void *ctx)
{
	kv_seq seq;
	int err;

	err = kv_feed_next(w->feed, &seq);
	if (err)
		return err;
	w->event = (struct kvfs_event){.commit = seq};
	w->emit = emit;
	w->ctx = ctx;
	err = watch_begin(w, seq);
	if (!err)
		err = watch_gather(w);
	if (!err)
		err = watch_look(w);
	if (!err)
		err = watch_tell(w);
	watch_end(w);
	return err > 0 ? 0 : err;
}
