/* SPDX-License-Identifier: MIT */
/*
 * What most unit tests need: running one list of tests as a suite, and random
 * numbers from a printed seed. KVFS_TEST_SEED=n repeats a run.
 */
#ifndef TESTS_SUPPORT_TEST_SUITE_H
#define TESTS_SUPPORT_TEST_SUITE_H

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kvcore/kv_types.h"

/*
 * The exit status of a test program with these tests; each may take @timeout_s.
 * @setup and @teardown (NULL: none) run around each test.
 */
static inline int test_suite_run_with(const char *name, const TTest *const *tests, size_t count,
				      double timeout_s, void (*setup)(void), void (*teardown)(void))
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tcase, timeout_s);
	tcase_add_checked_fixture(tcase, setup, teardown);
	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static inline int test_suite_run(const char *name, const TTest *const *tests, size_t count,
				 double timeout_s)
{
	return test_suite_run_with(name, tests, count, timeout_s, NULL, NULL);
}

/* splitmix64 */
struct test_rng {
	uint64_t state;
};

static inline uint64_t test_rng_next(struct test_rng *r)
{
	uint64_t v = r->state += 0x9e3779b97f4a7c15ULL;

	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ v >> 27) * 0x94d049bb133111ebULL;
	return v ^ v >> 31;
}

/* 0 to n-1. */
static inline uint64_t test_rng_below(struct test_rng *r, uint64_t n)
{
	return test_rng_next(r) % n;
}

static inline void test_rng_fill(struct test_rng *r, void *data, size_t len)
{
	uint8_t *p = (uint8_t *)data;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)test_rng_next(r);
}

/* Seeded by KVFS_TEST_SEED or the clock; prints the seed. */
static inline struct test_rng test_rng_seeded(const char *test)
{
	const char *given = getenv("KVFS_TEST_SEED");
	struct test_rng r = {(uint64_t)time(NULL)};

	if (given)
		r.state = strtoull(given, NULL, 0);
	printf("%s: KVFS_TEST_SEED=%llu\n", test, (unsigned long long)r.state);
	fflush(stdout);
	return r;
}

static inline struct kv_slice test_str(const char *s)
{
	size_t len = 0;

	while (s[len])
		len++;
	return kv_slice_of(s, len);
}

#endif
