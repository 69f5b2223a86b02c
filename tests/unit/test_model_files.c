/* SPDX-License-Identifier: MIT */
/*
 * Contents, attributes, times and listings through the interface.
 */
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/support/model_fixture.h"

static struct model_fixture m;
static uint8_t big[400000];

static void setup(void)
{
	model_make(&m);
	memset(big, 'b', sizeof(big));
}

static void teardown(void)
{
	if (m.fs)
		model_check(&m);
	model_free(&m);
}

static void resize(struct kvfs_node *f, uint64_t size)
{
	struct kvfs_attr v = {.size = size}, a;

	ok(kvfs_setattr(m.fs, f, KVFS_SET_SIZE, &v, &a));
	ck_assert_uint_eq(a.size, size);
}

/* ---- contents ---- */

START_TEST(test_small_contents_are_one_key)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, MODEL_INLINE_MAX));

	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	ok(kvfs_write(m.fs, f, MODEL_INLINE_MAX, test_str("x"), false));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 1);
	ck_assert_uint_eq(model_attr(&m, f).size, MODEL_INLINE_MAX + 1);
	resize(f, 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	ok(kvfs_write(m.fs, f, 0, test_str("small again"), false));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	model_expect(&m, f, test_str("small again"));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_what_was_cut_off_does_not_come_back)
{
	static const uint64_t sizes[] = {10, 1000, 3000, 70000, 200000};
	static const uint8_t zeros[400000];
	struct kv_buf got = {0};

	for (size_t i = 0; i < KV_ARRAY_COUNT(sizes); i++) {
		struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 300000));

		resize(f, sizes[i]);
		resize(f, 300000);
		ok(kvfs_read(m.fs, f, 0, 400000, &got));
		ck_assert_uint_eq(got.len, 300000);
		ck_assert_mem_eq(got.data, big, sizes[i]);
		ck_assert_mem_eq(got.data + sizes[i], zeros, 300000 - sizes[i]);
		model_forget(&m, f);
		ok(kvfs_unlink(m.fs, m.root, "f"));
	}
	kv_buf_free(&got);
}
END_TEST

