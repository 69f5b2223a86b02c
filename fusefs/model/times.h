/* SPDX-License-Identifier: MIT */
/*
 * Times that are kept in the node for a while, because nothing else of the
 * record changed (KVFS_LAZYTIME). Thread safety: any thread.
 */
#ifndef KVFS_TIMES_H
#define KVFS_TIMES_H

#include "fusefs/model/node.h"

/* Keep the times selected by @which (NODE_PENDING_*), all set to @now (as encoded). */
void times_defer(struct kvfs *fs, struct kvfs_node *node, unsigned which, uint64_t now);
/* The same for a write of contents, which a transaction of the key API must notice. */
void times_defer_write(struct kvfs *fs, struct kvfs_node *node, uint64_t now);
/* Put pending times into a record. Returns a number for times_settled(). */
uint32_t times_apply(struct kvfs *fs, struct kvfs_node *node, struct inode *r);
/* The record with the times of times_apply() was committed. */
void times_settled(struct kvfs *fs, struct kvfs_node *node, uint32_t seq);
/* Whether a write was deferred after @seq of fs->write_seq. */
bool times_written_since(struct kvfs *fs, struct kvfs_node *node, uint64_t seq);
/* Write pending times. fs->ns is not held. */
int times_flush(struct kvfs *fs, struct kvfs_node *node) KV_MUST_CHECK;
/* The same when the node is forgotten: what cannot be written is reported and dropped. */
void times_flush_last(struct kvfs *fs, struct kvfs_node *node);

/*
 * Something was read: update the access time as the mount option says. Failure is harmless.
 * fs->ns is not held.
 */
void times_accessed(struct kvfs *fs, struct kvfs_node *node, const struct inode *r);

#endif
