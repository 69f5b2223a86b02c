/* SPDX-License-Identifier: MIT */
/*
 * How a large value is stored and read (docs/format.md, section 7). Up to 64 KiB it is one
 * piece. Longer ones are blocks, each compressed and checksummed by itself, with an index
 * behind them that holds their lengths and sums; the reference holds the sum of the index.
 * So a part is read, and verified, without the rest, and a value is written as it comes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/base/prefault.h"
#include "kvcore/engine/values_internal.h"
#include "kvcore/os/os_stats.h"

/* ---- packing ------------------------------------------------------------------- */

int values_pack_block(const struct values_options *o, struct kv_slice raw, struct kv_buf *out,
		      struct kv_buf *index)
{
	struct kv_buf packed = {0};
	struct kv_slice stored = raw;
	struct value_block entry;
	int err = 0;

	if (o->compress != COMPRESS_NONE)
		err = compress_page(o->compress, raw, &packed);
	if (!err && packed.len)
		stored = kv_buf_slice(&packed);
	entry.stored_len = le32_of((uint32_t)stored.len);
	if (!err)
		err = checksum_compute(o->checksum, &stored, 1, entry.sum);
	if (!err)
		err = buf_append(out, stored.data, stored.len);
	if (!err)
		err = buf_append(index, &entry, sizeof(entry));
	kv_buf_free(&packed);
	return err;
}

static int pack_whole(const struct values_options *o, struct kv_slice raw, struct kv_buf *out,
		      uint8_t sum[CHECKSUM_LEN])
{
	struct kv_slice stored = raw;
	int err = 0;

	if (o->compress != COMPRESS_NONE)
		err = compress_page(o->compress, raw, out);
	if (out->len)
		stored = kv_buf_slice(out);
	return err ? err : checksum_compute(o->checksum, &stored, 1, sum);
}

int values_pack(const struct values_options *o, struct kv_slice raw, struct kv_buf *out,
		uint8_t sum[CHECKSUM_LEN])
{
	struct kv_buf index = {0};
	struct kv_slice part;
	int err = 0;

	if (!value_block_count(raw.len))
		return pack_whole(o, raw, out, sum);
	for (size_t at = 0; !err && at < raw.len; at += VALUE_BLOCK)
		err = values_pack_block(
			o, kv_slice_of(raw.data + at, min_u64(VALUE_BLOCK, raw.len - at)), out,
			&index);
	part = kv_buf_slice(&index);
	if (!err)
		err = checksum_compute(o->checksum, &part, 1, sum);
	if (!err)
		err = buf_append(out, index.data, index.len);
	kv_buf_free(&index);
	return err;
}

/* ---- reading --------------------------------------------------------------------- */

struct reading {
	struct os_volume *volume;
	struct checksum *checksum;
	enum compress_algo compress;
	bool direct;		     /* from the disk, not from the host's page cache */
	uint64_t off;		     /* of the value on the volume */
	const struct value_ref *ref; /* lies within its segment */
	uint64_t from, len;	     /* what is wanted */
	uint8_t *out;
};

/* The host reads a device in whole blocks if it is to look at the disk itself. */
static int read_direct(const struct reading *r, uint64_t off, uint8_t *out, size_t len)
{
	uint64_t begin = align_down_u64(off, OS_IO_ALIGN);
	size_t whole = (size_t)(align_up_u64(off + len, OS_IO_ALIGN) - begin);
	uint8_t *buf = aligned_alloc(OS_IO_ALIGN, whole);
	int err;

	if (!buf)
		return -ENOMEM;
	prefault(buf, whole);
	err = os_volume_read(r->volume, begin, buf, whole, OS_IO_DIRECT);
	if (!err)
		memcpy(out, buf + (off - begin), len);
	free(buf);
	return err;
}

static int read_stored(const struct reading *r, uint64_t off, uint8_t *out, size_t len)
{
	return r->direct ? read_direct(r, off, out, len)
			 : os_volume_read(r->volume, off, out, len, 0);
}

/* One piece as it is stored, verified, and unpacked into @raw, of @raw_len bytes. */
static int read_piece(const struct reading *r, uint64_t off, struct kv_slice stored_sum,
		      uint64_t stored_len, struct kv_slice raw)
{
	uint8_t *out = (uint8_t *)(uintptr_t)raw.data;
	struct kv_buf packed = {0};
	uint8_t *stored = out;
	int err;

	if (stored_len != raw.len) {
		err = buf_resize(&packed, (size_t)stored_len);
		if (err)
			return err;
		stored = packed.data;
	}
	err = read_stored(r, off, stored, (size_t)stored_len);
	if (!err)
		err = checksum_verify(r->checksum, kv_slice_of(stored, (size_t)stored_len),
				      stored_sum.data);
	if (!err && stored != out)
		err = decompress_page(r->compress, kv_buf_slice(&packed), out, raw.len);
	kv_buf_free(&packed);
	return err;
}

/* The wanted part of a piece, whose first byte is byte @at of the value. */
static int read_part(const struct reading *r, uint64_t off, const struct value_block *b,
		     uint64_t at, uint64_t raw_len)
{
	const struct kv_slice sum = kv_slice_of(b->sum, CHECKSUM_LEN);
	uint64_t begin = max_u64(at, r->from);
	uint64_t end = min_u64(at + raw_len, r->from + r->len);
	struct kv_buf whole = {0};
	int err;

	if (begin >= end)
		return 0;
	if (end - begin == raw_len)
		return read_piece(r, off, sum, le32_get(b->stored_len),
				  kv_slice_of(r->out + (at - r->from), (size_t)raw_len));
	err = buf_resize(&whole, (size_t)raw_len);
	if (!err)
		err = read_piece(r, off, sum, le32_get(b->stored_len), kv_buf_slice(&whole));
	if (!err)
		memcpy(r->out + (begin - r->from), whole.data + (begin - at),
		       (size_t)(end - begin));
	kv_buf_free(&whole);
	return err;
}

