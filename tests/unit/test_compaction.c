/* SPDX-License-Identifier: MIT */
/*
 * Flush and compaction against a model: random puts, deletes, range deletes and
 * large values, with snapshots held and released, tables made small so that
 * there are many. After each step every key is read at every held snapshot, and the live
 * bytes of each segment are counted again from the tables.
 */
#include "kvcore/engine/compaction_pick.h"

#include <errno.h>

#include "kvcore/base/base.h"
#include "tests/support/engine_fixture.h"

#define KEYS	   250U
#define HELD_MAX   6U
#define LARGE	   2000U
#define TABLE_SIZE 1024U

/* What a key held from a seq on. */
struct change {
	kv_seq seq;
	size_t len; /* of the value that follows from the seq; 0: deleted */
};

struct key_history {
	struct change *changes;
	size_t count, cap;
};

struct world {
	struct fixture f;
	struct test_rng rng;
	struct key_history keys[KEYS];
	kv_seq seq;
	kv_seq flushed; /* all up to here is in tables */
	kv_seq held[HELD_MAX];
	unsigned held_count;
};

static struct kv_buf make_value(kv_seq seq, size_t len)
{
	struct test_rng rng = {seq};
	struct kv_buf b = {0};

	ck_assert_int_eq(buf_resize(&b, len), 0);
	test_rng_fill(&rng, b.data, len - len / 4);
	return b;
}

static void remember(struct world *w, unsigned key, size_t len)
{
	struct key_history *h = &w->keys[key];

	if (h->count == h->cap) {
		h->cap = h->cap ? 2 * h->cap : 8;
		h->changes = realloc(h->changes, h->cap * sizeof(*h->changes));
		ck_assert_ptr_nonnull(h->changes);
	}
	h->changes[h->count++] = (struct change){w->seq, len};
}

/* The last change up to @at, or NULL. */
static const struct change *model_get(const struct world *w, unsigned key, kv_seq at)
{
	const struct key_history *h = &w->keys[key];

	for (size_t i = h->count; i > 0; i--) {
		if (h->changes[i - 1].seq <= at)
			return h->changes[i - 1].len ? &h->changes[i - 1] : NULL;
	}
	return NULL;
}

/* ---- the database without log and threads -------------------------------------------- */

static void start(struct world *w)
{
	struct kv_db *db = &w->f.db;

	db->table_bytes = TABLE_SIZE;
	db->options.compaction_threads = 1 + (unsigned)test_rng_below(&w->rng, 4);
	db->view = calloc(1, sizeof(*db->view));
	ck_assert_ptr_nonnull(db->view);
	atomic_init(&db->view->refs, 1);
	ck_assert_int_eq(memtable_new(NULL, &db->view->active), 0);
	db->view->version = versions_current(db->versions);
	snapshots_publish(db->snapshots, w->seq);
}

static void world_make(struct world *w, const char *name, uint64_t size)
{
	memset(w, 0, sizeof(*w));
	w->rng = test_rng_seeded(name);
	fixture_make_sized(&w->f, w->rng.state, size);
	sim_env_stop_clock(w->f.env);
	fixture_open(&w->f);
	start(w);
}

static void drop_frozen(struct world *w)
{
	struct kv_db *db = &w->f.db;

	while (db->frozen_count)
		memtable_unref(db->frozen[--db->frozen_count].memtable);
}

static void world_free(struct world *w)
{
	for (unsigned i = 0; i < KEYS; i++)
		free(w->keys[i].changes);
	drop_frozen(w);
	fixture_close(&w->f);
	fixture_free(&w->f);
}

