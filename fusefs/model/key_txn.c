/* SPDX-License-Identifier: MIT */
/*
 * Transactions of the key API. Changes are kept in memory and applied at
 * commit, so that a transaction that takes its time holds no lock against the
 * mount. Reads are of one snapshot, taken at the start. At commit each changed
 * key must be as the snapshot has it (first committer wins), except that its
 * directory may have changed: two transactions may add keys to one directory.
 * The snapshot's engine transaction proves that by locking the records, which
 * fails if they were written since; a second one then makes the changes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/model/key_change.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/scan.h"
#include "fusefs/model/times.h"
#include "kvcore/base/btree.h"
#include "kvcore/base/buf.h"

struct key_txn_entry {
	struct kv_buf path; /* with byte 0 for '/': what the tree is ordered by */
	struct kv_buf key;
	struct kv_buf value;
	bool removed;
};

struct kvfs_txn {
	struct kvfs *fs;
	struct kvfs_owner owner;
	struct kv_txn *snapshot;
	uint64_t write_seq;   /* of fs when the snapshot was taken */
	struct btree changes; /* path -> struct key_txn_entry */
	uint64_t bytes;
	struct key_nodes nodes;
};

int kvfs_txn_begin(struct kvfs *fs, const struct kvfs_owner *owner, struct kvfs_txn **out)
{
	struct kv_txn_options options = {.snapshot = fs->snapshot};
	struct kvfs_txn *t = calloc(1, sizeof(*t));
	struct model_key key;
	int err;

	if (!t)
		return -ENOMEM;
	t->fs = fs;
	t->owner = owner ? *owner : (struct kvfs_owner){getuid(), getgid(), 0};
	btree_init(&t->changes);
	if (kvfs_writable(fs))
		options.flags = KV_TXN_RDONLY;
	/* The number first: a write that the snapshot, taken by the first read, lacks has a later
	 * one. */
	t->write_seq = atomic_load(&fs->write_seq);
	err = kv_txn_begin(fs->db, &options, &t->snapshot);
	if (!err) {
		place_meta("root", &key);
		err = kv_txn_get(t->snapshot, key.keyspace, model_key_slice(&key), NULL);
	}
	if (err) {
		kvfs_txn_abort(t);
		return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
	}
	*out = t;
	return 0;
}

static void key_txn_entry_free(struct key_txn_entry *e)
{
	if (!e)
		return;
	kv_buf_free(&e->path);
	kv_buf_free(&e->key);
	kv_buf_free(&e->value);
	free(e);
}

void kvfs_txn_abort(struct kvfs_txn *txn)
{
	struct btree_pos p;

	if (!txn)
		return;
	kv_txn_abort(txn->snapshot);
	for (p = btree_first(&txn->changes); btree_valid(p); p = btree_next(p))
		key_txn_entry_free(btree_value(p));
	btree_fini(&txn->changes);
	key_nodes_free(txn->fs, &txn->nodes);
	free(txn);
}

static struct key_txn_entry *key_txn_find(struct kvfs_txn *txn, struct kv_slice path)
{
	void **slot = btree_find(&txn->changes, path);

	return slot ? *slot : NULL;
}

int kvfs_txn_get(struct kvfs_txn *txn, struct kv_slice key, struct kv_buf *value)
{
	struct kv_buf path = {0}, out = {0};
	struct key_txn_entry *e;
	int err;

	err = key_check(key);
	if (!err)
		err = scan_convert(key, &path);
	if (err)
		goto out;
	e = key_txn_find(txn, kv_buf_slice(&path));
	if (e && e->removed)
		err = -KV_E_NOTFOUND;
	else if (e)
		err = buf_assign(&out, kv_buf_slice(&e->value));
	else
		err = key_read(txn->fs, txn->snapshot, key, &out);
	if (!err) {
		kv_buf_free(value);
		*value = out;
		out = (struct kv_buf){0};
	}
out:
	kv_buf_free(&out);
	kv_buf_free(&path);
	return err;
}

/* Remember a change, replacing an earlier one of the same key. */
static int key_txn_change(struct kvfs_txn *txn, struct kv_slice key, struct kv_buf *path,
			  const struct kv_slice *value)
{
	struct key_txn_entry *e = calloc(1, sizeof(*e));
	struct kv_slice stored;
	void **slot;
	bool inserted;
	int err;

	if (!e)
		return -ENOMEM;
	e->removed = !value;
	err = buf_assign(&e->key, key);
	if (!err && value)
		err = buf_assign(&e->value, *value);
	if (err)
		goto out;
	e->path = *path;
	*path = (struct kv_buf){0};
	/* The tree keeps the key of the entry it holds, so the old entry goes with its key. */
	key_txn_entry_free(btree_remove(&txn->changes, kv_buf_slice(&e->path), &stored));
	err = btree_insert(&txn->changes, kv_buf_slice(&e->path), &slot, &inserted);
	if (err)
		goto out;
	*slot = e;
	txn->bytes += e->value.len;
	return 0;
out:
	key_txn_entry_free(e);
	return err;
}

