/* SPDX-License-Identifier: MIT */
/*
 * Power loss at every point of a clone: all of the copy is there or nothing, the source is as it
 * was, nobody's contents are lost, and the checker counts as many users as are noted. Then both
 * change what they share, and the power is cut at every point of that, too. Promise 1 of
 * docs/crash-consistency.md, for kvfs_clone() and for parting from contents.
 */
#include "tests/support/model_fixture.h"

#define FILES 6
#define LARGE (2 * MODEL_CHUNK + 77)

static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
				       SIM_CRASH_GARBAGE};

static struct model_fixture m;
static uint8_t large[LARGE];

static struct kv_slice content_of(unsigned i)
{
	memset(large, (int)i + 'a', sizeof(large));
	return kv_slice_of(large, i % 2 ? LARGE : 100);
}

static void make_source(void)
{
	struct kvfs_node *s = model_mkdir(&m, m.root, "s"), *n;
	char name[8];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		n = model_mkfile(&m, s, name, content_of(i));
		if (i == 1)
			ok(kvfs_link(m.fs, n, s, "linked", NULL, NULL));
		model_forget(&m, n);
	}
	model_forget(&m, s);
	ok(kvfs_sync(m.fs));
}

static int make_clone(void)
{
	return kvfs_clone(m.fs, NULL, test_str("s"), test_str("c"), NULL, NULL);
}

/* The power is cut @n operations from here, or not (0). */
static void begin(unsigned n)
{
	if (n)
		sim_env_cut(m.env, n);
}

/* What is left, checked and open again. */
static void crash(enum sim_crash mode)
{
	struct kvfs_check_options o = {.found = model_print_problem};
	struct kvfs_check_result result;

	sim_env_crash(m.env, mode);
	(void)!kvfs_close(m.fs);
	m.fs = NULL;
	sim_env_heal(m.env);
	o.env = sim_env_os(m.env);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	model_open(&m);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
}

static void expect_file(const char *dir, unsigned i, bool changed)
{
	struct kv_slice want = content_of(i);
	struct kv_buf got = {0};
	char key[16];

	snprintf(key, sizeof(key), "%s/f%u", dir, i);
	if (changed)
		large[0] = '!';
	ok(kvfs_key_get(m.fs, test_str(key), &got));
	ck_assert(slice_equal(kv_buf_slice(&got), want));
	kv_buf_free(&got);
}

static void expect_tree(const char *dir)
{
	struct kvfs_node *node = model_lookup(&m, m.root, dir), *a, *b;

	model_expect_list(&m, node, ". .. f0 f1 f2 f3 f4 f5 linked ");
	a = model_lookup(&m, node, "f1");
	b = model_lookup(&m, node, "linked");
	ck_assert_ptr_eq(a, b);
	model_forget(&m, a);
	model_forget(&m, b);
	model_forget(&m, node);
	for (unsigned i = 0; i < FILES; i++)
		expect_file(dir, i, false);
}

/* Returns whether the clone ended before the cut. */
static bool cut_clone(unsigned n, enum sim_crash mode, unsigned *there, unsigned *absent)
{
	bool is;
	int err;

	model_make(&m);
	make_source();
	begin(n);
	err = make_clone();
	crash(mode);
	expect_tree("s");
	is = model_exists(&m, m.root, "c");
	if (is)
		expect_tree("c");
	else
		ck_assert_int_ne(err, 0);
	*(is ? there : absent) += 1;
	/* Either way it can be done, or done again. */
	if (!is)
		ok(make_clone());
	expect_tree("c");
	model_check(&m);
	model_free(&m);
	return !err;
}

START_TEST(test_a_cut_leaves_all_of_a_clone_or_nothing)
{
	unsigned there = 0, absent = 0;
	bool ended = false;

	for (unsigned n = 1; !ended; n++)
		for (size_t i = 0; i < KV_ARRAY_COUNT(modes); i++)
			ended = cut_clone(n, modes[i], &there, &absent);
	ck_assert_uint_gt(there, 0);
	ck_assert_uint_gt(absent, 0);
}
END_TEST

static int change(const char *dir, unsigned i)
{
	struct kvfs_node *d = NULL, *n = NULL;
	char name[8];
	int err = kvfs_lookup(m.fs, m.root, dir, &d, NULL);

	snprintf(name, sizeof(name), "f%u", i);
	if (!err)
		err = kvfs_lookup(m.fs, d, name, &n, NULL);
	if (!err)
		err = kvfs_write(m.fs, n, 0, test_str("!"), true);
	if (n)
		kvfs_node_forget(m.fs, n, 1);
	if (d)
		kvfs_node_forget(m.fs, d, 1);
	return err;
}

/* The source parts from file 1, the copy from file 3, and file 5 is removed from both. */
static int part(unsigned *steps)
{
	int err = change("s", 1);

	*steps = 0;
	if (!err && ++*steps)
		err = change("c", 3);
	if (!err && ++*steps)
		err = kvfs_key_delete(m.fs, test_str("s/f5"));
	if (!err && ++*steps)
		err = kvfs_key_delete(m.fs, test_str("c/f5"));
	if (!err && ++*steps)
		err = kvfs_sync(m.fs);
	return err;
}

/* The first byte of a file, '!' once it was changed. */
static uint8_t first(const char *key)
{
	struct kv_buf got = {0};
	uint8_t c;

	ok(kvfs_key_get(m.fs, test_str(key), &got));
	c = got.data[0];
	kv_buf_free(&got);
	return c;
}

static bool cut_parting(unsigned n, enum sim_crash mode)
{
	struct kv_buf got = {0};
	unsigned steps;
	int err;

	model_make(&m);
	make_source();
	ok(make_clone());
	begin(n);
	err = part(&steps);
	crash(mode);
	expect_file("s", 1, steps > 0 || first("s/f1") == '!');
	expect_file("c", 1, false);
	expect_file("c", 3, steps > 1 || first("c/f3") == '!');
	expect_file("s", 3, false);
	if (!kvfs_key_get(m.fs, test_str("s/f5"), &got))
		expect_file("s", 5, false);
	if (!kvfs_key_get(m.fs, test_str("c/f5"), &got))
		expect_file("c", 5, false);
	kv_buf_free(&got);
	ok(change("c", 1));
	ok(change("s", 3));
	expect_file("s", 1, first("s/f1") == '!');
	model_check(&m);
	model_free(&m);
	return !err;
}

START_TEST(test_a_cut_while_files_part_loses_neither)
{
	bool ended = false;

	for (unsigned n = 1; !ended; n++)
		ended = cut_parting(n, modes[n % KV_ARRAY_COUNT(modes)]);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {test_a_cut_leaves_all_of_a_clone_or_nothing,
				      test_a_cut_while_files_part_loses_neither};

	return test_suite_run("crash_clone", tests, KV_ARRAY_COUNT(tests), 300);
}
