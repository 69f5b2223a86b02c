/* SPDX-License-Identifier: MIT */
/*
 * Lookup, create, remove, rename and link through the interface: what POSIX
 * asks of them, and what they leave in the engine.
 */
#include "tests/support/model_fixture.h"

static struct model_fixture m;

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	if (m.fs)
		model_check(&m);
	model_free(&m);
}

static int mkfile(struct kvfs_node *dir, const char *name)
{
	return kvfs_mknod(m.fs, dir, name, S_IFREG | 0644, 0, &model_owner, NULL, NULL);
}

/* ---- lookup ---- */

START_TEST(test_dots_are_understood)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *n;
	struct kvfs_attr attr;

	ok(kvfs_lookup(m.fs, a, ".", &n, &attr));
	ck_assert_ptr_eq(n, a);
	model_forget(&m, n);
	ok(kvfs_lookup(m.fs, a, "..", &n, &attr));
	ck_assert_ptr_eq(n, m.root);
	ok(kvfs_lookup(m.fs, m.root, "..", &n, NULL));
	ck_assert_ptr_eq(n, m.root);
	model_forget(&m, a);
}
END_TEST

START_TEST(test_lookups_fail_with_the_right_error)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("")), *n;
	char big[300];

	memset(big, 'x', 256);
	big[256] = 0;
	fails(kvfs_lookup(m.fs, m.root, "none", &n, NULL), -ENOENT);
	fails(kvfs_lookup(m.fs, m.root, big, &n, NULL), -ENAMETOOLONG);
	fails(kvfs_lookup(m.fs, f, "x", &n, NULL), -ENOTDIR);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_all_lookups_of_a_file_give_one_node)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *again, *l;

	ok(kvfs_link(m.fs, f, m.root, "g", &l, NULL));
	ck_assert_ptr_eq(l, f);
	again = model_lookup(&m, m.root, "f");
	ck_assert_ptr_eq(again, f);
	ck_assert_ptr_eq(kvfs_node_by_ino(m.fs, kvfs_node_ino(f)), f);
	kvfs_node_forget(m.fs, f, 3);
	again = model_lookup(&m, m.root, "g");
	ck_assert_uint_eq(model_attr(&m, again).nlink, 2);
	model_forget(&m, again);
	ck_assert_ptr_null(kvfs_node_by_ino(m.fs, 12345));
}
END_TEST

/* ---- create ---- */

START_TEST(test_names_that_cannot_be_are_refused)
{
	char big[300];

	memset(big, 'x', 256);
	big[256] = 0;
	fails(mkfile(m.root, ""), -EINVAL);
	fails(mkfile(m.root, "."), -EINVAL);
	fails(mkfile(m.root, ".."), -EINVAL);
	fails(mkfile(m.root, "a/b"), -EINVAL);
	fails(mkfile(m.root, big), -ENAMETOOLONG);
	big[255] = 0;
	ok(mkfile(m.root, big));
	fails(mkfile(m.root, big), -EEXIST);
}
END_TEST

START_TEST(test_a_new_file_has_owner_mode_and_times)
{
	struct kvfs_attr a, dir;

	ok(kvfs_mknod(m.fs, m.root, "f", S_IFREG | 0666, 0, &model_owner, NULL, &a));
	ck_assert_uint_eq(a.mode, S_IFREG | 0644);
	ck_assert_uint_eq(a.uid, 1000);
	ck_assert_uint_eq(a.nlink, 1);
	ck_assert_uint_ge(a.ino, MODEL_ID_FIRST);
	ck_assert_int_eq(a.btime.sec, a.mtime.sec);
	ok(kvfs_mknod(m.fs, m.root, "null", S_IFCHR | 0600, 0x103, &model_owner, NULL, &a));
	ck_assert_uint_eq(a.rdev, 0x103);
	fails(kvfs_mknod(m.fs, m.root, "x", S_IFDIR | 0600, 0, &model_owner, NULL, &a), -EINVAL);
	dir = model_attr(&m, m.root);
	ck_assert(dir.mtime.sec > 0 && (dir.mtime.sec == a.mtime.sec || dir.mtime.nsec));
}
END_TEST

