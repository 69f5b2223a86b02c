/* SPDX-License-Identifier: MIT */
/*
 * Verification of the log and of large values.
 *
 * The log is read twice: first every frame is decoded and every reference
 * placed, and the highest durable LSN is learnt; then the values of frames up
 * to that LSN are read. A value behind it was never acknowledged as durable,
 * so a power loss may have taken it without any damage: recovery ends there.
 *
 * Where the log has a hole, a repair cuts it, since effects must remain a prefix of the commits.
 * The keys of the frames behind it that are whole are named as lost.
 */
#include "kvcore/engine/verify.h"

#include <inttypes.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/values.h"
#include "kvcore/wal/wal_reader.h"

#define LOST_MAX 1000U /* keys behind a hole that are named */

static const struct kv_slice no_key;

int verify_find_segment(const struct verify *v, uint64_t id, size_t *index)
{
	size_t lo = 0;
	size_t hi = v->manifest.segment_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->manifest.segments[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == v->manifest.segment_count || v->manifest.segments[lo].id != id)
		return -KV_E_NOTFOUND;
	*index = lo;
	return 0;
}

int verify_value(struct verify *v, const struct value_ref *ref, size_t segment, uint64_t limit,
		 bool content)
{
	const struct segment_meta *seg = &v->manifest.segments[segment];
	int err;

	limit = min_u64(limit, seg->extent.len);
	if (ref->stored_len > limit || ref->off > limit - ref->stored_len)
		return -KV_E_NOTFOUND;
	if (!content)
		return 0;
	if (ref->raw_len > KV_VALUE_MAX)
		return -KV_E_CORRUPT;
	err = buf_resize(&v->value, (size_t)ref->raw_len);
	if (err)
		return err;
	return values_read(v->volume, v->checksum, v->tables.compress, seg->extent, ref,
			   v->value.data);
}

void verify_log_options(const struct verify *v, struct wal_options *out)
{
	*out = (struct wal_options){
		.volume = v->volume,
		.checksum = v->checksum,
		.log = v->options->log,
		.log_off = FORMAT_LOG_OFF,
		.log_size = v->sb.log_size,
	};
	memcpy(out->uuid, v->sb.uuid, KV_UUID_LEN);
}

/* One pass over the log. */
struct log_check {
	struct verify *v;
	bool content;	  /* second pass */
	uint64_t durable; /* LSN; of the first pass */
	uint64_t refs;
	unsigned lost; /* keys behind a hole */
};

static int log_value(struct log_check *c, const struct wal_frame *frame, const struct record_op *op)
{
	struct verify *v = c->v;
	struct value_ref ref;
	size_t segment = 0;
	int err;

	err = value_ref_decode(op->value, &ref);
	if (err)
		return err;
	c->refs++;
	if (c->content && frame->end > c->durable)
		return 0;
	err = verify_find_segment(v, ref.segment_id, &segment);
	if (!err)
		err = verify_value(v, &ref, segment, UINT64_MAX, c->content);
	if (err == -KV_E_NOTFOUND && !c->content)
		return verify_report(v, KV_PROBLEM_VALUE_DANGLING, VERIFY_NO_TABLE, op->key,
				     op->key,
				     "log: value of segment %" PRIu64 " at %" PRIu64
				     " is not there lsn=%" PRIu64,
				     ref.segment_id, ref.off, frame->lsn);
	if (err == -KV_E_NOTFOUND)
		return 0; /* reported by the first pass */
	if (verify_is_damage(err))
		return verify_report(v, KV_PROBLEM_VALUE, VERIFY_NO_TABLE, op->key, op->key,
				     "log: value of segment %" PRIu64 " at %" PRIu64
				     " is damaged lsn=%" PRIu64 ": %s",
				     ref.segment_id, ref.off, frame->lsn, verify_why(err));
	if (!err && c->content)
		v->result->values++;
	return err;
}

/* Return: as record_reader_op(); -KV_E_NOTFOUND at the frame's end. */
static int log_record(struct log_check *c, const struct wal_frame *frame,
		      struct record_reader *records)
{
	struct record_op op;
	kv_seq seq;
	int err;

