/* SPDX-License-Identifier: MIT */
/* What differs between two states of a database, at the cost of the difference. */
#ifndef KVCORE_KV_DIFF_H
#define KVCORE_KV_DIFF_H

#include "kvcore/kvcore.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv_diff;

/**
 * kv_diff_open() - iterate over the keys that were written between two states
 * @from, @to: read-only transactions of one database, in either order of age; must outlive the
 *             iterator
 * @range:     NULL for the whole keyspace; copied
 * @out:       before the first key; closed with kv_diff_close()
 *
 * Every key that is different in the two states is found, each once, in order. A key that was
 * written and has its former value again is found too; one that is in neither state is not.
 *
 * Tables in which nothing is newer than the older state are not looked at, so the cost is that of
 * what was written since, and of what compaction has put into one table with it.
 *
 * Thread safety: that of the transactions.
 * Return: 0, -KV_E_INVALID (a transaction that is not read-only, or two databases').
 */
KV_API int kv_diff_open(struct kv_txn *from, struct kv_txn *to, unsigned keyspace,
			const struct kv_range *range, struct kv_diff **out) KV_MUST_CHECK;
KV_API void kv_diff_close(struct kv_diff *diff); /* NULL is allowed */

/* kv_diff_next() - go to the next key. Return: 0, -KV_E_NOTFOUND at the end, errors of reading. */
KV_API int kv_diff_next(struct kv_diff *diff) KV_MUST_CHECK;

/* kv_diff_key() - the key it stands on; borrowed until it moves or closes. */
KV_API struct kv_slice kv_diff_key(const struct kv_diff *diff);

/**
 * kv_diff_old(), kv_diff_new() - the value in the state @from, or @to
 * @value: as for kv_txn_get(); NULL only asks
 *
 * Return: 0, -KV_E_NOTFOUND (it is not there).
 */
KV_API int kv_diff_old(struct kv_diff *diff, struct kv_buf *value) KV_MUST_CHECK;
KV_API int kv_diff_new(struct kv_diff *diff, struct kv_buf *value) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
