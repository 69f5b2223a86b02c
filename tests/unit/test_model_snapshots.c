/* SPDX-License-Identifier: MIT */
/* Snapshots as libkvfs names them: names, lazy times, dropping while open, power loss. */
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

/* What key "k" holds as of a snapshot is @want. */
static void expect_as_of(const char *name, const char *want)
{
	struct kv_buf got = {0};
	struct kvfs *then;

	ok(kvfs_open_snapshot(m.fs, name, &then));
	ok(kvfs_key_get(then, test_str("k"), &got));
	ck_assert_uint_eq(got.len, strlen(want));
	ck_assert_mem_eq(got.data, want, got.len);
	kv_buf_free(&got);
	ok(kvfs_close(then));
}

START_TEST(test_a_name_is_that_of_a_file)
{
	char longest[KVFS_NAME_MAX + 2];

	memset(longest, 'x', sizeof(longest));
	longest[KVFS_NAME_MAX + 1] = '\0';
	fails(kvfs_snapshot_create(m.fs, longest), -ENAMETOOLONG);
	longest[KVFS_NAME_MAX] = '\0';
	ok(kvfs_snapshot_create(m.fs, longest));
	fails(kvfs_snapshot_create(m.fs, longest), -KV_E_EXISTS);
	fails(kvfs_snapshot_create(m.fs, ""), -EINVAL);
	fails(kvfs_snapshot_create(m.fs, "."), -EINVAL);
	fails(kvfs_snapshot_create(m.fs, ".."), -EINVAL);
	fails(kvfs_snapshot_create(m.fs, "a/b"), -EINVAL);
	ok(kvfs_snapshot_create(m.fs, "\xff \n"));
	fails(kvfs_snapshot_drop(m.fs, "none"), -KV_E_NOTFOUND);
	ok(kvfs_snapshot_drop(m.fs, longest));
	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_snapshot_create(m.fs, "a"), -KV_E_READONLY);
	fails(kvfs_snapshot_drop(m.fs, "\xff \n"), -KV_E_READONLY);
}
END_TEST

START_TEST(test_a_dropped_snapshot_goes_on_for_who_has_it_open)
{
	struct kv_buf got = {0};
	struct kvfs *then;

	ok(kvfs_key_put(m.fs, test_str("k"), test_str("old"), NULL));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_key_put(m.fs, test_str("k"), test_str("new"), NULL));
	ok(kvfs_open_snapshot(m.fs, "s", &then));
	ok(kvfs_snapshot_drop(m.fs, "s"));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kv_compact(kvfs_db(m.fs), NULL));
	ok(kvfs_key_get(then, test_str("k"), &got));
	ck_assert_mem_eq(got.data, "old", 3);
	ok(kvfs_close(then));
	expect_as_of("s", "new");
	kv_buf_free(&got);
}
END_TEST

static void fill_volume(void)
{
	static uint8_t value[1 << 20];
	struct test_rng rng = {7};
	char key[32];

	for (size_t len = sizeof(value); len; len /= 4) {
		test_rng_fill(&rng, value, len);
		for (unsigned i = 0;; i++) {
			int err;

			(void)snprintf(key, sizeof(key), "%zu.%u", len, i);
			err = kvfs_key_put(m.fs, test_str(key), kv_slice_of(value, len), NULL);
			if (err == -KV_E_NOSPACE)
				break;
			ok(err);
		}
	}
}

START_TEST(test_a_hash_is_told_though_a_full_volume_cannot_remember_it)
{
	struct kv_create_options o = {.size_bytes = 16U << 20, .log_size_bytes = 1U << 20};
	uint8_t hash[KVFS_HASH_LEN], again[KVFS_HASH_LEN];

	model_free(&m);
	m.env = sim_env_new(1);
	o.env = sim_env_os(m.env);
	ok(kvfs_mkfs(MODEL_VOLUME, &o, &model_owner));
	model_open(&m);
	ok(kvfs_key_put(m.fs, test_str("k"), test_str("value"), NULL));
	ok(kvfs_snapshot_create(m.fs, "s"));
	fill_volume();
	ok(kvfs_snapshot_hash(m.fs, "s", hash));
	fails(kvfs_key_put(m.fs, test_str("k"), test_str("other"), NULL), -KV_E_NOSPACE);
	ok(kvfs_snapshot_hash(m.fs, "s", again));
	ck_assert_mem_eq(hash, again, sizeof(hash));
}
END_TEST

