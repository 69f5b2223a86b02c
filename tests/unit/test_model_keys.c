/* SPDX-License-Identifier: MIT */
/* The key API: single operations, scans and transactions. */
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

static int put(const char *key, const char *value)
{
	return kvfs_key_put(m.fs, test_str(key), test_str(value), &model_owner);
}

static int get(const char *key, const char *value)
{
	struct kv_buf got = {0};
	int err = kvfs_key_get(m.fs, test_str(key), &got);

	if (!err && value)
		ck_assert(slice_equal(kv_buf_slice(&got), test_str(value)));
	kv_buf_free(&got);
	return err;
}

static int emit(void *ctx, struct kv_slice key, struct kv_slice value)
{
	struct kv_buf *out = ctx;

	ok(buf_append_slice(out, key));
	ok(buf_append_byte(out, '='));
	ok(buf_append_slice(out, value));
	ok(buf_append_byte(out, ' '));
	return 0;
}

static void expect_scan(const struct kvfs_scan *scan, const char *want)
{
	struct kv_buf got = {0};

	ok(kvfs_key_scan(m.fs, scan, emit, &got));
	ok(buf_append_byte(&got, 0));
	ck_assert_str_eq((char *)got.data, want);
	kv_buf_free(&got);
}

START_TEST(test_a_key_is_a_file_and_its_parents_are_made)
{
	struct kvfs_node *a, *f;
	struct kvfs_attr attr;

	ok(put("a/b/c", "value"));
	ok(get("a/b/c", "value"));
	a = model_lookup(&m, m.root, "a");
	ck_assert_uint_eq(model_attr(&m, a).nlink, 3);
	f = model_lookup(&m, a, "b");
	model_forget(&m, a);
	a = model_lookup(&m, f, "c");
	attr = model_attr(&m, a);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0644);
	model_expect(&m, a, test_str("value"));
	ok(put("a/b/c", "other"));
	model_expect(&m, a, test_str("other"));
	ck_assert_uint_eq(model_attr(&m, a).ino, attr.ino);
	ok(kvfs_key_delete(m.fs, test_str("a/b/c")));
	model_expect(&m, a, test_str("other")); /* somebody looks at it */
	fails(get("a/b/c", NULL), -KV_E_NOTFOUND);
	model_forget(&m, a);
	model_forget(&m, f);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
}
END_TEST

START_TEST(test_keys_that_are_none_are_refused)
{
	char big[300];

	memset(big, 'x', sizeof(big));
	big[256] = 0;
	fails(put("", "v"), -EINVAL);
	fails(put("/a", "v"), -EINVAL);
	fails(put("a/", "v"), -EINVAL);
	fails(put("a//b", "v"), -EINVAL);
	fails(put("./a", "v"), -EINVAL);
	fails(put("a/..", "v"), -EINVAL);
	fails(put(big, "v"), -ENAMETOOLONG);
	fails(kvfs_key_put(m.fs, kv_slice_of("a\0b", 3), test_str("v"), NULL), -EINVAL);
	fails(kvfs_key_put(m.fs, test_str("k"), kv_slice_of(big, KV_VALUE_MAX + 1), NULL),
	      -KV_E_TOO_BIG);
}
END_TEST

START_TEST(test_keys_and_directories_do_not_mix)
{
	ok(put("a/file", "v"));
	ok(kvfs_symlink(m.fs, m.root, "link", "a", &model_owner, NULL, NULL));
	fails(put("a", "v"), -EISDIR);
	fails(get("a", NULL), -EISDIR);
	fails(kvfs_key_delete(m.fs, test_str("a")), -EISDIR);
	fails(put("a/file/x", "v"), -ENOTDIR);
	fails(put("a/file/x/y", "v"), -ENOTDIR);
	fails(get("a/file/x", NULL), -ENOTDIR);
	fails(get("link/file", NULL), -ELOOP);
	fails(put("link", "v"), -EINVAL);
	fails(get("none/x", NULL), -KV_E_NOTFOUND);
	fails(kvfs_key_delete(m.fs, test_str("none/x")), -KV_E_NOTFOUND);
}
END_TEST

