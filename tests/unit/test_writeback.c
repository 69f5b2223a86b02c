/* SPDX-License-Identifier: MIT */
/* Runs of pages: what is written where, padding, accounting, errors. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/cache/writeback.h"
#include "tests/support/sim_env.h"

#define VOLUME_BYTES (16U * 1024 * 1024)

static struct os_volume *open_volume(struct sim_env *sim)
{
	struct os_env *env = sim_env_os(sim);
	struct os_volume *v;

	ck_assert_int_eq(env->ops->volume_open(env, "vol", OS_OPEN_CREATE, 0, &v, NULL), 0);
	ck_assert_int_eq(v->ops->grow(v, VOLUME_BYTES), 0);
	return v;
}

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(1 + (i * 2654435761U >> 13) % 255);
}

static struct kv_slice bytes_from(uint8_t *buf, size_t from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = byte_at(from + i);
	return kv_slice_of(buf, len);
}

/* The volume holds bytes [from, from + len) of the sequence at @off. */
static void check_volume(struct sim_env *sim, uint64_t off, size_t from, size_t len)
{
	uint8_t *buf = malloc(2 * len);

	ck_assert_ptr_nonnull(buf);
	sim_env_peek(sim, "vol", off, buf, len);
	bytes_from(buf + len, from, len);
	ck_assert(memcmp(buf, buf + len, len) == 0);
	free(buf);
}

START_TEST(test_bytes_go_to_consecutive_places_of_the_extents)
{
	struct sim_env *sim = sim_env_new(1);
	struct os_volume *v = open_volume(sim);
	struct extent extents[] = {
		{8 << 20, 3 << 20}, {4096, 4096}, {1 << 20, (2 << 20) + 8192}, {6 << 20, 1 << 20}};
	static uint8_t buf[20000];
	struct writeback *w;
	size_t done = 0;
	size_t which = 0;
	size_t total = (3 << 20) + 4096 + (2 << 20) + 8192 + 5000;
	uint64_t used;
	size_t at = 0;

	ck_assert_int_eq(writeback_new(v, NULL, &w), 0);
	ck_assert_uint_eq(writeback_room(w), 0);
	while (done < total) {
		size_t n = 1 + done * 7919 % sizeof(buf);

		if (writeback_room(w) == 0)
			writeback_set_extent(w, extents[which++]);
		n = (size_t)min_u64(min_u64(n, writeback_room(w)), total - done);
		ck_assert_int_eq(writeback_append(w, bytes_from(buf, done, n)), 0);
		done += n;
	}
	ck_assert_int_eq(writeback_finish(w, &used), 0);
	ck_assert_uint_eq(used, 8192);
	for (size_t i = 0; i < 3; i++) {
		check_volume(sim, extents[i].off, at, (size_t)extents[i].len);
		at += (size_t)extents[i].len;
	}
	check_volume(sim, extents[3].off, at, 5000);
	sim_env_peek(sim, "vol", extents[3].off + 5000, buf, 8192);
	for (size_t i = 0; i < 8192; i++)
		ck_assert_uint_eq(buf[i], 0);
	/* Runs, not pages. */
	ck_assert_uint_le(sim_env_calls(sim, SIM_OP_WRITE), 8);
	writeback_free(w);
	ck_assert_int_eq(v->ops->close(v), 0);
	sim_env_free(sim);
}
END_TEST

START_TEST(test_an_empty_one_uses_nothing)
{
	struct sim_env *sim = sim_env_new(2);
	struct os_volume *v = open_volume(sim);
	struct writeback *w;
	uint64_t used;

	ck_assert_int_eq(writeback_new(v, NULL, &w), 0);
	ck_assert_int_eq(writeback_finish(w, &used), 0);
	ck_assert_uint_eq(used, 0);
	writeback_free(w);
	ck_assert_uint_eq(sim_env_calls(sim, SIM_OP_WRITE), 0);
	ck_assert_int_eq(v->ops->close(v), 0);
	sim_env_free(sim);
}
END_TEST

START_TEST(test_the_run_is_charged_to_the_cache_while_it_lives)
{
	struct sim_env *sim = sim_env_new(3);
	struct os_volume *v = open_volume(sim);
	struct writeback *w;
	struct cache_stat st;
	struct cache *c;

	ck_assert_int_eq(cache_new(8 << 20, &c), 0);
	ck_assert_int_eq(writeback_new(v, c, &w), 0);
	cache_get_stat(c, &st);
	ck_assert_uint_eq(st.charged_bytes, WRITEBACK_RUN);
	writeback_free(w);
	cache_get_stat(c, &st);
	ck_assert_uint_eq(st.charged_bytes, 0);
	cache_free(c);
	ck_assert_int_eq(v->ops->close(v), 0);
	sim_env_free(sim);
}
END_TEST

START_TEST(test_a_failed_write_is_remembered)
{
	struct sim_env *sim = sim_env_new(4);
	struct os_volume *v = open_volume(sim);
	static uint8_t buf[FORMAT_BLOCK];
	struct writeback *w;
	uint64_t used = 77;

	ck_assert_int_eq(writeback_new(v, NULL, &w), 0);
	writeback_set_extent(w, (struct extent){FORMAT_BLOCK, FORMAT_BLOCK});
	sim_env_fail(sim, SIM_OP_WRITE, 1, false, -ENOSPC);
	ck_assert_int_eq(writeback_append(w, bytes_from(buf, 0, sizeof(buf))), -ENOSPC);
	writeback_set_extent(w, (struct extent){3 * FORMAT_BLOCK, FORMAT_BLOCK});
	ck_assert_int_eq(writeback_append(w, bytes_from(buf, 0, 10)), -ENOSPC);
	ck_assert_int_eq(writeback_finish(w, &used), -ENOSPC);
	ck_assert_uint_eq(used, 77);
	writeback_free(w);
	ck_assert_int_eq(v->ops->close(v), 0);
	sim_env_free(sim);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("writeback");
	TCase *tc = tcase_create("writeback");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_bytes_go_to_consecutive_places_of_the_extents);
	tcase_add_test(tc, test_an_empty_one_uses_nothing);
	tcase_add_test(tc, test_the_run_is_charged_to_the_cache_while_it_lives);
	tcase_add_test(tc, test_a_failed_write_is_remembered);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
