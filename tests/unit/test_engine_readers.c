/* SPDX-License-Identifier: MIT */
/* What long readers and named snapshots hold can be asked, and ends with them. */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define KEYS  200U
#define VALUE 300U
#define S     1000000000ULL

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(void)
{
	const struct kv_options o = {.env = sim_env_os(sim), .cache_bytes = 8U << 20};

	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
}

static void setup(void)
{
	struct kv_create_options o = {.size_bytes = 64U << 20, .log_size_bytes = 4U << 20};

	sim = sim_env_new(1);
	o.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create("volume", &o), 0);
	open_db();
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

static void write_all(unsigned round)
{
	struct test_rng rng = {round};
	uint8_t value[VALUE];
	char key[16];

	for (unsigned i = 0; i < KEYS; i++) {
		test_rng_fill(&rng, value, sizeof(value));
		snprintf(key, sizeof(key), "%06u", i);
		ck_assert_int_eq(kv_put(db, 1, test_str(key), kv_slice_of(value, sizeof(value)), 0),
				 0);
	}
}

static struct kv_stats stats(void)
{
	struct kv_stats st;

	kv_get_stats(db, &st);
	return st;
}

static uint64_t held(void)
{
	struct kv_snapshot_info *list;
	uint64_t bytes;
	size_t count;

	ck_assert_int_eq(kv_snapshot_list(db, &list, &count), 0);
	ck_assert_uint_eq(count, 1);
	bytes = list[0].held_bytes;
	free(list);
	return bytes;
}

START_TEST(test_a_snapshot_tells_what_it_holds_also_after_a_restart)
{
	uint64_t bytes;

	write_all(1);
	ck_assert_int_eq(kv_snapshot_create(db, "s"), 0);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_uint_eq(held(), 0);
	write_all(2);
	write_all(3);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	bytes = held();
	/* One version of each key, not two: the second one nobody can read. */
	ck_assert_uint_ge(bytes, KEYS * VALUE);
	ck_assert_uint_lt(bytes, 2 * KEYS * VALUE);
	ck_assert_uint_eq(stats().old_version_bytes, bytes);
	ck_assert_int_eq(kv_close(db), 0);
	open_db();
	ck_assert_uint_eq(held(), bytes);
	ck_assert_int_eq(kv_snapshot_drop(db, "s"), 0);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_uint_eq(stats().old_version_bytes, 0);
}
END_TEST

START_TEST(test_the_age_of_the_oldest_reader_can_be_asked)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *young;
	struct kv_txn *old;

	sim_env_stop_clock(sim);
	write_all(1);
	ck_assert_int_eq(kv_snapshot_create(db, "named"), 0);
	write_all(2);
	ck_assert_int_eq(kv_txn_begin(db, &ro, &old), 0);
	ck_assert_uint_eq(stats().old_states, 0);
	sim_env_advance(sim, 5 * S);
	ck_assert_uint_eq(stats().oldest_reader_ms, 0); /* it reads the present */
	write_all(3);
	ck_assert_uint_eq(stats().old_states, 1); /* the named one does not count */
	sim_env_advance(sim, 10 * S);
	ck_assert_int_eq(kv_snapshot_open(db, NULL, &young), 0);
	write_all(4);
	ck_assert_uint_eq(stats().old_states, 2);
	sim_env_advance(sim, 7 * S);
	ck_assert_uint_eq(stats().oldest_reader_ms, 17000);
	kv_txn_abort(old);
	ck_assert_uint_eq(stats().old_states, 1);
	ck_assert_uint_eq(stats().oldest_reader_ms, 7000);
	kv_snapshot_release(young);
	ck_assert_uint_eq(stats().old_states, 0);
	ck_assert_uint_eq(stats().oldest_reader_ms, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_snapshot_tells_what_it_holds_also_after_a_restart,
		test_the_age_of_the_oldest_reader_can_be_asked,
	};

	return test_suite_run_with("readers", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
