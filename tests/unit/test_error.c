/* SPDX-License-Identifier: MIT */
/*
 * Result codes: numbers are stable, every code has a text and a valid errno,
 * and nonsense is answered and not followed.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

START_TEST(test_numbers_are_stable)
{
	ck_assert_int_eq(KV_E_NOTFOUND, 1001);
	ck_assert_int_eq(KV_E_CORRUPT, 1006);
	ck_assert_int_eq(KV_E_POISONED, 1012);
	ck_assert_int_eq(KV_E_TOO_SMALL, 1020);
	ck_assert_int_eq(KV_E_GONE, 1021);
	ck_assert_int_eq(KV_E_END, 1022);
}
END_TEST

START_TEST(test_every_code_has_a_text_and_an_errno)
{
	for (int e = KV_E_NOTFOUND; e < KV_E_END; e++) {
		int host = kv_error_to_errno(-e);

		ck_assert_str_ne(kv_strerror(-e), "unknown error");
		ck_assert_int_gt(host, 0);
		ck_assert_int_lt(host, 134);
	}
	ck_assert_int_eq(kv_error_to_errno(-KV_E_NOTFOUND), ENOENT);
	ck_assert_int_eq(kv_error_to_errno(-KV_E_POISONED), EROFS);
	ck_assert_str_eq(kv_strerror(-KV_E_NOTFOUND), "no such key");
}
END_TEST

START_TEST(test_host_errors_pass_through)
{
	ck_assert_int_eq(kv_error_to_errno(0), 0);
	ck_assert_int_eq(kv_error_to_errno(-ENOSPC), ENOSPC);
	ck_assert_str_eq(kv_strerror(-ENOSPC), "No space left on device");
	ck_assert_str_eq(kv_strerror(0), "success");
}
END_TEST

START_TEST(test_nonsense_is_eio_and_unknown)
{
	const int codes[] = {1, INT_MAX, INT_MIN, -KV_E_BEFORE_FIRST, -KV_E_END, -999, -100000};

	for (size_t i = 0; i < KV_ARRAY_COUNT(codes); i++) {
		ck_assert_int_eq(kv_error_to_errno(codes[i]), EIO);
		ck_assert_str_eq(kv_strerror(codes[i]), "unknown error");
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_numbers_are_stable,
		test_every_code_has_a_text_and_an_errno,
		test_host_errors_pass_through,
		test_nonsense_is_eio_and_unknown,
	};

	return test_suite_run("error", tests, KV_ARRAY_COUNT(tests), 10);
}
