/* SPDX-License-Identifier: MIT */
/*
 * What a transaction reads and locks, by its isolation and mode.
 *
 *                      reads                            a write of a key
 *   snapshot           its snapshot, no lock            X lock; conflict if changed since
 *   serializable       S lock, then the newest version  X lock
 *   ... optimistic     its snapshot; remembered if      nothing; at commit X lock, and
 *                      serializable or for update       as validate.c says
 *
 * The snapshot of a read-write transaction is taken at its first read, so keys
 * that were locked before are read at their newest version: that is how short
 * transactions that know their keys avoid conflicts altogether. With locks,
 * serializable has no snapshot: nothing that it has read can change, so the newest
 * version of anything is consistent with all it has seen.
 *
 * Own writes come before all. What the transaction itself put or deleted needs no lock to
 * be read: it has a stronger one, or nothing to validate.
 */
#include <errno.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"

/* ---- reads ------------------------------------------------------------------------ */

int txn_ensure_snapshot(struct kv_txn *txn)
{
	int err;

	if (txn->has_snapshot)
		return 0;
	err = snapshots_acquire(txn->db->snapshots, &txn->snapshot);
	if (!err)
		txn->has_snapshot = true;
	return err;
}

/* What the transaction itself wrote: 0, -KV_E_NOTFOUND (deleted), or 1 (says nothing). */
static int read_own(struct kv_txn *txn, struct kv_slice ikey, struct kv_buf *value)
{
	struct value_ref ref;
	enum entry_kind kind;
	struct kv_slice own;
	struct view_pin pin;
	int err;

	if (!txn->writes || writeset_empty(txn->writes))
		return 1;
	err = writeset_get(txn->writes, ikey, &kind, &own);
	if (err)
		return err == -KV_E_NOTFOUND ? 1 : err;
	if (kind == ENTRY_DELETE)
		return -KV_E_NOTFOUND;
	if (!value)
		return 0;
	if (kind == ENTRY_PUT)
		return buf_assign(value, own);
	err = value_ref_decode(own, &ref);
	if (err)
		return err;
	pin = view_pin(txn->db);
	err = values_get(txn->db->values, pin.view->version, &ref, value);
	(void)view_unpin(txn->db, &pin);
	return err;
}

/* Whatever had to be locked is; with a snapshot, take it. */
static int read_key(struct kv_txn *txn, struct kv_slice ikey, struct kv_buf *value)
{
	bool newest = txn_reads_newest(txn);
	int err = newest ? 0 : txn_ensure_snapshot(txn);

	if (!err)
		err = read_own(txn, ikey, value);
	if (err <= 0)
		return err;
	return newest ? view_read_newest(txn->db, ikey, value)
		      : view_read(txn->db, ikey, txn->snapshot, value);
}

/* ---- locks --------------------------------------------------------------------------- */

static int check_conflict(struct kv_txn *txn, struct kv_slice ikey)
{
	bool changed = false;
	struct view_pin pin;
	int err;

	if (!txn->has_snapshot || txn->snapshot == snapshots_visible(txn->db->snapshots))
		return 0;
	pin = view_pin(txn->db);
	err = view_changed_after(pin.view, ikey, txn->snapshot, &changed);
	(void)view_unpin(txn->db, &pin);
	if (!err && changed) {
		COUNT(txn->db, conflicts, 1);
		err = -KV_E_CONFLICT;
	}
	return err;
}

/* Optimistic: what would have been locked is validated instead. */
static int remember(struct kv_txn *txn, struct kv_slice from, struct kv_slice to)
{
	int err = txn_ensure_snapshot(txn);

	/* What the owner compares is what was written, or all. */
	if (err || txn->unwatched || (txn->rebases && !txn->serializable))
		return err;
	return readset_add(txn->reads, from, to);
}

static int lock_key(struct kv_txn *txn, struct kv_slice ikey, enum lock_mode mode)
{
	bool had = false;
	int err;

	if (txn->readonly)
		return -KV_E_READONLY;
	err = lock_acquire(txn->locks, ikey, mode, txn->lock_timeout_ms, &had);
	return err || had ? err : check_conflict(txn, ikey);
}

int txn_lock_write(struct kv_txn *txn, struct kv_slice ikey)
{
	if (txn->readonly)
		return -KV_E_READONLY;
	return txn->optimistic ? 0 : lock_key(txn, ikey, LOCK_EXCLUSIVE);
}