static void put(struct world *w, unsigned key)
{
	struct kv_db *db = &w->f.db;
	bool large = test_rng_below(&w->rng, 6) == 0;
	size_t len = 1 + test_rng_below(&w->rng, large ? 20000 : 150) + (large ? LARGE : 0);
	uint8_t ikey[IKEY_MAX];
	uint8_t encoded[VALUE_REF_MAX];
	struct value_ref ref;
	struct kv_buf b;
	struct entry e;

	w->seq++;
	b = make_value(w->seq, len);
	e = (struct entry){fixture_key(key, ikey), w->seq, ENTRY_PUT, kv_buf_slice(&b)};
	if (large) {
		ck_assert_int_eq(values_put(db->values, e.value, SPACE_VALUE, &ref), 0);
		e.kind = ENTRY_PUT_REF;
		e.value = kv_slice_of(encoded, value_ref_encode(&ref, encoded));
	}
	ck_assert_int_eq(memtable_add(db->view->active, &e), 0);
	remember(w, key, len);
	kv_buf_free(&b);
}

static void delete_range(struct world *w, unsigned from, unsigned to)
{
	uint8_t a[IKEY_MAX];
	uint8_t b[IKEY_MAX];

	w->seq++;
	ck_assert_int_eq(memtable_add_range(w->f.db.view->active, fixture_key(from, a),
					    fixture_key(to, b), w->seq),
			 0);
	for (unsigned i = from; i < to; i++)
		remember(w, i, 0);
}

static void delete (struct world *w, unsigned key)
{
	uint8_t ikey[IKEY_MAX];
	struct entry e;

	w->seq++;
	e = (struct entry){fixture_key(key, ikey), w->seq, ENTRY_DELETE, {NULL, 0}};
	ck_assert_int_eq(memtable_add(w->f.db.view->active, &e), 0);
	remember(w, key, 0);
}

static void write_some(struct world *w, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned key = (unsigned)test_rng_below(&w->rng, KEYS);
		uint64_t what = test_rng_below(&w->rng, 20);

		if (what == 0)
			delete_range(w, key,
				     key + 1 + (unsigned)test_rng_below(&w->rng, KEYS - key));
		else if (what < 6)
			delete (w, key);
		else
			put(w, key);
	}
	snapshots_publish(w->f.db.snapshots, w->seq);
}

/* Freeze and flush. Return: of the flush; on failure the memtable stays frozen. */
static int flush(struct world *w)
{
	struct kv_db *db = &w->f.db;
	struct memtable *fresh;
	struct frozen f = {.last_seq = w->seq};
	int err;

	if (!db->frozen_count) {
		if (memtable_empty(db->view->active))
			return 0;
		ck_assert_int_eq(memtable_new(NULL, &fresh), 0);
		os_mutex_lock(&db->mu);
		f.memtable = memtable_ref(db->view->active);
		ck_assert_int_eq(view_rotate_locked(db, fresh), 0);
		memtable_freeze(f.memtable, f.last_seq);
		db->frozen[db->frozen_count++] = f;
		os_mutex_unlock(&db->mu);
		memtable_unref(fresh);
	}
	f = db->frozen[0];
	memtable_ref(f.memtable);
	err = flush_memtable(db, &f);
	if (!err)
		w->flushed = f.last_seq;
	memtable_unref(f.memtable);
	return err;
}

static int compact(struct world *w, unsigned max_steps)
{
	bool did = true;
	int err = 0;

	sim_env_advance(w->f.env, 2000000000ULL); /* the database is idle */
	for (unsigned i = 0; !err && did && i < max_steps; i++)
		err = compaction_step(&w->f.db, &did);
	return err;
}

/* ---- checks ------------------------------------------------------------------------------ */

static void check_key(struct world *w, unsigned key, kv_seq at)
{
	const struct change *want = model_get(w, key, at);
	struct view *v = view_get(&w->f.db);
	uint8_t ikey[IKEY_MAX];
	struct kv_buf have = {0};
	struct kv_buf value;
	int err = view_get_key(&w->f.db, v, fixture_key(key, ikey), at, &have, NULL);

	if (!want) {
		ck_assert_msg(err == -KV_E_NOTFOUND, "key %u at %llu: %d, not absent", key,
			      (unsigned long long)at, err);
	} else {
		value = make_value(want->seq, want->len);
		ck_assert_msg(err == 0, "key %u at %llu: %d, seq %llu expected", key,
			      (unsigned long long)at, err, (unsigned long long)want->seq);
		ck_assert_uint_eq(have.len, value.len);
		ck_assert_int_eq(memcmp(have.data, value.data, value.len), 0);
		kv_buf_free(&value);
	}
	kv_buf_free(&have);
	view_unref(v);
}

