/* SPDX-License-Identifier: MIT */
/*
 * Encoding and decoding of prepared transactions. An item may cross parts, so the
 * reader keeps what is not whole yet; since no item is longer than a key and a value may
 * be, what it keeps is bounded, whatever the bytes say.
 */
#include "kvcore/engine/prepared_stream.h"

#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/varint.h"

/* A tag, two lengths, a key and a value. */
#define ITEM_BYTES_MAX (1U + 2U * VARINT_MAX_BYTES + IKEY_MAX + (uint64_t)KV_VALUE_MAX)

static bool has_value(unsigned tag)
{
	return tag == PREPARED_PUT || tag == PREPARED_RANGE_DELETE ||
	       tag == PREPARED_RANGE_SHARED || tag == PREPARED_RANGE_EXCLUSIVE;
}

/* ---- writing ----------------------------------------------------------------------- */

static int hand_out(struct prepared_writer *w, size_t least)
{
	size_t done = 0;
	int err = 0;

	while (!err && w->buf.len - done >= least && w->buf.len > done) {
		size_t len = (size_t)min_u64(w->buf.len - done, PREPARED_PART_BYTES);

		err = w->part(w->ctx, kv_slice_of(w->buf.data + done, len));
		done += len;
	}
	if (!err && done) {
		w->bytes += done;
		memmove(w->buf.data, w->buf.data + done, w->buf.len - done);
		w->buf.len -= done;
	}
	return err;
}

int prepared_writer_add(struct prepared_writer *w, const struct prepared_item *item)
{
	int err = buf_append_byte(&w->buf, (uint8_t)item->tag);

	if (!err)
		err = buf_append_lenslice(&w->buf, item->key);
	if (!err && has_value(item->tag))
		err = buf_append_lenslice(&w->buf, item->value);
	return err ? err : hand_out(w, PREPARED_PART_BYTES);
}

int prepared_writer_finish(struct prepared_writer *w)
{
	return hand_out(w, 1);
}

void prepared_writer_fini(struct prepared_writer *w)
{
	kv_buf_free(&w->buf);
}

/* ---- reading ------------------------------------------------------------------------ */

static bool key_ok(struct kv_slice key, size_t least)
{
	unsigned keyspace;

	if (key.len < least || key.len > IKEY_MAX)
		return false;
	keyspace = ikey_keyspace(key);
	return keyspace >= 1 && keyspace <= KV_KEYSPACE_MAX;
}

static bool item_ok(const struct prepared_item *item)
{
	if (item->tag == PREPARED_PUT)
		return key_ok(item->key, IKEY_PREFIX_LEN + 1) && item->value.len <= KV_VALUE_MAX;
	if (!has_value(item->tag))
		return key_ok(item->key, IKEY_PREFIX_LEN + 1);
	/* A range ends in its keyspace or where the next one begins. */
	return key_ok(item->key, IKEY_PREFIX_LEN) && item->value.len >= IKEY_PREFIX_LEN &&
	       item->value.len <= IKEY_MAX && slice_compare(item->key, item->value) < 0;
}

/* The first item of what is there. Return: 0, -KV_E_NOTFOUND (not whole yet), -KV_E_CORRUPT. */
static int decode(struct cursor *c, struct prepared_item *out)
{
	struct prepared_item item = {.tag = PREPARED_PUT};
	uint8_t tag = cursor_u8(c);

	if (c->bad)
		return -KV_E_NOTFOUND;
	if (tag < PREPARED_PUT || tag > PREPARED_RANGE_EXCLUSIVE)
		return -KV_E_CORRUPT;
	item.tag = (enum prepared_tag)tag;
	item.key = cursor_lenslice(c);
	if (has_value(tag))
		item.value = cursor_lenslice(c);
	if (c->bad)
		return -KV_E_NOTFOUND;
	if (!item_ok(&item))
		return -KV_E_CORRUPT;
	*out = item;
	return 0;
}

int prepared_reader_feed(struct prepared_reader *r, struct kv_slice part)
{
	struct prepared_item item;
	size_t done = 0;
	int err = buf_append_slice(&r->buf, part);

	while (!err) {
		struct cursor c = cursor_of(kv_slice_of(r->buf.data + done, r->buf.len - done));

		err = decode(&c, &item);
		if (!err)
			err = r->item(r->ctx, &item);
		if (!err)
			done = (size_t)(c.pos - r->buf.data);
	}
	if (err != -KV_E_NOTFOUND)
		return err;
	if (done) {
		memmove(r->buf.data, r->buf.data + done, r->buf.len - done);
		r->buf.len -= done;
	}
	return r->buf.len > ITEM_BYTES_MAX ? -KV_E_CORRUPT : 0;
}

int prepared_reader_finish(const struct prepared_reader *r)
{
	return r->buf.len ? -KV_E_CORRUPT : 0;
}

void prepared_reader_fini(struct prepared_reader *r)
{
	kv_buf_free(&r->buf);
}
