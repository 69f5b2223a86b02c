/* SPDX-License-Identifier: MIT */
/* kv_probe(): figures without opening, beside a running database, and of any bytes. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"

START_TEST(test_it_tells_what_the_volume_is)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	uint64_t entries = 0;
	struct kv_db_info info;

	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), 0);
	ck_assert_str_eq(info.label, "sample");
	ck_assert_uint_eq(info.size, sim_env_size(e, SAMPLE_NAME));
	ck_assert_uint_eq(info.log_size, 1024U * 1024);
	ck_assert_uint_eq(info.log_used, 0);
	ck_assert_uint_gt(info.value_live_bytes, 20000);
	ck_assert_uint_gt(info.last_seq, SAMPLE_KEYS);
	ck_assert_uint_le(info.used + info.free, info.size);
	for (unsigned i = 0; i < KV_LEVELS; i++)
		entries += info.level[i].entries;
	ck_assert_uint_ge(entries, SAMPLE_KEYS);
	sim_env_free(e);
}
END_TEST

START_TEST(test_it_shows_a_log_that_was_not_replayed)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_KILLED);
	struct kv_db_info info;

	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), 0);
	ck_assert_uint_gt(info.log_used, 1000);
	sim_env_free(e);
}
END_TEST

START_TEST(test_it_works_beside_a_running_database)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_options open = {.env = sim_env_os(e)};
	struct kv_db_info info;
	struct kv_db *db;

	ck_assert_int_eq(kv_open(SAMPLE_NAME, &open, &db), 0);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_int_eq(kv_put(db, 1, kv_slice_of(&i, sizeof(i)), kv_slice_of("v", 1), 0),
				 0);
		ck_assert_int_eq(kv_flush(db), 0);
		ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), 0);
	}
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(e);
}
END_TEST

START_TEST(test_what_is_no_volume_is_told_apart_from_a_damaged_one)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_db_info info;

	ck_assert_int_eq(kv_probe("absent", sim_env_os(e), &info), -ENOENT);
	sim_env_add_device(e, "blank", 1U << 20);
	ck_assert_int_eq(kv_probe("blank", sim_env_os(e), &info), -KV_E_NOT_A_VOLUME);
	sim_env_add_device(e, "tiny", 512);
	ck_assert_int_eq(kv_probe("tiny", sim_env_os(e), &info), -KV_E_NOT_A_VOLUME);
	sim_env_flip(e, SAMPLE_NAME, 500, 1);
	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), 0); /* the other copy */
	sim_env_flip(e, SAMPLE_NAME, SUPERBLOCK_STRIDE + 500, 1);
	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), 0); /* that of the manifest */
	sim_env_flip(e, SAMPLE_NAME, MANIFEST_COPY_OFF + 500, 1);
	sim_env_flip(e, SAMPLE_NAME, MANIFEST_COPY_OFF + SUPERBLOCK_STRIDE + 500, 1);
	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), -KV_E_CHECKSUM);
	sim_env_free(e);
}
END_TEST

START_TEST(test_a_newer_format_is_told)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_verify_options verify = {.env = sim_env_os(e)};
	struct superblock_disk raw;
	struct kv_verify_result r;
	struct kv_db_info info;
	struct kv_slice part;
	struct checksum *sha256;

	sim_env_peek(e, SAMPLE_NAME, 0, &raw, sizeof(raw));
	raw.version = le32_of(FORMAT_VERSION + 1);
	part = kv_slice_of(&raw, offsetof(struct superblock_disk, sum));
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &sha256), 0);
	ck_assert_int_eq(checksum_compute(sha256, &part, 1, raw.sum), 0);
	sim_env_poke(e, SAMPLE_NAME, 0, &raw, sizeof(raw));
	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), -KV_E_VERSION);
	ck_assert_int_eq(kv_verify(SAMPLE_NAME, &verify, &r), -KV_E_VERSION);
	ck_assert_int_eq(kv_repair(SAMPLE_NAME, &verify, &r), -KV_E_VERSION);
	checksum_free(sha256);
	sim_env_free(e);
}
END_TEST

START_TEST(test_a_superblock_that_cannot_be_read_is_no_damage)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_db_info info;

	sim_env_fail(e, SIM_OP_READ, 1, true, -EIO);
	ck_assert_int_eq(kv_probe(SAMPLE_NAME, sim_env_os(e), &info), -EIO);
	sim_env_free(e);
}
END_TEST

static Suite *probe_suite(void)
{
	Suite *s = suite_create("probe");
	TCase *c = tcase_create("probe");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_it_tells_what_the_volume_is);
	tcase_add_test(c, test_it_shows_a_log_that_was_not_replayed);
	tcase_add_test(c, test_it_works_beside_a_running_database);
	tcase_add_test(c, test_what_is_no_volume_is_told_apart_from_a_damaged_one);
	tcase_add_test(c, test_a_newer_format_is_told);
	tcase_add_test(c, test_a_superblock_that_cannot_be_read_is_no_damage);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(probe_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
