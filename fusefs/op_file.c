/* SPDX-License-Identifier: MIT */
/*
 * Contents of files. By default there are no handles: a request names the node, and
 * an unlinked file lives on by the kernel's references to it. So open and flush have
 * nothing to do and are answered ENOSYS, which makes the kernel never ask again. With
 * the option txn an open for writing is a transaction, see staged.h.
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

struct kvfs_stage *op_stage(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	return staged_use(op_daemon(req), ino, fi, fuse_req_ctx(req)->pid);
}

bool op_is_transaction(struct kvfsd *d, fuse_ino_t ino, struct kvfs_node *node, int flags)
{
	return d->opt->txn != OPTIONS_TXN_WRITE && tree_is_live(ino) &&
	       (flags & O_ACCMODE) != O_RDONLY && !(flags & O_DSYNC) && staged_wanted(d, node);
}

/*
 * A file whose changes are transactions is never read through the page cache: the
 * kernel has one size of a file, which a writer moves, and others must not see.
 */
static int open_staged(fuse_req_t req, fuse_ino_t ino, struct kvfs_node *node,
		       struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	pid_t pid = fuse_req_ctx(req)->pid;
	struct kvfs_stage *stage;
	struct kvfs_attr attr;
	int err;

	fi->direct_io = 1;
	if (!op_is_transaction(d, ino, node, fi->flags)) {
		fi->noflush = 1; /* it reads, or each write is synced */
		return staged_attr(d, d->fs, ino, node, pid, &attr);
	}
	err = kvfs_stage_open(d->fs, node, &stage);
	if (err)
		return err;
	err = staged_open(d, ino, pid, stage, fi);
	if (err)
		kvfs_stage_close(stage);
	return err;
}

/* What the flags of chattr(1) say to an open. Where opens are not told, the write is refused. */
static int check_open(fuse_req_t req, fuse_ino_t ino, struct kvfs_node *node, int flags)
{
	struct kvfs_attr attr;
	int err;

	if ((flags & O_ACCMODE) == O_RDONLY)
		return 0;
	err = kvfs_getattr(op_fs(req, ino), node, &attr);
	if (err)
		return err;
	if (attr.flags & KVFS_IMMUTABLE)
		return -EPERM;
	return (attr.flags & KVFS_APPEND) && !(flags & O_APPEND) ? -EPERM : 0;
}

static void open_told(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct kvfs_node *node = op_node(req, ino);
	bool staged = false;
	int err;

	if (!node)
		return;
	err = check_open(req, ino, node, fi->flags);
	if (!err && d->opt->txn != OPTIONS_TXN_WRITE && tree_is_live(ino))
		staged = staged_wanted(d, node);
	if (!err && staged) {
		err = open_staged(req, ino, node, fi);
	} else {
		fi->noflush = 1;
		/* See op_init() about strictatime. */
		fi->keep_cache = d->opt->atime != OPTIONS_STRICTATIME;
	}
	if (err)
		reply_result(req, node, err);
	else if (fuse_reply_open(req, fi) && staged)
		staged_release(d, ino, fi); /* no release will come */
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);

	if (d->no_open) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	if (!tree_is_control(ino)) {
		open_told(req, ino, fi);
		return;
	}
	fi->noflush = 1;
	fi->keep_cache = 1; /* texts of the control directory are read once */
	fuse_reply_open(req, fi);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_stage *stage;
	struct kv_buf data = {0};
	int err;

	if (!node)
		return;
	/* What the kernel reads for a mapping, for nobody, is what all see. */
	stage = fi->lock_owner ? op_stage(req, ino, fi) : NULL;
	if (off < 0)
		err = -EINVAL;
	else if (stage)
		err = kvfs_stage_read(stage, (uint64_t)off, size, &data);
	else
		err = fi->flags & O_NOATIME
			      ? kvfs_read_noatime(op_fs(req, ino), node, (uint64_t)off, size, &data)
			      : kvfs_read(op_fs(req, ino), node, (uint64_t)off, size, &data);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_buf(req, (const char *)data.data, data.len);
	kvfs_stage_unref(stage);
	kv_buf_free(&data);
}

/*
 * Whether the kernel's pages are out of the way of this write. fi->flags does not tell: they are
 * those of the file when the request was made, and fcntl(2) may have set O_DIRECT since the kernel
 * locked pages for a buffered write, for which direct.c would wait for ever. But only writes past
 * the pages name the owner of locks, which is never 0.
 */
