/* SPDX-License-Identifier: MIT */
/*
 * Changing one node's record in a transaction: lock, load with pending times,
 * change, store, settle. Thread safety: one thread per structure.
 */
#ifndef KVFS_EDIT_H
#define KVFS_EDIT_H

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"

/* Zero-initialised but for node (and now); may be loaded again after a lost race. */
struct edit {
	struct kvfs_node *node;
	uint64_t now; /* as encoded */
	struct model_key key;
	struct inode_buf rec;
	uint32_t seq;
	bool stored;
};

/* Lock the record without reading, for a transaction that locks several. fs->ns is held. */
int edit_lock(struct kv_txn *txn, struct edit *e) KV_MUST_CHECK;
/* Lock and read; pending times are in the record. fs->ns is held. */
int edit_load(struct kvfs *fs, struct kv_txn *txn, struct edit *e) KV_MUST_CHECK;
int edit_store(struct kv_txn *txn, struct edit *e) KV_MUST_CHECK;
/* After the commit. */
void edit_done(struct kvfs *fs, struct edit *e);
void edit_free(struct edit *e);

/*
 * A directory whose entries change: its times become @e->now, its link count moves by @nlink.
 * Times alone may be left to edit_dir_done(), which is called instead of edit_done().
 */
int edit_dir(struct kvfs *fs, struct kv_txn *txn, struct edit *e, int nlink) KV_MUST_CHECK;
/* The same for one that was loaded in this transaction. */
int edit_dir_loaded(struct kv_txn *txn, struct edit *e, int nlink) KV_MUST_CHECK;
void edit_dir_done(struct kvfs *fs, struct edit *e);
/* Whether edit_dir() with @nlink will need the lock. */
static inline bool edit_dir_writes(const struct kvfs *fs, int nlink)
{
	return nlink || !fs->lazytime;
}

#endif