START_TEST(test_set_group_id_directories_pass_their_group_on)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");
	struct kvfs_attr v = {.mode = 02775, .gid = 77}, a;

	ok(kvfs_setattr(m.fs, d, KVFS_SET_MODE | KVFS_SET_GID, &v, NULL));
	ok(kvfs_mknod(m.fs, d, "f", S_IFREG | 0644, 0, &model_owner, NULL, &a));
	ck_assert_uint_eq(a.gid, 77);
	ck_assert_uint_eq(a.mode & S_ISGID, 0);
	ok(kvfs_mkdir(m.fs, d, "s", 0755, &model_owner, NULL, &a));
	ck_assert_uint_eq(a.gid, 77);
	ck_assert_uint_eq(a.mode & S_ISGID, S_ISGID);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_symlinks_hold_up_to_4095_bytes)
{
	char target[4200];
	struct kv_buf got = {0};
	struct kvfs_node *l;
	struct kvfs_attr a;

	memset(target, 't', sizeof(target));
	target[4096] = 0;
	fails(kvfs_symlink(m.fs, m.root, "l", target, &model_owner, &l, &a), -ENAMETOOLONG);
	fails(kvfs_symlink(m.fs, m.root, "l", "", &model_owner, &l, &a), -ENOENT);
	target[4095] = 0;
	ok(kvfs_symlink(m.fs, m.root, "l", target, &model_owner, &l, &a));
	ck_assert_uint_eq(a.size, 4095);
	ck_assert_uint_eq(a.mode, S_IFLNK | 0777);
	ok(kvfs_readlink(m.fs, l, &got));
	ck_assert_uint_eq(got.len, 4095);
	fails(kvfs_readlink(m.fs, m.root, &got), -EINVAL);
	kv_buf_free(&got);
	model_forget(&m, l);
}
END_TEST

/* ---- remove ---- */

START_TEST(test_an_open_file_lives_on_without_a_name)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("content"));
	struct kvfs_attr a;

	ok(kvfs_unlink(m.fs, m.root, "f"));
	ck_assert(!model_exists(&m, m.root, "f"));
	model_expect(&m, f, test_str("content"));
	ok(kvfs_write(m.fs, f, 0, test_str("CONTENT"), false));
	model_expect(&m, f, test_str("CONTENT"));
	a = model_attr(&m, f);
	ck_assert_uint_eq(a.nlink, 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 1);
	model_forget(&m, f);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
}
END_TEST

START_TEST(test_a_small_open_file_is_stored_again_only_when_changed)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("content"));
	struct kvfs_node *g = model_mkfile(&m, m.root, "g", test_str("other"));
	struct kvfs_node *h = NULL;
	struct kvfs_attr a;

	/* One loses its name by unlink, the other by a rename over it. */
	ok(kvfs_unlink(m.fs, m.root, "f"));
	h = model_mkfile(&m, m.root, "h", test_str("new"));
	ok(kvfs_rename(m.fs, m.root, "h", m.root, "g", 0));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_expect(&m, f, test_str("content"));
	model_expect(&m, g, test_str("other"));
	a = model_attr(&m, g);
	ck_assert_uint_eq(a.nlink, 0);
	ck_assert_uint_eq(a.size, 5);
	model_forget(&m, g);
	/* Once stored it is found there; with a name again, and removed again, it is stored. */
	ok(kvfs_setxattr(m.fs, f, "user.a", test_str("1"), 0));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 1);
	ok(kvfs_link(m.fs, f, m.root, "back", NULL, NULL));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	ok(kvfs_write(m.fs, f, 0, test_str("CONTENT"), false));
	ok(kvfs_unlink(m.fs, m.root, "back"));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 1);
	model_expect(&m, f, test_str("CONTENT"));
	model_forget(&m, f);
	model_forget(&m, h);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_NAMES), 1);
}
END_TEST

START_TEST(test_contents_and_attributes_go_with_the_last_name)
{
	static uint8_t big[300000];
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, sizeof(big)));

	ok(kvfs_setxattr(m.fs, f, "user.big", kv_slice_of(big, 5000), 0));
	ck_assert_uint_gt(model_count_keys(&m, MODEL_DATA), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_XATTRS), 1);
	model_forget(&m, f);
	ok(kvfs_unlink(m.fs, m.root, "f"));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_XATTRS), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_NAMES), 0);
}
END_TEST