static bool is_direct(const struct fuse_file_info *fi)
{
	return !fi->writepage && fi->lock_owner != 0;
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	bool sync = !fi->writepage && (fi->flags & O_DSYNC); /* O_SYNC includes it */
	struct kv_slice data = kv_slice_of(buf, size);
	struct kvfs_stage *stage;
	int err;

	if (!node)
		return;
	stage = fi->writepage ? NULL : op_stage(req, ino, fi);
	if (off < 0)
		err = -EINVAL;
	else if (stage)
		err = kvfs_stage_write(stage, (uint64_t)off, data, fi->flags & O_APPEND);
	else
		err = kvfs_write(op_fs(req, ino), node, (uint64_t)off, data, sync);
	if (err)
		reply_result(req, node, err);
	else if (!stage && is_direct(fi))
		direct_answer(&op_daemon(req)->direct, req, ino, off, size);
	else
		fuse_reply_write(req, size);
	kvfs_stage_unref(stage);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);

	if (d->no_open) {
		fuse_reply_err(req, ENOSYS);
		return;
	}
	reply_result(req, NULL, staged_flush(d, ino, fi, fuse_req_ctx(req)->pid));
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (fi->fh)
		staged_release(op_daemon(req), ino, fi);
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_stage *stage;
	int err = 0;

	if (!node)
		return;
	/* What was written so far is to survive: it cannot wait for the close. */
	stage = op_stage(req, ino, fi);
	if (stage)
		err = staged_commit(op_daemon(req), ino, stage);
	if (!err)
		err = kvfs_fsync(op_fs(req, ino), node, datasync != 0);
	reply_result(req, node, err);
	kvfs_stage_unref(stage);
}

/* The same promise, and no handle is needed. */
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
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
	struct kvfs_stage *stage;
	int err = -EINVAL;

	if (!node)
		return;
	stage = op_stage(req, ino, fi);
	if (offset >= 0 && length > 0)
		err = stage ? kvfs_stage_fallocate(stage, mode, (uint64_t)offset, (uint64_t)length)
			    : kvfs_fallocate(op_fs(req, ino), node, mode, (uint64_t)offset,
					     (uint64_t)length);
	reply_result(req, node, err);
	kvfs_stage_unref(stage);
}

/* Of what is being written all counts as data. */
static int stage_seek(struct kvfs_stage *stage, uint64_t off, int whence, uint64_t *found)
{
	struct kvfs_attr attr;
	int err = kvfs_stage_attr(stage, &attr);

	if (err)
		return err;
	if (off >= attr.size)
		return -ENXIO;
	*found = whence == SEEK_HOLE ? attr.size : off;
	return whence == SEEK_HOLE || whence == SEEK_DATA ? 0 : -EINVAL;
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_stage *stage;
	uint64_t found = 0;
	int err = -EINVAL;

	if (!node)
		return;
	stage = op_stage(req, ino, fi);
	if (off < 0)
		err = -ENXIO;
	else if (stage)
		err = stage_seek(stage, (uint64_t)off, whence, &found);
	else if (whence == SEEK_DATA || whence == SEEK_HOLE)
		err = kvfs_lseek(op_fs(req, ino), node, (uint64_t)off, whence, &found);
	if (err)
		reply_result(req, node, err);
	else
		fuse_reply_lseek(req, (off_t)found);
	kvfs_stage_unref(stage);
}

/* The parameters are libfuse's. NOLINTNEXTLINE(readability-function-size) */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct kvfs_node *from = op_node(req, ino_in);
	struct kvfs_stage *stage;
	struct kvfs_node *to;
	uint64_t copied = 0;
	int err = -EINVAL;

	(void)fi_in; /* what others see of it is copied */
	if (!from)
		return;
	to = op_node(req, ino_out);
	if (!to)
		return;
	stage = op_stage(req, ino_out, fi_out);
	if (!tree_is_same(ino_in, ino_out))
		err = -EXDEV; /* the kernel copies by itself */
	else if (!flags && off_in >= 0 && off_out >= 0 && stage)
		err = kvfs_stage_copy_range(stage, from, (uint64_t)off_in, (uint64_t)off_out, len,
					    &copied);
	else if (!flags && off_in >= 0 && off_out >= 0)
		err = kvfs_copy_range(op_fs(req, ino_in), from, (uint64_t)off_in, to,
				      (uint64_t)off_out, min_u64(len, COPY_STEP), &copied);
	if (err)
		reply_result(req, from, err);
	else
		fuse_reply_write(req, copied);
	kvfs_stage_unref(stage);
}