static void check_reads(struct world *w)
{
	for (unsigned key = 0; key < KEYS; key++) {
		check_key(w, key, w->seq);
		for (unsigned i = 0; i < w->held_count; i++)
			check_key(w, key, w->held[i]);
	}
}

static void count_refs(struct table *t, const struct version *v, uint64_t *live)
{
	struct value_ref ref;
	struct iter *it;
	struct entry e;
	int err;

	ck_assert_int_eq(table_iter_new(t, TABLE_ITER_ONCE, &it), 0);
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		if (e.kind != ENTRY_PUT_REF)
			continue;
		ck_assert_int_eq(value_ref_decode(e.value, &ref), 0);
		for (size_t i = 0; i < v->segment_count; i++) {
			if (v->segments[i]->id == ref.segment_id)
				live[i] += ref.stored_len;
		}
	}
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	iter_close(it);
}

static void check_live_bytes(struct world *w)
{
	struct version *v = versions_current(w->f.db.versions);
	uint64_t *live = calloc(v->segment_count + 1, sizeof(*live));

	ck_assert_ptr_nonnull(live);
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++)
			count_refs(v->level[n].tables[i], v, live);
	}
	for (size_t i = 0; i < v->segment_count; i++) {
		ck_assert_uint_eq(atomic_load(&v->segments[i]->live_bytes), live[i]);
		/* All references are in tables: nothing may be left pending. */
		if (memtable_empty(w->f.db.view->active) && !w->f.db.frozen_count)
			ck_assert_uint_eq(atomic_load(&v->segments[i]->pending), 0);
	}
	free(live);
	version_unref(v);
}

static void check_all(struct world *w)
{
	check_reads(w);
	check_live_bytes(w);
}

/* ---- random steps -------------------------------------------------------------------------- */

static void hold_or_release(struct world *w)
{
	if (w->held_count < HELD_MAX && test_rng_below(&w->rng, 2)) {
		ck_assert_int_eq(snapshots_acquire(w->f.db.snapshots, &w->held[w->held_count]), 0);
		w->held_count++;
	} else if (w->held_count) {
		unsigned i = (unsigned)test_rng_below(&w->rng, w->held_count);

		snapshots_release(w->f.db.snapshots, w->held[i]);
		w->held[i] = w->held[--w->held_count];
	}
}

/* Put a table of the last level higher up, where a larger volume would have some. */
static void lift_table(struct world *w)
{
	struct version *v = versions_current(w->f.db.versions);
	const struct version_level *l = &v->level[COMPACTION_LAST];
	uint64_t id = 0;
	uint32_t level = 2 + (uint32_t)test_rng_below(&w->rng, 4);
	struct version_edit edit = {.move = &id, .move_level = &level, .move_count = 1};
	bool clear = l->count > 0;
	int err;

	if (clear) {
		const struct table_meta *m =
			table_get_meta(l->tables[test_rng_below(&w->rng, l->count)]);

		id = m->id;
		/* It must not pass newer data on its way. */
		for (unsigned n = level + 1; clear && n < COMPACTION_LAST; n++)
			clear = !v->level[n].count;
	}
	version_unref(v);
	if (!clear)
		return;
	err = versions_apply(w->f.db.versions, &edit);
	ck_assert(!err || err == -KV_E_CORRUPT);
}

