/* SPDX-License-Identifier: MIT */
/*
 * The merging iterator against one sorted array: random sources, random walks
 * with many turns, equal entries in several sources, failing sources.
 */
#include "kvcore/engine/merge_iter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/array_iter.h"

#define KEYS	    12U
#define SOURCES_MAX 7U
#define ENTRIES_MAX 120U

struct world {
	char key[KEYS][4];
	struct kv_slice probes[KEYS];
	char name[SOURCES_MAX][2]; /* values: which source an entry is from */
	struct entry all[ENTRIES_MAX];
	size_t count;
	struct entry source[SOURCES_MAX][ENTRIES_MAX];
	size_t source_len[SOURCES_MAX];
	size_t sources;
	struct array_iter_control control;
};

static int total_order(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = entry_compare(x, y);

	return c ? c : slice_compare(x->value, y->value);
}

/* @distinct: no (key, seq) twice. */
static void world_fill(struct world *w, struct test_rng *rng, bool distinct)
{
	size_t want = test_rng_below(rng, ENTRIES_MAX);

	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i < KEYS; i++) {
		int len = snprintf(w->key[i], sizeof(w->key[i]), "%02u", i);

		w->probes[i] = kv_slice_of(w->key[i], (size_t)len);
	}
	w->sources = test_rng_below(rng, SOURCES_MAX + 1);
	for (unsigned i = 0; i < SOURCES_MAX; i++)
		w->name[i][0] = (char)('a' + i);
	for (size_t i = 0; w->sources && i < want; i++) {
		size_t s = test_rng_below(rng, w->sources);
		struct entry e = {.key = w->probes[test_rng_below(rng, KEYS / 2) * 2],
				  .seq = distinct ? i + 1 : 1 + test_rng_below(rng, 4),
				  .kind = ENTRY_PUT,
				  .value = kv_slice_of(w->name[s], 1)};
		size_t j = 0;

		while (j < w->count && total_order(&w->all[j], &e) != 0)
			j++;
		if (j < w->count)
			continue; /* a source never holds the same entry twice */
		w->all[w->count++] = e;
		w->source[s][w->source_len[s]++] = e;
	}
	qsort(w->all, w->count, sizeof(w->all[0]), total_order);
	for (size_t s = 0; s < w->sources; s++)
		qsort(w->source[s], w->source_len[s], sizeof(w->all[0]), total_order);
}

static struct iter *world_merge(struct world *w)
{
	struct iter *its[SOURCES_MAX], *out;

	for (size_t s = 0; s < w->sources; s++)
		its[s] = array_iter_new(w->source[s], w->source_len[s], &w->control);
	ck_assert_int_eq(merge_iter_new(its, w->sources, &out), 0);
	return out;
}

static void walk(const char *test, bool distinct)
{
	struct test_rng rng = test_rng_seeded(test);
	static struct world w;

	for (unsigned round = 0; round < 120; round++) {
		struct iter *it;

		world_fill(&w, &rng, distinct);
		it = world_merge(&w);
		array_iter_walk(it, w.all, w.count, w.probes, KEYS, 300, &rng);
		iter_close(it);
		ck_assert_uint_eq(w.control.open, 0);
	}
}

START_TEST(test_a_random_walk_equals_the_sorted_array)
{
	walk("distinct entries", true);
}
END_TEST

START_TEST(test_of_equal_entries_the_earlier_source_comes_first)
{
	walk("equal entries", false);
}
END_TEST

START_TEST(test_no_source_at_all_is_an_empty_iterator)
{
	struct iter *it;

	ck_assert_int_eq(merge_iter_new(NULL, 0, &it), 0);
	ck_assert_int_eq(iter_first(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_last(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_seek(it, test_str("k")), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_seek_before(it, test_str("k")), -KV_E_NOTFOUND);
	iter_close(it);
}
END_TEST

START_TEST(test_an_error_of_a_source_is_returned_and_leaves_the_iterator_usable)
{
	struct test_rng rng = test_rng_seeded("errors");
	static struct world w;
	unsigned failures = 0;

	for (unsigned round = 0; round < 800; round++) {
		struct iter *it;
		int err;

		world_fill(&w, &rng, true);
		if (w.count < 4)
			continue;
		it = world_merge(&w);
		w.control.fail_in = 1 + (unsigned)test_rng_below(&rng, 30);
		w.control.err = -EIO;
		err = iter_first(it);
		while (!err && w.control.fail_in)
			err = test_rng_below(&rng, 3) ? iter_next(it) : iter_prev(it);
		failures += err == -EIO;
		ck_assert(w.control.fail_in != 0 || err == -EIO);
		w.control.fail_in = 0;
		array_iter_walk(it, w.all, w.count, w.probes, KEYS, 50, &rng);
		iter_close(it);
		ck_assert_uint_eq(w.control.open, 0);
	}
	ck_assert_uint_gt(failures, 100);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_random_walk_equals_the_sorted_array,
		test_of_equal_entries_the_earlier_source_comes_first,
		test_no_source_at_all_is_an_empty_iterator,
		test_an_error_of_a_source_is_returned_and_leaves_the_iterator_usable,
	};

	return test_suite_run("merge_iter", tests, KV_ARRAY_COUNT(tests), 60);
}
