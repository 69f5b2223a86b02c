/* SPDX-License-Identifier: MIT */
/*
 * Splitting: a table ends only between two user keys, never between versions of
 * one, so tables of a level are disjoint by key; and the space between the first
 * key of a table and that of the next belongs to the former, range deletes
 * included, so bounds and range deletes never disagree (the cause of a family
 * of bugs elsewhere: RocksDB #2752, #2833, #3169).
 *
 * A table also ends when it would overlap too much of the level below it, which
 * bounds the cost of its own later compaction (LevelDB's grandparents).
 */
#include "kvcore/engine/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define OUTPUT_GRANDPARENT_TABLES 10U

/* What happened to one segment's references. */
struct segment_use {
	uint64_t id;
	int64_t live;	 /* change of the bytes that tables refer to */
	uint64_t settle; /* values that are not pending any more after the edit */
	uint64_t moved;	 /* of them written here: settled also if there is no edit */
};

struct output {
	struct output_options options;
	struct gc_filter filter;
	struct range_set *ranges; /* to be kept; NULL: none */
	struct kv_buf key;	  /* of the entry before */
	bool any_key;
	struct table_builder *builder; /* NULL: no entry since the last cut */
	struct kv_buf start;	    /* the present table's first key; empty: from the beginning */
	size_t grandparent;	    /* the first one that ends at or behind the present key */
	uint64_t grandparent_bytes; /* passed since the table began */

	struct table_meta *tables;
	size_t table_count, table_cap;
	struct segment_use *uses; /* by id */
	size_t use_count, use_cap;
	struct segment_delta *deltas;
};

static bool version_below(void *ctx, struct kv_slice first, struct kv_slice last, bool exclusive)
{
	const struct output *o = ctx;

	return version_overlaps(o->options.version, o->options.below, first, last, exclusive);
}

int output_new(const struct output_options *options, struct output **out)
{
	struct output *o = calloc(1, sizeof(*o));
	struct gc_below below = {version_below, o};
	int err = 0;

	if (!o)
		return -ENOMEM;
	o->options = *options;
	if (!o->options.table_bytes)
		o->options.table_bytes = OUTPUT_TABLE_BYTES;
	gc_filter_init(&o->filter, options->gc, options->ranges, below);
	if (options->ranges && range_set_count(options->ranges)) {
		err = range_set_new(&o->ranges);
		if (!err)
			err = gc_filter_ranges(options->gc, options->ranges, below, o->ranges);
	}
	if (!err)
		err = buf_assign(&o->start, options->from);
	if (err) {
		output_free(o);
		return err;
	}
	*out = o;
	return 0;
}

void output_free(struct output *o)
{
	if (!o)
		return;
	KV_ASSERT(!o->builder && !o->table_count); /* finished or failed before */
	range_set_free(o->ranges);
	kv_buf_free(&o->key);
	kv_buf_free(&o->start);
	free(o->tables);
	free(o->uses);
	free(o->deltas);
	free(o);
}

/* ---- references ------------------------------------------------------------------- */

