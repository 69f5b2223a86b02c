/* SPDX-License-Identifier: MIT */
/* kvfs_clone(): the copy is the source; contents are shared until changed, and counted; all or
 * nothing. */
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fusefs/model/inode.h"
#include "fusefs/model/kvfs_stage.h"
#include "tests/support/model_fixture.h"

static struct model_fixture m;

#define LARGE (3 * MODEL_CHUNK + 100)
static uint8_t large[LARGE];

static void setup(void)
{
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (uint8_t)(i * 31 + i / 257);
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

static struct kv_slice large_slice(void)
{
	return kv_slice_of(large, LARGE);
}

static int make_clone(const char *snapshot, const char *from, const char *to)
{
	return kvfs_clone(m.fs, snapshot, test_str(from), test_str(to), NULL, NULL);
}

/* The node at a path of names with slashes, referenced. */
static struct kvfs_node *at(const char *path)
{
	struct kvfs_node *node = m.root, *next;
	char copy[200], *rest = NULL;

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
		next = model_lookup(&m, node, name);
		if (node != m.root)
			model_forget(&m, node);
		node = next;
	}
	return node;
}

static void expect(const char *path, struct kv_slice want)
{
	struct kvfs_node *node = at(path);

	model_expect(&m, node, want);
	model_forget(&m, node);
}

static void write_at(const char *path, uint64_t off, const char *text)
{
	struct kvfs_node *node = at(path);

	ok(kvfs_write(m.fs, node, off, test_str(text), false));
	model_forget(&m, node);
}

static void set_size(const char *path, uint64_t size)
{
	struct kvfs_attr attr = {.size = size};
	struct kvfs_node *node = at(path);

	ok(kvfs_setattr(m.fs, node, KVFS_SET_SIZE, &attr, NULL));
	model_forget(&m, node);
}

static void unlink_at(const char *dir, const char *name)
{
	struct kvfs_node *node = at(dir);

	ok(kvfs_unlink(m.fs, node, name));
	if (node != m.root)
		model_forget(&m, node);
}

/* /s/big, of several chunks. */
static void make_big(void)
{
	struct kvfs_node *s = model_mkdir(&m, m.root, "s");

	model_forget(&m, model_mkfile(&m, s, "big", large_slice()));
	model_forget(&m, s);
}

static unsigned chunks(void)
{
	return model_count_keys(&m, MODEL_DATA);
}

static unsigned shared(void)
{
	return model_count_keys(&m, MODEL_SHARED);
}

static unsigned format(void)
{
	struct kv_buf value = {0};
	struct le32 version;

	ok(kv_get(kvfs_db(m.fs), MODEL_META, test_str("format"), &value));
	memcpy(&version, value.data, sizeof(version));
	kv_buf_free(&value);
	return le32_get(version);
}

/* ---- the copy is the source ---- */

static void make_everything(void)
{
	struct kvfs_attr attr = {.mode = 0640, .uid = 7, .gid = 8, .mtime = {1000, 5}};
	struct kvfs_node *s = model_mkdir(&m, m.root, "s"), *d = model_mkdir(&m, s, "d"), *n;
	static const uint8_t huge[5000];

	n = model_mkfile(&m, s, "small", test_str("inline"));
	ok(kvfs_setxattr(m.fs, n, "user.a", test_str("1"), 0));
	ok(kvfs_setxattr(m.fs, n, "user.b", kv_slice_of(huge, sizeof(huge)), 0));
	ok(kvfs_setattr(m.fs, n, KVFS_SET_MODE | KVFS_SET_UID | KVFS_SET_GID | KVFS_SET_MTIME,
			&attr, NULL));
	model_forget(&m, n);
	n = model_mkfile(&m, d, "big", large_slice());
	ok(kvfs_link(m.fs, n, s, "big2", NULL, NULL));
	ok(kvfs_link(m.fs, n, d, "big3", NULL, NULL));
	ok(kvfs_link(m.fs, n, m.root, "outside", NULL, NULL));
	model_forget(&m, n);
	n = model_mkfile(&m, d, "sparse", test_str("x"));
	ok(kvfs_write(m.fs, n, 10 * MODEL_CHUNK, test_str("y"), false));
	model_forget(&m, n);
	ok(kvfs_symlink(m.fs, d, "link", "target", &model_owner, NULL, NULL));
	ok(kvfs_mknod(m.fs, d, "fifo", S_IFIFO | 0600, 0, &model_owner, NULL, NULL));
	model_forget(&m, model_mkdir(&m, d, "empty"));
	model_forget(&m, d);
	model_forget(&m, s);
}

