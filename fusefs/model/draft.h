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
/* A transaction begins; the live tree's ns is held for writing, and fs->txn_mu if others know it.
 */
int draft_take(struct kvfs *draft, unsigned flags) KV_MUST_CHECK;

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

/*
 * draft_apply.c: a change of many files, by records, that shows in the live tree at one instant.
 * It is made in a draft while others go on, and made again if they came in between; the last time
 * they wait. Thread safety: none of the calls is under way twice.
 */
struct draft_change {
	/* Write it through draft->txn. @then: what the draft began with, read-only. Called again
	 * after a conflict, with another draft; the tree's ns may be held. */
	int (*run)(void *ctx, struct kvfs *draft, struct kv_txn *then) KV_MUST_CHECK;
	/* Nobody changes anything any more: whether what others did between @then and @now matters.
	 * Return: 0, -KV_E_CONFLICT (make it again), any other error is the outcome. */
	int (*check)(void *ctx, struct kv_txn *then, struct kv_txn *now) KV_MUST_CHECK;
	/* It is committed, and nobody has changed anything since; may be NULL. */
	int (*committed)(void *ctx) KV_MUST_CHECK;
	void *ctx;
};
/*
 * Durable on return. @hooks: stale alone is called; may be NULL
 * Return: 0, what a call of @change returned (of committed: it is done all the same), of
 * kvfs_draft_begin() and kvfs_draft_commit().
 */
int draft_apply(struct kvfs *fs, const struct draft_change *change,
		const struct kvfs_draft_hooks *hooks) KV_MUST_CHECK;
/* Write it through a draft that has begun; draft->txn_mu is held. */
int draft_write(struct kvfs *draft, const struct draft_change *change) KV_MUST_CHECK;
/* As kvfs_draft_commit(). @alone: the draft begins again, and the change is made, while nobody else
 * can change anything. */
int draft_commit_change(struct kvfs *draft, const struct draft_change *change, bool alone,
			const struct kvfs_draft_hooks *hooks) KV_MUST_CHECK;

struct draft_commit {
	struct kvfs *draft, *live;
	const struct draft_change *change; /* NULL: files were changed by calls */
	struct draft_paths paths;
	struct kv_txn *now;	 /* the present */
	struct kv_buf conflicts; /* struct draft_key, each followed by its key */
	size_t conflict_count;
	struct kv_buf
		merged; /* records of directories: struct draft_key, key, be32 length, record */
	struct kv_buf nodes; /* struct draft_node */
	struct kv_buf fresh; /* struct kvfs_node *: parents that get a node after the commit */
	struct kv_buf last;  /* struct kvfs_node *: references to be given back without a lock */
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

/* draft_nodes.c: give back a reference while the live tree's ns is held. @node may be NULL. */
void draft_let_go(struct draft_commit *c, struct kvfs_node *node);
/* Look at all that was written. Return: 0, 1 (conflict), errors. */
int draft_survey(struct draft_commit *c) KV_MUST_CHECK;
/* After the commit, the live tree's ns still held for writing. */
void draft_nodes_settle(struct draft_commit *c);
/* No lock is held. */
void draft_nodes_free(struct draft_commit *c);

#endif
