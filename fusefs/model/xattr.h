/* SPDX-License-Identifier: MIT */
/* Attributes in a record and beside it. Works in a transaction that holds the record's lock. */
#ifndef KVFS_XATTR_H
#define KVFS_XATTR_H

#include "fusefs/model/inode.h"

/* The value of @name in the record. False if it is not there. */
bool xattr_find(struct kv_slice xattrs, struct kv_slice name, struct kv_slice *value);
/*
 * The value of @name, wherever it is. @out is replaced.
 * Return: 0, -ENODATA, errors.
 */
int xattr_load(struct kv_txn *txn, const struct inode *r, struct kv_slice name, struct kv_buf *out)
	KV_MUST_CHECK;
/* Take @name away from where it is. *found tells whether it was there. @buf as for xattr_add(). */
int xattr_drop(struct kv_txn *txn, struct inode *r, struct kv_slice name, struct kv_buf *buf,
	       bool *found) KV_MUST_CHECK;
/* @xattrs with @name set to @value (NULL: without it) appended to @out, in order of names. */
int xattr_rebuild(struct kv_slice xattrs, struct kv_slice name, const struct kv_slice *value,
		  struct kv_buf *out) KV_MUST_CHECK;
/* Key of a value beside the record; @name has at most KVFS_XATTR_NAME_MAX bytes. */
void xattr_key(uint64_t id, struct kv_slice name, struct model_key *out);
/* Put @value where it fits; @name is not in the record or beside it. @buf holds what @r borrows. */
int xattr_add(struct kv_txn *txn, struct inode *r, struct kv_slice name, struct kv_slice value,
	      struct kv_buf *buf) KV_MUST_CHECK;

#endif
