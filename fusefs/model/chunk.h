/* SPDX-License-Identifier: MIT */
/*
 * File contents in chunks of MODEL_CHUNK bytes, keyed by content id. A chunk is a
 * base (its bytes from the start; what is missing at the end is zeros) and
 * patches over it in the order of their stamps; one that is absent is a hole.
 * No byte beyond the file's size is stored, so a file that grows shows zeros.
 *
 * Thread safety: each call works in a transaction that holds the lock of the
 * file's record, or only reads. Functions that take a struct inode keep its
 * count of chunks, and expect its size to be that from before the change. Those that
 * change chunks expect contents that nobody else has (share_own()).
 */
#ifndef KVFS_CHUNK_H
#define KVFS_CHUNK_H

#include "fusefs/model/inode.h"

void chunk_key(uint64_t id, uint64_t chunk, uint32_t stamp, struct model_key *out);
/* -KV_E_CORRUPT. */
int chunk_key_decode(struct kv_slice key, uint64_t *id, uint64_t *chunk, uint32_t *stamp)
	KV_MUST_CHECK;
/* The place and bytes of a base or patch within its chunk. -KV_E_CORRUPT. */
int chunk_part_decode(struct kv_slice value, uint32_t stamp, uint32_t *off, struct kv_slice *bytes)
	KV_MUST_CHECK;

/* An iterator over what is stored of the chunks [@from, @to) of contents @id. */
int chunk_iter_open(struct kv_txn *txn, uint64_t id, uint64_t from, uint64_t to,
		    struct kv_iter **out) KV_MUST_CHECK;
/* @len bytes from @off into @out, which the caller has filled with zeros. */
int chunk_read(struct kv_txn *txn, uint64_t id, uint64_t off, size_t len, uint8_t *out)
	KV_MUST_CHECK;
int chunk_write(struct kv_txn *txn, struct inode *r, uint64_t off, struct kv_slice data)
	KV_MUST_CHECK;
/* Drop what lies at @size and beyond. */
int chunk_truncate(struct kv_txn *txn, struct inode *r, uint64_t size) KV_MUST_CHECK;
/* Bytes from @from to @to (at most the size) become zeros, whole chunks holes. */
int chunk_zero(struct kv_txn *txn, struct inode *r, uint64_t from, uint64_t to) KV_MUST_CHECK;
/* The record gives up its chunks: if nobody else has them they are deleted. */
int chunk_remove_all(struct kv_txn *txn, const struct inode *r) KV_MUST_CHECK;
/* How many of the chunks with bytes of [@from, @to) are not there; @to may lie beyond the size. */
int chunk_lacking(struct kv_txn *txn, const struct inode *r, uint64_t from, uint64_t to,
		  uint64_t *out) KV_MUST_CHECK;

/* Where the next data or the next hole is. */
struct chunk_seek {
	uint64_t off;  /* begin here; then the answer or, if not @found, where to go on */
	bool data;     /* data is wanted, else a hole */
	bool contents; /* blocks of zeros in a chunk that exists are holes, too; it is read */
	bool found;
};
/*
 * One step over a bounded number of chunks. The answer may be the size or beyond: there is no
 * more data, or the only hole is the end. A large file all chunks of which exist is all data.
 */
int chunk_seek(struct kv_txn *txn, const struct inode *r, struct chunk_seek *s) KV_MUST_CHECK;
/* The first offset at or after @off in a chunk that exists; the size or beyond if there is none. */
int chunk_next(struct kv_txn *txn, const struct inode *r, uint64_t off, uint64_t *out)
	KV_MUST_CHECK;

static inline uint64_t chunk_span(uint64_t size)
{
	return size / MODEL_CHUNK + (size % MODEL_CHUNK != 0);
}

#endif