START_TEST(test_large_values_are_whole)
{
	size_t len = 5 * 1000 * 1000;
	uint8_t *data = malloc(len);
	struct kv_buf got = {0};

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 65536);
	ok(kvfs_key_put(m.fs, test_str("big"), kv_slice_of(data, len), NULL));
	ok(kvfs_key_get(m.fs, test_str("big"), &got));
	ck_assert_uint_eq(got.len, len);
	ck_assert(!memcmp(got.data, data, len));
	ok(kvfs_key_put(m.fs, test_str("big"), kv_slice_of(data, 100000), NULL));
	ok(kvfs_key_get(m.fs, test_str("big"), &got));
	ck_assert_uint_eq(got.len, 100000);
	ok(put("big", "small"));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	kv_buf_free(&got);
	free(data);
}
END_TEST

START_TEST(test_scans_go_by_path_even_after_renames)
{
	struct kvfs_scan all = {.keys_only = false};

	ok(put("a", "1"));
	ok(put("b/x", "2"));
	ok(put("b/y/z", "3"));
	ok(put("b.c", "4"));
	ok(put("c", "5"));
	expect_scan(&all, "a=1 b/x=2 b/y/z=3 b.c=4 c=5 ");
	ok(kvfs_rename(m.fs, m.root, "b", m.root, "z", 0));
	ok(kvfs_rename(m.fs, m.root, "a", m.root, "zz", 0));
	ok(put("b/new", "6"));
	expect_scan(&all, "b/new=6 b.c=4 c=5 z/x=2 z/y/z=3 zz=1 ");
	all.keys_only = true;
	expect_scan(&all, "b/new= b.c= c= z/x= z/y/z= zz= ");
}
END_TEST

START_TEST(test_scans_keep_to_their_bounds)
{
	struct kvfs_scan s = {.keys_only = true};

	ok(put("a/1", ""));
	ok(put("a/2", ""));
	ok(put("ab/1", ""));
	ok(put("b", ""));
	ok(put("c/d/e", ""));
	ok(put("c/d/f", ""));
	s.prefix = test_str("a");
	expect_scan(&s, "a/1= a/2= ab/1= ");
	s.prefix = test_str("a/");
	expect_scan(&s, "a/1= a/2= ");
	s.prefix = test_str("c/d/e");
	expect_scan(&s, "c/d/e= ");
	s.prefix = test_str("x");
	expect_scan(&s, "");
	s.prefix = test_str("");
	s.from = test_str("a/2");
	expect_scan(&s, "a/2= ab/1= b= c/d/e= c/d/f= ");
	s.to = test_str("c/d/f");
	expect_scan(&s, "a/2= ab/1= b= c/d/e= ");
	s.from = test_str("c/d/e5");
	s.to = test_str("");
	expect_scan(&s, "c/d/f= ");
	s.from = test_str("a");
	s.prefix = test_str("a/2");
	expect_scan(&s, "a/2= ");
}
END_TEST

/* ---- transactions ---- */

START_TEST(test_a_transaction_sees_its_own_changes_and_nothing_newer)
{
	struct kvfs_scan all = {.keys_only = false};
	struct kvfs_txn *t;
	struct kv_buf got = {0};

	ok(put("a", "1"));
	ok(put("c", "3"));
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(put("c", "newer"));
	ok(put("d", "newer"));
	ok(kvfs_txn_put(t, test_str("b/x"), test_str("2")));
	ok(kvfs_txn_delete(t, test_str("a")));
	ok(kvfs_txn_put(t, test_str("e"), test_str("5")));
	ok(kvfs_txn_scan(t, &all, emit, &got));
	ck_assert_mem_eq(got.data, "b/x=2 c=3 e=5 ", got.len);
	fails(kvfs_txn_get(t, test_str("a"), &got), -KV_E_NOTFOUND);
	ok(kvfs_txn_get(t, test_str("b/x"), &got));
	fails(kvfs_txn_get(t, test_str("d"), &got), -KV_E_NOTFOUND);
	fails(kvfs_txn_delete(t, test_str("a")), -KV_E_NOTFOUND);
	fails(get("b/x", NULL), -KV_E_NOTFOUND);
	ok(kvfs_txn_commit(t, true));
	expect_scan(&all, "b/x=2 c=newer d=newer e=5 ");
	kv_buf_free(&got);
}
END_TEST

