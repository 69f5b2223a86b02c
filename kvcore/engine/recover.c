/* SPDX-License-Identifier: MIT */
/*
 * Replay of the log, frame by frame.
 *
 * A frame behind the highest durable_lsn that any frame tells was never acknowledged as
 * durable, and its large values, written beside the log, may have been lost while the frame
 * itself reached the disk. So the values of such frames are read first, and the first frame
 * that lacks one is the log's end: the effects remain a prefix of the commit order
 * (docs/crash-consistency.md, rule 7). Which frames these are takes a pass of its own over
 * the log; it is made at the first frame that refers to a value and is not known to be durable, so
 * a log of small values alone is read and verified once.
 *
 * Full memtables are frozen, and all but a few of them flushed on the way, so memory stays
 * within the budget whatever the log's size; nothing is dropped by those flushes, because the
 * named snapshots are not known yet (snapshots_keep_all). The rest is left to the flush thread.
 */
#include <inttypes.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/commit_internal.h"
#include "kvcore/wal/wal_reader.h"

struct replay {
	struct kv_db *db;
	const struct wal_options *options;
	const struct manifest *manifest;
	struct wal_position start;
	uint64_t durable; /* frames that end at or before it were synced */
	bool all_seen;	  /* no frame says more than @durable */
	struct recovery *out;
};

static int open_reader(const struct replay *r, struct wal_reader **out)
{
	const struct wal_fence fence = {r->manifest->log_fence, r->manifest->log_epoch};

	return wal_reader_open(r->options, &r->start, &fence, r->manifest->clean, out);
}

static int find_durable(struct replay *r)
{
	struct wal_reader *reader = NULL;
	struct wal_frame f;
	int err = open_reader(r, &reader);

	if (err)
		return err;
	while (!(err = wal_reader_next(reader, &f)))
		r->durable = max_u64(r->durable, f.durable_lsn);
	r->out->epoch = max_u64(r->out->epoch, wal_reader_epoch(reader));
	wal_reader_close(reader);
	r->all_seen = err == -KV_E_NOTFOUND;
	return r->all_seen ? 0 : err;
}

/* ---- one frame ------------------------------------------------------------------ */

typedef int (*op_fn)(struct replay *r, kv_seq seq, const struct record_op *op);

