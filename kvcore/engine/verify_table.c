/* SPDX-License-Identifier: MIT */
/*
 * Verification of tables. table_walk() judges each page by itself (checksum,
 * form, bounds given by its parent); here everything is judged that spans
 * pages: the order of all entries, the counts and bounds that the manifest
 * states, the filter (it must admit every key that is there), the large values,
 * and that the tables of one level are disjoint.
 *
 * A key range is reported once for each damaged page. What a damaged page held
 * is lost; if an older version of such a key is in a deeper level, it becomes
 * visible again, so the range is "lost or older".
 */
#include "kvcore/engine/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

static const struct kv_slice no_key;

/* One table being walked. */
struct table_check {
	struct verify *v;
	size_t index;
	const struct table_meta *m;
	struct table *table; /* for the filter and range deletes; through the cache */
	struct kv_buf key;   /* of the entry before */
	kv_seq seq;	     /* of the entry before */
	uint64_t leaf_off;   /* of the page at hand */
	uint64_t leaf_entries;
	uint64_t entries, deletes, ref_bytes;
	bool page_bad, order_bad, filter_bad, seq_bad, bounds_bad, value_bad;
};

bool verify_page_is_bad(struct verify *v, size_t table, uint64_t off)
{
	for (size_t i = 0; i < v->bad_count; i++) {
		size_t at = (v->bad_at + i) % v->bad_count;

		if (v->bad[at].table == table && v->bad[at].off == off) {
			v->bad_at = at;
			return true;
		}
	}
	return false;
}

