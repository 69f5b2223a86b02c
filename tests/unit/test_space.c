/* SPDX-License-Identifier: MIT */
/* Allocation policy: claims, classes and the reserve, growth, a full host, threads. */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/os/os_thread.h"
#include "kvcore/space/space.h"
#include "tests/support/sim_env.h"

#define B	 ((uint64_t)FORMAT_BLOCK)
#define MIB	 ((uint64_t)1024 * 1024)
#define DATA_OFF (1 * MIB + 128 * 1024)

struct fixture {
	struct sim_env *sim;
	struct os_volume *volume;
	struct space *space;
};

static void open_space(struct fixture *f, uint64_t file_bytes, uint64_t size_max, uint64_t reserve,
		       bool readonly)
{
	struct os_env *env;
	struct space_options o = {
		.size_max = size_max,
		.data_off = DATA_OFF,
		.reserve = reserve,
		.readonly = readonly,
	};

	f->sim = sim_env_new(1);
	env = sim_env_os(f->sim);
	ck_assert_int_eq(env->ops->volume_open(env, "vol", OS_OPEN_CREATE, 0, &f->volume, NULL), 0);
	ck_assert_int_eq(f->volume->ops->grow(f->volume, file_bytes), 0);
	o.volume = f->volume;
	ck_assert_int_eq(space_new(&o, &f->space), 0);
}

static void close_space(struct fixture *f)
{
	space_free(f->space);
	ck_assert_int_eq(f->volume->ops->close(f->volume), 0);
	sim_env_free(f->sim);
}

static struct space_stat stat_of(struct fixture *f)
{
	struct space_stat st;

	space_get_stat(f->space, &st);
	return st;
}

/* Allocate in pieces until there is no more; returns the bytes. */
static uint64_t fill(struct fixture *f, enum space_class class)
{
	uint64_t sum = 0;
	struct extent e;

	while (space_alloc(f->space, class, 64 * B, B, &e) == 0)
		sum += e.len;
	return sum;
}

START_TEST(test_claims_refuse_what_a_manifest_cannot_own)
{
	struct fixture f;
	uint64_t end = 8 * MIB;
	const struct extent bad[] = {
		{DATA_OFF + 1, B},
		{DATA_OFF, B + 1},
		{DATA_OFF, 0},
		{DATA_OFF - B, B},
		{DATA_OFF - B, 2 * B},
		{end, B},
		{end - B, 2 * B},
		{DATA_OFF, UINT64_MAX / B * B},
		{UINT64_MAX / B * B, 2 * B},
		{DATA_OFF + 5 * B, B},
		{DATA_OFF + 2 * B, 4 * B},
		{0, B},
	};

	open_space(&f, end, end, 0, false);
	ck_assert_int_eq(space_claim(f.space, (struct extent){DATA_OFF + 4 * B, 4 * B}), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(bad); i++)
		ck_assert_int_eq(space_claim(f.space, bad[i]), -KV_E_CORRUPT);
	ck_assert_int_eq(space_claim(f.space, (struct extent){DATA_OFF, 4 * B}), 0);
	ck_assert_int_eq(space_claim(f.space, (struct extent){end - B, B}), 0);
	ck_assert_uint_eq(stat_of(&f).free, end - DATA_OFF - 9 * B);
	close_space(&f);
}
END_TEST

START_TEST(test_each_class_leaves_its_floor)
{
	struct fixture f;
	uint64_t reserve = 64 * B;
	struct extent e;

	open_space(&f, 8 * MIB, 8 * MIB, reserve, false);
	ck_assert_uint_eq(fill(&f, SPACE_VALUE), 8 * MIB - DATA_OFF - reserve);
	ck_assert_uint_eq(stat_of(&f).free, reserve);
	ck_assert(!space_has_room(f.space, B));
	ck_assert_uint_eq(fill(&f, SPACE_MOVE), reserve / 2);
	ck_assert_uint_eq(fill(&f, SPACE_FLUSH), reserve / 8);
	ck_assert_uint_eq(fill(&f, SPACE_COMPACT), reserve / 4);
	ck_assert_uint_eq(fill(&f, SPACE_MANIFEST), reserve / 8);
	ck_assert_uint_eq(stat_of(&f).free, 0);
	ck_assert_int_eq(space_alloc(f.space, SPACE_MANIFEST, B, B, &e), -KV_E_NOSPACE);
	close_space(&f);
}
END_TEST

