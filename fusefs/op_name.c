/* SPDX-License-Identifier: MIT */
/*
 * Operations on names: lookup and forget, and what makes, moves and removes
 * directory entries. The kernel has checked permissions, so what is left is to call
 * libkvfs and to account for references: a node that goes out in a reply carries
 * one, which comes back in a forget.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fusefs/reply.h"

/* A handle of a file that the kernel may have forgotten, and so may we. */
static void lookup_number(fuse_req_t req, fuse_ino_t ino)
{
	struct kvfs *fs = op_fs(req, ino);
	struct kvfs_node *node;
	struct kvfs_attr attr;
	int err = fs ? kvfs_node_find(fs, tree_ino(ino), &node, &attr) : -ESTALE;

	if (err)
		reply_result(req, NULL, err);
	else
		reply_entry(req, ino, node, &attr);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kvfs_node *node, *dir;
	struct kvfs_attr attr;
	int err;

	if (name[0] == '.' && !name[1]) {
		lookup_number(req, parent);
		return;
	}
	dir = op_node(req, parent);
	if (!dir)
		return;
	err = kvfs_lookup(op_fs(req, parent), dir, name, &node, &attr);
	if (err == -ENOENT)
		reply_no_entry(req);
	else if (err)
		reply_result(req, dir, err);
	else
		reply_entry(req, parent, node, &attr);
}

