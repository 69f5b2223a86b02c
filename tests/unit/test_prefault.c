/* SPDX-License-Identifier: MIT */
/* Memory is backed at once, and only memory that was asked for. */
#include "kvcore/base/prefault.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define PAGES 64U
#define PAGE  ((size_t)4096)

static uint8_t *map;

static void setup(void)
{
	map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
}

static void teardown(void)
{
	ck_assert_int_eq(munmap(map, PAGES * PAGE), 0);
}

static unsigned resident(void)
{
	unsigned char in[PAGES];
	unsigned count = 0;

	ck_assert_int_eq(mincore(map, PAGES * PAGE, in), 0);
	for (unsigned i = 0; i < PAGES; i++)
		count += in[i] & 1;
	return count;
}

/* MADV_POPULATE_WRITE is younger than what the project runs on at least. */
static bool kernel_can(void)
{
	bool can = madvise(map, PAGE, 23) == 0;

	ck_assert_int_eq(madvise(map, PAGE, MADV_DONTNEED), 0);
	return can;
}

START_TEST(test_whole_pages_are_there_before_they_are_touched)
{
	unsigned want = kernel_can() ? 14 : 0;

	errno = 7;
	prefault(map + 100, 15 * PAGE);
	ck_assert_int_eq(errno, 7);
	ck_assert_uint_eq(resident(), want);
	for (size_t i = 0; i < PAGES * PAGE; i++)
		ck_assert_uint_eq(map[i], 0);
}
END_TEST

START_TEST(test_what_is_written_stays)
{
	memset(map, 5, 20 * PAGE);
	prefault(map, 40 * PAGE);
	for (size_t i = 0; i < PAGES * PAGE; i++)
		ck_assert_uint_eq(map[i], i < 20 * PAGE ? 5 : 0);
}
END_TEST

START_TEST(test_little_is_left_alone)
{
	prefault(map, PREFAULT_MIN - 1);
	prefault(map + 1, PREFAULT_MIN);
	prefault(map, 0);
	ck_assert_uint_eq(resident(), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_whole_pages_are_there_before_they_are_touched,
		test_what_is_written_stays,
		test_little_is_left_alone,
	};

	return test_suite_run_with("prefault", tests, KV_ARRAY_COUNT(tests), 20, setup, teardown);
}
