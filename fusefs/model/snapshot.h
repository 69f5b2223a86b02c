/* SPDX-License-Identifier: MIT */
/* What a snapshot says of itself. Thread safety: that of the transaction. */
#ifndef KVFS_SNAPSHOT_H
#define KVFS_SNAPSHOT_H

#include "fusefs/model/model.h"

/* The path of the directory that snapshot @name, which @txn reads, is of, byte 0 for '/'; empty:
 * all of the volume. */
int snapshot_top(struct kv_txn *txn, const char *name, struct kv_buf *out) KV_MUST_CHECK;
/* kvfs_snapshot_create() without the times that wait in nodes; fs->ns may be held. */
int snapshot_create_now(struct kvfs *fs, const char *name) KV_MUST_CHECK;

#endif
