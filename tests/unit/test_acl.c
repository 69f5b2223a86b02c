/* SPDX-License-Identifier: MIT */
/*
 * Access control lists, and the flags of chattr(1): what they do to modes, to what is
 * made in a directory, and to what may be changed.
 */
#include "fusefs/model/acl.h"

#include <linux/falloc.h>
#include <sys/xattr.h>

#include "tests/support/model_fixture.h"

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct list {
	uint8_t b[256];
	size_t len;
};

static void list_start(struct list *l)
{
	static const uint8_t version[4] = {2, 0, 0, 0};

	memcpy(l->b, version, 4);
	l->len = 4;
}

static void list_add(struct list *l, unsigned tag, unsigned perm, uint32_t id)
{
	uint8_t e[8] = {(uint8_t)tag, 0, (uint8_t)perm, 0, (uint8_t)id, (uint8_t)(id >> 8), 0, 0};

	memcpy(l->b + l->len, e, 8);
	l->len += 8;
}

static struct kv_slice list_slice(const struct list *l)
{
	return kv_slice_of(l->b, l->len);
}

/* user::u, user:1000:named, group::g, mask::m, other::o */
static struct list list_of(unsigned u, unsigned named, unsigned g, unsigned m, unsigned o)
{
	struct list l;

	list_start(&l);
	list_add(&l, USER_OBJ, u, 0xffff);
	list_add(&l, USER, named, 1000);
	list_add(&l, GROUP_OBJ, g, 0xffff);
	list_add(&l, MASK, m, 0xffff);
	list_add(&l, OTHER, o, 0xffff);
	return l;
}

static struct list plain_of(unsigned u, unsigned g, unsigned o)
{
	struct list l;

	list_start(&l);
	list_add(&l, USER_OBJ, u, 0xffff);
	list_add(&l, GROUP_OBJ, g, 0xffff);
	list_add(&l, OTHER, o, 0xffff);
	return l;
}

START_TEST(test_only_lists_that_are_whole_are_taken)
{
	struct list l = list_of(7, 7, 5, 5, 0), bad;

	ok(acl_check(list_slice(&l)));
	for (size_t len = 0; len < l.len; len++)
		if (len != 0 && len != 4)
			ck_assert_int_ne(acl_check(kv_slice_of(l.b, len)), 0);
	bad = l;
	bad.b[0] = 1;
	fails(acl_check(list_slice(&bad)), -EOPNOTSUPP);
	bad = l;
	bad.b[6] = 8; /* more than rwx */
	fails(acl_check(list_slice(&bad)), -EINVAL);
	bad = l;
	bad.b[4] = 3; /* no tag */
	fails(acl_check(list_slice(&bad)), -EINVAL);
	list_start(&bad);
	list_add(&bad, USER_OBJ, 7, 0);
	list_add(&bad, USER, 7, 5);
	list_add(&bad, GROUP_OBJ, 7, 0);
	list_add(&bad, OTHER, 7, 0);
	fails(acl_check(list_slice(&bad)), -EINVAL); /* named, but no mask */
	list_start(&bad);
	list_add(&bad, USER_OBJ, 7, 0);
	list_add(&bad, USER_OBJ, 7, 0);
	list_add(&bad, GROUP_OBJ, 7, 0);
	list_add(&bad, OTHER, 7, 0);
	fails(acl_check(list_slice(&bad)), -EINVAL);
}
END_TEST

START_TEST(test_a_mode_holds_owner_mask_and_others)
{
	struct list l = list_of(7, 7, 1, 5, 4), plain = plain_of(6, 4, 0);
	uint32_t mode = S_IFREG | 04000;

	ck_assert(!acl_to_mode(list_slice(&l), &mode));
	ck_assert_uint_eq(mode, S_IFREG | 04754);
	ck_assert(acl_to_mode(list_slice(&plain), &mode));
	ck_assert_uint_eq(mode, S_IFREG | 04640);
}
END_TEST

/* ---- through the model ---- */

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

static int set_list(struct kvfs_node *node, const char *name, struct list l, int flags)
{
	return kvfs_setxattr(m.fs, node, name, list_slice(&l), flags);
}

static void expect_list(struct kvfs_node *node, const char *name, struct list l)
{
	struct kv_buf got = {0};

	ok(kvfs_getxattr(m.fs, node, name, &got));
	ck_assert(slice_equal(kv_buf_slice(&got), list_slice(&l)));
	kv_buf_free(&got);
}

