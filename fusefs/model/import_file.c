/* SPDX-License-Identifier: MIT */
/*
 * Bulk load of one file: contents with their holes, attributes, and the names
 * of files that have several. The record of such a file is kept in memory until
 * the end and written anew with each further name, since a batch cannot be read.
 */
#include "fusefs/model/import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/xattr.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

struct import_link {
	uint64_t dev, ino; /* of the host */
	uint64_t id;	   /* here; 0: the slot is free */
	struct kv_buf record;
};

void import_free(struct import *im)
{
	for (size_t i = 0; i < im->link_cap; i++)
		kv_buf_free(&im->links[i].record);
	free(im->links);
	free(im->stack);
	kv_batch_free(im->batch);
	kv_buf_free(&im->path);
	kv_buf_free(&im->xattrs);
	kv_buf_free(&im->data);
	kv_buf_free(&im->names);
	free(im);
}

/* The slot of a host file, free or not. */
static struct import_link *import_link_slot(struct import_link *links, size_t cap, uint64_t dev,
					    uint64_t ino)
{
	size_t i = hash_u64(ino ^ hash_u64(dev)) & (cap - 1);

	while (links[i].id && (links[i].dev != dev || links[i].ino != ino))
		i = (i + 1) & (cap - 1);
	return &links[i];
}

/* Keep the table at most half full. */
static int import_link_reserve(struct import *im)
{
	size_t cap = im->link_cap ? im->link_cap * 2 : 256;
	struct import_link *links;

	if (im->link_count * 2 < im->link_cap)
		return 0;
	links = calloc(cap, sizeof(*links));
	if (!links)
		return -ENOMEM;
	for (size_t i = 0; i < im->link_cap; i++)
		if (im->links[i].id)
			*import_link_slot(links, cap, im->links[i].dev, im->links[i].ino) =
				im->links[i];
	free(im->links);
	im->links = links;
	im->link_cap = cap;
	return 0;
}

