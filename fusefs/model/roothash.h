/* SPDX-License-Identifier: MIT */
/*
 * The root hash: one number for all of a tree that users see, whatever its ids, the same on any
 * volume. It is a sum of one term for each path and one for each chunk of contents that is
 * not zeros (docs/format.md, section 10.4), so it is brought from one state to another by
 * taking away what was and adding what is, at the cost of the difference: the
 * incremental hash AdHash of Bellare and Micciancio (A New Paradigm for Collision-free
 * Hashing, 1997), modulo 2^2048. Thread safety: one thread per structure.
 */
#ifndef KVFS_ROOTHASH_H
#define KVFS_ROOTHASH_H

#include "fusefs/model/inode.h"
#include "kvcore/kv_digest.h"

#define ROOTHASH_SUM  256U    /* bytes of the sum, little-endian */
#define ROOTHASH_META "hash:" /* key of MODEL_META: this and the name of a snapshot */

struct roothash {
	struct kv_digest *digest;
	uint8_t sum[ROOTHASH_SUM];
	struct kv_buf bytes; /* scratch */
	struct kv_buf xattrs;
};

int roothash_init(struct roothash *h) KV_MUST_CHECK;
void roothash_fini(struct roothash *h);

/*
 * Add (or take away) the term of the file @r at @path (byte 0 for '/'), without its chunks.
 * @xattrs: as roothash_xattrs() has them
 */
int roothash_entry(struct roothash *h, struct kv_slice path, const struct inode *r,
		   struct kv_slice xattrs, bool add) KV_MUST_CHECK;
/* The same of one chunk, zeros at its end or not. */
int roothash_chunk(struct roothash *h, struct kv_slice path, uint64_t chunk, struct kv_slice bytes,
		   bool add) KV_MUST_CHECK;
/* The chunk as it is in a file, whole or not. */
int roothash_read_chunk(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
			const struct inode *r, uint64_t chunk, bool add) KV_MUST_CHECK;
/* All chunks of a regular file. */
int roothash_contents(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
		      const struct inode *r, bool add) KV_MUST_CHECK;
/* A file with its attributes, and its contents if @contents. */
int roothash_file(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
		  const struct inode *r, bool contents, bool add) KV_MUST_CHECK;
/*
 * All that is at and below @dir of a state, by the paths from @base on (@dir begins with it; both
 * without a separator at their end).
 */
int roothash_tree(struct roothash *h, struct kv_txn *txn, struct kv_slice base, struct kv_slice dir,
		  bool add) KV_MUST_CHECK;
/* The hash that users see. */
int roothash_final(struct roothash *h, uint8_t out[KV_DIGEST_LEN]) KV_MUST_CHECK;

/* All attributes of a file in order of names: each le16 and le32 lengths, name, value. */
int roothash_xattrs(struct kv_txn *txn, const struct inode *r, struct kv_buf *out) KV_MUST_CHECK;

/*
 * What is remembered of a snapshot, so that the next one costs the difference.
 * Return: 0, -KV_E_NOTFOUND.
 */
int roothash_remembered(struct kvfs *fs, const char *name, uint8_t sum[ROOTHASH_SUM]) KV_MUST_CHECK;
/* It only saves work: where nothing can be written, on a full volume too, nothing happens. */
int roothash_remember(struct kvfs *fs, const char *name, const uint8_t sum[ROOTHASH_SUM])
	KV_MUST_CHECK;

/* The snapshot was dropped. Nothing happens if nothing was remembered. */
int roothash_forget(struct kvfs *fs, const char *name) KV_MUST_CHECK;

#endif
