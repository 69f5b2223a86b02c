/* SPDX-License-Identifier: MIT */
/*
 * Batches and single operations. A batch has no snapshot, so it cannot conflict;
 * it still waits for the locks of transactions, first for its range deletes, then
 * for its keys in order, so that it never changes a key under one that has
 * locked it. Batches of keys lock in the same order and so cannot deadlock with each other.
 */
#include "kvcore/engine/txn.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

struct kv_batch {
	struct kv_db *db;
	struct writeset *writes;
	struct lock_owner *locks;
};

int kv_batch_new(struct kv_db *db, struct kv_batch **out)
{
	struct kv_batch *b;
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->db = db;
	atomic_fetch_add(&db->handles, 1);
	err = txn_writeset_new(db, &b->writes);
	if (!err)
		err = lock_owner_new(db->locks, &b->locks);
	if (err) {
		kv_batch_free(b);
		return err;
	}
	*out = b;
	return 0;
}

void kv_batch_free(struct kv_batch *batch)
{
	if (!batch)
		return;
	writeset_free(batch->writes);
	lock_owner_free(batch->locks);
	atomic_fetch_sub(&batch->db->handles, 1);
	free(batch);
}

int kv_batch_put(struct kv_batch *batch, unsigned keyspace, struct kv_slice key,
		 struct kv_slice value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : txn_write_put(batch->db, batch->writes, ikey, value);
}

int kv_batch_delete(struct kv_batch *batch, unsigned keyspace, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : writeset_put(batch->writes, ikey, ENTRY_DELETE, kv_slice_of(NULL, 0));
}

int kv_batch_delete_range(struct kv_batch *batch, unsigned keyspace, struct kv_slice from,
			  struct kv_slice to)
{
	struct txn_range r;
	int err = txn_range(&r, keyspace, from, to);

	if (err || slice_equal(r.from, r.to))
		return err;
	return writeset_delete_range(batch->writes, r.from, r.to);
}

static int lock_op(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	const struct kv_batch *b = ctx;

	if (kind == ENTRY_RANGE_DELETE)
		return lock_acquire_range(b->locks, key, value, LOCK_EXCLUSIVE,
					  b->db->options.lock_timeout_ms);
	return lock_acquire(b->locks, key, LOCK_EXCLUSIVE, b->db->options.lock_timeout_ms, NULL);
}

int kv_batch_write(struct kv_batch *batch, unsigned flags, kv_seq *seq)
{
	int err = writeset_each(batch->writes, lock_op, batch);

	if (!err)
		err = txn_write_commit(batch->db, batch->writes, flags, batch->locks, seq);
	lock_release_all(batch->locks);
	if (!err)
		writeset_clear(batch->writes);
	return err;
}

/* ---- single operations --------------------------------------------------------- */

int kv_get(struct kv_db *db, unsigned keyspace, struct kv_slice key, struct kv_buf *value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : view_read_newest(db, ikey, value);
}

/* One put or delete as a commit: like a batch of it, without making one. */
static int write_op(struct kv_db *db, const struct record_op *op, unsigned flags)
{
	struct lock_owner *locks = NULL;
	int err = lock_owner_new(db->locks, &locks);

	if (!err)
		err = lock_acquire(locks, op->key, LOCK_EXCLUSIVE, db->options.lock_timeout_ms,
				   NULL);
	if (!err)
		err = txn_write_op(db, op, flags, locks);
	lock_owner_free(locks);
	return err;
}

static int put_large(struct kv_db *db, unsigned keyspace, struct kv_slice key,
		     struct kv_slice value, unsigned flags)
{
	struct kv_batch *b = NULL;
	int err = kv_batch_new(db, &b);

	if (!err)
		err = kv_batch_put(b, keyspace, key, value);
	if (!err)
		err = kv_batch_write(b, flags, NULL);
	kv_batch_free(b);
	return err;
}

int kv_put(struct kv_db *db, unsigned keyspace, struct kv_slice key, struct kv_slice value,
	   unsigned flags)
{
	struct record_op op = {.kind = ENTRY_PUT, .value = value};
	uint8_t buf[IKEY_MAX];
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	if (value.len >= db->options.large_value_bytes)
		return put_large(db, keyspace, key, value, flags);
	err = txn_ikey(buf, keyspace, key, &op.key);
	return err ? err : write_op(db, &op, flags);
}

int kv_delete(struct kv_db *db, unsigned keyspace, struct kv_slice key, unsigned flags)
{
	struct record_op op = {.kind = ENTRY_DELETE};
	uint8_t buf[IKEY_MAX];
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	err = txn_ikey(buf, keyspace, key, &op.key);
	return err ? err : write_op(db, &op, flags);
}