START_TEST(test_a_small_volume_leaves_most_of_its_room_to_the_user)
{
	struct fixture f;

	open_space(&f, 8 * MIB, 8 * MIB, 0, false);
	ck_assert_uint_ge(fill(&f, SPACE_VALUE), (8 * MIB - DATA_OFF) * 3 / 4);
	close_space(&f);
	open_space(&f, 1024 * MIB, 1024 * MIB, 0, false);
	ck_assert_uint_eq(stat_of(&f).reserve, 64 * MIB);
	close_space(&f);
}
END_TEST

START_TEST(test_the_exact_size_is_preferred_then_the_smallest_that_fits)
{
	struct fixture f;
	const uint64_t blocks[] = {9, 5, 7, 3, 20};
	struct extent at[5];
	struct extent gap;
	struct extent e;

	open_space(&f, 8 * MIB, 8 * MIB, B, false);
	for (size_t i = 0; i < 5; i++) {
		ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, blocks[i] * B, B, &at[i]), 0);
		ck_assert_uint_eq(at[i].len, blocks[i] * B);
		ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, B, B, &gap), 0);
	}
	fill(&f, SPACE_VALUE);
	for (size_t i = 0; i < 5; i++)
		space_release(f.space, at[i]);
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 7 * B, B, &e), 0);
	ck_assert(e.off == at[2].off && e.len == 7 * B);
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 6 * B, B, &e), 0);
	ck_assert(e.off == at[0].off && e.len == 6 * B);
	/* Nothing holds 25 blocks: the largest, unless it is less than the minimum. */
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 25 * B, 21 * B, &e), -KV_E_NOSPACE);
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 25 * B, 2 * B, &e), 0);
	ck_assert(e.off == at[4].off && e.len == 20 * B);
	close_space(&f);
}
END_TEST

START_TEST(test_released_space_is_discarded_and_found_again)
{
	struct fixture f;
	uint64_t changes;
	uint64_t free_before;
	struct extent e;

	open_space(&f, 8 * MIB, 8 * MIB, 0, false);
	free_before = stat_of(&f).free;
	ck_assert_int_eq(space_alloc(f.space, SPACE_COMPACT, 10 * B, 10 * B, &e), 0);
	changes = sim_env_calls(f.sim, SIM_OP_CHANGE);
	space_release(f.space, (struct extent){e.off + 4 * B, 6 * B});
	space_release(f.space, (struct extent){e.off, 4 * B});
	ck_assert_uint_eq(sim_env_calls(f.sim, SIM_OP_CHANGE), changes + 2);
	ck_assert_uint_eq(stat_of(&f).free, free_before);
	ck_assert_uint_eq(stat_of(&f).free_extents, 1);
	close_space(&f);
}
END_TEST

START_TEST(test_a_volume_without_a_limit_grows_and_keeps_the_reserve)
{
	struct fixture f;
	uint64_t got = 0;
	uint64_t grows;
	struct extent e;

	open_space(&f, 2 * MIB, 0, 0, false);
	ck_assert_uint_eq(stat_of(&f).size_max, UINT64_MAX);
	ck_assert(space_has_room(f.space, 100 * MIB));
	grows = sim_env_calls(f.sim, SIM_OP_GROW);
	while (got < 512 * MIB) {
		ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, MIB, B, &e), 0);
		got += e.len;
		ck_assert_uint_ge(stat_of(&f).free, stat_of(&f).reserve);
	}
	ck_assert_uint_lt(sim_env_calls(f.sim, SIM_OP_GROW) - grows, 40);
	ck_assert_uint_eq(stat_of(&f).size, sim_env_size(f.sim, "vol"));
	/* Little was grown in vain. */
	ck_assert_uint_lt(stat_of(&f).size, got + got / 4);
	close_space(&f);
}
END_TEST