START_TEST(test_orphans_left_by_a_crash_are_swept)
{
	static uint8_t big[300000];
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, sizeof(big)));

	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_sync(m.fs));
	sim_env_crash(m.env, SIM_CRASH_DROP);
	(void)!kvfs_close(m.fs);
	model_open(&m);
	(void)f;
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
}
END_TEST

START_TEST(test_only_empty_directories_go)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");
	struct kvfs_attr a;

	ok(mkfile(d, "f"));
	fails(kvfs_rmdir(m.fs, m.root, "d"), -ENOTEMPTY);
	fails(kvfs_unlink(m.fs, m.root, "d"), -EISDIR);
	fails(kvfs_rmdir(m.fs, d, "f"), -ENOTDIR);
	fails(kvfs_rmdir(m.fs, d, "."), -EINVAL);
	fails(kvfs_rmdir(m.fs, d, ".."), -ENOTEMPTY);
	ok(kvfs_unlink(m.fs, d, "f"));
	ok(kvfs_rmdir(m.fs, m.root, "d"));
	fails(mkfile(d, "f"), -ENOENT);
	fails(kvfs_lookup(m.fs, d, "f", &d, NULL), -ENOENT);
	model_expect_list(&m, d, ". .. ");
	a = model_attr(&m, m.root);
	ck_assert_uint_eq(a.nlink, 2);
	model_forget(&m, d);
}
END_TEST

/* ---- rename ---- */

START_TEST(test_a_directory_moves_with_all_below_it_by_one_record)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, a, "b"), *x;
	struct kv_stats before, after;
	struct kv_buf path = {0};

	for (unsigned i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		ok(mkfile(b, name));
	}
	kv_get_stats(kvfs_db(m.fs), &before);
	ok(kvfs_rename(m.fs, m.root, "a", m.root, "moved", 0));
	kv_get_stats(kvfs_db(m.fs), &after);
	ck_assert_uint_lt(after.log_bytes - before.log_bytes, 8193);
	ck_assert(model_exists(&m, b, "f99"));
	ok(kvfs_node_path(m.fs, b, &path));
	ck_assert_mem_eq(path.data, "/moved/b", path.len);
	kv_buf_free(&path);
	/* The old name can be used at once, and shares nothing. */
	x = model_mkdir(&m, m.root, "a");
	model_expect_list(&m, x, ". .. ");
	ok(kvfs_mkdir(m.fs, x, "b", 0755, &model_owner, NULL, NULL));
	model_expect_list(&m, x, ". .. b ");
	model_expect_list(&m, a, ". .. b ");
	ck_assert_uint_eq(model_count_keys(&m, MODEL_PREFIXES), 2);
	model_forget(&m, x);
	model_forget(&m, b);
	model_forget(&m, a);
}
END_TEST

START_TEST(test_a_directory_that_comes_back_is_natural_again)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");

	ok(mkfile(d, "f"));
	ok(kvfs_rename(m.fs, m.root, "d", m.root, "e", 0));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_PREFIXES), 1);
	ok(kvfs_rename(m.fs, m.root, "e", m.root, "d", 0));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_PREFIXES), 0);
	ck_assert(model_exists(&m, d, "f"));
	model_forget(&m, d);
}
END_TEST

START_TEST(test_rename_into_itself_is_refused)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, a, "b");

	fails(kvfs_rename(m.fs, m.root, "a", b, "x", 0), -EINVAL);
	fails(kvfs_rename(m.fs, m.root, "a", a, "x", 0), -EINVAL);
	fails(kvfs_rename(m.fs, a, "b", m.root, "a", 0), -ENOTEMPTY);
	fails(kvfs_rename(m.fs, a, "b", m.root, "a", KVFS_RENAME_EXCHANGE), -EINVAL);
	fails(kvfs_rename(m.fs, m.root, "a", m.root, "x", 1U << 5), -EINVAL);
	fails(kvfs_rename(m.fs, m.root, "a", m.root, "x",
			  KVFS_RENAME_EXCHANGE | KVFS_RENAME_NOREPLACE),
	      -EINVAL);
	fails(kvfs_rename(m.fs, m.root, "none", m.root, "x", 0), -ENOENT);
	model_forget(&m, b);
	model_forget(&m, a);
}
END_TEST

