/* SPDX-License-Identifier: MIT */
/* Open files as transactions: what others see, and when; sizes, ranges, appends, names, failures.
 */
#include "fusefs/model/stage.h"

#include <linux/falloc.h>
#include <unistd.h>

#include "kvcore/base/hash.h"
#include "tests/support/model_fixture.h"

static struct model_fixture m;
static uint8_t big[400000];

static void setup(void)
{
	model_make(&m);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(hash_u64(i / 8) >> i % 8 * 8);
}

static void teardown(void)
{
	model_free(&m);
}

static struct kvfs_stage *stage_of(struct kvfs_node *node)
{
	struct kvfs_stage *s;

	ok(kvfs_stage_open(m.fs, node, &s));
	return s;
}

static void sees(struct kvfs_stage *s, struct kv_slice want)
{
	struct kv_buf data = {0};
	struct kvfs_attr attr;

	ok(kvfs_stage_read(s, 0, want.len + 10, &data));
	ck_assert(slice_equal(kv_buf_slice(&data), want));
	ok(kvfs_stage_attr(s, &attr));
	ck_assert_uint_eq(attr.size, want.len);
	kv_buf_free(&data);
}

static void expect_sound(void)
{
	struct kvfs_check_options o = {.found = model_print_problem, .env = sim_env_os(m.env)};
	struct kvfs_check_result result;

	model_close(&m);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	model_open(&m);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
}

START_TEST(test_others_see_the_old_contents_until_the_commit)
{
	static const size_t lens[] = {5, 3000, 70000, sizeof(big)};
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("old"));
	struct kv_slice was = test_str("old");

	for (size_t i = 0; i < KV_ARRAY_COUNT(lens); i++) {
		struct kvfs_stage *s = stage_of(f);
		struct kv_slice want = kv_slice_of(big, lens[i]);

		sees(s, was);
		ok(kvfs_stage_set_size(s, 0));
		sees(s, kv_slice_of(NULL, 0));
		ok(kvfs_stage_write(s, 0, want, false));
		sees(s, want);
		model_expect(&m, f, was);
		ok(kvfs_stage_commit(s, false));
		model_expect(&m, f, want);
		sees(s, want);
		kvfs_stage_close(s);
		was = want;
	}
	ok(kvfs_write(m.fs, f, 10, test_str("in place"), false));
	memcpy(big + 10, "in place", 8);
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	model_forget(&m, f);
	expect_sound();
}
END_TEST

START_TEST(test_what_is_not_committed_leaves_nothing)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 100000));
	uint64_t chunks = model_count_keys(&m, MODEL_DATA);
	struct kvfs_stage *s = stage_of(f);

	ok(kvfs_stage_write(s, 50, kv_slice_of(big, 200000), false));
	kvfs_stage_close(s);
	model_expect(&m, f, kv_slice_of(big, 100000));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), chunks);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	kvfs_stage_close(NULL);
	model_forget(&m, f);
	expect_sound();
}
END_TEST

/* Random changes of one file, against an array. */
START_TEST(test_changes_are_those_of_an_array)
{
	static uint8_t then[sizeof(big)], now[sizeof(big)];
	struct test_rng rng = test_rng_seeded(__func__);
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 150000));
	struct kvfs_stage *s = stage_of(f);
	size_t size = 150000, old = size;

	memcpy(then, big, size);
	memcpy(now, big, size);
	for (unsigned i = 0; i < 400; i++) {
		size_t off = test_rng_below(&rng, sizeof(big) - 1);
		size_t len = 1 + test_rng_below(&rng, test_rng_below(&rng, 2) ? 100 : 100000);
		size_t end;

		len = min_u64(len, sizeof(big) - off);
		switch (test_rng_below(&rng, 8)) {
		case 0:
			ok(kvfs_stage_set_size(s, off));
			if (off > size)
				memset(now + size, 0, off - size);
			size = off;
			break;
		case 1:
			ok(kvfs_stage_fallocate(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
						len));
			end = min_u64(off + len, size);
			if (off < end)
				memset(now + off, 0, end - off);
			break;
		case 2:
			ok(kvfs_stage_commit(s, false));
			memcpy(then, now, size);
			old = size;
			break;
		case 3:
			off = size;
			len = min_u64(len, sizeof(big) - off);
			/* fallthrough */
		default:
			if (off > size)
				memset(now + size, 0, off - size);
			ok(kvfs_stage_write(s, off, kv_slice_of(big + i, min_u64(len, 300000)),
					    off == size));
			len = min_u64(len, 300000);
			memcpy(now + off, big + i, len);
			size = max_u64(size, off + len);
			break;
		}
		model_expect(&m, f, kv_slice_of(then, old));
		sees(s, kv_slice_of(now, size));
	}
	ok(kvfs_stage_commit(s, false));
	model_expect(&m, f, kv_slice_of(now, size));
	kvfs_stage_close(s);
	model_forget(&m, f);
	expect_sound();
}
END_TEST

