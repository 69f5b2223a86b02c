/* SPDX-License-Identifier: MIT */
/* Engine keys in the words of files. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/kvfs_damage.h"
#include "fusefs/model/model_format.h"

static void says(unsigned keyspace, const char *key, size_t len, const char *want)
{
	struct kv_buf text = {0};

	ck_assert_int_eq(kvfs_damage_text(keyspace, kv_slice_of(key, len), &text), 0);
	ck_assert_uint_eq(text.len, strlen(want));
	ck_assert_int_eq(memcmp(text.data, want, text.len), 0);
	kv_buf_free(&text);
}

START_TEST(test_a_key_is_told_as_a_path_or_a_file)
{
	says(MODEL_NAMES, "a\0b c", 5, "/a/b c");
	says(MODEL_NAMES, "a\n\xff", 3, "/a\\x0a\\xff");
	says(MODEL_NAMES, "", 0, "/");
	says(MODEL_NAMES, "\0\0\0\0\0\0\0\1\2name", 13, "directory id 258/name");
	says(MODEL_DATA, "\0\0\0\0\0\0\1\1\0\0\0\7", 12, "file id 257");
	says(MODEL_XATTRS, "\0\0\0\0\0\0\0\20user.x", 14, "file id 16");
	says(MODEL_META, "root", 4, "root");
}
END_TEST

START_TEST(test_bounds_that_are_cut_short_count_as_zeros)
{
	uint64_t id = 7;

	ck_assert_int_eq(kvfs_damage_id(MODEL_DATA, kv_slice_of("\0\0\0\0\0\0\1", 7), &id),
			 KVFS_DAMAGE_CONTENTS);
	ck_assert_uint_eq(id, 256);
	ck_assert_int_eq(kvfs_damage_id(MODEL_INODES, kv_slice_of(NULL, 0), &id), KVFS_DAMAGE_FILE);
	ck_assert_uint_eq(id, 0);
	ck_assert_int_eq(kvfs_damage_id(MODEL_NAMES, kv_slice_of("name", 4), &id),
			 KVFS_DAMAGE_OTHER);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("damage");
	TCase *c = tcase_create("damage");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(c, test_a_key_is_told_as_a_path_or_a_file);
	tcase_add_test(c, test_bounds_that_are_cut_short_count_as_zeros);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
