/* SPDX-License-Identifier: MIT */
/* Scanning keys in a transaction's snapshot. Thread safety: that of the transaction. */
#ifndef KVFS_SCAN_H
#define KVFS_SCAN_H

#include "fusefs/model/inode.h"

/*
 * @merge: called before each key with its path ('/' as byte 0), to emit others that stand before
 * it and to say whether to skip it; NULL for none. Nonzero from it or from @emit stops.
 */
struct scan_run {
	struct kvfs *fs;
	const struct kvfs_scan *scan;
	int (*merge)(void *merge_ctx, struct kv_slice path, bool *skip);
	void *merge_ctx;
	int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value);
	void *ctx;
};
/* Return: 0 when done, the nonzero result of a callback, or an error. */
int scan_run(struct kv_txn *txn, const struct scan_run *s) KV_MUST_CHECK;

/* A bound as a path with byte 0 for '/'; @out is owned by the caller. */
int scan_convert(struct kv_slice key, struct kv_buf *out) KV_MUST_CHECK;

#endif
