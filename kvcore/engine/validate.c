/* SPDX-License-Identifier: MIT */
/*
 * Validation of optimistic transactions (Kung and Robinson, On Optimistic Methods for
 * Concurrency Control, 1981), backward, with locks: what the transaction writes and
 * what it read is locked, all in the order of the keys, and only then compared with its
 * snapshot. Since every writer holds its locks until its commit is visible, a
 * set found unchanged stays so until this commit is visible too, whatever the order
 * in which the log takes them. Two that have read what the other writes cannot both pass.
 *
 * Snapshot isolation compares the keys written (first committer wins) and those
 * read for update; serializable compares all that was read, and not what was only written.
 * Who writes nothing has read one snapshot and needs no validation, unless it is
 * prepared: then what it has read must stay until it is resolved.
 */
#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"
#include "kvcore/engine/txn.h"

struct item {
	struct kv_slice from, to; /* to empty: a key */
	enum lock_mode mode;
	bool compare; /* with the snapshot */
};

struct items {
	struct item *list;
	size_t count, cap;
	bool compare_writes;
	struct arena keys; /* of the writes: those of a spilled set do not stay */
};

static int items_add(struct items *s, struct item item)
{
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 32;
		struct item *list = realloc(s->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		s->list = list;
		s->cap = cap;
	}
	s->list[s->count++] = item;
	return 0;
}

static int add_write(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	struct items *s = ctx;
	bool range = kind == ENTRY_RANGE_DELETE;
	struct item item = {.mode = LOCK_EXCLUSIVE};
	const uint8_t *from = arena_copy(&s->keys, key);
	const uint8_t *to = range ? arena_copy(&s->keys, value) : NULL;

	if (!from || (range && !to))
		return -ENOMEM;
	item.from = kv_slice_of(from, key.len);
	item.to = kv_slice_of(to, range ? value.len : 0);
	item.compare = s->compare_writes && !range;
	return items_add(s, item);
}

static int add_read(void *ctx, struct kv_slice from, struct kv_slice to)
{
	const struct item item = {from, to, LOCK_SHARED, true};

	return items_add(ctx, item);
}

/* By key; at one key the stronger lock first, so that nothing has to be upgraded. */
static int compare_items(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int c = slice_compare(x->from, y->from);

	return c ? c : (int)y->mode - (int)x->mode;
}

/* ---- has a range changed? ----------------------------------------------------------- */

static bool ranges_changed(const struct range_set *set, const struct item *i, kv_seq floor)
{
	for (size_t n = range_set_find(set, i->from); n < range_set_count(set); n++) {
		struct range_fragment f = range_set_at(set, n);

		if (slice_compare(f.from, i->to) >= 0)
			break;
		if (f.seqs[0] > floor)
			return true;
	}
	return false;
}

/* Closes the iterator. */
static int entries_changed(struct iter *it, const struct item *i, kv_seq floor, bool *changed)
{
	struct entry e;
	int err;

	for (err = iter_seek(it, i->from); !err && !*changed; err = iter_next(it)) {
		iter_entry(it, &e);
		if (slice_compare(e.key, i->to) >= 0)
			break;
		*changed = e.seq > floor;
	}
	iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int memtable_changed(struct memtable *m, const struct item *i, kv_seq floor, bool *changed)
{
	struct range_set *set = NULL;
	struct iter *it;
	int err = 0;

	if (memtable_has_ranges(m)) {
		err = range_set_new(&set);
		if (!err)
			err = memtable_ranges(m, i->from, i->to, set);
		if (!err)
			*changed = ranges_changed(set, i, floor);
		range_set_free(set);
	}
	if (err || *changed)
		return err;
	err = memtable_iter_new(m, &it);
	return err ? err : entries_changed(it, i, floor, changed);
}

static int table_changed(struct table *t, const struct item *i, kv_seq floor, bool *changed)
{
	const struct table_meta *m = table_get_meta(t);
	const struct range_set *set = NULL;
	struct iter *it;
	int err = 0;

	if (m->seq_max <= floor || slice_compare(kv_buf_slice(&m->smallest), i->to) >= 0 ||
	    slice_compare(kv_buf_slice(&m->largest), i->from) < 0)
		return 0;
	if (m->range_count)
		err = table_ranges(t, &set);
	if (!err && set)
		*changed = ranges_changed(set, i, floor);
	if (err || *changed)
		return err;
	err = table_iter_new(t, 0, &it);
	return err ? err : entries_changed(it, i, floor, changed);
}

static int range_changed(struct view *v, const struct item *i, kv_seq floor, bool *changed)
{
	int err = memtable_changed(v->active, i, floor, changed);

	for (unsigned n = 0; !err && !*changed && n < v->frozen_count; n++)
		err = memtable_changed(v->frozen[n], i, floor, changed);
	for (unsigned level = 0; level < KV_LEVELS; level++) {
		const struct version_level *l = &v->version->level[level];

		for (size_t n = 0; !err && !*changed && n < l->count; n++)
			err = table_changed(l->tables[n], i, floor, changed);
	}
	return err;
}

int validate_changed(struct view *v, struct kv_slice from, struct kv_slice to, kv_seq floor,
		     bool *changed)
{
	const struct item i = {.from = from, .to = to};

	*changed = false;
	return to.len ? range_changed(v, &i, floor, changed)
		      : view_changed_after(v, from, floor, changed);
}

/* ---- the whole ------------------------------------------------------------------------ */

static int lock_items(struct kv_txn *txn, const struct items *s)
{
	int err = 0;

	for (size_t n = 0; n < s->count && !err; n++) {
		const struct item *i = &s->list[n];

		err = i->to.len ? lock_acquire_range(txn->locks, i->from, i->to, i->mode,
						     txn->lock_timeout_ms)
				: lock_acquire(txn->locks, i->from, i->mode, txn->lock_timeout_ms,
					       NULL);
	}
	return err;
}

static int compare_with_snapshot(struct kv_txn *txn, const struct items *s)
{
	bool changed = false;
	struct view *v;
	int err = 0;

	if (!txn->has_snapshot || txn->snapshot == snapshots_visible(txn->db->snapshots))
		return 0;
	v = view_get(txn->db);
	for (size_t n = 0; n < s->count && !err && !changed; n++) {
		const struct item *i = &s->list[n];

		if (!i->compare)
			continue;
		err = validate_changed(v, i->from, i->to, txn->snapshot, &changed);
	}
	view_unref(v);
	if (!err && changed) {
		COUNT(txn->db, conflicts, 1);
		err = -KV_E_CONFLICT;
	}
	return err;
}

int validate_txn(struct kv_txn *txn)
{
	struct items s = {.compare_writes = !txn->serializable};
	int err;

	arena_init(&s.keys);
	err = writeset_each(txn->writes, add_write, &s);
	if (!err)
		err = readset_each(txn->reads, add_read, &s);
	if (!err) {
		if (s.count)
			qsort(s.list, s.count, sizeof(*s.list), compare_items);
		err = lock_items(txn, &s);
	}
	if (!err)
		err = compare_with_snapshot(txn, &s);
	free(s.list);
	arena_fini(&s.keys);
	return err;
}
