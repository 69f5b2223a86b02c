/* SPDX-License-Identifier: MIT */
/*
 * setattr, and fsync of a node. Times that were pending are written with every
 * change of the record; those set here replace them.
 */
#include <errno.h>

#include "fusefs/model/acl.h"
#include "fusefs/model/content.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"

struct attr_args {
	struct edit e;
	unsigned mask;
	const struct kvfs_attr *values;
	struct kvfs_attr *attr;
	struct content_edit content;
	struct kv_buf xattrs;
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

/* Times that the kernel has kept, with ctime among them, are of changes made earlier. */
static int attr_check_flags(const struct inode *r, unsigned mask)
{
	const unsigned now = KVFS_SET_ATIME_NOW | KVFS_SET_MTIME_NOW;
	const unsigned times = KVFS_SET_ATIME | KVFS_SET_MTIME | KVFS_SET_CTIME | now;

	if (!(mask & ~(unsigned)KVFS_SET_FLAGS) || ((mask & KVFS_SET_CTIME) && !(mask & ~times)))
		return 0;
	return mask & ~now ? inode_check_fixed(r) : inode_check_immutable(r);
}

static int attr_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct attr_args *a = arg;
	struct inode *r = &a->e.rec.r;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (!err)
		err = attr_check_flags(r, a->mask);
	if (err)
		return err;
	if (a->mask & KVFS_SET_FLAGS)
		r->flags = (uint8_t)((r->flags & ~(unsigned)MODEL_FLAGS_USER) |
				     a->values->flags * MODEL_FLAG_IMMUTABLE);
	if (a->mask & KVFS_SET_SIZE) {
		err = content_set_size(fs, txn, r, a->values->size, &a->content);
		if (err)
			return err;
	}
	if (a->mask & KVFS_SET_MODE) {
		r->mode = (r->mode & S_IFMT) | (a->values->mode & 07777U);
		err = acl_chmod(txn, r, &a->xattrs);
		if (err)
			return err;
	}
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
	node_set_guard(a->e.node, &a->e.rec.r);
	if (a->mask & (KVFS_SET_MTIME | KVFS_SET_MTIME_NOW))
		atomic_fetch_add(&a->e.node->times_set, 1);
	if (a->attr)
		node_attr(a->e.node, &a->e.rec.r, a->attr);
}

int kvfs_setattr(struct kvfs *fs, struct kvfs_node *node, unsigned mask,
		 const struct kvfs_attr *values, struct kvfs_attr *attr)
{
	struct attr_args a = {.e = {.node = node, .now = inode_time(kvfs_now())},
			      .mask = mask,
			      .values = values,
			      .attr = attr};
	struct retry_op op = {.run = attr_run,
			      .done = attr_done,
			      .arg = &a,
			      .exclusive = (mask & KVFS_SET_FLAGS) != 0,
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
	if ((mask & KVFS_SET_FLAGS) &&
	    (values->flags & ~KVFS_FLAGS_ALL || (node->type != S_IFREG && !node_is_dir(node))))
		return -EOPNOTSUPP;
	err = retry_write(fs, &op);
	edit_free(&a.e);
	content_edit_free(&a.content);
	kv_buf_free(&a.xattrs);
	return err;
}

int kvfs_fsync(struct kvfs *fs, struct kvfs_node *node, bool data_only)
{
	int err = 0;

	if (kvfs_writable(fs) || fs->live) /* what is not committed is not durable either */
		return 0;
	if (!data_only)
		err = times_flush(fs, node);
	return err ? err : kv_sync(fs->db);
}
