/* SPDX-License-Identifier: MIT */
/*
 * setattr, and fsync of a node. Times that were pending are written with every
 * change of the record; those set here replace them.
 */
#include <errno.h>

#include "fusefs/model/content.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"

struct attr_args {
	struct edit e;
	unsigned mask;
	const struct kvfs_attr *values;
	struct content_edit content;
};

static void attr_set_times(struct inode *r, const struct attr_args *a)
{
	if (a->mask & KVFS_SET_ATIME)
		r->atime = inode_time(a->values->atime);
	if (a->mask & KVFS_SET_MTIME)
		r->mtime = inode_time(a->values->mtime);
	if (a->mask & KVFS_SET_ATIME_NOW)
		r->atime = a->e.now;
	if ((a->mask & KVFS_SET_MTIME_NOW) ||
	    ((a->mask & KVFS_SET_SIZE) && !(a->mask & KVFS_SET_MTIME)))
		r->mtime = a->e.now;
	r->ctime = a->mask & KVFS_SET_CTIME ? inode_time(a->values->ctime) : a->e.now;
}

static int attr_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct attr_args *a = arg;
	struct inode *r = &a->e.rec.r;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (err)
		return err;
	if (a->mask & KVFS_SET_SIZE) {
		err = content_set_size(txn, r, a->values->size, &a->content);
		if (err)
			return err;
	}
	if (a->mask & KVFS_SET_MODE)
		r->mode = (r->mode & S_IFMT) | (a->values->mode & 07777U);
	if (a->mask & KVFS_SET_UID)
		r->uid = a->values->uid;
	if (a->mask & KVFS_SET_GID)
		r->gid = a->values->gid;
	attr_set_times(r, a);
	return edit_store(txn, &a->e);
}

static void attr_done(struct kvfs *fs, void *arg)
{
	struct attr_args *a = arg;

	edit_done(fs, &a->e);
}

int kvfs_setattr(struct kvfs *fs, struct kvfs_node *node, unsigned mask,
		 const struct kvfs_attr *values, struct kvfs_attr *attr)
{
	struct attr_args a = {
		.e = {.node = node, .now = inode_time(kvfs_now())}, .mask = mask, .values = values};
	struct retry_op op = {.run = attr_run,
			      .done = attr_done,
			      .arg = &a,
			      .frees = (mask & KVFS_SET_SIZE) != 0};
	int err;

	if (mask & KVFS_SET_SIZE) {
		if (node_is_dir(node))
			return -EISDIR;
		if (node->type != S_IFREG)
			return -EINVAL;
		if (values->size > KVFS_FILE_MAX)
			return -EFBIG;
	}
	err = retry_write(fs, &op);
	if (!err && attr)
		inode_attr(&a.e.rec.r, attr);
	edit_free(&a.e);
	content_edit_free(&a.content);
	return err;
}

int kvfs_fsync(struct kvfs *fs, struct kvfs_node *node, bool data_only)
{
	int err = 0;

	if (kvfs_writable(fs))
		return 0;
	if (!data_only)
		err = times_flush(fs, node);
	return err ? err : kv_sync(fs->db);
}
