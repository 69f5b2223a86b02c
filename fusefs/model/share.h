/* SPDX-License-Identifier: MIT */
/*
 * Contents in chunks that several records have. Their number is in MODEL_SHARED, and nobody changes
 * them: who wants to gets others first. What is under a record's content id is, without the mark
 * MODEL_CONTENT_SHARED, its alone; with it, others may be there or have gone, which the number
 * tells. Thread safety: that of the transaction.
 */
#ifndef KVFS_SHARE_H
#define KVFS_SHARE_H

#include "fusefs/model/inode.h"

/*
 * One record more will have the contents of @r, which is marked and is to be stored. The other
 * one gets the same content id and mark. -KV_E_CORRUPT.
 */
int share_add(struct kv_txn *txn, struct inode *r) KV_MUST_CHECK;
/*
 * The record of @r gives its contents up. @last: nobody else has them, so the chunks are the
 * caller's to delete or to keep. -KV_E_CORRUPT.
 */
int share_drop(struct kv_txn *txn, const struct inode *r, bool *last) KV_MUST_CHECK;
/*
 * Before a change of chunks: the contents of @r become its alone. If others have them, too, the
 * chunks that hold the first @keep bytes are copied under a new content id; the size stays.
 * The record is to be stored.
 */
int share_own(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t keep) KV_MUST_CHECK;
/* Put the first @span chunks of a content, as @from has them, under another id that has none.
 * @count: how many there are. */
int share_copy(struct kv_txn *from, uint64_t from_id, struct kv_txn *to, uint64_t to_id,
	       uint64_t span, uint64_t *count) KV_MUST_CHECK;

#endif
