/* SPDX-License-Identifier: MIT */
/*
 * Inodes: the records of files in memory, decoded with bounds checks from untrusted bytes, encoded
 * from the same structure. Slices borrow from the bytes decoded. Thread
 * safety: one thread per structure.
 */
#ifndef KVFS_INODE_H
#define KVFS_INODE_H

#include <errno.h>
#include <sys/stat.h>

#include "fusefs/model/model.h"

struct inode {
	uint8_t kind;	 /* of a link only type (in mode) and id are meant */
	uint8_t flags;	 /* of MODEL_FLAG_CONTENT the next two tell */
	uint8_t sharing; /* MODEL_CONTENT_* */
	uint32_t mode, uid, gid, nlink, rdev;
	uint64_t id, size, chunks;
	uint64_t content; /* what the chunks' keys begin with, if not the id; else 0 */
	uint64_t atime, mtime, ctime, btime; /* as encoded */
	struct kv_slice prefix, xattrs, contents;
	/* Not of the record: which patch of which chunk the handle wrote last, for chunk.c; 0: it
	 * does not know. */
	uint64_t tail;
};

/* A record with the bytes it borrows from; zero-initialised is empty. */
struct inode_buf {
	struct inode r;
	struct kv_buf raw;
};

uint64_t inode_time(struct kvfs_time t);
struct kvfs_time inode_time_get(uint64_t v);

/* Return: 0, -KV_E_CORRUPT. */
int inode_decode(struct kv_slice in, struct inode *out) KV_MUST_CHECK;
/* @out has MODEL_RECORD_MAX bytes. Returns the bytes written. */
size_t inode_encode(const struct inode *r, uint8_t *out);
void inode_attr(const struct inode *r, struct kvfs_attr *out);

/*
 * Read, under the transaction's lock if @update. @txn NULL: the newest state.
 * Return: 0, -KV_E_NOTFOUND, -KV_E_CORRUPT.
 */
int inode_get(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, bool update,
	      struct inode_buf *out) KV_MUST_CHECK;
int inode_put(struct kv_txn *txn, const struct model_key *key, const struct inode *r) KV_MUST_CHECK;
void inode_buf_free(struct inode_buf *b);

/* A read that is not part of a transaction: the newest value, or the view's. */
int inode_read(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
	       struct kv_buf *value) KV_MUST_CHECK;

/* What the flags that users set forbid: 0 or -EPERM. */
static inline int inode_check_fixed(const struct inode *r)
{
	return r->flags & (MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND) ? -EPERM : 0;
}
static inline int inode_check_immutable(const struct inode *r)
{
	return r->flags & MODEL_FLAG_IMMUTABLE ? -EPERM : 0;
}

/* What the keys of its chunks begin with. */
static inline uint64_t inode_content(const struct inode *r)
{
	return r->content ? r->content : r->id;
}
/* Its chunks are those of @content from now on. See also open_need_format(). */
static inline void inode_set_content(struct inode *r, uint64_t content, uint8_t sharing)
{
	r->content = content == r->id ? 0 : content;
	r->sharing = sharing;
}

static inline bool inode_is_dir(const struct inode *r)
{
	return (r->mode & S_IFMT) == S_IFDIR;
}

#endif
