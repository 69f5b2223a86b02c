/* SPDX-License-Identifier: MIT */
/*
 * A frozen memtable becomes tables of level 0. The tables, the place from which
 * the log is still needed, and the live bytes of the values referred to change
 * together in one version edit, so a crash finds the entries in the log or in
 * tables, never in neither.
 */
#include <errno.h>
#include <inttypes.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/gc.h"
#include "kvcore/engine/output.h"

static int copy_entries(struct memtable *m, struct output *o)
{
	struct iter *it = NULL;
	struct entry e;
	int err;

	err = memtable_iter_new(m, &it);
	if (err)
		return err;
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		err = output_add(o, &e);
		if (err)
			break;
	}
	iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = output_finish(o);
	return err;
}

/* One edit: the tables in, the memtable out, the log's start moved. */
static int make_durable(struct kv_db *db, const struct frozen *f, struct output *o)
{
	struct version_edit edit = {
		.set_log = true,
		.log = f->log_after,
		.last_seq = f->last_seq,
		.cookie = f->memtable,
	};
	int err = output_edit(o, &edit);

	if (err)
		return err;
	/* The edit's sync makes these values durable: what is written next must not touch
	 * their blocks. */
	values_seal(db->values);
	return versions_apply(db->versions, &edit);
}

static int write_tables(struct kv_db *db, const struct frozen *f, uint64_t *written)
{
	struct output_options options = {
		.tables = &db->tables,
		.versions = db->versions,
		.values = db->values,
		.class = SPACE_FLUSH,
		.flush = true,
		.table_bytes = db->table_bytes,
	};
	struct version *version = versions_current(db->versions);
	const struct kv_slice unbounded = {NULL, 0};
	struct range_set *ranges = NULL;
	struct output *o = NULL;
	struct gc gc = {0};
	uint64_t bytes = 0;
	int err;

	options.version = version;
	options.gc = &gc;
	options.gc_id = versions_next_table_id(db->versions);
	err = range_set_new(&ranges);
	if (!err)
		err = memtable_ranges(f->memtable, unbounded, unbounded, ranges);
	if (!err)
		err = gc_init(&gc, db->snapshots);
	if (err)
		goto out;
	options.ranges = ranges;
	err = output_new(&options, &o);
	if (!err)
		err = copy_entries(f->memtable, o);
	if (err)
		goto out;
	bytes = output_bytes(o);
	err = make_durable(db, f, o);
	if (err)
		goto out;
	output_committed(o);
	*written = bytes;
	COUNT(db, flushes, 1);
	COUNT(db, flush_bytes, bytes);
	atomic_store_explicit(&db->last_flush_ns, os_monotonic_ns(db->env), memory_order_relaxed);
	logmsg(db->log, KV_LOG_DEBUG, "flush: done seq=%" PRIu64 " bytes=%" PRIu64 " lsn=%" PRIu64,
	       f->last_seq, bytes, f->log_after.lsn);
out:
	if (o && err)
		output_failed(o, err);
	output_free(o);
	gc_fini(&gc);
	range_set_free(ranges);
	version_unref(version);
	return err;
}

int flush_memtable(struct kv_db *db, const struct frozen *f)
{
	struct kv_trace_event e = {.kind = KV_TRACE_FLUSH};
	int err;

	trace_begin(&db->trace, &e);
	err = write_tables(db, f, &e.bytes);
	os_stats_record(&db->stats, KV_HISTOGRAM_FLUSH, trace_end(&db->trace, &e, err));
	return err;
}
