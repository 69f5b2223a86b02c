/* SPDX-License-Identifier: MIT */
/*
 * Keys as paths: finding where one lives, and reading and changing it in a
 * transaction. Shared by the single operations and kvfs_txn. Thread safety: one
 * thread per structure.
 */
#ifndef KVFS_KEY_H
#define KVFS_KEY_H

#include "fusefs/model/place.h"

#define KEY_VALUE_MAX KV_VALUE_MAX /* bytes of a value */

/* Where a key is. */
struct key_place {
	struct kv_slice name;	 /* last component, borrowed from the key */
	struct model_key prefix; /* of the deepest directory that is there */
	struct model_key dir;	 /* key of that directory's record */
	struct kv_slice missing; /* components below it that are not there, without the last */
};

/* Nodes that a transaction concerns, to be brought in line after its commit. */
struct key_nodes {
	struct kv_buf list;	  /* struct key_node */
	struct model_key touched; /* record of the directory whose times were set last */
};

/* One change of several. */
struct key_op {
	struct kvfs *fs;
	struct kv_txn *txn;
	struct kv_txn *reader; /* to find directories: @txn, or NULL for the newest state */
	const struct kvfs_owner *owner;
	uint64_t now; /* as encoded */
	struct key_nodes *nodes;
};

/* 0, -EINVAL, -ENAMETOOLONG. */
int key_check(struct kv_slice key) KV_MUST_CHECK;
/* -ENOTDIR, -ELOOP. fs->ns is held, or @txn is a snapshot. */
int key_find(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct key_place *out)
	KV_MUST_CHECK;
/* The record of a regular file. -KV_E_NOTFOUND, -EISDIR, -EINVAL, or as key_find(). */
int key_lookup(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct inode_buf *out)
	KV_MUST_CHECK;
int key_read(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct kv_buf *value)
	KV_MUST_CHECK;
int key_put(const struct key_op *op, struct kv_slice key, struct kv_slice value) KV_MUST_CHECK;
/* fs->ns is held for writing. */
int key_delete(const struct key_op *op, struct kv_slice key) KV_MUST_CHECK;

/* After the commit, fs->ns still held. */
void key_nodes_settle(struct kvfs *fs, struct key_nodes *n);
/* No lock is held. */
void key_nodes_free(struct kvfs *fs, struct key_nodes *n);

#endif