	err = record_reader_next(records, &seq);
	if (err)
		return err;
	while ((err = record_reader_op(records, &op)) == 0) {
		if (op.kind != ENTRY_PUT_REF)
			continue;
		err = log_value(c, frame, &op);
		if (err)
			return err;
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int log_frame(struct log_check *c, const struct wal_frame *frame)
{
	struct record_reader records;
	int err;

	record_reader_init(&records, frame->payload);
	while ((err = log_record(c, frame, &records)) == 0)
		;
	if (err == -KV_E_NOTFOUND)
		return 0;
	if (!verify_is_damage(err))
		return err;
	if (c->content || c->v->log_hole)
		return 0;
	c->v->log_hole = true;
	c->v->log_cut = frame->lsn;
	return verify_report(c->v, KV_PROBLEM_LOG_HOLE, VERIFY_NO_TABLE, no_key, no_key,
			     "log: the records of a frame are malformed lsn=%" PRIu64, frame->lsn);
}

/* Every key of a frame behind a hole: its change cannot be replayed. */
static int lost_frame(struct log_check *c, const struct wal_frame *frame)
{
	struct record_reader records;
	struct record_op op;
	kv_seq seq;
	int err = 0;

	record_reader_init(&records, frame->payload);
	while (!err && !record_reader_next(&records, &seq)) {
		while (!err && !record_reader_op(&records, &op)) {
			bool range = op.kind == ENTRY_RANGE_DELETE;

			if (++c->lost > LOST_MAX)
				return 0;
			err = verify_report(c->v, KV_PROBLEM_LOG_HOLE, VERIFY_NO_TABLE, op.key,
					    range ? op.value : op.key,
					    "log: a change of commit %" PRIu64 " is lost%s", seq,
					    c->lost == LOST_MAX ? "; there are more" : "");
		}
	}
	return err;
}

/* The log was followed to a hole. Say so, and what stands behind it. */
static int log_hole(struct log_check *c, struct wal_reader *reader)
{
	struct verify *v = c->v;
	struct wal_position pos;
	struct wal_frame frame;
	int err;

	wal_reader_position(reader, &pos);
	if (!v->log_hole)
		v->log_cut = pos.lsn;
	v->log_hole = true;
	err = verify_report(v, KV_PROBLEM_LOG_HOLE, VERIFY_NO_TABLE, no_key, no_key,
			    "log: a durable frame is damaged lsn=%" PRIu64
			    "; what was committed after it cannot be replayed",
			    pos.lsn);
	if (!err)
		err = wal_reader_resume(reader);
	while (!err && !(err = wal_reader_next(reader, &frame)))
		err = lost_frame(c, &frame);
	return err == -KV_E_NOTFOUND || verify_is_damage(err) ? 0 : err;
}

static int log_pass(struct log_check *c)
{
	struct verify *v = c->v;
	const struct wal_fence fence = {v->manifest.log_fence, v->manifest.log_epoch};
	struct wal_position start = {.lsn = v->manifest.log_lsn};
	struct wal_reader *reader = NULL;
	struct wal_options options;
	struct wal_frame frame;
	int err;

	memcpy(start.prev_sum, v->manifest.log_prev_sum, CHECKSUM_LEN);
	verify_log_options(v, &options);
	err = wal_reader_open(&options, &start, &fence, v->manifest.clean, &reader);
	if (err)
		return err;
	while ((err = wal_reader_next(reader, &frame)) == 0) {
		if (!c->content) {
			v->result->log_frames++;
			c->durable = max_u64(c->durable, frame.durable_lsn);
		}
		err = log_frame(c, &frame);
		if (err)
			goto out;
		err = verify_progress(v, frame.end - frame.lsn);
		if (err)
			goto out;
	}
	if (err == -KV_E_NOTFOUND)
		err = 0;
	else if (verify_is_damage(err))
		err = c->content ? 0 : log_hole(c, reader);
out:
	wal_reader_close(reader);
	return err;
}

int verify_log(struct verify *v)
{
	struct log_check c = {.v = v};
	int err;

	if (v->manifest.clean)
		return 0; /* closed in order: it holds nothing, and recovery does not look */
	err = log_pass(&c);
	v->result->log_dirty = v->result->log_frames > 0;
	if (err || !c.refs || v->options->metadata_only)
		return err;
	c.content = true;
	return log_pass(&c);
}
