/* SPDX-License-Identifier: MIT */
/* The node table: references, parents, paths, and what a forgotten node leaves. */
#include "fusefs/model/node.h"

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

static size_t count_nodes(void)
{
	size_t n = 0;

	for (unsigned i = 0; i < MODEL_SHARDS; i++)
		n += m.fs->shards[i].count;
	return n;
}

START_TEST(test_a_node_is_small)
{
	ck_assert_uint_le(sizeof(struct kvfs_node), 200);
}
END_TEST

START_TEST(test_the_table_grows_and_empties)
{
	static struct kvfs_node *nodes[5000];
	char name[16];

	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		nodes[i] = model_mkfile(&m, m.root, name, test_str(""));
	}
	ck_assert_uint_eq(count_nodes(), 5000);
	for (unsigned i = 0; i < 5000; i++)
		ck_assert_ptr_eq(kvfs_node_by_ino(m.fs, kvfs_node_ino(nodes[i])), nodes[i]);
	for (unsigned i = 0; i < 5000; i++)
		model_forget(&m, nodes[i]);
	ck_assert_uint_eq(count_nodes(), 0);
}
END_TEST

START_TEST(test_a_node_keeps_its_parents)
{
	struct kvfs_node *d = m.root, *next;
	struct kv_buf path = {0};

	for (unsigned i = 0; i < 50; i++) {
		next = model_mkdir(&m, d, "d");
		model_forget(&m, d);
		d = next;
	}
	ck_assert_uint_eq(count_nodes(), 50);
	ok(kvfs_node_path(m.fs, d, &path));
	ck_assert_uint_eq(path.len, 100);
	ck_assert_mem_eq(path.data, "/d/d/d", 6);
	model_forget(&m, d);
	ck_assert_uint_eq(count_nodes(), 0);
	kv_buf_free(&path);
}
END_TEST

START_TEST(test_paths_are_escaped_and_tell_what_is_gone)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "a\nb\\", test_str(""));
	struct kv_buf path = {0};

	ok(kvfs_unlink(m.fs, m.root, "a\nb\\"));
	ok(kvfs_node_path(m.fs, f, &path));
	ck_assert(slice_equal(kv_buf_slice(&path), test_str("/a\\x0ab\\x5c (deleted)")));
	kv_buf_free(&path);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_too_many_forgets_do_no_harm)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));

	kvfs_node_forget(m.fs, f, 1000);
	kvfs_node_forget(m.fs, m.root, 1000);
	ck_assert_uint_eq(count_nodes(), 0);
	ck_assert(model_exists(&m, m.root, "f"));
}
END_TEST

START_TEST(test_nodes_left_at_close_are_freed)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));

	ok(kvfs_unlink(m.fs, m.root, "f"));
	(void)f;
	(void)model_mkdir(&m, m.root, "d");
	model_reopen(&m);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_expect_list(&m, m.root, ". .. d ");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_node_is_small,
		test_the_table_grows_and_empties,
		test_a_node_keeps_its_parents,
		test_paths_are_escaped_and_tell_what_is_gone,
		test_too_many_forgets_do_no_harm,
		test_nodes_left_at_close_are_freed,
	};

	return test_suite_run_with("node", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
