/* SPDX-License-Identifier: MIT */
/*
 * Replies. The daemon is the only one who changes the volume, and every change
 * comes through the kernel, so names, attributes and misses stay valid until the
 * kernel itself makes them stale: the timeouts are as good as endless.
 *
 * Damage is logged here with the path, since the caller sees no more than EIO.
 */
#include "fusefs/reply.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kvcore/base/base.h"

#define BLOCK_SIZE 4096

int reply_errno(int err)
{
	return kv_error_to_errno(err);
}

void reply_damage(struct kvfsd *d, struct kvfs_node *node, int err)
{
	struct kv_buf path = {0};

	if (err != -KV_E_CORRUPT && err != -KV_E_CHECKSUM)
		return;
	if (!node || kvfs_node_path(d->fs, node, &path))
		log_error(d->log, "damaged volume %s: %s", d->opt->volume, kv_strerror(err));
	else
		log_error(d->log, "damaged file %.*s: %s", (int)path.len, (const char *)path.data,
			  kv_strerror(err));
	kv_buf_free(&path);
}

void reply_result(fuse_req_t req, struct kvfs_node *node, int err)
{
	reply_damage(op_daemon(req), node, err);
	fuse_reply_err(req, kv_error_to_errno(err));
}

uint64_t reply_ino(const struct kvfsd *d, fuse_ino_t like, uint64_t ino)
{
	return d->opt->snapshot_ino == OPTIONS_INO_UNIQUE ? tree_id(like, ino) : ino;
}

void reply_stat(const struct kvfsd *d, fuse_ino_t like, const struct kvfs_attr *attr,
		struct stat *out)
{
	*out = (struct stat){
		.st_ino = reply_ino(d, like, attr->ino),
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev, /* glibc's and Linux's encodings agree in 32 bits */
		.st_size = (off_t)attr->size,
		.st_blocks = (blkcnt_t)attr->blocks,
		.st_blksize = BLOCK_SIZE,
		.st_atim = {attr->atime.sec, attr->atime.nsec},
		.st_mtim = {attr->mtime.sec, attr->mtime.nsec},
		.st_ctim = {attr->ctime.sec, attr->ctime.nsec},
	};
}

void reply_fill_entry(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		      const struct kvfs_attr *attr, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){
		.ino = tree_id(dir, kvfs_node_ino(node)),
		.attr_timeout = reply_attr_timeout(attr),
		.entry_timeout = (double)REPLY_TIMEOUT_S,
	};
	reply_stat(op_daemon(req), dir, attr, &out->attr);
}

void reply_entry(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		 const struct kvfs_attr *attr)
{
	struct kvfsd *d = op_daemon(req);
	struct fuse_entry_param entry;

	reply_fill_entry(req, dir, node, attr, &entry);
	tree_ref(&d->trees, entry.ino);
	if (fuse_reply_entry(req, &entry))
		op_forget_node(d, entry.ino, 1);
}

void reply_no_entry(fuse_req_t req)
{
	struct fuse_entry_param entry = {.entry_timeout = (double)REPLY_TIMEOUT_S};

	fuse_reply_entry(req, &entry);
}

bool reply_create(fuse_req_t req, fuse_ino_t dir, struct kvfs_node *node,
		  const struct kvfs_attr *attr, const struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct fuse_entry_param entry;

	reply_fill_entry(req, dir, node, attr, &entry);
	tree_ref(&d->trees, entry.ino);
	if (!fuse_reply_create(req, &entry, fi))
		return false;
	op_forget_node(d, entry.ino, 1);
	return true;
}

void reply_attr(fuse_req_t req, fuse_ino_t ino, const struct kvfs_attr *attr)
{
	struct stat st;

	reply_stat(op_daemon(req), ino, attr, &st);
	fuse_reply_attr(req, &st, reply_attr_timeout(attr));
}

void reply_xattr(fuse_req_t req, const struct kv_buf *value, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, value->len);
	else if (value->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)value->data, value->len);
}

int reply_interrupted(void *req, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return fuse_req_interrupted(req);
}