START_TEST(test_sizes_and_kinds_that_cannot_be_are_refused)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *p;
	struct kvfs_attr v = {.size = KVFS_FILE_MAX + 1};
	struct kv_buf got = {0};
	uint64_t at;

	fails(kvfs_setattr(m.fs, f, KVFS_SET_SIZE, &v, NULL), -EFBIG);
	fails(kvfs_write(m.fs, f, KVFS_FILE_MAX, test_str("x"), false), -EFBIG);
	fails(kvfs_fallocate(m.fs, f, 0, KVFS_FILE_MAX, 1), -EFBIG);
	fails(kvfs_fallocate(m.fs, f, 0, 0, 0), -EINVAL);
	fails(kvfs_fallocate(m.fs, f, FALLOC_FL_COLLAPSE_RANGE, 0, 1), -EOPNOTSUPP);
	fails(kvfs_fallocate(m.fs, f, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	fails(kvfs_lseek(m.fs, f, 5, SEEK_DATA, &at), -ENXIO);
	fails(kvfs_lseek(m.fs, f, 0, SEEK_SET, &at), -EINVAL);
	fails(kvfs_setattr(m.fs, m.root, KVFS_SET_SIZE, &v, NULL), -EISDIR);
	fails(kvfs_read(m.fs, m.root, 0, 1, &got), -EISDIR);
	fails(kvfs_write(m.fs, m.root, 0, test_str("x"), false), -EISDIR);
	ok(kvfs_mknod(m.fs, m.root, "p", S_IFIFO | 0600, 0, &model_owner, &p, NULL));
	fails(kvfs_setattr(m.fs, p, KVFS_SET_SIZE, &v, NULL), -EINVAL);
	/* The largest file can be had: it is one hole. */
	resize(f, KVFS_FILE_MAX);
	ok(kvfs_write(m.fs, f, KVFS_FILE_MAX - 5, test_str("end"), false));
	ok(kvfs_read(m.fs, f, KVFS_FILE_MAX - 5, 100, &got));
	ck_assert_uint_eq(got.len, 5);
	ok(kvfs_lseek(m.fs, f, 1 << 20, SEEK_DATA, &at));
	ck_assert_uint_eq(at, KVFS_FILE_MAX - 4096);
	resize(f, 1);
	kv_buf_free(&got);
	model_forget(&m, p);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_holes_are_found_and_made)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("start"));
	uint64_t at;

	ok(kvfs_write(m.fs, f, 300000, test_str("end"), false));
	ok(kvfs_lseek(m.fs, f, 0, SEEK_HOLE, &at));
	ck_assert_uint_eq(at, 4096);
	ok(kvfs_lseek(m.fs, f, at, SEEK_DATA, &at));
	ck_assert_uint_eq(at, 300000 / 4096 * 4096);
	ok(kvfs_lseek(m.fs, f, at, SEEK_HOLE, &at));
	ck_assert_uint_eq(at, 300003);
	ck_assert_uint_eq(model_attr(&m, f).blocks, 2 * 128);
	ok(kvfs_fallocate(m.fs, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1U << 30));
	ck_assert_uint_eq(model_attr(&m, f).blocks, 0);
	ck_assert_uint_eq(model_attr(&m, f).size, 300003);
	fails(kvfs_lseek(m.fs, f, 0, SEEK_DATA, &at), -ENXIO);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_allocation_asks_for_room)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));

	ok(kvfs_fallocate(m.fs, f, 0, 0, 100000));
	ck_assert_uint_eq(model_attr(&m, f).size, 100000);
	ok(kvfs_fallocate(m.fs, f, FALLOC_FL_KEEP_SIZE, 0, 200000));
	ck_assert_uint_eq(model_attr(&m, f).size, 100000);
	fails(kvfs_fallocate(m.fs, f, 0, 0, UINT64_C(1) << 61), -KV_E_NOSPACE);
	/* Holes within the size have to be filled, too; what is there has not. */
	resize(f, UINT64_C(1) << 61);
	fails(kvfs_fallocate(m.fs, f, 0, 0, UINT64_C(1) << 61), -KV_E_NOSPACE);
	fails(kvfs_fallocate(m.fs, f, FALLOC_FL_KEEP_SIZE, 5, UINT64_C(1) << 60), -KV_E_NOSPACE);
	ok(kvfs_fallocate(m.fs, f, 0, UINT64_C(1) << 60, 100000));
	ck_assert_uint_eq(model_attr(&m, f).size, UINT64_C(1) << 61);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_copies_keep_holes)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 100000));
	struct kvfs_node *g = model_mkfile(&m, m.root, "g", test_str(""));
	uint64_t copied, done = 0;

	ok(kvfs_write(m.fs, f, 900000, kv_slice_of(big, 100000), false));
	while (done < 1000000) {
		ok(kvfs_copy_range(m.fs, f, done, g, done, UINT64_MAX >> 2, &copied));
		ck_assert_uint_gt(copied, 0);
		done += copied;
	}
	ck_assert_uint_eq(model_attr(&m, g).size, 1000000);
	ck_assert_uint_eq(model_attr(&m, g).blocks, model_attr(&m, f).blocks);
	ok(kvfs_copy_range(m.fs, f, 2000000, g, 0, 10, &copied));
	ck_assert_uint_eq(copied, 0);
	fails(kvfs_copy_range(m.fs, f, 0, f, 10, 100, &copied), -EINVAL);
	model_forget(&m, f);
	model_forget(&m, g);
}
END_TEST

START_TEST(test_damage_is_an_error_and_never_zeros)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 100000));
	struct kv_buf got = {0};
	struct model_key key;

	key.keyspace = MODEL_DATA;
	key.len = MODEL_DATA_KEY_LEN;
	be64_put(key.b, kvfs_node_ino(f));
	be64_put(key.b + 8, 1);
	be32_put(key.b + 16, 7);
	ok(kv_put(kvfs_db(m.fs), MODEL_DATA, model_key_slice(&key), test_str("no patch"), 0));
	fails(kvfs_read(m.fs, f, 0, 100000, &got), -KV_E_CORRUPT);
	ok(kvfs_read(m.fs, f, 0, 1000, &got)); /* another chunk */
	ok(kv_delete(kvfs_db(m.fs), MODEL_DATA, model_key_slice(&key), 0));
	kv_buf_free(&got);
	model_forget(&m, f);
}
END_TEST

/* ---- attributes ---- */

