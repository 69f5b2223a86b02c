/* SPDX-License-Identifier: MIT */
/*
 * Values in parts. Reading one finds the entry as any read does and then only the blocks
 * that are asked for. Writing one goes to a segment as it comes, and becomes an operation of
 * the transaction at its end; a value too small for a segment is gathered in memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"
#include "kvcore/engine/writeset.h"

struct kv_value {
	struct kv_txn *txn;
	struct values_writer *writer; /* NULL: it is gathered in small */
	uint64_t len;
	struct kv_buf small;
	size_t ikey_len;
	uint8_t ikey[IKEY_MAX];
};

/* ---- reading ---------------------------------------------------------------------- */

int txn_copy_part(struct kv_slice value, const struct kv_part *part, struct kv_buf *out)
{
	uint64_t off = min_u64(part->off, value.len);

	return buf_assign(out, kv_slice_of(value.data ? value.data + off : NULL,
					   (size_t)min_u64(part->len, value.len - off)));
}

/* The entry, own or committed, with its value or the reference to it. */
static int find_entry(struct kv_txn *txn, struct kv_slice ikey, struct view *v,
		      enum entry_kind *kind, struct kv_buf *entry)
{
	struct kv_slice own;
	int err = -KV_E_NOTFOUND;

	if (txn->writes)
		err = writeset_get(txn->writes, ikey, kind, &own);
	if (err == -KV_E_NOTFOUND)
		return view_find_key(v, ikey,
				     txn_reads_newest(txn) ? snapshots_visible(txn->db->snapshots)
							   : txn->snapshot,
				     kind, entry);
	if (err)
		return err;
	return *kind == ENTRY_DELETE ? -KV_E_NOTFOUND : buf_assign(entry, own);
}

/* @v also holds the segment of an own value. */
static int read_part(struct kv_txn *txn, struct kv_slice ikey, struct view *v,
		     const struct kv_part *part, struct kv_buf *value, uint64_t *value_len)
{
	struct kv_buf entry = {0};
	enum entry_kind kind;
	struct value_ref ref;
	int err = find_entry(txn, ikey, v, &kind, &entry);

	if (err)
		goto out;
	if (kind == ENTRY_PUT) {
		ref.raw_len = entry.len;
		err = txn_copy_part(kv_buf_slice(&entry), part, value);
	} else {
		err = value_ref_decode(kv_buf_slice(&entry), &ref);
		if (!err)
			err = values_get_part(txn->db->values, v->version, &ref,
					      (struct value_part){part->off, part->len}, value);
	}
	if (!err && value_len)
		*value_len = ref.raw_len;
out:
	kv_buf_free(&entry);
	return err;
}

int kv_txn_get_part(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
		    const struct kv_part *part, struct kv_buf *value, uint64_t *value_len)
{
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey;
	struct view_pin pin;
	bool current;
	int err = txn_ikey(buf, keyspace, key, &ikey);

	if (!err)
		err = txn_lock_read(txn, ikey);
	if (!err && !txn_reads_newest(txn))
		err = txn_ensure_snapshot(txn);
	if (err)
		return err;
	do { /* as view_read_newest() */
		pin = view_pin(txn->db);
		err = read_part(txn, ikey, pin.view, part, value, value_len);
		current = view_unpin(txn->db, &pin);
	} while (err && err != -KV_E_NOTFOUND && !current);
	return err;
}

/* ---- writing ------------------------------------------------------------------------ */

static int begin_large(struct kv_value *v)
{
	struct kv_db *db = v->txn->db;
	unsigned tries = 0;
	int err = values_writer_new(db->values, v->len, SPACE_VALUE, &v->writer);

	while (err == -KV_E_NOSPACE && reclaim_space(db, true, &tries))
		err = values_writer_new(db->values, v->len, SPACE_VALUE, &v->writer);
	return err;
}

int kv_txn_put_begin(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, uint64_t value_len,
		     struct kv_value **out)
{
	struct kv_value *v;
	struct kv_slice ikey;
	int err;

	if (value_len > KV_VALUE_MAX)
		return -KV_E_TOO_BIG;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->txn = txn;
	v->len = value_len;
	err = txn_ikey(v->ikey, keyspace, key, &ikey);
	if (!err)
		err = txn_lock_write(txn, ikey);
	if (!err && value_len >= txn->db->options.large_value_bytes)
		err = begin_large(v);
	if (err) {
		free(v);
		return err;
	}
	v->ikey_len = ikey.len;
	txn->iterators++;
	*out = v;
	return 0;
}

int kv_value_append(struct kv_value *v, struct kv_slice bytes)
{
	if (v->writer)
		return values_writer_append(v->writer, bytes);
	if (bytes.len > v->len - v->small.len)
		return -KV_E_INVALID;
	return buf_append(&v->small, bytes.data, bytes.len);
}

static void release(struct kv_value *v)
{
	v->txn->iterators--;
	kv_buf_free(&v->small);
	free(v);
}

int kv_value_finish(struct kv_value *v)
{
	struct kv_slice ikey = kv_slice_of(v->ikey, v->ikey_len);
	struct kv_txn *txn = v->txn;
	struct value_ref ref;
	int err;

	if (v->writer) {
		err = values_writer_finish(v->writer, &ref);
		if (!err)
			err = txn_write_ref(txn->db, txn->writes, ikey, &ref);
	} else if (v->small.len != v->len) {
		err = -KV_E_INVALID;
	} else {
		err = writeset_put(txn->writes, ikey, ENTRY_PUT, kv_buf_slice(&v->small));
	}
	release(v);
	return err;
}

void kv_value_abandon(struct kv_value *v)
{
	if (!v)
		return;
	values_writer_abandon(v->writer);
	release(v);
}