/* With lazytime the times of a directory wait in its node. */
START_TEST(test_times_that_wait_are_in_a_snapshot)
{
	struct kvfs_attr now, then;
	struct model_fixture old;
	struct kvfs_node *d, *same;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	d = model_mkdir(&m, m.root, "d");
	model_forget(&m, model_mkfile(&m, d, "f", test_str("x")));
	now = model_attr(&m, d);
	ok(kvfs_snapshot_create(m.fs, "s"));
	old = m;
	ok(kvfs_open_snapshot(m.fs, "s", &old.fs));
	same = model_lookup(&old, kvfs_root(old.fs), "d");
	then = model_attr(&old, same);
	ck_assert_int_eq(then.mtime.sec, now.mtime.sec);
	ck_assert_uint_eq(then.mtime.nsec, now.mtime.nsec);
	model_forget(&old, same);
	ok(kvfs_close(old.fs));
	model_forget(&m, d);
}
END_TEST

/* Cut the power at every operation of the host: it is there, and right, or not at all; and there
 * if the call had returned. */
START_TEST(test_a_power_cut_leaves_a_snapshot_whole_or_none)
{
	unsigned there = 0, absent = 0;

	for (unsigned n = 1; n <= 40; n++) {
		struct kv_snapshot_info *list = NULL;
		size_t count = 0;
		int err;

		model_free(&m);
		model_make(&m);
		ok(kvfs_key_put(m.fs, test_str("k"), test_str("old"), NULL));
		sim_env_cut(m.env, n);
		err = kvfs_snapshot_create(m.fs, "s");
		if (!err)
			(void)!kvfs_key_put(m.fs, test_str("k"), test_str("new"), NULL);
		sim_env_crash(m.env, n % 2 ? SIM_CRASH_MIX : SIM_CRASH_DROP);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		sim_env_heal(m.env);
		model_open(&m);
		ok(kv_snapshot_list(kvfs_db(m.fs), &list, &count));
		if (count)
			expect_as_of("s", "old");
		else
			ck_assert_int_ne(err, 0);
		there += count == 1;
		absent += count == 0;
		free(list);
	}
	ck_assert_uint_gt(there, 0);
	ck_assert_uint_gt(absent, 0);
}
END_TEST

/* ---- of a subtree ---- */

static int mkdirs(const char *path)
{
	return kvfs_key_put(m.fs, test_str(path), test_str("x"), NULL);
}