/* Other changes of this transaction make @path a directory, or lie above it. */
static int key_txn_check_changes(struct kvfs_txn *txn, struct kv_slice path, bool *above_removed)
{
	struct key_txn_entry *e;
	struct btree_pos p;
	struct kv_slice k;

	*above_removed = false;
	for (size_t i = 0; i < path.len; i++) {
		if (path.data[i])
			continue;
		e = key_txn_find(txn, kv_slice_of(path.data, i));
		if (e && !e->removed)
			return -ENOTDIR;
		if (e)
			*above_removed = true;
	}
	for (p = btree_seek(&txn->changes, path); btree_valid(p); p = btree_next(p)) {
		k = btree_key(p);
		if (!slice_has_prefix(k, path) || (k.len > path.len && k.data[path.len]))
			break;
		e = btree_value(p);
		if (k.len > path.len && !e->removed)
			return -EISDIR;
	}
	return 0;
}

/* What the snapshot says about putting @key. */
static int key_txn_check_snapshot(struct kvfs_txn *txn, struct kv_slice key, bool above_removed)
{
	struct inode_buf rec = {0};
	int err = key_lookup(txn->fs, txn->snapshot, key, &rec);

	inode_buf_free(&rec);
	if (err == -KV_E_NOTFOUND || (err == -ENOTDIR && above_removed))
		return 0;
	return err;
}

int kvfs_txn_put(struct kvfs_txn *txn, struct kv_slice key, struct kv_slice value)
{
	struct kv_buf path = {0};
	bool above_removed;
	int err;

	err = kvfs_writable(txn->fs);
	if (!err)
		err = key_check(key);
	if (!err && value.len > KEY_VALUE_MAX)
		err = -KV_E_TOO_BIG;
	if (!err)
		err = scan_convert(key, &path);
	if (!err)
		err = key_txn_check_changes(txn, kv_buf_slice(&path), &above_removed);
	if (!err)
		err = key_txn_check_snapshot(txn, key, above_removed);
	if (!err)
		err = key_txn_change(txn, key, &path, &value);
	kv_buf_free(&path);
	return err;
}

int kvfs_txn_delete(struct kvfs_txn *txn, struct kv_slice key)
{
	struct kv_buf path = {0};
	struct inode_buf rec = {0};
	struct key_txn_entry *e;
	int err;

	err = kvfs_writable(txn->fs);
	if (!err)
		err = key_check(key);
	if (!err)
		err = scan_convert(key, &path);
	if (err)
		goto out;
	e = key_txn_find(txn, kv_buf_slice(&path));
	if (e)
		err = e->removed ? -KV_E_NOTFOUND : 0;
	else
		err = key_lookup(txn->fs, txn->snapshot, key, &rec);
	if (!err)
		err = key_txn_change(txn, key, &path, NULL);
out:
	inode_buf_free(&rec);
	kv_buf_free(&path);
	return err;
}

/* ---- scan ---- */

struct key_txn_scan {
	struct kvfs_txn *txn;
	const struct kvfs_scan *scan;
	int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value);
	void *ctx;
	struct btree_pos pos; /* next change not yet emitted */
	struct kv_buf upper, prefix;
};

/* Emit the present change if it is within the scan's bounds and no removal. */
static int key_txn_emit(struct key_txn_scan *s)
{
	struct key_txn_entry *e = btree_value(s->pos);
	struct kv_slice path = kv_buf_slice(&e->path), value = {0};

	if (e->removed || !slice_has_prefix(path, kv_buf_slice(&s->prefix)) ||
	    (s->upper.len && slice_compare(path, kv_buf_slice(&s->upper)) >= 0))
		return 0;
	if (!s->scan->keys_only)
		value = kv_buf_slice(&e->value);
	return s->emit(s->ctx, kv_buf_slice(&e->key), value);
}

/* Changes before @path, which is skipped if it has one itself. */
static int key_txn_merge(void *ctx, struct kv_slice path, bool *skip)
{
	struct key_txn_scan *s = ctx;
	int err = 0, order;

	for (; btree_valid(s->pos) && !err; s->pos = btree_next(s->pos)) {
		order = slice_compare(btree_key(s->pos), path);
		if (order > 0)
			break;
		err = key_txn_emit(s);
		if (!order)
			*skip = true;
	}
	return err;
}

int kvfs_txn_scan(struct kvfs_txn *txn, const struct kvfs_scan *scan,
		  int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value), void *ctx)
{
	struct key_txn_scan s = {.txn = txn, .scan = scan, .emit = emit, .ctx = ctx};
	struct scan_run run = {.fs = txn->fs,
			       .scan = scan,
			       .merge = key_txn_merge,
			       .merge_ctx = &s,
			       .emit = emit,
			       .ctx = ctx};
	struct kv_buf lower = {0};
	int err;

	err = scan_convert(scan->from, &lower);
	if (!err)
		err = scan_convert(scan->to, &s.upper);
	if (!err)
		err = scan_convert(scan->prefix, &s.prefix);
	if (!err) {
		s.pos = btree_seek(&txn->changes, kv_buf_slice(&lower));
		err = scan_run(txn->snapshot, &run);
	}
	for (; !err && btree_valid(s.pos); s.pos = btree_next(s.pos))
		err = key_txn_emit(&s);
	kv_buf_free(&lower);
	kv_buf_free(&s.upper);
	kv_buf_free(&s.prefix);
	return err < 0 ? err : 0;
}

