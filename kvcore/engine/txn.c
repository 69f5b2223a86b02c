/* SPDX-License-Identifier: MIT */
/*
 * Transactions: begin, commit, abort, and what all writers share. Writes gather in
 * a writeset; txn_access.c says when locks are taken and what is read.
 *
 * Locks are released as soon as the commit is visible, before its sync: whoever
 * reads it then commits behind it in the log, and the log is durable in order.
 */
#include "kvcore/engine/txn.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/ingest.h"

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
	int err = writeset_new(&hooks, out);

	if (!err)
		writeset_spill_to(*out, &db->spill, db->spill_bytes);
	return err;
}

int txn_write_ref(struct kv_db *db, struct writeset *w, struct kv_slice ikey,
		  const struct value_ref *ref)
{
	uint8_t encoded[VALUE_REF_MAX];
	int err;

	COUNT(db, value_bytes_written, ref->stored_len);
	atomic_fetch_add_explicit(&db->fresh_value_bytes, ref->stored_len, memory_order_relaxed);
	err = writeset_put(w, ikey, ENTRY_PUT_REF,
			   kv_slice_of(encoded, value_ref_encode(ref, encoded)));
	if (err)
		values_settle(db->values, ref->segment_id);
	return err;
}

int txn_write_put(struct kv_db *db, struct writeset *w, struct kv_slice ikey, struct kv_slice value)
{
	struct value_ref ref;
	unsigned tries = 0;
	int err;

	if (value.len > KV_VALUE_MAX)
		return -KV_E_TOO_BIG;
	if (value.len < db->options.large_value_bytes)
		return writeset_put(w, ikey, ENTRY_PUT, value);
	err = values_put(db->values, value, SPACE_VALUE, &ref);
	while (err == -KV_E_NOSPACE && reclaim_space(db, true, &tries))
		err = values_put(db->values, value, SPACE_VALUE, &ref);
	if (err)
		return err;
	return txn_write_ref(db, w, ikey, &ref);
}

int txn_range(struct txn_range *r, unsigned keyspace, struct kv_slice from, struct kv_slice to)
{
	if (keyspace == KEYSPACE_SYSTEM || keyspace > KV_KEYSPACE_MAX || from.len > KV_KEY_MAX ||
	    to.len > KV_KEY_MAX)
		return -KV_E_INVALID;
	r->from = ikey_make(r->from_buf, keyspace, from);
	r->to = to.len ? ikey_make(r->to_buf, keyspace, to)
		       : ikey_make(r->to_buf, keyspace + 1, kv_slice_of(NULL, 0));
	return slice_compare(r->from, r->to) > 0 ? -KV_E_INVALID : 0;
}

/* What is committed: a writeset, or else one operation. */
struct commit_what {
	struct writeset *writes;
	const struct record_op *op;
};

/* Through the log, or, what does not fit it, as tables. @end: what a sync must reach. */
static int submit(struct kv_db *db, const struct commit_what *what, unsigned flags, kv_seq *seq,
		  uint64_t *end)
{
	int err = -KV_E_TOO_BIG;

	if (what->op)
		return commit_submit_op(db, what->op, flags, seq, end);
	if (!writeset_spilled(what->writes))
		err = commit_submit(db, what->writes, flags, seq, end);
	if (err == -KV_E_TOO_BIG) {
		*end = 0; /* it is durable at once */
		err = ingest_commit(db, what->writes, flags, seq);
	}
	return err;
}

static int write_commit(struct kv_db *db, const struct commit_what *what, unsigned flags,
			struct lock_owner *locks, kv_seq *seq)
{
	kv_seq number = 0;
	uint64_t end = 0;
	unsigned tries = 0;
	int err = 0;

