/* SPDX-License-Identifier: MIT */
/* Scans within a prefix pass over tables without it, whatever rules tables were written with. */
#include "kvcore/engine/prefix_probe.h"

#include <check.h>
#include <stdio.h>

#include "kvcore/base/base.h"
#include "kvcore/kv_stats.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME "volume"
#define TABLES 4U
#define DIRS   50U

static const struct kv_prefix_rule by_dir[] = {{1, KV_PREFIX_SEPARATOR, '/'}};
static const struct kv_prefix_rule by_length[] = {{1, KV_PREFIX_LENGTH, 4}};

static struct sim_env *sim;
static struct kv_db *db;

static void ok(int err)
{
	ck_assert_int_eq(err, 0);
}

static void open_db(const struct kv_prefix_rule *rules, unsigned count)
{
	const struct kv_options o = {
		.env = sim_env_os(sim), .prefixes = rules, .prefix_count = count};

	ok(kv_open(VOLUME, &o, &db));
}

static struct kv_slice key_of(unsigned dir, unsigned table, char *buf)
{
	return kv_slice_of(buf, (size_t)sprintf(buf, "dir%03u/name%u", dir, table));
}

/* Table n, in level 0, has names of the directories whose number is n mod TABLES, and spans all. */
static void setup(void)
{
	struct kv_create_options c = {.size_bytes = 64U << 20};
	char key[32];

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ok(kv_create(VOLUME, &c));
	open_db(by_dir, 1);
	for (unsigned t = 0; t < TABLES - 1; t++) {
		for (unsigned d = t; d < DIRS; d += TABLES)
			ok(kv_put(db, 1, key_of(d, t, key), kv_slice_of("v", 1), 0));
		ok(kv_flush(db));
	}
}

static void teardown(void)
{
	ok(kv_close(db));
	sim_env_free(sim);
}

static struct kv_stats stats(void)
{
	struct kv_stats st;

	kv_get_stats(db, &st);
	return st;
}

/* All keys of a directory, forward and backward. Return: how many there are. */
static unsigned scan(unsigned dir)
{
	char prefix[16];
	const struct kv_range range = {
		.prefix = kv_slice_of(prefix, (size_t)sprintf(prefix, "dir%03u/", dir))};
	unsigned forward = 0, backward = 0;
	struct kv_iter *it;
	struct kv_txn *txn;
	int err;

	ok(kv_txn_begin(db, NULL, &txn));
	ok(kv_iter_open(txn, 1, &range, &it));
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it))
		forward++;
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	for (err = kv_iter_last(it); !err; err = kv_iter_prev(it))
		backward++;
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	kv_iter_close(it);
	kv_txn_abort(txn);
	ck_assert_uint_eq(forward, backward);
	return forward;
}

static void check_all(void)
{
	for (unsigned d = 0; d < DIRS; d++)
		ck_assert_uint_eq(scan(d), d % TABLES < TABLES - 1);
}

START_TEST(test_tables_without_the_directory_are_passed_over)
{
	struct kv_stats before, after;

	check_all();
	before = stats();
	ck_assert_uint_eq(scan(3), 0); /* of no table: two or all three filters say so */
	ck_assert_uint_eq(scan(4), 1);
	after = stats();
	ck_assert_uint_eq(after.filter_checks - before.filter_checks, 2 * (TABLES - 1));
	ck_assert_uint_ge(after.filter_useful - before.filter_useful, 4);
}
END_TEST

START_TEST(test_levels_are_asked_like_tables)
{
	struct kv_stats before, after;

	ok(kv_compact(db, NULL));
	check_all();
	before = stats();
	ck_assert_uint_eq(scan(3), 0);
	after = stats();
	ck_assert_uint_eq(after.filter_checks - before.filter_checks, 1);
	ck_assert_uint_eq(after.filter_useful - before.filter_useful, 1);
}
END_TEST

START_TEST(test_other_rules_are_not_asked_of_old_tables)
{
	struct kv_stats before, after;

	ok(kv_close(db));
	open_db(by_length, 1);
	check_all();
	before = stats();
	ck_assert_uint_eq(scan(3), 0);
	after = stats();
	ck_assert_uint_eq(after.filter_useful, before.filter_useful);
	ok(kv_compact(db, NULL)); /* which writes them by the new ones */
	check_all();
	ck_assert_uint_gt(stats().filter_checks, after.filter_checks);
	ok(kv_close(db));
	open_db(NULL, 0);
	before = stats();
	check_all();
	ck_assert_uint_eq(stats().filter_checks, before.filter_checks);
}
END_TEST

/* Deletes, ranges of them included, hide what other tables have, whose filters know the prefix. */
START_TEST(test_what_is_deleted_stays_so)
{
	struct kv_batch *b;
	char key[32];

	ok(kv_delete(db, 1, key_of(0, 0, key), 0));
	ok(kv_flush(db));
	ck_assert_uint_eq(scan(0), 0);
	ok(kv_batch_new(db, &b));
	ok(kv_batch_delete_range(b, 1, kv_slice_of("dir004/", 7), kv_slice_of("dir0040", 7)));
	ok(kv_batch_write(b, 0, NULL));
	kv_batch_free(b);
	ok(kv_flush(db));
	ck_assert_uint_eq(scan(4), 0);
	ck_assert_uint_eq(scan(8), 1);
}
END_TEST

START_TEST(test_rules_out_of_range)
{
	static const struct kv_prefix_rule none[] = {{1, KV_PREFIX_LENGTH, 0}};
	const struct kv_options o = {.env = sim_env_os(sim), .prefixes = none, .prefix_count = 1};
	struct kv_db *other;

	ok(kv_close(db));
	ck_assert_int_eq(kv_open(VOLUME, &o, &other), -KV_E_INVALID);
	open_db(by_dir, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_tables_without_the_directory_are_passed_over,
		test_levels_are_asked_like_tables,
		test_other_rules_are_not_asked_of_old_tables,
		test_what_is_deleted_stays_so,
		test_rules_out_of_range,
	};

	return test_suite_run_with("prefix_probe", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