static void expect_same_attr(const char *a, const char *b, bool times)
{
	struct kvfs_node *x = at(a), *y = at(b);
	struct kvfs_attr p = model_attr(&m, x), q = model_attr(&m, y);

	ck_assert_uint_ne(p.ino, q.ino);
	ck_assert_uint_eq(p.size, q.size);
	ck_assert_uint_eq(p.blocks, q.blocks);
	ck_assert_uint_eq(p.mode, q.mode);
	ck_assert_uint_eq(p.uid, q.uid);
	ck_assert_uint_eq(p.gid, q.gid);
	if (times)
		ck_assert_int_eq(p.mtime.sec, q.mtime.sec);
	model_forget(&m, x);
	model_forget(&m, y);
}

static void expect_everything(const char *top)
{
	static const char *const names[] = {"small",  "d",	"d/big",  "d/sparse",
					    "d/link", "d/fifo", "d/empty"};
	struct kvfs_node *a, *b;
	struct kv_buf value = {0};
	char path[100];
	uint64_t data;

	for (size_t i = 0; i < KV_ARRAY_COUNT(names); i++) {
		char source[100];

		snprintf(source, sizeof(source), "s/%s", names[i]);
		snprintf(path, sizeof(path), "%s/%s", top, names[i]);
		expect_same_attr(source, path, true);
	}
	snprintf(path, sizeof(path), "%s/d/big", top);
	expect(path, large_slice());
	a = at(path);
	ck_assert_uint_eq(model_attr(&m, a).nlink, 3);
	snprintf(path, sizeof(path), "%s/big2", top);
	b = at(path);
	ck_assert_ptr_eq(a, b);
	model_forget(&m, a);
	model_forget(&m, b);
	snprintf(path, sizeof(path), "%s/small", top);
	a = at(path);
	ok(kvfs_getxattr(m.fs, a, "user.b", &value));
	ck_assert_uint_eq(value.len, 5000);
	ok(kvfs_getxattr(m.fs, a, "user.a", &value));
	ck_assert_uint_eq(value.len, 1);
	model_forget(&m, a);
	snprintf(path, sizeof(path), "%s/d/sparse", top);
	a = at(path);
	ok(kvfs_lseek(m.fs, a, MODEL_CHUNK, SEEK_DATA, &data));
	ck_assert_uint_eq(data, 10 * MODEL_CHUNK);
	model_forget(&m, a);
	kv_buf_free(&value);
}

START_TEST(test_a_clone_is_the_tree)
{
	struct kvfs_node *dir;

	make_everything();
	ok(make_clone(NULL, "s", "c"));
	expect_everything("c");
	dir = at("c/d");
	model_expect_list(&m, dir, ". .. big big3 empty fifo link sparse ");
	model_forget(&m, dir);
	ok(make_clone(NULL, "c", "s/d/again"));
	expect_everything("s/d/again");
	model_check(&m);
	expect_everything("c");
}
END_TEST

START_TEST(test_all_of_a_volume_can_be_cloned_into_itself)
{
	struct kvfs_node *dir;

	make_everything();
	ok(make_clone(NULL, "", "c"));
	expect("c/s/d/big", large_slice());
	dir = at("c");
	model_expect_list(&m, dir, ". .. outside s ");
	model_forget(&m, dir);
	model_check(&m);
}
END_TEST

