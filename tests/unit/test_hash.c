/* SPDX-License-Identifier: MIT */
/*
 * The hash: its values are part of the format and pinned here; every input bit
 * changes about half of the output; similar keys do not collide and fill low and
 * high bits evenly.
 */
#include "kvcore/base/hash.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

START_TEST(test_values_are_those_of_the_format)
{
	static const struct {
		size_t len;
		uint64_t hash;
	} pinned[] = {
		{0, 0x50e3aa9b387dcbedULL},   {1, 0x1ce29c365ee7c99cULL},
		{3, 0x227f1d145f9daae9ULL},   {4, 0xfd86f79c618ac9faULL},
		{7, 0x18144789c96a9c5aULL},   {8, 0x8148d39f4410640eULL},
		{15, 0xf59c615b5300c023ULL},  {16, 0x5bf76df7a8fcdaaeULL},
		{17, 0x20592cbf22cd2781ULL},  {31, 0xfa6c40a6e3988d2aULL},
		{32, 0x5e0e6b4bcb1e770eULL},  {33, 0xe7a87f000aaec8fcULL},
		{100, 0x22c859dabce26eecULL}, {300, 0xb7a454a276006432ULL},
	};
	uint8_t data[300];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)i;
	for (size_t i = 0; i < KV_ARRAY_COUNT(pinned); i++)
		ck_assert_uint_eq(hash_bytes(kv_slice_of(data, pinned[i].len), 0), pinned[i].hash);
	ck_assert_uint_eq(hash_bytes(kv_slice_of(data, 8), 7), 0xb8cfb93c76c006afULL);
	ck_assert_uint_eq(hash_u64(0), 0);
	ck_assert_uint_eq(hash_u64(1), 0x5692161d100b05e5ULL);
}
END_TEST

START_TEST(test_reads_nothing_outside_the_slice)
{
	for (size_t len = 0; len < 100; len++) { /* exact heap blocks: ASan watches */
		uint8_t *data = malloc(len ? len : 1);

		ck_assert_ptr_nonnull(data);
		memset(data, 1, len ? len : 1);
		ck_assert_uint_ne(hash_bytes(kv_slice_of(data, len), 1), 0);
		free(data);
	}
	ck_assert_uint_ne(hash_bytes(kv_slice_of(NULL, 0), 1), 0);
}
END_TEST

START_TEST(test_each_input_bit_changes_about_half_of_the_output)
{
	struct test_rng rng = test_rng_seeded("hash");
	uint8_t data[64];

	for (size_t len = 1; len <= sizeof(data); len++) {
		for (size_t bit = 0; bit < 8 * len; bit++) {
			unsigned changed = 0;

			for (int round = 0; round < 32; round++) {
				uint64_t before;

				test_rng_fill(&rng, data, len);
				before = hash_bytes(kv_slice_of(data, len), 5);
				data[bit / 8] ^= (uint8_t)(1U << bit % 8);
				changed += (unsigned)__builtin_popcountll(
					before ^ hash_bytes(kv_slice_of(data, len), 5));
			}
			/* 2048 fair coins: ten standard deviations are 226. */
			ck_assert_uint_gt(changed, 1024 - 226);
			ck_assert_uint_lt(changed, 1024 + 226);
		}
	}
}
END_TEST

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

START_TEST(test_counted_keys_do_not_collide_and_spread_evenly)
{
	enum { KEYS = 100000, BUCKETS = 1024 };
	static uint64_t hashes[KEYS];
	static unsigned low[BUCKETS], high[BUCKETS];

	for (unsigned i = 0; i < KEYS; i++) {
		char key[32];
		int len = snprintf(key, sizeof(key), "user/%08u/name", i);

		hashes[i] = hash_bytes(kv_slice_of(key, (size_t)len), 0);
		low[hashes[i] % BUCKETS]++;
		high[hashes[i] >> 54]++;
	}
	for (unsigned i = 0; i < BUCKETS; i++) {
		/* Mean 97.7, standard deviation 9.9. */
		ck_assert_uint_gt(low[i], 35);
		ck_assert_uint_lt(low[i], 165);
		ck_assert_uint_gt(high[i], 35);
		ck_assert_uint_lt(high[i], 165);
	}
	qsort(hashes, KEYS, sizeof(hashes[0]), compare_u64);
	for (unsigned i = 1; i < KEYS; i++)
		ck_assert_uint_ne(hashes[i - 1], hashes[i]);
}
END_TEST

START_TEST(test_runs_of_zeros_differ_by_length_and_seed)
{
	static const uint8_t zeros[256];
	static uint64_t hashes[512];

	for (size_t len = 0; len < 256; len++) {
		hashes[2 * len] = hash_bytes(kv_slice_of(zeros, len), 0);
		hashes[2 * len + 1] = hash_bytes(kv_slice_of(zeros, len), 1);
	}
	qsort(hashes, 512, sizeof(hashes[0]), compare_u64);
	for (unsigned i = 1; i < 512; i++)
		ck_assert_uint_ne(hashes[i - 1], hashes[i]);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_values_are_those_of_the_format,
		test_reads_nothing_outside_the_slice,
		test_each_input_bit_changes_about_half_of_the_output,
		test_counted_keys_do_not_collide_and_spread_evenly,
		test_runs_of_zeros_differ_by_length_and_seed,
	};

	return test_suite_run("hash", tests, KV_ARRAY_COUNT(tests), 30);
}
