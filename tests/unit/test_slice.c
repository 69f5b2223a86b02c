/* SPDX-License-Identifier: MIT */
/*
 * slice_*: order, equality and prefixes of borrowed bytes, with empty slices
 * that have a null pointer, and against a byte-by-byte model.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

static int sign(int v)
{
	return (v > 0) - (v < 0);
}

static int model_compare(struct kv_slice a, struct kv_slice b)
{
	for (size_t i = 0; i < a.len && i < b.len; i++) {
		if (a.data[i] != b.data[i])
			return a.data[i] < b.data[i] ? -1 : 1;
	}
	return a.len < b.len ? -1 : a.len > b.len;
}

START_TEST(test_the_shorter_of_equal_prefixes_comes_first)
{
	ck_assert_int_lt(slice_compare(test_str("ab"), test_str("abc")), 0);
	ck_assert_int_gt(slice_compare(test_str("b"), test_str("abc")), 0);
	ck_assert_int_eq(slice_compare(test_str("abc"), test_str("abc")), 0);
	ck_assert_int_lt(slice_compare(test_str("a"), test_str("\xff")), 0);
}
END_TEST

START_TEST(test_empty_slices_may_have_no_pointer)
{
	struct kv_slice none = {NULL, 0};

	ck_assert_int_eq(slice_compare(none, none), 0);
	ck_assert_int_lt(slice_compare(none, test_str("a")), 0);
	ck_assert(slice_equal(none, test_str("")));
	ck_assert(!slice_equal(none, test_str("a")));
	ck_assert(slice_has_prefix(none, none));
	ck_assert(slice_has_prefix(test_str("a"), none));
	ck_assert(!slice_has_prefix(none, test_str("a")));
	ck_assert_uint_eq(slice_common_prefix(none, test_str("a")), 0);
}
END_TEST

START_TEST(test_random_slices_agree_with_a_byte_by_byte_model)
{
	struct test_rng rng = test_rng_seeded("slice");
	uint8_t a[40], b[40];

	for (int i = 0; i < 20000; i++) {
		struct kv_slice x = {a, test_rng_below(&rng, sizeof(a))};
		struct kv_slice y = {b, test_rng_below(&rng, sizeof(b))};
		size_t same = test_rng_below(&rng, sizeof(a));
		size_t common = 0;

		test_rng_fill(&rng, a, sizeof(a));
		test_rng_fill(&rng, b, sizeof(b));
		memcpy(b, a, same);
		while (common < x.len && common < y.len && a[common] == b[common])
			common++;
		ck_assert_int_eq(sign(slice_compare(x, y)), model_compare(x, y));
		ck_assert_int_eq(slice_equal(x, y), model_compare(x, y) == 0);
		ck_assert_uint_eq(slice_common_prefix(x, y), common);
		ck_assert_int_eq(slice_has_prefix(x, y), common == y.len);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_the_shorter_of_equal_prefixes_comes_first,
		test_empty_slices_may_have_no_pointer,
		test_random_slices_agree_with_a_byte_by_byte_model,
	};

	return test_suite_run("slice", tests, KV_ARRAY_COUNT(tests), 10);
}
