/* SPDX-License-Identifier: MIT */
/*
 * Growable buffers: appending in any pieces gives the concatenation, growth at
 * least doubles, and what cannot fit fails and changes nothing.
 */
#include "kvcore/base/buf.h"

#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/cursor.h"
#include "tests/support/test_suite.h"

START_TEST(test_random_appends_give_the_concatenation)
{
	struct test_rng rng = test_rng_seeded("buf");
	static uint8_t model[200000];
	struct kv_buf buf = {0};
	uint8_t piece[300];
	size_t len = 0;

	while (len < sizeof(model) - sizeof(piece)) {
		size_t n = test_rng_below(&rng, sizeof(piece));

		test_rng_fill(&rng, piece, n);
		switch (test_rng_below(&rng, 4)) {
		case 0:
			ck_assert_int_eq(buf_append(&buf, piece, n), 0);
			break;
		case 1:
			ck_assert_int_eq(buf_append_slice(&buf, kv_slice_of(piece, n)), 0);
			break;
		case 2:
			memset(piece, 0, n);
			ck_assert_int_eq(buf_append_zeros(&buf, n), 0);
			break;
		default:
			n = 1;
			ck_assert_int_eq(buf_append_byte(&buf, piece[0]), 0);
		}
		memcpy(model + len, piece, n);
		len += n;
		ck_assert_uint_eq(buf.len, len);
		ck_assert_uint_ge(buf.cap, len);
	}
	ck_assert_mem_eq(buf.data, model, len);
	kv_buf_free(&buf);
	ck_assert_ptr_null(buf.data);
	ck_assert_uint_eq(buf.cap, 0);
}
END_TEST

START_TEST(test_capacity_at_least_doubles)
{
	struct kv_buf buf = {0};

	for (int i = 0; i < 10000; i++) {
		size_t before = buf.cap;

		ck_assert_int_eq(buf_append_byte(&buf, 1), 0);
		ck_assert(buf.cap == before || buf.cap >= 2 * before);
	}
	kv_buf_free(&buf);
}
END_TEST

START_TEST(test_impossible_sizes_fail_and_change_nothing)
{
	struct kv_buf buf = {0};
	struct kv_slice huge = {(const uint8_t *)"", SIZE_MAX};

	ck_assert_int_eq(buf_append(&buf, "abc", 3), 0);
	ck_assert_int_eq(buf_reserve(&buf, SIZE_MAX), -ENOMEM);
	ck_assert_int_eq(buf_reserve(&buf, (size_t)PTRDIFF_MAX - 2), -ENOMEM);
	ck_assert_int_eq(buf_append_lenslice(&buf, huge), -ENOMEM);
	ck_assert_int_eq(buf_append_escaped(&buf, huge), -ENOMEM);
	ck_assert_int_eq(buf_resize(&buf, SIZE_MAX), -ENOMEM);
	ck_assert_uint_eq(buf.len, 3);
	ck_assert_mem_eq(buf.data, "abc", 3);
	kv_buf_free(&buf);
}
END_TEST

START_TEST(test_varints_and_lenslices_read_back)
{
	struct kv_buf buf = {0};
	struct cursor c;

	ck_assert_int_eq(buf_append_varint(&buf, 0), 0);
	ck_assert_int_eq(buf_append_varint(&buf, UINT64_MAX), 0);
	ck_assert_int_eq(buf_append_lenslice(&buf, test_str("hello")), 0);
	ck_assert_int_eq(buf_append_lenslice(&buf, kv_slice_of(NULL, 0)), 0);
	c = cursor_of(kv_buf_slice(&buf));
	ck_assert_uint_eq(cursor_varint(&c), 0);
	ck_assert_uint_eq(cursor_varint(&c), UINT64_MAX);
	ck_assert(slice_equal(cursor_lenslice(&c), test_str("hello")));
	ck_assert_uint_eq(cursor_lenslice(&c).len, 0);
	ck_assert_int_eq(cursor_finish(&c), 0);
	kv_buf_free(&buf);
}
END_TEST

START_TEST(test_assign_replaces_and_resize_zero_fills)
{
	struct kv_buf buf = {0};

	ck_assert_int_eq(buf_assign(&buf, kv_slice_of(NULL, 0)), 0);
	ck_assert_int_eq(buf_assign(&buf, test_str("longer than before")), 0);
	ck_assert_int_eq(buf_assign(&buf, test_str("short")), 0);
	ck_assert(slice_equal(kv_buf_slice(&buf), test_str("short")));
	ck_assert_int_eq(buf_resize(&buf, 7), 0);
	ck_assert(slice_equal(kv_buf_slice(&buf), kv_slice_of("short\0\0", 7)));
	ck_assert_int_eq(buf_resize(&buf, 2), 0);
	ck_assert(slice_equal(kv_buf_slice(&buf), test_str("sh")));
	/* A part of itself. */
	ck_assert_int_eq(buf_assign(&buf, kv_slice_of(buf.data + 1, 1)), 0);
	ck_assert(slice_equal(kv_buf_slice(&buf), test_str("h")));
	buf_clear(&buf);
	ck_assert_uint_eq(buf.len, 0);
	kv_buf_free(&buf);
}
END_TEST

START_TEST(test_printf_appends_and_terminates)
{
	struct kv_buf buf = {0};

	ck_assert_int_eq(buf_printf(&buf, "n=%d", 42), 0);
	ck_assert_int_eq(buf_printf(&buf, " %s",
				    "and a string longer than the first capacity, "
				    "so that it has to grow in between"),
			 0);
	ck_assert_uint_eq(buf.len, strlen((const char *)buf.data));
	ck_assert_int_eq(strncmp((const char *)buf.data, "n=42 and a string", 17), 0);
	kv_buf_free(&buf);
}
END_TEST

START_TEST(test_escaping_leaves_only_printable_ascii)
{
	struct kv_buf buf = {0};

	ck_assert_int_eq(buf_append_escaped(&buf, kv_slice_of("a\\b\n\0\xff~ ", 8)), 0);
	ck_assert(slice_equal(kv_buf_slice(&buf), test_str("a\\x5cb\\x0a\\x00\\xff~ ")));
	kv_buf_free(&buf);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_random_appends_give_the_concatenation,    test_capacity_at_least_doubles,
		test_impossible_sizes_fail_and_change_nothing, test_varints_and_lenslices_read_back,
		test_assign_replaces_and_resize_zero_fills,    test_printf_appends_and_terminates,
		test_escaping_leaves_only_printable_ascii,
	};

	return test_suite_run("buf", tests, KV_ARRAY_COUNT(tests), 20);
}
