/* SPDX-License-Identifier: MIT */
/* Making and opening what kvfs.h calls a volume: what kvfs_check() shares with it. */
#ifndef KVFS_OPEN_H
#define KVFS_OPEN_H

#include "fusefs/model/inode.h"

/* Whether the volume is of this format and has a root directory: 0, -KV_E_NOT_A_VOLUME,
 * -KV_E_VERSION, -KV_E_CORRUPT. */
int open_check_format(struct kv_db *db) KV_MUST_CHECK;
/* Whether the root's record is whole; sets fs->displaced. -KV_E_NOT_A_VOLUME, -KV_E_CORRUPT. */
int open_look(struct kvfs *fs) KV_MUST_CHECK;
/* A handle of another tree of @fs, to be given what it reads; @live: of a transaction. */
int open_view(struct kvfs *fs, struct kvfs *live, struct kvfs **out) KV_MUST_CHECK;
/* The transaction writes what readers of older formats do not know. */
int open_need_format(struct kv_txn *txn, uint32_t version) KV_MUST_CHECK;
/* The record of a new root directory. */
void open_root_record(const struct kvfs_owner *owner, struct inode *out);

#endif
