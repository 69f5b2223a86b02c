/* SPDX-License-Identifier: MIT */
/*
 * The table that libfuse calls. There are two kinds of nodes, files of some tree and
 * the control directory's own, with a table of operations each; this is the one
 * place that chooses between them. A request that names the control directory in
 * the root goes to the second table too, and so does one that has a node of
 * each kind.
 */
#include <string.h>

#include "fusefs/op.h"

static const struct fuse_lowlevel_ops *of(fuse_ino_t ino)
{
	return tree_is_control(ino) ? &control_table : &op_files;
}

static const struct fuse_lowlevel_ops *of_name(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	if (dir == FUSE_ROOT_ID && name[0] == '.' && !strcmp(name, CONTROL_NAME) &&
	    !op_daemon(req)->opt->snapshot[0])
		return &control_table;
	return of(dir);
}

static const struct fuse_lowlevel_ops *either(const struct fuse_lowlevel_ops *a,
					      const struct fuse_lowlevel_ops *b)
{
	return a == &control_table ? a : b;
}

/* For .kvfs/metrics. */
static void count(fuse_req_t req, enum op_request request)
{
	atomic_fetch_add_explicit(&op_daemon(req)->requests[request], 1, memory_order_relaxed);
}

/* ---- nodes ---- */

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	count(req, OP_REQUEST_forget);
	of(ino)->forget(req, ino, nlookup);
}

static void on_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	struct kvfsd *d = op_daemon(req);

	count(req, OP_REQUEST_forget);
	for (size_t i = 0; i < n; i++) {
		if (tree_is_control(forgets[i].ino))
			control_forget_node(d, forgets[i].ino, forgets[i].nlookup);
		else
			op_forget_node(d, forgets[i].ino, forgets[i].nlookup);
	}
	fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_getattr);
	of(ino)->getattr(req, ino, fi);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_setattr);
	of(ino)->setattr(req, ino, attr, to_set, fi);
}

static void on_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	count(req, OP_REQUEST_access);
	of(ino)->access(req, ino, mask);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino)
{
	count(req, OP_REQUEST_readlink);
	of(ino)->readlink(req, ino);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_read);
	of(ino)->read(req, ino, size, off, fi);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_write);
	of(ino)->write(req, ino, buf, size, off, fi);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_fsync);
	of(ino)->fsync(req, ino, datasync, fi);
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_fsync);
	of(ino)->fsyncdir(req, ino, datasync, fi);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_fallocate);
	of(ino)->fallocate(req, ino, mode, offset, length, fi);
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_lseek);
	of(ino)->lseek(req, ino, off, whence, fi);
}

/* The parameters are libfuse's. NOLINTNEXTLINE(readability-function-size) */
static void on_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	count(req, OP_REQUEST_copy_file_range);
	either(of(ino_in), of(ino_out))
		->copy_file_range(req, ino_in, off_in, fi_in, ino_out, off_out, fi_out, len, flags);
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_opendir);
	of(ino)->opendir(req, ino, fi);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_readdir);
	of(ino)->readdir(req, ino, size, off, fi);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_readdirplus);
	of(ino)->readdirplus(req, ino, size, off, fi);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_releasedir);
	of(ino)->releasedir(req, ino, fi);
}

static void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			size_t size, int flags)
{
	count(req, OP_REQUEST_setxattr);
	of(ino)->setxattr(req, ino, name, value, size, flags);
}

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	count(req, OP_REQUEST_getxattr);
	of(ino)->getxattr(req, ino, name, size);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	count(req, OP_REQUEST_listxattr);
	of(ino)->listxattr(req, ino, size);
}

static void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	count(req, OP_REQUEST_removexattr);
	of(ino)->removexattr(req, ino, name);
}

/* ---- names ---- */

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(req, OP_REQUEST_lookup);
	of_name(req, parent, name)->lookup(req, parent, name);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	count(req, OP_REQUEST_mknod);
	of_name(req, parent, name)->mknod(req, parent, name, mode, rdev);
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	count(req, OP_REQUEST_mkdir);
	of_name(req, parent, name)->mkdir(req, parent, name, mode);
}

static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	count(req, OP_REQUEST_symlink);
	of_name(req, parent, name)->symlink(req, target, parent, name);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	count(req, OP_REQUEST_link);
	either(of(ino), of_name(req, newparent, newname))->link(req, ino, newparent, newname);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(req, OP_REQUEST_unlink);
	of_name(req, parent, name)->unlink(req, parent, name);
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	count(req, OP_REQUEST_rmdir);
	of_name(req, parent, name)->rmdir(req, parent, name);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	count(req, OP_REQUEST_rename);
	either(of_name(req, parent, name), of_name(req, newparent, newname))
		->rename(req, parent, name, newparent, newname, flags);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	count(req, OP_REQUEST_create);
	of_name(req, parent, name)->create(req, parent, name, mode, fi);
}

const struct fuse_lowlevel_ops op_table = {
	.init = op_init,
	.lookup = on_lookup,
	.forget = on_forget,
	.forget_multi = on_forget_multi,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.readlink = on_readlink,
	.mknod = on_mknod,
	.mkdir = on_mkdir,
	.unlink = on_unlink,
	.rmdir = on_rmdir,
	.symlink = on_symlink,
	.rename = on_rename,
	.link = on_link,
	.create = on_create,
	.open = op_open, /* these have nothing to do with the node */
	.read = on_read,
	.write = on_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = on_fsync,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.readdirplus = on_readdirplus,
	.releasedir = on_releasedir,
	.fsyncdir = on_fsyncdir,
	.statfs = op_statfs,
	.setxattr = on_setxattr,
	.getxattr = on_getxattr,
	.listxattr = on_listxattr,
	.removexattr = on_removexattr,
	.access = on_access,
	.ioctl = op_ioctl,
	.fallocate = on_fallocate,
	.lseek = on_lseek,
	.copy_file_range = on_copy_file_range,
};