/* Prefixes of the source say nothing of where its copy goes. */
START_TEST(test_directories_that_were_moved_are_cloned_where_they_are)
{
	struct kvfs_node *s;

	make_everything();
	s = at("s");
	ok(kvfs_rename(m.fs, s, "d", m.root, "e", 0));
	ok(kvfs_rename(m.fs, m.root, "e", s, "f", 0));
	model_forget(&m, s);
	ok(make_clone(NULL, "s", "c"));
	expect("c/f/big", large_slice());
	model_forget(&m, model_mkdir(&m, m.root, "x"));
	ok(kvfs_rename(m.fs, m.root, "c", m.root, "moved", 0));
	ok(make_clone(NULL, "moved", "c"));
	expect("c/f/big", large_slice());
	write_at("c/f/sparse", 5, "only here");
	model_check(&m);
	expect("moved/big2", large_slice());
}
END_TEST

START_TEST(test_flags_against_changes_are_not_cloned)
{
	struct kvfs_attr attr = {.flags = KVFS_IMMUTABLE | KVFS_NODUMP};
	struct kvfs_node *n;

	make_big();
	n = at("s/big");
	ok(kvfs_setattr(m.fs, n, KVFS_SET_FLAGS, &attr, NULL));
	model_forget(&m, n);
	ok(make_clone(NULL, "s", "c"));
	n = at("c/big");
	ck_assert_uint_eq(model_attr(&m, n).flags, KVFS_NODUMP);
	ok(kvfs_write(m.fs, n, 0, test_str("x"), false));
	model_forget(&m, n);
	expect("s/big", large_slice());
}
END_TEST

/* ---- sharing ---- */

START_TEST(test_contents_are_shared_until_one_changes_them)
{
	unsigned before;

	make_big();
	before = chunks();
	ck_assert_uint_eq(format(), 1);
	ok(make_clone(NULL, "s", "c"));
	ok(make_clone(NULL, "c", "d"));
	ck_assert_uint_eq(chunks(), before);
	ck_assert_uint_eq(shared(), 1);
	ck_assert_uint_eq(format(), 2);
	write_at("c/big", 0, "changed");
	ck_assert_uint_eq(chunks(), 2 * before + 1); /* and a patch */
	expect("s/big", large_slice());
	expect("d/big", large_slice());
	memcpy(large, "changed", 7);
	expect("c/big", large_slice());
	model_check(&m);
	expect("c/big", large_slice());
	write_at("c/big", 3, "G");
	ck_assert_uint_eq(chunks(), 2 * before + 2); /* it is alone with them */
	memcpy(large, "chaGged", 7);
	expect("c/big", large_slice());
	model_check(&m);
}
END_TEST

/* The file that the contents were made for does not come back to their id. */
START_TEST(test_the_source_may_change_first)
{
	static uint8_t grown[100004];

	make_big();
	ok(make_clone(NULL, "s", "c"));
	set_size("s/big", 0);
	write_at("s/big", 0, "short");
	expect("c/big", large_slice());
	expect("s/big", test_str("short"));
	write_at("s/big", 100000, "long");
	expect("c/big", large_slice());
	ok(make_clone(NULL, "s", "e"));
	write_at("s/big", 0, "S");
	memcpy(grown, "short", 5);
	memcpy(grown + 100000, "long", 4);
	expect("e/big", kv_slice_of(grown, sizeof(grown)));
	model_check(&m);
	expect("c/big", large_slice());
}
END_TEST

START_TEST(test_space_comes_back_with_the_last)
{
	make_big();
	ok(make_clone(NULL, "s", "c"));
	ok(make_clone(NULL, "s", "d"));
	unlink_at("s", "big");
	expect("c/big", large_slice());
	ck_assert_uint_eq(shared(), 1);
	unlink_at("c", "big");
	ck_assert_uint_eq(shared(), 0);
	expect("d/big", large_slice());
	model_check(&m);
	/* Alone, it is changed in place. */
	write_at("d/big", 5, "x");
	ck_assert_uint_eq(chunks(), 5);
	unlink_at("d", "big");
	ck_assert_uint_eq(chunks(), 0);
	model_check(&m);
}
END_TEST