START_TEST(test_rename_replaces_what_it_may)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *old;

	old = model_mkfile(&m, m.root, "old", test_str("old"));
	model_forget(&m, model_mkfile(&m, m.root, "new", test_str("new")));
	fails(kvfs_rename(m.fs, m.root, "new", m.root, "d", 0), -EISDIR);
	fails(kvfs_rename(m.fs, m.root, "d", m.root, "new", 0), -ENOTDIR);
	fails(kvfs_rename(m.fs, m.root, "new", m.root, "old", KVFS_RENAME_NOREPLACE), -EEXIST);
	ok(kvfs_rename(m.fs, m.root, "new", m.root, "old", 0));
	model_expect(&m, old, test_str("old")); /* still open */
	model_forget(&m, old);
	old = model_lookup(&m, m.root, "old");
	model_expect(&m, old, test_str("new"));
	model_expect_list(&m, m.root, ". .. d old ");
	ok(kvfs_mkdir(m.fs, m.root, "e", 0755, &model_owner, NULL, NULL));
	ok(kvfs_rename(m.fs, m.root, "e", m.root, "d", 0));
	ck_assert_uint_eq(model_attr(&m, m.root).nlink, 3);
	model_forget(&m, old);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_exchange_keeps_link_counts_of_directories)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, m.root, "b");

	ok(mkfile(a, "file"));
	ok(kvfs_mkdir(m.fs, b, "dir", 0755, &model_owner, NULL, NULL));
	ok(kvfs_rename(m.fs, a, "file", b, "dir", KVFS_RENAME_EXCHANGE));
	ck_assert_uint_eq(model_attr(&m, a).nlink, 3);
	ck_assert_uint_eq(model_attr(&m, b).nlink, 2);
	fails(kvfs_rename(m.fs, a, "file", b, "none", KVFS_RENAME_EXCHANGE), -ENOENT);
	model_forget(&m, a);
	model_forget(&m, b);
}
END_TEST

START_TEST(test_rename_onto_a_name_of_the_same_file_does_nothing)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *l;

	ok(kvfs_link(m.fs, f, m.root, "g", &l, NULL));
	ok(kvfs_rename(m.fs, m.root, "f", m.root, "g", 0));
	model_expect_list(&m, m.root, ". .. f g ");
	ok(kvfs_rename(m.fs, m.root, "f", m.root, "f", 0));
	kvfs_node_forget(m.fs, f, 2);
}
END_TEST

START_TEST(test_rename_sets_the_times_it_should)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kvfs_attr v = {.mtime = {100, 0}, .ctime = {100, 0}};
	unsigned mask = KVFS_SET_MTIME | KVFS_SET_CTIME;

	ok(kvfs_setattr(m.fs, f, mask, &v, NULL));
	ok(kvfs_setattr(m.fs, d, mask, &v, NULL));
	ok(kvfs_setattr(m.fs, m.root, mask, &v, NULL));
	ok(kvfs_rename(m.fs, m.root, "f", d, "f", 0));
	ck_assert_int_eq(model_attr(&m, f).mtime.sec, 100);
	ck_assert_int_gt(model_attr(&m, f).ctime.sec, 100);
	ck_assert_int_gt(model_attr(&m, d).mtime.sec, 100);
	ck_assert_int_gt(model_attr(&m, m.root).mtime.sec, 100);
	model_forget(&m, f);
	model_forget(&m, d);
}
END_TEST

/* ---- link ---- */

START_TEST(test_names_of_one_file_share_everything)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *l;

	ok(kvfs_link(m.fs, f, m.root, "g", &l, NULL));
	model_forget(&m, l);
	model_forget(&m, f);
	f = model_lookup(&m, m.root, "f");
	ok(kvfs_write(m.fs, f, 0, test_str("changed"), false));
	model_forget(&m, f);
	ok(kvfs_unlink(m.fs, m.root, "f"));
	f = model_lookup(&m, m.root, "g");
	model_expect(&m, f, test_str("changed"));
	ck_assert_uint_eq(model_attr(&m, f).nlink, 1);
	model_forget(&m, f);
	fails(kvfs_link(m.fs, m.root, m.root, "r", &f, NULL), -EPERM);
}
END_TEST

