/* SPDX-License-Identifier: MIT */
/* Finding what a name refers to. fs->ns is held. */
#ifndef KVFS_LOOKUP_H
#define KVFS_LOOKUP_H

#include "fusefs/model/node.h"

/*
 * Read the record of @name below @prefix; if the name is a link, that of the
 * file. @txn NULL: the newest state. *state tells where the record lives.
 * Return: 0, -ENOENT, -KV_E_CORRUPT.
 */
int lookup_record(struct kvfs *fs, struct kv_txn *txn, struct kv_slice prefix, struct kv_slice name,
		  struct inode_buf *out, enum node_state *state) KV_MUST_CHECK;
/* The record that @b's link refers to replaces it; nothing happens to a full record. */
int lookup_follow(struct kvfs *fs, struct kv_txn *txn, struct inode_buf *b, enum node_state *state)
	KV_MUST_CHECK;
/* The record of the file @id at @key. Return: 0, -KV_E_CORRUPT (it is not there). */
int lookup_at(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, uint64_t id,
	      struct inode_buf *out) KV_MUST_CHECK;
/* The record of a node, without its pending times. */
int lookup_node(struct kvfs *fs, struct kv_txn *txn, const struct kvfs_node *node,
		struct inode_buf *out) KV_MUST_CHECK;

#endif