/* Does the transaction's own write say all there is to say of the key? */
static bool is_own(const struct kv_txn *txn, struct kv_slice ikey)
{
	enum entry_kind kind;
	struct kv_slice value;

	return txn->writes && !writeset_empty(txn->writes) &&
	       !writeset_get(txn->writes, ikey, &kind, &value);
}

int txn_lock_read(struct kv_txn *txn, struct kv_slice ikey)
{
	if (!txn->serializable || is_own(txn, ikey))
		return 0;
	return txn->optimistic ? remember(txn, ikey, kv_slice_of(NULL, 0))
			       : lock_key(txn, ikey, LOCK_SHARED);
}

int txn_begin_scan(struct kv_txn *txn, struct kv_slice from, struct kv_slice to, kv_seq *seq)
{
	int err = 0;

	if (txn_reads_newest(txn)) {
		if (slice_compare(from, to) < 0)
			err = lock_acquire_range(txn->locks, from, to, LOCK_SHARED,
						 txn->lock_timeout_ms);
		return err ? err : snapshots_acquire(txn->db->snapshots, seq);
	}
	err = txn_ensure_snapshot(txn);
	if (!err && txn->serializable && !txn->unwatched && slice_compare(from, to) < 0)
		err = readset_add(txn->reads, from, to);
	if (!err)
		*seq = txn->snapshot;
	return err;
}

/* ---- operations ------------------------------------------------------------------------ */

int kv_txn_get(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct kv_buf *value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = txn_lock_read(txn, ikey);
	return err ? err : read_key(txn, ikey, value);
}

static int txn_lock(struct kv_txn *txn, struct kv_slice ikey, enum lock_mode mode)
{
	if (txn->readonly)
		return -KV_E_READONLY;
	return txn->optimistic ? remember(txn, ikey, kv_slice_of(NULL, 0))
			       : lock_key(txn, ikey, mode);
}

int kv_txn_lock(struct kv_txn *txn, unsigned keyspace, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : txn_lock(txn, ikey, LOCK_EXCLUSIVE);
}

static int lock_and_get(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			enum lock_mode mode, struct kv_buf *value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = txn_lock(txn, ikey, mode);
	return err ? err : read_key(txn, ikey, value);
}

int kv_txn_get_for_update(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			  struct kv_buf *value)
{
	return lock_and_get(txn, keyspace, key, LOCK_EXCLUSIVE, value);
}

int kv_txn_get_for_share(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			 struct kv_buf *value)
{
	return lock_and_get(txn, keyspace, key, LOCK_SHARED, value);
}

int kv_txn_put(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct kv_slice value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = txn_lock_write(txn, ikey);
	return err ? err : txn_write_put(txn->db, txn->writes, ikey, value);
}

int kv_txn_delete(struct kv_txn *txn, unsigned keyspace, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = txn_lock_write(txn, ikey);
	return err ? err : writeset_put(txn->writes, ikey, ENTRY_DELETE, kv_slice_of(NULL, 0));
}

int kv_txn_delete_range(struct kv_txn *txn, unsigned keyspace, struct kv_slice from,
			struct kv_slice to)
{
	struct txn_range r;
	int err;

	if (txn->readonly)
		return -KV_E_READONLY;
	err = txn_range(&r, keyspace, from, to);
	if (err || slice_equal(r.from, r.to))
		return err;
	if (!txn->optimistic)
		err = lock_acquire_range(txn->locks, r.from, r.to, LOCK_EXCLUSIVE,
					 txn->lock_timeout_ms);
	return err ? err : writeset_delete_range(txn->writes, r.from, r.to);
}

int kv_txn_savepoint(struct kv_txn *txn, unsigned *out)
{
	return txn->readonly ? -KV_E_READONLY : writeset_savepoint(txn->writes, out);
}

int kv_txn_rollback_to(struct kv_txn *txn, unsigned savepoint)
{
	return txn->readonly ? -KV_E_READONLY : writeset_rollback_to(txn->writes, savepoint);
}

int kv_txn_release(struct kv_txn *txn, unsigned savepoint)
{
	return txn->readonly ? -KV_E_INVALID : writeset_release(txn->writes, savepoint);
}
