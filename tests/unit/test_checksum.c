/* SPDX-License-Identifier: MIT */
/*
 * Checksums: the published digests of "abc" cut to 16 bytes, parts that hash as
 * their concatenation, damage of any bit, and more threads than pooled contexts.
 */
#include "kvcore/format/checksum.h"

#include <pthread.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

/* FIPS 180-4 and RFC 7693 test vectors for "abc". */
static const struct {
	enum checksum_algo algo;
	const char *name;
	uint8_t abc[CHECKSUM_LEN];
} known[] = {
	{CHECKSUM_SHA256,
	 "sha256",
	 {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22,
	  0x23}},
	{CHECKSUM_SHA512_256,
	 "sha512-256",
	 {0x53, 0x04, 0x8e, 0x26, 0x81, 0x94, 0x1e, 0xf9, 0x9b, 0x2e, 0x29, 0xb7, 0x6b, 0x4c, 0x7d,
	  0xab}},
	{CHECKSUM_BLAKE2B,
	 "blake2b",
	 {0xba, 0x80, 0xa5, 0x3f, 0x98, 0x1c, 0x4d, 0x0d, 0x6a, 0x27, 0x97, 0xb6, 0x9f, 0x12, 0xf6,
	  0xe9}},
};

START_TEST(test_digests_are_the_published_ones)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(known); i++) {
		struct kv_slice abc = test_str("abc");
		uint8_t sum[CHECKSUM_LEN];
		struct checksum *c = NULL;

		ck_assert_int_eq(checksum_new(known[i].algo, &c), 0);
		ck_assert_int_eq(checksum_compute(c, &abc, 1, sum), 0);
		ck_assert_mem_eq(sum, known[i].abc, CHECKSUM_LEN);
		ck_assert_int_eq(checksum_verify(c, abc, known[i].abc), 0);
		checksum_free(c);
	}
}
END_TEST

START_TEST(test_names_and_numbers_belong_together)
{
	enum checksum_algo algo;
	struct checksum *c;

	for (size_t i = 0; i < KV_ARRAY_COUNT(known); i++) {
		ck_assert_str_eq(checksum_algo_name(known[i].algo), known[i].name);
		ck_assert_int_eq(checksum_algo_by_name(known[i].name, &algo), 0);
		ck_assert_int_eq(algo, known[i].algo);
	}
	ck_assert_ptr_null(checksum_algo_name(0));
	ck_assert_ptr_null(checksum_algo_name(4));
	ck_assert_ptr_null(checksum_algo_name(UINT32_MAX));
	ck_assert_int_eq(checksum_algo_by_name("md5", &algo), -KV_E_INVALID);
	ck_assert_int_eq(checksum_algo_by_name("", &algo), -KV_E_INVALID);
	ck_assert_int_eq(checksum_new((enum checksum_algo)4, &c), -KV_E_FEATURE);
	checksum_free(NULL);
}
END_TEST

START_TEST(test_parts_hash_as_their_concatenation)
{
	struct test_rng rng = test_rng_seeded("checksum");
	uint8_t data[1000], whole[CHECKSUM_LEN], cut[CHECKSUM_LEN];
	struct kv_slice all = {data, sizeof(data)};
	struct checksum *c;

	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &c), 0);
	test_rng_fill(&rng, data, sizeof(data));
	ck_assert_int_eq(checksum_compute(c, &all, 1, whole), 0);
	for (int i = 0; i < 200; i++) {
		size_t a = test_rng_below(&rng, sizeof(data));
		size_t b = a + test_rng_below(&rng, sizeof(data) - a);
		struct kv_slice parts[] = {
			{data, a}, {NULL, 0}, {data + a, b - a}, {data + b, sizeof(data) - b}};

		ck_assert_int_eq(checksum_compute(c, parts, 4, cut), 0);
		ck_assert_mem_eq(whole, cut, CHECKSUM_LEN);
	}
	ck_assert_int_eq(checksum_compute(c, NULL, 0, cut), 0);
	ck_assert_int_eq(checksum_verify(c, kv_slice_of(NULL, 0), cut), 0);
	checksum_free(c);
}
END_TEST

START_TEST(test_verify_finds_any_flipped_bit)
{
	uint8_t data[64] = {1, 2, 3}, sum[CHECKSUM_LEN];
	struct kv_slice s = {data, sizeof(data)};

	for (size_t algo = 0; algo < KV_ARRAY_COUNT(known); algo++) {
		struct checksum *c;

		ck_assert_int_eq(checksum_new(known[algo].algo, &c), 0);
		ck_assert_int_eq(checksum_compute(c, &s, 1, sum), 0);
		for (size_t bit = 0; bit < 8 * sizeof(data); bit++) {
			data[bit / 8] ^= (uint8_t)(1U << bit % 8);
			ck_assert_int_eq(checksum_verify(c, s, sum), -KV_E_CHECKSUM);
			data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		for (size_t bit = 0; bit < 8 * sizeof(sum); bit++) {
			sum[bit / 8] ^= (uint8_t)(1U << bit % 8);
			ck_assert_int_eq(checksum_verify(c, s, sum), -KV_E_CHECKSUM);
			sum[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		ck_assert_int_eq(checksum_verify(c, s, sum), 0);
		checksum_free(c);
	}
}
END_TEST

static void *hash_many(void *arg)
{
	struct checksum *c = arg;
	uint8_t data[128];
	uintptr_t wrong = 0;

	for (unsigned i = 0; i < 500; i++) {
		struct kv_slice parts[] = {{data, 1 + i % 64}, {data, sizeof(data)}};
		uint8_t first[CHECKSUM_LEN], second[CHECKSUM_LEN];

		memset(data, (int)(i % 256), sizeof(data));
		if (checksum_compute(c, parts, 2, first) || checksum_compute(c, parts, 2, second) ||
		    memcmp(first, second, CHECKSUM_LEN))
			wrong++;
	}
	return (void *)wrong;
}

START_TEST(test_more_threads_than_pooled_contexts_agree)
{
	pthread_t threads[24];
	struct checksum *c;

	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &c), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hash_many, c), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++) {
		void *wrong = NULL;

		ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
		ck_assert_ptr_null(wrong);
	}
	checksum_free(c);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_digests_are_the_published_ones,
		test_names_and_numbers_belong_together,
		test_parts_hash_as_their_concatenation,
		test_verify_finds_any_flipped_bit,
		test_more_threads_than_pooled_contexts_agree,
	};

	return test_suite_run("checksum", tests, KV_ARRAY_COUNT(tests), 60);
}
