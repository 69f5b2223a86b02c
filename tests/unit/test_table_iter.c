/* SPDX-License-Identifier: MIT */
/* Iterators against a sorted array: whole scans both ways and random walks. */
#include "kvcore/table/table.h"

#include <check.h>
#include <errno.h>

#include "tests/unit/table_rig.h"

static const struct rig_options option_sets[] = {
	{.page_size = 1024, .compress = COMPRESS_NONE},
	{.page_size = 4096, .compress = COMPRESS_SNAPPY, .cache_bytes = 65536},
	{.page_size = 65536, .compress = COMPRESS_SNAPPY, .cache_bytes = 1},
};

static const unsigned flag_sets[] = {0, TABLE_ITER_ONCE, TABLE_ITER_READAHEAD,
				     TABLE_ITER_ONCE | TABLE_ITER_READAHEAD};

static void check_at(struct iter *it, const struct rig_model *m, size_t i)
{
	struct entry e;

	iter_entry(it, &e);
	rig_check_entry(&e, &m->entries[i]);
}

static void scan_both_ways(struct table *t, const struct rig_model *m, unsigned flags)
{
	struct iter *it;

	ck_assert_int_eq(table_iter_new(t, flags, &it), 0);
	for (size_t i = 0; i < m->count; i++) {
		ck_assert_int_eq(i == 0 ? iter_first(it) : iter_next(it), 0);
		check_at(it, m, i);
	}
	ck_assert_int_eq(iter_next(it), -KV_E_NOTFOUND);
	for (size_t i = m->count; i-- > 0;) {
		ck_assert_int_eq(i == m->count - 1 ? iter_last(it) : iter_prev(it), 0);
		check_at(it, m, i);
	}
	ck_assert_int_eq(iter_prev(it), -KV_E_NOTFOUND);
	iter_close(it);
	iter_close(NULL);
}

/* Where the iterator should be after a move; count: nowhere. */
static size_t move(struct iter *it, const struct rig_model *m, struct test_rng *rng, size_t at,
		   int *err)
{
	uint8_t room[IKEY_MAX + 8];
	struct kv_slice key = rig_some_key(m, rng, room);
	uint64_t what = test_rng_below(rng, at < m->count ? 20 : 4);
	size_t i;

	switch (what) {
	case 0:
		*err = iter_first(it);
		return 0;
	case 1:
		*err = iter_last(it);
		return m->count - 1;
	case 2:
		*err = iter_seek(it, key);
		return rig_model_find(m, key, KV_SEQ_MAX);
	case 3:
		*err = iter_seek_before(it, key);
		i = rig_model_find(m, key, KV_SEQ_MAX);
		return i > 0 ? i - 1 : m->count;
	default:
		break;
	}
	if (what % 2) {
		*err = iter_next(it);
		return at + 1;
	}
	*err = iter_prev(it);
	return at > 0 ? at - 1 : m->count;
}

static void walk_at_random(struct table *t, const struct rig_model *m, struct test_rng *rng,
			   unsigned flags)
{
	size_t at = m->count;
	struct iter *it;
	int err;

	ck_assert_int_eq(table_iter_new(t, flags, &it), 0);
	for (int i = 0; i < 1500; i++) {
		at = move(it, m, rng, at, &err);
		if (at == m->count) {
			ck_assert_int_eq(err, -KV_E_NOTFOUND);
			continue;
		}
		ck_assert_int_eq(err, 0);
		check_at(it, m, at);
	}
	iter_close(it);
}