START_TEST(test_trimming_cuts_the_free_end_but_for_the_reserve)
{
	struct fixture f;
	struct extent first, e;
	uint64_t reserve;

	open_space(&f, 2 * MIB, 0, 0, false);
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 8 * MIB, B, &first), 0);
	ck_assert(space_has_room(f.space, 100 * MIB));
	reserve = stat_of(&f).reserve;
	ck_assert_uint_gt(stat_of(&f).free, 100 * MIB);
	space_trim(f.space);
	ck_assert_uint_eq(stat_of(&f).size, sim_env_size(f.sim, "vol"));
	ck_assert_uint_ge(stat_of(&f).free, reserve);
	ck_assert_uint_lt(stat_of(&f).free, reserve + MIB);
	ck_assert_uint_ge(stat_of(&f).size, first.off + first.len);
	/* It grows again when it has to. */
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, 50 * MIB, 50 * MIB, &e), 0);
	close_space(&f);
	/* A volume with a limit keeps its size. */
	open_space(&f, 64 * MIB, 64 * MIB, 0, false);
	space_trim(f.space);
	ck_assert_uint_eq(sim_env_size(f.sim, "vol"), 64 * MIB);
	close_space(&f);
}
END_TEST

START_TEST(test_a_volume_with_a_limit_grows_up_to_it)
{
	struct fixture f;

	open_space(&f, 2 * MIB, 16 * MIB, 0, false);
	ck_assert_uint_eq(stat_of(&f).size_max, 16 * MIB);
	fill(&f, SPACE_MANIFEST);
	ck_assert_uint_eq(sim_env_size(f.sim, "vol"), 16 * MIB);
	ck_assert_uint_eq(stat_of(&f).free, 0);
	close_space(&f);
}
END_TEST

START_TEST(test_a_full_host_is_nospace_with_the_reserve_intact_until_it_has_room)
{
	struct fixture f;
	struct extent e;
	uint64_t reserve;

	open_space(&f, 2 * MIB, 0, 0, false);
	sim_env_limit(f.sim, 40 * MIB + 3 * B);
	fill(&f, SPACE_VALUE);
	ck_assert_uint_eq(sim_env_size(f.sim, "vol"), 40 * MIB + 3 * B); /* to the last block */
	reserve = stat_of(&f).reserve;
	ck_assert_uint_eq(stat_of(&f).free, reserve);
	ck_assert(!space_has_room(f.space, B));
	ck_assert_int_eq(space_alloc(f.space, SPACE_COMPACT, reserve / 2, B, &e), 0);
	space_release(f.space, e);
	sim_env_limit(f.sim, 60 * MIB);
	ck_assert(space_has_room(f.space, B));
	ck_assert_int_eq(space_alloc(f.space, SPACE_VALUE, MIB, MIB, &e), 0);
	close_space(&f);
}
END_TEST

START_TEST(test_a_device_does_not_grow)
{
	struct sim_env *sim = sim_env_new(3);
	struct os_env *env = sim_env_os(sim);
	struct fixture f = {.sim = sim};
	struct space_options o = {.data_off = DATA_OFF};

	sim_env_add_device(sim, "dev", 9 * MIB + 512);
	ck_assert_int_eq(env->ops->volume_open(env, "dev", 0, 0, &f.volume, NULL), 0);
	o.volume = f.volume;
	ck_assert_int_eq(space_new(&o, &f.space), 0);
	ck_assert_uint_eq(stat_of(&f).size_max, 9 * MIB);
	ck_assert_uint_eq(fill(&f, SPACE_MANIFEST), 9 * MIB - DATA_OFF);
	close_space(&f);
}
END_TEST

START_TEST(test_a_read_only_volume_gives_and_changes_nothing)
{
	struct fixture f;
	struct extent e = {DATA_OFF, B};
	uint64_t changes;

	open_space(&f, 8 * MIB, 0, 0, true);
	changes = sim_env_calls(f.sim, SIM_OP_CHANGE);
	ck_assert_int_eq(space_claim(f.space, e), 0);
	ck_assert_int_eq(space_alloc(f.space, SPACE_MANIFEST, B, B, &e), -KV_E_NOSPACE);
	ck_assert(!space_has_room(f.space, 100 * MIB));
	space_release(f.space, e);
	ck_assert_uint_eq(sim_env_calls(f.sim, SIM_OP_CHANGE), changes);
	close_space(&f);
}
END_TEST

