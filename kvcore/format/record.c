/* SPDX-License-Identifier: MIT */
/*
 * Commit records of the log, declared in entry.h. Operations are encoded as they
 * are made and framed at commit, when their number and the sequence number are
 * known: a commit copies bytes and encodes nothing again. Reading validates
 * whatever a key or a reference may not be, because a checksum only proves that
 * the bytes are those that some program wrote.
 */
#include <errno.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/varint.h"
#include "kvcore/format/entry.h"

int record_op_append(struct kv_buf *out, const struct record_op *op)
{
	size_t before = out->len;
	int err;

	KV_ASSERT(op->kind <= ENTRY_RANGE_DELETE);
	err = buf_append_byte(out, (uint8_t)op->kind);
	if (!err)
		err = buf_append_lenslice(out, op->key);
	if (!err && op->kind != ENTRY_DELETE)
		err = buf_append_lenslice(out, op->value);
	if (err)
		out->len = before;
	return err;
}

size_t record_header(kv_seq seq, uint64_t op_count, size_t ops_len, uint8_t out[RECORD_HEADER_MAX])
{
	size_t n = varint_put(out, varint_len(seq) + varint_len(op_count) + ops_len);

	n += varint_put(out + n, seq);
	return n + varint_put(out + n, op_count);
}

int record_append(struct kv_buf *payload, kv_seq seq, uint64_t op_count,
		  struct kv_slice encoded_ops)
{
	uint8_t header[RECORD_HEADER_MAX];
	int err;

	if (encoded_ops.len > PTRDIFF_MAX - sizeof(header))
		return -ENOMEM;
	err = buf_reserve(payload, sizeof(header) + encoded_ops.len);
	if (err)
		return err;
	err = buf_append(payload, header, record_header(seq, op_count, encoded_ops.len, header));
	return err ? err : buf_append_slice(payload, encoded_ops); /* cannot fail: reserved */
}

void record_reader_init(struct record_reader *r, struct kv_slice payload)
{
	r->frame = cursor_of(payload);
	r->ops = cursor_of(kv_slice_of(NULL, 0));
	r->ops_left = 0;
}

int record_reader_next(struct record_reader *r, kv_seq *seq)
{
	uint64_t found;

	if (r->frame.bad)
		return -KV_E_CORRUPT;
	if (!cursor_left(&r->frame))
		return -KV_E_NOTFOUND;
	r->ops = cursor_of(cursor_lenslice(&r->frame));
	r->ops.bad = r->frame.bad;
	found = cursor_varint(&r->ops);
	r->ops_left = cursor_varint(&r->ops);
	/* Each operation takes more than a byte, so this bounds what a caller may allocate. */
	if (r->ops.bad || !found || r->ops_left > cursor_left(&r->ops)) {
		r->frame.bad = true;
		return -KV_E_CORRUPT;
	}
	*seq = found;
	return 0;
}

/* A bound of a range may have an empty user key, a stored key may not. */
static bool record_key_ok(struct kv_slice key, bool bound)
{
	return key.len >= IKEY_PREFIX_LEN + (bound ? 0U : 1U) && key.len <= IKEY_MAX;
}

static bool record_op_ok(const struct record_op *op)
{
	struct value_ref ref;

	if (!record_key_ok(op->key, op->kind == ENTRY_RANGE_DELETE))
		return false;
	switch (op->kind) {
	case ENTRY_DELETE:
		return true;
	case ENTRY_PUT:
		return op->value.len <= KV_VALUE_MAX;
	case ENTRY_PUT_REF:
		return !value_ref_decode(op->value, &ref);
	case ENTRY_RANGE_DELETE:
		return record_key_ok(op->value, true) && slice_compare(op->key, op->value) <= 0;
	}
	return false;
}

int record_reader_op(struct record_reader *r, struct record_op *op)
{
	struct record_op found = {.kind = ENTRY_DELETE};
	uint8_t kind;

	if (r->ops.bad)
		return -KV_E_CORRUPT;
	if (!r->ops_left)
		return cursor_finish(&r->ops) ? -KV_E_CORRUPT : -KV_E_NOTFOUND;
	kind = cursor_u8(&r->ops);
	found.key = cursor_lenslice(&r->ops);
	if (kind != ENTRY_DELETE)
		found.value = cursor_lenslice(&r->ops);
	if (kind > ENTRY_RANGE_DELETE)
		r->ops.bad = true;
	found.kind = (enum entry_kind)kind;
	if (r->ops.bad || !record_op_ok(&found)) {
		r->ops.bad = true;
		return -KV_E_CORRUPT;
	}
	r->ops_left--;
	*op = found;
	return 0;
}