static int bad_note(struct verify *v, size_t table, uint64_t off)
{
	if (v->bad_count == v->bad_cap) {
		size_t cap = v->bad_cap ? 2 * v->bad_cap : 64;
		struct verify_page *p = realloc(v->bad, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		v->bad = p;
		v->bad_cap = cap;
	}
	v->bad[v->bad_count++] = (struct verify_page){table, off};
	return 0;
}

static int page_report(struct table_check *c, const struct page_ref *ref, int why,
		       struct kv_slice from, struct kv_slice to)
{
	const struct table_meta *m = c->m;

	if (m->filter.stored_len && ref->off == m->filter.off) {
		c->filter_bad = true;
		return verify_report(c->v, KV_PROBLEM_TABLE_FILTER, c->index, no_key, no_key,
				     "table %" PRIu64 ": the filter is damaged, no key is lost: %s",
				     m->id, verify_why(why));
	}
	c->page_bad = true;
	if (c->v->collect && bad_note(c->v, c->index, ref->off))
		return -ENOMEM;
	if (!from.len)
		from = kv_buf_slice(&m->smallest);
	if (!to.len)
		to = kv_buf_slice(&m->largest);
	if (m->ranges.stored_len && ref->off == m->ranges.off)
		return verify_report(c->v, KV_PROBLEM_TABLE_PAGE, c->index, from, to,
				     "table %" PRIu64 " level %" PRIu32
				     ": the page of range deletes is damaged, deleted keys may "
				     "come back: %s",
				     m->id, m->level, verify_why(why));
	return verify_report(c->v, KV_PROBLEM_TABLE_PAGE, c->index, from, to,
			     "table %" PRIu64 " level %" PRIu32 ": page at %" PRIu64
			     " is damaged, its keys are lost or older: %s",
			     m->id, m->level, ref->off, verify_why(why));
}

static int check_page(void *ctx, const struct page_ref *ref, int err, struct kv_slice from,
		      struct kv_slice to)
{
	struct table_check *c = ctx;

	c->v->result->pages++;
	c->leaf_off = ref->off;
	c->leaf_entries = 0;
	if (err && !verify_is_damage(err))
		return err;
	if (err) {
		err = page_report(c, ref, err, from, to);
		if (err)
			return err;
	}
	return verify_progress(c->v, ref->stored_len);
}

static int check_filter(struct table_check *c, const struct entry *e)
{
	bool admits = true;
	int err;

	if (c->filter_bad)
		return 0;
	err = table_filter_admits(c->table, e->key, &admits);
	if (err && !verify_is_damage(err))
		return err;
	if (!err && admits)
		return 0;
	c->filter_bad = true;
	return verify_report(c->v, KV_PROBLEM_TABLE_FILTER, c->index, e->key, e->key,
			     "table %" PRIu64 ": %s", c->m->id,
			     err ? "the filter cannot be read"
				 : "the filter denies a key that is there, or a prefix of one");
}

static int lost_note(struct table_check *c)
{
	struct verify *v = c->v;

	if (v->lost_count == v->lost_cap) {
		size_t cap = v->lost_cap ? 2 * v->lost_cap : 64;
		struct verify_lost *p = realloc(v->lost, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		v->lost = p;
		v->lost_cap = cap;
	}
	v->lost[v->lost_count++] = (struct verify_lost){{c->index, c->leaf_off}, c->leaf_entries};
	return 0;
}

static int check_value(struct table_check *c, const struct entry *e)
{
	struct verify *v = c->v;
	struct value_ref ref = {0};
	size_t segment = 0;
	int err;

	err = value_ref_decode(e->value, &ref);
	if (!err)
		err = verify_find_segment(v, ref.segment_id, &segment);
	if (!err)
		err = verify_value(v, &ref, segment, v->manifest.segments[segment].used_bytes,
				   !v->options->metadata_only);
	if (!err) {
		v->result->values++;
		c->ref_bytes += ref.stored_len;
		v->table_live[segment] += ref.stored_len;
		return v->options->metadata_only ? 0 : verify_progress(v, ref.stored_len);
	}
	if (err != -KV_E_NOTFOUND && !verify_is_damage(err))
		return err;
	if (err != -KV_E_NOTFOUND && ref.segment_id) {
		/* It is in its place, so it counts as live until repair drops it. */
		c->ref_bytes += ref.stored_len;
		v->table_live[segment] += ref.stored_len;
	}
	c->value_bad = true;
	/* Before the report: a lost entry that is not noted would not be mended. */
	if (lost_note(c))
		return -ENOMEM;
	if (err == -KV_E_NOTFOUND || !ref.segment_id)
		return verify_report(v, KV_PROBLEM_VALUE_DANGLING, c->index, e->key, e->key,
				     "table %" PRIu64 ": value of segment %" PRIu64 " at %" PRIu64
				     " is not there",
				     c->m->id, ref.segment_id, ref.off);
	return verify_report(v, KV_PROBLEM_VALUE, c->index, e->key, e->key,
			     "table %" PRIu64 ": value of segment %" PRIu64 " at %" PRIu64
			     " is damaged: %s",
			     c->m->id, ref.segment_id, ref.off, verify_why(err));
}

static bool key_inside(const struct table_meta *m, struct kv_slice key)
{
	int end = slice_compare(key, kv_buf_slice(&m->largest));

	return slice_compare(key, kv_buf_slice(&m->smallest)) >= 0 &&
	       (m->largest_exclusive ? end < 0 : end <= 0);
}

static int check_order(struct table_check *c, const struct entry *e, bool *same_key)
{
	struct kv_slice before = kv_buf_slice(&c->key);
	int order = c->entries ? slice_compare(before, e->key) : -1;
	bool bad = order > 0 || (order == 0 && c->seq <= e->seq) || e->key.len < IKEY_PREFIX_LEN;

	*same_key = order == 0;
	if (bad && !c->order_bad) {
		c->order_bad = true;
		return verify_report(c->v, KV_PROBLEM_TABLE_ORDER, c->index, e->key, before,
				     "table %" PRIu64 " level %" PRIu32 ": entry %" PRIu64
				     " does not follow the one before it",
				     c->m->id, c->m->level, c->entries);
	}
	return 0;
}

static int check_entry(void *ctx, const struct entry *e)
{
	struct table_check *c = ctx;
	bool same_key;
	int err;

	err = check_order(c, e, &same_key);
	if (err)
		return err;
	c->bounds_bad = c->bounds_bad || !key_inside(c->m, e->key);
	c->seq_bad = c->seq_bad || e->seq < c->m->seq_min || e->seq > c->m->seq_max;
	c->deletes += e->kind == ENTRY_DELETE;
	if (!same_key) {
		err = check_filter(c, e);
		if (err)
			return err;
		err = buf_assign(&c->key, e->key);
		if (err)
			return err;
	}
	if (e->kind == ENTRY_PUT_REF) {
		err = check_value(c, e);
		if (err)
			return err;
	}
	c->seq = e->seq;
	c->entries++;
	c->leaf_entries++;
	c->v->result->entries++;
	return 0;
}

/* Range deletes: number, order and bounds. */
static int check_ranges(struct table_check *c, uint64_t *count)
{
	const struct table_meta *m = c->m;
	const struct range_set *set = NULL;
	int err;

	*count = 0;
	err = table_ranges(c->table, &set);
	if (err && !verify_is_damage(err))
		return err;
	if (err) {
		if (c->page_bad &&
		    (!c->v->collect || verify_page_is_bad(c->v, c->index, m->ranges.off)))
			return 0;
		return page_report(c, &m->ranges, err, no_key, no_key);
	}
	*count = set ? range_set_count(set) : 0;
	for (size_t i = 0; i < *count; i++) {
		struct range_fragment f = range_set_at(set, i);
		kv_seq newest = f.seqs[0];
		kv_seq oldest = f.seqs[f.seq_count - 1];

		c->seq_bad = c->seq_bad || oldest < m->seq_min || newest > m->seq_max;
		c->bounds_bad = c->bounds_bad || !key_inside(m, f.from) ||
				slice_compare(f.to, kv_buf_slice(&m->largest)) > 0;
	}
	return 0;
}

/* What the manifest says about the table against what was found in it. */
static int check_props(struct table_check *c)
{
	const struct table_meta *m = c->m;
	uint64_t ranges;
	const char *what = NULL;
	uint64_t says = 0;
	uint64_t found = 0;
	int err;

	err = check_ranges(c, &ranges);
	if (err || c->page_bad)
		return err; /* what is missing cannot be counted */
	if (m->entry_count != c->entries) {
		what = "entries";
		says = m->entry_count;
		found = c->entries;
	} else if (m->delete_count != c->deletes) {
		what = "deletes";
		says = m->delete_count;
		found = c->deletes;
	} else if (m->range_count != ranges) {
		what = "range deletes";
		says = m->range_count;
		found = ranges;
	} else if (m->ref_bytes != c->ref_bytes && !c->value_bad) {
		what = "bytes of large values";
		says = m->ref_bytes;
		found = c->ref_bytes;
	}
	if (what)
		return verify_report(c->v, KV_PROBLEM_TABLE_PROPS, c->index, no_key, no_key,
				     "table %" PRIu64 ": it should hold %" PRIu64
				     " %s and holds %" PRIu64,
				     m->id, says, what, found);
	if (c->seq_bad || c->bounds_bad)
		return verify_report(c->v, KV_PROBLEM_TABLE_PROPS, c->index, no_key, no_key,
				     "table %" PRIu64 ": %s lie outside its bounds", m->id,
				     c->bounds_bad ? "keys" : "sequence numbers");
	return 0;
}

int verify_table(struct verify *v, size_t index)
{
	struct table_check c = {.v = v, .index = index, .m = &v->manifest.tables[index]};
	struct table_walk walk = {.page = check_page, .entry = check_entry, .ctx = &c};
	int err;

	memset(v->table_live, 0, v->manifest.segment_count * sizeof(*v->table_live));
	err = table_open(&v->tables, c.m, &c.table);
	if (!err)
		err = table_walk(&v->tables, c.m, &walk);
	if (!err)
		err = check_props(&c);
	if (verify_is_damage(err)) {
		/* Not of a page: what the manifest says of the table is impossible. */
		c.page_bad = true;
		err = verify_report(v, KV_PROBLEM_TABLE_PAGE, index, kv_buf_slice(&c.m->smallest),
				    kv_buf_slice(&c.m->largest),
				    "table %" PRIu64 " level %" PRIu32 ": it cannot be read: %s",
				    c.m->id, c.m->level, verify_why(err));
	}
	if (err)
		goto out;
	v->live_unknown = v->live_unknown || c.page_bad;
	/* A table that will be rewritten is counted by the rewriting. */
	v->counted[index] = !v->collect || !v->rewrite[index];
	for (size_t s = 0; s < v->manifest.segment_count && v->counted[index]; s++)
		v->live[s] += v->table_live[s];
out:
	if (c.table)
		table_close(c.table, true);
	kv_buf_free(&c.key);
	return err;
}

/* The manifest lists tables by level, and deeper levels by smallest key. */
static int verify_levels(struct verify *v)
{
	const struct manifest *m = &v->manifest;

	for (size_t i = 1; i < m->table_count; i++) {
		const struct table_meta *a = &m->tables[i - 1];
		const struct table_meta *b = &m->tables[i];
		int order = slice_compare(kv_buf_slice(&a->largest), kv_buf_slice(&b->smallest));
		int err;

		if (!a->level || a->level != b->level)
			continue;
		if (order < 0 || (order == 0 && a->largest_exclusive))
			continue;
		v->no_repair = true; /* nor can a version be built from it */
		err = verify_report(v, KV_PROBLEM_TABLE_OVERLAP, VERIFY_NO_TABLE,
				    kv_buf_slice(&b->smallest), kv_buf_slice(&a->largest),
				    "tables %" PRIu64 " and %" PRIu64 " of level %" PRIu32
				    " overlap",
				    a->id, b->id, a->level);
		if (err)
			return err;
	}
	return 0;
}

static int verify_live(struct verify *v)
{
	for (size_t s = 0; s < v->manifest.segment_count; s++) {
		const struct segment_meta *seg = &v->manifest.segments[s];
		int err;

		if (seg->live_bytes == v->live[s])
			continue;
		err = verify_report(v, KV_PROBLEM_SEGMENT_COUNT, VERIFY_NO_TABLE, no_key, no_key,
				    "value segment %" PRIu64 ": it should have %" PRIu64
				    " live bytes and has %" PRIu64,
				    seg->id, seg->live_bytes, v->live[s]);
		if (err)
			return err;
	}
	return 0;
}

int verify_tables(struct verify *v)
{
	bool partial = false; /* some table's values are not in v->live */
	int err;

	for (size_t i = 0; i < v->manifest.table_count; i++) {
		err = verify_table(v, i);
		if (err)
			return err;
		partial = partial || (v->collect && v->rewrite[i]);
	}
	err = verify_levels(v);
	if (err || v->live_unknown || partial)
		return err; /* the rewriting sets the counts right */
	return verify_live(v);
}
