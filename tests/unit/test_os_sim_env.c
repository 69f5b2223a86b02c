/* SPDX-License-Identifier: MIT */
/* The simulated host keeps the contract of os_env.h and breaks as asked. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/sim_env.h"

#define SIZE 65536U

static struct os_volume *open_vol(struct sim_env *sim, unsigned flags)
{
	struct os_env *env = sim_env_os(sim);
	struct os_volume *v = NULL;

	ck_assert_int_eq(env->ops->volume_open(env, "vol", flags, 0, &v, NULL), 0);
	return v;
}

static struct os_volume *new_vol(struct sim_env *sim)
{
	struct os_volume *v = open_vol(sim, OS_OPEN_CREATE);

	ck_assert_int_eq(v->ops->grow(v, SIZE), 0);
	ck_assert_int_eq(os_volume_sync(v), 0);
	return v;
}

static void write_fill(struct os_volume *v, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *buf = malloc(len);

	memset(buf, fill, len);
	ck_assert_int_eq(os_volume_write(v, off, buf, len, 0), 0);
	free(buf);
}

/* Number of bytes of the range that hold @fill. */
static size_t count_fill(struct sim_env *sim, uint64_t off, size_t len, uint8_t fill)
{
	uint8_t *buf = malloc(len);
	size_t n = 0;

	sim_env_peek(sim, "vol", off, buf, len);
	for (size_t i = 0; i < len; i++)
		n += buf[i] == fill;
	free(buf);
	return n;
}

static void end(struct sim_env *sim, struct os_volume *v)
{
	ck_assert_int_eq(v->ops->close(v), 0);
	sim_env_free(sim);
}

START_TEST(test_content_outlives_handles_and_reads_are_bounded)
{
	struct sim_env *sim = sim_env_new(1);
	struct os_volume *v = new_vol(sim);
	uint8_t buf[100];
	uint64_t size;

	write_fill(v, 4090, 50, 7);
	ck_assert_int_eq(v->ops->close(v), 0);
	v = open_vol(sim, OS_OPEN_RDONLY);
	ck_assert_int_eq(os_volume_read(v, 4089, buf, 52, 0), 0);
	ck_assert(buf[0] == 0 && buf[1] == 7 && buf[50] == 7 && buf[51] == 0);
	ck_assert_int_eq(os_volume_read(v, SIZE - 10, buf, 11, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(os_volume_read(v, UINT64_MAX, buf, 11, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(v->ops->size(v, &size), 0);
	ck_assert_uint_eq(size, SIZE);
	end(sim, v);
}
END_TEST

START_TEST(test_locks_are_as_on_the_host)
{
	struct sim_env *sim = sim_env_new(1);
	struct os_env *env = sim_env_os(sim);
	struct os_volume *v = new_vol(sim);
	struct os_volume *w = NULL;

	ck_assert_int_eq(env->ops->volume_open(env, "vol", 0, 0, &w, NULL), -KV_E_IN_USE);
	ck_assert_int_eq(env->ops->volume_open(env, "vol", OS_OPEN_RDONLY, 0, &w, NULL),
			 -KV_E_IN_USE);
	ck_assert_int_eq(env->ops->volume_open(env, "x", 0, 0, &w, NULL), -ENOENT);
	w = open_vol(sim, OS_OPEN_RDONLY | OS_OPEN_NOLOCK);
	ck_assert_int_eq(w->ops->close(w), 0);
	ck_assert_int_eq(v->ops->close(v), 0);
	v = open_vol(sim, OS_OPEN_RDONLY);
	w = open_vol(sim, OS_OPEN_RDONLY);
	ck_assert_int_eq(w->ops->close(w), 0);
	ck_assert_int_eq(env->ops->volume_remove(env, "vol"), 0);
	ck_assert_int_eq(env->ops->volume_remove(env, "vol"), -ENOENT);
	end(sim, v);
}
END_TEST

START_TEST(test_a_crash_leaves_of_unsynced_sectors_what_its_mode_says)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct sim_env *sim = sim_env_new(seed);
		struct os_volume *v = new_vol(sim);
		struct sim_env *copy;

		write_fill(v, 0, SIZE, 1);
		ck_assert_int_eq(os_volume_sync(v), 0);
		ck_assert_uint_eq(sim_env_unsynced(sim, "vol"), 0);
		write_fill(v, 1000, 16384, 2);
		ck_assert_uint_eq(sim_env_unsynced(sim, "vol"), 33);
		for (int mode = SIM_CRASH_KILL; mode <= SIM_CRASH_GARBAGE; mode++) {
			size_t old;
			size_t fresh;

			copy = sim_env_clone(sim, seed);
			sim_env_crash(copy, (enum sim_crash)mode);
			old = count_fill(copy, 1000, 16384, 1);
			fresh = count_fill(copy, 1000, 16384, 2);
			if (mode == SIM_CRASH_KILL)
				ck_assert_uint_eq(fresh, 16384);
			if (mode == SIM_CRASH_DROP)
				ck_assert_uint_eq(old, 16384);
			if (mode == SIM_CRASH_MIX)
				ck_assert_uint_eq(old + fresh, 16384);
			ck_assert_uint_eq(count_fill(copy, 20000, 40000, 1), 40000);
			ck_assert_uint_eq(sim_env_unsynced(copy, "vol"),
					  mode == SIM_CRASH_KILL ? 33 : 0);
			sim_env_free(copy);
		}
		end(sim, v);
	}
}
END_TEST

START_TEST(test_handles_are_dead_after_a_crash_and_their_locks_gone)
{
	struct sim_env *sim = sim_env_new(1);
	struct os_volume *v = new_vol(sim);
	struct os_volume *w;
	uint8_t b = 1;

	sim_env_crash(sim, SIM_CRASH_KILL);
	w = open_vol(sim, 0);
	ck_assert_int_eq(os_volume_write(v, 0, &b, 1, 0), -EIO);
	ck_assert_int_eq(os_volume_read(v, 0, &b, 1, 0), -EIO);
	ck_assert_int_eq(os_volume_sync(v), -EIO);
	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), -EIO);
	ck_assert_uint_eq(sim_env_unsynced(sim, "vol"), 0);
	ck_assert_int_eq(v->ops->close(v), 0);
	ck_assert_int_eq(os_volume_write(w, 0, &b, 1, 0), 0);
	end(sim, w);
}
END_TEST

