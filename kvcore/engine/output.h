/* SPDX-License-Identifier: MIT */
/*
 * The writing half of flush and compaction: takes merged entries in order, drops
 * what no snapshot needs, and writes the rest as tables that partition the key
 * space, with the range deletes cut at the same keys. Counts what happens to
 * references to large values, for the version edit.
 *
 *   output_new -> output_add ... -> output_finish -> output_edit -> versions_apply
 *       -> output_committed or output_failed -> output_free
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_OUTPUT_H
#define KVCORE_ENGINE_OUTPUT_H

#include "kvcore/engine/gc.h"
#include "kvcore/engine/values.h"

#define OUTPUT_TABLE_BYTES (32ULL * 1024 * 1024)

struct output_options { /* all borrowed until output_free() */
	const struct table_env *tables;
	struct versions *versions;
	struct values *values;
	const struct version *version; /* on which the merge is based */
	const struct gc *gc;
	uint64_t gc_id; /* of table_meta: versions_next_table_id() from before gc_init() */
	const struct range_set *ranges; /* all range deletes of the sources; may be NULL */
	unsigned level;			/* of the tables */
	unsigned below;			/* first level that holds older data than the sources */
	enum space_class class;
	/* Flush: every reference comes from a memtable, where it was pending. Otherwise it
	 * comes from a table, where it was live, and may be moved to another segment. */
	bool flush;
	/* Of a flush: references stay pending, since whoever wrote them settles them all. */
	bool pending_stay;
	uint64_t table_bytes; /* of a finished table, about; 0: OUTPUT_TABLE_BYTES */
	/* Ikeys between which all entries lie, and the range deletes are kept: [from, to). Empty:
	 * unbounded. */
	struct kv_slice from, to;
};

struct output;

int output_new(const struct output_options *options, struct output **out) KV_MUST_CHECK;
void output_free(struct output *o); /* NULL is allowed */

/* Return: 0, -KV_E_NOSPACE, -KV_E_CORRUPT (a malformed reference), -ENOMEM, ... */
int output_add(struct output *o, const struct entry *e) KV_MUST_CHECK;
/* After the last entry. */
int output_finish(struct output *o) KV_MUST_CHECK;

/* Fill in the tables and deltas; the tables belong to @o until versions_apply() takes them over.
 * Return: 0, -ENOMEM. */
int output_edit(struct output *o, struct version_edit *edit) KV_MUST_CHECK;
/* The edit is durable: references written to tables are not pending any more. */
void output_committed(struct output *o);
/* It is not, because of @err: give the space back, and forget values that were moved. */
void output_failed(struct output *o, int err);

/* Stored bytes of the finished tables. */
uint64_t output_bytes(const struct output *o);

#endif
