/* SPDX-License-Identifier: MIT */
/*
 * A damaged table is written anew without its damaged pages. Pages hold at
 * most some hundred entries and know the bounds of what they lost, so the loss
 * is confined and can be named.
 *
 * An entry whose large value is gone becomes a delete of the same sequence
 * number: were it dropped, an older value of the key could come back from a
 * deeper level as if it were the present one.
 *
 * What is left out is what the verification found and reports. A page that could be read then and
 * cannot now ends the repair, which has changed nothing yet; the next one reports it.
 *
 * Entries out of order (a fault of the writer, not of the disk) are sorted in
 * memory first; a table is small enough for that.
 */
#include "kvcore/engine/repair.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

struct salvage {
	struct repair *r;
	size_t index;
	const struct table_meta *m;
	struct table_builder *builder;
	uint64_t leaf_off; /* of the page at hand */
	uint64_t ordinal;  /* of the entry within it */
	int page_err;	   /* of a page that was whole when it was verified */
	bool ordered;	   /* entries may go straight to the builder */
	bool any;	   /* the last key is valid */
	struct kv_buf last_key;
	kv_seq last_seq;
	struct arena arena; /* of gathered entries */
	struct entry *gathered;
	size_t gathered_count, gathered_cap;
};

/* Is the entry at hand one whose value is gone? Walks come in the same order as the list. */
static bool salvage_is_lost(struct salvage *s)
{
	struct repair *r = s->r;
	const struct verify *v = r->v;

	while (r->lost_next < v->lost_count && v->lost[r->lost_next].leaf.table < s->index)
		r->lost_next++;
	if (r->lost_next == v->lost_count || v->lost[r->lost_next].leaf.table != s->index ||
	    v->lost[r->lost_next].leaf.off != s->leaf_off ||
	    v->lost[r->lost_next].ordinal != s->ordinal)
		return false;
	r->lost_next++;
	return true;
}

/* Deeper levels are disjoint; a key outside the table's bounds was never found by a reader. */
static bool salvage_is_outside(const struct salvage *s, struct kv_slice key)
{
	int end = slice_compare(key, kv_buf_slice(&s->m->largest));

	if (key.len < IKEY_PREFIX_LEN)
		return true;
	if (!s->m->level)
		return false;
	return slice_compare(key, kv_buf_slice(&s->m->smallest)) < 0 || end > 0 ||
	       (end == 0 && s->m->largest_exclusive);
}

static int salvage_add(struct salvage *s, const struct entry *e)
{
	struct verify *v = s->r->v;
	struct entry last = {.key = kv_buf_slice(&s->last_key), .seq = s->last_seq};
	struct value_ref ref;
	size_t segment;
	int err;

	if (s->any && entry_compare(&last, e) >= 0)
		return 0; /* the same version twice */
	if (e->kind == ENTRY_PUT_REF && !v->counted[s->index]) {
		err = value_ref_decode(e->value, &ref);
		if (!err)
			err = verify_find_segment(v, ref.segment_id, &segment);
		if (err)
			return err;
		v->live[segment] += ref.stored_len;
	}
	err = table_builder_add(s->builder, e);
	if (err)
		return err;
	s->any = true;
	s->last_seq = e->seq;
	return buf_assign(&s->last_key, e->key);
}