START_TEST(test_setattr_changes_what_it_is_asked_to)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kvfs_attr v = {.mode = S_IFDIR | 04751,
			      .uid = 5,
			      .gid = 6,
			      .atime = {1, 2},
			      .mtime = {-3, 4},
			      .ctime = {5, 6}},
			 a;

	ok(kvfs_setattr(m.fs, f, KVFS_SET_MODE | KVFS_SET_UID, &v, &a));
	ck_assert_uint_eq(a.mode, S_IFREG | 04751);
	ck_assert_uint_eq(a.uid, 5);
	ck_assert_uint_eq(a.gid, 1000);
	ck_assert_int_gt(a.ctime.sec, 1000);
	ok(kvfs_setattr(m.fs, f, KVFS_SET_GID | KVFS_SET_ATIME | KVFS_SET_MTIME | KVFS_SET_CTIME,
			&v, &a));
	model_forget(&m, f);
	model_reopen(&m);
	f = model_lookup(&m, m.root, "f");
	a = model_attr(&m, f);
	ck_assert_uint_eq(a.gid, 6);
	ck_assert_int_eq(a.atime.sec, 1);
	ck_assert_int_eq(a.mtime.sec, -3);
	ck_assert_uint_eq(a.mtime.nsec, 4);
	ck_assert_int_eq(a.ctime.sec, 5);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_extended_attributes_of_all_sizes)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kv_buf got = {0};
	char long_name[300];

	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = 0;
	fails(kvfs_setxattr(m.fs, f, "", test_str("v"), 0), -ERANGE);
	fails(kvfs_setxattr(m.fs, f, long_name, test_str("v"), 0), -ERANGE);
	fails(kvfs_setxattr(m.fs, f, "user.x", kv_slice_of(big, 65537), 0), -E2BIG);
	fails(kvfs_setxattr(m.fs, f, "user.x", test_str("v"), XATTR_REPLACE), -ENODATA);
	fails(kvfs_getxattr(m.fs, f, "user.x", &got), -ENODATA);
	ok(kvfs_setxattr(m.fs, f, "user.x", kv_slice_of(big, 65536), XATTR_CREATE));
	fails(kvfs_setxattr(m.fs, f, "user.x", test_str("v"), XATTR_CREATE), -EEXIST);
	ok(kvfs_setxattr(m.fs, f, "user.a", kv_slice_of(big, 1000), 0));
	ok(kvfs_setxattr(m.fs, f, "user.b", kv_slice_of(big, 1000), 0));
	ok(kvfs_setxattr(m.fs, f, "user.c", kv_slice_of(big, 1000), 0)); /* the record is full */
	ck_assert_uint_eq(model_count_keys(&m, MODEL_XATTRS), 2);
	ok(kvfs_listxattr(m.fs, f, &got));
	ck_assert_mem_eq(got.data, "user.a\0user.b\0user.c\0user.x", 28);
	ok(kvfs_setxattr(m.fs, f, "user.x", test_str("small"), 0)); /* fits beside them */
	ck_assert_uint_eq(model_count_keys(&m, MODEL_XATTRS), 1);
	ok(kvfs_removexattr(m.fs, f, "user.c"));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_XATTRS), 0);
	ok(kvfs_getxattr(m.fs, f, "user.x", &got));
	ck_assert(slice_equal(kv_buf_slice(&got), test_str("small")));
	fails(kvfs_removexattr(m.fs, f, "user.c"), -ENODATA);
	kv_buf_free(&got);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_the_list_of_attributes_has_a_limit)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kv_buf got = {0};
	char name[256];
	unsigned count = 0;
	int err;

	memset(name, 'n', sizeof(name));
	name[255] = 0;
	do {
		int len = snprintf(name, sizeof(name), "user.%u", count++);

		name[len] = 'n';
		err = kvfs_setxattr(m.fs, f, name, kv_slice_of(big, 2000), 0);
	} while (!err && count < 1000);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(count, 250);
	ok(kvfs_listxattr(m.fs, f, &got));
	ck_assert_uint_le(got.len, KVFS_XATTR_LIST_MAX);
	kv_buf_free(&got);
	model_forget(&m, f);
}
END_TEST

/* ---- times ---- */

static void remake(unsigned flags, enum kvfs_atime atime)
{
	model_free(&m);
	model_make_with(&m, flags, atime);
}

