/* SPDX-License-Identifier: MIT */
/* kv_create(): layout, refusals, and that no crash or failure leaves half a volume. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"

#define NAME "volume"
#define MIB  (1024U * 1024)

static struct sim_env *host;
static struct kv_create_options options;

static void setup(void)
{
	host = sim_env_new(1);
	options = (struct kv_create_options){
		.log_size_bytes = MIB,
		.label = "a label",
		.env = sim_env_os(host),
	};
}

static void teardown(void)
{
	sim_env_free(host);
}

static void count_problem(void *ctx, const struct kv_problem *problem)
{
	(void)problem;
	++*(unsigned *)ctx;
}

static int verify(struct sim_env *e, unsigned *problems)
{
	struct kv_verify_options o = {
		.found = count_problem, .ctx = problems, .env = sim_env_os(e)};
	struct kv_verify_result result;
	int err = kv_verify(NAME, &o, &result);

	if (!err)
		ck_assert_uint_eq(result.problems, *problems);
	return err;
}

static void check_absent(void)
{
	struct kv_db_info info;

	ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &info), -ENOENT);
}

static void check_sound(struct sim_env *e)
{
	unsigned problems = 0;

	ck_assert_int_eq(verify(e, &problems), 0);
	ck_assert_uint_eq(problems, 0);
}

START_TEST(test_a_new_volume_is_sound_and_described)
{
	struct kv_db_info info;

	ck_assert_int_eq(kv_create(NAME, &options), 0);
	check_sound(host);
	ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &info), 0);
	ck_assert_str_eq(info.label, "a label");
	ck_assert_str_eq(info.checksum_name, "sha256");
	ck_assert_str_eq(info.compress_name, "snappy");
	ck_assert_uint_eq(info.log_size, MIB);
	ck_assert(info.size_max == UINT64_MAX);
	ck_assert_uint_eq(info.generation, 1);
	ck_assert_uint_eq(info.used, info.size);
	ck_assert_uint_eq(info.uuid[6] >> 4, 4);
}
END_TEST

START_TEST(test_a_new_volume_opens_and_keeps_data)
{
	struct kv_options open = {.env = sim_env_os(host)};
	struct kv_buf value = {0};
	struct kv_db *db;

	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_open(NAME, &open, &db), 0);
	ck_assert_int_eq(kv_put(db, 1, kv_slice_of("k", 1), kv_slice_of("v", 1), 0), 0);
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(kv_open(NAME, &open, &db), 0);
	ck_assert_int_eq(kv_get(db, 1, kv_slice_of("k", 1), &value), 0);
	ck_assert_uint_eq(value.len, 1);
	ck_assert_int_eq(kv_close(db), 0);
	kv_buf_free(&value);
	check_sound(host);
}
END_TEST

START_TEST(test_uuids_are_random_unless_given)
{
	struct kv_db_info a, b;

	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &a), 0);
	ck_assert_int_eq(kv_create("other", &options), 0);
	ck_assert_int_eq(kv_probe("other", sim_env_os(host), &b), 0);
	ck_assert_int_ne(memcmp(a.uuid, b.uuid, KV_UUID_LEN), 0);
	memset(options.uuid, 0x5a, KV_UUID_LEN);
	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &a), 0);
	ck_assert_int_eq(memcmp(a.uuid, options.uuid, KV_UUID_LEN), 0);
}
END_TEST

START_TEST(test_fixed_sizes_choose_their_log)
{
	static const struct {
		uint64_t size, log;
	} rows[] = {
		{8 * MIB, MIB},
		{64 * MIB, 4 * MIB},
		{64 * MIB + 5000, 4 * MIB},
	};
	struct kv_db_info info;

	options.log_size_bytes = 0;
	for (size_t i = 0; i < KV_ARRAY_COUNT(rows); i++) {
		options.size_bytes = rows[i].size;
		ck_assert_int_eq(kv_create(NAME, &options), 0);
		ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &info), 0);
		ck_assert_uint_eq(info.size_max, rows[i].size / 4096 * 4096);
		ck_assert_uint_eq(info.size, info.size_max);
		ck_assert_uint_eq(info.log_size, rows[i].log);
		check_sound(host);
	}
}
END_TEST

START_TEST(test_a_device_is_used_whole)
{
	struct kv_db_info info;

	sim_env_add_device(host, NAME, 16 * MIB);
	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_probe(NAME, sim_env_os(host), &info), 0);
	ck_assert_uint_eq(info.size_max, 16 * MIB);
	check_sound(host);
	options.size_bytes = 17 * MIB;
	ck_assert_int_eq(kv_create(NAME, &options), -KV_E_INVALID);
	check_sound(host); /* refused before anything was written */
	sim_env_add_device(host, "small", 4 * MIB);
	ck_assert_int_eq(kv_create("small", &options), -KV_E_INVALID);
	options.size_bytes = 0;
	ck_assert_int_eq(kv_create("small", &options), -KV_E_TOO_SMALL);
}
END_TEST