START_TEST(test_every_kind_of_change_parts_from_the_others)
{
	static const uint8_t zeros[LARGE];
	struct kvfs_node *n;
	uint64_t hole;
	char name[8];

	make_big();
	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		ok(make_clone(NULL, "s", name));
	}
	set_size("c0/big", MODEL_CHUNK + 10);
	expect("c0/big", kv_slice_of(large, MODEL_CHUNK + 10));
	set_size("c1/big", 0);
	expect("c1/big", test_str(""));
	set_size("c2/big", LARGE + 1000); /* which no chunk needs to know */
	set_size("c2/big", LARGE);
	expect("c2/big", large_slice());
	ok(kvfs_key_put(m.fs, test_str("c3/big"), test_str("tiny"), NULL));
	expect("c3/big", test_str("tiny"));
	ok(kvfs_key_put(m.fs, test_str("c4/big"), kv_slice_of(zeros, 100000), NULL));
	expect("c4/big", kv_slice_of(zeros, 100000));
	n = at("c5/big");
	ok(kvfs_fallocate(m.fs, n, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * MODEL_CHUNK));
	ok(kvfs_lseek(m.fs, n, 0, SEEK_DATA, &hole));
	ck_assert_uint_eq(hole, 2 * MODEL_CHUNK);
	ok(kvfs_fallocate(m.fs, n, FALLOC_FL_ZERO_RANGE, 0, LARGE));
	model_forget(&m, n);
	expect("c5/big", kv_slice_of(zeros, LARGE));
	n = at("c6/big");
	ok(kvfs_write(m.fs, n, 0, kv_slice_of(zeros, LARGE), false));
	model_forget(&m, n);
	expect("c6/big", kv_slice_of(zeros, LARGE));
	expect("c7/big", large_slice());
	expect("s/big", large_slice());
	model_check(&m);
	expect("s/big", large_slice());
}
END_TEST

START_TEST(test_an_open_file_that_was_removed_is_a_user)
{
	struct kvfs_node *n;

	make_big();
	ok(make_clone(NULL, "s", "c"));
	n = at("s/big");
	unlink_at("s", "big");
	unlink_at("c", "big");
	model_expect(&m, n, large_slice());
	ck_assert_uint_eq(chunks(), 4);
	model_forget(&m, n);
	ck_assert_uint_eq(chunks(), 0);
	ck_assert_uint_eq(shared(), 0);
	model_check(&m);
}
END_TEST

/* ---- of a snapshot ---- */

START_TEST(test_of_a_snapshot_what_the_present_has_is_shared)
{
	struct kvfs_node *s, *n;
	unsigned before;

	make_big();
	s = at("s");
	for (unsigned i = 0; i < 4; i++) {
		char name[2] = {(char)('0' + i), 0};

		model_forget(&m, model_mkfile(&m, s, name, large_slice()));
	}
	ok(kvfs_snapshot_create(m.fs, "then"));
	write_at("s/0", 10, "changed");
	unlink_at("s", "1");
	set_size("s/2", 0);
	ok(kvfs_rename(m.fs, s, "3", s, "renamed", 0));
	n = at("s/big");
	ok(kvfs_link(m.fs, n, s, "more", NULL, NULL));
	model_forget(&m, n);
	model_forget(&m, s);
	before = chunks();
	ok(make_clone("then", "s", "c"));
	ck_assert_uint_eq(chunks(), before + 4 * 4); /* but for big */
	ck_assert_uint_eq(shared(), 1);
	expect("c/big", large_slice());
	expect("c/0", large_slice());
	expect("c/1", large_slice());
	expect("c/2", large_slice());
	expect("c/3", large_slice());
	fails(make_clone("none", "s", "d"), -KV_E_NOTFOUND);
	ok(kvfs_snapshot_drop(m.fs, "then"));
	ok(kv_compact(kvfs_db(m.fs), NULL));
	write_at("c/big", 1, "x");
	expect("s/more", large_slice());
	expect("c/1", large_slice());
	model_check(&m);
}
END_TEST