START_TEST(test_faults_strike_when_asked_once_or_for_good)
{
	struct sim_env *sim = sim_env_new(1);
	struct os_volume *v = new_vol(sim);
	uint8_t b = 5;

	sim_env_fail(sim, SIM_OP_WRITE, 2, false, -EIO);
	ck_assert_int_eq(os_volume_write(v, 0, &b, 1, 0), 0);
	ck_assert_int_eq(os_volume_write(v, 0, &b, 1, 0), -EIO);
	ck_assert_int_eq(os_volume_write(v, 0, &b, 1, 0), 0);
	sim_env_fail(sim, SIM_OP_READ, 1, true, -ENXIO);
	ck_assert_int_eq(os_volume_read(v, 0, &b, 1, 0), -ENXIO);
	ck_assert_int_eq(os_volume_read(v, 0, &b, 1, 0), -ENXIO);
	sim_env_heal(sim);
	ck_assert_int_eq(os_volume_read(v, 0, &b, 1, 0), 0);
	sim_env_fail(sim, SIM_OP_WRITE, 1, false, 0); /* lost, not reported */
	ck_assert_int_eq(os_volume_write(v, 9, &b, 1, 0), 0);
	ck_assert_uint_eq(count_fill(sim, 9, 1, 0), 1);
	sim_env_fail(sim, SIM_OP_SYNC, 1, false, 0);
	ck_assert_int_eq(os_volume_sync(v), 0);
	ck_assert_uint_eq(sim_env_unsynced(sim, "vol"), 1);
	sim_env_limit(sim, SIZE + 10);
	ck_assert_int_eq(v->ops->grow(v, SIZE + 11), -ENOSPC);
	ck_assert_int_eq(os_volume_write(v, SIZE + 10, &b, 1, 0), -ENOSPC);
	ck_assert_int_eq(v->ops->grow(v, SIZE + 10), 0);
	end(sim, v);
}
END_TEST

START_TEST(test_what_a_failed_sync_lost_is_never_durable_but_still_read)
{
	unsigned lost = 0;

	for (uint64_t seed = 0; seed < 20; seed++) {
		struct sim_env *sim = sim_env_new(seed);
		struct os_volume *v = new_vol(sim);
		_Alignas(4096) static uint8_t direct[4096];
		size_t kept;

		write_fill(v, 0, 4096, 3);
		sim_env_fail(sim, SIM_OP_SYNC, 1, false, -EIO);
		ck_assert_int_eq(os_volume_sync(v), -EIO);
		ck_assert_int_eq(os_volume_sync(v), 0);
		ck_assert_uint_eq(count_fill(sim, 0, 4096, 3), 4096);
		ck_assert_int_eq(os_volume_read(v, 0, direct, 4096, OS_IO_DIRECT), 0);
		sim_env_crash(sim, SIM_CRASH_MIX);
		kept = count_fill(sim, 0, 4096, 3);
		lost += kept < 4096;
		for (size_t i = 0; i < 4096; i++)
			kept -= direct[i] == 3;
		ck_assert_uint_eq(kept, 0);
		end(sim, v);
	}
	ck_assert_uint_gt(lost, 10);
}
END_TEST