START_TEST(test_a_list_and_a_mode_follow_each_other)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x"));
	struct kvfs_attr v = {.mode = 0604};
	struct kv_buf got = {0};

	ok(set_list(f, ACL_ACCESS, list_of(7, 6, 5, 4, 1), 0));
	ck_assert_uint_eq(model_attr(&m, f).mode, S_IFREG | 0741);
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MODE, &v, NULL));
	expect_list(f, ACL_ACCESS, list_of(6, 6, 5, 0, 4));
	/* One that the mode can tell is not kept. */
	ok(set_list(f, ACL_ACCESS, plain_of(7, 5, 0), 0));
	ck_assert_uint_eq(model_attr(&m, f).mode, S_IFREG | 0750);
	fails(kvfs_getxattr(m.fs, f, ACL_ACCESS, &got), -ENODATA);
	ok(kvfs_removexattr(m.fs, f, ACL_ACCESS)); /* none is not an error */
	model_forget(&m, f);
}
END_TEST

START_TEST(test_lists_go_where_they_belong)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *l;
	struct kvfs_attr v = {.mode = 02755};
	struct list none;

	list_start(&none);
	fails(set_list(f, ACL_DEFAULT, list_of(7, 7, 7, 7, 7), 0), -EACCES);
	ok(set_list(f, ACL_DEFAULT, none, 0));
	fails(set_list(f, "system.posix_acl_access", (struct list){.len = 3}, 0), -EINVAL);
	ok(kvfs_symlink(m.fs, m.root, "l", "f", &model_owner, &l, NULL));
	fails(set_list(l, ACL_ACCESS, list_of(7, 7, 7, 7, 7), 0), -EOPNOTSUPP);
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MODE, &v, NULL));
	ok(set_list(f, ACL_ACCESS, list_of(7, 7, 7, 7, 7), 0));
	ck_assert_uint_eq(model_attr(&m, f).mode, S_IFREG | 02777);
	ok(set_list(f, ACL_ACCESS, list_of(7, 7, 7, 7, 7), KVFS_XATTR_KILL_SGID));
	ck_assert_uint_eq(model_attr(&m, f).mode, S_IFREG | 0777);
	model_forget(&m, f);
	model_forget(&m, l);
}
END_TEST

START_TEST(test_a_default_list_replaces_the_umask)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *n;
	struct kvfs_attr a;
	struct kv_buf got = {0};

	ok(set_list(d, ACL_DEFAULT, list_of(7, 7, 5, 7, 0), 0));
	ok(kvfs_mknod(m.fs, d, "f", S_IFREG | 0666, 0, &model_owner, &n, &a));
	ck_assert_uint_eq(a.mode, S_IFREG | 0660);
	expect_list(n, ACL_ACCESS, list_of(6, 7, 5, 6, 0));
	fails(kvfs_getxattr(m.fs, n, ACL_DEFAULT, &got), -ENODATA);
	model_forget(&m, n);
	ok(kvfs_mkdir(m.fs, d, "s", 0777, &model_owner, &n, &a));
	ck_assert_uint_eq(a.mode, S_IFDIR | 0770);
	expect_list(n, ACL_ACCESS, list_of(7, 7, 5, 7, 0));
	expect_list(n, ACL_DEFAULT, list_of(7, 7, 5, 7, 0));
	model_forget(&m, n);
	ok(kvfs_symlink(m.fs, d, "l", "f", &model_owner, NULL, &a));
	ck_assert_uint_eq(a.mode, S_IFLNK | 0777);
	/* So do keys. */
	ok(kvfs_key_put(m.fs, test_str("d/x/y"), test_str("1"), &model_owner));
	ok(kvfs_lookup(m.fs, d, "x", &n, &a));
	expect_list(n, ACL_DEFAULT, list_of(7, 7, 5, 7, 0));
	model_forget(&m, n);
	/* A plain one sets the mode and leaves no list. */
	ok(set_list(d, ACL_DEFAULT, plain_of(7, 5, 5), 0));
	ok(kvfs_mknod(m.fs, d, "p", S_IFREG | 0666, 0, &model_owner, &n, &a));
	ck_assert_uint_eq(a.mode, S_IFREG | 0644);
	fails(kvfs_getxattr(m.fs, n, ACL_ACCESS, &got), -ENODATA);
	model_forget(&m, n);
	model_forget(&m, d);
}
END_TEST

START_TEST(test_a_long_default_list_is_inherited_too)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *n;
	struct kv_buf l = {0}, got = {0};
	struct list head = plain_of(7, 7, 0);

	ok(buf_append(&l, head.b, 12));
	for (uint32_t id = 1; id <= 300; id++) {
		uint8_t e[8] = {USER, 0, 6, 0, (uint8_t)id, (uint8_t)(id >> 8), 0, 0};

		ok(buf_append(&l, e, sizeof(e)));
	}
	ok(buf_append(&l, head.b + 12, 8));
	ok(buf_append(&l, (const uint8_t[]){MASK, 0, 7, 0, 0, 0, 0, 0}, 8));
	ok(buf_append(&l, head.b + 20, 8));
	ok(kvfs_setxattr(m.fs, d, ACL_DEFAULT, kv_buf_slice(&l), 0));
	ok(kvfs_mkdir(m.fs, d, "s", 0777, &model_owner, &n, NULL));
	ok(kvfs_getxattr(m.fs, n, ACL_DEFAULT, &got));
	ck_assert(slice_equal(kv_buf_slice(&got), kv_buf_slice(&l)));
	kv_buf_free(&l);
	kv_buf_free(&got);
	model_forget(&m, n);
	model_forget(&m, d);
}
END_TEST