START_TEST(test_a_snapshot_of_a_directory_shows_it_as_its_root)
{
	struct model_fixture old = {0};
	struct kvfs_node *dir, *file, *again;
	struct kvfs_attr attr;
	struct kv_buf of = {0}, got = {0};
	uint8_t hash[KVFS_HASH_LEN];
	struct kvfs_send *send;

	ok(mkdirs("a/b/c/f"));
	ok(mkdirs("a/other"));
	/* Its keys begin with what its path was. */
	dir = model_lookup(&m, m.root, "a");
	ok(kvfs_rename(m.fs, m.root, "a", m.root, "z", 0));
	model_forget(&m, dir);
	fails(kvfs_snapshot_create_of(m.fs, "s", test_str("z/none")), -ENOENT);
	fails(kvfs_snapshot_create_of(m.fs, "s", test_str("z/other")), -ENOTDIR);
	ok(kvfs_snapshot_create_of(m.fs, "s", test_str("z/b")));
	fails(kvfs_snapshot_create_of(m.fs, "s", test_str("z")), -KV_E_EXISTS);
	ok(kvfs_snapshot_create(m.fs, "all"));
	ok(kvfs_key_delete(m.fs, test_str("z/b/c/f")));
	ok(kvfs_snapshot_of(m.fs, "s", &of));
	ck_assert(slice_equal(kv_buf_slice(&of), test_str("z/b")));
	ok(kvfs_snapshot_of(m.fs, "all", &of));
	ck_assert_uint_eq(of.len, 0);
	ok(kvfs_open_snapshot(m.fs, "s", &old.fs));
	old.root = kvfs_root(old.fs);
	model_expect_list(&old, old.root, ". .. c ");
	attr = model_attr(&old, old.root);
	ck_assert_uint_eq(attr.ino, kvfs_node_ino(old.root));
	dir = model_lookup(&old, old.root, "c");
	file = model_lookup(&old, dir, "f");
	model_expect(&old, file, test_str("x"));
	ok(kvfs_node_path(old.fs, file, &of));
	ck_assert(slice_equal(kv_buf_slice(&of), test_str("/c/f")));
	attr = model_attr(&old, file);
	model_forget(&old, file);
	model_forget(&old, dir);
	ok(kvfs_node_find(old.fs, attr.ino, &again, &attr));
	model_forget(&old, again);
	fails(kvfs_node_find(old.fs, KVFS_ROOT_INO, &again, &attr), -ESTALE);
	fails(kvfs_key_get(old.fs, test_str("z/b/c/f"), &got), -EOPNOTSUPP);
	ok(kvfs_close(old.fs));
	fails(kvfs_snapshot_hash(m.fs, "s", hash), -EOPNOTSUPP);
	fails(kvfs_send_open(m.fs, NULL, "s", NULL, &send), -EOPNOTSUPP);
	fails(kvfs_snapshot_restore(m.fs, "s", NULL, NULL), -EOPNOTSUPP);
	ok(kvfs_clone(m.fs, "s", test_str("c"), test_str("back"), NULL, NULL));
	ok(kvfs_clone(m.fs, "s", test_str(""), test_str("b2"), NULL, NULL));
	ok(kvfs_key_get(m.fs, test_str("back/f"), &got));
	ok(kvfs_key_get(m.fs, test_str("b2/c/f"), &got));
	ok(kvfs_snapshot_drop(m.fs, "s"));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_snapshot_of(m.fs, "s", &of));
	ck_assert_uint_eq(of.len, 0);
	kv_buf_free(&of);
	kv_buf_free(&got);
	model_check(&m);
}
END_TEST

/* At no point is there one of the name that shows something else; nor is one taken later. */
START_TEST(test_a_power_cut_leaves_a_snapshot_of_a_directory_or_none)
{
	unsigned there = 0, absent = 0;

	for (unsigned n = 1; n <= 40; n++) {
		struct kv_buf of = {0};
		int err, found;

		model_free(&m);
		model_make(&m);
		ok(mkdirs("a/f"));
		sim_env_cut(m.env, n);
		err = kvfs_snapshot_create_of(m.fs, "s", test_str("a"));
		sim_env_crash(m.env, n % 2 ? SIM_CRASH_MIX : SIM_CRASH_DROP);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		sim_env_heal(m.env);
		model_open(&m);
		found = kvfs_snapshot_of(m.fs, "s", &of);
		if (!found)
			ck_assert(slice_equal(kv_buf_slice(&of), test_str("a")));
		else
			ck_assert_int_ne(err, 0);
		there += !found;
		absent += found != 0;
		if (!found)
			ok(kvfs_snapshot_drop(m.fs, "s"));
		ok(kvfs_snapshot_create(m.fs, "s"));
		ok(kvfs_snapshot_of(m.fs, "s", &of));
		ck_assert_uint_eq(of.len, 0);
		kv_buf_free(&of);
	}
	ck_assert_uint_gt(there, 0);
	ck_assert_uint_gt(absent, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_name_is_that_of_a_file,
		test_a_dropped_snapshot_goes_on_for_who_has_it_open,
		test_a_hash_is_told_though_a_full_volume_cannot_remember_it,
		test_times_that_wait_are_in_a_snapshot,
		test_a_power_cut_leaves_a_snapshot_whole_or_none,
		test_a_snapshot_of_a_directory_shows_it_as_its_root,
		test_a_power_cut_leaves_a_snapshot_of_a_directory_or_none,
	};

	return test_suite_run_with("model_snapshots", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