START_TEST(test_an_aborted_transaction_leaves_nothing)
{
	struct kvfs_txn *t;

	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("x"), test_str("1")));
	kvfs_txn_abort(t);
	kvfs_txn_abort(NULL);
	fails(get("x", NULL), -KV_E_NOTFOUND);
}
END_TEST

START_TEST(test_the_first_committer_wins)
{
	struct kvfs_txn *t, *u;
	struct kvfs_node *f;

	ok(put("k", "0"));
	ok(put("dir/one", "0"));
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_begin(m.fs, &model_owner, &u));
	ok(kvfs_txn_put(t, test_str("k"), test_str("t")));
	ok(kvfs_txn_put(u, test_str("k"), test_str("u")));
	ok(kvfs_txn_commit(t, false));
	fails(kvfs_txn_commit(u, false), -KV_E_CONFLICT);
	ok(get("k", "t"));
	/* A write through the file counts too. */
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("k"), test_str("t")));
	f = model_lookup(&m, m.root, "k");
	ok(kvfs_write(m.fs, f, 0, test_str("w"), false));
	model_forget(&m, f);
	fails(kvfs_txn_commit(t, false), -KV_E_CONFLICT);
	/* Different keys of one directory do not. */
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_begin(m.fs, &model_owner, &u));
	ok(kvfs_txn_put(t, test_str("dir/t"), test_str("t")));
	ok(kvfs_txn_put(u, test_str("dir/u"), test_str("u")));
	ok(kvfs_txn_commit(t, false));
	ok(kvfs_txn_commit(u, false));
	/* A key that appeared or went is a conflict. */
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("dir/new"), test_str("t")));
	ok(put("dir/new", "x"));
	fails(kvfs_txn_commit(t, false), -KV_E_CONFLICT);
	/* So is a directory renamed under it. */
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("dir/one"), test_str("t")));
	ok(kvfs_rename(m.fs, m.root, "dir", m.root, "gone", 0));
	fails(kvfs_txn_commit(t, false), -KV_E_CONFLICT);
}
END_TEST

START_TEST(test_a_lazy_write_is_noticed_by_a_transaction)
{
	static uint8_t big[100000];
	struct kvfs_txn *t;
	struct kvfs_node *f;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	f = model_mkfile(&m, m.root, "k", kv_slice_of(big, sizeof(big)));
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("k"), test_str("t")));
	ok(kvfs_write(m.fs, f, 7, test_str("w"), false));
	fails(kvfs_txn_commit(t, false), -KV_E_CONFLICT);
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	ok(kvfs_txn_put(t, test_str("k"), test_str("t")));
	ok(kvfs_txn_commit(t, false));
	model_expect(&m, f, test_str("t"));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_a_transaction_checks_files_and_directories_at_once)
{
	struct kvfs_txn *t;

	ok(put("a/x", "1"));
	ok(put("f", "1"));
	ok(kvfs_txn_begin(m.fs, &model_owner, &t));
	fails(kvfs_txn_put(t, test_str("a"), test_str("v")), -EISDIR);
	fails(kvfs_txn_put(t, test_str("f/x"), test_str("v")), -ENOTDIR);
	ok(kvfs_txn_put(t, test_str("p/q"), test_str("v")));
	fails(kvfs_txn_put(t, test_str("p"), test_str("v")), -EISDIR);
	fails(kvfs_txn_put(t, test_str("p/q/r"), test_str("v")), -ENOTDIR);
	/* A file that the transaction removes may become a directory. */
	ok(kvfs_txn_delete(t, test_str("f")));
	ok(kvfs_txn_put(t, test_str("f/x"), test_str("v")));
	ok(kvfs_txn_commit(t, false));
	ok(get("f/x", "v"));
	ok(get("p/q", "v"));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_key_is_a_file_and_its_parents_are_made,
		test_keys_that_are_none_are_refused,
		test_keys_and_directories_do_not_mix,
		test_large_values_are_whole,
		test_scans_go_by_path_even_after_renames,
		test_scans_keep_to_their_bounds,
		test_a_transaction_sees_its_own_changes_and_nothing_newer,
		test_an_aborted_transaction_leaves_nothing,
		test_the_first_committer_wins,
		test_a_lazy_write_is_noticed_by_a_transaction,
		test_a_transaction_checks_files_and_directories_at_once,
	};

	return test_suite_run_with("model_keys", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