static void reopen(struct world *w)
{
	ck_assert_int_eq(flush(w), 0);
	ck_assert_int_eq(os_volume_sync(w->f.db.volume), 0);
	fixture_crash(&w->f, SIM_CRASH_DROP);
	start(w);
	for (unsigned i = 0; i < w->held_count; i++)
		ck_assert_int_eq(snapshots_hold(w->f.db.snapshots, w->held[i]), 0);
	ck_assert_int_eq(values_recovered(w->f.db.values), 0);
}

/* A write of a table, a value or the manifest fails on the way. */
static void failing_compaction(struct world *w)
{
	int err;

	ck_assert_int_eq(flush(w), 0);
	sim_env_fail(w->f.env, SIM_OP_WRITE, 1 + test_rng_below(&w->rng, 12), false, -EIO);
	err = compact(w, 3);
	sim_env_heal(w->f.env);
	ck_assert(!err || err == -EIO || err == -KV_E_POISONED);
	if (err == -KV_E_POISONED)
		reopen(w);
}

static void random_step(struct world *w)
{
	switch (test_rng_below(&w->rng, 9)) {
	case 8:
		failing_compaction(w);
		break;
	case 0:
		hold_or_release(w);
		break;
	case 1:
		lift_table(w);
		break;
	case 2:
		ck_assert_int_eq(values_reap(w->f.db.values), 0);
		break;
	case 3:
		if (test_rng_below(&w->rng, 3) == 0)
			reopen(w);
		break;
	case 4:
		ck_assert_int_eq(compact(w, 1 + (unsigned)test_rng_below(&w->rng, 10)), 0);
		break;
	case 5:
		ck_assert_int_eq(flush(w), 0);
		break;
	default:
		write_some(w, (unsigned)test_rng_below(&w->rng, 60));
	}
}

/* With nothing held: one version a key, no delete, nothing dead in any segment. */
static void check_compact(struct world *w)
{
	struct version *v = versions_current(w->f.db.versions);
	uint64_t entries = 0;
	uint64_t want = 0;

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = table_get_meta(v->level[n].tables[i]);

			ck_assert_uint_eq(n, COMPACTION_LAST);
			ck_assert_uint_eq(m->delete_count, 0);
			ck_assert_uint_eq(m->range_count, 0);
			entries += m->entry_count;
		}
	}
	for (unsigned key = 0; key < KEYS; key++)
		want += model_get(w, key, w->seq) != NULL;
	ck_assert_uint_eq(entries, want);
	version_unref(v);
}

/* What idle time leaves: no range deletes, and no table with many deletes. */
static void check_few_deletes(struct world *w)
{
	struct version *v = versions_current(w->f.db.versions);

	for (unsigned n = 0; n < KV_LEVELS; n++) {
		for (size_t i = 0; i < v->level[n].count; i++) {
			const struct table_meta *m = table_get_meta(v->level[n].tables[i]);

			ck_assert_uint_eq(m->range_count, 0);
			ck_assert_uint_le(m->delete_count, m->entry_count / 4);
		}
	}
	version_unref(v);
}

START_TEST(test_every_snapshot_reads_the_same_through_flush_and_compaction)
{
	for (unsigned round = 0; round < 6; round++) {
		struct world w;

		world_make(&w, "model", 24U << 20);
		w.rng.state += round;
		for (unsigned i = 0; i < 70; i++) {
			random_step(&w);
			check_all(&w);
		}
		while (w.held_count)
			snapshots_release(w.f.db.snapshots, w.held[--w.held_count]);
		ck_assert_int_eq(flush(&w), 0);
		ck_assert_int_eq(compaction_full(&w.f.db, NULL), 0);
		check_all(&w);
		check_compact(&w);
		world_free(&w);
	}
}
END_TEST