	if (!what->op && writeset_empty(what->writes)) {
		if (flags & KV_COMMIT_SYNC)
			err = kv_sync(db);
	} else {
		err = submit(db, what, flags, &number, &end);
		while (err == -KV_E_NOSPACE && !(flags & KV_COMMIT_OPTIONAL) &&
		       reclaim_space(db, !(flags & KV_COMMIT_RESERVE), &tries))
			err = submit(db, what, flags, &number, &end);
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

static int timed_commit(struct kv_db *db, const struct commit_what *what, unsigned flags,
			struct lock_owner *locks, kv_seq *seq)
{
	bool sync = flags & KV_COMMIT_SYNC;
	struct kv_trace_event e = {.kind = KV_TRACE_COMMIT, .reason = sync ? "sync" : NULL};
	uint64_t ns;
	int err;

	if (!sync && !trace_wants(&db->trace, KV_TRACE_COMMIT) &&
	    !os_stats_sampled(&db->stats, OS_STAT_commits, STATS_EVERY_COMMIT))
		return write_commit(db, what, flags, locks, seq);
	trace_begin(&db->trace, &e);
	err = write_commit(db, what, flags, locks, seq);
	ns = trace_end(&db->trace, &e, err);
	os_stats_record(&db->stats, sync ? KV_HISTOGRAM_COMMIT_SYNCED : KV_HISTOGRAM_COMMIT, ns);
	return err;
}

int txn_write_commit(struct kv_db *db, struct writeset *w, unsigned flags, struct lock_owner *locks,
		     kv_seq *seq)
{
	const struct commit_what what = {.writes = w};

	return timed_commit(db, &what, flags, locks, seq);
}

int txn_write_op(struct kv_db *db, const struct record_op *op, unsigned flags,
		 struct lock_owner *locks)
{
	const struct commit_what what = {.op = op};

	return timed_commit(db, &what, flags, locks, NULL);
}

/* ---- begin and end ------------------------------------------------------------- */

void txn_free(struct kv_txn *txn)
{
	struct kv_db *db = txn->db;

	KV_ASSERT(txn->iterators == 0);
	writeset_free(txn->writes);
	lock_owner_free(txn->locks);
	readset_free(txn->reads);
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

static int begin_readwrite(struct kv_txn *txn, size_t memory_bytes)
{
	int err = txn_writeset_new(txn->db, &txn->writes);

	if (!err && memory_bytes)
		writeset_spill_to(txn->writes, &txn->db->spill, memory_bytes);
	if (!err)
		err = lock_owner_new(txn->db->locks, &txn->locks);
	if (!err && txn->optimistic)
		err = readset_new(&txn->reads);
	return err;
}

int kv_txn_begin(struct kv_db *db, const struct kv_txn_options *options, struct kv_txn **out)
{
	static const struct kv_txn_options defaults;
	struct kv_txn *txn;
	int err;

	if (!options)
		options = &defaults;
	if (options->flags & ~(unsigned)(KV_TXN_RDONLY | KV_TXN_OPTIMISTIC | KV_TXN_REBASE) ||
	    (unsigned)options->isolation > KV_ISOLATION_SERIALIZABLE)
		return -KV_E_INVALID;
	txn = calloc(1, sizeof(*txn));
	if (!txn)
		return -ENOMEM;
	txn->db = db;
	txn->readonly = (options->flags & KV_TXN_RDONLY) || options->snapshot || db->readonly;
	txn->serializable = !txn->readonly && options->isolation == KV_ISOLATION_SERIALIZABLE;
	txn->rebases = !txn->readonly && (options->flags & KV_TXN_REBASE);
	txn->optimistic = txn->rebases || (!txn->readonly && (options->flags & KV_TXN_OPTIMISTIC));
	txn->lock_timeout_ms =
		options->lock_timeout_ms ? options->lock_timeout_ms : db->options.lock_timeout_ms;
	atomic_fetch_add(&db->handles, 1);
	err = txn->readonly ? begin_readonly(txn, options->snapshot)
			    : begin_readwrite(txn, options->memory_bytes);
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
		if (txn->rebases)
			err = txn->rebased ? 0 : -KV_E_INVALID;
		else if (txn->optimistic && !writeset_empty(txn->writes))
			err = validate_txn(txn);
		if (!err)
			err = txn_write_commit(txn->db, txn->writes, flags, txn->locks, seq);
	}
	txn_free(txn);
	return err;
}

void kv_txn_abort(struct kv_txn *txn)
{
	struct kv_db *db;
	bool large;

	if (!txn)
		return;
	db = txn->db;
	COUNT(db, aborts, txn->readonly ? 0 : 1);
	large = txn->rebases;
	txn_free(txn);
	/* It may have filled the volume with values. What fails is left to the background. */
	if (large)
		(void)!values_reap(db->values);
}