START_TEST(test_access_times_follow_the_option)
{
	static const enum kvfs_atime modes[] = {KVFS_NOATIME, KVFS_RELATIME, KVFS_STRICTATIME};
	struct kvfs_attr old = {.atime = {100, 0}, .mtime = {50, 0}, .ctime = {50, 0}};
	struct kv_buf got = {0};

	for (size_t i = 0; i < KV_ARRAY_COUNT(modes); i++) {
		struct kvfs_node *f;
		struct kvfs_attr a;

		remake(0, modes[i]);
		f = model_mkfile(&m, m.root, "f", test_str("x"));
		ok(kvfs_setattr(m.fs, f, KVFS_SET_ATIME | KVFS_SET_MTIME | KVFS_SET_CTIME, &old,
				NULL));
		ok(kvfs_read(m.fs, f, 0, 1, &got)); /* older than a day */
		a = model_attr(&m, f);
		ck_assert_int_eq(a.atime.sec == 100, modes[i] == KVFS_NOATIME);
		ck_assert_int_eq(a.ctime.sec, 50);
		ok(kvfs_read(m.fs, f, 0, 1, &got));
		ck_assert_int_eq(model_attr(&m, f).atime.nsec == a.atime.nsec,
				 modes[i] != KVFS_STRICTATIME);
		model_forget(&m, f);
	}
	kv_buf_free(&got);
}
END_TEST

START_TEST(test_lazy_times_are_seen_at_once_and_written_at_forget)
{
	struct kvfs_node *f;
	struct kvfs_attr a, old = {.mtime = {50, 0}, .ctime = {50, 0}};
	struct kv_stats s0, s1, s2;

	remake(KVFS_LAZYTIME, KVFS_RELATIME);
	f = model_mkfile(&m, m.root, "f", kv_slice_of(big, 100000));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MTIME | KVFS_SET_CTIME, &old, NULL));
	kv_get_stats(kvfs_db(m.fs), &s0);
	ok(kvfs_write(m.fs, f, 10, test_str("over"), false));
	kv_get_stats(kvfs_db(m.fs), &s1);
	ck_assert_uint_eq(s1.commits, s0.commits + 1);
	a = model_attr(&m, f);
	ck_assert_int_gt(a.mtime.sec, 50);
	ck_assert_int_gt(a.ctime.sec, 50);
	ok(kvfs_fsync(m.fs, f, true));
	kv_get_stats(kvfs_db(m.fs), &s2);
	ck_assert_uint_eq(s2.commits, s1.commits);
	model_forget(&m, f);
	kv_get_stats(kvfs_db(m.fs), &s2);
	ck_assert_uint_eq(s2.commits, s1.commits + 1);
	model_reopen(&m);
	f = model_lookup(&m, m.root, "f");
	ck_assert_uint_eq(model_attr(&m, f).mtime.nsec, a.mtime.nsec);
	model_forget(&m, f);
}
END_TEST

START_TEST(test_lazy_times_of_directories_are_written_at_close)
{
	struct kvfs_attr old = {.mtime = {50, 0}, .ctime = {50, 0}};

	remake(KVFS_LAZYTIME, KVFS_RELATIME);
	ok(kvfs_setattr(m.fs, m.root, KVFS_SET_MTIME | KVFS_SET_CTIME, &old, NULL));
	model_forget(&m, model_mkfile(&m, m.root, "f", test_str("x")));
	ck_assert_int_gt(model_attr(&m, m.root).mtime.sec, 50);
	model_reopen(&m);
	ck_assert_int_gt(model_attr(&m, m.root).mtime.sec, 50);
}
END_TEST

/* ---- listings ---- */

START_TEST(test_a_listing_can_stop_and_go_on_anywhere)
{
	struct model_listing all = {0};
	struct kvfs_dir *dir;
	char name[16];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%02u", i);
		ok(kvfs_mknod(m.fs, m.root, name, S_IFREG, 0, &model_owner, NULL, NULL));
	}
	ok(kvfs_dir_open(m.fs, m.root, &dir));
	do {
		unsigned before = all.count;

		all.stop_after = all.count + 7;
		ok(kvfs_dir_read(dir, all.cookie, false, model_list_emit, &all));
		if (all.count == before)
			break;
	} while (true);
	ck_assert_uint_eq(all.count, 102);
	ck_assert_uint_eq(all.text.len, 2 + 3 + 100 * 4);
	/* Back to the middle. */
	buf_clear(&all.text);
	all.stop_after = all.count = 0;
	ok(kvfs_dir_read(dir, 99, false, model_list_emit, &all));
	ck_assert_uint_eq(all.count, 3);
	ck_assert_mem_eq(all.text.data, "f97 f98 f99 ", 12);
	fails(kvfs_dir_read(dir, 103, false, model_list_emit, &all), -EINVAL);
	kvfs_dir_close(dir);
	kv_buf_free(&all.text);
}
END_TEST

