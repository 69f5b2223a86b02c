/* SPDX-License-Identifier: MIT */
/* What a volume holds before a writer hears that it is full, however the dead lie in it. */
#include <stdio.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME	 "volume"
#define VALUE	 20000U
#define SIZE	 (24ULL << 20)
#define ok(expr) ck_assert_int_eq((expr), 0)

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(void)
{
	const struct kv_options o = {.cache_bytes = 8U << 20, .env = sim_env_os(sim)};

	ok(kv_open(VOLUME, &o, &db));
}

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 1U << 20, .size_bytes = SIZE};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ok(kv_create(VOLUME, &c));
	open_db();
}

static void teardown(void)
{
	ok(kv_close(db));
	sim_env_free(sim);
}

static int put(unsigned key, unsigned version, struct test_rng *rng)
{
	uint8_t value[VALUE];
	char text[16];

	test_rng_fill(rng, value, sizeof(value));
	value[0] = (uint8_t)version;
	return kv_put(db, 1, kv_slice_of(text, (size_t)snprintf(text, sizeof(text), "%06u", key)),
		      kv_slice_of(value, sizeof(value)), 0);
}

static void check(unsigned keys)
{
	struct kv_buf value = {0};
	char text[16];

	for (unsigned k = 0; k < keys; k++) {
		ok(kv_get(db, 1, kv_slice_of(text, (size_t)snprintf(text, sizeof(text), "%06u", k)),
			  &value));
		ck_assert_uint_eq(value.len, VALUE);
		ck_assert_uint_eq(value.data[0], k % 2);
	}
	kv_buf_free(&value);
}

/* Every second key is written twice at once: a third of each segment is dead, too little for idle
 * time to care. */
START_TEST(test_what_is_dead_between_the_living_is_used_before_it_is_full)
{
	struct test_rng rng = test_rng_seeded("reclaim");
	struct kv_verify_options v = {.env = sim_env_os(sim)};
	struct kv_verify_result sum;
	unsigned keys = 0;
	int err = 0;

	while (!err) {
		err = put(keys, 0, &rng);
		if (!err && keys % 2)
			err = put(keys, 1, &rng);
		keys += !err;
		ck_assert_uint_lt(keys, SIZE / VALUE);
	}
	ck_assert_int_eq(err, -KV_E_NOSPACE);
	ck_assert_uint_gt(keys * (uint64_t)VALUE, SIZE / 10 * 7);
	check(keys);
	ok(kv_close(db));
	ok(kv_verify(VOLUME, &v, &sum));
	ck_assert_uint_eq(sum.problems, 0);
	open_db();
	check(keys);
}
END_TEST

static unsigned fill(struct test_rng *rng)
{
	unsigned keys = 0;

	while (!put(keys, 0, rng) && !(keys % 2 && put(keys, 1, rng))) {
		keys++;
		ck_assert_uint_lt(keys, SIZE / VALUE);
	}
	return keys;
}

/* Though many writers heard just before that it is full, the first one after the removal does not.
 */
START_TEST(test_what_is_removed_from_a_full_volume_can_be_written_again)
{
	struct test_rng rng = test_rng_seeded("removed");
	unsigned keys = 0;
	char text[16];

	for (unsigned round = 0; round < 3; round++) {
		keys = fill(&rng);
		ck_assert_uint_gt(keys * (uint64_t)VALUE, SIZE / 10 * 7);
		for (unsigned i = 0; i < 100; i++)
			(void)!put((unsigned)test_rng_below(&rng, keys), 0, &rng);
		for (unsigned k = 0; k <= keys; k++) {
			size_t n = (size_t)snprintf(text, sizeof(text), "%06u", k);

			ok(kv_delete(db, 1, kv_slice_of(text, n), KV_COMMIT_RESERVE));
		}
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_what_is_dead_between_the_living_is_used_before_it_is_full,
		test_what_is_removed_from_a_full_volume_can_be_written_again,
	};

	return test_suite_run_with("reclaim", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
