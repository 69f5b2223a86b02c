/* SPDX-License-Identifier: MIT */
/*
 * Write sets against a plain copy of what they should hold: puts, range deletes,
 * savepoints, releases and rollbacks at random. Each large value carries a number, and
 * its reference must be dropped exactly when no rollback can bring it back.
 */
#include "kvcore/engine/writeset_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "tests/support/array_iter.h"
#include "tests/support/engine_fixture.h"

#define KEYS	       24U
#define RANGES_MAX     64U
#define SAVEPOINTS_MAX 24U
#define REFS_MAX       4000U

struct op {
	bool there;
	enum entry_kind kind;
	uint8_t value[8];
	size_t len;
};

/* What a set holds at one moment. */
struct state {
	struct op op[KEYS];
	unsigned from[RANGES_MAX], to[RANGES_MAX];
	unsigned ranges;
};

struct world {
	uint8_t key[KEYS + 1][2];
	struct kv_slice probes[KEYS + 1];
	struct state now;
	struct state saved[SAVEPOINTS_MAX];
	unsigned number[SAVEPOINTS_MAX];
	unsigned savepoints;
	unsigned highest;
	bool dropped[REFS_MAX];
	uint64_t refs; /* numbers given out, from 0 */
	bool spills;
	struct writeset *set;
};

static void on_drop(void *ctx, struct kv_slice ref)
{
	struct world *w = ctx;
	uint64_t number;

	ck_assert_uint_eq(ref.len, 8);
	number = be64_at(ref.data);
	ck_assert_uint_lt(number, w->refs);
	ck_assert(!w->dropped[number]);
	w->dropped[number] = true;
}

static void world_init(struct world *w)
{
	struct writeset_hooks hooks = {on_drop, w};

	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i <= KEYS; i++) {
		be16_put(w->key[i], (uint16_t)(i * 11));
		w->probes[i] = kv_slice_of(w->key[i], 2);
	}
	ck_assert_int_eq(writeset_new(&hooks, &w->set), 0);
}

/* ---- the same on the set and on the copy ---------------------------------- */

static void do_put(struct world *w, struct test_rng *rng)
{
	unsigned key = (unsigned)test_rng_below(rng, KEYS);
	struct op *op = &w->now.op[key];

	op->there = true;
	/* References to values that do not exist cannot be written to tables. */
	op->kind = (enum entry_kind)test_rng_below(rng, w->spills ? 2 : 3);
	op->len = op->kind == ENTRY_DELETE ? 0 : test_rng_below(rng, sizeof(op->value) + 1);
	test_rng_fill(rng, op->value, op->len);
	if (op->kind == ENTRY_PUT_REF) {
		ck_assert_uint_lt(w->refs, REFS_MAX);
		be64_put(op->value, w->refs++);
		op->len = 8;
	}
	ck_assert_int_eq(
		writeset_put(w->set, w->probes[key], op->kind, kv_slice_of(op->value, op->len)), 0);
}

static void do_delete_range(struct world *w, struct test_rng *rng)
{
	unsigned from = (unsigned)test_rng_below(rng, KEYS);
	unsigned to = from + (unsigned)test_rng_below(rng, 5);

	to = to > KEYS ? KEYS : to;
	if (w->now.ranges == RANGES_MAX)
		return;
	ck_assert_int_eq(writeset_delete_range(w->set, w->probes[from], w->probes[to]), 0);
	if (from == to)
		return; /* an empty range is nothing */
	w->now.from[w->now.ranges] = from;
	w->now.to[w->now.ranges++] = to;
	for (; from < to; from++)
		w->now.op[from].there = false;
}

static void do_savepoint(struct world *w)
{
	unsigned number;

	if (w->savepoints == SAVEPOINTS_MAX)
		return;
	ck_assert_int_eq(writeset_savepoint(w->set, &number), 0);
	ck_assert_uint_gt(number, w->highest);
	w->highest = number;
	w->number[w->savepoints] = number;
	w->saved[w->savepoints++] = w->now;
}

static void do_rollback(struct world *w, struct test_rng *rng)
{
	unsigned i;

	if (!w->savepoints)
		return;
	i = (unsigned)test_rng_below(rng, w->savepoints);
	ck_assert_int_eq(writeset_rollback_to(w->set, w->number[i]), 0);
	w->now = w->saved[i];
	if (i + 1 < w->savepoints)
		ck_assert_int_eq(writeset_rollback_to(w->set, w->number[i + 1]), -KV_E_INVALID);
	w->savepoints = i + 1;
}

static void do_release(struct world *w, struct test_rng *rng)
{
	unsigned i;

	if (!w->savepoints)
		return;
	i = (unsigned)test_rng_below(rng, w->savepoints);
	ck_assert_int_eq(writeset_release(w->set, w->number[i]), 0);
	ck_assert_int_eq(writeset_release(w->set, w->number[i]), -KV_E_INVALID);
	w->savepoints = i;
}

