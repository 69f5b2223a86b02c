/* SPDX-License-Identifier: MIT */
/*
 * What stands in no index of the volume, for one state of it: where displaced directories
 * are, and which names files have. It is filled by a scan of all names when it is first
 * needed, and then follows the changes, so a feed scans at most once. Thread safety: one
 * thread per structure.
 */
#ifndef KVFS_WATCH_INDEX_H
#define KVFS_WATCH_INDEX_H

#include "fusefs/model/inode.h"
#include "kvcore/base/btree.h"

struct watch_index {
	struct btree dirs; /* prefix of a displaced directory -> its key of MODEL_NAMES */
	/* be64 id, key of MODEL_NAMES: of linked files, and, by contents, of tracked ones */
	struct btree names;
	struct btree tracked; /* be64 id: contents of files with one name that were asked for */
	bool complete;	      /* all displaced directories and linked files are there */
};

/* In a state without any it is complete at once. */
int watch_index_init(struct watch_index *x, struct kv_txn *txn) KV_MUST_CHECK;
void watch_index_fini(struct watch_index *x);
/* @r: the record, or link, that stands at a key of MODEL_NAMES, or stood there. */
int watch_index_add(struct watch_index *x, struct kv_slice key, const struct inode *r)
	KV_MUST_CHECK;
void watch_index_remove(struct watch_index *x, struct kv_slice key, const struct inode *r);
/* Replace @out by the path of a key; @txn is the state of the index. -KV_E_CORRUPT. */
int watch_index_path(struct watch_index *x, struct kv_txn *txn, struct kv_slice key,
		     struct kv_buf *out) KV_MUST_CHECK;
/* Append the names of a file to @out, as struct model_key. @id: of the file if it is @linked (its
 * record is in MODEL_INODES), else of its contents. */
int watch_index_names(struct watch_index *x, struct kv_txn *txn, uint64_t id, bool linked,
		      struct kv_buf *out) KV_MUST_CHECK;

#endif
