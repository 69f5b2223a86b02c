/* SPDX-License-Identifier: MIT */
/*
 * A transaction's inside, shared by txn.c, batch.c and db_iter.c.
 */
#ifndef KVCORE_ENGINE_TXN_H
#define KVCORE_ENGINE_TXN_H

#include "kvcore/engine/db.h"
#include "kvcore/engine/writeset.h"

struct kv_txn {
	struct kv_db *db;
	bool readonly;
	bool has_snapshot; /* @snapshot is registered */
	kv_seq snapshot;
	unsigned lock_timeout_ms;
	struct writeset *writes;  /* NULL if readonly */
	struct lock_owner *locks; /* NULL if readonly */
	unsigned iterators;	  /* open ones */
};

struct kv_snapshot {
	struct kv_db *db;
	kv_seq seq;
};

/* Take the snapshot if there is none yet. */
int txn_ensure_snapshot(struct kv_txn *txn) KV_MUST_CHECK;
/* The ikey of a user's key; -KV_E_INVALID outside the limits. @buf has room for IKEY_MAX. */
int txn_ikey(uint8_t *buf, unsigned keyspace, struct kv_slice key, struct kv_slice *out)
	KV_MUST_CHECK;
/* Add a put, large values going to their segment first. */
int txn_write_put(struct kv_db *db, struct writeset *w, struct kv_slice ikey, struct kv_slice value)
	KV_MUST_CHECK;
/* Range of ikeys; empty bounds become the keyspace's ends. Return: 0, -KV_E_INVALID. */
int txn_write_delete_range(struct writeset *w, unsigned keyspace, struct kv_slice from,
			   struct kv_slice to) KV_MUST_CHECK;
int txn_writeset_new(struct kv_db *db, struct writeset **out) KV_MUST_CHECK;
/* Commit a writeset and, if asked for, wait for its sync. @locks (may be NULL) are released as
 * soon as the commit is visible. */
int txn_write_commit(struct kv_db *db, struct writeset *w, unsigned flags, struct lock_owner *locks,
		     kv_seq *seq) KV_MUST_CHECK;

/* Iterate over the engine's own keyspace. */
int db_iter_open_system(struct kv_txn *txn, struct kv_iter **out) KV_MUST_CHECK;

#endif
