/* SPDX-License-Identifier: MIT */
/*
 * Isolation of transactions, and two rules of recovery that a random test does
 * not reach: conflicts need two open transactions, and what a kill left in the
 * host's cache is only told from what is durable by a power loss right after.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME "vol"

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(size_t memtable_bytes)
{
	const struct kv_options o = {.env = sim_env_os(sim),
				     .cache_bytes = 8U << 20,
				     .memtable_bytes = memtable_bytes,
				     .commit_interval_ms = 60000};

	ck_assert_int_eq(kv_open(VOLUME, &o, &db), 0);
}

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	open_db(1U << 20);
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

/* The dead handle's close can only fail. */
static void crash(enum sim_crash mode)
{
	sim_env_crash(sim, mode);
	ck_assert_int_ne(kv_close(db), 0);
}

static void put(const char *key, const char *value)
{
	ck_assert_int_eq(kv_put(db, 1, test_str(key), test_str(value), 0), 0);
}

static struct kv_txn *begin(void)
{
	struct kv_txn *txn = NULL;

	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	return txn;
}

static void expect(struct kv_txn *txn, const char *key, const char *value)
{
	struct kv_buf got = {0};

	ck_assert_int_eq(kv_txn_get(txn, 1, test_str(key), &got), 0);
	ck_assert(slice_equal(kv_buf_slice(&got), test_str(value)));
	kv_buf_free(&got);
}

START_TEST(test_the_second_updater_of_a_key_gets_a_conflict)
{
	for (int flushed = 0; flushed < 2; flushed++) {
		struct kv_txn *late;

		put("a", "1");
		late = begin();
		expect(late, "a", "1");
		put("a", "2");
		if (flushed)
			ck_assert_int_eq(kv_flush(db), 0);
		expect(late, "a", "1");
		ck_assert_int_eq(kv_txn_put(late, 1, test_str("a"), test_str("3")), -KV_E_CONFLICT);
		kv_txn_abort(late);
		late = begin();
		expect(late, "a", "2");
		kv_txn_abort(late);
	}
}
END_TEST

START_TEST(test_a_range_delete_conflicts_with_a_later_update_in_it)
{
	struct kv_txn *late, *first;

	put("b", "1");
	late = begin();
	expect(late, "b", "1");
	first = begin();
	ck_assert_int_eq(kv_txn_delete_range(first, 1, test_str("a"), test_str("c")), 0);
	ck_assert_int_eq(kv_txn_commit(first, 0, NULL), 0);
	ck_assert_int_eq(kv_txn_delete(late, 1, test_str("b")), -KV_E_CONFLICT);
	kv_txn_abort(late);
}
END_TEST

START_TEST(test_a_key_locked_before_the_first_read_is_read_at_its_newest)
{
	struct kv_txn *txn = begin();

	put("a", "1");
	ck_assert_int_eq(kv_txn_lock(txn, 1, test_str("a")), 0);
	expect(txn, "a", "1");
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("a"), test_str("2")), 0);
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
}
END_TEST

START_TEST(test_what_a_kill_left_is_durable_once_the_volume_is_open_again)
{
	struct kv_txn *txn;

	put("a", "1");
	crash(SIM_CRASH_KILL);
	open_db(1U << 20);
	crash(SIM_CRASH_DROP);
	open_db(1U << 20);
	txn = begin();
	expect(txn, "a", "1");
	kv_txn_abort(txn);
}
END_TEST

/* Replay flushes on the way, before it knows the names. */
START_TEST(test_replay_keeps_what_named_snapshots_see)
{
	struct kv_txn_options o = {0};
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *txn = NULL;
	char key[16], value[1001];

	memset(value, 'x', sizeof(value) - 1);
	value[sizeof(value) - 1] = 0;
	put("a", "old");
	ck_assert_int_eq(kv_snapshot_create(db, "s"), 0);
	put("a", "new");
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		put(key, value);
	}
	crash(SIM_CRASH_KILL);
	open_db(64U << 10);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_snapshot_open(db, "s", &snapshot), 0);
	o.snapshot = snapshot;
	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
	expect(txn, "a", "old");
	kv_txn_abort(txn);
	kv_snapshot_release(snapshot);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_second_updater_of_a_key_gets_a_conflict,
		test_a_range_delete_conflicts_with_a_later_update_in_it,
		test_a_key_locked_before_the_first_read_is_read_at_its_newest,
		test_what_a_kill_left_is_durable_once_the_volume_is_open_again,
		test_replay_keeps_what_named_snapshots_see,
	};

	return test_suite_run_with("txn", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