/* ---- comparison ----------------------------------------------------------- */

static bool covered(const struct state *s, unsigned key)
{
	for (unsigned i = 0; i < s->ranges; i++) {
		if (s->from[i] <= key && key < s->to[i])
			return true;
	}
	return false;
}

static void mark_refs(const struct state *s, bool *reachable)
{
	for (unsigned i = 0; i < KEYS; i++) {
		if (s->op[i].there && s->op[i].kind == ENTRY_PUT_REF)
			reachable[be64_at(s->op[i].value)] = true;
	}
}

static void check_refs(const struct world *w)
{
	static bool reachable[REFS_MAX];

	memset(reachable, 0, sizeof(reachable));
	mark_refs(&w->now, reachable);
	for (unsigned i = 0; i < w->savepoints; i++)
		mark_refs(&w->saved[i], reachable);
	for (uint64_t i = 0; i < w->refs; i++) {
		if (w->dropped[i] == reachable[i])
			ck_abort_msg("ref %u: dropped=%d", (unsigned)i, w->dropped[i]);
	}
}

struct each {
	const struct world *w;
	unsigned ranges, ops, key;
};

static int on_op(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	struct each *e = ctx;
	const struct state *s = &e->w->now;

	if (kind == ENTRY_RANGE_DELETE) {
		ck_assert_uint_eq(e->ops, 0); /* before all points */
		ck_assert_uint_lt(e->ranges, s->ranges);
		ck_assert(slice_equal(key, e->w->probes[s->from[e->ranges]]));
		ck_assert(slice_equal(value, e->w->probes[s->to[e->ranges]]));
		e->ranges++;
		return 0;
	}
	while (!s->op[e->key].there)
		ck_assert_uint_lt(++e->key, KEYS);
	ck_assert(slice_equal(key, e->w->probes[e->key]));
	ck_assert_int_eq(kind, s->op[e->key].kind);
	ck_assert(slice_equal(value, kv_slice_of(s->op[e->key].value, s->op[e->key].len)));
	e->key++;
	e->ops++;
	return 0;
}

static void check_get(const struct world *w, unsigned key)
{
	const struct op *op = &w->now.op[key];
	enum entry_kind kind;
	struct kv_slice value;
	int err = writeset_get(w->set, w->probes[key], &kind, &value);

	if (op->there) {
		ck_assert_int_eq(err, 0);
		ck_assert_int_eq(kind, op->kind);
		ck_assert(slice_equal(value, kv_slice_of(op->value, op->len)));
	} else if (covered(&w->now, key)) {
		ck_assert_int_eq(err, 0);
		ck_assert_int_eq(kind, ENTRY_DELETE);
		ck_assert_uint_eq(value.len, 0);
	} else {
		ck_assert_int_eq(err, -KV_E_NOTFOUND);
	}
}

static size_t entries_of(const struct world *w, struct entry *out)
{
	size_t n = 0;

	for (unsigned i = 0; i < KEYS; i++) {
		const struct op *op = &w->now.op[i];

		if (op->there)
			out[n++] = (struct entry){w->probes[i], KV_SEQ_MAX, op->kind,
						  kv_slice_of(op->value, op->len)};
	}
	return n;
}

static void check_all(const struct world *w, struct iter *it, struct test_rng *rng)
{
	struct each each = {.w = w};
	struct entry entries[KEYS];
	size_t n = entries_of(w, entries), bytes = 0;

	for (unsigned i = 0; i < KEYS; i++) {
		kv_seq seq = range_set_covering(writeset_ranges(w->set), w->probes[i], KV_SEQ_MAX);

		check_get(w, i);
		ck_assert_int_eq(seq >= WRITESET_SEQ_MIN, covered(&w->now, i));
	}
	ck_assert_int_eq(writeset_each(w->set, on_op, &each), 0);
	ck_assert_uint_eq(each.ranges, w->now.ranges);
	ck_assert_uint_eq(each.ops, n);
	for (size_t i = 0; i < n; i++)
		bytes += entries[i].key.len + entries[i].value.len;
	if (!writeset_spilled(w->set)) {
		ck_assert_uint_eq(writeset_ops(w->set), n + w->now.ranges);
		ck_assert_uint_eq(writeset_bytes(w->set), bytes + 4 * (size_t)w->now.ranges);
		ck_assert_int_eq(writeset_empty(w->set), n + w->now.ranges == 0);
	}
	array_iter_walk(it, entries, n, w->probes, KEYS, 20, rng);
	check_refs(w);
}

