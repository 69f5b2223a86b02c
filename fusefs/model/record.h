/* SPDX-License-Identifier: MIT */
/*
 * Records in memory: decoded with bounds checks from untrusted bytes, encoded
 * from the same structure. Slices borrow from the bytes decoded. Thread
 * safety: one thread per structure.
 */
#ifndef KVFS_RECORD_H
#define KVFS_RECORD_H

#include <sys/stat.h>

#include "fusefs/model/model.h"

struct record {
	uint8_t kind; /* of a link only type (in mode) and id are meant */
	uint8_t flags;
	uint32_t mode, uid, gid, nlink, rdev;
	uint64_t id, size, chunks;
	uint64_t atime, mtime, ctime, btime; /* as encoded */
	struct kv_slice prefix, xattrs, contents;
};

/* A record with the bytes it borrows from; zero-initialised is empty. */
struct record_buf {
	struct record r;
	struct kv_buf raw;
};

uint64_t record_time(struct kvfs_time t);
struct kvfs_time record_time_get(uint64_t v);

/* Return: 0, -KV_E_CORRUPT. */
int record_decode(struct kv_slice in, struct record *out) KV_MUST_CHECK;
/* @out has MODEL_RECORD_MAX bytes. Returns the bytes written. */
size_t record_encode(const struct record *r, uint8_t *out);
void record_attr(const struct record *r, struct kvfs_attr *out);

/*
 * Read, under the transaction's lock if @update. @txn NULL: the newest state.
 * Return: 0, -KV_E_NOTFOUND, -KV_E_CORRUPT.
 */
int record_get(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, bool update,
	       struct record_buf *out) KV_MUST_CHECK;
int record_put(struct kv_txn *txn, const struct model_key *key, const struct record *r)
	KV_MUST_CHECK;
void record_buf_free(struct record_buf *b);

/* A read that is not part of a transaction: the newest value, or the view's. */
int record_read(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
		struct kv_buf *value) KV_MUST_CHECK;

static inline bool record_is_dir(const struct record *r)
{
	return (r->mode & S_IFMT) == S_IFDIR;
}

#endif
