/* SPDX-License-Identifier: MIT */
/*
 * A request is a header and what its kind says; an answer a header and the same.
 * Numbers and structures are the kernel's (include/uapi/linux/fuse.h of Linux 6.6),
 * which never change; those that older headers lack are repeated here. A kernel that
 * does not know a kind never sends it.
 */
#include "fusefs/raw.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "fusefs/device.h"
#include "fusefs/reply.h"
#include "fusefs/request.h"

struct raw_time {
	int64_t sec;
	uint32_t nsec;
	int32_t reserved;
};

struct raw_statx {
	uint32_t mask, blksize;
	uint64_t attributes;
	uint32_t nlink, uid, gid;
	uint16_t mode, spare0;
	uint64_t ino, size, blocks, attributes_mask;
	struct raw_time atime, btime, ctime, mtime;
	uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
	uint64_t spare1[14];
};
static_assert(sizeof(struct raw_statx) == 256, "the kernel's layout");

struct raw_statx_out {
	uint64_t valid_s;
	uint32_t valid_ns, flags;
	uint64_t spare[2];
	struct raw_statx stat;
};
static_assert(sizeof(struct raw_statx_out) == 288, "the kernel's layout");

static int send_answer(struct kvfsd *d, int fd, uint64_t unique, int err, const void *body,
		       size_t len)
{
	struct fuse_out_header head = {.unique = unique};
	struct iovec iov[2] = {{&head, sizeof(head)}, {NULL, 0}};

	if (err) {
		head.error = -reply_errno(err);
		len = 0;
	}
	head.len = (uint32_t)(sizeof(head) + len);
	memcpy(&iov[1].iov_base, &body, sizeof(body)); /* writev takes no const */
	iov[1].iov_len = len;
	return device_answer(d, fd, iov, len ? 2 : 1);
}

/* The node of a request in its tree, or NULL after answering that it is gone. */
static struct kvfs_node *node_of(struct kvfsd *d, int fd, const struct fuse_in_header *head,
				 struct kvfs **fs)
{
	uint64_t file = tree_ino(head->nodeid);
	struct kvfs_node *node = NULL;

	*fs = tree_is_live(head->nodeid) ? d->fs : tree_fs(&d->trees, head->nodeid);
	if (*fs)
		node = file == FUSE_ROOT_ID ? kvfs_root(*fs) : kvfs_node_by_ino(*fs, file);
	if (!node)
		(void)!send_answer(d, fd, head->unique, -ESTALE, NULL, 0);
	return node;
}

/* ---- statx ---- */

static struct raw_time time_of(struct timespec t)
{
	return (struct raw_time){.sec = t.tv_sec, .nsec = (uint32_t)t.tv_nsec};
}

/* @attr: of a file, whose time of birth is known. */
static void send_statx(struct kvfsd *d, int fd, uint64_t unique, const struct stat *st,
		       const struct kvfs_attr *attr)
{
	const struct kvfs_time *btime = attr ? &attr->btime : NULL;
	struct raw_statx_out out = {.valid_s = attr && !attr->staged ? REPLY_TIMEOUT_S : 0};

	out.stat = (struct raw_statx){
		.mask = STATX_BASIC_STATS | (btime ? STATX_BTIME : 0U),
		.blksize = (uint32_t)st->st_blksize,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mode = (uint16_t)st->st_mode,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = time_of(st->st_atim),
		.ctime = time_of(st->st_ctim),
		.mtime = time_of(st->st_mtim),
		.rdev_major = major(st->st_rdev),
		.rdev_minor = minor(st->st_rdev),
	};
	if (btime)
		out.stat.btime = (struct raw_time){.sec = btime->sec, .nsec = btime->nsec};
	(void)!send_answer(d, fd, unique, 0, &out, sizeof(out));
}