START_TEST(test_bad_options_are_refused_and_leave_no_file)
{
	struct kv_create_options bad[6];
	char label[KV_LABEL_MAX + 2];

	memset(label, 'x', sizeof(label));
	label[sizeof(label) - 1] = '\0';
	for (size_t i = 0; i < KV_ARRAY_COUNT(bad); i++)
		bad[i] = options;
	bad[0].label = label;
	bad[1].checksum = "crc32";
	bad[2].compress = "lzma";
	bad[3].log_size_bytes = MIB - 1;
	bad[4].log_size_bytes = 1024ULL * MIB + 1;
	bad[5].size_bytes = 64 * MIB;
	bad[5].log_size_bytes = 63 * MIB;
	for (size_t i = 0; i < KV_ARRAY_COUNT(bad); i++) {
		ck_assert_int_eq(kv_create(NAME, &bad[i]),
				 i == 5 ? -KV_E_TOO_SMALL : -KV_E_INVALID);
		check_absent();
	}
	options.size_bytes = KV_VOLUME_MIN_BYTES - 1;
	ck_assert_int_eq(kv_create(NAME, &options), -KV_E_TOO_SMALL);
}
END_TEST

static int stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
	ck_assert_uint_le(done, total);
	++*(unsigned *)ctx;
	return 1;
}

START_TEST(test_an_interruption_leaves_no_file)
{
	unsigned calls = 0;
	struct kv_progress progress = {stop_at_once, &calls};

	options.progress = &progress;
	ck_assert_int_eq(kv_create(NAME, &options), -KV_E_INTERRUPTED);
	ck_assert_uint_eq(calls, 1);
	check_absent();
	/* Over an old volume: that one is gone, and there is no new one. */
	options.progress = NULL;
	ck_assert_int_eq(kv_create(NAME, &options), 0);
	options.progress = &progress;
	ck_assert_int_eq(kv_create(NAME, &options), -KV_E_INTERRUPTED);
	ck_assert_int_eq(verify(host, &calls), -KV_E_NOT_A_VOLUME);
}
END_TEST

START_TEST(test_a_full_host_is_reported_and_leaves_no_file)
{
	sim_env_limit(host, MIB);
	ck_assert_int_eq(kv_create(NAME, &options), -ENOSPC);
	check_absent();
}
END_TEST

START_TEST(test_every_failing_write_and_sync_leaves_no_volume)
{
	for (unsigned nth = 1;; nth++) {
		struct sim_env *e = sim_env_new(nth);
		unsigned problems = 0;
		int err;

		options.env = sim_env_os(e);
		sim_env_fail(e, SIM_OP_CHANGE, nth, false, -EIO);
		err = kv_create(NAME, &options);
		sim_env_heal(e);
		if (!err) {
			check_sound(e);
			sim_env_free(e);
			ck_assert_uint_gt(nth, 5);
			break;
		}
		ck_assert_int_eq(err, -EIO);
		ck_assert_int_lt(verify(e, &problems), 0);
		sim_env_free(e);
	}
}
END_TEST