/* ---- commit ---- */

/* A key's place and record in one state. */
struct key_txn_state {
	bool there;
	struct model_key at; /* of the record itself */
	struct inode_buf rec;
};

static int key_txn_look(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key,
			struct key_txn_state *out)
{
	struct key_place place;
	int err;

	err = key_find(fs, txn, key, &place);
	if (!err && place.missing.len)
		err = -KV_E_NOTFOUND;
	if (!err) {
		place_name(model_key_slice(&place.prefix), place.name, &out->at);
		err = inode_get(fs, txn, &out->at, false, &out->rec);
	}
	if (!err && out->rec.r.kind == MODEL_RECORD_LINK)
		place_id(MODEL_INODES, out->rec.r.id, &out->at);
	out->there = !err;
	return err == -KV_E_NOTFOUND || err == -ENOTDIR ? 0 : err;
}

/* Nobody else changed @key since the snapshot. fs->ns is held for writing. */
static int key_txn_validate(struct kvfs_txn *txn, struct kv_slice key)
{
	struct key_txn_state then = {0}, now = {0};
	struct kvfs_node *node;
	int err;

	err = key_txn_look(txn->fs, txn->snapshot, key, &then);
	if (!err)
		err = key_txn_look(txn->fs, NULL, key, &now);
	if (!err && then.there != now.there)
		err = -KV_E_CONFLICT;
	if (err || !then.there)
		goto out;
	if (then.at.keyspace != now.at.keyspace ||
	    !slice_equal(model_key_slice(&then.at), model_key_slice(&now.at))) {
		err = -KV_E_CONFLICT;
		goto out;
	}
	err = kv_txn_lock(txn->snapshot, then.at.keyspace, model_key_slice(&then.at));
	node = err ? NULL : node_find(txn->fs, now.rec.r.id);
	if (node) {
		struct key_node e = {.node = node, .kind = KEY_NODE_SEEN};

		if (times_written_since(txn->fs, node, txn->write_seq))
			err = -KV_E_CONFLICT;
		/* Its reference goes after the locks. */
		if (buf_append(&txn->nodes.list, &e, sizeof(e)) && !err)
			err = -ENOMEM;
	}
out:
	inode_buf_free(&then.rec);
	inode_buf_free(&now.rec);
	return err;
}

static int key_txn_apply(struct kvfs_txn *txn, const struct key_op *op, bool removed)
{
	struct key_txn_entry *e;
	struct btree_pos p;
	int err = 0;

	for (p = btree_first(&txn->changes); btree_valid(p) && !err; p = btree_next(p)) {
		e = btree_value(p);
		if (e->removed != removed)
			continue;
		if (!removed)
			err = key_put(op, kv_buf_slice(&e->key), kv_buf_slice(&e->value));
		else
			err = key_delete(op, kv_buf_slice(&e->key));
		if (removed && err == -KV_E_NOTFOUND)
			err = 0; /* put and removed by this transaction */
	}
	return err;
}

static int key_txn_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct kvfs_txn *t = arg;
	struct key_op op = {.fs = fs,
			    .txn = txn,
			    .reader = txn,
			    .owner = &t->owner,
			    .now = inode_time(kvfs_now()),
			    .nodes = &t->nodes};
	struct btree_pos p;
	int err = 0;

	for (p = btree_first(&t->changes); btree_valid(p) && !err; p = btree_next(p)) {
		struct key_txn_entry *e = btree_value(p);

		/* So that the reference validation takes is not lost. */
		err = buf_reserve(&t->nodes.list, sizeof(struct key_node));
		if (!err)
			err = key_txn_validate(t, kv_buf_slice(&e->key));
	}
	if (err)
		return err;
	/* Its locks would be in the way; fs->ns keeps what it proved. */
	kv_txn_abort(t->snapshot);
	t->snapshot = NULL;
	err = key_txn_apply(t, &op, true);
	return err ? err : key_txn_apply(t, &op, false);
}

static void key_txn_done(struct kvfs *fs, void *arg)
{
	struct kvfs_txn *t = arg;

	key_nodes_settle(fs, &t->nodes);
}

int kvfs_txn_commit(struct kvfs_txn *txn, bool sync)
{
	struct retry_op op = {.run = key_txn_run,
			      .done = key_txn_done,
			      .arg = txn,
			      .exclusive = true,
			      .sync = sync,
			      .once = true};
	int err = 0;

	if (txn->changes.count)
		err = retry_write(txn->fs, &op);
	else if (sync && !kvfs_writable(txn->fs))
		err = kv_sync(txn->fs->db);
	kvfs_txn_abort(txn);
	return err;
}