/* Snapshots see who shared what then. */
START_TEST(test_a_snapshot_keeps_what_was_shared_in_it)
{
	struct kvfs *then;
	struct kv_buf got = {0};

	make_big();
	ok(make_clone(NULL, "s", "c"));
	ok(kvfs_snapshot_create(m.fs, "then"));
	unlink_at("s", "big");
	write_at("c/big", 0, "x");
	unlink_at("c", "big");
	ck_assert_uint_eq(chunks(), 0);
	ok(kvfs_open_snapshot(m.fs, "then", &then));
	ok(kvfs_key_get(then, test_str("c/big"), &got));
	ck_assert(slice_equal(kv_buf_slice(&got), large_slice()));
	ok(kvfs_close(then));
	ok(make_clone("then", "c", "d"));
	ok(make_clone("then", "s", "e"));
	expect("d/big", large_slice());
	ok(kvfs_snapshot_restore(m.fs, "then", NULL, NULL));
	ck_assert_uint_eq(chunks(), 4);
	write_at("s/big", 0, "x");
	expect("c/big", large_slice());
	model_check(&m);
	kv_buf_free(&got);
}
END_TEST

/* ---- all or nothing ---- */

static int stop_at_once(void *ctx, uint64_t done, uint64_t total)
{
	(void)total;
	return done > *(uint64_t *)ctx;
}

START_TEST(test_what_cannot_be_cloned_changes_nothing)
{
	uint64_t limit = 1;
	const struct kv_progress progress = {stop_at_once, &limit};
	struct kvfs_node *s;
	struct kvfs *draft;
	unsigned keys;

	make_big();
	s = at("s");
	for (unsigned i = 0; i < 600; i++) {
		char name[8];

		snprintf(name, sizeof(name), "%u", i);
		model_forget(&m, model_mkfile(&m, s, name, test_str("x")));
	}
	model_forget(&m, s);
	keys = model_count_keys(&m, MODEL_NAMES);
	fails(make_clone(NULL, "s", "s"), -EEXIST);
	fails(make_clone(NULL, "s", "s/big"), -EEXIST);
	fails(make_clone(NULL, "s", "s/big/x"), -ENOTDIR);
	fails(make_clone(NULL, "s", "none/x"), -ENOENT);
	fails(make_clone(NULL, "none", "c"), -ENOENT);
	fails(make_clone(NULL, "s/big", "c"), -ENOTDIR);
	fails(make_clone(NULL, "s", ""), -EINVAL);
	fails(make_clone(NULL, "s", "a/"), -ENOENT);
	fails(make_clone(NULL, "s", ".."), -EINVAL);
	fails(kvfs_clone(m.fs, NULL, test_str("s"), test_str("c"), &progress, NULL),
	      -KV_E_INTERRUPTED);
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	fails(kvfs_clone(draft, NULL, test_str("s"), test_str("c"), NULL, NULL), -EINVAL);
	ok(kvfs_close(draft));
	ok(kvfs_set_readonly(m.fs, true));
	fails(make_clone(NULL, "s", "c"), -KV_E_READONLY);
	ok(kvfs_set_readonly(m.fs, false));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_NAMES), keys);
	ck_assert_uint_eq(shared(), 0);
	ck_assert_uint_eq(format(), 1);
	model_check(&m);
}
END_TEST

/* ---- with others ---- */

/* Who changes in a transaction what is shared meanwhile, or parts from it when others do too. */
START_TEST(test_transactions_and_clones_conflict)
{
	const struct kvfs_draft_hooks hooks = {0};
	struct kvfs *draft;

	make_big();
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_put(draft, test_str("s/big"), test_str("draft"), NULL));
	ok(make_clone(NULL, "s", "c"));
	fails(kvfs_draft_commit(draft, &hooks), -KV_E_CONFLICT);
	ok(kvfs_close(draft));
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_put(draft, test_str("s/big"), kv_slice_of(large, 100000), NULL));
	write_at("c/big", 0, "C");
	fails(kvfs_draft_commit(draft, &hooks), -KV_E_CONFLICT);
	ok(kvfs_close(draft));
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_put(draft, test_str("s/big"), kv_slice_of(large, 100000), NULL));
	ok(kvfs_key_delete(draft, test_str("c/big")));
	ok(kvfs_draft_commit(draft, &hooks));
	ok(kvfs_close(draft));
	expect("s/big", kv_slice_of(large, 100000));
	ck_assert_uint_eq(shared(), 0);
	ck_assert_uint_eq(chunks(), 2);
	model_check(&m);
}
END_TEST

