/* SPDX-License-Identifier: MIT */
/*
 * Values in parts: reading some bytes of a large value without the rest, and writing one as it
 * comes, in bounded memory.
 */
#ifndef KVCORE_KV_PARTS_H
#define KVCORE_KV_PARTS_H

#include "kvcore/kvcore.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv_value; /* one that is being written in pieces */

/* Bytes of a value: from @off on, at most @len. */
struct kv_part {
	uint64_t off, len;
};

/**
 * kv_txn_get_part() - read a part of a value as of the transaction's snapshot
 * @off:       first byte; @len: bytes at most; both are cut at the value's end
 * @value:     as for kv_txn_get()
 * @value_len: receives the length of the whole value; may be NULL
 *
 * Of a value stored outside the tree only the 64 KiB blocks in which the part lies are read
 * and verified.
 *
 * Return: 0, -KV_E_NOTFOUND, -KV_E_INVALID.
 */
KV_API int kv_txn_get_part(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			   const struct kv_part *part, struct kv_buf *value, uint64_t *value_len)
	KV_MUST_CHECK;

/**
 * kv_txn_put_begin() - set a key to a value that is given in pieces; takes its lock
 * @value_len: of the whole, 0 to KV_VALUE_MAX; its space is reserved by the call
 * @out:       ended by kv_value_finish() or kv_value_abandon(), before the transaction
 *
 * At most two blocks of 64 KiB are in memory. Until it is finished the key is as before.
 * Thread safety: that of the transaction.
 *
 * Return: as kv_txn_put().
 */
KV_API int kv_txn_put_begin(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
			    uint64_t value_len, struct kv_value **out) KV_MUST_CHECK;
/* kv_value_append() - the next bytes. -KV_E_INVALID: more than were announced; nothing is added. */
KV_API int kv_value_append(struct kv_value *value, struct kv_slice bytes) KV_MUST_CHECK;
/* kv_value_finish() - the put happens. Released whatever the result; -KV_E_INVALID: bytes are
 * missing. */
KV_API int kv_value_finish(struct kv_value *value) KV_MUST_CHECK;
KV_API void kv_value_abandon(struct kv_value *value); /* NULL is allowed */

/**
 * kv_iter_value_part() - a part of the value the iterator stands on
 * @part:  cut at the value's end
 * @value: receives a copy; as for kv_txn_get()
 *
 * As kv_txn_get_part(). -KV_E_INVALID: not positioned.
 */
KV_API int kv_iter_value_part(struct kv_iter *iter, const struct kv_part *part,
			      struct kv_buf *value) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