START_TEST(test_idle_time_brings_all_deletes_to_an_end)
{
	struct world w;

	world_make(&w, "idle", 24U << 20);
	for (unsigned i = 0; i < 12; i++) {
		write_some(&w, 60);
		ck_assert_int_eq(flush(&w), 0);
		ck_assert_int_eq(compact(&w, 2), 0);
		lift_table(&w);
	}
	delete_range(&w, 0, KEYS);
	snapshots_publish(w.f.db.snapshots, w.seq);
	ck_assert_int_eq(flush(&w), 0);
	ck_assert_uint_gt(compaction_debt(&w.f.db), 0);
	ck_assert_int_eq(compact(&w, 1000), 0);
	ck_assert_uint_eq(compaction_debt(&w.f.db), 0);
	check_all(&w);
	check_few_deletes(&w);
	ck_assert_int_eq(values_recovered(w.f.db.values), 0);
	ck_assert_int_eq(values_reap(w.f.db.values), 0);
	world_free(&w);
}
END_TEST

/* Deletes that a snapshot kept reach the last level, and go once it is released. */
START_TEST(test_deletes_go_when_the_last_snapshot_is_released)
{
	struct world w;

	world_make(&w, "released", 24U << 20);
	for (unsigned i = 0; i < 8; i++) {
		write_some(&w, 100);
		ck_assert_int_eq(flush(&w), 0);
	}
	ck_assert_int_eq(compact(&w, 1000), 0);
	ck_assert_int_eq(snapshots_acquire(w.f.db.snapshots, &w.held[w.held_count++]), 0);
	for (unsigned key = 0; key < KEYS; key += 2)
		delete (&w, key);
	delete_range(&w, 5, 50);
	snapshots_publish(w.f.db.snapshots, w.seq);
	ck_assert_int_eq(flush(&w), 0);
	ck_assert_int_eq(compact(&w, 1000), 0);
	ck_assert_uint_eq(compaction_debt(&w.f.db), 0);
	check_all(&w);
	snapshots_release(w.f.db.snapshots, w.held[--w.held_count]);
	ck_assert_uint_gt(compaction_debt(&w.f.db), 0);
	ck_assert_int_eq(compact(&w, 1000), 0);
	ck_assert_uint_eq(compaction_debt(&w.f.db), 0);
	check_all(&w);
	check_few_deletes(&w);
	world_free(&w);
}
END_TEST

/* Without a full compaction and without deletes: idle time finds the tables that matter. */
START_TEST(test_idle_time_empties_mostly_dead_segments)
{
	struct values_stat before;
	struct values_stat after;
	struct world w;

	world_make(&w, "sweep", 24U << 20);
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned key = 0; key < KEYS; key++)
			put(&w, key);
		snapshots_publish(w.f.db.snapshots, w.seq);
		ck_assert_int_eq(flush(&w), 0);
	}
	ck_assert_int_eq(compact(&w, 1000), 0);
	for (unsigned key = 0; key < KEYS; key += 1 + key % 2)
		put(&w, key);
	reopen(&w);
	values_get_stat(w.f.db.values, &before);
	ck_assert_uint_lt(before.live_bytes * 2, before.bytes);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(compact(&w, 1000), 0);
		ck_assert_uint_eq(compaction_debt(&w.f.db), 0);
		check_all(&w);
		ck_assert_int_eq(values_reap(w.f.db.values), 0);
		reopen(&w);
	}
	values_get_stat(w.f.db.values, &after);
	ck_assert_uint_le(after.bytes, 3 * after.live_bytes);
	world_free(&w);
}
END_TEST

START_TEST(test_mostly_dead_segments_are_emptied)
{
	struct values_stat before;
	struct values_stat after;
	struct world w;

	world_make(&w, "segments", 24U << 20);
	for (unsigned i = 0; i < 10; i++) {
		write_some(&w, 150);
		ck_assert_int_eq(flush(&w), 0);
	}
	reopen(&w);
	values_get_stat(w.f.db.values, &before);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(compaction_full(&w.f.db, NULL), 0);
		check_all(&w);
		ck_assert_int_eq(values_reap(w.f.db.values), 0);
		reopen(&w);
	}
	ck_assert_int_eq(values_reap(w.f.db.values), 0);
	delete (&w, 0);
	snapshots_publish(w.f.db.snapshots, w.seq);
	ck_assert_int_eq(flush(&w), 0); /* the edit that frees the tails */
	values_get_stat(w.f.db.values, &after);
	if (after.live_bytes) /* the last range delete may have left nothing */
		ck_assert_uint_le(after.bytes, 3 * after.live_bytes);
	ck_assert_uint_lt(after.bytes, before.bytes);
	world_free(&w);
}
END_TEST

