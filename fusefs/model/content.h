/* SPDX-License-Identifier: MIT */
/*
 * A file's contents, in its record or in chunks: what setattr, write and the
 * key API do to them. Works on a record in memory, inside a transaction that
 * holds its lock; the caller stores the record. Contents that others have, too, are
 * copied before a change (share.h).
 */
#ifndef KVFS_CONTENT_H
#define KVFS_CONTENT_H

#include "fusefs/model/inode.h"

/* Owns contents that a changed record borrows. Zero-initialised is empty. */
struct content_edit {
	struct kv_buf buf;
};
void content_edit_free(struct content_edit *c);

/* @off, @len: of a regular file. @out is replaced. */
int content_read(struct kv_txn *txn, const struct inode *r, uint64_t off, size_t len,
		 struct kv_buf *out) KV_MUST_CHECK;
/* -EFBIG. */
int content_write(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t off,
		  struct kv_slice data, struct content_edit *c) KV_MUST_CHECK;
int content_set_size(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t size,
		     struct content_edit *c) KV_MUST_CHECK;
/* The whole contents become @data. */
int content_replace(struct kvfs *fs, struct kv_txn *txn, struct inode *r, struct kv_slice data,
		    struct content_edit *c) KV_MUST_CHECK;
/* Zeros from @from to @to, which may lie beyond the end; the size stays. */
int content_zero(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t from, uint64_t to,
		 struct content_edit *c) KV_MUST_CHECK;
/* None, and none in chunks. */
int content_clear(struct kvfs *fs, struct kv_txn *txn, struct inode *r) KV_MUST_CHECK;

#endif