/* ---- flags ---- */

static int set_flags(struct kvfs_node *node, uint32_t flags)
{
	struct kvfs_attr v = {.flags = flags}, now;
	int err = kvfs_setattr(m.fs, node, KVFS_SET_FLAGS, &v, &now);

	if (!err)
		ck_assert_uint_eq(now.flags, flags);
	return err;
}

/* Everything but appending. */
static void expect_fixed(struct kvfs_node *f, const char *name)
{
	struct kvfs_attr v = {.mode = 0600, .size = 1};
	struct kvfs_node *l;

	fails(kvfs_write(m.fs, f, 0, test_str("y"), false), -EPERM);
	fails(kvfs_setattr(m.fs, f, KVFS_SET_SIZE, &v, NULL), -EPERM);
	fails(kvfs_setattr(m.fs, f, KVFS_SET_MODE, &v, NULL), -EPERM);
	fails(kvfs_setattr(m.fs, f, KVFS_SET_MTIME, &v, NULL), -EPERM);
	fails(kvfs_fallocate(m.fs, f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1), -EPERM);
	fails(kvfs_setxattr(m.fs, f, "user.a", test_str("1"), 0), -EPERM);
	fails(kvfs_unlink(m.fs, m.root, name), -EPERM);
	fails(kvfs_rename(m.fs, m.root, name, m.root, "other", 0), -EPERM);
	fails(kvfs_rename(m.fs, m.root, "victim", m.root, name, 0), -EPERM);
	fails(kvfs_rename(m.fs, m.root, "victim", m.root, name, KVFS_RENAME_EXCHANGE), -EPERM);
	fails(kvfs_link(m.fs, f, m.root, "third", &l, NULL), -EPERM);
	fails(kvfs_key_put(m.fs, test_str("f"), test_str("1"), NULL), -EPERM);
	fails(kvfs_key_delete(m.fs, test_str("f")), -EPERM);
}

START_TEST(test_immutable_and_append_only_files_stay)
{
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("x")), *l;
	struct kvfs_attr v = {0};

	model_forget(&m, model_mkfile(&m, m.root, "victim", test_str("v")));
	for (int linked = 0; linked < 2; linked++) {
		ok(set_flags(f, KVFS_IMMUTABLE | KVFS_NODUMP));
		expect_fixed(f, "f");
		fails(kvfs_write(m.fs, f, model_attr(&m, f).size, test_str("y"), false), -EPERM);
		fails(kvfs_setattr(m.fs, f, KVFS_SET_MTIME_NOW, &v, NULL), -EPERM);
		ok(set_flags(f, KVFS_APPEND));
		expect_fixed(f, "f");
		ok(kvfs_write(m.fs, f, model_attr(&m, f).size, test_str("y"), false));
		ok(kvfs_setattr(m.fs, f, KVFS_SET_MTIME_NOW, &v, NULL));
		ok(set_flags(f, 0));
		if (linked)
			break;
		ok(kvfs_link(m.fs, f, m.root, "g", &l, NULL));
		model_forget(&m, l);
	}
	ok(kvfs_unlink(m.fs, m.root, "g"));
	model_forget(&m, f);
}
END_TEST

START_TEST(test_flags_of_directories_guard_their_entries)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d");

	model_forget(&m, model_mkfile(&m, d, "f", test_str("x")));
	model_forget(&m, model_mkfile(&m, m.root, "g", test_str("y")));
	ok(set_flags(d, KVFS_APPEND));
	model_forget(&m, d);
	model_reopen(&m); /* they are stored */
	d = model_lookup(&m, m.root, "d");
	ok(kvfs_mkdir(m.fs, d, "s", 0755, &model_owner, NULL, NULL));
	ok(kvfs_key_put(m.fs, test_str("d/k"), test_str("1"), NULL));
	fails(kvfs_key_delete(m.fs, test_str("d/k")), -EPERM);
	fails(kvfs_rmdir(m.fs, d, "s"), -EPERM);
	fails(kvfs_unlink(m.fs, d, "f"), -EPERM);
	fails(kvfs_rename(m.fs, d, "f", m.root, "h", 0), -EPERM);
	fails(kvfs_rename(m.fs, m.root, "g", d, "f", 0), -EPERM);
	ok(kvfs_rename(m.fs, m.root, "g", d, "g", 0));
	ok(set_flags(d, KVFS_IMMUTABLE));
	fails(kvfs_mkdir(m.fs, d, "t", 0755, &model_owner, NULL, NULL), -EPERM);
	fails(kvfs_key_put(m.fs, test_str("d/l"), test_str("1"), NULL), -EPERM);
	fails(kvfs_unlink(m.fs, d, "f"), -EPERM);
	fails(kvfs_rmdir(m.fs, m.root, "d"), -EPERM);
	ok(set_flags(d, 0));
	ok(kvfs_unlink(m.fs, d, "f"));
	model_forget(&m, d);
}
END_TEST

