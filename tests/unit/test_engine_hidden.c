/* SPDX-License-Identifier: MIT */
/*
 * What range deletes hide costs an iterator one step, wherever the hidden keys and the range
 * delete are: both in the memtable, in a table and the memtable, both in tables. Compared with a
 * seek over nothing, in processor time of the thread; stepping over the keys takes hundreds of
 * times as long.
 */
#include <stdio.h>
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define KEYS	    30000U
#define TRIES	    20U
#define RATIO_LIMIT 20U

static struct sim_env *sim;
static struct kv_db *db;

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 16U << 20};
	struct kv_options o = {.cache_bytes = 64U << 20};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	o.env = c.env;
	ck_assert_int_eq(kv_create("volume", &c), 0);
	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

static uint64_t thread_ns(void)
{
	struct timespec t;

	ck_assert_int_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* The least time of a seek from @from, both ways, which must arrive at @next and @before. */
static uint64_t seek_ns(const char *from, const char *next, const char *end, const char *before)
{
	uint64_t best = UINT64_MAX;

	for (unsigned i = 0; i < TRIES; i++) {
		uint64_t began = thread_ns();
		struct kv_txn *txn;
		struct kv_iter *it;

		ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
		ck_assert_int_eq(kv_iter_open(txn, 1, NULL, &it), 0);
		ck_assert_int_eq(kv_iter_seek(it, test_str(from)), 0);
		ck_assert(slice_equal(kv_iter_key(it), test_str(next)));
		ck_assert_int_eq(kv_iter_seek_before(it, test_str(end)), 0);
		ck_assert(slice_equal(kv_iter_key(it), test_str(before)));
		kv_iter_close(it);
		kv_txn_abort(txn);
		best = min_u64(best, thread_ns() - began);
	}
	return best;
}

static void put_all(void)
{
	struct kv_batch *b;
	char key[16];

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (const char *const *k = (const char *const[]){"a", "b", "m", "z", NULL}; *k; k++)
		ck_assert_int_eq(kv_batch_put(b, 1, test_str(*k), test_str("v")), 0);
	for (unsigned i = 0; i < KEYS; i++) {
		snprintf(key, sizeof(key), "k%06u", i);
		ck_assert_int_eq(kv_batch_put(b, 1, test_str(key), test_str("v")), 0);
	}
	ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	kv_batch_free(b);
}

static void delete_range(const char *from, const char *to)
{
	struct kv_batch *b;

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	ck_assert_int_eq(kv_batch_delete_range(b, 1, test_str(from), test_str(to)), 0);
	ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	kv_batch_free(b);
}

static void expect_cheap(void)
{
	/* Warm; then beside the deleted interval, and over it. */
	uint64_t plain = seek_ns("a", "a", "b", "a");
	uint64_t over;

	plain = seek_ns("a", "a", "b", "a");
	over = seek_ns("k", "m", "l", "b");
	ck_assert_msg(over < RATIO_LIMIT * plain, "%llu ns over %u deleted keys, %llu ns beside",
		      (unsigned long long)over, KEYS, (unsigned long long)plain);
}

START_TEST(test_keys_in_the_memtable)
{
	put_all();
	delete_range("k", "l");
	expect_cheap();
	/* What is put into the interval afterwards is there. */
	ck_assert_int_eq(kv_put(db, 1, test_str("k5"), test_str("v"), 0), 0);
	(void)seek_ns("k", "k5", "l", "k5");
}
END_TEST

START_TEST(test_keys_in_a_table)
{
	put_all();
	ck_assert_int_eq(kv_flush(db), 0);
	delete_range("k", "l");
	expect_cheap();
}
END_TEST

START_TEST(test_all_in_tables)
{
	put_all();
	ck_assert_int_eq(kv_flush(db), 0);
	delete_range("k", "l");
	ck_assert_int_eq(kv_flush(db), 0);
	expect_cheap();
}
END_TEST

/* Range deletes elsewhere cost nothing: only those between an iterator's bounds are gathered. */
START_TEST(test_many_range_deletes_beside_the_bounds)
{
	const struct kv_range bounds = {.lower = {(const uint8_t *)"y", 1}};
	uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
	char from[16], to[16];

	put_all();
	for (unsigned n = 0; n < 2; n++) {
		for (unsigned i = 0; i < TRIES; i++) {
			uint64_t began = thread_ns();
			struct kv_txn *txn;
			struct kv_iter *it;

			ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
			ck_assert_int_eq(kv_iter_open(txn, 1, &bounds, &it), 0);
			ck_assert_int_eq(kv_iter_first(it), 0);
			ck_assert(slice_equal(kv_iter_key(it), test_str("z")));
			kv_iter_close(it);
			kv_txn_abort(txn);
			best[n] = min_u64(best[n], thread_ns() - began);
		}
		for (unsigned i = 0; !n && i < 5000; i++) {
			snprintf(from, sizeof(from), "n%06u", 2 * i);
			snprintf(to, sizeof(to), "n%06u", 2 * i + 1);
			delete_range(from, to);
		}
	}
	ck_assert_uint_lt(best[1], RATIO_LIMIT * best[0]);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_keys_in_the_memtable,
		test_keys_in_a_table,
		test_all_in_tables,
		test_many_range_deletes_beside_the_bounds,
	};

	return test_suite_run_with("what range deletes hide", tests, KV_ARRAY_COUNT(tests), 120,
				   setup, teardown);
}
