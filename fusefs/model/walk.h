/* SPDX-License-Identifier: MIT */
/*
 * A walk over all entries of the tree in the order of their paths, in which
 * '/' sorts first: paths are given with byte 0 in its place. Reads
 * sequentially where directories are where they were made. Thread safety: that
 * of the transaction.
 */
#ifndef KVFS_WALK_H
#define KVFS_WALK_H

#include "fusefs/model/inode.h"

struct walk {
	struct kv_slice lower;	/* first path wanted; empty: no bound */
	struct kv_slice upper;	/* first not wanted; empty: no bound */
	struct kv_slice prefix; /* of the wanted paths */
	/* @r: the record or link at the path, borrowed for the call; nonzero stops and is
	 * returned. */
	int (*visit)(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r);
	void *ctx;
	struct model_key *key; /* if not NULL: becomes the key of what is visited */
};

int walk_run(struct kv_txn *txn, const struct walk *w) KV_MUST_CHECK;

#endif
