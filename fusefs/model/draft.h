/* SPDX-License-Identifier: MIT */
/*
 * A transaction as a tree: a struct kvfs whose every read and write goes through one engine
 * transaction that lives as long as the tree. What its files share.
 *
 * Locks. A draft has a namespace lock of its own, of a lower rank than that of the live tree, and a
 * mutex for the engine transaction, which one thread at a time may use. A commit holds
 * both namespace locks for writing, so nothing that the transaction is compared with can change.
 */
#ifndef KVFS_DRAFT_H
#define KVFS_DRAFT_H

#include "fusefs/model/inode.h"
#include "fusefs/model/retry.h"

/* One call on a draft, undone if it fails; fs->ns is held. Return: that of op->run; -ESTALE
 * (ended). */
int draft_run(struct kvfs *fs, const struct retry_op *op) KV_MUST_CHECK;
/* Between these the thread has the transaction. -ESTALE. */
int draft_begin_read(struct kvfs *fs, struct kv_txn **out) KV_MUST_CHECK;
void draft_end_read(struct kvfs *fs);
bool draft_ended(struct kvfs *fs);
/* The transaction is over, whatever became of it; fs->txn_mu is held. */
void draft_end(struct kvfs *fs);

/* Where the keys of a draft's transaction are, for who is told of them. draft->ns is held. */
struct draft_paths {
	struct kvfs *draft;
	struct kv_txn *txn;  /* the transaction */
	struct kv_txn *then; /* what it began with */
};
/* Append the path of the record or part of a file at a key, beginning with '/'; of what cannot be
 * found "file id N". */
int draft_path(const struct draft_paths *p, unsigned keyspace, struct kv_slice key,
	       struct kv_buf *out) KV_MUST_CHECK;
/* The same with byte 0 before each component, of a file by its id. -KV_E_NOTFOUND. */
int draft_path_by_id(const struct draft_paths *p, uint64_t id, struct kv_buf *out) KV_MUST_CHECK;
/* The id of the directory with that prefix: 0 if there is none. */
int draft_dir_id(const struct draft_paths *p, struct kv_slice prefix, uint64_t *id) KV_MUST_CHECK;
/* A record of one of the two. -KV_E_NOTFOUND. */
int draft_record(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct inode_buf *out)
	KV_MUST_CHECK;

/* ---- a commit at work ---- */

struct draft_node; /* what becomes of a node of the live tree */

struct draft_commit {
	struct kvfs *draft, *live;
	struct draft_paths paths;
	struct kv_txn *now;	 /* the present */
	struct kv_buf conflicts; /* struct draft_key, each followed by its key */
	size_t conflict_count;
	struct kv_buf
		merged; /* records of directories: struct draft_key, key, be32 length, record */
	struct kv_buf nodes; /* struct draft_node */
	struct kv_buf fresh; /* struct kvfs_node *: parents that get a node after the commit */
	bool settled;	     /* it is over */
	struct kv_buf stale; /* be64 file id, a length byte, name: what others' caches hold */
	struct kv_buf sweep; /* uint64_t: files without a name that nobody looks at */
	struct kv_buf last_prefix; /* of the last name that was looked at, */
	uint64_t last_dir;	   /* whose directory has this id, or 0 if nobody knows it */
};
struct draft_key {
	uint16_t keyspace, len;
};

/* draft_compare.c: for kv_txn_rebase(). */
int draft_compare(void *ctx, enum kv_rebase_kind kind, unsigned keyspace, struct kv_slice key)
	KV_MUST_CHECK;
/* Remember a conflict. Return: 1, -ENOMEM. */
int draft_conflict(struct draft_commit *c, unsigned keyspace, struct kv_slice key) KV_MUST_CHECK;
/* The three states of a directory become one, if they can: 0, 1 (conflict), errors. */
int draft_merge_dir(struct draft_commit *c, unsigned keyspace, struct kv_slice key,
		    const struct inode *then, const struct inode *now, const struct inode *mine)
	KV_MUST_CHECK;

/* draft_nodes.c: look at all that was written. Return: 0, 1 (conflict), errors. */
int draft_survey(struct draft_commit *c) KV_MUST_CHECK;
/* After the commit, the live tree's ns still held for writing. */
void draft_nodes_settle(struct draft_commit *c);
/* No lock is held. */
void draft_nodes_free(struct draft_commit *c);

#endif