START_TEST(test_sequential_data_is_moved_and_not_rewritten)
{
	struct world w;

	world_make(&w, "sequential", 24U << 20);
	for (unsigned key = 0; key < KEYS; key++) {
		put(&w, key);
		if (key % 15 == 14) {
			snapshots_publish(w.f.db.snapshots, w.seq);
			ck_assert_int_eq(flush(&w), 0);
			ck_assert_int_eq(compact(&w, 5), 0);
		}
	}
	ck_assert_int_eq(compact(&w, 5), 0);
	ck_assert_uint_gt(os_stats_sum(&w.f.db.stats, OS_STAT_trivial_moves), 0);
	ck_assert_uint_eq(os_stats_sum(&w.f.db.stats, OS_STAT_compaction_bytes_written), 0);
	check_all(&w);
	world_free(&w);
}
END_TEST

/* ---- giving up ------------------------------------------------------------------------------ */

static int stop_now(void *ctx, uint64_t done, uint64_t total)
{
	unsigned *calls = ctx;

	ck_assert_uint_le(done, total);
	return --*calls == 0;
}

/* Tables at several levels, several versions of most keys. */
static void fill(struct world *w)
{
	for (unsigned i = 0; i < 5; i++) {
		write_some(w, 120);
		ck_assert_int_eq(flush(w), 0);
	}
}

START_TEST(test_an_interrupted_compaction_leaves_everything_as_it_was)
{
	unsigned calls = 1;
	struct kv_progress progress = {stop_now, &calls};
	struct world w;
	uint64_t space;
	bool did;

	world_make(&w, "interrupted", 24U << 20);
	fill(&w);
	space = fixture_free_bytes(&w.f);
	ck_assert_int_eq(compaction_full(&w.f.db, &progress), -KV_E_INTERRUPTED);
	w.f.db.closing = true;
	ck_assert_int_eq(compaction_step(&w.f.db, &did), 0);
	ck_assert(!did);
	w.f.db.closing = false;
	ck_assert_uint_eq(fixture_free_bytes(&w.f), space);
	check_all(&w);
	calls = 2;
	ck_assert_int_eq(compaction_full(&w.f.db, &progress), -KV_E_INTERRUPTED);
	check_all(&w);
	ck_assert_int_eq(compaction_full(&w.f.db, NULL), 0);
	check_all(&w);
	check_compact(&w);
	world_free(&w);
}
END_TEST

START_TEST(test_a_full_volume_stops_compaction_without_loss)
{
	struct extent taken[256];
	unsigned count = 0;
	struct world w;
	bool did;

	world_make(&w, "full", 24U << 20);
	fill(&w);
	while (count < 256 &&
	       !space_alloc(w.f.db.space, SPACE_MANIFEST, 24U << 20, FORMAT_BLOCK, &taken[count]))
		count++;
	ck_assert_int_eq(compaction_step(&w.f.db, &did), -KV_E_NOSPACE);
	ck_assert(!did);
	check_all(&w);
	write_some(&w, 0);
	while (count)
		space_release(w.f.db.space, taken[--count]);
	ck_assert_int_eq(compact(&w, 100), 0);
	check_all(&w);
	world_free(&w);
}
END_TEST

