/* SPDX-License-Identifier: MIT */
/*
 * Compression: round trips, the eighth that it must save, and damaged streams,
 * which must be refused or give exactly raw_len bytes and never leave the output
 * (an exact heap block, so ASan watches).
 */
#include "kvcore/format/compress.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "tests/support/test_suite.h"

/* Words from a small vocabulary: compresses to about a half. */
static void fill_words(struct test_rng *rng, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = 0x9e3779b97f4a7c15ULL * test_rng_below(rng, 50);

		memcpy(out + i, &word, len - i < 8 ? len - i : 8);
	}
}

START_TEST(test_compressible_pages_shrink_and_read_back)
{
	struct test_rng rng = test_rng_seeded("compress");
	struct kv_buf out = {0};

	for (int i = 0; i < 300; i++) {
		size_t len = 64 + test_rng_below(&rng, 70000);
		uint8_t *raw = malloc(len), *back = malloc(len);

		ck_assert(raw && back);
		fill_words(&rng, raw, len);
		ck_assert_int_eq(compress_page(COMPRESS_SNAPPY, kv_slice_of(raw, len), &out), 0);
		if (len > 4096)
			ck_assert_uint_gt(out.len, 0);
		ck_assert_uint_le(out.len, len - len / 8);
		if (out.len) {
			ck_assert_int_eq(
				decompress_page(COMPRESS_SNAPPY, kv_buf_slice(&out), back, len), 0);
			ck_assert_mem_eq(raw, back, len);
		}
		free(raw);
		free(back);
	}
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_what_does_not_shrink_is_left_raw)
{
	struct test_rng rng = test_rng_seeded("compress");
	struct kv_buf out = {0};
	uint8_t noise[5000], back[5000];
	struct kv_slice raw = {noise, sizeof(noise)};

	test_rng_fill(&rng, noise, sizeof(noise));
	ck_assert_int_eq(buf_append(&out, "before", 6), 0);
	ck_assert_int_eq(compress_page(COMPRESS_SNAPPY, raw, &out), 0);
	ck_assert_uint_eq(out.len, 0);
	memset(noise, 0, sizeof(noise));
	ck_assert_int_eq(compress_page(COMPRESS_NONE, raw, &out), 0);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(compress_page(COMPRESS_SNAPPY, kv_slice_of(NULL, 0), &out), 0);
	ck_assert_uint_eq(out.len, 0);
	/* Equal lengths mean raw, whatever the algorithm. */
	ck_assert_int_eq(decompress_page(COMPRESS_SNAPPY, raw, back, sizeof(back)), 0);
	ck_assert_mem_eq(noise, back, sizeof(back));
	ck_assert_int_eq(decompress_page(COMPRESS_NONE, raw, back, sizeof(back)), 0);
	ck_assert_int_eq(decompress_page(COMPRESS_NONE, kv_slice_of(NULL, 0), NULL, 0), 0);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_lengths_that_do_not_match_are_refused)
{
	struct kv_buf out = {0};
	uint8_t zeros[1000] = {0}, back[2000];

	ck_assert_int_eq(compress_page(COMPRESS_SNAPPY, kv_slice_of(zeros, 1000), &out), 0);
	ck_assert_uint_gt(out.len, 0);
	ck_assert_int_eq(decompress_page(COMPRESS_SNAPPY, kv_buf_slice(&out), back, 999),
			 -KV_E_CORRUPT);
	ck_assert_int_eq(decompress_page(COMPRESS_SNAPPY, kv_buf_slice(&out), back, 1001),
			 -KV_E_CORRUPT);
	ck_assert_int_eq(decompress_page(COMPRESS_NONE, kv_buf_slice(&out), back, 1000),
			 -KV_E_CORRUPT);
	ck_assert_int_eq(decompress_page(COMPRESS_SNAPPY, kv_slice_of(NULL, 0), back, 1000),
			 -KV_E_CORRUPT);
	for (size_t cut = 0; cut < out.len; cut++)
		ck_assert_int_eq(
			decompress_page(COMPRESS_SNAPPY, kv_slice_of(out.data, cut), back, 1000),
			-KV_E_CORRUPT);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_damaged_streams_stay_within_bounds)
{
	struct test_rng rng = test_rng_seeded("compress");
	struct kv_buf out = {0};
	uint8_t raw[600];
	uint8_t *back = malloc(sizeof(raw));
	int refused = 0, err;

	ck_assert_ptr_nonnull(back);
	while (!out.len) { /* few words may not shrink enough */
		fill_words(&rng, raw, sizeof(raw));
		err = compress_page(COMPRESS_SNAPPY, kv_slice_of(raw, sizeof(raw)), &out);
		ck_assert_int_eq(err, 0);
	}
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		out.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		err = decompress_page(COMPRESS_SNAPPY, kv_buf_slice(&out), back, sizeof(raw));
		ck_assert(!err || err == -KV_E_CORRUPT);
		refused += err != 0;
		out.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	ck_assert_int_gt(refused, 8);
	for (int i = 0; i < 5000; i++) {
		size_t len = test_rng_below(&rng, out.len);

		test_rng_fill(&rng, out.data + 2, len > 2 ? len - 2 : 0); /* keeps the length */
		err = decompress_page(COMPRESS_SNAPPY, kv_buf_slice(&out), back, sizeof(raw));
		ck_assert(!err || err == -KV_E_CORRUPT);
	}
	free(back);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_names_and_numbers_belong_together)
{
	enum compress_algo algo;

	ck_assert_str_eq(compress_algo_name(COMPRESS_NONE), "none");
	ck_assert_str_eq(compress_algo_name(COMPRESS_SNAPPY), "snappy");
	ck_assert_ptr_null(compress_algo_name(2));
	ck_assert_ptr_null(compress_algo_name(UINT32_MAX));
	ck_assert_int_eq(compress_algo_by_name("snappy", &algo), 0);
	ck_assert_int_eq(algo, COMPRESS_SNAPPY);
	ck_assert_int_eq(compress_algo_by_name("none", &algo), 0);
	ck_assert_int_eq(algo, COMPRESS_NONE);
	ck_assert_int_eq(compress_algo_by_name("zip", &algo), -KV_E_INVALID);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_compressible_pages_shrink_and_read_back,
		test_what_does_not_shrink_is_left_raw,
		test_lengths_that_do_not_match_are_refused,
		test_damaged_streams_stay_within_bounds,
		test_names_and_numbers_belong_together,
	};

	return test_suite_run("compress", tests, KV_ARRAY_COUNT(tests), 60);
}
