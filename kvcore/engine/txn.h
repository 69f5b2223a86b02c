/* SPDX-License-Identifier: MIT */
/*
 * A transaction's inside, shared by txn*.c, batch.c, validate.c, rebase.c, prepared.c and
 * db_iter.c.
 */
#ifndef KVCORE_ENGINE_TXN_H
#define KVCORE_ENGINE_TXN_H

#include "kvcore/engine/db.h"
#include "kvcore/engine/readset.h"
#include "kvcore/engine/writeset.h"
#include "kvcore/kv_parts.h"

struct kv_txn {
	struct kv_db *db;
	bool readonly;
	bool serializable;
	bool optimistic;   /* takes its locks at commit */
	bool has_snapshot; /* @snapshot is registered; never of a serializable one with locks */
	bool rebases;	   /* optimistic, and validated by kv_txn_rebase() alone */
	bool rebased;	   /* it was */
	bool unwatched;	   /* what it reads now is not its own business */
	kv_seq snapshot;
	unsigned lock_timeout_ms;
	struct writeset *writes;  /* NULL if readonly */
	struct lock_owner *locks; /* NULL if readonly */
	struct readset *reads;	  /* what is to be validated; NULL unless optimistic */
	unsigned iterators;	  /* open ones, and values in the making */
};

struct kv_snapshot {
	struct kv_db *db;
	kv_seq seq;
};

/* Take the snapshot if there is none yet. */
int txn_ensure_snapshot(struct kv_txn *txn) KV_MUST_CHECK;
/*
 * Before a read of a key's committed state, and before a write: the lock, or the mark for
 * validation, that the transaction's mode asks for.
 */
int txn_lock_read(struct kv_txn *txn, struct kv_slice ikey) KV_MUST_CHECK;
int txn_lock_write(struct kv_txn *txn, struct kv_slice ikey) KV_MUST_CHECK;
/* Does it read the newest state, under its locks, instead of a snapshot? */
static inline bool txn_reads_newest(const struct kv_txn *txn)
{
	return txn->serializable && !txn->optimistic;
}
/* Add a large value that was written; its reference belongs to the set, also on failure. */
int txn_write_ref(struct kv_db *db, struct writeset *w, struct kv_slice ikey,
		  const struct value_ref *ref) KV_MUST_CHECK;
/* The bytes of @part that @value has. */
int txn_copy_part(struct kv_slice value, const struct kv_part *part, struct kv_buf *out)
	KV_MUST_CHECK;
/*
 * A scan of [from, to) is about to begin: lock the range or remember it, as the
 * transaction's mode asks for. @seq: receives what the scan reads as of; if the
 * transaction has no snapshot of its own, to be given to snapshots_release() after it.
 */
int txn_begin_scan(struct kv_txn *txn, struct kv_slice from, struct kv_slice to, kv_seq *seq)
	KV_MUST_CHECK;
/* The ikey of a user's key; -KV_E_INVALID outside the limits. @buf has room for IKEY_MAX. */
int txn_ikey(uint8_t *buf, unsigned keyspace, struct kv_slice key, struct kv_slice *out)
	KV_MUST_CHECK;
struct txn_range {
	struct kv_slice from, to; /* ikeys, in the buffers */
	uint8_t from_buf[IKEY_MAX], to_buf[IKEY_MAX];
};
/* The ikeys of a range; empty bounds become the keyspace's ends. -KV_E_INVALID: from > to. */
int txn_range(struct txn_range *r, unsigned keyspace, struct kv_slice from, struct kv_slice to)
	KV_MUST_CHECK;
/* Add a put, large values going to their segment first. */
int txn_write_put(struct kv_db *db, struct writeset *w, struct kv_slice ikey, struct kv_slice value)
	KV_MUST_CHECK;
int txn_writeset_new(struct kv_db *db, struct writeset **out) KV_MUST_CHECK;
/* Commit a writeset and, if asked for, wait for its sync. @locks (may be NULL) are released as
 * soon as the commit is visible. */
int txn_write_commit(struct kv_db *db, struct writeset *w, unsigned flags, struct lock_owner *locks,
		     kv_seq *seq) KV_MUST_CHECK;

/* The same for one operation that is no range delete, with no writeset made for it. */
int txn_write_op(struct kv_db *db, const struct record_op *op, unsigned flags,
		 struct lock_owner *locks) KV_MUST_CHECK;

/* Release a transaction that was neither committed nor counted as aborted. */
void txn_free(struct kv_txn *txn);

/*
 * validate.c: an optimistic transaction's last step. Locks what it writes and read, in
 * order, and checks that none of it was changed after its snapshot. On success nobody
 * else can commit a change of it until the locks are released.
 * Return: 0, -KV_E_CONFLICT, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT, -ENOMEM, ...
 */
int validate_txn(struct kv_txn *txn) KV_MUST_CHECK;
/* Whether somebody changed the key, or [from, to) if @to is not empty, after @floor. */
int validate_changed(struct view *v, struct kv_slice from, struct kv_slice to, kv_seq floor,
		     bool *changed) KV_MUST_CHECK;

/* db_iter_limits.c: the ikeys that bound a range; NULL: the whole keyspace. -KV_E_INVALID. */
int db_iter_bounds(unsigned keyspace, const struct kv_range *range, struct kv_buf *lower,
		   struct kv_buf *upper) KV_MUST_CHECK;
/* The same as slices of the caller's memory. -KV_E_INVALID outside the limits. */
struct db_iter_limits {
	struct kv_slice lower, upper; /* in the buffers */
	uint8_t lower_buf[IKEY_MAX], upper_buf[IKEY_MAX];
};
int db_iter_limits(struct db_iter_limits *b, unsigned keyspace, const struct kv_range *range)
	KV_MUST_CHECK;
/* Iterate over the engine's own keyspace, over the keys that begin with @tag. */
int db_iter_open_system(struct kv_txn *txn, char tag, struct kv_iter **out) KV_MUST_CHECK;

#endif
