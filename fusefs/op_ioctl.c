/* SPDX-License-Identifier: MIT */
/*
 * Control requests: those of control.h, and the flags of chattr(1) and lsattr(1). The
 * kernel checks who may set flags, and asks in two forms: the old one, and that of
 * XFS, of which only the flags have a meaning here. Of the attributes that the kernel
 * holds the time of change is no longer true then, so it is told; no page and no lock is
 * involved, so that may be done here.
 */
#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/channel.h"
#include "fusefs/control.h"
#include "fusefs/model/channel_format.h"
#include "fusefs/reply.h"
#include "kvcore/base/base.h"

static bool may_control(fuse_req_t req)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return uid == 0 || uid == geteuid();
}

static int set_readonly(fuse_req_t req, const void *in, size_t len)
{
	uint32_t readonly;

	if (!may_control(req))
		return -EPERM;
	if (len != sizeof(readonly))
		return -EINVAL;
	memcpy(&readonly, in, sizeof(readonly));
	return kvfs_set_readonly(op_daemon(req)->fs, readonly != 0);
}

/* What is acknowledged from here on is not durable, so nothing is, before the sync begins. */
static int shut_down(fuse_req_t req)
{
	struct kvfsd *d = op_daemon(req);

	if (!may_control(req))
		return -EPERM;
	if (!atomic_exchange(&d->down, true))
		log_error(d->log, "%s: shut down on request", d->opt->dir);
	return kvfs_sync(d->fs);
}

static const struct {
	uint32_t ours, old, xfs;
} names[] = {
	{KVFS_IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE},
	{KVFS_APPEND, FS_APPEND_FL, FS_XFLAG_APPEND},
	{KVFS_NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP},
	{KVFS_NO_ATIME, FS_NOATIME_FL, FS_XFLAG_NOATIME},
};

static int get_flags(struct kvfs *fs, struct kvfs_node *node, uint32_t *old, uint32_t *xfs)
{
	struct kvfs_attr attr;
	int err = kvfs_getattr(fs, node, &attr);

	if (err)
		return err;
	if (!S_ISREG(attr.mode) && !S_ISDIR(attr.mode))
		return -ENOTTY;
	*old = 0;
	*xfs = 0;
	for (size_t i = 0; i < KV_ARRAY_COUNT(names); i++)
		if (attr.flags & names[i].ours) {
			*old |= names[i].old;
			*xfs |= names[i].xfs;
		}
	return 0;
}

static int set_flags(fuse_req_t req, fuse_ino_t ino, struct kvfs_node *node, uint32_t flags,
		     bool xfs)
{
	struct fuse_session *session = op_daemon(req)->keeper.fuse;
	struct kvfs_attr values = {0};
	int err;

	for (size_t i = 0; i < KV_ARRAY_COUNT(names); i++) {
		uint32_t bit = xfs ? names[i].xfs : names[i].old;

		if (flags & bit)
			values.flags |= names[i].ours;
		flags &= ~bit;
	}
	if (flags)
		return -EOPNOTSUPP;
	err = kvfs_setattr(op_fs(req, ino), node, KVFS_SET_FLAGS, &values, NULL);
	if (!err && session)
		(void)fuse_lowlevel_notify_inval_inode(session, ino, -1, 0);
	return err;
}

/* The form of XFS. @in is empty if they are asked for. */
static int xfs_flags(fuse_req_t req, fuse_ino_t ino, struct kvfs_node *node, const void *in,
		     size_t len)
{
	struct fsxattr x;
	uint32_t old;
	int err;

	memset(&x, 0, sizeof(x));
	if (!in) {
		err = get_flags(op_fs(req, ino), node, &old, &x.fsx_xflags);
		if (!err)
			fuse_reply_ioctl(req, 0, &x, sizeof(x));
		return err;
	}
	if (len < sizeof(x))
		return -EINVAL;
	memcpy(&x, in, sizeof(x));
	if (x.fsx_extsize || x.fsx_projid || x.fsx_cowextsize)
		return -EOPNOTSUPP;
	err = set_flags(req, ino, node, x.fsx_xflags & ~(uint32_t)FS_XFLAG_HASATTR, true);
	if (!err)
		fuse_reply_ioctl(req, 0, NULL, 0);
	return err;
}

/* They are 4 bytes, whatever the number of the request says. */
static int old_flags(fuse_req_t req, fuse_ino_t ino, struct kvfs_node *node, const void *in,
		     size_t len)
{
	uint32_t flags = 0, xfs;
	int err;

	if (!in) {
		err = get_flags(op_fs(req, ino), node, &flags, &xfs);
		if (!err)
			fuse_reply_ioctl(req, 0, &flags, sizeof(flags));
		return err;
	}
	if (len < sizeof(flags))
		return -EINVAL;
	memcpy(&flags, in, sizeof(flags));
	err = set_flags(req, ino, node, flags, false);
	if (!err)
		fuse_reply_ioctl(req, 0, NULL, 0);
	return err;
}

static void flags_request(fuse_req_t req, fuse_ino_t ino, unsigned cmd, const void *in, size_t len)
{
	struct kvfs_node *node = op_node(req, ino);
	int err;

	if (!node)
		return;
	if (cmd == (unsigned)FS_IOC_GETFLAGS || cmd == (unsigned)FS_IOC_SETFLAGS)
		err = old_flags(req, ino, node, cmd == (unsigned)FS_IOC_SETFLAGS ? in : NULL, len);
	else
		err = xfs_flags(req, ino, node, cmd == (unsigned)FS_IOC_FSSETXATTR ? in : NULL,
				len);
	if (err)
		reply_result(req, node, err);
}

/* The parameters are libfuse's. NOLINTNEXTLINE(readability-function-size) */
void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	      unsigned request_flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz)
{
	int err = -ENOTTY;

	(void)arg;
	(void)fi;
	(void)request_flags;
	(void)out_bufsz;
	switch (cmd) {
	case KVFS_IOC_SYNC:
		err = kvfs_sync(op_daemon(req)->fs);
		break;
	case KVFS_IOC_SET_READONLY:
		err = set_readonly(req, in_buf, in_bufsz);
		break;
	case (unsigned)KVFS_IOC_SHUTDOWN:
		err = shut_down(req);
		break;
	case KVFS_IOC_COMMIT:
		txn_commit(req, NULL, ino, true);
		return;
	case (unsigned)KVFS_IOC_CHANNEL:
		channel_request(req, ino, in_buf, in_bufsz);
		return;
	case (unsigned)FS_IOC_GETFLAGS:
	case (unsigned)FS_IOC_SETFLAGS:
	case (unsigned)FS_IOC_FSGETXATTR:
	case (unsigned)FS_IOC_FSSETXATTR:
		if (tree_is_control(ino))
			break; /* these have none */
		flags_request(req, ino, cmd, in_buf, in_bufsz);
		return;
	default:
		break;
	}
	if (err)
		reply_result(req, NULL, err);
	else
		fuse_reply_ioctl(req, 0, NULL, 0);
}
