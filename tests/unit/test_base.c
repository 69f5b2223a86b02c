/* SPDX-License-Identifier: MIT */
/*
 * base.h: a false assertion aborts, a true one is silent, and the small helpers
 * hold at their edges.
 */
#include "kvcore/base/base.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test_suite.h"

START_TEST(test_a_false_assertion_aborts)
{
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (!child) {
		freopen("/dev/null", "w", stderr) ? (void)0 : _exit(1);
		KV_ASSERT(child);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGABRT);
}
END_TEST

START_TEST(test_a_true_assertion_does_nothing)
{
	int evaluated = 0;

	KV_ASSERT(++evaluated);
	ck_assert_int_eq(evaluated, 1);
}
END_TEST

START_TEST(test_align_keeps_multiples_and_moves_the_rest)
{
	ck_assert_uint_eq(align_up_u64(0, 4096), 0);
	ck_assert_uint_eq(align_up_u64(1, 4096), 4096);
	ck_assert_uint_eq(align_up_u64(4096, 4096), 4096);
	ck_assert_uint_eq(align_down_u64(4095, 4096), 0);
	ck_assert_uint_eq(align_down_u64(8191, 4096), 4096);
	ck_assert_uint_eq(min_u64(1, 2), 1);
	ck_assert_uint_eq(max_u64(1, UINT64_MAX), UINT64_MAX);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_a_false_assertion_aborts,
		test_a_true_assertion_does_nothing,
		test_align_keeps_multiples_and_moves_the_rest,
	};

	return test_suite_run("base", tests, KV_ARRAY_COUNT(tests), 10);
}