static int read_single(const struct reading *r)
{
	struct value_block b = {.stored_len = le32_of((uint32_t)r->ref->stored_len)};

	memcpy(b.sum, r->ref->sum, CHECKSUM_LEN);
	return read_part(r, r->off, &b, 0, r->ref->raw_len);
}

static int load_index(const struct reading *r, struct kv_buf *index)
{
	uint64_t len = value_index_len(r->ref->raw_len);
	int err = buf_resize(index, (size_t)len);

	if (!err)
		err = read_stored(r, r->off + r->ref->stored_len - len, index->data, (size_t)len);
	return err ? err : checksum_verify(r->checksum, kv_buf_slice(index), r->ref->sum);
}

static int read_blocks(const struct reading *r)
{
	uint64_t count = value_block_count(r->ref->raw_len);
	uint64_t left = r->ref->stored_len - value_index_len(r->ref->raw_len);
	struct kv_buf index = {0};
	uint64_t off = r->off;
	int err = load_index(r, &index);

	for (uint64_t i = 0; !err && i < count; i++) {
		uint64_t at = i * VALUE_BLOCK;
		uint64_t raw_len = min_u64(VALUE_BLOCK, r->ref->raw_len - at);
		struct value_block b;
		uint32_t stored_len;

		memcpy(&b, index.data + i * sizeof(b), sizeof(b));
		stored_len = le32_get(b.stored_len);
		if (!stored_len || stored_len > raw_len || stored_len > left)
			err = -KV_E_CORRUPT;
		if (!err)
			err = read_part(r, off, &b, at, raw_len);
		off += stored_len;
		left -= stored_len;
	}
	kv_buf_free(&index);
	return err ? err : left ? -KV_E_CORRUPT : 0;
}

static int read_any(const struct reading *r, struct extent segment)
{
	const struct value_ref *ref = r->ref;

	if (ref->raw_len > KV_VALUE_MAX || ref->stored_len <= value_index_len(ref->raw_len) ||
	    ref->stored_len > value_stored_max(ref->raw_len) || ref->stored_len > segment.len ||
	    ref->off > segment.len - ref->stored_len)
		return -KV_E_CORRUPT;
	return value_block_count(ref->raw_len) ? read_blocks(r) : read_single(r);
}

int values_read(struct os_volume *volume, struct checksum *checksum, enum compress_algo compress,
		struct extent segment, const struct value_ref *ref, uint8_t *out)
{
	const struct reading r = {
		.volume = volume,
		.checksum = checksum,
		.compress = compress,
		.direct = true,
		.off = segment.off + ref->off,
		.ref = ref,
		.len = ref->raw_len,
		.out = out,
	};

	return read_any(&r, segment);
}

static void note_damage(struct values *v, const struct value_ref *ref, int err)
{
	if (err != -KV_E_CHECKSUM && err != -KV_E_CORRUPT && err != -EIO)
		return;
	if (v->options.stats)
		os_stats_add(v->options.stats, OS_STAT_damage_found, 1);
	logmsg(v->options.log, KV_LOG_ERROR,
	       "value: %s segment=%" PRIu64 " off=%" PRIu64 " len=%" PRIu64, kv_strerror(err),
	       ref->segment_id, ref->off, ref->stored_len);
}

int values_get_part(struct values *v, const struct version *version, const struct value_ref *ref,
		    struct value_part part, struct kv_buf *out)
{
	const struct segment *seg = version_segment(version, ref->segment_id);
	struct reading r = {
		.volume = v->options.volume,
		.checksum = v->options.checksum,
		.compress = v->options.compress,
		.ref = ref,
	};
	struct kv_buf raw = {0};
	int err;

	if (!seg || ref->raw_len > KV_VALUE_MAX)
		return -KV_E_CORRUPT;
	r.off = seg->extent.off + ref->off;
	r.from = min_u64(part.off, ref->raw_len);
	r.len = min_u64(part.len, ref->raw_len - r.from);
	err = buf_resize(&raw, (size_t)r.len);
	if (err)
		return err;
	r.out = raw.data;
	err = read_any(&r, seg->extent);
	if (err) {
		note_damage(v, ref, err);
		kv_buf_free(&raw);
		return err;
	}
	kv_buf_free(out);
	*out = raw;
	return 0;
}

int values_get(struct values *v, const struct version *version, const struct value_ref *ref,
	       struct kv_buf *out)
{
	const struct value_part all = {0, UINT64_MAX};

	return values_get_part(v, version, ref, all, out);
}

int values_check(struct values *v, const struct version *version, const struct value_ref *ref)
{
	const struct segment *seg = version_segment(version, ref->segment_id);
	struct kv_buf raw = {0};
	int err;

	if (!seg || ref->raw_len > KV_VALUE_MAX)
		return -KV_E_CORRUPT;
	err = buf_resize(&raw, (size_t)ref->raw_len);
	if (!err)
		err = values_read(v->options.volume, v->options.checksum, v->options.compress,
				  seg->extent, ref, raw.data);
	kv_buf_free(&raw);
	return err;
}