START_TEST(test_flags_are_for_files_and_directories)
{
	struct kvfs_node *l;

	ok(kvfs_symlink(m.fs, m.root, "l", "f", &model_owner, &l, NULL));
	fails(set_flags(l, KVFS_NODUMP), -EOPNOTSUPP);
	fails(set_flags(m.root, 1U << 20), -EOPNOTSUPP);
	ok(set_flags(m.root, KVFS_NO_ATIME));
	model_forget(&m, l);
}
END_TEST

/* ---- who may do what, as the kernel decides it ---- */

static bool in_7(void *ctx, uint32_t gid)
{
	(void)ctx;
	return gid == 7;
}

static bool may(uint32_t uid, uint32_t mode, uint32_t gid, struct list l, unsigned want)
{
	const struct kvfs_caller who = {.acl = true, .uid = uid, .in_group = in_7};
	const struct acl_rights r = {
		.mode = mode, .uid = 1, .gid = gid, .acl_len = (uint32_t)l.len};

	return acl_permits(&who, &r, list_slice(&l), want);
}

START_TEST(test_a_mode_says_who_may)
{
	const struct list none = {.len = 0};

	ck_assert(may(1, 0700, 7, none, 7));
	ck_assert(!may(1, 0077, 7, none, 1)); /* the owner's own bits alone */
	ck_assert(may(2, 0070, 7, none, 7));
	ck_assert(!may(2, 0707, 7, none, 4)); /* those of the group, who is in it */
	ck_assert(may(2, 0707, 8, none, 4));
	ck_assert(!may(2, 0770, 8, none, 1));
	ck_assert(!may(2, 0001, 8, none, 5));
	ck_assert(acl_permits(&(struct kvfs_caller){.all = true}, &(struct acl_rights){.uid = 1},
			      kv_slice_of(NULL, 0), 7));
}
END_TEST

START_TEST(test_a_list_says_who_may)
{
	struct list l = list_of(7, 5, 4, 7, 0), g;

	ck_assert(may(1000, 0770, 8, l, 5)); /* named, whatever the others have */
	ck_assert(!may(1000, 0770, 8, l, 2));
	ck_assert(may(2, 0770, 7, l, 4));
	ck_assert(!may(2, 0770, 7, l, 1));
	ck_assert(!may(2, 0770, 8, l, 4));
	ck_assert(!may(1000, 0770, 8, list_of(7, 7, 7, 4, 0), 1)); /* the mask takes it away */
	ck_assert(!may(2, 0770, 7, list_of(7, 7, 7, 4, 0), 1));
	ck_assert(may(2, 0775, 8, list_of(7, 0, 0, 0, 5), 5));	/* but not from others */
	ck_assert(!may(2, 0775, 7, list_of(7, 0, 0, 7, 7), 4)); /* who is in a group is no other */
	ck_assert(may(1000, 0707, 8, list_of(7, 0, 0, 0, 7), 4)); /* without group bits no list */
	list_start(&g);
	list_add(&g, USER_OBJ, 7, 0xffff);
	list_add(&g, GROUP_OBJ, 0, 0xffff);
	list_add(&g, GROUP, 5, 7);
	list_add(&g, MASK, 7, 0xffff);
	list_add(&g, OTHER, 0, 0xffff);
	ck_assert(may(2, 0770, 7, g, 5)); /* any group that has the rights */
	ck_assert(!may(2, 0770, 7, g, 2));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_only_lists_that_are_whole_are_taken,
		test_a_mode_holds_owner_mask_and_others,
		test_a_list_and_a_mode_follow_each_other,
		test_lists_go_where_they_belong,
		test_a_default_list_replaces_the_umask,
		test_a_long_default_list_is_inherited_too,
		test_immutable_and_append_only_files_stay,
		test_flags_of_directories_guard_their_entries,
		test_flags_are_for_files_and_directories,
		test_a_mode_says_who_may,
		test_a_list_says_who_may,
	};

	return test_suite_run_with("acl", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
