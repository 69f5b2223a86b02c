/* SPDX-License-Identifier: MIT */
/*
 * Attributes, permissions and free space.
 *
 * Set-id bits: when the daemon has agreed to clear them (device.h), the kernel
 * sends a setattr that sets nothing where a write or a chown(-1, -1) must take
 * them away, and expects the same of a change of owner and, if it says so, of
 * size. It holds the inode's lock meanwhile, so looking at the mode first and
 * then setting it does not race with a chmod.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/reply.h"
#include "kvcore/base/base.h"

#define GROUPS_MAX 65536 /* of a process, NGROUPS_MAX of Linux */

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	pid_t pid = fuse_req_ctx(req)->pid; /* op_node() answers, and so ends, a request in vain */
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_stage *stage;
	struct kvfs_attr attr;
	int err;

	if (!node)
		return;
	stage = op_stage(req, ino, fi);
	if (stage)
		err = kvfs_stage_attr(stage, &attr);
	else if (fi) /* a reader's descriptor, maybe of a process that has a writer's, too */
		err = kvfs_getattr(op_fs(req, ino), node, &attr);
	else
		err = staged_attr(op_daemon(req), op_fs(req, ino), ino, node, pid, &attr);
	kvfs_stage_unref(stage);
	if (err)
		reply_result(req, node, err);
	else
		reply_attr(req, ino, &attr);
}

static const struct {
	int from; /* FUSE_SET_ATTR_* */
	unsigned to;
} masks[] = {
	{FUSE_SET_ATTR_MODE, KVFS_SET_MODE},
	{FUSE_SET_ATTR_UID, KVFS_SET_UID},
	{FUSE_SET_ATTR_GID, KVFS_SET_GID},
	{FUSE_SET_ATTR_SIZE, KVFS_SET_SIZE},
	{FUSE_SET_ATTR_ATIME, KVFS_SET_ATIME},
	{FUSE_SET_ATTR_MTIME, KVFS_SET_MTIME},
	{FUSE_SET_ATTR_ATIME_NOW, KVFS_SET_ATIME_NOW},
	{FUSE_SET_ATTR_MTIME_NOW, KVFS_SET_MTIME_NOW},
	{FUSE_SET_ATTR_CTIME, KVFS_SET_CTIME},
};

static struct kvfs_time time_of(struct timespec ts)
{
	return (struct kvfs_time){.sec = ts.tv_sec, .nsec = (uint32_t)ts.tv_nsec};
}

/*
 * Adds the cleared mode to what is set, if there is something to clear. Without group execution
 * the set-group-id bit once meant mandatory locking; who is in the group may leave it.
 */
static int kill_privileges(fuse_req_t req, struct kvfs *fs, struct kvfs_node *node, unsigned *mask,
			   struct kvfs_attr *values)
{
	struct kvfs_attr now;
	uint32_t mode;
	int err;

	err = kvfs_getattr(fs, node, &now);
	if (err)
		return err;
	mode = now.mode & ~(uint32_t)S_ISUID;
	if ((now.mode & S_ISGID) &&
	    ((now.mode & S_IXGRP) || (fuse_req_ctx(req)->uid != 0 && !op_in_group(req, now.gid))))
		mode &= ~(uint32_t)S_ISGID;
	if (S_ISDIR(now.mode) || mode == now.mode)
		return 0;
	values->mode = mode;
	*mask |= KVFS_SET_MODE;
	return 0;
}

/* The size of a file that is open as a transaction: ftruncate(2), or the O_TRUNC of the open. The
 * caller goes on with what others see. */
