/* SPDX-License-Identifier: MIT */
/* Bulk load of a host's tree, and stopping in the middle of it. */
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/support/model_fixture.h"

static struct model_fixture m;
static char top[] = "/tmp/kvfs-import-XXXXXX";
static uint8_t big[200000];

static const char *at(const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	return path;
}

static void host_file(const char *name, const void *data, size_t len, off_t off)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, data, len, off), (ssize_t)len);
	close(fd);
}

static void setup(void)
{
	memcpy(top + strlen(top) - 6, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(top));
	memset(big, 'b', sizeof(big));
	model_make(&m);
}

static void teardown(void)
{
	char command[600];

	if (m.fs)
		model_check(&m);
	model_free(&m);
	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(test_a_tree_is_copied_with_everything)
{
	struct kvfs_node *d, *f, *g;
	struct kvfs_attr a;
	struct kv_buf got = {0};
	uint64_t hole;
	bool xattrs;

	ok(mkdir(at("dir"), 0750));
	ok(mkdir(at("dir/sub"), 0700));
	host_file("small", "content", 7, 0);
	host_file("dir/big", big, sizeof(big), 0);
	host_file("dir/sparse", "end", 3, 1 << 20);
	{
		char other[512];

		snprintf(other, sizeof(other), "%s", at("linked"));
		ok(link(at("small"), other));
	}
	ok(symlink("target", at("dir/sym")));
	ok(mkfifo(at("fifo"), 0600));
	xattrs = !setxattr(at("dir/big"), "user.test", big, 1500, 0);
	ok(kvfs_import(m.fs, top, NULL, NULL));

	model_expect_list(&m, m.root, ". .. dir fifo linked small ");
	d = model_lookup(&m, m.root, "dir");
	model_expect_list(&m, d, ". .. big sparse sub sym ");
	a = model_attr(&m, d);
	ck_assert_uint_eq(a.mode, S_IFDIR | 0750);
	ck_assert_uint_eq(a.nlink, 3);
	f = model_lookup(&m, d, "big");
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	if (xattrs) {
		ok(kvfs_getxattr(m.fs, f, "user.test", &got));
		ck_assert_uint_eq(got.len, 1500);
	}
	model_forget(&m, f);
	f = model_lookup(&m, d, "sparse");
	ck_assert_uint_eq(model_attr(&m, f).size, (1 << 20) + 3);
	ok(kvfs_lseek(m.fs, f, 0, SEEK_DATA, &hole));
	ck_assert_uint_gt(hole, 0);
	model_forget(&m, f);
	f = model_lookup(&m, d, "sym");
	ok(kvfs_readlink(m.fs, f, &got));
	ck_assert_mem_eq(got.data, "target", 6);
	model_forget(&m, f);
	f = model_lookup(&m, m.root, "small");
	g = model_lookup(&m, m.root, "linked");
	ck_assert_ptr_eq(f, g);
	ck_assert_uint_eq(model_attr(&m, f).nlink, 2);
	model_expect(&m, f, test_str("content"));
	kvfs_node_forget(m.fs, f, 2);
	model_forget(&m, d);
	kv_buf_free(&got);
}
END_TEST

START_TEST(test_what_stands_in_the_root_is_not_overwritten)
{
	struct kv_buf failed = {0};

	host_file("a", "host", 4, 0);
	host_file("b", "host", 4, 0);
	model_forget(&m, model_mkfile(&m, m.root, "b", test_str("mine")));
	fails(kvfs_import(m.fs, top, NULL, &failed), -EEXIST);
	ck_assert_mem_eq(failed.data, at("b"), failed.len);
	kv_buf_free(&failed);
	fails(kvfs_import(m.fs, at("none"), NULL, &failed), -ENOENT);
	ck_assert_mem_eq(failed.data, at("none"), failed.len);
	kv_buf_free(&failed);
}
END_TEST

static int stop_at_second(void *ctx, uint64_t done, uint64_t total)
{
	(void)done;
	(void)total;
	return ++*(unsigned *)ctx == 2;
}

START_TEST(test_an_interrupted_load_leaves_a_sound_tree)
{
	unsigned calls = 0;
	struct kv_progress p = {stop_at_second, &calls};
	char name[64];

	for (unsigned d = 0; d < 20; d++) {
		snprintf(name, sizeof(name), "d%02u", d);
		ok(mkdir(at(name), 0755));
		for (unsigned i = 0; i < 3; i++) {
			snprintf(name, sizeof(name), "d%02u/s%u", d, i);
			ok(mkdir(at(name), 0755));
			snprintf(name, sizeof(name), "d%02u/s%u/f", d, i);
			host_file(name, big, 100000, 0);
		}
	}
	fails(kvfs_import(m.fs, top, &p, NULL), -KV_E_INTERRUPTED);
	ck_assert_uint_eq(calls, 2);
	ck_assert(model_exists(&m, m.root, "d00"));
	ck_assert(!model_exists(&m, m.root, "d19"));
	/* teardown() finds no problem */
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_tree_is_copied_with_everything,
		test_what_stands_in_the_root_is_not_overwritten,
		test_an_interrupted_load_leaves_a_sound_tree,
	};

	return test_suite_run_with("model_import", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
