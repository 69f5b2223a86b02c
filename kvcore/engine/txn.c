/* SPDX-License-Identifier: MIT */
/*
 * Transactions. Writes gather in a writeset; each takes its key's exclusive lock
 * and, once the transaction has a snapshot, checks that nobody committed a newer
 * version of the key since (first updater wins). Reads see the writeset over the
 * snapshot and take no lock.
 *
 * The snapshot of a read-write transaction is taken at its first read, so keys
 * that were locked before are read at their newest version: that is how short
 * transactions that know their keys avoid conflicts altogether.
 *
 * Locks are released as soon as the commit is visible, before its sync: whoever
 * reads it then commits behind it in the log, and the log is durable in order.
 */
#include "kvcore/engine/txn.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

int txn_ikey(uint8_t *buf, unsigned keyspace, struct kv_slice key, struct kv_slice *out)
{
	if (keyspace == KEYSPACE_SYSTEM || keyspace > KV_KEYSPACE_MAX)
		return -KV_E_INVALID;
	if (key.len == 0 || key.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	*out = ikey_make(buf, keyspace, key);
	return 0;
}

static void drop_ref(void *ctx, struct kv_slice encoded)
{
	struct kv_db *db = ctx;
	struct value_ref ref;

	/* Encoded by txn_write_put(): cannot fail to decode. */
	if (value_ref_decode(encoded, &ref) == 0)
		values_settle(db->values, ref.segment_id);
}

int txn_writeset_new(struct kv_db *db, struct writeset **out)
{
	const struct writeset_hooks hooks = {drop_ref, db};

	return writeset_new(&hooks, out);
}

int txn_write_put(struct kv_db *db, struct writeset *w, struct kv_slice ikey, struct kv_slice value)
{
	uint8_t encoded[VALUE_REF_MAX];
	struct value_ref ref;
	int err;

	if (value.len > KV_VALUE_MAX)
		return -KV_E_TOO_BIG;
	if (value.len < db->options.large_value_bytes)
		return writeset_put(w, ikey, ENTRY_PUT, value);
	err = values_put(db->values, value, SPACE_VALUE, &ref);
	if (err == -KV_E_NOSPACE && !reclaim_space(db))
		err = values_put(db->values, value, SPACE_VALUE, &ref);
	if (err)
		return err;
	COUNT(db, value_bytes_written, ref.stored_len);
	atomic_fetch_add_explicit(&db->fresh_value_bytes, ref.stored_len, memory_order_relaxed);
	err = writeset_put(w, ikey, ENTRY_PUT_REF,
			   kv_slice_of(encoded, value_ref_encode(&ref, encoded)));
	if (err)
		values_settle(db->values, ref.segment_id);
	return err;
}

int txn_write_delete_range(struct writeset *w, unsigned keyspace, struct kv_slice from,
			   struct kv_slice to)
{
	uint8_t from_buf[IKEY_MAX];
	uint8_t to_buf[IKEY_MAX];
	struct kv_slice lower;
	struct kv_slice upper;

	if (keyspace == KEYSPACE_SYSTEM || keyspace > KV_KEYSPACE_MAX || from.len > KV_KEY_MAX ||
	    to.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	lower = ikey_make(from_buf, keyspace, from);
	upper = to.len ? ikey_make(to_buf, keyspace, to)
		       : ikey_make(to_buf, keyspace + 1, kv_slice_of(NULL, 0));
	if (slice_compare(lower, upper) > 0)
		return -KV_E_INVALID;
	if (slice_equal(lower, upper))
		return 0;
	return writeset_delete_range(w, lower, upper);
}

static int write_commit(struct kv_db *db, struct writeset *w, unsigned flags,
			struct lock_owner *locks, kv_seq *seq)
{
	kv_seq number = 0;
	uint64_t end = 0;
	int err = 0;

	if (writeset_empty(w)) {
		if (flags & KV_COMMIT_SYNC)
			err = kv_sync(db);
	} else {
		err = commit_submit(db, w, flags, &number, &end);
		if (err == -KV_E_NOSPACE && !(flags & KV_COMMIT_OPTIONAL) && !reclaim_space(db))
			err = commit_submit(db, w, flags, &number, &end);
		if (locks)
			lock_release_all(locks);
		if (!err && (flags & KV_COMMIT_SYNC)) {
			COUNT(db, commits_synced, 1);
			err = commit_sync(db, end) ? -KV_E_UNKNOWN_OUTCOME : 0;
		}
	}
	if (!err && seq)
		*seq = number;
	return err;
}

int txn_write_commit(struct kv_db *db, struct writeset *w, unsigned flags, struct lock_owner *locks,
		     kv_seq *seq)
{
	bool sync = flags & KV_COMMIT_SYNC;
	struct kv_trace_event e = {.kind = KV_TRACE_COMMIT, .reason = sync ? "sync" : NULL};
	uint64_t ns;
	int err;

	if (!sync && !trace_wants(&db->trace, KV_TRACE_COMMIT) &&
	    !os_stats_sampled(&db->stats, OS_STAT_commits, STATS_EVERY_COMMIT))
		return write_commit(db, w, flags, locks, seq);
	trace_begin(&db->trace, &e);
	err = write_commit(db, w, flags, locks, seq);
	ns = trace_end(&db->trace, &e, err);
	os_stats_record(&db->stats, sync ? KV_HISTOGRAM_COMMIT_SYNCED : KV_HISTOGRAM_COMMIT, ns);
	return err;
}

/* ---- begin and end ------------------------------------------------------------- */

static void txn_free(struct kv_txn *txn)
{
	struct kv_db *db = txn->db;

	KV_ASSERT(txn->iterators == 0);
	writeset_free(txn->writes);
	lock_owner_free(txn->locks);
	if (txn->has_snapshot)
		snapshots_release(db->snapshots, txn->snapshot);
	free(txn);
	atomic_fetch_sub(&db->handles, 1);
}

static int begin_readonly(struct kv_txn *txn, const struct kv_snapshot *snapshot)
{
	int err;

	if (!snapshot)
		return txn_ensure_snapshot(txn);
	err = snapshots_hold(txn->db->snapshots, snapshot->seq);
	if (err)
		return err;
	txn->snapshot = snapshot->seq;
	txn->has_snapshot = true;
	return 0;
}

int kv_txn_begin(struct kv_db *db, const struct kv_txn_options *options, struct kv_txn **out)
{
	static const struct kv_txn_options defaults;
	struct kv_txn *txn;
	int err;

	if (!options)
		options = &defaults;
	if (options->flags & ~(unsigned)KV_TXN_RDONLY)
		return -KV_E_INVALID;
	txn = calloc(1, sizeof(*txn));
	if (!txn)
		return -ENOMEM;
	txn->db = db;
	txn->readonly = (options->flags & KV_TXN_RDONLY) || options->snapshot || db->readonly;
	txn->lock_timeout_ms =
		options->lock_timeout_ms ? options->lock_timeout_ms : db->options.lock_timeout_ms;
	atomic_fetch_add(&db->handles, 1);
	if (txn->readonly) {
		err = begin_readonly(txn, options->snapshot);
	} else {
		err = txn_writeset_new(db, &txn->writes);
		if (!err)
			err = lock_owner_new(db->locks, &txn->locks);
	}
	if (err) {
		txn_free(txn);
		return err;
	}
	*out = txn;
	return 0;
}

int kv_txn_commit(struct kv_txn *txn, unsigned flags, kv_seq *seq)
{
	int err = 0;

	if (txn->readonly) {
		if (seq)
			*seq = 0;
	} else {
		err = txn_write_commit(txn->db, txn->writes, flags, txn->locks, seq);
	}
	txn_free(txn);
	return err;
}

void kv_txn_abort(struct kv_txn *txn)
{
	if (!txn)
		return;
	COUNT(txn->db, aborts, txn->readonly ? 0 : 1);
	txn_free(txn);
}

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
	struct view_pin pin;
	struct kv_slice own;
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

static int read_key(struct kv_txn *txn, struct kv_slice ikey, struct kv_buf *value)
{
	int err = txn_ensure_snapshot(txn);

	if (err)
		return err;
	err = read_own(txn, ikey, value);
	if (err <= 0)
		return err;
	return view_read(txn->db, ikey, txn->snapshot, value);
}

int kv_txn_get(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct kv_buf *value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : read_key(txn, ikey, value);
}

/* ---- locks and writes ---------------------------------------------------------------- */

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

static int lock_key(struct kv_txn *txn, struct kv_slice ikey)
{
	int err;

	if (txn->readonly)
		return -KV_E_READONLY;
	if (lock_holds(txn->locks, ikey, LOCK_EXCLUSIVE))
		return 0;
	err = lock_acquire(txn->locks, ikey, LOCK_EXCLUSIVE, txn->lock_timeout_ms);
	return err ? err : check_conflict(txn, ikey);
}

int kv_txn_lock(struct kv_txn *txn, unsigned keyspace, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	return err ? err : lock_key(txn, ikey);
}

int kv_txn_get_for_update(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			  struct kv_buf *value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = lock_key(txn, ikey);
	return err ? err : read_key(txn, ikey, value);
}

int kv_txn_put(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct kv_slice value)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = lock_key(txn, ikey);
	return err ? err : txn_write_put(txn->db, txn->writes, ikey, value);
}

int kv_txn_delete(struct kv_txn *txn, unsigned keyspace, struct kv_slice key)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = lock_key(txn, ikey);
	return err ? err : writeset_put(txn->writes, ikey, ENTRY_DELETE, kv_slice_of(NULL, 0));
}

int kv_txn_delete_range(struct kv_txn *txn, unsigned keyspace, struct kv_slice from,
			struct kv_slice to)
{
	if (txn->readonly)
		return -KV_E_READONLY;
	return txn_write_delete_range(txn->writes, keyspace, from, to);
}

int kv_txn_savepoint(struct kv_txn *txn, unsigned *out)
{
	return txn->readonly ? -KV_E_READONLY : writeset_savepoint(txn->writes, out);
}

int kv_txn_rollback_to(struct kv_txn *txn, unsigned savepoint)
{
	return txn->readonly ? -KV_E_READONLY : writeset_rollback_to(txn->writes, savepoint);
}
