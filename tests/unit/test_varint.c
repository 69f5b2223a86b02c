/* SPDX-License-Identifier: MIT */
/*
 * LEB128: every width reads back, one encoding a number, and truncated, overlong
 * and too large input is refused.
 */
#include "kvcore/base/varint.h"

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

static void check_round_trip(uint64_t v)
{
	uint8_t out[VARINT_MAX_BYTES];
	size_t n = varint_put(out, v);
	uint64_t back = ~v;

	ck_assert_uint_eq(n, varint_len(v));
	ck_assert_uint_le(n, VARINT_MAX_BYTES);
	ck_assert_ptr_eq(varint_get(out, out + n, &back), out + n);
	ck_assert_uint_eq(back, v);
	for (size_t cut = 0; cut < n; cut++)
		ck_assert_ptr_null(varint_get(out, out + cut, &back));
	ck_assert_uint_eq(back, v); /* untouched on error */
}

START_TEST(test_every_width_reads_back_and_no_truncation_does)
{
	check_round_trip(0);
	check_round_trip(UINT64_MAX);
	for (unsigned bit = 0; bit < 64; bit++) {
		check_round_trip(1ULL << bit);
		check_round_trip((1ULL << bit) - 1);
		check_round_trip((1ULL << bit) + 1);
	}
}
END_TEST

START_TEST(test_lengths_are_those_of_leb128)
{
	ck_assert_uint_eq(varint_len(127), 1);
	ck_assert_uint_eq(varint_len(128), 2);
	ck_assert_uint_eq(varint_len(16383), 2);
	ck_assert_uint_eq(varint_len(16384), 3);
	ck_assert_uint_eq(varint_len(UINT64_MAX), 10);
}
END_TEST

START_TEST(test_malformed_input_is_refused)
{
	const uint8_t overlong[] = {0x80, 0x00};
	const uint8_t too_large[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
	const uint8_t endless[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				   0xff, 0xff, 0xff, 0xff, 0x01};
	uint64_t v;

	ck_assert_ptr_null(varint_get(overlong, overlong + sizeof(overlong), &v));
	ck_assert_ptr_null(varint_get(too_large, too_large + sizeof(too_large), &v));
	ck_assert_ptr_null(varint_get(endless, endless + sizeof(endless), &v));
	ck_assert_ptr_null(varint_get(NULL, NULL, &v));
}
END_TEST

START_TEST(test_random_bytes_that_decode_encode_to_the_same_bytes)
{
	struct test_rng rng = test_rng_seeded("varint");

	for (int i = 0; i < 20000; i++) {
		uint8_t in[12], out[VARINT_MAX_BYTES];
		const uint8_t *end;
		uint64_t v;

		test_rng_fill(&rng, in, sizeof(in));
		end = varint_get(in, in + sizeof(in), &v);
		if (!end)
			continue;
		ck_assert_uint_eq(varint_put(out, v), (size_t)(end - in));
		ck_assert_mem_eq(out, in, (size_t)(end - in));
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_every_width_reads_back_and_no_truncation_does,
		test_lengths_are_those_of_leb128,
		test_malformed_input_is_refused,
		test_random_bytes_that_decode_encode_to_the_same_bytes,
	};

	return test_suite_run("varint", tests, KV_ARRAY_COUNT(tests), 20);
}
