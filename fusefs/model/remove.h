/* SPDX-License-Identifier: MIT */
/* Taking files away: their names, and what belongs to them. */
#ifndef KVFS_REMOVE_H
#define KVFS_REMOVE_H

#include "fusefs/model/inode.h"

/* Contents and large attributes of a file; the lock of its record is held. */
int remove_contents(struct kv_txn *txn, const struct inode *r) KV_MUST_CHECK;

/*
 * A name goes away: of a full record the file with it, of a link one of its names. fs->ns is held
 * for writing. The caller deletes or replaces the key itself.
 */
struct remove_name {
	struct kvfs_node *node;	 /* of the file, if somebody looks at it */
	struct inode_buf linked; /* the file's record, if the name is a link */
	bool keep;		 /* in: the node may keep the record, see remove_name_done() */
	bool last;		 /* out: the file has no name now */
	uint8_t *orphan;	 /* out: the node's, once committed */
	uint16_t orphan_len;
	uint32_t seq; /* of times_apply() */
	bool stored;
};
/* @r: the record at the name. A directory must have been found empty. */
int remove_name(struct kvfs *fs, struct kv_txn *txn, const struct inode *r, uint64_t now,
		struct remove_name *n) KV_MUST_CHECK;
/* After the commit, fs->ns still held; needed if @keep. */
void remove_name_done(struct kvfs *fs, struct remove_name *n);
/* No lock is held. */
void remove_name_free(struct kvfs *fs, struct remove_name *n);

/*
 * What a node keeps of a file that has no name any more and of which nothing is stored: for reading
 * where MODEL_ORPHANS has no record. Return: 0, -KV_E_NOTFOUND, -ENOMEM.
 */
int remove_get_orphan(struct kvfs *fs, uint64_t id, struct kv_buf *value) KV_MUST_CHECK;
/* Nobody looks at it any more. */
void remove_orphan_node(struct kvfs *fs, struct kvfs_node *node);
/* The same, of a file that may be stored. What fails is reported and left for the next open. */
void remove_orphan(struct kvfs *fs, uint64_t id);
/* Sweep MODEL_ORPHANS. */
int remove_all_orphans(struct kvfs *fs) KV_MUST_CHECK;

#endif
