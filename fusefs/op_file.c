/* SPDX-License-Identifier: MIT */
/*
 * Contents of files. There are no handles: a request names the node, and an
 * unlinked file lives on by the kernel's references to it. So open and flush have
 * nothing to do and are answered ENOSYS, which makes the kernel never ask again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "fusefs/reply.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

/* Copies are answered in steps of this, so that one request does not hold a thread for long. */
#define COPY_STEP (64U << 20)

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kv_buf target = {0};
	int err;

	if (!node)
		return;
	err = kvfs_readlink(op_fs(req, ino), node, &target);
	if (!err)
		err = buf_append_byte(&target, 0);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_readlink(req, (const char *)target.data);
	kv_buf_free(&target);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	if (op_daemon(req)->no_open) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	fi->noflush = 1;
	fuse_reply_open(req, fi);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kv_buf data = {0};
	int err;

	(void)fi;
	if (!node)
		return;
	err = off < 0 ? -EINVAL : kvfs_read(op_fs(req, ino), node, (uint64_t)off, size, &data);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_buf(req, (const char *)data.data, data.len);
	kv_buf_free(&data);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	bool sync = !fi->writepage && (fi->flags & O_DSYNC); /* O_SYNC includes it */
	int err;

	if (!node)
		return;
	err = off < 0 ? -EINVAL
		      : kvfs_write(op_fs(req, ino), node, (uint64_t)off, kv_slice_of(buf, size),
				   sync);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_write(req, size);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);

	(void)fi;
	if (node)
		reply_result(req, node, kvfs_fsync(op_fs(req, ino), node, datasync != 0));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		  struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	int err = -EINVAL;

	(void)fi;
	if (!node)
		return;
	if (offset >= 0 && length > 0)
		err = kvfs_fallocate(op_fs(req, ino), node, mode, (uint64_t)offset,
				     (uint64_t)length);
	reply_result(req, node, err);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	uint64_t found = 0;
	int err = -EINVAL;

	(void)fi;
	if (!node)
		return;
	if (off < 0)
		err = -ENXIO;
	else if (whence == SEEK_DATA || whence == SEEK_HOLE)
		err = kvfs_lseek(op_fs(req, ino), node, (uint64_t)off, whence, &found);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_lseek(req, (off_t)found);
}

/* The parameters are libfuse's. NOLINTNEXTLINE(readability-function-size) */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct kvfs_node *from = op_node(req, ino_in);
	struct kvfs_node *to;
	uint64_t copied = 0;
	int err = -EINVAL;

	(void)fi_in;
	(void)fi_out;
	if (!from)
		return;
	to = op_node(req, ino_out);
	if (!to)
		return;
	if (!tree_is_same(ino_in, ino_out))
		err = -EXDEV; /* the kernel copies by itself */
	else if (!flags && off_in >= 0 && off_out >= 0)
		err = kvfs_copy_range(op_fs(req, ino_in), from, (uint64_t)off_in, to,
				      (uint64_t)off_out, min_u64(len, COPY_STEP), &copied);
	if (err)
		reply_result(req, from, err);
	else
		fuse_reply_write(req, copied);
}