START_TEST(test_a_power_cut_stops_everything_in_the_middle_of_a_change)
{
	struct sim_env *sim = sim_env_new(4);
	struct os_volume *v = new_vol(sim);
	uint8_t buf[8192];
	size_t arrived;

	memset(buf, 9, sizeof(buf));
	sim_env_cut(sim, 2);
	ck_assert_int_eq(os_volume_write(v, 0, buf, sizeof(buf), 0), 0);
	ck_assert_int_eq(os_volume_write(v, 16384, buf, sizeof(buf), 0), -EIO);
	ck_assert_int_eq(os_volume_read(v, 0, buf, 1, 0), -EIO);
	ck_assert_int_eq(os_volume_write(v, 32768, buf, sizeof(buf), 0), -EIO);
	arrived = count_fill(sim, 16384, 8192, 9);
	ck_assert(arrived > 0 && arrived < 8192);
	ck_assert_uint_eq(count_fill(sim, 32768, 8192, 9), 0);
	sim_env_crash(sim, SIM_CRASH_DROP);
	ck_assert_uint_eq(count_fill(sim, 0, SIZE, 9), 0);
	end(sim, v);
}
END_TEST

START_TEST(test_size_changes_are_durable_with_the_next_sync)
{
	struct sim_env *sim = sim_env_new(5);
	struct os_volume *v = new_vol(sim);

	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), 0);
	write_fill(v, SIZE, 100, 1);
	sim_env_crash(sim, SIM_CRASH_DROP);
	ck_assert_uint_eq(sim_env_size(sim, "vol"), SIZE);
	ck_assert_int_eq(v->ops->close(v), 0);
	v = open_vol(sim, 0);
	ck_assert_int_eq(v->ops->grow(v, 2 * SIZE), 0);
	ck_assert_uint_eq(count_fill(sim, SIZE, 100, 0), 100);
	write_fill(v, SIZE, 100, 1);
	ck_assert_int_eq(os_volume_sync(v), 0);
	ck_assert_int_eq(v->ops->shrink(v, SIZE), 0);
	sim_env_crash(sim, SIM_CRASH_DROP);
	ck_assert_uint_eq(count_fill(sim, SIZE, 100, 1), 100);
	end(sim, v);
}
END_TEST

START_TEST(test_flips_devices_and_the_clock)
{
	struct sim_env *sim = sim_env_new(6);
	struct os_env *env = sim_env_os(sim);
	struct os_volume *v;
	uint64_t now;
	uint8_t b;

	sim_env_add_device(sim, "vol", SIZE);
	v = open_vol(sim, 0);
	ck_assert(v->ops->is_device(v));
	ck_assert_int_eq(v->ops->grow(v, SIZE), 0);
	ck_assert_int_eq(v->ops->grow(v, SIZE + 1), -KV_E_NOSPACE);
	sim_env_flip(sim, "vol", 77, 3);
	sim_env_crash(sim, SIM_CRASH_DROP);
	sim_env_peek(sim, "vol", 77, &b, 1);
	ck_assert_uint_eq(b, 8);
	ck_assert_uint_le(os_monotonic_ns(env), os_monotonic_ns(env));
	sim_env_stop_clock(sim);
	now = os_monotonic_ns(env);
	ck_assert_uint_eq(os_monotonic_ns(env), now);
	sim_env_advance(sim, 5000);
	ck_assert_uint_eq(os_monotonic_ns(env), now + 5000);
	end(sim, v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sim_env");
	TCase *tc = tcase_create("sim_env");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_content_outlives_handles_and_reads_are_bounded);
	tcase_add_test(tc, test_locks_are_as_on_the_host);
	tcase_add_test(tc, test_a_crash_leaves_of_unsynced_sectors_what_its_mode_says);
	tcase_add_test(tc, test_handles_are_dead_after_a_crash_and_their_locks_gone);
	tcase_add_test(tc, test_faults_strike_when_asked_once_or_for_good);
	tcase_add_test(tc, test_what_a_failed_sync_lost_is_never_durable_but_still_read);
	tcase_add_test(tc, test_a_power_cut_stops_everything_in_the_middle_of_a_change);
	tcase_add_test(tc, test_size_changes_are_durable_with_the_next_sync);
	tcase_add_test(tc, test_flips_devices_and_the_clock);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
