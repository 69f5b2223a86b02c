/* SPDX-License-Identifier: MIT */
/*
 * Reading a state by paths. It costs one read a component, and needs neither nodes nor
 * fs->ns, because nothing in a state moves.
 */
#include "fusefs/model/state.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/snapshot.h"
#include "fusefs/model/times.h"

int state_flush_times(struct kvfs *fs)
{
	int err;

	if (!fs->lazytime || kvfs_writable(fs))
		return 0;
	err = node_table_each(fs, times_flush);
	return err ? err : times_flush(fs, &fs->root);
}

int state_open(struct kvfs *fs, const char *name, struct state *out)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct inode_buf root = {0};
	struct state s = {0};
	int err;

	err = name ? kv_snapshot_open(fs->db, name, &s.snapshot) : state_flush_times(fs);
	options.snapshot = s.snapshot;
	if (!err)
		err = kv_txn_begin(fs->db, &options, &s.txn);
	if (!err && name) {
		err = snapshot_top(s.txn, name, &root.raw);
		if (!err && root.raw.len)
			err = -EOPNOTSUPP; /* it is of a subtree */
	}
	if (!err)
		err = state_find(s.txn, kv_slice_of(NULL, 0), &root);
	if (err == -ENOENT)
		err = -KV_E_NOT_A_VOLUME;
	inode_buf_free(&root);
	if (err)
		state_close(&s);
	else
		*out = s;
	return err;
}

void state_close(struct state *s)
{
	kv_txn_abort(s->txn);
	kv_snapshot_release(s->snapshot);
	*s = (struct state){0};
}

static int state_get(struct kv_txn *txn, const struct model_key *key, struct inode_buf *out)
{
	struct model_key inode;
	uint64_t id;
	int err;

	err = kv_txn_get(txn, key->keyspace, model_key_slice(key), &out->raw);
	if (err == -KV_E_NOTFOUND)
		return -ENOENT;
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	if (err || out->r.kind == MODEL_RECORD_FULL)
		return err;
	id = out->r.id;
	place_id(MODEL_INODES, id, &inode);
	err = kv_txn_get(txn, inode.keyspace, model_key_slice(&inode), &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	if (err == -KV_E_NOTFOUND ||
	    (!err && (out->r.id != id || out->r.kind != MODEL_RECORD_FULL)))
		err = -KV_E_CORRUPT;
	return err;
}

int state_find_place(struct kv_txn *txn, struct kv_slice path, struct inode_buf *out,
		     struct model_key *key, struct model_key *prefix)
{
	struct model_key at, dir = {.len = 0};
	struct kv_slice name;
	const uint8_t *zero;
	int err;

	place_meta("root", &at);
	err = state_get(txn, &at, out);
	while (!err && path.len) {
		if (!inode_is_dir(&out->r))
			return -ENOTDIR;
		zero = memchr(path.data, 0, path.len);
		name = kv_slice_of(path.data, zero ? (size_t)(zero - path.data) : path.len);
		err = place_check_name(name);
		if (err)
			return err;
		path = kv_slice_of(path.data + name.len + (zero != NULL),
				   path.len - name.len - (zero != NULL));
		place_name(model_key_slice(&dir), name, &at);
		err = state_get(txn, &at, out);
		if (!err && inode_is_dir(&out->r)) {
			struct model_key parent = dir;

			place_prefix(&out->r, model_key_slice(&parent), name, &dir);
			if (dir.len > MODEL_PREFIX_MAX)
				err = -KV_E_CORRUPT;
		}
		if (err == -ENOENT && path.len)
			return -ENOENT;
	}
	if (key && (!err || err == -ENOENT))
		*key = at;
	if (prefix && !err)
		*prefix = dir;
	return err;
}

int state_find(struct kv_txn *txn, struct kv_slice path, struct inode_buf *out)
{
	return state_find_place(txn, path, out, NULL, NULL);
}
