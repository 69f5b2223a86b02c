/* SPDX-License-Identifier: MIT */
/*
 * Snapshots as users name them: a snapshot of the engine whose name can be a file
 * name. Times that wait in nodes are written before, so that a snapshot shows
 * what stat(2) showed when it was taken.
 *
 * A snapshot of a subtree is one of the volume in which a key says so, put before it is
 * taken and deleted after: what it is of is in itself, so there is no moment in
 * which it is of something else, and nothing to delete with it. What a crash leaves of
 * the key in the present is deleted when the next snapshot of the name is taken.
 */
#include "fusefs/model/snapshot.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/roothash.h"
#include "fusefs/model/state.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

int kvfs_snapshot_check_name(const char *name)
{
	return place_check_name(kv_slice_of(name, strlen(name)));
}

/* The lock of all, and the key of one. */
#define SNAPSHOT_OF "of"

static void snapshot_key(const char *name, struct model_key *out)
{
	place_meta(SNAPSHOT_OF ":", out);
	memcpy(out->b + out->len, name, strlen(name));
	out->len += strlen(name);
}

int snapshot_top(struct kv_txn *txn, const char *name, struct kv_buf *out)
{
	struct model_key key;
	int err;

	if (strlen(name) > KVFS_NAME_MAX) { /* not one of ours */
		buf_clear(out);
		return 0;
	}
	snapshot_key(name, &key);
	err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), out);
	if (err == -KV_E_NOTFOUND) {
		buf_clear(out);
		err = 0;
	}
	return err;
}

/* Whether it is a directory now; its path with byte 0 for '/'. */
static int snapshot_find(struct kvfs *fs, struct kv_slice of, struct kv_buf *path)
{
	struct inode_buf rec = {0};
	struct state s = {0};
	int err = buf_append_slice(path, of);

	for (size_t i = 0; i < path->len; i++)
		if (path->data[i] == '/')
			path->data[i] = 0;
	if (!err)
		err = state_open(fs, NULL, &s);
	if (!err)
		err = state_find(s.txn, kv_buf_slice(path), &rec);
	if (!err && !inode_is_dir(&rec.r))
		err = -ENOTDIR;
	inode_buf_free(&rec);
	state_close(&s);
	return err;
}

static int snapshot_create_locked(struct kvfs *fs, const char *name, struct kv_slice path)
{
	struct model_key key;
	struct kv_slice k;
	int err, deleted;

	snapshot_key(name, &key);
	k = model_key_slice(&key);
	if (!path.len) {
		err = kv_get(fs->db, key.keyspace, k, NULL);
		if (!err)
			err = kv_delete(fs->db, key.keyspace, k, KV_COMMIT_RESERVE);
		return err && err != -KV_E_NOTFOUND ? err : kv_snapshot_create(fs->db, name);
	}
	err = kv_put(fs->db, key.keyspace, k, path, 0);
	if (err)
		return err;
	err = kv_snapshot_create(fs->db, name);
	deleted = kv_delete(fs->db, key.keyspace, k, KV_COMMIT_RESERVE);
	return err ? err : deleted;
}

/* Nobody else puts or deletes the key meanwhile. */
static int snapshot_create_alone(struct kvfs *fs, const char *name, struct kv_slice path)
{
	struct kv_txn *lock = NULL;
	struct model_key key;
	int err = kv_txn_begin(fs->db, NULL, &lock);

	place_meta(SNAPSHOT_OF, &key);
	if (!err)
		err = kv_txn_lock(lock, key.keyspace, model_key_slice(&key));
	if (!err)
		err = snapshot_create_locked(fs, name, path);
	kv_txn_abort(lock);
	return err;
}

int snapshot_create_now(struct kvfs *fs, const char *name)
{
	return snapshot_create_alone(fs, name, kv_slice_of(NULL, 0));
}

int kvfs_snapshot_create_of(struct kvfs *fs, const char *name, struct kv_slice of)
{
	struct kv_buf path = {0};
	int err;

	err = kvfs_snapshot_check_name(name);
	if (!err)
		err = kvfs_writable(fs);
	if (!err && of.len)
		err = snapshot_find(fs, of, &path);
	if (!err && fs->lazytime)
		err = node_table_each(fs, times_flush);
	if (!err && fs->lazytime)
		err = times_flush(fs, &fs->root);
	if (!err)
		err = snapshot_create_alone(fs, name, kv_buf_slice(&path));
	kv_buf_free(&path);
	return err;
}

int kvfs_snapshot_create(struct kvfs *fs, const char *name)
{
	return kvfs_snapshot_create_of(fs, name, kv_slice_of(NULL, 0));
}

int kvfs_snapshot_of(struct kvfs *fs, const char *name, struct kv_buf *out)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *txn = NULL;
	int err = kv_snapshot_open(fs->db, name, &snapshot);

	options.snapshot = snapshot;
	if (!err)
		err = kv_txn_begin(fs->db, &options, &txn);
	if (!err)
		err = snapshot_top(txn, name, out);
	kv_txn_abort(txn);
	kv_snapshot_release(snapshot);
	for (size_t i = 0; !err && i < out->len; i++)
		if (!out->data[i])
			out->data[i] = '/';
	return err;
}

int kvfs_snapshot_drop(struct kvfs *fs, const char *name)
{
	int err = kvfs_writable(fs);

	if (!err)
		err = kv_snapshot_drop(fs->db, name);
	return err ? err : roothash_forget(fs, name);
}