START_TEST(test_a_file_without_a_name_can_get_one)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *l;
	struct kvfs_attr a;

	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_link(m.fs, f, m.root, "again", &l, &a));
	ck_assert_uint_eq(a.nlink, 1);
	kvfs_node_forget(m.fs, f, 2);
	model_reopen(&m);
	f = model_lookup(&m, m.root, "again");
	model_expect(&m, f, test_str("x"));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_a_file_can_be_made_without_a_name)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *f, *l;
	struct kvfs_attr a;

	ok(kvfs_tmpfile(m.fs, d, 0666, &model_owner, &f, &a));
	ck_assert_uint_eq(a.mode, S_IFREG | 0644);
	ck_assert_uint_eq(a.nlink, 0);
	model_expect_list(&m, d, ". .. ");
	ok(kvfs_write(m.fs, f, 0, test_str("text"), false));
	ok(kvfs_link(m.fs, f, d, "named", &l, &a));
	ck_assert_uint_eq(a.nlink, 1);
	model_forget(&m, l);
	model_forget(&m, f);
	f = model_lookup(&m, d, "named");
	model_expect(&m, f, test_str("text"));
	model_forget(&m, f);
	/* One that gets no name leaves nothing. */
	ok(kvfs_tmpfile(m.fs, d, 0600, &model_owner, &f, NULL));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 1);
	model_forget(&m, f);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	ok(kvfs_unlink(m.fs, d, "named"));
	ok(kvfs_rmdir(m.fs, m.root, "d"));
	fails(kvfs_tmpfile(m.fs, d, 0600, &model_owner, &f, NULL), -ENOENT);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_a_whiteout_takes_the_old_name)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *n;
	struct kvfs_attr a;

	ok(kvfs_rename(m.fs, m.root, "d", m.root, "e", KVFS_RENAME_WHITEOUT));
	ok(kvfs_lookup(m.fs, m.root, "d", &n, &a));
	ck_assert_uint_eq(a.mode, S_IFCHR);
	ck_assert_uint_eq(a.rdev, 0);
	ck_assert_uint_eq(a.nlink, 1);
	ck_assert_uint_eq(model_attr(&m, m.root).nlink, 3);
	model_forget(&m, n);
	n = model_lookup(&m, m.root, "e");
	ck_assert_ptr_eq(n, d);
	fails(kvfs_rename(m.fs, m.root, "d", m.root, "e",
			  KVFS_RENAME_WHITEOUT | KVFS_RENAME_NOREPLACE),
	      -EEXIST);
	fails(kvfs_rename(m.fs, m.root, "d", m.root, "e",
			  KVFS_RENAME_WHITEOUT | KVFS_RENAME_EXCHANGE),
	      -EINVAL);
	model_forget(&m, n);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_long_paths_get_short_prefixes)
{
	char name[200];
	struct kvfs_node *d = m.root, *next;

	memset(name, 'n', sizeof(name));
	name[199] = 0;
	for (unsigned i = 0; i < 20; i++) {
		next = model_mkdir(&m, d, name);
		model_forget(&m, d);
		d = next;
	}
	ok(mkfile(d, name));
	ck_assert_uint_gt(model_count_keys(&m, MODEL_PREFIXES), 0);
	ck_assert(model_exists(&m, d, name));
	model_forget(&m, d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_dots_are_understood,
		test_lookups_fail_with_the_right_error,
		test_all_lookups_of_a_file_give_one_node,
		test_names_that_cannot_be_are_refused,
		test_a_new_file_has_owner_mode_and_times,
		test_set_group_id_directories_pass_their_group_on,
		test_symlinks_hold_up_to_4095_bytes,
		test_an_open_file_lives_on_without_a_name,
		test_a_small_open_file_is_stored_again_only_when_changed,
		test_contents_and_attributes_go_with_the_last_name,
		test_orphans_left_by_a_crash_are_swept,
		test_only_empty_directories_go,
		test_a_directory_moves_with_all_below_it_by_one_record,
		test_a_directory_that_comes_back_is_natural_again,
		test_rename_into_itself_is_refused,
		test_rename_replaces_what_it_may,
		test_exchange_keeps_link_counts_of_directories,
		test_rename_onto_a_name_of_the_same_file_does_nothing,
		test_rename_sets_the_times_it_should,
		test_names_of_one_file_share_everything,
		test_a_file_without_a_name_can_get_one,
		test_a_file_can_be_made_without_a_name,
		test_a_whiteout_takes_the_old_name,
		test_long_paths_get_short_prefixes,
	};

	return test_suite_run_with("model_names", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