static void random_life(struct world *w, struct test_rng *rng, bool with_savepoints)
{
	struct iter *it;

	ck_assert_int_eq(writeset_iter_new(w->set, false, &it), 0);
	for (unsigned step = 0; step < 250; step++) {
		uint64_t what = test_rng_below(rng, 100);

		if (what < 8 && w->spills)
			ck_assert_int_eq(writeset_spill(w->set), 0);
		else if (what < 75)
			do_put(w, rng);
		else if (what < 87)
			do_delete_range(w, rng);
		else if (what < 94 && with_savepoints)
			do_savepoint(w);
		else if (what < 97 && with_savepoints)
			do_rollback(w, rng);
		else if (with_savepoints)
			do_release(w, rng);
		if (step % 8 == 0)
			check_all(w, it, rng);
	}
	check_all(w, it, rng);
	iter_close(it);
}

/* ---- tests ---------------------------------------------------------------- */

static void lives(const char *name, bool with_savepoints)
{
	struct test_rng rng = test_rng_seeded(name);
	static struct world w;

	for (unsigned round = 0; round < 20; round++) {
		world_init(&w);
		for (unsigned life = 0; life < 3; life++) {
			random_life(&w, &rng, with_savepoints);
			writeset_clear(w.set);
			memset(&w.now, 0, sizeof(w.now));
			w.savepoints = 0;
			w.highest = 0;
			check_refs(&w);
		}
		writeset_free(w.set);
	}
}

START_TEST(test_a_set_holds_the_last_operation_on_each_key)
{
	lives("without savepoints", false);
}
END_TEST

START_TEST(test_rolling_back_restores_everything_as_it_was)
{
	lives("with savepoints", true);
}
END_TEST

/* A set that goes into runs again and again. */
static void spilled_lives(const char *name, bool with_savepoints)
{
	struct test_rng rng = test_rng_seeded(name);
	static struct world w;
	struct fixture f;
	uint64_t free_bytes;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	free_bytes = fixture_free_bytes(&f);
	f.db.spill = (struct spill_env){
		.tables = &f.db.tables, .versions = f.db.versions, .values = f.db.values};
	for (unsigned round = 0; round < 10; round++) {
		world_init(&w);
		w.spills = true;
		writeset_spill_to(w.set, &f.db.spill, 1U << 20);
		for (unsigned life = 0; life < 3; life++) {
			random_life(&w, &rng, with_savepoints);
			writeset_clear(w.set);
			ck_assert_uint_eq(fixture_free_bytes(&f), free_bytes);
			memset(&w.now, 0, sizeof(w.now));
			w.savepoints = 0;
			w.highest = 0;
		}
		writeset_free(w.set);
	}
	fixture_close(&f);
	fixture_free(&f);
}

START_TEST(test_a_set_spilled_to_tables_holds_the_last_operation_on_each_key)
{
	spilled_lives("spilled", false);
}
END_TEST

START_TEST(test_rolling_back_a_spilled_set_restores_everything_as_it_was)
{
	spilled_lives("spilled with savepoints", true);
}
END_TEST

START_TEST(test_the_number_of_runs_stays_small)
{
	struct test_rng rng = test_rng_seeded("runs");
	struct writeset *set;
	struct fixture f;
	uint8_t buf[IKEY_MAX];
	size_t most = 0;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	f.db.spill = (struct spill_env){
		.tables = &f.db.tables, .versions = f.db.versions, .values = f.db.values};
	ck_assert_int_eq(writeset_new(NULL, &set), 0);
	writeset_spill_to(set, &f.db.spill, 1U << 20);
	for (unsigned i = 0; i < 600; i++) {
		/* Of very different sizes, so that no tier of equals forms. */
		for (unsigned n = i % 3 ? 1 : 200; n; n--)
			ck_assert_int_eq(writeset_put(set, fixture_key(i * 7 + n, buf), ENTRY_PUT,
						      kv_slice_of("value", 5)),
					 0);
		ck_assert_int_eq(writeset_spill(set), 0);
		most = set->run_count > most ? set->run_count : most;
	}
	ck_assert_uint_le(most, 64);
	writeset_free(set);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_spill_without_room_changes_nothing)
{
	struct test_rng rng = test_rng_seeded("no room");
	struct writeset *set;
	struct fixture f;
	struct kv_slice got;
	enum entry_kind kind;
	uint8_t buf[IKEY_MAX];
	struct extent taken;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	f.db.spill = (struct spill_env){
		.tables = &f.db.tables, .versions = f.db.versions, .values = f.db.values};
	ck_assert_int_eq(writeset_new(NULL, &set), 0);
	writeset_spill_to(set, &f.db.spill, 1U << 20);
	ck_assert_int_eq(writeset_put(set, fixture_key(1, buf), ENTRY_PUT, kv_slice_of("one", 3)),
			 0);
	while (!space_alloc(f.db.space, SPACE_MANIFEST, 1U << 20, FORMAT_BLOCK, &taken))
		;
	ck_assert_int_eq(writeset_spill(set), -KV_E_NOSPACE);
	ck_assert(!writeset_spilled(set));
	ck_assert_int_eq(writeset_get(set, fixture_key(1, buf), &kind, &got), 0);
	ck_assert(slice_equal(got, kv_slice_of("one", 3)));
	writeset_free(set);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_committed_refs_are_not_dropped_but_displaced_ones_are)
{
	struct test_rng rng = test_rng_seeded("forget");
	static struct world w;

	for (unsigned round = 0; round < 20; round++) {
		static bool committed[REFS_MAX];

		world_init(&w);
		random_life(&w, &rng, round % 2);
		memset(committed, 0, sizeof(committed));
		mark_refs(&w.now, committed);
		writeset_forget_refs(w.set);
		writeset_free(w.set);
		for (uint64_t i = 0; i < w.refs; i++)
			ck_assert_int_eq(w.dropped[i], !committed[i]);
	}
}
END_TEST