static int each_op(struct replay *r, struct kv_slice payload, op_fn fn)
{
	struct record_reader reader;
	struct record_op op;
	kv_seq seq;
	int err;
	int op_err = 0;

	record_reader_init(&reader, payload);
	while (!(err = record_reader_next(&reader, &seq))) {
		while (!(op_err = record_reader_op(&reader, &op))) {
			err = fn(r, seq, &op);
			if (err)
				return err;
		}
		if (op_err != -KV_E_NOTFOUND)
			return op_err;
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* 1: the operation refers to a large value. */
static int refers(struct replay *r, kv_seq seq, const struct record_op *op)
{
	(void)r;
	(void)seq;
	return op->kind == ENTRY_PUT_REF;
}

/* Is the large value that the operation refers to on the disk? */
static int check_value(struct replay *r, kv_seq seq, const struct record_op *op)
{
	struct value_ref ref;
	int err;

	(void)seq;
	if (op->kind != ENTRY_PUT_REF)
		return 0;
	err = value_ref_decode(op->value, &ref);
	return err ? err : values_check(r->db->values, r->db->view->version, &ref);
}

static int apply_op(struct replay *r, kv_seq seq, const struct record_op *op)
{
	struct memtable *m = r->db->view->active;
	const struct entry e = {op->key, seq, op->kind, op->value};
	struct value_ref ref;
	int err = 0;

	if (seq <= r->manifest->last_seq || seq < r->out->last_seq)
		return -KV_E_CORRUPT;
	r->out->last_seq = max_u64(r->out->last_seq, seq);
	if (op->kind == ENTRY_RANGE_DELETE)
		return memtable_add_range(m, op->key, op->value, seq);
	if (op->kind == ENTRY_PUT_REF) {
		err = value_ref_decode(op->value, &ref);
		if (!err)
			err = values_replayed(r->db->values, &ref);
	}
	return err ? err : memtable_add(m, &e);
}

/* Damage to a value, as opposed to a failure of the host. */
static bool is_lost(int err)
{
	return err == -KV_E_CHECKSUM || err == -KV_E_CORRUPT;
}

/* ---- flushing on the way ------------------------------------------------------------ */

/* Flush the oldest frozen memtables until @limit are left. */
static int flush_down_to(struct kv_db *db, unsigned limit)
{
	int err = 0;

	while (!err && db->frozen_count > limit) {
		struct frozen f = db->frozen[0];

		memtable_ref(f.memtable);
		err = flush_memtable(db, &f);
		memtable_unref(f.memtable);
	}
	return err;
}

/* Freeze a full memtable. As in normal work a few wait for the flush, which begins after opening.
 */
static int freeze_full(struct replay *r, const struct wal_reader *reader)
{
	struct kv_db *db = r->db;
	struct memtable *fresh = NULL;
	struct frozen f = {.last_seq = r->out->last_seq};
	int err;

	if (db->readonly || memtable_bytes(db->view->active) < db->options.memtable_bytes)
		return 0;
	err = flush_down_to(db, FROZEN_LIMIT - 1);
	if (!err)
		err = memtable_new(db->cache, &fresh);
	if (err)
		return err;
	wal_reader_position(reader, &f.log_after);
	os_mutex_lock(&db->mu);
	f.memtable = db->view->active;
	err = view_rotate_locked(db, fresh);
	if (!err) {
		memtable_freeze(f.memtable, f.last_seq);
		memtable_ref(f.memtable);
		db->frozen[db->frozen_count++] = f;
	}
	os_mutex_unlock(&db->mu);
	memtable_unref(fresh);
	return err;
}

/* May the frame refer to values that were not durable? 0, 1, or an error. */
static int is_unsure(struct replay *r, const struct wal_frame *f)
{
	int err;

	r->durable = max_u64(r->durable, f->durable_lsn);
	if (f->end <= r->durable)
		return 0;
	err = each_op(r, f->payload, refers);
	if (err <= 0)
		return err;
	err = r->all_seen ? 0 : find_durable(r);
	return err ? err : f->end > r->durable;
}

static int replay_frame(struct replay *r, const struct wal_frame *f)
{
	int err = is_unsure(r, f);

	if (err < 0)
		return err;
	if (err)
		err = each_op(r, f->payload, check_value);
	if (is_lost(err)) {
		r->out->cut = true;
		return -KV_E_NOTFOUND;
	}
	if (!err)
		err = each_op(r, f->payload, apply_op);
	if (!err)
		r->out->frames++;
	return err;
}

static int replay_frames(struct replay *r)
{
	struct wal_reader *reader = NULL;
	struct wal_frame f;
	int err = open_reader(r, &reader);

	if (err)
		return err;
	wal_reader_position(reader, &r->out->end);
	while (!(err = wal_reader_next(reader, &f))) {
		err = replay_frame(r, &f);
		if (err)
			break;
		wal_reader_position(reader, &r->out->end);
		err = freeze_full(r, reader);
		if (err)
			break;
	}
	r->out->epoch = max_u64(r->out->epoch, wal_reader_epoch(reader));
	wal_reader_close(reader);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int recover_log(struct kv_db *db, const struct wal_options *options, const struct manifest *m,
		struct recovery *out)
{
	struct replay r = {.db = db, .options = options, .manifest = m, .out = out};
	kv_seq before = m->last_seq;
	int err;

	*out = (struct recovery){.epoch = m->log_epoch, .last_seq = m->last_seq};
	r.start.lsn = m->log_lsn;
	memcpy(r.start.prev_sum, m->log_prev_sum, sizeof(r.start.prev_sum));
	r.durable = r.start.lsn;
	err = replay_frames(&r);
	if (err) {
		logmsg(db->log, KV_LOG_ERROR, "recovery: cannot replay the log: %s lsn=%" PRIu64,
		       kv_strerror(err), out->end.lsn);
		return err;
	}
	if (out->frames || out->cut)
		logmsg(db->log, KV_LOG_INFO,
		       "recovery: replayed frames=%" PRIu64 " seq=%" PRIu64 "..%" PRIu64
		       " lsn=%" PRIu64 "..%" PRIu64 " durable=%" PRIu64 "%s",
		       out->frames, before + 1, out->last_seq, m->log_lsn, out->end.lsn, r.durable,
		       out->cut ? " cut=unsynced-values" : "");
	return 0;
}