static struct kvfs_time import_time(struct timespec ts)
{
	return (struct kvfs_time){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

void import_attr(const struct stat *st, struct inode *out)
{
	*out = (struct inode){
		.kind = MODEL_RECORD_FULL,
		.mode = st->st_mode & (S_IFMT | 07777U),
		.uid = st->st_uid,
		.gid = st->st_gid,
		.nlink = 1,
		.atime = inode_time(import_time(st->st_atim)),
		.mtime = inode_time(import_time(st->st_mtim)),
		.ctime = inode_time(import_time(st->st_ctim)),
	};
	out->btime = inode_time(kvfs_now());
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		out->rdev = (minor(st->st_rdev) & 0xffU) | (major(st->st_rdev) & 0xfffU) << 8 |
			    (minor(st->st_rdev) & ~0xffU) << 12;
}

/* ---- attributes ---- */

static int import_xattr_one(struct import *im, int fd, const char *path, const char *name,
			    struct inode *r)
{
	struct kv_slice n = kv_slice_of(name, strlen(name)), value, v;
	struct kv_buf fresh = {0};
	struct model_key key;
	ssize_t len;
	int err;

	buf_clear(&im->data);
	err = buf_reserve(&im->data, KVFS_XATTR_VALUE_MAX);
	if (err)
		return err;
	len = path ? lgetxattr(path, name, im->data.data, KVFS_XATTR_VALUE_MAX)
		   : fgetxattr(fd, name, im->data.data, KVFS_XATTR_VALUE_MAX);
	if (len < 0)
		return errno == ENODATA || errno == EPERM || errno == EACCES ? 0 : -errno;
	value = kv_slice_of(im->data.data, (size_t)len);
	v = value;
	if (value.len > MODEL_XATTR_VALUE_MAX ||
	    im->xattrs.len + sizeof(struct model_xattr) + n.len + value.len > MODEL_XATTRS_MAX) {
		r->flags |= MODEL_FLAG_XATTRS;
		xattr_key(r->id, n, &key);
		return import_put(im, &key, value);
	}
	err = xattr_rebuild(kv_buf_slice(&im->xattrs), n, &v, &fresh);
	if (err) {
		kv_buf_free(&fresh);
		return err;
	}
	kv_buf_free(&im->xattrs);
	im->xattrs = fresh;
	return 0;
}

int import_xattrs(struct import *im, int fd, const char *path, struct inode *r)
{
	ssize_t len;
	size_t off = 0;
	int err;

	buf_clear(&im->xattrs);
	buf_clear(&im->names);
	err = buf_reserve(&im->names, KVFS_XATTR_LIST_MAX);
	if (err)
		return err;
	len = path ? llistxattr(path, (char *)im->names.data, KVFS_XATTR_LIST_MAX)
		   : flistxattr(fd, (char *)im->names.data, KVFS_XATTR_LIST_MAX);
	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	while (off < (size_t)len && !err) {
		const char *name = (const char *)im->names.data + off;
		size_t name_len = strnlen(name, (size_t)len - off);

		if (name_len && name_len <= KVFS_XATTR_NAME_MAX)
			err = import_xattr_one(im, fd, path, name, r);
		off += name_len + 1;
	}
	r->xattrs = kv_buf_slice(&im->xattrs);
	return err;
}

/* ---- contents ---- */

/* Exactly what is at @off, up to @len bytes; fewer at the end of a file that shrank. */
static int import_pread(int fd, uint8_t *out, size_t len, uint64_t off, size_t *got)
{
	ssize_t n;

	*got = 0;
	while (*got < len) {
		n = pread(fd, out + *got, len - *got, (off_t)(off + *got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		*got += (size_t)n;
	}
	return 0;
}

/* The chunk at @off; 0 bytes at the end of the file. */
static int import_chunk(struct import *im, int fd, struct inode *r, uint64_t off)
{
	struct model_key key;
	size_t got;
	int err;

	buf_clear(&im->data);
	err = buf_reserve(&im->data, MODEL_CHUNK);
	if (!err)
		err = import_pread(fd, im->data.data, min_u64(MODEL_CHUNK, r->size - off), off,
				   &got);
	if (err)
		return err;
	chunk_key(r->id, off / MODEL_CHUNK, 0, &key);
	r->chunks++;
	err = import_put(im, &key, kv_slice_of(im->data.data, got));
	if (!err && im->bytes >= im->bytes_max)
		err = import_flush(im);
	return err;
}

/*
 * Contents in chunks, hole by hole. Batches that are written before the record
 * is there are chunks of no file: import_settle() removes them, or fsck after a crash.
 */
static int import_chunks(struct import *im, int fd, struct inode *r)
{
	uint64_t off = 0, hole;
	off_t at;
	int err = 0;

	r->flags |= MODEL_FLAG_CHUNKS;
	im->partial = r->id;
	while (off < r->size && !err) {
		at = lseek(fd, (off_t)off, SEEK_DATA);
		if (at < 0 && errno == ENXIO)
			break;
		if (at > 0)
			off = max_u64(off, align_down_u64((uint64_t)at, MODEL_CHUNK));
		at = lseek(fd, (off_t)max_u64(off, at > 0 ? (uint64_t)at : 0), SEEK_HOLE);
		hole = at < 0 ? r->size : min_u64((uint64_t)at, r->size);
		for (; off < hole && !err; off += MODEL_CHUNK)
			err = import_chunk(im, fd, r, off);
	}
	return err;
}

static int import_contents(struct import *im, int fd, struct inode *r)
{
	size_t got;
	int err;

	if (r->size > KVFS_FILE_MAX)
		return -EFBIG;
	if (r->size > MODEL_INLINE_MAX)
		return import_chunks(im, fd, r);
	buf_clear(&im->data);
	err = buf_reserve(&im->data, MODEL_INLINE_MAX);
	if (!err)
		err = import_pread(fd, im->data.data, r->size, 0, &got);
	if (err)
		return err;
	r->size = got;
	r->contents = kv_slice_of(im->data.data, got);
	return 0;
}

static int import_regular(struct import *im, int dir_fd, const char *name, const struct stat *st,
			  struct inode *r)
{
	int fd, err;

	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r->size = (uint64_t)st->st_size;
	/* The attributes first: they use the buffer that the contents are left in. */
	err = import_xattrs(im, fd, NULL, r);
	if (!err)
		err = import_contents(im, fd, r);
	close(fd);
	return err;
}

static int import_symlink(struct import *im, int dir_fd, const char *name, struct inode *r)
{
	ssize_t len;
	int err;

	err = buf_append_byte(&im->path, 0);
	if (err)
		return err;
	im->path.len--;
	err = import_xattrs(im, -1, (const char *)im->path.data, r);
	if (err)
		return err;
	buf_clear(&im->data);
	err = buf_reserve(&im->data, KVFS_SYMLINK_MAX + 1);
	if (err)
		return err;
	len = readlinkat(dir_fd, name, (char *)im->data.data, KVFS_SYMLINK_MAX + 1);
	if (len < 0)
		return -errno;
	if ((size_t)len > KVFS_SYMLINK_MAX || !len)
		return -ENAMETOOLONG;
	r->size = (uint64_t)len;
	r->contents = kv_slice_of(im->data.data, (size_t)len);
	return 0;
}

static int import_load(struct import *im, int dir_fd, const char *name, const struct stat *st,
		       struct inode *r)
{
	int err;

	import_attr(st, r);
	err = kvfs_new_id(im->fs, &r->id);
	if (err)
		return err;
	if (S_ISREG(st->st_mode))
		return import_regular(im, dir_fd, name, st, r);
	if (S_ISLNK(st->st_mode))
		return import_symlink(im, dir_fd, name, r);
	err = buf_append_byte(&im->path, 0);
	if (err)
		return err;
	im->path.len--;
	return import_xattrs(im, -1, (const char *)im->path.data, r);
}

/* ---- names ---- */

/* A further name of a file that is here already: only its count changes. */
static int import_link_again(struct import *im, struct import_link *l, const struct model_key *key)
{
	struct inode r, link;
	struct model_key inode;
	struct le32 nlink;
	int err;

	err = inode_decode(kv_buf_slice(&l->record), &r);
	if (err)
		return err;
	if (r.nlink >= KVFS_LINK_MAX)
		return -EMLINK;
	r.nlink++;
	nlink = le32_of(r.nlink);
	memcpy(l->record.data + offsetof(struct model_record, nlink), &nlink, sizeof(nlink));
	place_id(MODEL_INODES, r.id, &inode);
	err = import_put(im, &inode, kv_buf_slice(&l->record));
	if (err)
		return err;
	link = (struct inode){.kind = MODEL_RECORD_LINK, .mode = r.mode, .id = r.id};
	return import_put_record(im, key, &link);
}

static int import_link_first(struct import *im, const struct stat *st, const struct inode *r,
			     const struct model_key *key)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct import_link *l;
	struct inode link;
	struct model_key inode;
	int err;

	l = import_link_slot(im->links, im->link_cap, st->st_dev, st->st_ino);
	err = buf_assign(&l->record, kv_slice_of(raw, inode_encode(r, raw)));
	if (err)
		return err;
	l->dev = st->st_dev;
	l->ino = st->st_ino;
	l->id = r->id;
	im->link_count++;
	place_id(MODEL_INODES, r->id, &inode);
	err = import_put(im, &inode, kv_buf_slice(&l->record));
	if (err)
		return err;
	link = (struct inode){.kind = MODEL_RECORD_LINK, .mode = r->mode, .id = r->id};
	return import_put_record(im, key, &link);
}

int import_file(struct import *im, int dir_fd, const char *name, const struct stat *st,
		const struct model_key *key)
{
	struct import_link *l;
	struct inode r;
	int err;

	if (st->st_nlink > 1) {
		err = import_link_reserve(im);
		if (err)
			return err;
		l = import_link_slot(im->links, im->link_cap, st->st_dev, st->st_ino);
		if (l->id)
			return import_link_again(im, l, key);
	}
	err = import_load(im, dir_fd, name, st, &r);
	if (err)
		return err;
	err = st->st_nlink > 1 ? import_link_first(im, st, &r, key)
			       : import_put_record(im, key, &r);
	if (!err)
		im->partial = 0;
	return err;
}
