/* SPDX-License-Identifier: MIT */
/*
 * Pending times. Each deferral gives the node a new number, so that a commit
 * clears only what it wrote: a time deferred between reading the node and the
 * commit stays pending.
 */
#include "fusefs/model/times.h"

#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/logmsg.h"

#define TIMES_DAY_SEC 86400

static void times_set_locked(struct kvfs_node *node, unsigned which, uint64_t now)
{
	if (which & NODE_PENDING_ATIME)
		node->atime = now;
	if (which & NODE_PENDING_MTIME)
		node->mtime = now;
	if (which & NODE_PENDING_CTIME)
		node->ctime = now;
	node->pending |= (uint8_t)which;
	node->pending_seq++;
}

void times_defer(struct kvfs *fs, struct kvfs_node *node, unsigned which, uint64_t now)
{
	struct node_shard *s = node_shard(fs, node->ino);

	os_mutex_lock(&s->mu);
	times_set_locked(node, which, now);
	os_mutex_unlock(&s->mu);
}

void times_defer_write(struct kvfs *fs, struct kvfs_node *node, uint64_t now)
{
	struct node_shard *s = node_shard(fs, node->ino);

	os_mutex_lock(&s->mu);
	times_set_locked(node, NODE_PENDING_MTIME | NODE_PENDING_CTIME, now);
	node->write_seq = atomic_fetch_add_explicit(&fs->write_seq, 1, memory_order_relaxed) + 1;
	os_mutex_unlock(&s->mu);
}

uint32_t times_apply(struct kvfs *fs, struct kvfs_node *node, struct inode *r)
{
	struct node_shard *s = node_shard(fs, node->ino);
	uint32_t seq;

	os_mutex_lock(&s->mu);
	if (node->pending & NODE_PENDING_ATIME)
		r->atime = node->atime;
	if (node->pending & NODE_PENDING_MTIME)
		r->mtime = node->mtime;
	if (node->pending & NODE_PENDING_CTIME)
		r->ctime = node->ctime;
	seq = node->pending_seq;
	os_mutex_unlock(&s->mu);
	return seq;
}

void times_settled(struct kvfs *fs, struct kvfs_node *node, uint32_t seq)
{
	struct node_shard *s = node_shard(fs, node->ino);

	os_mutex_lock(&s->mu);
	if (node->pending_seq == seq)
		node->pending = 0;
	os_mutex_unlock(&s->mu);
}

bool times_written_since(struct kvfs *fs, struct kvfs_node *node, uint64_t seq)
{
	struct node_shard *s = node_shard(fs, node->ino);
	bool written;

	os_mutex_lock(&s->mu);
	written = node->write_seq > seq;
	os_mutex_unlock(&s->mu);
	return written;
}

static bool times_pending(struct kvfs *fs, struct kvfs_node *node)
{
	struct node_shard *s = node_shard(fs, node->ino);
	bool pending;

	os_mutex_lock(&s->mu);
	pending = node->pending != 0;
	os_mutex_unlock(&s->mu);
	return pending;
}

static int times_flush_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct edit *e = arg;
	int err = edit_load(fs, txn, e);

	return err ? err : edit_store(txn, e);
}

static void times_flush_done(struct kvfs *fs, void *arg)
{
	edit_done(fs, arg);
}

int times_flush(struct kvfs *fs, struct kvfs_node *node)
{
	struct edit e = {.node = node};
	struct retry_op op = {.run = times_flush_run, .done = times_flush_done, .arg = &e};
	int err;

	if (!times_pending(fs, node))
		return 0;
	err = retry_write(fs, &op);
	edit_free(&e);
	return err;
}

void times_flush_last(struct kvfs *fs, struct kvfs_node *node)
{
	struct node_shard *s = node_shard(fs, node->ino);
	int err = times_flush(fs, node);

	if (!err)
		return;
	logmsg(&fs->log, KV_LOG_WARN, "model: times not written id=%llu: %s",
	       (unsigned long long)node->ino, kv_strerror(err));
	os_mutex_lock(&s->mu);
	node->pending = 0;
	os_mutex_unlock(&s->mu);
}

static int times_atime_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct edit *e = arg;
	int err = edit_load(fs, txn, e);

	if (err)
		return err;
	e->rec.r.atime = e->now;
	return edit_store(txn, e);
}

void times_accessed(struct kvfs *fs, struct kvfs_node *node, const struct inode *r)
{
	struct edit e = {.node = node};
	struct retry_op op = {
		.run = times_atime_run, .done = times_flush_done, .arg = &e, .optional = true};
	struct kvfs_time now;
	struct inode seen = *r;
	int err;

	if (fs->nodiratime && node_is_dir(node))
		return;
	if (fs->atime == KVFS_NOATIME || (r->flags & MODEL_FLAG_NOATIME) || kvfs_writable(fs))
		return;
	(void)times_apply(fs, node, &seen);
	now = kvfs_now();
	if (fs->atime == KVFS_RELATIME && seen.atime > seen.mtime && seen.atime > seen.ctime &&
	    inode_time_get(seen.atime).sec > now.sec - TIMES_DAY_SEC)
		return;
	e.now = inode_time(now);
	if (fs->lazytime) {
		times_defer(fs, node, NODE_PENDING_ATIME, e.now);
		return;
	}
	err = retry_write(fs, &op);
	if (err)
		logmsg(&fs->log, KV_LOG_DEBUG, "model: access time not written id=%llu: %s",
		       (unsigned long long)node->ino, kv_strerror(err));
	edit_free(&e);
}
