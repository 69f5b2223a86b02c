/* SPDX-License-Identifier: MIT */
/*
 * The whole volume becomes what it was at a snapshot, in one transaction: record by record, in
 * every keyspace, what was written since is written back. So files get back their ids,
 * links, times, holes and what they share, at the cost of the difference, and a crash leaves the
 * state before or after. Only the counter of ids stays, because ids are never given twice, and what
 * is no content: the retention policy, what was received.
 *
 * It is a draft (draft_apply.c), so others may look at the tree. Of what they have open
 *
 *   a file with a name then is the same file, as it was, wherever its name is;
 *   a file without one stays what it is, and has no name: its contents are copied, since what
 *   was under their ids then is there again, and may be of others.
 *
 * Files that were open without a name at the snapshot come back as such, and are swept.
 */
#include <errno.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/diff.h"
#include "fusefs/model/draft.h"
#include "fusefs/model/node.h"
#include "fusefs/model/open.h"
#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/share.h"
#include "fusefs/model/snapshot.h"
#include "kvcore/base/buf.h"
#include "kvcore/kv_diff.h"

struct restore {
	struct kvfs *fs;
	const struct kv_progress *progress;
	struct kv_txn *then; /* the snapshot */
	struct kv_txn *now;  /* what the draft began with */
	struct kv_txn *txn;  /* the draft's */
	uint64_t changes;
	struct kv_buf removed; /* uint64_t, rising: files that stand somewhere now and not then */
	struct kv_buf added;   /* the same the other way round; in both: they move */
	struct kv_buf gone;    /* uint64_t: removed files that nobody looks at */
	/* One key in both states. */
	struct kv_slice key;
	struct kv_buf value_now, value_then;
	bool have_now, have_then;
};

/* ---- what differs ---- */

static int restore_value(struct kv_diff *d, int (*get)(struct kv_diff *d, struct kv_buf *value),
			 struct kv_buf *value, bool *have)
{
	int err = get(d, value);

