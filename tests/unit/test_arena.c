/* SPDX-License-Identifier: MIT */
/*
 * The arena: pieces are aligned, do not overlap, keep their content, are counted,
 * and waste little.
 */
#include "kvcore/base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define PIECES 5000

START_TEST(test_pieces_are_aligned_and_keep_their_content)
{
	struct test_rng rng = test_rng_seeded("arena");
	static uint8_t *pieces[PIECES];
	static size_t lens[PIECES];
	struct arena a;

	arena_init(&a);
	for (size_t i = 0; i < PIECES; i++) {
		lens[i] = test_rng_below(&rng, i % 100 ? 200 : 100000);
		pieces[i] = arena_alloc(&a, lens[i]);
		ck_assert_ptr_nonnull(pieces[i]);
		ck_assert_uint_eq((uintptr_t)pieces[i] % 8, 0);
		memset(pieces[i], (int)(i % 251), lens[i]);
	}
	for (size_t i = 0; i < PIECES; i++) {
		bool whole = true;

		for (size_t j = 0; j < lens[i]; j++)
			whole = whole && pieces[i][j] == i % 251;
		ck_assert(whole);
	}
	arena_fini(&a);
	ck_assert_uint_eq(arena_bytes(&a), 0);
}
END_TEST

START_TEST(test_the_count_covers_what_was_handed_out_with_little_waste)
{
	struct arena a;
	size_t total = 0;

	arena_init(&a);
	ck_assert_uint_eq(arena_bytes(&a), 0);
	for (int i = 0; i < 100000; i++) {
		ck_assert_ptr_nonnull(arena_alloc(&a, 48));
		total += 48;
	}
	ck_assert_uint_ge(arena_bytes(&a), total);
	ck_assert_uint_le(arena_bytes(&a), total + total / 8);
	arena_fini(&a);
}
END_TEST

START_TEST(test_a_small_arena_is_small_and_a_large_piece_wastes_nothing)
{
	struct arena a;

	arena_init(&a);
	ck_assert_ptr_nonnull(arena_alloc(&a, 1));
	ck_assert_uint_le(arena_bytes(&a), 4096);
	ck_assert_ptr_nonnull(arena_alloc(&a, 1U << 20));
	ck_assert_uint_le(arena_bytes(&a), (1U << 20) + 4096 + 64);
	ck_assert_ptr_nonnull(arena_alloc(&a, 1));
	ck_assert_uint_le(arena_bytes(&a), (1U << 20) + 4096 + 64);
	arena_fini(&a);
}
END_TEST

START_TEST(test_nothing_and_too_much)
{
	struct arena a;

	arena_init(&a);
	ck_assert_ptr_nonnull(arena_alloc(&a, 0));
	ck_assert_ptr_nonnull(arena_copy(&a, kv_slice_of(NULL, 0)));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
	ck_assert_ptr_null(arena_alloc(&a, PTRDIFF_MAX));
	arena_fini(&a);
}
END_TEST

START_TEST(test_a_copy_is_independent_of_its_source)
{
	char source[] = "content";
	struct arena a;
	uint8_t *copy;

	arena_init(&a);
	copy = arena_copy(&a, kv_slice_of(source, 7));
	ck_assert_ptr_nonnull(copy);
	source[0] = 'X';
	ck_assert_mem_eq(copy, "content", 7);
	arena_fini(&a);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_pieces_are_aligned_and_keep_their_content,
		test_the_count_covers_what_was_handed_out_with_little_waste,
		test_a_small_arena_is_small_and_a_large_piece_wastes_nothing,
		test_nothing_and_too_much,
		test_a_copy_is_independent_of_its_source,
	};

	return test_suite_run("arena", tests, KV_ARRAY_COUNT(tests), 20);
}
