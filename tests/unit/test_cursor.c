/* SPDX-License-Identifier: MIT */
/*
 * Bounded reading: nothing is read outside the slice (ASan watches, the input
 * being an exact heap block), and a failure stays.
 */
#include "kvcore/base/cursor.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

START_TEST(test_fields_read_back_in_order)
{
	const uint8_t in[] = {7, 2, 1, 4, 3,	2, 1, 8,   7,	6,  5,
			      4, 3, 2, 1, 0x80, 1, 2, 'h', 'i', 'x'};
	struct cursor c = cursor_of(kv_slice_of(in, sizeof(in)));

	ck_assert_uint_eq(cursor_u8(&c), 7);
	ck_assert_uint_eq(cursor_le16(&c), 0x0102);
	ck_assert_uint_eq(cursor_le32(&c), 0x01020304);
	ck_assert_uint_eq(cursor_le64(&c), 0x0102030405060708ULL);
	ck_assert_uint_eq(cursor_varint(&c), 128);
	ck_assert(slice_equal(cursor_lenslice(&c), test_str("hi")));
	ck_assert_int_eq(cursor_finish(&c), -KV_E_CORRUPT); /* a byte is left */
	ck_assert(slice_equal(cursor_bytes(&c, 1), test_str("x")));
	ck_assert_int_eq(cursor_finish(&c), 0);
}
END_TEST

START_TEST(test_a_failed_read_makes_all_later_ones_fail)
{
	struct cursor c = cursor_of(test_str("abc"));

	ck_assert_uint_eq(cursor_le32(&c), 0);
	ck_assert(c.bad);
	ck_assert_uint_eq(cursor_u8(&c), 0);
	ck_assert_uint_eq(cursor_bytes(&c, 0).len, 0);
	ck_assert_uint_eq(cursor_varint(&c), 0);
	ck_assert_uint_eq(cursor_left(&c), 0);
	ck_assert_int_eq(cursor_finish(&c), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_lengths_beyond_the_end_are_refused)
{
	const uint8_t in[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'a'};
	struct cursor c = cursor_of(kv_slice_of(in, sizeof(in)));

	ck_assert_ptr_null(cursor_lenslice(&c).data);
	ck_assert(c.bad);
	c = cursor_of(test_str("abc"));
	ck_assert_uint_eq(cursor_bytes(&c, 4).len, 0);
	ck_assert(c.bad);
}
END_TEST

START_TEST(test_an_empty_slice_without_pointer_is_read_to_its_end)
{
	struct cursor c = cursor_of(kv_slice_of(NULL, 0));

	ck_assert_uint_eq(cursor_bytes(&c, 0).len, 0);
	ck_assert_int_eq(cursor_finish(&c), 0);
	ck_assert_uint_eq(cursor_u8(&c), 0);
	ck_assert_int_eq(cursor_finish(&c), -KV_E_CORRUPT);
}
END_TEST

/* One random read; returns false once the cursor is bad. */
static bool read_something(struct cursor *c, struct test_rng *rng)
{
	struct kv_slice s = {NULL, 0};

	switch (test_rng_below(rng, 7)) {
	case 0:
		cursor_u8(c);
		break;
	case 1:
		cursor_le16(c);
		break;
	case 2:
		cursor_le32(c);
		break;
	case 3:
		cursor_le64(c);
		break;
	case 4:
		cursor_varint(c);
		break;
	case 5:
		s = cursor_bytes(c, test_rng_below(rng, 40));
		break;
	default:
		s = cursor_lenslice(c);
	}
	for (size_t i = 0; i < s.len; i++)
		ck_assert_int_ge(s.data[i], 0); /* touches each byte */
	return !c->bad;
}

START_TEST(test_random_reads_of_random_bytes_stay_inside)
{
	struct test_rng rng = test_rng_seeded("cursor");

	for (int i = 0; i < 5000; i++) {
		size_t len = 1 + test_rng_below(&rng, 60);
		uint8_t *in = malloc(len);
		struct cursor c;

		ck_assert_ptr_nonnull(in);
		test_rng_fill(&rng, in, len);
		c = cursor_of(kv_slice_of(in, len));
		while (read_something(&c, &rng))
			ck_assert_uint_le(cursor_left(&c), len);
		free(in);
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_fields_read_back_in_order,
		test_a_failed_read_makes_all_later_ones_fail,
		test_lengths_beyond_the_end_are_refused,
		test_an_empty_slice_without_pointer_is_read_to_its_end,
		test_random_reads_of_random_bytes_stay_inside,
	};

	return test_suite_run("cursor", tests, KV_ARRAY_COUNT(tests), 20);
}
