/* SPDX-License-Identifier: MIT */
/*
 * The operations on files of any tree, and what is agreed with the kernel. Capabilities are
 * chosen one by one, not taken from libfuse's defaults; each has its reason:
 *
 *   data is invalidated only on request: nobody else changes it, and guessing
 *   from mtime would drop the pages that a write has just filled
 *   O_TRUNC is a setattr of its own, so that opens need not be told, and the kernel
 *   does not cut the file by itself, which txn=close must not show to others
 *   set-id bits are cleared by the daemon, see device.h
 *   a lookup of "." finds a file by its number, which makes handles of files last
 *   splice is not used: contents come out of the cache's pages, not out of files
 */
#include <errno.h>
#include <sys/stat.h>

#include "fusefs/op.h"

#define MAX_BACKGROUND	     64 /* requests of readahead, writeback and asynchronous I/O */
#define CONGESTION_THRESHOLD 48

static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS |
			       FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			       FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_IOCTL_DIR |
			       FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_EXPORT_SUPPORT;

void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct kvfsd *d = userdata;
	unsigned want = wanted;
	struct stat st;

	if (d->opt->writeback == OPTIONS_ON)
		want |= FUSE_CAP_WRITEBACK_CACHE;
	/* The kernel obeys lists only if it checks modes. The daemon takes the umask away, unless a
	 * default list replaces it. */
	d->acl = d->opt->noacl != OPTIONS_ON && d->opt->noxattr != OPTIONS_ON &&
		 (options_kernel_checks(d->opt) ||
		  (d->opt->noacl == OPTIONS_OFF && d->opt->default_permissions != OPTIONS_OFF)) &&
		 (~conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK)) == 0;
	if (d->acl)
		want |= FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK;
	/* Not access(), which confine.c refuses. */
	d->labels = !stat("/sys/fs/selinux/enforce", &st);
	conn->want = conn->capable & want;
	conn->max_write = KVFS_WRITE_MAX;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = CONGESTION_THRESHOLD;
	conn->time_gran = 1;
	/* Reads of an open that is told start with an empty page cache and so reach the daemon,
	 * which is what the access times of strictatime need. */
	d->no_open = (conn->capable & FUSE_CAP_NO_OPEN_SUPPORT) &&
		     d->opt->atime != OPTIONS_STRICTATIME && d->opt->txn == OPTIONS_TXN_WRITE;
}

struct kvfsd *op_daemon(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct kvfs_node *op_node(fuse_req_t req, fuse_ino_t ino)
{
	struct kvfs *fs = op_fs(req, ino);
	uint64_t file = tree_ino(ino);
	struct kvfs_node *node = NULL;

	if (fs)
		node = file == FUSE_ROOT_ID ? kvfs_root(fs) : kvfs_node_by_ino(fs, file);
	if (!node)
		fuse_reply_err(req, ESTALE);
	return node;
}

struct kvfs_node *op_node_beside(fuse_req_t req, fuse_ino_t beside, fuse_ino_t ino)
{
	if (tree_is_same(beside, ino))
		return op_node(req, ino);
	fuse_reply_err(req, EXDEV);
	return NULL;
}

const struct fuse_lowlevel_ops op_files = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.access = op_access,
	.ioctl = op_ioctl,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};