START_TEST(test_random_allocation_never_overlaps_and_adds_up)
{
	for (uint64_t seed = 0; seed < 12; seed++) {
		struct fixture f;
		static bool used[64 * 256];
		struct extent held[600];
		size_t count = 0;
		uint64_t held_bytes = 0;
		uint64_t rng = seed;

		memset(used, 0, sizeof(used));
		open_space(&f, 8 * MIB, seed % 2 ? 0 : 24 * MIB, 0, false);
		sim_env_limit(f.sim, 40 * MIB);
		for (int i = 0; i < 6000; i++) {
			uint64_t dice = hash_u64(rng++);
			uint64_t want = (1 + dice % 50) * B;
			enum space_class class = (enum space_class)(dice >> 20 & 3);
			struct extent e;
			bool taken = false;

			if (count < KV_ARRAY_COUNT(held) && (dice >> 30) % 100 < 55 &&
			    space_alloc(f.space, class, want, dice >> 40 & 1 ? want : B, &e) == 0) {
				ck_assert_uint_ge(e.off, DATA_OFF);
				ck_assert_uint_le(e.len, want);
				ck_assert_uint_le(e.off + e.len, stat_of(&f).size);
				for (uint64_t b = e.off / B; b < (e.off + e.len) / B; b++) {
					taken |= used[b];
					used[b] = true;
				}
				ck_assert(!taken);
				held[count++] = e;
				held_bytes += e.len;
			} else if (count != 0) {
				size_t which = (size_t)(dice >> 24) % count;

				e = held[which];
				held[which] = held[--count];
				held_bytes -= e.len;
				memset(used + e.off / B, 0, (size_t)(e.len / B));
				space_release(f.space, e);
			}
			ck_assert_uint_eq(stat_of(&f).free + held_bytes,
					  stat_of(&f).size - DATA_OFF);
		}
		close_space(&f);
	}
}
END_TEST

/* ---- threads ------------------------------------------------------------ */

static void allocate_randomly(void *arg)
{
	struct fixture *f = arg;
	struct extent held[32];
	size_t count = 0;

	for (uint64_t i = 0; i < 1500; i++) {
		uint64_t dice = hash_u64(i * 4 + os_thread_hint());

		if (count == KV_ARRAY_COUNT(held) || (dice % 3 == 0 && count != 0)) {
			space_release(f->space, held[--count]);
		} else if (space_alloc(f->space, SPACE_VALUE, (1 + dice % 64) * B, B,
				       &held[count]) == 0) {
			/* Whoever else owns it too would be seen by TSan in the simulated disk. */
			uint8_t block[FORMAT_BLOCK] = {(uint8_t)i};

			ck_assert_int_eq(os_volume_write(f->volume, held[count].off, block,
							 sizeof(block), 0),
					 0);
			count++;
		}
	}
	while (count != 0)
		space_release(f->space, held[--count]);
}

START_TEST(test_threads_get_different_space_while_the_volume_grows)
{
	struct fixture f;
	struct os_thread threads[4];

	open_space(&f, 2 * MIB, 0, 0, false);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		ck_assert_int_eq(os_thread_start(&threads[i], "space", allocate_randomly, &f), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		os_thread_join(&threads[i]);
	ck_assert_uint_eq(stat_of(&f).free, stat_of(&f).size - DATA_OFF);
	ck_assert_uint_eq(stat_of(&f).free_extents, 1);
	close_space(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("space");
	TCase *tc = tcase_create("space");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_claims_refuse_what_a_manifest_cannot_own);
	tcase_add_test(tc, test_each_class_leaves_its_floor);
	tcase_add_test(tc, test_a_small_volume_leaves_most_of_its_room_to_the_user);
	tcase_add_test(tc, test_the_exact_size_is_preferred_then_the_smallest_that_fits);
	tcase_add_test(tc, test_released_space_is_discarded_and_found_again);
	tcase_add_test(tc, test_a_volume_without_a_limit_grows_and_keeps_the_reserve);
	tcase_add_test(tc, test_trimming_cuts_the_free_end_but_for_the_reserve);
	tcase_add_test(tc, test_a_volume_with_a_limit_grows_up_to_it);
	tcase_add_test(tc, test_a_full_host_is_nospace_with_the_reserve_intact_until_it_has_room);
	tcase_add_test(tc, test_a_device_does_not_grow);
	tcase_add_test(tc, test_a_read_only_volume_gives_and_changes_nothing);
	tcase_add_test(tc, test_random_allocation_never_overlaps_and_adds_up);
	tcase_add_test(tc, test_threads_get_different_space_while_the_volume_grows);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