/* What others have not written yet belongs to the source, and to the name. */
START_TEST(test_waiting_times_and_staged_names_count)
{
	struct kvfs_stage *stage;
	struct kvfs_node *f;
	struct kvfs_attr now, copy;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	make_big();
	f = at("s/big");
	ok(kvfs_sync(m.fs));
	ok(kvfs_write(m.fs, f, 70000, test_str("over bytes that are there"), false));
	now = model_attr(&m, f);
	ok(make_clone(NULL, "s", "c")); /* whoever forgets the node writes its times */
	model_forget(&m, f);
	f = at("c/big");
	copy = model_attr(&m, f);
	model_forget(&m, f);
	ck_assert_int_eq(copy.mtime.sec, now.mtime.sec);
	ck_assert_uint_eq(copy.mtime.nsec, now.mtime.nsec);
	ok(kvfs_stage_create(m.fs, m.root, "staged", 0644, &model_owner, &f, &now, &stage));
	ok(kvfs_stage_write(stage, 0, test_str("staged"), false));
	fails(make_clone(NULL, "s", "staged"), -EEXIST);
	kvfs_stage_close(stage);
	model_expect(&m, f, test_str("staged"));
	model_forget(&m, f);
	model_check(&m);
}
END_TEST

/* Who is the last of the sharers when a transaction begins may not be at its commit. */
START_TEST(test_the_last_in_a_transaction_and_a_clone_meanwhile)
{
	const struct kvfs_draft_hooks hooks = {0};
	struct kvfs *draft;

	make_big();
	ok(make_clone(NULL, "s", "c"));
	unlink_at("c", "big");
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_put(draft, test_str("s/big"), kv_slice_of(large + 1, 100000), NULL));
	ok(make_clone(NULL, "s", "d"));
	fails(kvfs_draft_commit(draft, &hooks), -KV_E_CONFLICT);
	ok(kvfs_close(draft));
	expect("s/big", large_slice());
	expect("d/big", large_slice());
	model_check(&m);
	unlink_at("d", "big");
	/* Who removes it lets go after the commit, when it is seen that there is another. */
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_delete(draft, test_str("s/big")));
	ok(make_clone(NULL, "s", "e"));
	ok(kvfs_draft_commit(draft, &hooks));
	ok(kvfs_close(draft));
	expect("e/big", large_slice());
	model_check(&m);
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	ok(kvfs_key_put(draft, test_str("e/big"), kv_slice_of(large + 1, 100000), NULL));
	ok(kvfs_draft_commit(draft, &hooks));
	ok(kvfs_close(draft));
	expect("e/big", kv_slice_of(large + 1, 100000));
	model_check(&m);
}
END_TEST

static int on_change(void *ctx, const struct kvfs_change *change)
{
	return buf_printf(ctx, "%c%.*s ", (char)change->kind, (int)change->path.len,
			  (const char *)change->path.data);
}

static void expect_diff(const char *before, const char *after, const char *want)
{
	struct kv_buf got = {0};

	ok(kvfs_diff(m.fs, before, after, kv_slice_of(NULL, 0), on_change, &got));
	ok(buf_append_byte(&got, 0));
	ck_assert_str_eq((char *)got.data, want);
	kv_buf_free(&got);
}