START_TEST(test_an_iterator_sees_changes_made_after_it_was_opened)
{
	struct test_rng rng = test_rng_seeded("iterator");
	static struct world w;

	for (unsigned round = 0; round < 30; round++) {
		bool positioned = false;
		struct iter *it;

		world_init(&w);
		if (round % 2)
			do_savepoint(&w);
		ck_assert_int_eq(writeset_iter_new(w.set, false, &it), 0);
		for (unsigned step = 0; step < 300; step++) {
			bool forward = test_rng_below(&rng, 2);
			struct entry entries[KEYS], at, e;
			size_t n, want;
			int err;

			if (test_rng_below(&rng, 10) == 0)
				do_delete_range(&w, &rng);
			else
				do_put(&w, &rng);
			if (!positioned) {
				positioned = !iter_seek(it, w.probes[step % KEYS]);
				continue;
			}
			iter_entry(it, &at);
			n = entries_of(&w, entries);
			want = array_lower_bound(entries, n, at.key);
			if (!forward)
				want--;
			else if (want < n && slice_equal(entries[want].key, at.key))
				want++;
			err = forward ? iter_next(it) : iter_prev(it);
			positioned = want < n;
			ck_assert_int_eq(err, positioned ? 0 : -KV_E_NOTFOUND);
			if (positioned) {
				iter_entry(it, &e);
				ck_assert(array_entry_equal(&e, &entries[want]));
			}
		}
		iter_close(it);
		writeset_free(w.set);
	}
}
END_TEST

START_TEST(test_an_unknown_savepoint_is_refused)
{
	static struct world w;

	world_init(&w);
	ck_assert_int_eq(writeset_rollback_to(w.set, 0), -KV_E_INVALID);
	ck_assert_int_eq(writeset_rollback_to(w.set, 1), -KV_E_INVALID);
	do_savepoint(&w);
	ck_assert_int_eq(writeset_rollback_to(w.set, w.highest + 1), -KV_E_INVALID);
	ck_assert_int_eq(writeset_rollback_to(w.set, w.highest), 0);
	writeset_free(w.set);
}
END_TEST

static int stop_at_once(void *ctx, enum entry_kind kind, struct kv_slice key, struct kv_slice value)
{
	(void)kind;
	(void)key;
	(void)value;
	++*(unsigned *)ctx;
	return -EINTR;
}

START_TEST(test_each_stops_at_the_first_error)
{
	struct writeset *w;
	unsigned calls = 0;

	ck_assert_int_eq(writeset_new(NULL, &w), 0);
	ck_assert_int_eq(writeset_put(w, test_str("a"), ENTRY_PUT, test_str("1")), 0);
	ck_assert_int_eq(writeset_put(w, test_str("b"), ENTRY_PUT_REF, test_str("2")), 0);
	ck_assert_int_eq(writeset_each(w, stop_at_once, &calls), -EINTR);
	ck_assert_uint_eq(calls, 1);
	writeset_free(w);
	writeset_free(NULL);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_set_holds_the_last_operation_on_each_key,
		test_rolling_back_restores_everything_as_it_was,
		test_a_set_spilled_to_tables_holds_the_last_operation_on_each_key,
		test_rolling_back_a_spilled_set_restores_everything_as_it_was,
		test_the_number_of_runs_stays_small,
		test_a_spill_without_room_changes_nothing,
		test_committed_refs_are_not_dropped_but_displaced_ones_are,
		test_an_iterator_sees_changes_made_after_it_was_opened,
		test_an_unknown_savepoint_is_refused,
		test_each_stops_at_the_first_error,
	};

	return test_suite_run("writeset", tests, KV_ARRAY_COUNT(tests), 120);
}