	*have = !err;
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* Calls @each for the keys that have other values now than then. */
static int restore_each(struct restore *r, unsigned keyspace,
			int (*each)(struct restore *r, unsigned keyspace))
{
	struct kv_diff *d;
	int err = kv_diff_open(r->now, r->then, keyspace, NULL, &d);

	if (err)
		return err;
	for (err = kv_diff_next(d); !err; err = kv_diff_next(d)) {
		r->key = kv_diff_key(d);
		err = restore_value(d, kv_diff_old, &r->value_now, &r->have_now);
		if (!err)
			err = restore_value(d, kv_diff_new, &r->value_then, &r->have_then);
		if (!err &&
		    (r->have_now != r->have_then ||
		     !slice_equal(kv_buf_slice(&r->value_now), kv_buf_slice(&r->value_then))))
			err = each(r, keyspace);
		if (err)
			break;
	}
	kv_diff_close(d);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* A whole record adds its file to the list. */
static int restore_note(bool have, const struct kv_buf *value, struct kv_buf *list)
{
	struct inode rec;
	int err;

	if (!have)
		return 0;
	err = inode_decode(kv_buf_slice(value), &rec);
	return err || rec.kind != MODEL_RECORD_FULL ? err
						    : buf_append(list, &rec.id, sizeof(rec.id));
}

static int restore_key(struct restore *r, unsigned keyspace)
{
	int err = 0;

	if (keyspace == MODEL_NAMES || keyspace == MODEL_INODES) {
		err = restore_note(r->have_now, &r->value_now, &r->removed);
		if (!err)
			err = restore_note(r->have_then, &r->value_then, &r->added);
	}
	if (err)
		return err;
	r->changes++;
	if (r->progress && r->progress->report(r->progress->ctx, r->changes, 0))
		return -KV_E_INTERRUPTED;
	return r->have_then ? kv_txn_put(r->txn, keyspace, r->key, kv_buf_slice(&r->value_then))
			    : kv_txn_delete(r->txn, keyspace, r->key);
}

static int restore_root(struct restore *r)
{
	struct model_key root;
	int err;

	place_meta("root", &root);
	err = kv_txn_get(r->then, root.keyspace, model_key_slice(&root), &r->value_then);
	return err ? err
		   : kv_txn_put(r->txn, root.keyspace, model_key_slice(&root),
				kv_buf_slice(&r->value_then));
}

/* ---- open files ---- */

static bool restore_is_gone(const struct restore *r, uint64_t id)
{
	return diff_has_id(&r->removed, id) && !diff_has_id(&r->added, id);
}

static int restore_keep_xattrs(struct restore *r, uint64_t id)
{
	struct model_key prefix;
	struct kv_range range;
	struct kv_slice value;
	struct kv_iter *it;
	int err;

	place_id(MODEL_XATTRS, id, &prefix);
	range = (struct kv_range){.prefix = model_key_slice(&prefix)};
	err = kv_iter_open(r->now, MODEL_XATTRS, &range, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = kv_txn_put(r->txn, MODEL_XATTRS, kv_iter_key(it), value);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* What was without a name then, too, is not brought back. */
static int restore_drop_orphan(struct restore *r, const struct model_key *key)
{
	struct inode_buf rec = {0};
	int err = kv_txn_get(r->then, MODEL_ORPHANS, model_key_slice(key), &rec.raw);

	if (!err)
		err = inode_decode(kv_buf_slice(&rec.raw), &rec.r);
	if (!err)
		err = remove_contents(r->txn, &rec.r);
	inode_buf_free(&rec);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The file of the record @now, which somebody looks at, goes on without a name. */
static int restore_keep(struct restore *r, const struct inode *now)
{
	struct inode copy = *now;
	struct model_key key;
	uint64_t fresh;
	int err;

	place_id(MODEL_ORPHANS, now->id, &key);
	err = restore_drop_orphan(r, &key);
	if (!err && (now->flags & MODEL_FLAG_CHUNKS)) {
		err = kvfs_new_id(r->fs, &fresh);
		if (!err)
			err = open_need_format(r->txn, MODEL_FORMAT_CONTENT);
		if (!err)
			err = share_copy(r->now, inode_content(now), r->txn, fresh,
					 chunk_span(now->size), &copy.chunks);
		if (!err)
			inode_set_content(&copy, fresh, 0);
	}
	if (!err && (now->flags & MODEL_FLAG_XATTRS))
		err = restore_keep_xattrs(r, now->id);
	copy.flags &= (uint8_t)~MODEL_FLAG_PREFIX;
	copy.prefix.len = 0;
	copy.nlink = 0;
	return err ? err : inode_put(r->txn, &key, &copy);
}

/* Of files without a name now: those that have one then get it back. */
static int restore_keep_orphans(struct restore *r)
{
	struct kv_slice value;
	struct kv_iter *it;
	struct inode rec;
	int err = kv_iter_open(r->now, MODEL_ORPHANS, NULL, &it);

	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = inode_decode(value, &rec);
		if (!err && node_is_known(r->fs, rec.id) && !diff_has_id(&r->added, rec.id))
			err = restore_keep(r, &rec);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/*
 * The names in a directory that was not there: those that stand under the prefix already, which
 * another had, are written again, so that who looks at them is told of it.
 */
static int restore_adopt(struct restore *r, const struct inode *dir)
{
	struct kv_slice above, last, name, value;
	struct model_key prefix;
	struct kv_range range;
	struct kv_iter *it;
	int err = place_split(r->key, &above, &last);

	if (err)
		return err;
	place_prefix(dir, above, last, &prefix);
	range = (struct kv_range){.prefix = model_key_slice(&prefix)};
	err = kv_iter_open(r->then, MODEL_NAMES, &range, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = place_next_child(it, range.prefix, &name);
		if (!err)
			err = kv_iter_value(it, &value);
		if (!err)
			err = kv_txn_put(r->txn, MODEL_NAMES, kv_iter_key(it), value);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* A second look at names and records, when it is known which files go and come. */
static int restore_look(struct restore *r, unsigned keyspace)
{
	struct inode rec;
	int err = r->have_now ? inode_decode(kv_buf_slice(&r->value_now), &rec) : 0;

	if (!err && r->have_now && rec.kind == MODEL_RECORD_FULL && restore_is_gone(r, rec.id))
		err = node_is_known(r->fs, rec.id) ? restore_keep(r, &rec)
						   : buf_append(&r->gone, &rec.id, sizeof(rec.id));
	if (err || keyspace != MODEL_NAMES || !r->have_then)
		return err;
	err = inode_decode(kv_buf_slice(&r->value_then), &rec);
	if (err || rec.kind != MODEL_RECORD_FULL || !inode_is_dir(&rec) ||
	    diff_has_id(&r->removed, rec.id))
		return err;
	return restore_adopt(r, &rec);
}

/* ---- the transaction ---- */

static int restore_run(void *ctx, struct kvfs *draft, struct kv_txn *now)
{
	static const unsigned keyspaces[] = {MODEL_PREFIXES, MODEL_SHARED, MODEL_NAMES,
					     MODEL_INODES,   MODEL_DATA,   MODEL_XATTRS,
					     MODEL_ORPHANS};
	struct restore *r = ctx;
	int err = 0;

	r->now = now;
	r->txn = draft->txn;
	buf_clear(&r->removed);
	buf_clear(&r->added);
	buf_clear(&r->gone);
	atomic_store(&draft->displaced, true); /* a hint: there may be such */
	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(keyspaces); i++)
		err = restore_each(r, keyspaces[i], restore_key);
	if (!err)
		err = restore_root(r);
	diff_sort_ids(&r->removed);
	diff_sort_ids(&r->added);
	if (!err)
		err = restore_each(r, MODEL_NAMES, restore_look);
	if (!err)
		err = restore_each(r, MODEL_INODES, restore_look);
	return err ? err : restore_keep_orphans(r);
}

/* Any change counts: the snapshot does not have it. So does one who began to look at a file. */
static int restore_may_commit(void *ctx, struct kv_txn *then, struct kv_txn *now)
{
	static const unsigned seen[] = {MODEL_NAMES, MODEL_INODES, MODEL_DATA, MODEL_XATTRS,
					MODEL_ORPHANS};
	struct restore *r = ctx;
	struct kv_diff *diff;
	uint64_t id;
	int err = 0;

	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(seen); i++) {
		err = kv_diff_open(then, now, seen[i], NULL, &diff);
		if (err)
			break;
		err = kv_diff_next(diff);
		kv_diff_close(diff);
		err = !err ? -KV_E_CONFLICT : err == -KV_E_NOTFOUND ? 0 : err;
	}
	for (size_t at = 0; !err && at < r->gone.len; at += sizeof(id)) {
		memcpy(&id, r->gone.data + at, sizeof(id));
		err = node_is_known(r->fs, id) ? -KV_E_CONFLICT : 0;
	}
	return err;
}

/* Whether it had a root directory then, and shows it. */
static int restore_check(struct kv_txn *then, const char *name)
{
	struct kv_buf top = {0};
	struct model_key root;
	int err = snapshot_top(then, name, &top);

	if (!err && top.len)
		err = -EOPNOTSUPP;
	kv_buf_free(&top);
	if (err)
		return err;

	place_meta("root", &root);
	err = kv_txn_get(then, MODEL_META, model_key_slice(&root), NULL);
	return err == -KV_E_NOTFOUND ? -KV_E_NOT_A_VOLUME : err;
}

int kvfs_snapshot_restore(struct kvfs *fs, const char *name, const struct kv_progress *progress,
			  const struct kvfs_draft_hooks *hooks)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct restore r = {.fs = fs, .progress = progress};
	const struct draft_change change = {
		.run = restore_run, .check = restore_may_commit, .ctx = &r};
	struct kv_snapshot *snapshot = NULL;
	int err = fs->view ? -EINVAL : kvfs_writable(fs);

	if (err)
		return err;
	err = kv_snapshot_open(fs->db, name, &snapshot);
	if (err)
		return err;
	options.snapshot = snapshot;
	err = kv_txn_begin(fs->db, &options, &r.then);
	if (!err)
		err = restore_check(r.then, name);
	if (!err)
		err = draft_apply(fs, &change, hooks);
	kv_txn_abort(r.then);
	kv_snapshot_release(snapshot);
	kv_buf_free(&r.removed);
	kv_buf_free(&r.added);
	kv_buf_free(&r.gone);
	kv_buf_free(&r.value_now);
	kv_buf_free(&r.value_then);
	return err;
}
