/* SPDX-License-Identifier: MIT */
/*
 * What long transactions need beside the rest: to be told what they wrote, and to be brought
 * up to the present. Validation (validate.c) locks all keys at once, which a million of them
 * would pay in memory; here they are compared one after the other as the write set gives
 * them, and it is the caller who keeps others away meanwhile.
 */
#include "kvcore/base/base.h"
#include "kvcore/engine/txn.h"

/* ---- what was written ---------------------------------------------------------------- */

int kv_txn_scan_writes(struct kv_txn *txn, unsigned keyspace, struct kv_slice from,
		       int (*emit)(void *ctx, struct kv_slice key, bool deleted), void *ctx)
{
	struct txn_range r;
	struct iter *it = NULL;
	struct entry e;
	int err = txn_range(&r, keyspace, from, kv_slice_of(NULL, 0));

	if (err || !txn->writes)
		return err;
	err = writeset_iter_new(txn->writes, true, &it);
	if (err)
		return err;
	for (err = iter_seek(it, r.from); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		if (slice_compare(e.key, r.to) >= 0)
			break;
		err = emit(ctx, ikey_user(e.key), e.kind == ENTRY_DELETE);
		if (err)
			break;
	}
	iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int kv_txn_watch_reads(struct kv_txn *txn, bool watch)
{
	if (!txn->rebases)
		return -KV_E_INVALID;
	txn->unwatched = !watch;
	return 0;
}

/* ---- up to the present ----------------------------------------------------------------- */

struct rebase {
	struct kv_txn *txn;
	struct view *view; /* of the present */
	bool read;	   /* what was read is compared, not what was written */
	int result;	   /* the last positive one */
	int (*changed)(void *ctx, enum kv_rebase_kind kind, unsigned keyspace, struct kv_slice key);
	void *ctx;
};

static int compare(void *ctx, struct kv_slice from, struct kv_slice to)
{
	struct rebase *r = ctx;
	enum kv_rebase_kind kind = !r->read ? KV_REBASE_WRITTEN
				   : to.len ? KV_REBASE_READ_RANGE
					    : KV_REBASE_READ;
	bool changed;
	int err = validate_changed(r->view, from, to, r->txn->snapshot, &changed);

	if (!err && changed)
		err = r->changed(r->ctx, kind, ikey_keyspace(from), ikey_user(from));
	if (err > 0)
		r->result = err;
	return err < 0 ? err : 0;
}

static int compare_writes(struct rebase *r)
{
	struct iter *it = NULL;
	struct entry e;
	int err = writeset_iter_new(r->txn->writes, true, &it);

	if (err)
		return err;
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		err = compare(r, e.key, kv_slice_of(NULL, 0));
		if (err)
			break;
	}
	iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int keep(void *ctx, struct kv_slice from, struct kv_slice to)
{
	return readset_add(ctx, from, to);
}

/* What changed() reads is remembered too, but apart: it must not move what is looked through. */
static int compare_reads(struct rebase *r)
{
	struct readset *reads = r->txn->reads;
	struct readset *later = NULL;
	int err = readset_new(&later);

	if (err)
		return err;
	r->txn->reads = later;
	err = readset_each(reads, compare, r);
	r->txn->reads = reads;
	if (!err)
		err = readset_each(later, keep, reads);
	readset_free(later);
	return err;
}

static int compare_all(struct rebase *r)
{
	int err;

	r->view = view_get(r->txn->db);
	err = compare_writes(r);
	r->read = true;
	if (!err)
		err = compare_reads(r);
	view_unref(r->view);
	return err ? err : r->result;
}

int kv_txn_rebase(struct kv_txn *txn,
		  int (*changed)(void *ctx, enum kv_rebase_kind kind, unsigned keyspace,
				 struct kv_slice key),
		  void *ctx)
{
	struct rebase r = {.txn = txn, .changed = changed, .ctx = ctx};
	struct snapshots *all = txn->db->snapshots;
	kv_seq now;
	int err;

	if (!txn->rebases || txn->iterators)
		return -KV_E_INVALID;
	err = txn_ensure_snapshot(txn);
	if (!err)
		err = snapshots_acquire(all, &now);
	if (err)
		return err;
	if (now != txn->snapshot)
		err = compare_all(&r);
	if (err >= 0) {
		int last = changed(ctx, KV_REBASE_END, 0, kv_slice_of(NULL, 0));

		err = last ? last : err;
	}
	if (err) {
		snapshots_release(all, now);
		return err;
	}
	snapshots_release(all, txn->snapshot);
	txn->snapshot = now;
	txn->rebased = true;
	return 0;
}