/* A stream of what is different makes of the old root hash the new one, or the end is an error. */
static void expect_sends(const char *from, const char *name)
{
	struct kvfs_send *send;
	struct kv_buf bytes = {0};
	uint8_t sent[KVFS_HASH_LEN], whole[KVFS_HASH_LEN];
	int err;

	ok(kvfs_send_open(m.fs, from, name, NULL, &send));
	while (!(err = kvfs_send_read(send, &bytes)))
		buf_clear(&bytes);
	fails(err, -KV_E_NOTFOUND);
	ok(kvfs_send_hash(send, sent));
	kvfs_send_close(send);
	ok(kvfs_send_open(m.fs, NULL, name, NULL, &send));
	while (!(err = kvfs_send_read(send, &bytes)))
		buf_clear(&bytes);
	ok(kvfs_send_hash(send, whole));
	kvfs_send_close(send);
	ck_assert_mem_eq(sent, whole, sizeof(sent));
	kv_buf_free(&bytes);
}

/* With lazytime nothing but a chunk, under an id that is no file's or another's, is different. */
static void diff_in_place(bool linked)
{
	struct kvfs_node *n;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	make_big();
	ok(make_clone(NULL, "s", "c"));
	if (linked) {
		struct kvfs_node *c = at("c");

		n = at("c/big");
		ok(kvfs_link(m.fs, n, c, "big2", NULL, NULL));
		model_forget(&m, n);
		model_forget(&m, c);
	}
	ok(kvfs_snapshot_create(m.fs, "1"));
	write_at("s/big", 100, "source"); /* parts, to a fresh id */
	ok(kvfs_snapshot_create(m.fs, "2"));
	expect_diff("1", "2", "Ms/big ");
	expect_sends("1", "2");
	write_at("s/big", 200, "source"); /* in place */
	ok(kvfs_snapshot_create(m.fs, "3"));
	expect_diff("2", "3", "Ms/big ");
	expect_sends("2", "3");
	write_at("c/big", 300, "copy"); /* which is alone with the id of the source */
	ok(kvfs_snapshot_create(m.fs, "4"));
	expect_sends("3", "4");
	write_at("c/big", 70000, "copy");
	ok(kvfs_snapshot_create(m.fs, "5"));
	expect_diff("4", "5", linked ? "Mc/big Mc/big2 " : "Mc/big ");
	expect_diff("1", "5", linked ? "Mc/big Mc/big2 Ms/big " : "Mc/big Ms/big ");
	expect_sends("4", "5");
	expect_sends("1", "5");
	/* The file whose id it is has changed otherwise. */
	n = at("s/big");
	ok(kvfs_setattr(m.fs, n, KVFS_SET_MODE, &(struct kvfs_attr){.mode = 0600}, NULL));
	model_forget(&m, n);
	write_at("c/big", 140000, "copy");
	ok(kvfs_snapshot_create(m.fs, "6"));
	expect_diff("5", "6", linked ? "Mc/big Mc/big2 As/big " : "Mc/big As/big ");
	expect_sends("5", "6");
	set_size("s/big", 100000);
	ok(kvfs_snapshot_create(m.fs, "7"));
	expect_sends("1", "7");
	expect_sends("6", "7");
	model_check(&m);
}

START_TEST(test_differences_are_found_under_ids_of_contents)
{
	diff_in_place(false);
	diff_in_place(true);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_clone_is_the_tree,
		test_all_of_a_volume_can_be_cloned_into_itself,
		test_directories_that_were_moved_are_cloned_where_they_are,
		test_flags_against_changes_are_not_cloned,
		test_contents_are_shared_until_one_changes_them,
		test_the_source_may_change_first,
		test_space_comes_back_with_the_last,
		test_every_kind_of_change_parts_from_the_others,
		test_an_open_file_that_was_removed_is_a_user,
		test_of_a_snapshot_what_the_present_has_is_shared,
		test_a_snapshot_keeps_what_was_shared_in_it,
		test_what_cannot_be_cloned_changes_nothing,
		test_transactions_and_clones_conflict,
		test_waiting_times_and_staged_names_count,
		test_the_last_in_a_transaction_and_a_clone_meanwhile,
		test_differences_are_found_under_ids_of_contents,
	};

	return test_suite_run_with("clone", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