START_TEST(test_cookies_outlive_changes)
{
	struct model_listing l = {.stop_after = 5};
	struct kvfs_dir *dir;

	for (char c = 'b'; c <= 'k'; c += 2) {
		char name[2] = {c, 0};

		ok(kvfs_mknod(m.fs, m.root, name, S_IFREG, 0, &model_owner, NULL, NULL));
	}
	ok(kvfs_dir_open(m.fs, m.root, &dir));
	ok(kvfs_dir_read(dir, 0, false, model_list_emit, &l)); /* . .. b d f */
	ok(kvfs_unlink(m.fs, m.root, "d"));
	ok(kvfs_unlink(m.fs, m.root, "f"));
	ok(kvfs_mknod(m.fs, m.root, "c", S_IFREG, 0, &model_owner, NULL, NULL));
	ok(kvfs_mknod(m.fs, m.root, "i", S_IFREG, 0, &model_owner, NULL, NULL));
	l.stop_after = 0;
	ok(kvfs_dir_read(dir, l.cookie, false, model_list_emit, &l));
	ck_assert_mem_eq(l.text.data, ". .. b d f h i j ", l.text.len);
	/* From an old cookie, names keep their cookies and come once. */
	buf_clear(&l.text);
	ok(kvfs_dir_read(dir, 2, false, model_list_emit, &l));
	ck_assert_mem_eq(l.text.data, "b h i j ", l.text.len);
	ck_assert_uint_eq(l.cookie, 8);
	buf_clear(&l.text);
	ok(kvfs_dir_read(dir, 0, false, model_list_emit, &l));
	ck_assert_mem_eq(l.text.data, ". .. b c h i j ", l.text.len);
	kvfs_dir_close(dir);
	kv_buf_free(&l.text);
}
END_TEST

struct plus {
	struct kvfs_node *nodes[10];
	unsigned count;
	uint64_t bytes;
};

static int plus_emit(void *ctx, const struct kvfs_dirent *e)
{
	struct plus *p = ctx;

	if (!e->node)
		return 0;
	if (p->count == 3)
		return 1;
	ck_assert_uint_eq(e->attr->ino, e->ino);
	ck_assert_uint_eq(kvfs_node_ino(e->node), e->ino);
	p->bytes += e->attr->size;
	p->nodes[p->count++] = e->node;
	return 0;
}

START_TEST(test_plus_gives_nodes_and_keeps_none_that_was_refused)
{
	struct plus p = {0};
	struct kvfs_node *f, *l;
	struct kvfs_dir *dir;
	size_t nodes = 0;

	for (char c = 'a'; c <= 'd'; c++) {
		char name[2] = {c, 0};

		model_forget(&m, model_mkfile(&m, m.root, name, test_str("four")));
	}
	f = model_lookup(&m, m.root, "a");
	ok(kvfs_link(m.fs, f, m.root, "aa", &l, NULL));
	kvfs_node_forget(m.fs, f, 2);
	ok(kvfs_dir_open(m.fs, m.root, &dir));
	ok(kvfs_dir_read(dir, 0, true, plus_emit, &p));
	ck_assert_uint_eq(p.count, 3);
	ck_assert_uint_eq(p.bytes, 12);
	ck_assert_ptr_eq(p.nodes[0], p.nodes[1]);
	for (unsigned i = 0; i < 3; i++)
		model_forget(&m, p.nodes[i]);
	kvfs_dir_close(dir);
	for (unsigned i = 0; i < MODEL_SHARDS; i++)
		nodes += m.fs->shards[i].count;
	ck_assert_uint_eq(nodes, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_small_contents_are_one_key,
		test_what_was_cut_off_does_not_come_back,
		test_sizes_and_kinds_that_cannot_be_are_refused,
		test_holes_are_found_and_made,
		test_allocation_asks_for_room,
		test_copies_keep_holes,
		test_damage_is_an_error_and_never_zeros,
		test_setattr_changes_what_it_is_asked_to,
		test_extended_attributes_of_all_sizes,
		test_the_list_of_attributes_has_a_limit,
		test_access_times_follow_the_option,
		test_lazy_times_are_seen_at_once_and_written_at_forget,
		test_lazy_times_of_directories_are_written_at_close,
		test_a_listing_can_stop_and_go_on_anywhere,
		test_cookies_outlive_changes,
		test_plus_gives_nodes_and_keeps_none_that_was_refused,
	};

	return test_suite_run_with("model_files", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
