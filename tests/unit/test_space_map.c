/* SPDX-License-Identifier: MIT */
/* The set of extents against a bitmap. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/space/space_map.h"

#define B      ((uint64_t)FORMAT_BLOCK)
#define BLOCKS 400U

static uint64_t next_random(uint64_t *rng, uint64_t below)
{
	*rng += 0x9e3779b97f4a7c15U;
	return hash_u64(*rng) % below;
}

/* Are all blocks of the run in this state? */
static bool all(const bool *set, uint64_t off, uint64_t len, bool state)
{
	for (uint64_t i = 0; i < len; i++)
		if (off + i >= BLOCKS || set[off + i] != state)
			return false;
	return true;
}

/* Smallest run of at least @len blocks, the first of those; 0 if there is none. */
static uint64_t model_fit(const bool *set, uint64_t len, uint64_t *off, uint64_t *largest)
{
	uint64_t best = 0;
	uint64_t run = 0;

	*largest = 0;
	for (uint64_t i = 0; i <= BLOCKS; i++) {
		if (i < BLOCKS && set[i]) {
			run++;
			continue;
		}
		if (run >= len && run != 0 && (best == 0 || run < best)) {
			best = run;
			*off = i - run;
		}
		*largest = max_u64(*largest, run);
		run = 0;
	}
	return best;
}

static void compare(const struct space_map *m, const bool *set, uint64_t len)
{
	struct extent e = {0, 0};
	uint64_t largest;
	uint64_t off = 0;
	uint64_t best = model_fit(set, len, &off, &largest);

	ck_assert(space_map_check(m));
	ck_assert_int_eq(space_map_fit(m, len * B, &e), best != 0);
	if (best) {
		ck_assert_uint_eq(e.len, best * B);
		ck_assert_uint_eq(e.off, off * B);
	}
	ck_assert_int_eq(space_map_largest(m, &e), largest != 0);
	if (largest)
		ck_assert_uint_eq(e.len, largest * B);
}

START_TEST(test_random_adding_and_removing_agrees_with_a_bitmap)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		struct space_map m = {0};
		bool set[BLOCKS] = {false};
		uint64_t rng = seed;

		for (int i = 0; i < 1500; i++) {
			uint64_t off = next_random(&rng, BLOCKS);
			uint64_t len = 1 + next_random(&rng, seed % 2 ? 4 : 30);
			bool was = next_random(&rng, 2);
			struct extent e = {off * B, len * B};

			if (was) {
				ck_assert_int_eq(space_map_remove(&m, e),
						 all(set, off, len, true) ? 0 : -KV_E_NOTFOUND);
				if (!all(set, off, len, true))
					continue;
			} else {
				if (!all(set, off, len, false))
					continue;
				ck_assert_int_eq(space_map_add(&m, e), 0);
			}
			memset(set + off, !was, len);
			compare(&m, set, 1 + next_random(&rng, 40));
		}
		space_map_fini(&m);
	}
}
END_TEST

START_TEST(test_removing_refuses_what_is_not_wholly_there)
{
	struct space_map m = {0};

	ck_assert_int_eq(space_map_remove(&m, (struct extent){0, B}), -KV_E_NOTFOUND);
	ck_assert_int_eq(space_map_add(&m, (struct extent){4 * B, 4 * B}), 0);
	ck_assert_int_eq(space_map_remove(&m, (struct extent){3 * B, 2 * B}), -KV_E_NOTFOUND);
	ck_assert_int_eq(space_map_remove(&m, (struct extent){7 * B, 2 * B}), -KV_E_NOTFOUND);
	ck_assert_int_eq(space_map_remove(&m, (struct extent){8 * B, B}), -KV_E_NOTFOUND);
	ck_assert_int_eq(space_map_remove(&m, (struct extent){5 * B, 0}), -KV_E_NOTFOUND);
	ck_assert_int_eq(space_map_remove(&m, (struct extent){5 * B, UINT64_MAX / B * B}),
			 -KV_E_NOTFOUND);
	ck_assert_uint_eq(m.bytes, 4 * B);
	space_map_fini(&m);
}
END_TEST

START_TEST(test_many_extents_in_rising_order_keep_the_trees_flat)
{
	struct space_map m = {0};
	struct extent e;

	for (uint64_t i = 0; i < 200000; i++)
		ck_assert_int_eq(space_map_add(&m, (struct extent){2 * i * B, B}), 0);
	ck_assert(space_map_check(&m)); /* heights differ by at most one everywhere */
	ck_assert(!space_map_fit(&m, 2 * B, &e));
	for (uint64_t i = 0; i + 1 < 200000; i++)
		ck_assert_int_eq(space_map_add(&m, (struct extent){(2 * i + 1) * B, B}), 0);
	ck_assert_uint_eq(m.count, 1);
	ck_assert(space_map_check(&m));
	space_map_fini(&m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("space_map");
	TCase *tc = tcase_create("map");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_random_adding_and_removing_agrees_with_a_bitmap);
	tcase_add_test(tc, test_removing_refuses_what_is_not_wholly_there);
	tcase_add_test(tc, test_many_extents_in_rising_order_keep_the_trees_flat);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