void op_forget_node(struct kvfsd *d, fuse_ino_t ino, uint64_t nlookup)
{
	struct kvfs *fs = tree_is_live(ino) ? d->fs : tree_fs(&d->trees, ino);
	struct kvfs_node *node;

	if (!fs)
		return;
	listing_forget(&d->listings, ino);
	if (tree_ino(ino) != FUSE_ROOT_ID) { /* a root has no references */
		node = kvfs_node_by_ino(fs, tree_ino(ino));
		if (node)
			kvfs_node_forget(fs, node, nlookup);
	}
	tree_unref(&d->trees, ino, nlookup);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	op_forget_node(op_daemon(req), ino, nlookup);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		op_forget_node(op_daemon(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static struct kvfs_owner owner_of(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	/* Without DONT_MASK the modes come with the umask taken away. */
	return (struct kvfs_owner){.uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask & 0777U};
}

/* The end of all that make a name. */
static void reply_made(fuse_req_t req, fuse_ino_t dir_id, struct kvfs_node *dir, int err,
		       struct kvfs_node *node, const struct kvfs_attr *attr)
{
	if (err)
		reply_result(req, dir, err);
	else
		reply_entry(req, dir_id, node, attr);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct kvfs_node *dir = op_node(req, parent);
	struct kvfs_owner owner;
	struct kvfs_node *node = NULL;
	struct kvfs_attr attr;
	int err;

	if (!dir)
		return;
	owner = owner_of(req);
	err = kvfs_mknod(op_fs(req, parent), dir, name, mode, (uint32_t)rdev, &owner, &node, &attr);
	reply_made(req, parent, dir, err, node, &attr);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct kvfs_node *dir = op_node(req, parent);
	struct kvfs_owner owner;
	struct kvfs_node *node = NULL;
	struct kvfs_attr attr;
	int err;

	if (!dir)
		return;
	owner = owner_of(req);
	err = kvfs_mkdir(op_fs(req, parent), dir, name, mode, &owner, &node, &attr);
	reply_made(req, parent, dir, err, node, &attr);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct kvfs_node *dir = op_node(req, parent);
	struct kvfs_owner owner;
	struct kvfs_node *node = NULL;
	struct kvfs_attr attr;
	int err;

	if (!dir)
		return;
	owner = owner_of(req);
	err = kvfs_symlink(op_fs(req, parent), dir, name, target, &owner, &node, &attr);
	reply_made(req, parent, dir, err, node, &attr);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_node *dir, *linked = NULL;
	struct kvfs_attr attr;
	int err;

	if (!node)
		return;
	dir = op_node_beside(req, ino, newparent);
	if (!dir)
		return;
	err = kvfs_link(op_fs(req, ino), node, dir, newname, &linked, &attr);
	reply_made(req, newparent, node, err, linked, &attr);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kvfs_node *dir = op_node(req, parent);

	if (dir)
		reply_result(req, dir, kvfs_unlink(op_fs(req, parent), dir, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kvfs_node *dir = op_node(req, parent);

	if (dir)
		reply_result(req, dir, kvfs_rmdir(op_fs(req, parent), dir, name));
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	       const char *newname, unsigned flags)
{
	struct kvfs_node *from = op_node(req, parent);
	struct kvfs_node *to;
	unsigned kvfs_flags = 0;

	if (!from)
		return;
	to = op_node_beside(req, parent, newparent);
	if (!to)
		return;
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (flags & RENAME_NOREPLACE)
		kvfs_flags |= KVFS_RENAME_NOREPLACE;
	if (flags & RENAME_EXCHANGE)
		kvfs_flags |= KVFS_RENAME_EXCHANGE;
	if (flags & RENAME_WHITEOUT)
		kvfs_flags |= KVFS_RENAME_WHITEOUT;
	reply_result(req, from,
		     kvfs_rename(op_fs(req, parent), from, name, to, newname, kvfs_flags));
}

/*
 * Where opens need not be told, neither need creations: after one ENOSYS the kernel sends a mknod
 * instead, and saves the release. What follows is for strictatime and transactions.
 *
 * A name that the kernel did not know of may be there all the same: two opens
 * with O_CREAT race. Then it is an ordinary open.
 */
static int open_existing(struct kvfs *fs, struct kvfs_node *dir, const char *name, int flags,
			 struct kvfs_stage **stage, struct kvfs_node **node, struct kvfs_attr *attr)
{
	static const struct kvfs_attr empty;
	int err = kvfs_lookup(fs, dir, name, node, attr);

	if (err)
		return err;
	if (flags & O_EXCL)
		err = -EEXIST;
	else if (S_ISREG(attr->mode) && stage)
		err = kvfs_stage_open(fs, *node, stage);
	if (!err && (flags & O_TRUNC) && S_ISREG(attr->mode))
		err = stage ? kvfs_stage_set_size(*stage, 0)
			    : kvfs_setattr(fs, *node, KVFS_SET_SIZE, &empty, attr);
	if (!err && stage && *stage)
		err = kvfs_stage_attr(*stage, attr);
	if (err)
		kvfs_node_forget(fs, *node, 1);
	return err;
}

/* A file that others see when it is closed. */
static void create_staged(fuse_req_t req, fuse_ino_t parent, struct kvfs_node *dir,
			  const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct kvfs_owner owner = owner_of(req);
	struct kvfs_stage *stage = NULL;
	struct kvfs_node *node = NULL;
	struct kvfs_attr attr;
	int err;

	err = open_existing(d->fs, dir, name, fi->flags, &stage, &node, &attr);
	if (err == -ENOENT)
		err = kvfs_stage_create(d->fs, dir, name, mode & 07777, &owner, &node, &attr,
					&stage);
	if (!err && stage) {
		err = staged_open(d, kvfs_node_ino(node), fuse_req_ctx(req)->pid, stage, fi);
		if (err)
			kvfs_node_forget(d->fs, node, 1);
	}
	if (err) {
		kvfs_stage_close(stage);
		reply_result(req, dir, err);
		return;
	}
	fi->direct_io = 1;
	if (reply_create(req, parent, node, &attr, fi))
		staged_release(d, kvfs_node_ino(node), fi); /* no release will come */
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct kvfs_node *dir = op_node(req, parent);
	struct kvfs_owner owner;
	struct kvfs_node *node = NULL;
	struct kvfs_attr attr;
	int err;

	if (!dir)
		return;
	owner = owner_of(req);
	if (d->no_open) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (op_is_transaction(d, parent, dir, fi->flags)) {
		create_staged(req, parent, dir, name, mode, fi);
		return;
	}
	err = kvfs_mknod(op_fs(req, parent), dir, name, S_IFREG | (mode & 07777), 0, &owner, &node,
			 &attr);
	if (err == -EEXIST)
		err = open_existing(op_fs(req, parent), dir, name, fi->flags, NULL, &node, &attr);
	if (err) {
		reply_result(req, dir, err);
		return;
	}
	fi->noflush = 1;
	fi->direct_io = tree_is_live(parent) && staged_wanted(d, node); /* O_SYNC */
	(void)reply_create(req, parent, node, &attr, fi);
}
