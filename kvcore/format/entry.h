/* SPDX-License-Identifier: MIT */
/*
 * What the engine stores: versions of keys, references to large values, extents.
 *
 * An ikey ("internal key") is the keyspace as two big-endian bytes followed by
 * the user's key, so all keyspaces live in one ordered space. Entries are
 * ordered by ikey, and the versions of one ikey by falling seq.
 */
#ifndef KVCORE_FORMAT_ENTRY_H
#define KVCORE_FORMAT_ENTRY_H

#include "kvcore/base/cursor.h"
#include "kvcore/format/format.h"

#define IKEY_PREFIX_LEN 2U
#define IKEY_MAX	(KV_KEY_MAX + IKEY_PREFIX_LEN)

struct extent {
	uint64_t off; /* bytes, multiple of FORMAT_BLOCK */
	uint64_t len; /* bytes, multiple of FORMAT_BLOCK */
};

struct entry {
	struct kv_slice key; /* ikey */
	kv_seq seq;
	enum entry_kind kind;
	struct kv_slice value; /* by kind: empty, the bytes, an encoded value_ref, an ikey */
};

/* A large value in a segment. */
struct value_ref {
	uint64_t segment_id;	   /* from 1, never reused */
	uint64_t off;		   /* bytes from the segment's start */
	uint64_t stored_len;	   /* bytes there, blocks and index */
	uint64_t raw_len;	   /* bytes of the value */
	uint8_t sum[CHECKSUM_LEN]; /* of the stored bytes; with an index, of that */
};

/* Blocks of a value that has an index; 0: it is stored as one piece. */
static inline uint64_t value_block_count(uint64_t raw_len)
{
	return raw_len > VALUE_BLOCK ? (raw_len + VALUE_BLOCK - 1) / VALUE_BLOCK : 0;
}
static inline uint64_t value_index_len(uint64_t raw_len)
{
	return value_block_count(raw_len) * sizeof(struct value_block);
}
/* Most bytes that a value may take. */
static inline uint64_t value_stored_max(uint64_t raw_len)
{
	return raw_len + value_index_len(raw_len);
}

/* Encode into @out, which has room for VALUE_REF_MAX; return the length. */
#define VALUE_REF_MAX (4 * 10 + CHECKSUM_LEN)
size_t value_ref_encode(const struct value_ref *ref, uint8_t *out);
/* Return: 0, -KV_E_CORRUPT. */
int value_ref_decode(struct kv_slice in, struct value_ref *out) KV_MUST_CHECK;

/* Build an ikey in @out, which has room for IKEY_MAX; the key is at most KV_KEY_MAX long. */
struct kv_slice ikey_make(uint8_t *out, unsigned keyspace, struct kv_slice key);
static inline unsigned ikey_keyspace(struct kv_slice ikey)
{
	return be16_at(ikey.data);
}
static inline struct kv_slice ikey_user(struct kv_slice ikey)
{
	return kv_slice_of(ikey.data + IKEY_PREFIX_LEN, ikey.len - IKEY_PREFIX_LEN);
}

/* (ikey ascending, seq descending). */
int entry_compare(const struct entry *a, const struct entry *b);

/*
 * Log records. A frame's payload is a sequence of commit records:
 *   varint length of what follows
 *   varint seq
 *   varint number of operations
 *   operations: u8 kind, lenslice ikey, then by kind nothing, lenslice value,
 *               lenslice encoded value_ref, lenslice end ikey
 */
struct record_op {
	enum entry_kind kind;
	struct kv_slice key;   /* ikey */
	struct kv_slice value; /* as struct entry */
};

/* Append one operation's encoding. Return: 0, -ENOMEM. */
int record_op_append(struct kv_buf *out, const struct record_op *op) KV_MUST_CHECK;
/*
 * What stands before the operations of a record; they may follow from elsewhere. Return: its
 * length.
 */
#define RECORD_HEADER_MAX 30U
size_t record_header(kv_seq seq, uint64_t op_count, size_t ops_len, uint8_t out[RECORD_HEADER_MAX]);
/*
 * Append a whole record around operations already encoded by record_op_append().
 */
int record_append(struct kv_buf *payload, kv_seq seq, uint64_t op_count,
		  struct kv_slice encoded_ops) KV_MUST_CHECK;

struct record_reader {
	struct cursor frame; /* of the payload */
	struct cursor ops;   /* of the present record */
	uint64_t ops_left;
};

void record_reader_init(struct record_reader *r, struct kv_slice payload);
/* Return: 0, -KV_E_NOTFOUND (end), -KV_E_CORRUPT. */
int record_reader_next(struct record_reader *r, kv_seq *seq) KV_MUST_CHECK;
/* Operations of the record last returned. Keys and kinds are validated. Same returns. */
int record_reader_op(struct record_reader *r, struct record_op *op) KV_MUST_CHECK;

#endif
