/* SPDX-License-Identifier: MIT */
/*
 * Views: what a reader holds, and point reads through it.
 *
 * A transaction registers its snapshot first and takes the view afterwards. Whatever
 * is visible at that snapshot was committed before, so the view's memtables and
 * version contain it, and so does the version contain every segment that its
 * large values are in; and nothing it needs is dropped by a flush or compaction
 * in between, because the snapshot is in their list.
 *
 * Layers are searched from the newest. All entries of a key in an older layer
 * have lower seqs than those of the key in a newer one, so the first point version
 * found is the newest, and a range delete seen before hides all that is below it.
 */
#include "kvcore/engine/db.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

int view_rotate_locked(struct kv_db *db, struct memtable *fresh)
{
	struct view *old = db->view;
	struct view *v;

	KV_ASSERT(old->frozen_count < VIEW_FROZEN_MAX);
	v = malloc(sizeof(*v));
	if (!v)
		return -ENOMEM;
	atomic_init(&v->refs, 1);
	v->active = memtable_ref(fresh);
	v->frozen[0] = memtable_ref(old->active);
	for (unsigned i = 0; i < old->frozen_count; i++)
		v->frozen[i + 1] = memtable_ref(old->frozen[i]);
	v->frozen_count = old->frozen_count + 1;
	v->version = version_ref(old->version);
	v->next_retired = NULL;
	atomic_store(&db->view, v);
	view_retire_locked(db, old);
	return 0;
}

int view_ready(void *ctx)
{
	struct kv_db *db = ctx;

	if (!db->view_spare)
		db->view_spare = malloc(sizeof(*db->view_spare));
	return db->view_spare ? 0 : -ENOMEM;
}

static void forget_frozen(struct kv_db *db, const struct memtable *flushed)
{
	unsigned n = 0;

	for (unsigned i = 0; i < db->frozen_count; i++) {
		if (db->frozen[i].memtable == flushed)
			memtable_unref(db->frozen[i].memtable);
		else
			db->frozen[n++] = db->frozen[i];
	}
	db->frozen_count = n;
}

void view_install(void *ctx, struct version *version, void *cookie)
{
	struct kv_db *db = ctx;
	struct memtable *flushed = cookie;
	struct view *v = db->view_spare; /* a durable version must become visible: it is there */
	struct view *old;

	KV_ASSERT(v);
	db->view_spare = NULL;
	atomic_init(&v->refs, 1);
	v->version = version;
	v->frozen_count = 0;
	v->next_retired = NULL;
	os_mutex_lock(&db->mu);
	old = db->view;
	v->active = memtable_ref(old->active);
	for (unsigned i = 0; i < old->frozen_count; i++) {
		if (old->frozen[i] != flushed)
			v->frozen[v->frozen_count++] = memtable_ref(old->frozen[i]);
	}
	atomic_store(&db->view, v);
	if (flushed)
		forget_frozen(db, flushed);
	os_cond_broadcast(&db->changed);
	/* Its last reference may give space back, which is not for under the mutex. */
	atomic_fetch_add_explicit(&old->refs, 1, memory_order_relaxed);
	view_retire_locked(db, old);
	os_mutex_unlock(&db->mu);
	view_unref(old);
	view_reclaim(db);
}

/* ---- point reads --------------------------------------------------------- */

struct point {
	struct kv_slice ikey;
	uint64_t hash;
	kv_seq max_seq;
	kv_seq covering; /* newest range delete seen so far */
	bool found;
	kv_seq seq;
	enum entry_kind kind;
	struct kv_buf *value;
};

/* Sets p->found; when it returns with p->covering set and nothing found, the key is deleted. */
static int search_memtable(struct memtable *m, struct point *p)
{
	struct entry e;
	kv_seq cov;
	int err;

	if (memtable_has_ranges(m)) {
		cov = memtable_covering(m, p->ikey, p->max_seq);
		p->covering = max_u64(p->covering, cov);
	}
	err = memtable_get(m, p->ikey, p->max_seq, &e);
	if (err == -KV_E_NOTFOUND)
		return 0;
	if (err)
		return err;
	p->found = true;
	p->seq = e.seq;
	p->kind = e.kind;
	return p->value ? buf_assign(p->value, e.value) : 0;
}

static int search_table(struct table *t, struct point *p)
{
	const struct range_set *ranges;
	int err;

	if (!table_covers(t, p->ikey))
		return 0;
	if (table_get_meta(t)->range_count) {
		err = table_ranges(t, &ranges);
		if (err)
			return err;
		if (ranges)
			p->covering = max_u64(p->covering,
					      range_set_covering(ranges, p->ikey, p->max_seq));
	}
	err = table_get(t, p->ikey, p->hash, p->max_seq, &p->seq, &p->kind, p->value);
	if (err == -KV_E_NOTFOUND)
		return 0;
	if (!err)
		p->found = true;
	return err;
}

/* The one table of a sorted level that can contain the key, or NULL. */
static struct table *level_table(const struct version_level *l, struct kv_slice ikey)
{
	size_t lo = 0;
	size_t hi = l->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct table_meta *m = table_get_meta(l->tables[mid]);

