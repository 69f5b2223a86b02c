/* SPDX-License-Identifier: MIT */
/*
 * For transactions that live long and write much: to be told what they wrote, and to be brought up
 * to the present without locks before the commit. Included by kvcore.h, whose conventions hold.
 */
#ifndef KVCORE_KV_REBASE_H
#define KVCORE_KV_REBASE_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv_txn;

/**
 * kv_txn_scan_writes() - what a transaction has written so far, in the order of the keys
 * @keyspace: of which
 * @from:     first key wanted; empty: the keyspace's first
 * @emit:     called for each key it put or, @deleted, deleted one by one; what it deleted as a
 *            range is not told. Nonzero stops. It may read through the transaction and write:
 * whether keys that it adds come up is not defined.
 *
 * Return: 0, what @emit returned, -KV_E_INVALID (a bound or keyspace), errors of reading.
 */
KV_API int kv_txn_scan_writes(struct kv_txn *txn, unsigned keyspace, struct kv_slice from,
			      int (*emit)(void *ctx, struct kv_slice key, bool deleted), void *ctx)
	KV_MUST_CHECK;

/**
 * kv_txn_watch_reads() - whether what a serializable transaction reads must not have changed
 * @txn:   of KV_TXN_REBASE; it begins with true
 * @watch: false: until the next call, reads through it are those of a spectator, who reports
 *         what was written, and decide nothing at the commit
 *
 * Return: 0, -KV_E_INVALID (another kind).
 */
KV_API int kv_txn_watch_reads(struct kv_txn *txn, bool watch) KV_MUST_CHECK;

enum kv_rebase_kind {
	KV_REBASE_WRITTEN,    /* a key that the transaction wrote */
	KV_REBASE_READ,	      /* a key that it read */
	KV_REBASE_READ_RANGE, /* a range that it read: its first key */
	KV_REBASE_END,	      /* last and in any case, with no key: for what no key tells */
};

/**
 * kv_txn_rebase() - bring a transaction of KV_TXN_REBASE up to the present before its commit
 * @changed: called for what somebody else has changed after the transaction's snapshot: first
 *           for keys that it wrote, in order; then, if it is serializable, for what it read. It may
 *           read, also through the transaction, which still sees its snapshot. Negative stops;
 *           positive goes on, but the snapshot stays and that is returned in the end.
 *
 * For a transaction that is too large to lock all its keys at once, or whose owner can tell
 * which changes do no harm. If all calls return 0, its snapshot is the present from then on, with
 * its own writes over it. The caller keeps everybody else from writing what it wrote and read,
 * from before the call to the end of the commit.
 *
 * Return: 0, what @changed returned, -KV_E_INVALID (another kind, or an iterator is open).
 */
KV_API int kv_txn_rebase(struct kv_txn *txn,
			 int (*changed)(void *ctx, enum kv_rebase_kind kind, unsigned keyspace,
					struct kv_slice key),
			 void *ctx) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
