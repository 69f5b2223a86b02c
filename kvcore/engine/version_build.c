/* SPDX-License-Identifier: MIT */
/*
 * Building a version from another one and an edit, and the manifest that
 * describes it. Pure memory: nothing here changes what is current or what is on
 * the volume, so every failure leaves the old state whole.
 *
 * A level other than 0 is sorted and must be disjoint. That is checked for every
 * new version and not only asserted: a level with an overlap would read wrong
 * data from then on, while refusing the edit costs one flush or compaction.
 */
#include "kvcore/engine/version_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/values.h"

bool version_table_before(const struct table_meta *a, const struct table_meta *b)
{
	int order = slice_compare(kv_buf_slice(&a->largest), kv_buf_slice(&b->smallest));

	return order < 0 || (order == 0 && a->largest_exclusive);
}

static bool id_in(uint64_t id, const uint64_t *ids, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (ids[i] == id)
			return true;
	}
	return false;
}

/* The level to which the edit moves a table, or @level. */
static unsigned level_after(const struct version_edit *edit, uint64_t id, unsigned level)
{
	for (size_t i = 0; i < edit->move_count; i++) {
		if (edit->move[i] == id)
			return edit->move_level[i];
	}
	return level;
}

/* Put a table behind the others of the level that is being built. */
static void push(struct version_full *v, struct version_table *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	v->tables[v->table_count] = t->table;
	v->counted[v->table_count] = t;
	v->table_count++;
}

static int compare_tables(const void *a, const void *b)
{
	struct version_table *const *x = a;
	struct version_table *const *y = b;
	const struct table_meta *mx = table_get_meta((*x)->table);
	const struct table_meta *my = table_get_meta((*y)->table);

	return slice_compare(kv_buf_slice(&mx->smallest), kv_buf_slice(&my->smallest));
}

/* Sort the tables from @first on and make them the level. */
static int close_level(struct versions *vs, struct version_full *v, unsigned level, size_t first)
{
	struct version_level *l = &v->pub.level[level];

	l->tables = v->tables + first;
	l->count = v->table_count - first;
	l->bytes = 0;
	if (level && l->count)
		qsort(v->counted + first, l->count, sizeof(*v->counted), compare_tables);
	for (size_t i = first; i < v->table_count; i++) {
		const struct table_meta *m = table_get_meta(v->counted[i]->table);

		v->tables[i] = v->counted[i]->table;
		l->bytes += m->stored_bytes;
		if (level && i > first &&
		    !version_table_before(table_get_meta(v->tables[i - 1]), m)) {
			logmsg(vs->options.log, KV_LOG_ERROR,
			       "version: tables overlap level=%u id=%" PRIu64 " id=%" PRIu64, level,
			       table_get_meta(v->tables[i - 1])->id, m->id);
			return -KV_E_CORRUPT;
		}
	}
	return 0;
}

/* Those of @base that are in @level after the edit. */
static void push_kept(struct version_full *v, const struct version_full *base,
		      const struct version_edit *edit, unsigned level)
{
	size_t at = 0;

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < base->pub.level[n].count; i++, at++) {
			uint64_t id = table_get_meta(base->tables[at])->id;

			if (id_in(id, edit->remove, edit->remove_count) ||
			    level_after(edit, id, n) != level)
				continue;
			push(v, base->counted[at]);
		}
	}
}

static int push_added(struct versions *vs, struct version_full *v, const struct version_edit *edit,
		      unsigned level)
{
	for (size_t i = 0; i < edit->add_count; i++) {
		struct version_table *t;
		int err;

		if (edit->add[i].level != level)
			continue;
		t = calloc(1, sizeof(*t));
		if (!t)
			return -ENOMEM;
		err = table_open(vs->options.tables, &edit->add[i], &t->table);
		if (err) {
			free(t);
			return err;
		}
		push(v, t);
	}
	return 0;
}