/* What power loss in the midst of making it leaves: nothing, or all of it. */
START_TEST(test_power_loss_leaves_no_volume_or_a_sound_one)
{
	for (unsigned seed = 0; seed < 4; seed++) {
		for (unsigned nth = 1;; nth++) {
			struct sim_env *e = sim_env_new(seed * 100 + nth);
			unsigned problems = 0;
			int made, err;

			options.env = sim_env_os(e);
			sim_env_cut(e, nth);
			made = kv_create(NAME, &options);
			sim_env_crash(e, SIM_CRASH_MIX);
			err = verify(e, &problems);
			ck_assert(err == -KV_E_NOT_A_VOLUME || err == -ENOENT || !err);
			/* A superblock torn while the other one is whole is all there may be. */
			ck_assert_uint_le(problems, 1);
			if (!made)
				ck_assert_int_eq(err, 0);
			sim_env_free(e);
			if (!made)
				break;
		}
	}
}
END_TEST

START_TEST(test_power_loss_over_an_old_volume_never_mixes_the_two)
{
	struct sim_env *old = sim_env_new(99);

	options.env = sim_env_os(old);
	memset(options.uuid, 1, KV_UUID_LEN);
	sim_env_add_device(old, NAME, 8 * MIB);
	ck_assert_int_eq(kv_create(NAME, &options), 0);
	memset(options.uuid, 2, KV_UUID_LEN);
	for (unsigned nth = 1;; nth++) {
		struct sim_env *e = sim_env_clone(old, nth);
		struct kv_db_info info;
		unsigned problems = 0;
		int made, err;

		options.env = sim_env_os(e);
		sim_env_cut(e, nth);
		made = kv_create(NAME, &options);
		sim_env_crash(e, SIM_CRASH_MIX);
		err = verify(e, &problems);
		ck_assert(!err || err == -KV_E_NOT_A_VOLUME);
		if (!err && problems <= 1 && !kv_probe(NAME, sim_env_os(e), &info))
			ck_assert(info.uuid[0] == info.uuid[15]);
		sim_env_free(e);
		if (!made)
			break;
	}
	sim_env_free(old);
}
END_TEST

START_TEST(test_wipe_leaves_no_volume)
{
	unsigned problems = 0;

	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_wipe(NAME, sim_env_os(host)), 0);
	ck_assert_int_eq(verify(host, &problems), -KV_E_NOT_A_VOLUME);
	ck_assert_int_eq(kv_wipe("absent", sim_env_os(host)), -ENOENT);
}
END_TEST

START_TEST(test_a_volume_in_use_is_refused)
{
	struct kv_options open = {.env = sim_env_os(host)};
	struct kv_db *db;

	ck_assert_int_eq(kv_create(NAME, &options), 0);
	ck_assert_int_eq(kv_open(NAME, &open, &db), 0);
	ck_assert_int_eq(kv_create(NAME, &options), -KV_E_IN_USE);
	ck_assert_int_eq(kv_wipe(NAME, sim_env_os(host)), -KV_E_IN_USE);
	ck_assert_int_eq(kv_close(db), 0);
	check_sound(host);
}
END_TEST

static Suite *create_suite(void)
{
	Suite *s = suite_create("create");
	TCase *c = tcase_create("create");

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_a_new_volume_is_sound_and_described);
	tcase_add_test(c, test_a_new_volume_opens_and_keeps_data);
	tcase_add_test(c, test_uuids_are_random_unless_given);
	tcase_add_test(c, test_fixed_sizes_choose_their_log);
	tcase_add_test(c, test_a_device_is_used_whole);
	tcase_add_test(c, test_bad_options_are_refused_and_leave_no_file);
	tcase_add_test(c, test_an_interruption_leaves_no_file);
	tcase_add_test(c, test_a_full_host_is_reported_and_leaves_no_file);
	tcase_add_test(c, test_every_failing_write_and_sync_leaves_no_volume);
	tcase_add_test(c, test_power_loss_leaves_no_volume_or_a_sound_one);
	tcase_add_test(c, test_power_loss_over_an_old_volume_never_mixes_the_two);
	tcase_add_test(c, test_wipe_leaves_no_volume);
	tcase_add_test(c, test_a_volume_in_use_is_refused);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(create_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
