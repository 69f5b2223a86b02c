/* SPDX-License-Identifier: MIT */
/* kv_dump(): the lines that are promised, also of damaged volumes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"

struct lines {
	unsigned count;
	const char *wanted; /* substring */
	unsigned matches;
	unsigned stop_after;
};

static int take(void *ctx, const char *text)
{
	struct lines *l = ctx;

	for (const char *p = text; *p; p++)
		ck_assert(*p >= ' ' && *p <= '~');
	l->count++;
	if (l->wanted && strstr(text, l->wanted))
		l->matches++;
	return l->stop_after && l->count == l->stop_after;
}

static unsigned matches(struct sim_env *e, enum kv_dump_what what, const char *wanted)
{
	struct lines l = {.wanted = wanted};

	ck_assert_int_eq(kv_dump(SAMPLE_NAME, what, sim_env_os(e), take, &l), 0);
	ck_assert_uint_gt(l.count, 0);
	return l.matches;
}

START_TEST(test_every_structure_is_described)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);

	ck_assert_uint_eq(matches(e, KV_DUMP_SUPERBLOCK, "label=sample"), 2);
	ck_assert_uint_eq(matches(e, KV_DUMP_MANIFEST, "manifest generation="), 1);
	ck_assert_uint_ge(matches(e, KV_DUMP_MANIFEST, "table id="), 2);
	ck_assert_uint_ge(matches(e, KV_DUMP_MANIFEST, "segment id="), 1);
	ck_assert_uint_ge(matches(e, KV_DUMP_TABLES, "put=7:key/000001 len="), 1);
	ck_assert_uint_ge(matches(e, KV_DUMP_TABLES, "range from=7:key/000700"), 1);
	ck_assert_uint_eq(matches(e, KV_DUMP_LOG, "end lsn="), 1);
	sim_env_free(e);
}
END_TEST

START_TEST(test_a_log_is_shown_commit_by_commit)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_KILLED);

	ck_assert_uint_ge(matches(e, KV_DUMP_LOG, "frame lsn="), 10);
	ck_assert_uint_ge(matches(e, KV_DUMP_LOG, "put=7:key/000049"), 1);
	ck_assert_uint_ge(matches(e, KV_DUMP_LOG, "segment="), 1);
	sim_env_free(e);
}
END_TEST

START_TEST(test_damage_is_shown_and_stepped_over)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct manifest_loaded loaded;

	sample_load_manifest(e, &loaded);
	sim_env_flip(e, SAMPLE_NAME, loaded.manifest.tables[0].extents[0].off + 5, 0);
	manifest_loaded_fini(&loaded);
	ck_assert_uint_ge(matches(e, KV_DUMP_TABLES, "damaged"), 1);
	sim_env_flip(e, SAMPLE_NAME, 5, 0);
	ck_assert_uint_ge(matches(e, KV_DUMP_SUPERBLOCK, "damaged"), 1);
	sim_env_free(e);
}
END_TEST

START_TEST(test_the_caller_can_stop_it)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct lines l = {.stop_after = 3};

	ck_assert_int_eq(kv_dump(SAMPLE_NAME, KV_DUMP_TABLES, sim_env_os(e), take, &l),
			 -KV_E_INTERRUPTED);
	ck_assert_uint_eq(l.count, 3);
	sim_env_free(e);
}
END_TEST

static Suite *dump_suite(void)
{
	Suite *s = suite_create("dump");
	TCase *c = tcase_create("dump");

	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_every_structure_is_described);
	tcase_add_test(c, test_a_log_is_shown_commit_by_commit);
	tcase_add_test(c, test_damage_is_shown_and_stepped_over);
	tcase_add_test(c, test_the_caller_can_stop_it);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(dump_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
