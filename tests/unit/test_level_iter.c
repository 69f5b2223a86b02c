/* SPDX-License-Identifier: MIT */
/*
 * The level iterator against one sorted array cut into tables. The tables are
 * stand-ins defined here (the linker prefers them to the layer's), so that
 * bounds of every kind, empty tables and failures can be made at will.
 */
#include "kvcore/engine/level_iter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/array_iter.h"

#define KEYS	    60U
#define ENTRIES_MAX 100U
#define TABLES_MAX  ENTRIES_MAX

struct table {
	struct table_meta meta;
	const struct entry *entries;
	size_t count;
	struct array_iter_control *control;
	int open_err;
};

int table_iter_new(struct table *t, unsigned flags, struct iter **out)
{
	ck_assert_uint_eq(flags, TABLE_ITER_ONCE);
	if (t->open_err)
		return t->open_err;
	*out = array_iter_new(t->entries, t->count, t->control);
	return 0;
}

const struct table_meta *table_get_meta(const struct table *t)
{
	return &t->meta;
}

struct world {
	uint8_t key[KEYS][2];
	struct kv_slice probes[KEYS];
	struct entry all[ENTRIES_MAX];
	size_t count;
	struct table table[TABLES_MAX];
	struct table *list[TABLES_MAX];
	size_t tables;
	struct array_iter_control control;
};

static void bound(struct kv_buf *buf, struct world *w, size_t key)
{
	buf->data = w->key[key];
	buf->len = sizeof(w->key[key]);
}

/*
 * Cut keys [from, to) off as a table, with those entries in it. The bounds are
 * the entries' own or, as range deletes would make them, wider.
 */
static void cut(struct world *w, size_t from, size_t to, bool wide)
{
	size_t first = array_lower_bound(w->all, w->count, w->probes[from]);
	size_t end = to < KEYS ? array_lower_bound(w->all, w->count, w->probes[to]) : w->count;
	struct table *t = &w->table[w->tables];

	wide = wide && to < KEYS;
	if (first == end && !wide)
		return;
	w->list[w->tables++] = t;
	t->entries = &w->all[first];
	t->count = end - first;
	t->control = &w->control;
	bound(&t->meta.smallest, w, from);
	bound(&t->meta.largest, w, wide ? to : to - 1);
	t->meta.largest_exclusive = wide;
	if (wide)
		return;
	for (size_t i = from; i < to; i++) { /* exact bounds */
		if (slice_equal(w->probes[i], t->entries[0].key))
			bound(&t->meta.smallest, w, i);
		if (slice_equal(w->probes[i], t->entries[t->count - 1].key))
			bound(&t->meta.largest, w, i);
	}
}

static void world_fill(struct world *w, struct test_rng *rng)
{
	unsigned sparse = 1 + (unsigned)test_rng_below(rng, 6);
	size_t from = 0;

	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i < KEYS; i++) {
		be16_put(w->key[i], (uint16_t)(i * 7));
		w->probes[i] = kv_slice_of(w->key[i], sizeof(w->key[i]));
	}
	for (unsigned i = 0; i < KEYS; i++) {
		kv_seq seq = 10;

		while (w->count < ENTRIES_MAX && test_rng_below(rng, sparse + 1) == 0)
			w->all[w->count++] = (struct entry){
				.key = w->probes[i], .seq = seq--, .kind = ENTRY_DELETE};
	}
	while (from < KEYS) {
		size_t to = min_u64(KEYS, from + 1 + test_rng_below(rng, 10));

		cut(w, from, to, test_rng_below(rng, 2));
		from = to;
	}
}

START_TEST(test_a_random_walk_equals_the_sorted_array)
{
	struct test_rng rng = test_rng_seeded("walk");
	static struct world w;

	for (unsigned round = 0; round < 150; round++) {
		struct iter *it;

		world_fill(&w, &rng);
		ck_assert_int_eq(level_iter_new(w.list, w.tables, TABLE_ITER_ONCE, &it), 0);
		ck_assert_uint_eq(w.control.opened, 0);
		array_iter_walk(it, w.all, w.count, w.probes, KEYS, 300, &rng);
		ck_assert_uint_le(w.control.open, 1);
		iter_close(it);
		ck_assert_uint_eq(w.control.open, 0);
	}
}
END_TEST

START_TEST(test_a_seek_opens_one_table_only)
{
	static struct world w;
	struct test_rng rng = {1};
	struct iter *it;

	world_fill(&w, &rng);
	w.count = 0;
	w.tables = 0;
	for (unsigned i = 0; i < KEYS; i++)
		w.all[w.count++] = (struct entry){.key = w.probes[i], .seq = 1};
	for (size_t from = 0; from < KEYS; from += 10)
		cut(&w, from, from + 10, false);
	ck_assert_uint_eq(w.tables, 6);
	ck_assert_int_eq(level_iter_new(w.list, w.tables, TABLE_ITER_ONCE, &it), 0);
	ck_assert_int_eq(iter_seek(it, w.probes[35]), 0);
	ck_assert_int_eq(iter_next(it), 0);
	ck_assert_int_eq(iter_seek(it, w.probes[39]), 0);
	ck_assert_int_eq(iter_seek_before(it, w.probes[31]), 0);
	ck_assert_uint_eq(w.control.opened, 1);
	ck_assert_int_eq(iter_prev(it), 0);
	ck_assert_uint_eq(w.control.opened, 2);
	iter_close(it);
}
END_TEST

START_TEST(test_errors_are_returned_and_leave_the_iterator_usable)
{
	struct test_rng rng = test_rng_seeded("errors");
	static struct world w;
	unsigned failures = 0;

	for (unsigned round = 0; round < 500; round++) {
		struct iter *it;
		int err;

		world_fill(&w, &rng);
		ck_assert_int_eq(level_iter_new(w.list, w.tables, TABLE_ITER_ONCE, &it), 0);
		if (w.tables && test_rng_below(&rng, 2)) {
			w.list[test_rng_below(&rng, w.tables)]->open_err = -ENOMEM;
		} else {
			w.control.fail_in = 1 + (unsigned)test_rng_below(&rng, 20);
			w.control.err = -EIO;
		}
		err = test_rng_below(&rng, 2) ? iter_first(it) : iter_last(it);
		while (!err)
			err = test_rng_below(&rng, 4) ? iter_next(it) : iter_prev(it);
		failures += err == -EIO || err == -ENOMEM;
		w.control.fail_in = 0;
		for (size_t i = 0; i < w.tables; i++)
			w.list[i]->open_err = 0;
		array_iter_walk(it, w.all, w.count, w.probes, KEYS, 50, &rng);
		iter_close(it);
	}
	ck_assert_uint_gt(failures, 100);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_random_walk_equals_the_sorted_array,
		test_a_seek_opens_one_table_only,
		test_errors_are_returned_and_leave_the_iterator_usable,
	};

	return test_suite_run("level_iter", tests, KV_ARRAY_COUNT(tests), 60);
}