/* All of level 0 at once would need more than there is; the oldest run alone fits. */
START_TEST(test_with_little_room_level_0_goes_run_by_run)
{
	struct compaction_policy policy = {.table_bytes = TABLE_SIZE, .base_bytes = 32U << 20};
	struct compaction_job job;
	struct world w;

	world_make(&w, "room", 24U << 20);
	fill(&w);
	policy.room = UINT64_MAX;
	ck_assert_int_eq(compaction_pick(w.f.db.versions, &policy, &job), 0);
	ck_assert_uint_eq(job.upper_count, job.version->level[0].count);
	compaction_job_fini(&job);
	policy.room = 0;
	ck_assert_int_eq(compaction_pick(w.f.db.versions, &policy, &job), 0);
	ck_assert_uint_lt(job.upper_count, job.version->level[0].count);
	ck_assert_ptr_eq(job.upper[job.upper_count - 1],
			 job.version->level[0].tables[job.version->level[0].count - 1]);
	ck_assert_uint_gt(table_get_meta(job.upper[0])->seq_min, 0);
	for (size_t i = 0; i < job.version->level[0].count - job.upper_count; i++)
		ck_assert_uint_gt(table_get_meta(job.version->level[0].tables[i])->seq_min,
				  table_get_meta(job.upper[0])->seq_max);
	compaction_job_fini(&job);
	world_free(&w);
}
END_TEST

START_TEST(test_a_flush_without_space_can_be_tried_again)
{
	struct extent taken[256];
	unsigned count = 0;
	struct world w;

	world_make(&w, "flush_full", 24U << 20);
	fill(&w);
	write_some(&w, 100);
	while (count < 256 &&
	       !space_alloc(w.f.db.space, SPACE_MANIFEST, 24U << 20, FORMAT_BLOCK, &taken[count]))
		count++;
	ck_assert_int_eq(flush(&w), -KV_E_NOSPACE);
	check_all(&w);
	while (count)
		space_release(w.f.db.space, taken[--count]);
	ck_assert_int_eq(flush(&w), 0);
	check_all(&w);
	reopen(&w);
	check_all(&w);
	world_free(&w);
}
END_TEST

START_TEST(test_a_damaged_table_is_left_alone)
{
	struct world w;
	struct version *v;
	struct extent e;
	bool did;

	world_make(&w, "damaged", 24U << 20);
	fill(&w);
	v = versions_current(w.f.db.versions);
	e = table_get_meta(v->level[0].tables[0])->extents[0];
	version_unref(v);
	ck_assert_int_eq(os_volume_sync(w.f.db.volume), 0);
	fixture_crash(&w.f, SIM_CRASH_DROP); /* an empty cache */
	start(&w);
	sim_env_flip(w.f.env, FIXTURE_NAME, e.off + 10, 1);
	ck_assert_int_eq(compaction_step(&w.f.db, &did), -KV_E_CHECKSUM);
	for (unsigned i = 0; i < 3;
	     i++) { /* what is left can be done or not, but comes to an end */
		ck_assert_int_eq(compaction_step(&w.f.db, &did), 0);
		ck_assert(!did);
	}
	sim_env_flip(w.f.env, FIXTURE_NAME, e.off + 10, 1);
	check_all(&w);
	world_free(&w);
}
END_TEST

/* ---- crashes ----------------------------------------------------------------------------------
 */

/* There is no log here: what is left is what was flushed. */
static void crash_round(struct world *w)
{
	const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					SIM_CRASH_GARBAGE};
	kv_seq before = w->flushed;
	bool flushing = false;
	int err;

	write_some(w, 80);
	sim_env_cut(w->f.env, 1 + test_rng_below(&w->rng, 60));
	do {
		flushing = !flushing;
		err = flushing ? flush(w) : compact(w, 3);
		before = err ? before : w->flushed;
		if (!err && flushing)
			break;
	} while (!err);
	if (!err)
		err = compact(w, 100);
	sim_env_crash(w->f.env, modes[test_rng_below(&w->rng, 4)]);
	drop_frozen(w);
	fixture_close(&w->f);
	fixture_open(&w->f);
	ck_assert_uint_ge(w->f.loaded.manifest.last_seq, w->flushed);
	w->flushed = w->f.loaded.manifest.last_seq;
	w->seq = w->flushed;
	for (unsigned i = 0; i < KEYS; i++) {
		struct key_history *h = &w->keys[i];

		while (h->count && h->changes[h->count - 1].seq > w->seq)
			h->count--;
	}
	start(w);
	ck_assert_int_eq(values_recovered(w->f.db.values), 0);
	ck_assert_int_eq(values_reap(w->f.db.values), 0);
	check_all(w);
}