START_TEST(test_iterators_agree_with_a_sorted_array)
{
	struct test_rng rng = test_rng_seeded("table_iter");
	static const size_t keys[] = {1, 30, 300};
	struct table_meta meta;
	struct rig_model m;
	struct table *t;
	struct rig r;

	for (size_t n = 0; n < 9; n++) {
		rig_init(&r, test_rng_next(&rng), &option_sets[n / 3]);
		rig_model_init(&m, &rng, keys[n % 3]);
		ck_assert_int_eq(rig_build(&r, &m, NULL, n % 2, &meta), 0);
		ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
		for (size_t f = 0; f < KV_ARRAY_COUNT(flag_sets); f++) {
			scan_both_ways(t, &m, flag_sets[f]);
			walk_at_random(t, &m, &rng, flag_sets[f]);
		}
		ck_assert_uint_eq(r.damaged, 0);
		table_close(t, true);
		table_meta_fini(&meta);
		rig_model_fini(&m);
		rig_fini(&r);
	}
}
END_TEST

/* Reads and cached bytes that a whole scan costs. */
static void cost_of_scan(unsigned flags, uint64_t *reads, size_t *cached)
{
	struct rig_options o = {.page_size = 4096, .cache_bytes = 64U << 20};
	struct test_rng rng = {3};
	struct cache_stat before, after;
	struct table_meta meta;
	struct rig_model m;
	struct table *t;
	struct rig r;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 2000);
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), 0);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	cache_get_stat(r.cache, &before);
	*reads = sim_env_calls(r.sim, SIM_OP_READ);
	scan_both_ways(t, &m, flags);
	*reads = sim_env_calls(r.sim, SIM_OP_READ) - *reads;
	cache_get_stat(r.cache, &after);
	*cached = after.page_bytes - before.page_bytes;
	table_close(t, true);
	table_meta_fini(&meta);
	rig_model_fini(&m);
	rig_fini(&r);
}

START_TEST(test_scans_read_ahead_and_keep_out_of_the_cache_if_told)
{
	uint64_t plain, ahead, once;
	size_t plain_cached, ahead_cached, once_cached;

	cost_of_scan(0, &plain, &plain_cached);
	cost_of_scan(TABLE_ITER_READAHEAD, &ahead, &ahead_cached);
	cost_of_scan(TABLE_ITER_READAHEAD | TABLE_ITER_ONCE, &once, &once_cached);
	ck_assert_uint_lt(ahead, plain / 10);
	ck_assert_uint_gt(plain_cached, 1000000);
	ck_assert_uint_eq(ahead_cached, plain_cached);
	ck_assert_uint_lt(once_cached, plain_cached / 100);
	ck_assert_uint_gt(once, 0);
}
END_TEST

START_TEST(test_a_failed_read_leaves_an_iterator_that_can_be_used_again)
{
	struct rig_options o = {.page_size = 1024, .cache_bytes = 1};
	struct test_rng rng = test_rng_seeded("table_iter EIO");
	struct table_meta meta;
	struct rig_model m;
	struct table *t;
	struct iter *it;
	struct rig r;
	size_t found;
	int err;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 200);
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), 0);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	for (size_t f = 0; f < KV_ARRAY_COUNT(flag_sets); f++) {
		ck_assert_int_eq(table_iter_new(t, flag_sets[f], &it), 0);
		for (uint64_t nth = 1; nth < 40; nth++) {
			sim_env_fail(r.sim, SIM_OP_READ, nth, true, -EIO);
			found = 0;
			err = nth % 2 ? iter_first(it) : iter_last(it);
			for (; !err; found++)
				err = nth % 2 ? iter_next(it) : iter_prev(it);
			sim_env_heal(r.sim);
			ck_assert(err == -EIO || (err == -KV_E_NOTFOUND && found == m.count));
			ck_assert_int_eq(iter_seek(it, m.entries[m.count / 2].key), 0);
			check_at(it, &m,
				 rig_model_find(&m, m.entries[m.count / 2].key, KV_SEQ_MAX));
		}
		iter_close(it);
	}
	table_close(t, true);
	table_meta_fini(&meta);
	rig_model_fini(&m);
	rig_fini(&r);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_iterators_agree_with_a_sorted_array,
		test_scans_read_ahead_and_keep_out_of_the_cache_if_told,
		test_a_failed_read_leaves_an_iterator_that_can_be_used_again,
	};

	return test_suite_run("table_iter", tests, KV_ARRAY_COUNT(tests), 120);
}
