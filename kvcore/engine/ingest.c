/* SPDX-License-Identifier: MIT */
/*
 * Large commits. The write set, memory and runs merged, is written as tables that
 * carry the commit's number, while others go on committing; then commits are paused, what is
 * in memory is flushed, so that everything older is in tables, and one version edit adds the
 * new ones above what they overlap.
 *
 * The number must be in the tables before it is known which commits come first. So a number
 * is taken ahead of all that may come meanwhile, and the numbers between are left out: they are
 * a matter of order, not of count. Should so many commits pass after all, the tables are
 * written again with a larger lead. One at a time, so that two never overtake each other.
 */
#include "kvcore/engine/ingest.h"

#include <inttypes.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/output.h"
#include "kvcore/engine/writeset.h"

#define LEAD_FIRST  (UINT64_C(1) << 24)
#define LEAD_GROWTH 16U

struct ingest {
	struct kv_db *db;
	struct writeset *writes;
	kv_seq seq;
	struct version *version;
	struct gc gc;
	struct range_set *ranges;
	struct output *output; /* NULL: none */
};

/* ---- writing the tables ------------------------------------------------------------ */

static int copy_ranges(struct ingest *in)
{
	const struct range_set *from = writeset_ranges(in->writes);
	int err = range_set_new(&in->ranges);

	for (size_t i = 0; !err && i < range_set_count(from); i++) {
		struct range_fragment f = range_set_at(from, i);

		err = range_set_append(in->ranges, f.from, f.to, &in->seq, 1);
	}
	return err;
}

static int copy_points(struct ingest *in)
{
	struct iter *it = NULL;
	struct entry e;
	int err = writeset_iter_new(in->writes, true, &it);

	if (err)
		return err;
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		e.seq = in->seq;
		err = output_add(in->output, &e);
		if (err)
			break;
	}
	iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static void drop_tables(struct ingest *in, int err)
{
	if (in->output && err)
		output_failed(in->output, err);
	output_free(in->output);
	in->output = NULL;
	gc_fini(&in->gc);
	range_set_free(in->ranges);
	in->ranges = NULL;
	if (in->version)
		version_unref(in->version);
	in->version = NULL;
}

/* The number is above every live snapshot, so nothing of it is left out. */
static int write_tables(struct ingest *in, unsigned flags)
{
	struct kv_db *db = in->db;
	struct output_options options = {
		.tables = &db->tables,
		.versions = db->versions,
		.values = db->values,
		.class = flags & KV_COMMIT_RESERVE ? SPACE_FLUSH : SPACE_VALUE,
		.flush = true,
		.pending_stay = true,
		.table_bytes = db->table_bytes,
		.gc = &in->gc,
	};
	int err;

	in->version = versions_current(db->versions);
	options.version = in->version;
	options.gc_id = versions_next_table_id(db->versions);
	err = gc_init(&in->gc, db->snapshots);
	if (!err)
		err = copy_ranges(in);
	options.ranges = in->ranges;
	if (!err)
		err = output_new(&options, &in->output);
	if (!err)
		err = copy_points(in);
	if (!err)
		err = output_finish(in->output);
	if (err)
		drop_tables(in, err);
	return err;
}

/* ---- making them current ---------------------------------------------------------------- */

/* Commits are paused. */
static int apply(struct ingest *in)
{
	struct kv_db *db = in->db;
	struct version_edit edit = {.set_log = true, .last_seq = in->seq, .place = true};
	int err = output_edit(in->output, &edit);

	if (err)
		return err;
	if (wal_poisoned(db->wal))
		return -KV_E_POISONED;
	wal_get_position(db->wal, &edit.log);
	values_seal(db->values); /* the edit's sync makes them durable */
	err = versions_apply(db->versions, &edit);
	if (err == -KV_E_POISONED)
		return -KV_E_UNKNOWN_OUTCOME;
	if (!err)
		output_committed(in->output);
	return err;
}

/* -KV_E_BUSY: the number is not ahead of the others any more. */
static int make_current(struct ingest *in)
{
	struct kv_db *db = in->db;
	kv_seq last;
	int err;

	err = commit_pause(db, &last);
	if (err)
		return err;
	err = in->seq > last ? apply(in) : -KV_E_BUSY;
	commit_resume(db, err ? 0 : in->seq);
	return err;
}

static int ingest_locked(struct ingest *in, unsigned flags)
{
	struct kv_db *db = in->db;
	uint64_t lead = db->ingest_lead ? db->ingest_lead : LEAD_FIRST;
	int err;

	do {
		in->seq = snapshots_visible(db->snapshots) + lead;
		lead *= LEAD_GROWTH;
		err = write_tables(in, flags);
		if (err)
			return err;
		/* Most of what is in memory, while others go on. */
		err = commit_rotate(db);
		if (!err)
			err = background_wait_flushed(db);
		if (!err)
			err = make_current(in);
		/* After an unknown outcome the volume may name the tables. */
		drop_tables(in, err == -KV_E_UNKNOWN_OUTCOME ? -KV_E_POISONED : err);
	} while (err == -KV_E_BUSY);
	return err;
}

int ingest_commit(struct kv_db *db, struct writeset *w, unsigned flags, kv_seq *seq)
{
	struct ingest in = {.db = db, .writes = w};
	int err;

	if (wal_poisoned(db->wal))
		return -KV_E_POISONED;
	os_mutex_lock(&db->ingest_mu);
	err = ingest_locked(&in, flags);
	os_mutex_unlock(&db->ingest_mu);
	if (err)
		return err;
	*seq = in.seq;
	COUNT(db, commits, 1);
	COUNT(db, commits_large, 1);
	logmsg(db->log, KV_LOG_DEBUG, "commit: entered as tables seq=%" PRIu64, in.seq);
	return 0;
}
