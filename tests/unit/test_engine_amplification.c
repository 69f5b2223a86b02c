/* SPDX-License-Identifier: MIT */
/*
 * How much is written, and into how many tables. Write amplification: bytes handed to the volume
 * for each byte that the user put, until all is compacted and closed, while random keys are
 * overwritten. The targets are those of docs/design.md, section 9: under 8, and under 2 for values
 * of 4 KiB and more. Values are random bytes, so that compression helps nobody.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/db.h"
#include "kvcore/kv_stats.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define MIB (1024ULL * 1024)

struct load {
	size_t value_bytes;
	uint64_t live_bytes;
	uint64_t put_bytes;  /* in all */
	unsigned sync_every; /* puts; 0: never */
	uint64_t memtable_bytes;
};

static void put_all(struct kv_db *db, const struct load *l, struct test_rng *rng)
{
	static uint8_t value[64 * 1024];
	uint64_t keys = l->live_bytes / l->value_bytes;

	for (uint64_t i = 0; i < l->put_bytes / l->value_bytes; i++) {
		uint64_t n = i < keys ? i : test_rng_next(rng) % keys;
		bool sync = l->sync_every && i % l->sync_every == 0;
		char key[24];

		snprintf(key, sizeof(key), "key%012llu", (unsigned long long)n);
		test_rng_fill(rng, value, l->value_bytes);
		ck_assert_int_eq(kv_put(db, 1, test_str(key), kv_slice_of(value, l->value_bytes),
					sync ? KV_COMMIT_SYNC : 0),
				 0);
	}
}

static double amplification(const struct load *l)
{
	struct sim_env *sim = sim_env_new(7);
	struct kv_create_options co = {.env = sim_env_os(sim), .log_size_bytes = 4 * MIB};
	struct kv_options o = {.env = sim_env_os(sim),
			       .cache_bytes = 8 * MIB,
			       .memtable_bytes = l->memtable_bytes};
	struct test_rng rng = {11};
	struct kv_db *db;
	uint64_t before;
	double ratio;

	ck_assert_int_eq(kv_create("volume", &co), 0);
	before = sim_env_bytes_written(sim);
	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
	put_all(db, l, &rng);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_close(db), 0);
	ratio = (double)(sim_env_bytes_written(sim) - before) / (double)l->put_bytes;
	printf("values of %zu bytes: %.2f bytes written a byte put\n", l->value_bytes, ratio);
	sim_env_free(sim);
	return ratio;
}

START_TEST(test_large_values_are_written_less_than_twice)
{
	static const struct load loads[] = {
		{4096, 8 * MIB, 32 * MIB, 0, MIB},
		{16384, 8 * MIB, 32 * MIB, 0, MIB},
		{65536, 8 * MIB, 32 * MIB, 0, MIB},
		{4096, 8 * MIB, 32 * MIB, 100, MIB},
	};

	for (unsigned i = 0; i < KV_ARRAY_COUNT(loads); i++)
		ck_assert(amplification(&loads[i]) < 2);
}
END_TEST

START_TEST(test_small_values_are_written_less_than_eight_times)
{
	static const struct load loads[] = {
		{100, 4 * MIB, 12 * MIB, 0, MIB},
		{1024, 8 * MIB, 24 * MIB, 0, MIB},
	};

	for (unsigned i = 0; i < KV_ARRAY_COUNT(loads); i++)
		ck_assert(amplification(&loads[i]) < 8);
}
END_TEST

/* Most of the data is in the last level, and little of it may be written again for each few
 * memtables that come. */
START_TEST(test_what_is_many_times_the_memtable_is_written_less_than_eleven_times)
{
	static const struct load load = {1024, 24 * MIB, 96 * MIB, 0, MIB / 4};

	ck_assert(amplification(&load) < 11);
}
END_TEST

/* Tables of a database after a full compaction, if @taken bytes of the volume are something else.
 */
static uint64_t table_count(uint64_t taken)
{
	static const struct load load = {1024, 4 * MIB, 4 * MIB, 0, MIB / 16};
	struct sim_env *sim = sim_env_new(7);
	struct kv_create_options co = {.env = sim_env_os(sim), .log_size_bytes = 4 * MIB};
	struct kv_options o = {.env = sim_env_os(sim),
			       .cache_bytes = 8 * MIB,
			       .memtable_bytes = load.memtable_bytes};
	struct test_rng rng = {11};
	struct kv_stats stats;
	struct extent e;
	struct kv_db *db;

	ck_assert_int_eq(kv_create("volume", &co), 0);
	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
	if (taken)
		ck_assert_int_eq(space_alloc(db->space, SPACE_VALUE, taken, taken, &e), 0);
	put_all(db, &load, &rng);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	kv_get_stats(db, &stats);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
	return stats.tables;
}

START_TEST(test_tables_grow_with_the_volume)
{
	uint64_t small = table_count(0), large = table_count(1024 * MIB);

	printf("%u tables, in a large volume %u\n", (unsigned)small, (unsigned)large);
	ck_assert_uint_gt(small, 2 * large);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_large_values_are_written_less_than_twice,
		test_small_values_are_written_less_than_eight_times,
		test_what_is_many_times_the_memtable_is_written_less_than_eleven_times,
		test_tables_grow_with_the_volume,
	};

	return test_suite_run("engine_amplification", tests, KV_ARRAY_COUNT(tests), 120);
}
