/* SPDX-License-Identifier: MIT */
/*
 * Writing a large value as it comes. Its place is reserved for the worst case when it is
 * begun, in blocks of its own: no durable value shares one, so no sync has to wait for
 * the writer, however slow it is. What compression saved is given back at the end, if nobody has
 * taken the place behind meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/values_internal.h"

struct values_writer {
	struct values *values;
	enum space_class class;
	uint64_t raw_len, raw_left;
	struct kv_buf block; /* not packed yet */
	/* Of a value with an index: */
	struct value_place place; /* seg NULL: the value is one piece */
	uint64_t stored;	  /* bytes written */
	struct kv_buf packed;
	struct kv_buf index;
};

int values_writer_new(struct values *v, uint64_t raw_len, enum space_class class,
		      struct values_writer **out)
{
	struct values_writer *w;
	int err = 0;

	if (!raw_len || raw_len > KV_VALUE_MAX)
		return -KV_E_INVALID;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->values = v;
	w->class = class;
	w->raw_len = raw_len;
	w->raw_left = raw_len;
	if (value_block_count(raw_len))
		err = values_find_place(v, class, value_stored_max(raw_len), true, &w->place);
	if (err) {
		free(w);
		return err;
	}
	*out = w;
	return 0;
}

static int write_out(struct values_writer *w, struct kv_slice bytes)
{
	const struct segment *seg = w->place.seg;
	int err = os_volume_write(w->values->options.volume,
				  seg->extent.off + w->place.off + w->stored, bytes.data, bytes.len,
				  0);

	if (!err)
		w->stored += bytes.len;
	return err == -ENOSPC ? -KV_E_NOSPACE : err;
}

static int write_block(struct values_writer *w)
{
	int err;

	buf_clear(&w->packed);
	err = values_pack_block(&w->values->options, kv_buf_slice(&w->block), &w->packed,
				&w->index);
	if (!err)
		err = write_out(w, kv_buf_slice(&w->packed));
	buf_clear(&w->block);
	return err;
}

int values_writer_append(struct values_writer *w, struct kv_slice bytes)
{
	int err = 0;

	if (bytes.len > w->raw_left)
		return -KV_E_INVALID;
	w->raw_left -= bytes.len;
	while (!err && bytes.len) {
		size_t n = min_u64(bytes.len, VALUE_BLOCK - w->block.len);

		err = buf_append(&w->block, bytes.data, n);
		bytes = kv_slice_of(bytes.data + n, bytes.len - n);
		if (!err && w->place.seg && w->block.len == VALUE_BLOCK)
			err = write_block(w);
	}
	return err;
}

static void release(struct values_writer *w)
{
	kv_buf_free(&w->block);
	kv_buf_free(&w->packed);
	kv_buf_free(&w->index);
	free(w);
}

void values_writer_abandon(struct values_writer *w)
{
	if (!w)
		return;
	if (w->place.seg)
		values_settle(w->values, w->place.seg->id);
	release(w);
}

static int finish_blocks(struct values_writer *w, struct value_ref *out)
{
	struct kv_slice index;
	int err = w->block.len ? write_block(w) : 0;

	index = kv_buf_slice(&w->index);
	if (!err)
		err = checksum_compute(w->values->options.checksum, &index, 1, out->sum);
	if (!err)
		err = write_out(w, index);
	if (err)
		return err;
	out->segment_id = w->place.seg->id;
	out->off = w->place.off;
	out->stored_len = w->stored;
	out->raw_len = w->raw_len;
	values_trim_place(w->values, &w->place, value_stored_max(w->raw_len), w->stored);
	return 0;
}

int values_writer_finish(struct values_writer *w, struct value_ref *out)
{
	struct value_ref ref = {0};
	int err = w->raw_left ? -KV_E_INVALID : 0;

	if (!err && w->place.seg)
		err = finish_blocks(w, &ref);
	else if (!err)
		err = values_put(w->values, kv_buf_slice(&w->block), w->class, &ref);
	if (err) {
		values_writer_abandon(w);
		return err;
	}
	*out = ref;
	release(w);
	return 0;
}
