/* SPDX-License-Identifier: MIT */
/*
 * Drafts: their life, and how a call runs in one. The engine's transaction does the rest: it reads
 * its own writes over its snapshot, keeps in memory only what fits and the rest in free space of
 * the volume, and leaves nothing behind when the process dies. Each call is undone by a savepoint
 * if it fails half-way.
 *
 * Directory times are written with every change (a draft has no lazytime), for the commit compares
 * records, and access times never, since reading should not conflict with anybody.
 */
#include "fusefs/model/draft.h"

#include <errno.h>
#include <stdlib.h>

#include "fusefs/model/node.h"
#include "fusefs/model/open.h"
#include "fusefs/model/place.h"
#include "fusefs/model/times.h"

/* Of one draft's writes; the budget is shared by all of them and the cache. */
#define DRAFT_MEMORY (4U << 20)

bool draft_ended(struct kvfs *fs)
{
	bool ended;

	os_mutex_lock(&fs->txn_mu);
	ended = !fs->txn;
	os_mutex_unlock(&fs->txn_mu);
	return ended;
}

void draft_end(struct kvfs *fs)
{
	kv_txn_abort(fs->txn);
	fs->txn = NULL;
	if (fs->snapshot)
		kv_snapshot_release(fs->snapshot);
	fs->snapshot = NULL;
}

static int draft_run_locked(struct kvfs *fs, const struct retry_op *op)
{
	unsigned savepoint;
	int err, undone;

	if (!fs->txn)
		return -ESTALE;
	err = kv_txn_savepoint(fs->txn, &savepoint);
	if (err)
		return err;
	err = op->run(fs, fs->txn, op->arg);
	undone = err ? kv_txn_rollback_to(fs->txn, savepoint) : 0;
	if (!undone)
		undone = kv_txn_release(fs->txn, savepoint);
	if (undone) { /* out of memory: half a change must not be committed */
		draft_end(fs);
		return err ? err : undone;
	}
	if (!err && op->done)
		op->done(fs, op->arg);
	return err;
}

int draft_run(struct kvfs *fs, const struct retry_op *op)
{
	int err;

	os_mutex_lock(&fs->txn_mu);
	err = draft_run_locked(fs, op);
	os_mutex_unlock(&fs->txn_mu);
	return err;
}

/* The lock goes to the caller, which the analysis cannot follow. */
int draft_begin_read(struct kvfs *fs, struct kv_txn **out) KV_NO_THREAD_ANALYSIS
{
	os_mutex_lock(&fs->txn_mu);
	if (!fs->txn) {
		os_mutex_unlock(&fs->txn_mu);
		return -ESTALE;
	}
	*out = fs->txn;
	return 0;
}

void draft_end_read(struct kvfs *fs) KV_NO_THREAD_ANALYSIS
{
	os_mutex_unlock(&fs->txn_mu);
}

/* Both see the same state, since live->ns is held for writing. */
int draft_take(struct kvfs *draft, unsigned flags)
{
	const struct kv_txn_options o = {
		.flags = KV_TXN_REBASE,
		.isolation = flags & KVFS_DRAFT_SERIALIZABLE ? KV_ISOLATION_SERIALIZABLE
							     : KV_ISOLATION_SNAPSHOT,
		.memory_bytes = DRAFT_MEMORY,
	};
	struct model_key none;
	int err = kv_snapshot_open(draft->db, NULL, &draft->snapshot);

	if (!err)
		err = kv_txn_begin(draft->db, &o, &draft->txn);
	if (err)
		return err;
	/* The first read takes its snapshot; this is one that nobody can conflict with. */
	place_meta("draft", &none);
	err = kv_txn_get(draft->txn, none.keyspace, model_key_slice(&none), NULL);
	draft->write_seq_begun = atomic_load(&draft->live->write_seq);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int draft_flush_times(struct kvfs *fs)
{
	int err = fs->lazytime ? node_table_each(fs, times_flush) : 0;

	return err || !fs->lazytime ? err : times_flush(fs, &fs->root);
}

int kvfs_draft_begin(struct kvfs *fs, unsigned flags, struct kvfs **out)
{
	struct kvfs *draft;
	uint64_t first_id;
	int err;

	if (flags & ~(unsigned)KVFS_DRAFT_SERIALIZABLE || fs->view)
		return -EINVAL;
	err = kvfs_new_id(fs, &first_id);
	if (!err)
		err = draft_flush_times(fs);
	if (err)
		return err;
	err = open_view(fs, fs, &draft);
	if (err)
		return err;
	draft->first_id = first_id;
	os_rwlock_wrlock(&fs->ns);
	err = draft_take(draft, flags);
	os_rwlock_wrunlock(&fs->ns);
	if (!err)
		err = open_look(draft);
	if (err) {
		(void)!kvfs_close(draft); /* it has written nothing */
		return err;
	}
	*out = draft;
	return 0;
}

void kvfs_draft_abort(struct kvfs *draft)
{
	os_mutex_lock(&draft->txn_mu);
	draft_end(draft);
	os_mutex_unlock(&draft->txn_mu);
}
