/* SPDX-License-Identifier: MIT */
/* Making, opening and closing; read-only service; durability; what concerns the whole volume. */
#include <unistd.h>

#include "kvcore/kvcore_check.h"
#include "tests/support/model_fixture.h"

static struct model_fixture m;

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

START_TEST(test_a_new_volume_has_an_empty_root)
{
	struct kvfs_attr a = model_attr(&m, m.root);
	struct kvfs_statfs st;
	struct kv_buf path = {0};

	ck_assert_uint_eq(a.ino, KVFS_ROOT_INO);
	ck_assert_uint_eq(a.mode, S_IFDIR | 0755);
	ck_assert_uint_eq(a.uid, 1000);
	ck_assert_uint_eq(a.nlink, 2);
	model_expect_list(&m, m.root, ". .. ");
	ok(kvfs_node_path(m.fs, m.root, &path));
	ck_assert_mem_eq(path.data, "/", path.len);
	ok(kvfs_statfs(m.fs, &st));
	ck_assert_uint_gt(st.blocks, 0);
	ck_assert_uint_le(st.blocks_free, st.blocks);
	ck_assert_uint_gt(st.files_free, 0);
	kv_buf_free(&path);
}
END_TEST

START_TEST(test_a_volume_of_the_engine_alone_is_none)
{
	struct kv_create_options o = {.log_size_bytes = 1U << 20};
	struct kvfs_options k = {0};
	struct kvfs *fs;

	o.env = sim_env_os(m.env);
	k.kv.env = o.env;
	ok(kv_create("engine", &o));
	fails(kvfs_open("engine", &k, &fs), -KV_E_NOT_A_VOLUME);
	fails(kvfs_open("none", &k, &fs), -ENOENT);
}
END_TEST

START_TEST(test_a_later_format_is_refused)
{
	struct le32 version = le32_of(MODEL_FORMAT_NEWEST + 1);

	ok(kv_put(kvfs_db(m.fs), MODEL_META, test_str("format"), kv_slice_of(&version, 4), 0));
	model_close(&m);
	fails(kvfs_open(MODEL_VOLUME, &m.options, &m.fs), -KV_E_VERSION);
	m.fs = NULL;
}
END_TEST

START_TEST(test_read_only_service_changes_nothing)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kvfs_attr v = {0};
	struct kvfs_txn *t;
	struct kv_buf got = {0};

	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_write(m.fs, f, 0, test_str("y"), false), -KV_E_READONLY);
	fails(kvfs_unlink(m.fs, m.root, "f"), -KV_E_READONLY);
	fails(kvfs_setattr(m.fs, f, KVFS_SET_MODE, &v, NULL), -KV_E_READONLY);
	fails(kvfs_key_put(m.fs, test_str("k"), test_str("v"), NULL), -KV_E_READONLY);
	ok(kvfs_fsync(m.fs, f, false));
	ok(kvfs_txn_begin(m.fs, NULL, &t));
	ok(kvfs_txn_get(t, test_str("f"), &got));
	fails(kvfs_txn_put(t, test_str("f"), test_str("y")), -KV_E_READONLY);
	kvfs_txn_abort(t);
	ok(kvfs_set_readonly(m.fs, false));
	ok(kvfs_write(m.fs, f, 0, test_str("y"), false));
	model_forget(&m, f);
	model_close(&m);
	m.options.flags = KVFS_RDONLY;
	model_open(&m);
	f = model_lookup(&m, m.root, "f");
	model_expect(&m, f, test_str("y"));
	fails(kvfs_write(m.fs, f, 0, test_str("z"), false), -KV_E_READONLY);
	fails(kvfs_set_readonly(m.fs, false), -KV_E_READONLY);
	ok(kvfs_sync(m.fs));
	model_forget(&m, f);
	kv_buf_free(&got);
}
END_TEST

static void power_loss(void)
{
	sim_env_crash(m.env, SIM_CRASH_DROP);
	(void)!kvfs_close(m.fs);
	model_open(&m);
}

START_TEST(test_what_was_synced_survives_power_loss)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));

	ok(kvfs_write(m.fs, f, 0, test_str("durable"), true));
	power_loss();
	f = model_lookup(&m, m.root, "f");
	model_expect(&m, f, test_str("durable"));
	ok(kvfs_write(m.fs, f, 0, test_str("DURABLE"), false));
	ok(kvfs_fsync(m.fs, f, true));
	power_loss();
	f = model_lookup(&m, m.root, "f");
	model_expect(&m, f, test_str("DURABLE"));
	model_forget(&m, f);
	model_close(&m);
	m.options.flags = KVFS_SYNC;
	model_open(&m);
	(void)model_mkdir(&m, m.root, "d");
	power_loss();
	ck_assert(model_exists(&m, m.root, "d"));
}
END_TEST