		if (slice_compare(kv_buf_slice(&m->smallest), ikey) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? l->tables[lo - 1] : NULL;
}

static bool point_done(const struct point *p)
{
	return p->found || p->covering;
}

static int search_version(const struct version *v, struct point *p)
{
	int err;

	p->hash = hash_bytes(p->ikey, 0);
	for (size_t i = 0; i < v->level[0].count; i++) {
		err = search_table(v->level[0].tables[i], p);
		if (err || point_done(p))
			return err;
	}
	for (unsigned n = 1; n < KV_LEVELS; n++) {
		struct table *t = level_table(&v->level[n], p->ikey);

		if (!t)
			continue;
		err = search_table(t, p);
		if (err || point_done(p))
			return err;
	}
	return 0;
}

static int search_view(struct view *v, struct point *p)
{
	int err = search_memtable(v->active, p);

	for (unsigned i = 0; !err && !point_done(p) && i < v->frozen_count; i++)
		err = search_memtable(v->frozen[i], p);
	if (err || point_done(p))
		return err;
	return search_version(v->version, p);
}

static int resolve_ref(struct kv_db *db, struct view *v, struct kv_buf *value)
{
	struct value_ref ref;
	int err = value_ref_decode(kv_buf_slice(value), &ref);

	return err ? err : values_get(db->values, v->version, &ref, value);
}

int view_find_key(struct view *v, struct kv_slice ikey, kv_seq max_seq, enum entry_kind *kind,
		  struct kv_buf *value)
{
	struct point p = {.ikey = ikey, .max_seq = max_seq, .value = value};
	int err = search_view(v, &p);

	if (!err && (!p.found || p.kind == ENTRY_DELETE || p.covering > p.seq))
		err = -KV_E_NOTFOUND;
	if (!err)
		*kind = p.kind;
	return err;
}

int view_get_key(struct kv_db *db, struct view *v, struct kv_slice ikey, kv_seq max_seq,
		 struct kv_buf *value, kv_seq *seq)
{
	struct kv_buf scratch = {0};
	struct point p = {.ikey = ikey, .max_seq = max_seq, .value = value ? value : &scratch};
	uint64_t began = stats_begin(db, OS_STAT_gets, STATS_EVERY_GET);
	int err;

	COUNT(db, gets, 1);
	err = search_view(v, &p);
	if (!err && (!p.found || p.kind == ENTRY_DELETE || p.covering > p.seq)) {
		COUNT(db, gets_absent, 1);
		err = -KV_E_NOTFOUND;
	}
	if (!err && seq)
		*seq = p.seq;
	if (!err && value && p.kind == ENTRY_PUT_REF)
		err = resolve_ref(db, v, value);
	stats_end(db, KV_HISTOGRAM_GET, began);
	kv_buf_free(&scratch);
	return err;
}

int view_read(struct kv_db *db, struct kv_slice ikey, kv_seq snapshot, struct kv_buf *value)
{
	struct view_pin pin = view_pin(db);
	int err = view_get_key(db, pin.view, ikey, snapshot, value, NULL);

	(void)view_unpin(db, &pin);
	return err;
}

/*
 * Without a registered snapshot, so the view is taken first and the number afterwards. What
 * the view contains was gathered for numbers up to one published before, so nothing that
 * this number can see was dropped from it. What was committed since the view was
 * replaced is not in it: the result is that of a read at the moment when it was.
 * But a large value committed since then may be in a segment that the view does not
 * know. So an error counts only if the view is still the current one.
 */
int view_read_newest(struct kv_db *db, struct kv_slice ikey, struct kv_buf *value)
{
	struct view_pin pin;
	bool current;
	int err;

	do {
		pin = view_pin(db);
		err = view_get_key(db, pin.view, ikey, snapshots_visible(db->snapshots), value,
				   NULL);
		current = view_unpin(db, &pin);
	} while (err && err != -KV_E_NOTFOUND && !current);
	return err;
}

/* ---- conflicts -------------------------------------------------------------- */

static int table_changed_after(struct table *t, struct point *p, kv_seq floor, bool *changed)
{
	int err;

	if (table_get_meta(t)->seq_max <= floor)
		return 0;
	p->found = false;
	err = search_table(t, p);
	if (!err)
		*changed = *changed || p->covering > floor || (p->found && p->seq > floor);
	return err;
}

int view_changed_after(struct view *v, struct kv_slice ikey, kv_seq floor, bool *changed)
{
	struct kv_buf scratch = {0};
	struct point p = {.ikey = ikey, .max_seq = KV_SEQ_MAX};
	bool yes = false;
	int err;

	err = search_memtable(v->active, &p);
	for (unsigned i = 0; !err && !point_done(&p) && i < v->frozen_count; i++)
		err = search_memtable(v->frozen[i], &p);
	if (err)
		goto out;
	if (point_done(&p)) {
		yes = p.covering > floor || (p.found && p.seq > floor);
		goto out;
	}
	p.value = &scratch;
	p.hash = hash_bytes(ikey, 0);
	for (size_t i = 0; !err && !yes && i < v->version->level[0].count; i++)
		err = table_changed_after(v->version->level[0].tables[i], &p, floor, &yes);
	for (unsigned n = 1; !err && !yes && n < KV_LEVELS; n++) {
		struct table *t = level_table(&v->version->level[n], ikey);

		if (t)
			err = table_changed_after(t, &p, floor, &yes);
	}
out:
	if (!err)
		*changed = yes;
	kv_buf_free(&scratch);
	return err;
}
