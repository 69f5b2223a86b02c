/* SPDX-License-Identifier: MIT */
/*
 * Writing and reading runs. A run is a level in miniature: disjoint tables in key
 * order, read through the page cache with their filters. What tells it from one is
 * only that nothing on the volume points to it.
 */
#include "kvcore/engine/spill.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/level_iter.h"
#include "kvcore/engine/output.h"

/* Values of one segment that a run refers to. */
struct ref_count {
	uint64_t segment_id;
	uint64_t count;
};

struct spill_run {
	const struct spill_env *env;
	unsigned refs;
	kv_seq seq;
	struct table **tables; /* by key */
	size_t count, cap;
	uint64_t bytes, entries;
	struct ref_count *values;
	size_t value_count, value_cap;
};

struct spill_writer {
	struct spill_run *run;
	struct table_builder *builder; /* NULL: none is begun */
};

/* ---- references to large values ------------------------------------------------- */

static int count_refs(struct spill_run *r, uint64_t segment_id, uint64_t n)
{
	struct ref_count *grown;
	size_t cap = r->value_cap ? r->value_cap * 2 : 8;

	/* Segments are filled one after the other: the last one is nearly always it. */
	for (size_t i = r->value_count; i > 0; i--) {
		if (r->values[i - 1].segment_id == segment_id) {
			r->values[i - 1].count += n;
			return 0;
		}
	}
	if (r->value_count == r->value_cap) {
		grown = realloc(r->values, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		r->values = grown;
		r->value_cap = cap;
	}
	r->values[r->value_count++] = (struct ref_count){segment_id, n};
	return 0;
}

void spill_run_forget_refs(struct spill_run *r)
{
	r->value_count = 0;
}

void spill_run_hold_refs(struct spill_run *r)
{
	for (size_t i = 0; i < r->value_count; i++)
		values_hold_many(r->env->values, r->values[i].segment_id, r->values[i].count);
}

/* ---- life ------------------------------------------------------------------------- */

static void drop_table(const struct spill_env *env, struct table *t)
{
	const struct table_meta *m = table_get_meta(t);

	for (uint32_t i = 0; i < m->extent_count; i++)
		space_release(env->tables->space, m->extents[i]);
	table_close(t, true);
}

struct spill_run *spill_run_ref(struct spill_run *r)
{
	r->refs++;
	return r;
}

void spill_run_unref(struct spill_run *r)
{
	if (!r || --r->refs)
		return;
	for (size_t i = 0; i < r->count; i++)
		drop_table(r->env, r->tables[i]);
	for (size_t i = 0; i < r->value_count; i++)
		values_settle_many(r->env->values, r->values[i].segment_id, r->values[i].count);
	free(r->tables);
	free(r->values);
	free(r);
}

/* ---- writing ------------------------------------------------------------------------ */

int spill_writer_new(const struct spill_env *env, kv_seq seq, struct spill_writer **out)
{
	struct spill_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->run = calloc(1, sizeof(*w->run));
	if (!w->run) {
		free(w);
		return -ENOMEM;
	}
	w->run->env = env;
	w->run->refs = 1;
	w->run->seq = seq;
	*out = w;
	return 0;
}

static int reserve_table(struct spill_run *r)
{
	size_t cap = r->cap ? r->cap * 2 : 4;
	struct table **grown;

	if (r->count < r->cap)
		return 0;
	grown = realloc(r->tables, cap * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->tables = grown;
	r->cap = cap;
	return 0;
}

static int finish_table(struct spill_writer *w)
{
	struct spill_run *r = w->run;
	struct table_builder *b = w->builder;
	struct table_meta meta;
	int err = reserve_table(r);

	if (err)
		return err;
	w->builder = NULL;
	err = table_builder_finish(b, NULL, 0, &meta);
	if (err)
		return err;
	err = table_open(r->env->tables, &meta, &r->tables[r->count]);
	if (err) {
		versions_discard_table(r->env->versions, &meta, err);
		return err;
	}
	r->bytes += meta.stored_bytes;
	r->entries += meta.entry_count;
	r->count++;
	table_meta_fini(&meta);
	return 0;
}

int spill_writer_add(struct spill_writer *w, struct kv_slice ikey, enum entry_kind kind,
		     struct kv_slice value)
{
	const struct spill_env *env = w->run->env;
	const struct entry e = {ikey, w->run->seq, kind, value};
	struct value_ref ref;
	int err = 0;

	if (w->builder && table_builder_size(w->builder) >= OUTPUT_TABLE_BYTES)
		err = finish_table(w);
	if (!err && !w->builder)
		err = table_builder_new(env->tables, versions_new_table_id(env->versions),
					SPACE_VALUE, false, &w->builder);
	if (!err && kind == ENTRY_PUT_REF) {
		err = value_ref_decode(value, &ref);
		if (!err)
			err = count_refs(w->run, ref.segment_id, 1);
	}
	return err ? err : table_builder_add(w->builder, &e);
}

int spill_writer_finish(struct spill_writer *w, struct spill_run **out)
{
	int err = w->builder ? finish_table(w) : 0;

	if (err) {
		spill_writer_abandon(w);
		return err;
	}
	*out = w->run;
	free(w);
	return 0;
}

void spill_writer_abandon(struct spill_writer *w)
{
	if (!w)
		return;
	table_builder_abandon(w->builder);
	spill_run_forget_refs(w->run);
	spill_run_unref(w->run);
	free(w);
}

/* ---- reading -------------------------------------------------------------------------- */

kv_seq spill_run_seq(const struct spill_run *r)
{
	return r->seq;
}

uint64_t spill_run_bytes(const struct spill_run *r)
{
	return r->bytes;
}

uint64_t spill_run_entries(const struct spill_run *r)
{
	return r->entries;
}

int spill_run_get(struct spill_run *r, struct kv_slice ikey, uint64_t hash, enum entry_kind *kind,
		  struct kv_buf *value)
{
	size_t lo = 0;
	size_t hi = r->count;
	kv_seq seq;

	while (lo < hi) { /* the number of tables that do not begin behind the key */
		size_t mid = lo + (hi - lo) / 2;
		const struct table_meta *m = table_get_meta(r->tables[mid]);

		if (slice_compare(kv_buf_slice(&m->smallest), ikey) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo || !table_covers(r->tables[lo - 1], ikey))
		return -KV_E_NOTFOUND;
	return table_get(r->tables[lo - 1], ikey, hash, KV_SEQ_MAX, &seq, kind, value);
}

int spill_run_iter(struct spill_run *r, unsigned flags, struct iter **out)
{
	return level_iter_new(r->tables, r->count, flags, out);
}