START_TEST(test_the_last_of_two_replacements_wins_whole)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("old"));
	struct kvfs_stage *a = stage_of(f), *b = stage_of(f);

	ok(kvfs_stage_set_size(a, 0));
	ok(kvfs_stage_set_size(b, 0));
	ok(kvfs_stage_write(a, 0, test_str("a long one"), false));
	ok(kvfs_stage_write(b, 0, test_str("b"), false));
	ok(kvfs_stage_commit(a, false));
	model_expect(&m, f, test_str("a long one"));
	ok(kvfs_stage_commit(b, false));
	model_expect(&m, f, test_str("b"));
	kvfs_stage_close(a);
	kvfs_stage_close(b);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_appends_are_never_lost)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("0"));
	struct kvfs_stage *a = stage_of(f), *b = stage_of(f);

	ok(kvfs_stage_write(a, 0, test_str("a"), true));
	ok(kvfs_stage_write(b, 0, test_str("b"), true));
	ok(kvfs_stage_write(a, 0, test_str("A"), true));
	sees(a, test_str("0aA"));
	ok(kvfs_stage_commit(b, false));
	ok(kvfs_stage_commit(a, false));
	model_expect(&m, f, test_str("0baA"));
	kvfs_stage_close(a);
	ok(kvfs_stage_write(b, 0, test_str("long"), true));
	a = stage_of(f);
	ok(kvfs_stage_set_size(a, 0)); /* the end comes nearer */
	ok(kvfs_stage_commit(a, false));
	ok(kvfs_stage_commit(b, false));
	model_expect(&m, f, test_str("long"));
	kvfs_stage_close(a);
	kvfs_stage_close(b);
	model_forget(&m, f);
	expect_sound();
}
END_TEST

START_TEST(test_a_new_file_appears_with_its_contents)
{
	struct kvfs_node *f, *g;
	struct kvfs_attr attr;
	struct kvfs_stage *s;

	ok(kvfs_stage_create(m.fs, m.root, "f", 0644, &model_owner, &f, &attr, &s));
	ck_assert(attr.unborn && attr.staged && attr.nlink == 1);
	ok(kvfs_stage_write(s, 0, kv_slice_of(big, 100000), false));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_NAMES), 0);
	/* Who makes it finds it. */
	ok(kvfs_lookup(m.fs, m.root, "f", &g, &attr));
	ck_assert(g == f && attr.unborn && attr.size == 0);
	model_forget(&m, g);
	ok(kvfs_stage_commit(s, false));
	ok(kvfs_getattr(m.fs, f, &attr));
	ck_assert(!attr.unborn && attr.staged && attr.size == 100000);
	kvfs_stage_close(s);
	ok(kvfs_getattr(m.fs, f, &attr));
	ck_assert(!attr.staged);
	model_forget(&m, f);
	/* One that is given up was never there. */
	ok(kvfs_stage_create(m.fs, m.root, "g", 0644, &model_owner, &g, &attr, &s));
	ok(kvfs_stage_write(s, 0, test_str("half"), false));
	kvfs_stage_close(s);
	model_forget(&m, g);
	fails(kvfs_lookup(m.fs, m.root, "g", &g, NULL), -ENOENT);
	expect_sound();
	f = model_lookup(&m, m.root, "f");
	model_expect(&m, f, kv_slice_of(big, 100000));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_names_that_move_take_along_what_is_staged)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *f, *g;
	struct kvfs_attr attr;
	struct kvfs_stage *s;

	ok(kvfs_stage_create(m.fs, d, "tmp", 0644, &model_owner, &f, &attr, &s));
	ok(kvfs_stage_write(s, 0, test_str("new"), false));
	fails(kvfs_rmdir(m.fs, m.root, "d"), -ENOTEMPTY);
	ok(kvfs_rename(m.fs, d, "tmp", m.root, "f", 0));
	model_expect(&m, f, test_str("new"));
	ok(kvfs_stage_write(s, 3, test_str("er"), false));
	ok(kvfs_link(m.fs, f, d, "g", &g, NULL));
	model_expect(&m, f, test_str("newer"));
	model_forget(&m, g);
	ok(kvfs_stage_write(s, 0, test_str("N"), false));
	ok(kvfs_unlink(m.fs, d, "g"));
	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_stage_commit(s, false));
	model_expect(&m, f, test_str("Newer"));
	kvfs_stage_close(s);
	model_forget(&m, f);
	ok(kvfs_stage_create(m.fs, d, "x", 0644, &model_owner, &f, &attr, &s));
	fails(kvfs_mknod(m.fs, d, "x", S_IFREG | 0644, 0, &model_owner, NULL, NULL), -EEXIST);
	kvfs_stage_close(s);
	model_forget(&m, f);
	model_forget(&m, d);
	expect_sound();
}
END_TEST

