/* SPDX-License-Identifier: MIT */
/* What a new file gets, shared by all ways of making one. */
#ifndef KVFS_CREATE_H
#define KVFS_CREATE_H

#include "fusefs/model/place.h"

/*
 * The prefix of a new directory @r, whose id is set: natural if it can be, else fresh, which is
 * put into @r (borrowing @fresh, MODEL_FRESH_LEN bytes) and into MODEL_PREFIXES.
 */
int create_choose_prefix(struct kvfs *fs, struct kv_txn *txn, struct kv_slice parent,
			 struct kv_slice name, struct inode *r, uint8_t *fresh) KV_MUST_CHECK;
/*
 * Owner, group, mode and access lists of @r, made by @owner in @dir. @xattrs holds what @r borrows
 * of them.
 */
int create_inherit(struct kv_txn *txn, struct inode *r, const struct inode *dir,
		   const struct kvfs_owner *owner, struct kv_buf *xattrs) KV_MUST_CHECK;

/* A file without a name that looks to its maker as if it had one; see kvfs_stage_create(). */
int create_unborn(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
		  const struct kvfs_owner *owner, struct kvfs_node **out, struct kvfs_attr *attr)
	KV_MUST_CHECK;

#endif