static int stage_size(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi,
		      uint64_t size, unsigned *mask)
{
	pid_t pid = fuse_req_ctx(req)->pid;
	struct kvfs_stage *stage = op_stage(req, ino, fi);
	int err;

	if (!stage && !fi && !size && op_daemon(req)->opt->txn != OPTIONS_TXN_WRITE)
		stage = staged_fresh(op_daemon(req), ino, pid);
	if (!stage)
		return 0;
	*mask &= ~(unsigned)KVFS_SET_SIZE;
	err = kvfs_stage_set_size(stage, size);
	kvfs_stage_unref(stage);
	return err;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_attr values, now;
	unsigned mask = 0;
	bool kill;
	int err = 0;

	if (!node)
		return;
	for (size_t i = 0; i < KV_ARRAY_COUNT(masks); i++)
		if (to_set & masks[i].from)
			mask |= masks[i].to;
	/* NOW comes together with the plain bit and the kernel's clock; ours decides. */
	if (mask & KVFS_SET_ATIME_NOW)
		mask &= ~(unsigned)KVFS_SET_ATIME;
	if (mask & KVFS_SET_MTIME_NOW)
		mask &= ~(unsigned)KVFS_SET_MTIME;
	values = (struct kvfs_attr){
		.mode = attr->st_mode,
		.uid = attr->st_uid,
		.gid = attr->st_gid,
		.size = (uint64_t)attr->st_size,
		.atime = time_of(attr->st_atim),
		.mtime = time_of(attr->st_mtim),
		.ctime = time_of(attr->st_ctim),
	};
	kill = !mask || (mask & (KVFS_SET_UID | KVFS_SET_GID)) ||
	       (to_set & (FUSE_SET_ATTR_KILL_SUID | FUSE_SET_ATTR_KILL_SGID));
	if (kill && !(mask & KVFS_SET_MODE) && atomic_load(&d->kills_privileges))
		err = kill_privileges(req, op_fs(req, ino), node, &mask, &values);
	if (!err && (mask & KVFS_SET_SIZE))
		err = stage_size(req, ino, fi, values.size, &mask);
	if (!err)
		err = mask ? kvfs_setattr(op_fs(req, ino), node, mask, &values, &now)
			   : kvfs_getattr(op_fs(req, ino), node, &now);
	if (err)
		reply_result(req, node, err);
	else
		reply_attr(req, ino, &now);
}

bool op_in_group(fuse_req_t req, gid_t gid)
{
	gid_t *groups;
	bool found = false;
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	groups = malloc(GROUPS_MAX * sizeof(*groups));
	if (!groups)
		return false;
	n = fuse_req_getgroups(req, GROUPS_MAX, groups);
	for (int i = 0; i < n && i < GROUPS_MAX && !found; i++)
		found = groups[i] == gid;
	free(groups);
	return found;
}

/* Only asked with nodefault_permissions; otherwise the kernel knows by itself. */
void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_attr attr;
	unsigned allowed;
	int err;

	if (!node)
		return;
	err = kvfs_getattr(op_fs(req, ino), node, &attr);
	if (err) {
		reply_result(req, node, err);
		return;
	}
	if (ctx->uid == 0)
		allowed = R_OK | W_OK | (S_ISDIR(attr.mode) || attr.mode & 0111 ? X_OK : 0);
	else if (ctx->uid == attr.uid)
		allowed = attr.mode >> 6;
	else if (op_in_group(req, attr.gid))
		allowed = attr.mode >> 3;
	else
		allowed = attr.mode;
	reply_result(req, node, (unsigned)mask & ~allowed & 7U ? -EACCES : 0);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct kvfs_statfs fs;
	struct statvfs out;
	int err;

	(void)ino;
	err = kvfs_statfs(op_daemon(req)->fs, &fs);
	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	out = (struct statvfs){
		.f_bsize = fs.block_size,
		.f_frsize = fs.block_size,
		.f_blocks = fs.blocks,
		.f_bfree = fs.blocks_free,
		.f_bavail = fs.blocks_avail,
		.f_files = fs.files,
		.f_ffree = fs.files_free,
		.f_favail = fs.files_free,
		.f_namemax = KVFS_NAME_MAX,
	};
	fuse_reply_statfs(req, &out);
}
