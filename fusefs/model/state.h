/* SPDX-License-Identifier: MIT */
/*
 * One state of a volume, a snapshot or now, to be read without nodes: paths are resolved through
 * the records. Thread safety: one thread per structure.
 */
#ifndef KVFS_STATE_H
#define KVFS_STATE_H

#include "fusefs/model/inode.h"

struct state {
	struct kv_snapshot *snapshot;
	struct kv_txn *txn; /* read-only */
};

/*
 * @name: of a snapshot; NULL: now, with all times that wait in nodes
 * Return: 0, -KV_E_NOTFOUND, -KV_E_NOT_A_VOLUME (there was no root directory then),
 * -EOPNOTSUPP (a snapshot of a subtree).
 */
int state_open(struct kvfs *fs, const char *name, struct state *out) KV_MUST_CHECK;
/* The times that wait in nodes, so that the newest state has them. */
int state_flush_times(struct kvfs *fs) KV_MUST_CHECK;
void state_close(struct state *s); /* zero-initialised is allowed */

/*
 * The record at a path, whose separator is byte 0 (empty: the root directory's); of a link that
 * of the file.
 * Return: 0, -ENOENT, -ENOTDIR (a component is none).
 */
int state_find(struct kv_txn *txn, struct kv_slice path, struct inode_buf *out) KV_MUST_CHECK;
/*
 * The same, and where: @key of the name (the root's of MODEL_META), @prefix of a directory (both
 * may be NULL). If the last component is not there, -ENOENT, with @key set.
 */
int state_find_place(struct kv_txn *txn, struct kv_slice path, struct inode_buf *out,
		     struct model_key *key, struct model_key *prefix) KV_MUST_CHECK;

#endif