static int compare_segments(const void *a, const void *b)
{
	struct segment *const *x = a;
	struct segment *const *y = b;

	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static int build_segments(struct version_full *v, const struct version_full *base,
			  const struct version_edit *edit)
{
	size_t base_count = base ? base->pub.segment_count : 0;
	size_t n = 0;

	if (!(base_count + edit->add_segment_count))
		return 0;
	v->pub.segments = calloc(base_count + edit->add_segment_count, sizeof(struct segment *));
	if (!v->pub.segments)
		return -ENOMEM;
	for (size_t i = 0; i < base_count; i++) {
		if (!id_in(base->pub.segments[i]->id, edit->remove_segments,
			   edit->remove_segment_count))
			v->pub.segments[n++] = base->pub.segments[i];
	}
	for (size_t i = 0; i < edit->add_segment_count; i++)
		v->pub.segments[n++] = edit->add_segments[i];
	if (n)
		qsort(v->pub.segments, n, sizeof(struct segment *), compare_segments);
	for (size_t i = 0; i < n; i++)
		atomic_fetch_add_explicit(&v->pub.segments[i]->refs, 1, memory_order_relaxed);
	v->pub.segment_count = n;
	return 0;
}

/* Every table that the edit removes or moves is there, and nothing has a level too many. */
static int check_edit(const struct version_full *base, const struct version_edit *edit)
{
	size_t named = 0;

	for (size_t i = 0; base && i < base->table_count; i++) {
		uint64_t id = table_get_meta(base->tables[i])->id;

		named += id_in(id, edit->remove, edit->remove_count);
		named += id_in(id, edit->move, edit->move_count);
	}
	if (named != edit->remove_count + edit->move_count)
		return -KV_E_INVALID;
	for (size_t i = 0; i < edit->add_count; i++) {
		if (edit->add[i].level >= KV_LEVELS)
			return -KV_E_CORRUPT;
	}
	for (size_t i = 0; i < edit->move_count; i++) {
		if (!edit->move_level[i] || edit->move_level[i] >= KV_LEVELS)
			return -KV_E_INVALID;
	}
	return 0;
}

static struct version_full *version_alloc(struct versions *vs, size_t tables_max)
{
	struct version_full *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	atomic_init(&v->pub.refs, 1);
	v->pub.set = vs;
	atomic_fetch_add(&vs->alive, 1);
	v->tables = calloc(tables_max + 1, sizeof(struct table *));
	v->counted = calloc(tables_max + 1, sizeof(*v->counted));
	if (v->tables && v->counted)
		return v;
	version_free(v, VERSION_END_UNDO);
	return NULL;
}

int version_build(struct versions *vs, const struct version_full *base,
		  const struct version_edit *edit, struct version_full **out)
{
	struct version_full *v;
	int err;

	err = check_edit(base, edit);
	if (err)
		return err;
	v = version_alloc(vs, (base ? base->table_count : 0) + edit->add_count);
	if (!v)
		return -ENOMEM;
	for (unsigned level = 0; !err && level < KV_LEVELS; level++) {
		size_t first = v->table_count;

		err = push_added(vs, v, edit, level);
		if (!err && base)
			push_kept(v, base, edit, level);
		if (!err)
			err = close_level(vs, v, level, first);
	}
	if (!err)
		err = build_segments(v, base, edit);
	if (err) {
		version_free(v, VERSION_END_UNDO);
		return err;
	}
	*out = v;
	return 0;
}

/* ---- manifest ------------------------------------------------------------------ */

uint64_t version_live_after(const struct versions *vs, const struct version_edit *edit,
			    const struct segment *seg)
{
	uint64_t live = atomic_load_explicit(&seg->live_bytes, memory_order_relaxed);
	uint64_t used = atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
	int64_t delta = 0;

	for (size_t i = 0; i < edit->delta_count; i++) {
		if (edit->deltas[i].id == seg->id)
			delta += edit->deltas[i].live_bytes;
	}
	/*
	 * A count that cannot be right must not come to 0 by clamping: the segment
	 * would be thrown away with values in it. Left as it is, it only keeps space
	 * until fsck counts again.
	 */
	if ((delta < 0 && live < 0 - (uint64_t)delta) ||
	    (delta > 0 && (used < live || used - live < (uint64_t)delta))) {
		logmsg(vs->options.log, KV_LOG_WARN,
		       "version: wrong live bytes segment=%" PRIu64 " live=%" PRIu64
		       " delta=%" PRId64,
		       seg->id, live, delta);
		return live;
	}
	return live + (uint64_t)delta;
}

static int fill_manifest(struct versions *vs, const struct version_full *v,
			 const struct version_edit *edit, struct manifest *m)
{
	size_t at = 0;

	m->tables = calloc(v->table_count + 1, sizeof(*m->tables));
	m->segments = calloc(v->pub.segment_count + 1, sizeof(*m->segments));
	if (!m->tables || !m->segments)
		return -ENOMEM;
	/* Shallow copies: the manifest is only encoded. */
	for (unsigned level = 0; level < KV_LEVELS; level++) {
		for (size_t i = 0; i < v->pub.level[level].count; i++, at++) {
			m->tables[at] = *table_get_meta(v->tables[at]);
			m->tables[at].level = level;
		}
	}
	m->table_count = at;
	m->segment_count = v->pub.segment_count;
	for (size_t i = 0; i < m->segment_count; i++) {
		const struct segment *seg = v->pub.segments[i];

		m->segments[i].id = seg->id;
		m->segments[i].extent = seg->extent;
		m->segments[i].live_bytes = version_live_after(vs, edit, seg);
		m->segments[i].used_bytes =
			atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
	}
	return 0;
}

int version_encode(struct versions *vs, const struct version_full *v,
		   const struct version_edit *edit, uint64_t generation, struct kv_buf *out)
{
	const struct wal_position *log = edit->set_log ? &edit->log : &vs->log;
	struct manifest m = {0};
	int err;

	memcpy(m.uuid, vs->sb.uuid, KV_UUID_LEN);
	m.generation = generation;
	m.log_lsn = log->lsn;
	memcpy(m.log_prev_sum, log->prev_sum, CHECKSUM_LEN);
	m.log_epoch = edit->log_epoch ? edit->log_epoch : vs->log_epoch;
	m.log_fence = edit->log_epoch ? edit->log_fence : vs->log_fence;
	m.clean = edit->clean;
	m.last_seq = max_u64(edit->last_seq, vs->last_seq);
	m.next_table_id = atomic_load_explicit(&vs->next_table_id, memory_order_relaxed);
	m.next_segment_id = atomic_load_explicit(&vs->next_segment_id, memory_order_relaxed);
	err = fill_manifest(vs, v, edit, &m);
	if (!err)
		err = manifest_encode(&m, out);
	free(m.tables);
	free(m.segments);
	return err;
}
