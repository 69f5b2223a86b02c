/* SPDX-License-Identifier: MIT */
/*
 * One call of libkvfs is one transaction: begun, run, committed, and done again
 * when it lost a race. Thread safety: any thread that holds no lock of the
 * model.
 */
#ifndef KVFS_RETRY_H
#define KVFS_RETRY_H

#include "fusefs/model/model.h"

/* What to do in a transaction. */
struct retry_op {
	/* May be called again after a lost race, so it changes nothing but @txn and @arg. It locks
	 * what it will change before it reads, and then sees the newest state. */
	int (*run)(struct kvfs *fs, struct kv_txn *txn, void *arg);
	/* After the commit, with fs->ns still held; brings nodes in line. May be NULL. */
	void (*done)(struct kvfs *fs, void *arg);
	/* Before another run, with no lock held: drops what the last one found. May be NULL. */
	void (*again)(struct kvfs *fs, void *arg);
	void *arg;
	bool exclusive; /* changes where existing files live */
	bool sync;	/* durable on return */
	bool once;	/* a lost race is for the caller */
	bool optional;	/* fails at once on a full volume */
	bool frees;	/* gives back more than it takes: allowed on a full volume */
};

int retry_write(struct kvfs *fs, const struct retry_op *op) KV_MUST_CHECK;
/* A read-only transaction, with fs->ns held for reading. */
int retry_read(struct kvfs *fs, int (*run)(struct kvfs *fs, struct kv_txn *txn, void *arg),
	       void *arg) KV_MUST_CHECK;
/*
 * The same for what concerns one node and may take long: fs->ns is held only until the snapshot is
 * taken and @key, where the node's record is in it, is known.
 */
int retry_read_node(struct kvfs *fs, const struct kvfs_node *node,
		    int (*run)(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
			       void *arg),
		    void *arg) KV_MUST_CHECK;
/* A transaction that reads the newest state, or the view's; of a draft, its transaction, which
 * nobody else can use before retry_end_read(). */
int retry_begin_read(struct kvfs *fs, struct kv_txn **out) KV_MUST_CHECK;
void retry_end_read(struct kvfs *fs, struct kv_txn *txn);

#endif
