/* SPDX-License-Identifier: MIT */
/*
 * Large values, superblocks, and a sync that failed: the host then takes its cached pages for
 * clean, so they are read back as long as it is up, and never reach the disk (Rebello et al., Can
 * Applications Recover from fsync Failures?, ATC 2020). What a new process recovers must be on the
 * disk.
 */
#include <errno.h>
#include <stdio.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VALUE  20000U
#define ROUNDS 40U

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(void)
{
	const struct kv_options o = {.env = sim_env_os(sim), .cache_bytes = 8U << 20};

	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
}

static int put(unsigned key, unsigned flags)
{
	static uint8_t value[VALUE];
	struct test_rng rng = {key};
	char name[16];

	snprintf(name, sizeof(name), "%u", key);
	test_rng_fill(&rng, value, sizeof(value));
	return kv_put(db, 1, test_str(name), kv_slice_of(value, sizeof(value)), flags);
}

/* All keys are there up to some number, @least at the least, and none behind it. */
static void expect_prefix(unsigned least, unsigned all)
{
	struct kv_buf value = {0};
	bool ended = false;
	char name[16];

	for (unsigned i = 0; i < all; i++) {
		int err;

		snprintf(name, sizeof(name), "%u", i);
		err = kv_get(db, 1, test_str(name), &value);
		ck_assert_msg(!err || err == -KV_E_NOTFOUND, "key %u: %s", i, kv_strerror(err));
		ck_assert_msg(!err || i >= least, "key %u of %u synced ones is lost", i, least);
		ck_assert_msg(err || !ended, "key %u is there, one before it is not", i);
		ended = err;
	}
	kv_buf_free(&value);
}

static void power_off_and_on(void)
{
	sim_env_crash(sim, SIM_CRASH_DROP);
	(void)!kv_close(db);
	open_db();
}

static void run(uint64_t seed)
{
	struct kv_create_options c = {.log_size_bytes = 1U << 20};

	sim = sim_env_new(seed);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create("volume", &c), 0);
	open_db();
	ck_assert_int_eq(put(0, KV_COMMIT_SYNC), 0);
	ck_assert_int_eq(put(1, 0), 0);
	sim_env_fail(sim, SIM_OP_SYNC, 1, false, -EIO);
	ck_assert_int_lt(put(2, KV_COMMIT_SYNC), 0);
	/* The process ends, the host does not. */
	sim_env_crash(sim, SIM_CRASH_KILL);
	(void)!kv_close(db);
	open_db();
	expect_prefix(1, 3);
	ck_assert_int_eq(put(9, KV_COMMIT_SYNC), 0);
	ck_assert_int_eq(kv_flush(db), 0);
	power_off_and_on();
	expect_prefix(1, 3);
	ck_assert_int_eq(kv_get(db, 1, test_str("9"), NULL), 0);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

START_TEST(test_a_value_that_a_failed_sync_lost_is_not_recovered_from_the_page_cache)
{
	for (uint64_t seed = 1; seed <= ROUNDS; seed++)
		run(seed);
}
END_TEST

/* Fail the @nth sync of an edit, go on without a crash, cut the power @cut changes later. */
static void tear_superblocks(uint64_t seed, unsigned nth, unsigned cut)
{
	const struct kv_options o = {.cache_bytes = 8U << 20};
	struct kv_create_options c = {.size_bytes = 32U << 20, .log_size_bytes = 1U << 20};
	struct kv_options open = o;

	sim = sim_env_new(seed);
	open.env = c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create("volume", &c), 0);
	open_db();
	ck_assert_int_eq(put(0, KV_COMMIT_SYNC), 0);
	ck_assert_int_eq(kv_flush(db), 0);
	ck_assert_int_eq(put(1, KV_COMMIT_SYNC), 0);
	sim_env_fail(sim, SIM_OP_SYNC, nth, false, -EIO);
	(void)!kv_flush(db);
	sim_env_crash(sim, SIM_CRASH_KILL);
	(void)!kv_close(db);
	sim_env_cut(sim, cut);
	if (!kv_open("volume", &open, &db)) {
		(void)!kv_flush(db);
		sim_env_crash(sim, SIM_CRASH_GARBAGE);
		(void)!kv_close(db);
	} else {
		sim_env_crash(sim, SIM_CRASH_GARBAGE);
	}
	ck_assert_msg(!kv_open("volume", &open, &db), "seed %u, sync %u, cut %u", (unsigned)seed,
		      nth, cut);
	expect_prefix(2, 2);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

START_TEST(test_a_superblock_copy_that_a_failed_sync_lost_is_not_trusted)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		for (unsigned nth = 1; nth <= 3; nth++)
			for (unsigned cut = 1; cut <= 12; cut++)
				tear_superblocks(seed, nth, cut);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_superblock_copy_that_a_failed_sync_lost_is_not_trusted,
		test_a_value_that_a_failed_sync_lost_is_not_recovered_from_the_page_cache,
	};

	return test_suite_run("recovery after a failed sync", tests, KV_ARRAY_COUNT(tests), 120);
}
