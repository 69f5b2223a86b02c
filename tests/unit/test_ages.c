/* SPDX-License-Identifier: MIT */
/* Ages of commit numbers against their exact times, over seconds and over weeks. */
#include "kvcore/engine/ages.h"

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define S 1000000000ULL

START_TEST(test_the_newest_number_has_no_age)
{
	struct ages a;

	ck_assert_int_eq(ages_init(&a), 0);
	ck_assert_uint_eq(ages_of(&a, 1, 5 * S), 0);
	ages_note(&a, 7, 10 * S);
	ck_assert_uint_eq(ages_of(&a, 7, 100 * S), 0);
	ages_note(&a, 7, 90 * S);
	ages_note(&a, 8, 95 * S);
	ck_assert_uint_eq(ages_of(&a, 7, 100 * S), 5 * S);
	ck_assert_uint_eq(ages_of(&a, 8, 100 * S), 0);
	ages_fini(&a);
}
END_TEST

/* Number n is the newest from second n on. */
START_TEST(test_the_error_is_a_small_part_of_the_age)
{
	struct ages a;
	uint64_t now = 0;

	ck_assert_int_eq(ages_init(&a), 0);
	while (now < 30 * 24 * 3600) {
		now++;
		ages_note(&a, now, now * S);
	}
	for (uint64_t seq = 1; seq < now; seq += 1 + (now - seq) / 50) {
		uint64_t exact = (now - seq - 1) * S;
		uint64_t got = ages_of(&a, seq, now * S);

		ck_assert_uint_le(got, exact);
		ck_assert_uint_ge(got + S, exact - exact / 3);
	}
	ages_fini(&a);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_newest_number_has_no_age,
		test_the_error_is_a_small_part_of_the_age,
	};

	return test_suite_run("ages", tests, KV_ARRAY_COUNT(tests), 60);
}