/* Replacing by rename needs no sync: old or new, whole. */
START_TEST(test_a_rename_is_a_barrier)
{
	static uint8_t data[100000];
	struct kv_buf got = {0};
	struct kvfs_node *f;

	for (unsigned i = 0; i < 12; i++) {
		memset(data, (int)i, sizeof(data));
		f = model_mkfile(&m, m.root, "temp", kv_slice_of(data, sizeof(data)));
		model_forget(&m, f);
		ok(kvfs_rename(m.fs, m.root, "temp", m.root, "file", 0));
		if (i == 0)
			ok(kvfs_sync(m.fs));
		if (i % 3)
			continue;
		sim_env_crash(m.env, SIM_CRASH_MIX);
		(void)!kvfs_close(m.fs);
		model_open(&m);
		f = model_lookup(&m, m.root, "file");
		ok(kvfs_read(m.fs, f, 0, sizeof(data) + 1, &got));
		ck_assert_uint_eq(got.len, sizeof(data));
		ck_assert_uint_eq(got.data[0], got.data[sizeof(data) - 1]);
		ck_assert_uint_le(got.data[0], i);
		model_forget(&m, f);
		if (model_exists(&m, m.root, "temp"))
			ok(kvfs_unlink(m.fs, m.root, "temp"));
	}
	kv_buf_free(&got);
	model_check(&m);
}
END_TEST

START_TEST(test_a_failed_sync_is_told_and_poisons)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	int err;

	sim_env_fail(m.env, SIM_OP_SYNC, 1, false, -EIO);
	err = kvfs_write(m.fs, f, 0, test_str("y"), true);
	ck_assert_int_lt(err, 0);
	fails(kvfs_write(m.fs, f, 0, test_str("z"), false), -KV_E_POISONED);
	model_expect(&m, f, test_str("y"));
	model_forget(&m, f);
	ck_assert_int_lt(kvfs_close(m.fs), 0);
	model_open(&m);
}
END_TEST

START_TEST(test_ids_are_never_given_twice)
{
	uint64_t last = 0;

	for (unsigned i = 0; i < 5; i++) {
		struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));

		ck_assert_uint_gt(kvfs_node_ino(f), last);
		last = kvfs_node_ino(f);
		model_forget(&m, f);
		ok(kvfs_unlink(m.fs, m.root, "f"));
		model_reopen(&m);
	}
}
END_TEST

START_TEST(test_a_snapshot_is_a_tree_of_its_own)
{
	static uint8_t big[100000];
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *f, *then;
	struct model_fixture view;
	struct kv_buf got = {0};

	f = model_mkfile(&m, d, "f", kv_slice_of(big, sizeof(big)));
	model_forget(&m, model_mkfile(&m, d, "gone", test_str("old")));
	ok(kv_snapshot_create(kvfs_db(m.fs), "before"));
	ok(kvfs_write(m.fs, f, 5, test_str("new"), false));
	ok(kvfs_unlink(m.fs, d, "gone"));
	ok(kvfs_rename(m.fs, m.root, "d", m.root, "moved", 0));
	view = m;
	fails(kvfs_open_snapshot(m.fs, "none", &view.fs), -KV_E_NOTFOUND);
	ok(kvfs_open_snapshot(m.fs, "before", &view.fs));
	view.root = kvfs_root(view.fs);
	model_expect_list(&view, view.root, ". .. d ");
	then = model_lookup(&view, view.root, "d");
	ck_assert_uint_eq(kvfs_node_ino(then), kvfs_node_ino(d));
	model_expect_list(&view, then, ". .. f gone ");
	ok(kvfs_key_get(view.fs, test_str("d/f"), &got));
	ck_assert_mem_eq(got.data, big, sizeof(big));
	fails(kvfs_unlink(view.fs, then, "gone"), -KV_E_READONLY);
	fails(kvfs_set_readonly(view.fs, false), -KV_E_READONLY);
	model_forget(&view, then);
	ok(kvfs_close(view.fs));
	ok(kv_snapshot_drop(kvfs_db(m.fs), "before"));
	kv_buf_free(&got);
	model_forget(&m, f);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_mkfs_that_fails_leaves_no_volume)
{
	struct kv_create_options o = {.size_bytes = 1000};
	struct kvfs_options k = {0};
	struct kvfs *fs;

	o.env = sim_env_os(m.env);
	k.kv.env = o.env;
	ck_assert_int_lt(kvfs_mkfs("small", &o, &model_owner), 0);
	ck_assert_int_lt(kvfs_open("small", &k, &fs), 0);
	o.size_bytes = 0;
	o.log_size_bytes = 1U << 20;
	for (uint64_t n = 1; n < 12; n++) {
		int err;

		sim_env_fail(m.env, SIM_OP_CHANGE, n, true, -EIO);
		err = kvfs_mkfs("failed", &o, &model_owner);
		sim_env_heal(m.env);
		if (err)
			ck_assert_int_lt(kvfs_open("failed", &k, &fs), 0);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_new_volume_has_an_empty_root,	  test_a_volume_of_the_engine_alone_is_none,
		test_a_later_format_is_refused,		  test_read_only_service_changes_nothing,
		test_what_was_synced_survives_power_loss, test_a_rename_is_a_barrier,
		test_a_failed_sync_is_told_and_poisons,	  test_ids_are_never_given_twice,
		test_a_snapshot_is_a_tree_of_its_own,	  test_mkfs_that_fails_leaves_no_volume,
	};

	return test_suite_run_with("model_volume", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
