/* SPDX-License-Identifier: MIT */
/*
 * Transactions of the file layer lock what they change before they read, so a
 * lost race is rare; when it happens the whole call is done again, after a
 * pause that grows. The namespace lock is released during the pause and before
 * waiting for a sync, so that a slow disk keeps nobody from the tree.
 */
#include "fusefs/model/retry.h"

#include <time.h>

#include "fusefs/model/place.h"
#include "fusefs/model/draft.h"

#define RETRY_MAX	100U
#define RETRY_PAUSE_NS	50000L
#define RETRY_PAUSE_MAX 5000000L

static bool retry_wanted(int err)
{
	return err == -KV_E_CONFLICT || err == -KV_E_DEADLOCK || err == -KV_E_LOCK_TIMEOUT;
}

static int retry_once(struct kvfs *fs, const struct retry_op *op)
{
	struct kv_txn *txn;
	int err;

	if (fs->live)
		return draft_run(fs, op);
	err = kv_txn_begin(fs->db, NULL, &txn);
	if (err)
		return err;
	err = op->run(fs, txn, op->arg);
	if (err) {
		kv_txn_abort(txn);
		return err;
	}
	err = kv_txn_commit(txn,
			    (op->frees ? KV_COMMIT_RESERVE : 0U) |
				    (op->optional ? KV_COMMIT_OPTIONAL : 0U),
			    NULL);
	if (!err && op->done)
		op->done(fs, op->arg);
	return err;
}

/* One of two kinds of the lock is taken, which the analysis cannot follow. */
static int retry_locked(struct kvfs *fs, const struct retry_op *op) KV_NO_THREAD_ANALYSIS
{
	int err;

	if (op->exclusive)
		os_rwlock_wrlock(&fs->ns);
	else
		os_rwlock_rdlock(&fs->ns);
	err = retry_once(fs, op);
	if (op->exclusive)
		os_rwlock_wrunlock(&fs->ns);
	else
		os_rwlock_rdunlock(&fs->ns);
	return err;
}

int retry_write(struct kvfs *fs, const struct retry_op *op)
{
	struct timespec pause = {0, RETRY_PAUSE_NS};
	int err;

	err = kvfs_writable(fs);
	if (err)
		return err;
	err = retry_locked(fs, op);
	for (unsigned i = 1; retry_wanted(err) && !op->once && i < RETRY_MAX; i++) {
		if (op->again)
			op->again(fs, op->arg);
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < RETRY_PAUSE_MAX)
			pause.tv_nsec *= 2;
		err = retry_locked(fs, op);
	}
	if (!err && !fs->live && (op->sync || fs->sync))
		err = kv_sync(fs->db);
	return err;
}

int retry_begin_read(struct kvfs *fs, struct kv_txn **out)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY, .snapshot = fs->snapshot};

	return fs->live ? draft_begin_read(fs, out) : kv_txn_begin(fs->db, &options, out);
}

void retry_end_read(struct kvfs *fs, struct kv_txn *txn)
{
	if (fs->live)
		draft_end_read(fs);
	else
		kv_txn_abort(txn);
}

int retry_read(struct kvfs *fs, int (*run)(struct kvfs *fs, struct kv_txn *txn, void *arg),
	       void *arg)
{
	struct kv_txn *txn;
	int err;

	os_rwlock_rdlock(&fs->ns);
	err = retry_begin_read(fs, &txn);
	if (!err) {
		err = run(fs, txn, arg);
		retry_end_read(fs, txn);
	}
	os_rwlock_rdunlock(&fs->ns);
	return err;
}

int retry_read_node(struct kvfs *fs, const struct kvfs_node *node,
		    int (*run)(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
			       void *arg),
		    void *arg)
{
	struct model_key key;
	struct kv_txn *txn;
	int err;

	os_rwlock_rdlock(&fs->ns);
	place_node(node, &key);
	err = retry_begin_read(fs, &txn);
	os_rwlock_rdunlock(&fs->ns);
	if (err)
		return err;
	err = run(fs, txn, &key, arg);
	retry_end_read(fs, txn);
	return err;
}
