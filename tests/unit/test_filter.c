/* SPDX-License-Identifier: MIT */
/* Filters: no false negative, few false positives, damage refused. */
#include "kvcore/table/filter.h"

#include <check.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/format/manifest.h"
#include "tests/support/test_suite.h"

static uint64_t key_hash(uint64_t n)
{
	uint8_t key[10] = {0, 1};

	be64_put(key + 2, n);
	return hash_bytes(kv_slice_of(key, sizeof(key)), 0);
}

static double false_positives(size_t count, unsigned bits_per_key, size_t raw_max)
{
	uint64_t *hashes = malloc(count * sizeof(*hashes));
	struct kv_buf page = {0};
	size_t admitted = 0;

	for (size_t i = 0; i < count; i++)
		hashes[i] = key_hash(i);
	ck_assert_int_eq(filter_build(hashes, count, bits_per_key, NULL, raw_max, &page), 0);
	ck_assert_uint_le(page.len, raw_max);
	ck_assert_int_eq(filter_validate(page.data, page.len), 0);
	for (size_t i = 0; i < count; i++)
		ck_assert(filter_admits(page.data, hashes[i]));
	for (size_t i = 0; i < 100000; i++)
		admitted += filter_admits(page.data, key_hash(1000000000 + i));
	free(hashes);
	kv_buf_free(&page);
	return (double)admitted / 100000;
}

START_TEST(test_keys_are_admitted_and_few_others)
{
	static const size_t counts[] = {1, 2, 50, 51, 52, 1000, 100000};

	for (size_t i = 0; i < KV_ARRAY_COUNT(counts); i++) {
		ck_assert_double_lt(false_positives(counts[i], 10, FILTER_RAW_MAX), 0.02);
		ck_assert_double_lt(false_positives(counts[i], 16, FILTER_RAW_MAX), 0.004);
		ck_assert_double_lt(false_positives(counts[i], 1, FILTER_RAW_MAX), 0.8);
	}
}
END_TEST

START_TEST(test_a_filter_that_may_not_grow_admits_more_but_all)
{
	ck_assert_double_lt(false_positives(100000, 10, 64 * 1024), 0.5);
	ck_assert_double_gt(false_positives(100000, 10, 64 * 1024), 0.02);
}
END_TEST

START_TEST(test_damaged_filters_are_refused_or_harmless)
{
	uint64_t hashes[40];
	struct kv_buf page = {0};

	for (size_t i = 0; i < KV_ARRAY_COUNT(hashes); i++)
		hashes[i] = key_hash(i);
	ck_assert_int_eq(filter_build(hashes, KV_ARRAY_COUNT(hashes), 10, NULL, 4096, &page), 0);
	for (size_t len = 0; len < page.len; len++)
		ck_assert_int_eq(filter_validate(page.data, len), -KV_E_CORRUPT);
	for (size_t bit = 0; bit < 8 * FILTER_BLOCK; bit++) {
		page.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		if (filter_validate(page.data, page.len) == 0)
			for (size_t i = 0; i < 1000; i++)
				(void)filter_admits(page.data, key_hash(i));
		page.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	kv_buf_free(&page);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_keys_are_admitted_and_few_others,
		test_a_filter_that_may_not_grow_admits_more_but_all,
		test_damaged_filters_are_refused_or_harmless,
	};

	return test_suite_run("filter", tests, KV_ARRAY_COUNT(tests), 60);
}