START_TEST(test_times_that_were_set_stay)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("old"));
	struct kvfs_attr attr, set = {.mtime = {1234, 5}};
	struct kvfs_stage *s = stage_of(f);

	ok(kvfs_stage_write(s, 0, test_str("x"), false));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MTIME, &set, &attr));
	ck_assert(attr.staged);
	ok(kvfs_stage_commit(s, false));
	ok(kvfs_getattr(m.fs, f, &attr));
	ck_assert_int_eq(attr.mtime.sec, 1234);
	ok(kvfs_stage_write(s, 0, test_str("y"), false));
	ok(kvfs_stage_commit(s, false));
	ok(kvfs_getattr(m.fs, f, &attr));
	ck_assert_int_ne(attr.mtime.sec, 1234);
	kvfs_stage_close(s);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_a_failed_change_spoils_the_whole)
{
	struct kvfs_attr guard = {.flags = KVFS_APPEND};
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("old"));
	struct kvfs_stage *s = stage_of(f);

	ok(kvfs_stage_write(s, 0, test_str("part"), false));
	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_stage_write(s, 4, test_str("more"), false), -KV_E_READONLY);
	ok(kvfs_set_readonly(m.fs, false));
	s->failed = -KV_E_NOSPACE; /* as a full volume leaves it */
	fails(kvfs_stage_write(s, 4, test_str("more"), false), -KV_E_NOSPACE);
	fails(kvfs_stage_commit(s, false), -KV_E_NOSPACE);
	model_expect(&m, f, test_str("old"));
	ok(kvfs_stage_set_size(s, 0));
	ok(kvfs_stage_write(s, 0, test_str("all"), false));
	ok(kvfs_stage_commit(s, false));
	model_expect(&m, f, test_str("all"));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_FLAGS, &guard, NULL));
	fails(kvfs_stage_write(s, 0, test_str("x"), false), -EPERM);
	fails(kvfs_stage_set_size(s, 0), -EPERM);
	ok(kvfs_stage_write(s, 0, test_str("!"), true));
	ok(kvfs_stage_commit(s, false));
	model_expect(&m, f, test_str("all!"));
	kvfs_stage_close(s);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_the_nearest_directory_decides)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *e = model_mkdir(&m, d, "e"), *f;
	bool wanted = true;

	f = model_mkfile(&m, e, "f", test_str(""));
	ok(kvfs_stage_wanted(m.fs, f, &wanted));
	ck_assert(!wanted);
	ok(kvfs_setxattr(m.fs, d, KVFS_STAGE_XATTR, test_str("close"), 0));
	ok(kvfs_stage_wanted(m.fs, f, &wanted));
	ck_assert(wanted);
	ok(kvfs_setxattr(m.fs, e, KVFS_STAGE_XATTR, test_str("write"), 0));
	ok(kvfs_stage_wanted(m.fs, f, &wanted));
	ck_assert(!wanted);
	ok(kvfs_stage_wanted(m.fs, d, &wanted));
	ck_assert(wanted);
	model_forget(&m, f);
	model_forget(&m, e);
	model_forget(&m, d);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_others_see_the_old_contents_until_the_commit,
		test_what_is_not_committed_leaves_nothing,
		test_changes_are_those_of_an_array,
		test_the_last_of_two_replacements_wins_whole,
		test_appends_are_never_lost,
		test_a_new_file_appears_with_its_contents,
		test_names_that_move_take_along_what_is_staged,
		test_times_that_were_set_stay,
		test_a_failed_change_spoils_the_whole,
		test_the_nearest_directory_decides,
	};

	return test_suite_run_with("stage", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