static int salvage_gather(struct salvage *s, const struct entry *e)
{
	struct entry copy = *e;

	if (s->gathered_count == s->gathered_cap) {
		size_t cap = s->gathered_cap ? 2 * s->gathered_cap : 1024;
		struct entry *p = realloc(s->gathered, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		s->gathered = p;
		s->gathered_cap = cap;
	}
	copy.key.data = arena_copy(&s->arena, e->key);
	copy.value.data = arena_copy(&s->arena, e->value);
	if ((e->key.len && !copy.key.data) || (e->value.len && !copy.value.data))
		return -ENOMEM;
	s->gathered[s->gathered_count++] = copy;
	return 0;
}

static int salvage_entry(void *ctx, const struct entry *e)
{
	struct salvage *s = ctx;
	struct entry kept = *e;
	int err;

	if (salvage_is_lost(s)) {
		kept.kind = ENTRY_DELETE;
		kept.value = kv_slice_of(NULL, 0);
	}
	s->ordinal++;
	if (salvage_is_outside(s, e->key))
		return 0;
	err = s->ordered ? salvage_add(s, &kept) : salvage_gather(s, &kept);
	return err ? err : verify_progress(s->r->v, e->key.len + e->value.len);
}

static int salvage_page(void *ctx, const struct page_ref *ref, int err, struct kv_slice from,
			struct kv_slice to)
{
	struct salvage *s = ctx;
	const struct table_meta *m = s->m;
	bool filter = m->filter.stored_len && ref->off == m->filter.off; /* it is made anew */

	(void)from;
	(void)to;
	s->leaf_off = ref->off;
	s->ordinal = 0;
	if (!verify_is_damage(err))
		return err;
	if (!filter && !verify_page_is_bad(s->r->v, s->index, ref->off))
		s->page_err = err;
	return s->page_err;
}

static int gathered_compare(const void *a, const void *b)
{
	return entry_compare(a, b);
}

static int salvage_sorted(struct salvage *s)
{
	if (!s->gathered_count)
		return 0;
	qsort(s->gathered, s->gathered_count, sizeof(*s->gathered), gathered_compare);
	for (size_t i = 0; i < s->gathered_count; i++) {
		int err = salvage_add(s, &s->gathered[i]);

		if (err)
			return err;
	}
	return 0;
}

/* The range deletes that can still be read; NULL if there are none. */
static int salvage_ranges(struct salvage *s, struct table **table, const struct range_set **out)
{
	int err;

	*out = NULL;
	if (!s->m->ranges.stored_len)
		return 0;
	err = table_open(&s->r->tables, s->m, table);
	if (err)
		return err;
	err = table_ranges(*table, out);
	if (verify_is_damage(err) && verify_page_is_bad(s->r->v, s->index, s->m->ranges.off))
		return 0;
	return err;
}

static bool salvage_was_disordered(const struct verify *v, size_t index)
{
	for (size_t i = 0; i < v->finding_count; i++) {
		if (v->findings[i].table == index && v->findings[i].id == KV_PROBLEM_TABLE_ORDER)
			return true;
	}
	return false;
}

/* Finish the new table and note it; an empty one is dropped. */
static int salvage_finish(struct salvage *s)
{
	const struct range_set *ranges;
	struct table *old = NULL;
	struct repair *r = s->r;
	int err;

	err = salvage_ranges(s, &old, &ranges);
	if (err)
		goto out;
	r->remove[r->remove_count++] = s->m->id;
	if (!table_builder_entries(s->builder) && !(ranges && range_set_count(ranges)))
		goto out;
	err = table_builder_finish(s->builder, ranges, s->m->level, &r->add[r->add_count]);
	s->builder = NULL; /* released whatever the result */
	if (!err)
		r->add_count++;
out:
	if (old)
		table_close(old, false);
	return err;
}

int repair_table(struct repair *r, size_t index)
{
	struct salvage s = {.r = r, .index = index, .m = &r->v->manifest.tables[index]};
	struct table_walk walk = {.page = salvage_page, .entry = salvage_entry, .ctx = &s};
	int err;

	arena_init(&s.arena);
	s.ordered = !salvage_was_disordered(r->v, index);
	err = table_builder_new(&r->tables, versions_new_table_id(r->versions), SPACE_COMPACT,
				false, &s.builder);
	if (err)
		goto out;
	err = table_walk(&r->tables, s.m, &walk);
	if (s.page_err || (err && !verify_is_damage(err)))
		goto out; /* damage: not even the root can be found, what came before stays */
	err = salvage_sorted(&s);
	if (err)
		goto out;
	err = salvage_finish(&s);
out:
	table_builder_abandon(s.builder);
	arena_fini(&s.arena);
	free(s.gathered);
	kv_buf_free(&s.last_key);
	return err;
}
