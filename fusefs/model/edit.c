/* SPDX-License-Identifier: MIT */
/*
 * One record's read-modify-write. A node's record must be where the node says,
 * since fs->ns is held: its absence is damage, never "no such file". With
 * KVFS_LAZYTIME a directory's times are left in its node when only they
 * change, so that creating files in one directory needs no common lock.
 */
#include "fusefs/model/edit.h"

#include <errno.h>

#include "fusefs/model/times.h"

int edit_lock(struct kv_txn *txn, struct edit *e)
{
	place_node(e->node, &e->key);
	return kv_txn_lock(txn, e->key.keyspace, model_key_slice(&e->key));
}

int edit_load(struct kvfs *fs, struct kv_txn *txn, struct edit *e)
{
	int err;

	place_node(e->node, &e->key);
	e->stored = false;
	err = inode_get(fs, txn, &e->key, true, &e->rec);
	if (err == -KV_E_NOTFOUND)
		return -KV_E_CORRUPT;
	if (err)
		return err;
	if (e->rec.r.kind != MODEL_RECORD_FULL || e->rec.r.id != e->node->ino)
		return -KV_E_CORRUPT;
	e->seq = times_apply(fs, e->node, &e->rec.r);
	return 0;
}

int edit_store(struct kv_txn *txn, struct edit *e)
{
	e->stored = true;
	return inode_put(txn, &e->key, &e->rec.r);
}

void edit_done(struct kvfs *fs, struct edit *e)
{
	if (e->stored)
		times_settled(fs, e->node, e->seq);
}

void edit_free(struct edit *e)
{
	inode_buf_free(&e->rec);
}

int edit_dir(struct kvfs *fs, struct kv_txn *txn, struct edit *e, int nlink)
{
	int err;

	e->stored = false;
	if (!edit_dir_writes(fs, nlink))
		return 0;
	err = edit_load(fs, txn, e);
	return err ? err : edit_dir_loaded(txn, e, nlink);
}

int edit_dir_loaded(struct kv_txn *txn, struct edit *e, int nlink)
{
	if (nlink > 0 && e->rec.r.nlink == UINT32_MAX)
		return -EMLINK;
	if (nlink < 0 && e->rec.r.nlink <= 2)
		return -KV_E_CORRUPT;
	e->rec.r.nlink = (uint32_t)((int64_t)e->rec.r.nlink + nlink);
	e->rec.r.mtime = e->now;
	e->rec.r.ctime = e->now;
	return edit_store(txn, e);
}

void edit_dir_done(struct kvfs *fs, struct edit *e)
{
	if (e->stored)
		edit_done(fs, e);
	else
		times_defer(fs, e->node, NODE_PENDING_MTIME | NODE_PENDING_CTIME, e->now);
}