START_TEST(test_a_crash_at_any_point_leaves_what_was_flushed)
{
	struct world w;

	world_make(&w, "crash", 24U << 20);
	for (unsigned i = 0; i < 60; i++)
		crash_round(&w);
	world_free(&w);
}
END_TEST

/* ---- shape --------------------------------------------------------------------------------------
 */

START_TEST(test_levels_follow_from_the_size_of_the_last)
{
	const struct {
		uint64_t bytes;
		unsigned base;
	} cases[] = {
		{0, 6},
		{100ULL << 20, 6},
		{255ULL << 20, 6},
		{256ULL << 20, 5},
		{2047ULL << 20, 5},
		{2ULL << 30, 4},
		{16ULL << 30, 3},
		{1ULL << 50, 1},
	};

	for (size_t i = 0; i < KV_ARRAY_COUNT(cases); i++) {
		struct version v = {0};
		struct compaction_shape s;

		v.level[COMPACTION_LAST].bytes = cases[i].bytes;
		compaction_pick_shape(&v, 32U << 20, &s);
		ck_assert_uint_eq(s.base, cases[i].base);
		for (unsigned n = s.base; n < COMPACTION_LAST; n++)
			ck_assert_uint_eq(
				s.target[n],
				(n + 1 == COMPACTION_LAST ? cases[i].bytes : s.target[n + 1]) /
					COMPACTION_FANOUT);
		for (unsigned n = 1; n < s.base; n++)
			ck_assert_uint_eq(s.target[n], 0);
	}
}
END_TEST

START_TEST(test_debt_grows_with_level_0)
{
	unsigned last = 0;
	struct world w;

	world_make(&w, "debt", 24U << 20);
	for (unsigned i = 1; i <= COMPACTION_L0_STOP; i++) {
		unsigned debt;

		put(&w, 0);
		put(&w, KEYS - 1);
		snapshots_publish(w.f.db.snapshots, w.seq);
		ck_assert_int_eq(flush(&w), 0);
		debt = compaction_debt(&w.f.db);
		ck_assert_int_eq(debt > 0, i >= COMPACTION_L0_START);
		ck_assert_uint_ge(debt, last);
		last = debt;
	}
	ck_assert_uint_eq(last, 1000);
	ck_assert_int_eq(compact(&w, 10), 0);
	ck_assert_uint_eq(compaction_debt(&w.f.db), 0);
	world_free(&w);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_every_snapshot_reads_the_same_through_flush_and_compaction,
		test_idle_time_brings_all_deletes_to_an_end,
		test_deletes_go_when_the_last_snapshot_is_released,
		test_idle_time_empties_mostly_dead_segments,
		test_mostly_dead_segments_are_emptied,
		test_sequential_data_is_moved_and_not_rewritten,
		test_an_interrupted_compaction_leaves_everything_as_it_was,
		test_a_full_volume_stops_compaction_without_loss,
		test_with_little_room_level_0_goes_run_by_run,
		test_a_flush_without_space_can_be_tried_again,
		test_a_damaged_table_is_left_alone,
		test_a_crash_at_any_point_leaves_what_was_flushed,
		test_levels_follow_from_the_size_of_the_last,
		test_debt_grows_with_level_0,
	};

	return test_suite_run("compaction", tests, sizeof(tests) / sizeof(tests[0]), 240);
}
