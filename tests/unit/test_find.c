/* SPDX-License-Identifier: MIT */
/* Files by their numbers: where they are now, and not when they are gone. */
#include "tests/support/model_fixture.h"

static struct model_fixture m;

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	model_check(&m);
	model_free(&m);
}

/* The number of a new file or directory that nobody looks at. */
static uint64_t number_of(struct kvfs_node *node)
{
	uint64_t ino = kvfs_node_ino(node);

	model_forget(&m, node);
	ck_assert_ptr_null(kvfs_node_by_ino(m.fs, ino));
	return ino;
}

static void check_content(uint64_t ino, const char *want)
{
	struct kvfs_node *n;
	struct kvfs_attr attr;
	struct kv_buf got = {0};

	ok(kvfs_node_find(m.fs, ino, &n, &attr));
	ck_assert_uint_eq(kvfs_node_ino(n), ino);
	ck_assert_uint_eq(attr.ino, ino);
	ok(kvfs_read(m.fs, n, 0, 100, &got));
	ck_assert_uint_eq(got.len, strlen(want));
	ck_assert_mem_eq(got.data, want, got.len);
	kv_buf_free(&got);
	model_forget(&m, n);
	ck_assert_ptr_null(kvfs_node_by_ino(m.fs, ino));
}

START_TEST(test_a_file_is_found_wherever_it_went)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, a, "b"), *n;
	uint64_t f = number_of(model_mkfile(&m, b, "f", test_str("deep")));
	uint64_t g = number_of(model_mkfile(&m, m.root, "g", test_str("top")));
	uint64_t dir = kvfs_node_ino(b);
	struct kvfs_attr attr;

	check_content(f, "deep");
	check_content(g, "top");
	/* The directory is displaced, and its old place taken by another. */
	ok(kvfs_rename(m.fs, a, "b", m.root, "moved", 0));
	model_forget(&m, b);
	b = model_mkdir(&m, a, "b");
	model_forget(&m, model_mkfile(&m, b, "f", test_str("another")));
	check_content(f, "deep");
	model_forget(&m, b);
	model_forget(&m, a);
	ok(kvfs_node_find(m.fs, dir, &b, &attr));
	ck_assert(S_ISDIR(attr.mode));
	ok(kvfs_lookup(m.fs, b, "..", &n, NULL));
	ck_assert_ptr_eq(n, m.root);
	ok(kvfs_rename(m.fs, b, "f", m.root, "f", 0));
	model_forget(&m, b);
	check_content(f, "deep");
	ok(kvfs_node_find(m.fs, KVFS_ROOT_INO, &n, &attr));
	ck_assert_ptr_eq(n, m.root);
}
END_TEST

START_TEST(test_a_file_with_several_names_is_found_by_any)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "z", test_str("shared")), *l;
	uint64_t ino = kvfs_node_ino(f);

	ok(kvfs_link(m.fs, f, m.root, "a", &l, NULL));
	kvfs_node_forget(m.fs, f, 2);
	check_content(ino, "shared");
	ok(kvfs_unlink(m.fs, m.root, "a"));
	check_content(ino, "shared");
	ok(kvfs_unlink(m.fs, m.root, "z"));
}
END_TEST

START_TEST(test_what_is_gone_is_stale)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *n;
	uint64_t ino = kvfs_node_ino(f);
	struct kvfs_attr attr;

	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_node_find(m.fs, ino, &n, &attr)); /* it is open */
	ck_assert_uint_eq(attr.nlink, 0);
	kvfs_node_forget(m.fs, f, 2);
	fails(kvfs_node_find(m.fs, ino, &n, &attr), -ESTALE);
	fails(kvfs_node_find(m.fs, 0, &n, &attr), -ESTALE);
	fails(kvfs_node_find(m.fs, 7, &n, &attr), -ESTALE);
	fails(kvfs_node_find(m.fs, UINT64_MAX, &n, &attr), -ESTALE);
}
END_TEST

START_TEST(test_forgetting_more_than_was_given_takes_nothing_else)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");
	struct kvfs_node *f = model_mkfile(&m, d, "f", test_str("x"));
	uint64_t ino = kvfs_node_ino(d);
	struct kvfs_dir *open;

	ok(kvfs_dir_open(m.fs, d, &open));
	kvfs_node_forget(m.fs, d, 1000);
	ck_assert_ptr_eq(kvfs_node_by_ino(m.fs, ino), d); /* its child and its handle need it */
	kvfs_dir_close(open);
	ck_assert_uint_eq(model_attr(&m, f).size, 1);
	kvfs_node_forget(m.fs, f, 1000);
	ck_assert_ptr_null(kvfs_node_by_ino(m.fs, ino));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_file_is_found_wherever_it_went,
		test_a_file_with_several_names_is_found_by_any,
		test_what_is_gone_is_stale,
		test_forgetting_more_than_was_given_takes_nothing_else,
	};

	return test_suite_run_with("find", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