/* NULL: out of memory. */
static struct segment_use *use_of(struct output *o, uint64_t id)
{
	size_t lo = 0;
	size_t hi = o->use_count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (o->uses[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < o->use_count && o->uses[lo].id == id)
		return &o->uses[lo];
	if (o->use_count == o->use_cap) {
		size_t cap = o->use_cap ? o->use_cap * 2 : 16;
		struct segment_use *grown = realloc(o->uses, cap * sizeof(*grown));

		if (!grown)
			return NULL;
		o->uses = grown;
		o->use_cap = cap;
	}
	memmove(&o->uses[lo + 1], &o->uses[lo], (o->use_count - lo) * sizeof(*o->uses));
	o->use_count++;
	o->uses[lo] = (struct segment_use){.id = id};
	return &o->uses[lo];
}

/* A reference out of a memtable is settled whether it is kept or not. */
static int count_flushed(struct output *o, const struct value_ref *ref, bool keep)
{
	struct segment_use *u = use_of(o, ref->segment_id);

	if (!u)
		return -ENOMEM;
	u->settle += !o->options.pending_stay;
	if (keep)
		u->live += (int64_t)ref->stored_len;
	return 0;
}

static int count_dropped(struct output *o, const struct value_ref *ref)
{
	struct segment_use *u;

	/* A reference into nothing is damage that reading reports; dropping it mends it. */
	if (!version_segment(o->options.version, ref->segment_id))
		return 0;
	u = use_of(o, ref->segment_id);
	if (!u)
		return -ENOMEM;
	u->live -= (int64_t)ref->stored_len;
	return 0;
}

/* Write the value anew. @ref: in the old place, out the new one. */
static int move_value(struct output *o, struct value_ref *ref)
{
	struct segment_use *u;
	struct kv_buf raw = {0};
	struct value_ref fresh;
	int err;

	err = values_get(o->options.values, o->options.version, ref, &raw);
	if (err)
		goto out;
	err = values_put(o->options.values, kv_buf_slice(&raw), SPACE_MOVE, &fresh);
	if (err)
		goto out;
	u = use_of(o, fresh.segment_id);
	if (!u) {
		values_settle(o->options.values, fresh.segment_id);
		err = -ENOMEM;
		goto out;
	}
	u->live += (int64_t)fresh.stored_len;
	u->settle++;
	u->moved++;
	err = count_dropped(o, ref);
	*ref = fresh;
out:
	kv_buf_free(&raw);
	return err;
}

/*
 * Account for a reference. @encoded: room for VALUE_REF_MAX; if the value moved, the
 * entry's value is replaced by the new reference in it.
 */
static int handle_ref(struct output *o, struct entry *e, bool keep, uint8_t *encoded)
{
	struct value_ref ref;
	int err = value_ref_decode(e->value, &ref);

	if (err)
		return err;
	if (o->options.flush)
		return count_flushed(o, &ref, keep);
	if (!keep)
		return count_dropped(o, &ref);
	if (!values_should_move(o->options.values, o->options.version, &ref))
		return 0;
	err = move_value(o, &ref);
	/* A value that cannot be read, or for whose copy there is no room, stays where it is. */
	if (err == -KV_E_CHECKSUM || err == -KV_E_CORRUPT || err == -EIO || err == -KV_E_NOSPACE)
		return 0;
	if (err)
		return err;
	e->value = kv_slice_of(encoded, value_ref_encode(&ref, encoded));
	return 0;
}

/* ---- tables -------------------------------------------------------------------------- */

static int reserve_table(struct output *o)
{
	size_t cap = o->table_cap ? o->table_cap * 2 : 8;
	struct table_meta *grown;

	if (o->table_count < o->table_cap)
		return 0;
	grown = realloc(o->tables, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	o->tables = grown;
	o->table_cap = cap;
	return 0;
}

static int new_builder(struct output *o)
{
	uint64_t id = versions_new_table_id(o->options.versions);
	int err = reserve_table(o);

	return err ? err
		   : table_builder_new(o->options.tables, id, o->options.class,
				       o->options.flush && !o->options.pending_stay, &o->builder);
}

/* End the present table; the next one begins at @next (empty: there is none). */
static int cut(struct output *o, struct kv_slice next)
{
	struct range_set *clipped = NULL;
	struct table_builder *b;
	int err = 0;

	if (o->ranges && range_set_count(o->ranges)) {
		err = range_set_new(&clipped);
		if (!err)
			err = range_set_add_set(clipped, o->ranges, kv_buf_slice(&o->start), next);
		if (err)
			goto out;
	}
	if (!o->builder && clipped && range_set_count(clipped))
		err = new_builder(o);
	if (err || !o->builder)
		goto out;
	b = o->builder;
	o->builder = NULL;
	err = table_builder_finish(b, clipped, o->options.level, &o->tables[o->table_count]);
	if (err)
		goto out;
	o->tables[o->table_count].gc_id = o->options.gc_id;
	o->table_count++;
	o->grandparent_bytes = 0;
	err = buf_assign(&o->start, next);
out:
	range_set_free(clipped);
	return err;
}

/* Bytes of tables two levels down that lie before @key, since the present table began. */
static void pass_grandparents(struct output *o, struct kv_slice key)
{
	const struct version_level *l;

	if (!o->options.level || o->options.level + 1 >= KV_LEVELS)
		return;
	l = &o->options.version->level[o->options.level + 1];
	for (; o->grandparent < l->count; o->grandparent++) {
		const struct table_meta *m = table_get_meta(l->tables[o->grandparent]);

		if (slice_compare(kv_buf_slice(&m->largest), key) >= 0)
			break;
		if (o->builder)
			o->grandparent_bytes += m->stored_bytes;
	}
}

static bool is_full(const struct output *o)
{
	return table_builder_size(o->builder) >= o->options.table_bytes ||
	       o->grandparent_bytes > OUTPUT_GRANDPARENT_TABLES * o->options.table_bytes;
}

int output_add(struct output *o, const struct entry *entry)
{
	uint8_t encoded[VALUE_REF_MAX];
	struct entry e = *entry;
	bool first = !o->any_key || !slice_equal(kv_buf_slice(&o->key), e.key);
	bool keep;
	int err;

	if (first) {
		err = buf_assign(&o->key, e.key);
		if (err)
			return err;
		o->any_key = true;
		pass_grandparents(o, e.key);
		if (o->builder && is_full(o)) {
			err = cut(o, e.key);
			if (err)
				return err;
		}
	}
	keep = gc_filter_keep(&o->filter, &e, first);
	if (e.kind == ENTRY_PUT_REF) {
		err = handle_ref(o, &e, keep, encoded);
		if (err)
			return err;
	}
	if (!keep)
		return 0;
	if (!o->builder) {
		err = new_builder(o);
		if (err)
			return err;
	}
	return table_builder_add(o->builder, &e);
}

int output_finish(struct output *o)
{
	return cut(o, o->options.to);
}

/* ---- the edit ----------------------------------------------------------------------- */

int output_edit(struct output *o, struct version_edit *edit)
{
	size_t n = 0;

	o->deltas = calloc(o->use_count + 1, sizeof(*o->deltas));
	if (!o->deltas)
		return -ENOMEM;
	for (size_t i = 0; i < o->use_count; i++) {
		if (o->uses[i].live)
			o->deltas[n++] = (struct segment_delta){o->uses[i].id, o->uses[i].live};
	}
	edit->add = o->tables;
	edit->add_count = o->table_count;
	edit->deltas = o->deltas;
	edit->delta_count = n;
	return 0;
}

void output_committed(struct output *o)
{
	o->table_count = 0; /* the version has them */
	for (size_t i = 0; i < o->use_count; i++) {
		for (uint64_t n = 0; n < o->uses[i].settle; n++)
			values_settle(o->options.values, o->uses[i].id);
	}
}

void output_failed(struct output *o, int err)
{
	table_builder_abandon(o->builder);
	o->builder = NULL;
	for (size_t i = 0; i < o->table_count; i++)
		versions_discard_table(o->options.versions, &o->tables[i], err);
	o->table_count = 0;
	for (size_t i = 0; i < o->use_count; i++) {
		for (uint64_t n = 0; n < o->uses[i].moved; n++)
			values_settle(o->options.values, o->uses[i].id);
	}
}

uint64_t output_bytes(const struct output *o)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < o->table_count; i++)
		bytes += o->tables[i].stored_bytes;
	return bytes;
}
