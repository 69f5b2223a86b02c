/* SPDX-License-Identifier: MIT */
/* The whole volume back at a snapshot: every kind of change undone, nothing else, and at one
 * instant. */
#include "tests/support/model_fixture.h"

static struct model_fixture m;
static uint8_t big[300000];

static void setup(void)
{
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

static void build(void)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *e = model_mkdir(&m, d, "e"), *f;

	model_forget(&m, model_mkfile(&m, d, "small", test_str("small")));
	model_forget(&m, model_mkfile(&m, e, "big", kv_slice_of(big, sizeof(big))));
	f = model_mkfile(&m, m.root, "linked", test_str("two names"));
	ok(kvfs_setxattr(m.fs, f, "user.a", test_str("b"), 0));
	ok(kvfs_link(m.fs, f, e, "other", NULL, NULL));
	model_forget(&m, f);
	ok(kvfs_rename(m.fs, m.root, "d", m.root, "moved", 0));
	model_forget(&m, e);
	model_forget(&m, d);
}

static void change(void)
{
	struct kvfs_node *moved = model_lookup(&m, m.root, "moved");
	struct kvfs_node *e = model_lookup(&m, moved, "e"), *f = model_lookup(&m, e, "big");

	ok(kvfs_write(m.fs, f, 70000, test_str("changed"), false));
	model_forget(&m, f);
	ok(kvfs_unlink(m.fs, m.root, "linked"));
	ok(kvfs_unlink(m.fs, e, "other"));
	ok(kvfs_rename(m.fs, moved, "e", m.root, "e", 0));
	ok(kvfs_unlink(m.fs, moved, "small"));
	model_forget(&m, model_mkfile(&m, moved, "new", kv_slice_of(big, 100000)));
	model_forget(&m, model_mkdir(&m, m.root, "d"));
	model_forget(&m, e);
	model_forget(&m, moved);
}

/* Whether it is as build() left it; else it has to be as change() did. */
static bool is_restored(void)
{
	struct kvfs_node *moved = model_lookup(&m, m.root, "moved"), *e, *f;
	struct kv_buf value = {0};

	if (!model_exists(&m, m.root, "linked")) {
		model_expect_list(&m, m.root, ". .. d e moved ");
		model_expect_list(&m, moved, ". .. new ");
		model_forget(&m, moved);
		return false;
	}
	model_expect_list(&m, m.root, ". .. linked moved ");
	model_expect_list(&m, moved, ". .. e small ");
	e = model_lookup(&m, moved, "e");
	model_expect_list(&m, e, ". .. big other ");
	f = model_lookup(&m, e, "big");
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	model_forget(&m, f);
	f = model_lookup(&m, e, "other");
	ck_assert_uint_eq(model_attr(&m, f).nlink, 2);
	model_expect(&m, f, test_str("two names"));
	ok(kvfs_getxattr(m.fs, f, "user.a", &value));
	ck_assert_uint_eq(value.len, 1);
	kv_buf_free(&value);
	model_forget(&m, f);
	model_forget(&m, e);
	model_forget(&m, moved);
	return true;
}

START_TEST(test_every_change_is_undone)
{
	struct kvfs_attr then, now;
	struct kvfs_node *f;

	build();
	f = model_lookup(&m, m.root, "linked");
	then = model_attr(&m, f);
	model_forget(&m, f);
	ok(kvfs_snapshot_create(m.fs, "s"));
	change();
	ok(kvfs_snapshot_create(m.fs, "changed"));
	ok(kvfs_snapshot_restore(m.fs, "s", NULL, NULL));
	ck_assert(is_restored());
	f = model_lookup(&m, m.root, "linked");
	now = model_attr(&m, f);
	ck_assert_uint_eq(now.ino, then.ino);
	ck_assert_uint_eq(now.nlink, then.nlink);
	ck_assert_int_eq(now.ctime.sec, then.ctime.sec);
	ck_assert_uint_eq(now.ctime.nsec, then.ctime.nsec);
	model_forget(&m, f);
	model_check(&m);
	ck_assert(is_restored());
	ok(kvfs_snapshot_restore(m.fs, "changed", NULL, NULL));
	ck_assert(!is_restored());
	model_check(&m);
	ok(kvfs_snapshot_restore(m.fs, "s", NULL, NULL));
	ok(kvfs_snapshot_restore(m.fs, "s", NULL, NULL));
	ck_assert(is_restored());
	/* Ids that were given after the snapshot are not given again. */
	f = model_mkfile(&m, m.root, "later", test_str("x"));
	ck_assert_uint_gt(kvfs_node_ino(f), then.ino);
	model_forget(&m, f);
	model_check(&m);
}
END_TEST

START_TEST(test_what_cannot_be_restored_is_said)
{
	struct kvfs_node *f;

	fails(kvfs_snapshot_restore(m.fs, "none", NULL, NULL), -KV_E_NOTFOUND);
	ok(kvfs_snapshot_create(m.fs, "s"));
	f = model_mkfile(&m, m.root, "open", test_str("x"));
	model_forget(&m, f);
	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_snapshot_restore(m.fs, "s", NULL, NULL), -KV_E_READONLY);
	ok(kvfs_set_readonly(m.fs, false));
	ck_assert(model_exists(&m, m.root, "open"));
	ok(kvfs_snapshot_restore(m.fs, "s", NULL, NULL));
	ck_assert(!model_exists(&m, m.root, "open"));
}
END_TEST

/* A file that was open without a name when the snapshot was taken leaves nothing behind. */
START_TEST(test_a_nameless_file_of_then_is_swept)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, sizeof(big)));

	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_snapshot_create(m.fs, "s"));
	model_forget(&m, f);
	ok(kvfs_snapshot_restore(m.fs, "s", NULL, NULL));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	model_check(&m);
}
END_TEST

START_TEST(test_a_power_cut_leaves_before_or_after)
{
	unsigned before = 0, after = 0;

	for (unsigned n = 1; n <= 24; n++) {
		model_free(&m);
		model_make(&m);
		build();
		ok(kvfs_snapshot_create(m.fs, "s"));
		change();
		ok(kvfs_sync(m.fs));
		sim_env_cut(m.env, n);
		(void)!kvfs_snapshot_restore(m.fs, "s", NULL, NULL);
		/* What was written before the first sync, and is dropped, is not there. */
		sim_env_crash(m.env, n % 2 ? SIM_CRASH_DROP : SIM_CRASH_MIX);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		sim_env_heal(m.env);
		model_open(&m);
		if (is_restored())
			after++;
		else
			before++;
		model_check(&m);
	}
	ck_assert_uint_gt(before, 0);
	ck_assert_uint_gt(after, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_every_change_is_undone,
		test_what_cannot_be_restored_is_said,
		test_a_nameless_file_of_then_is_swept,
		test_a_power_cut_leaves_before_or_after,
	};

	return test_suite_run_with("restore", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