static void answer_statx(struct kvfsd *d, int fd, const struct fuse_in_header *head)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;
	struct kvfs *fs;
	struct stat st;
	int err;

	if (tree_is_control(head->nodeid)) {
		err = control_stat(d, head->nodeid, &st);
		if (err)
			(void)!send_answer(d, fd, head->unique, err, NULL, 0);
		else
			send_statx(d, fd, head->unique, &st, NULL);
		return;
	}
	node = node_of(d, fd, head, &fs);
	if (!node)
		return;
	err = staged_attr(d, fs, head->nodeid, node, (pid_t)head->pid, &attr);
	if (err) {
		reply_damage(d, node, err);
		(void)!send_answer(d, fd, head->unique, err, NULL, 0);
		return;
	}
	reply_stat(d, head->nodeid, &attr, &st);
	send_statx(d, fd, head->unique, &st, &attr);
}

/* ---- files without a name ---- */

static struct fuse_attr attr_of(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (uint32_t)st->st_blksize,
	};
}

static void answer_tmpfile(struct kvfsd *d, int fd, const struct fuse_in_header *head,
			   const struct fuse_create_in *in)
{
	struct kvfs_owner owner = {.uid = head->uid, .gid = head->gid, .umask = in->umask & 0777U};
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {.entry = {.entry_valid = REPLY_TIMEOUT_S, .attr_valid = REPLY_TIMEOUT_S}};
	struct kvfs_node *dir, *node;
	struct kvfs_attr attr;
	struct kvfs *fs;
	struct stat st;
	int err;

	if (tree_is_control(head->nodeid)) {
		(void)!send_answer(d, fd, head->unique, -EPERM, NULL, 0);
		return;
	}
	dir = node_of(d, fd, head, &fs);
	if (!dir)
		return;
	err = kvfs_tmpfile(fs, dir, in->mode & 07777U, &owner, &node, &attr);
	if (err) {
		reply_damage(d, dir, err);
		(void)!send_answer(d, fd, head->unique, err, NULL, 0);
		return;
	}
	reply_stat(d, head->nodeid, &attr, &st);
	out.entry.nodeid = tree_id(head->nodeid, kvfs_node_ino(node));
	out.entry.attr = attr_of(&st);
	out.open.open_flags = FOPEN_NOFLUSH | (d->no_open ? FOPEN_KEEP_CACHE : 0U);
	tree_ref(&d->trees, out.entry.nodeid);
	if (send_answer(d, fd, head->unique, 0, &out, sizeof(out)))
		op_forget_node(d, out.entry.nodeid, 1);
}

static void count(struct kvfsd *d, enum op_request request)
{
	atomic_fetch_add_explicit(&d->requests[request], 1, memory_order_relaxed);
}

/* After a shutdown only what ends something is still served. */
static bool is_refused(const struct kvfsd *d, uint32_t opcode)
{
	if (!atomic_load_explicit(&d->down, memory_order_relaxed))
		return false;
	switch (opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_INTERRUPT:
	case FUSE_DESTROY:
		return false;
	default:
		return true;
	}
}

static bool has_answer(uint32_t opcode)
{
	return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
	       opcode != FUSE_NOTIFY_REPLY;
}

bool raw_answer(struct kvfsd *d, int fd, const void *request, size_t len)
{
	struct fuse_create_in create;
	struct fuse_in_header head;

	if (len < sizeof(head))
		return true; /* nobody to answer */
	memcpy(&head, request, sizeof(head));
	if (!request_is_whole(request, len)) {
		if (has_answer(head.opcode))
			(void)!send_answer(d, fd, head.unique, -EINVAL, NULL, 0);
		return true;
	}
	if (is_refused(d, head.opcode)) {
		(void)!send_answer(d, fd, head.unique, -EIO, NULL, 0);
		return true;
	}
	if (head.opcode == REQUEST_STATX) {
		count(d, OP_REQUEST_getattr);
		answer_statx(d, fd, &head);
		return true;
	}
	if (head.opcode != REQUEST_TMPFILE)
		return false;
	count(d, OP_REQUEST_create);
	memcpy(&create, (const char *)request + sizeof(head), sizeof(create));
	answer_tmpfile(d, fd, &head, &create);
	return true;
}
