/* SPDX-License-Identifier: MIT */
/* The past of a path: what a search finds is compared with a look at every state that is kept. */
#include "fusefs/model/kvfs_versions.h"
#include "tests/support/model_fixture.h"

#define NAMES	  3U /* in each of two levels */
#define OPS	  220U
#define SNAPSHOTS 12U

static struct model_fixture m;
static const struct kvfs_caller root_caller = {.all = true};

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

/* ---- by looking at each state ---------------------------------------------------------------- */

struct sight {
	bool file, dir;
	struct kvfs_attr attr;
	struct kv_buf contents;
};

static int add_name(void *ctx, const struct kvfs_dirent *e)
{
	if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0)
		ok(buf_append(ctx, e->name, strlen(e->name) + 1));
	return 0;
}

/* What is at @path in a tree; names of a directory go to @names, each with byte 0. */
static void look(struct kvfs *fs, const char *path, struct sight *out, struct kv_buf *names)
{
	struct kvfs_node *node = kvfs_root(fs), *next;
	char copy[64], *save = NULL;
	struct kvfs_dir *dir;
	int err = 0;

	*out = (struct sight){0};
	ok(kvfs_getattr(fs, node, &out->attr));
	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name && !err;
	     name = strtok_r(NULL, "/", &save)) {
		err = kvfs_lookup(fs, node, name, &next, &out->attr);
		kvfs_node_forget(fs, node, node != kvfs_root(fs));
		node = err ? kvfs_root(fs) : next;
	}
	if (err)
		return;
	out->dir = S_ISDIR(out->attr.mode);
	out->file = !out->dir;
	if (out->dir) {
		ok(kvfs_dir_open(fs, node, &dir));
		ok(kvfs_dir_read(dir, 0, false, add_name, names));
		kvfs_dir_close(dir);
	} else {
		ok(kvfs_read(fs, node, 0, 1U << 20, &out->contents));
	}
	kvfs_node_forget(fs, node, node != kvfs_root(fs));
}

static bool is_same(const struct sight *a, const struct sight *b)
{
	return !memcmp(&a->attr.ctime, &b->attr.ctime, sizeof(a->attr.ctime.sec)) &&
	       a->attr.ctime.nsec == b->attr.ctime.nsec && a->attr.mtime.sec == b->attr.mtime.sec &&
	       a->attr.mtime.nsec == b->attr.mtime.nsec && a->attr.size == b->attr.size &&
	       a->attr.mode == b->attr.mode &&
	       slice_equal(kv_buf_slice(&a->contents), kv_buf_slice(&b->contents));
}

static bool has_name(const struct kv_buf *names, const char *name)
{
	for (size_t at = 0; at < names->len; at += strlen((char *)names->data + at) + 1)
		if (!strcmp((char *)names->data + at, name))
			return true;
	return false;
}

/* ---- and by the search ----------------------------------------------------------------------- */

struct expected {
	struct sight sights[OPS * 2 + SNAPSHOTS];
	size_t count, met;
	struct kv_buf names, told;
	bool there;
};

static int meet_version(void *ctx, const struct kvfs_version *version)
{
	struct expected *e = ctx;
	struct sight s;
	struct kvfs *fs;

	ck_assert_uint_lt(e->met, e->count);
	if (version->snapshot)
		ok(kvfs_open_snapshot(m.fs, version->snapshot, &fs));
	else
		ok(kvfs_open_at(m.fs, version->commit, &fs));
	look(fs, (const char *)e->told.data + version->skip, &s, NULL);
	ck_assert(s.file && is_same(&s, &e->sights[e->met]));
	ck_assert_uint_eq(version->attr.size, s.attr.size);
	kv_buf_free(&s.contents);
	ok(kvfs_close(fs));
	ck_assert_uint_ge(strlen(version->name), KVFS_VERSION_TIME_LEN);
	e->met++;
	return 0;
}

static int meet_name(void *ctx, const char *name)
{
	struct expected *e = ctx;

	ck_assert_msg(has_name(&e->names, name), "%s was never there", name);
	if (!has_name(&e->told, name))
		ok(buf_append(&e->told, name, strlen(name) + 1));
	return 0;
}

static int compare_sights(const void *a, const void *b)
{
	const struct kvfs_time x = ((const struct sight *)a)->attr.ctime;
	const struct kvfs_time y = ((const struct sight *)b)->attr.ctime;

	if (x.sec != y.sec)
		return x.sec < y.sec ? -1 : 1;
	return (x.nsec > y.nsec) - (x.nsec < y.nsec);
}

/* The tree as of a commit or a snapshot comes next. */
static void expect_state(struct expected *e, struct kvfs *fs, const char *path, ssize_t *last)
{
	struct sight s;

	look(fs, path, &s, &e->names);
	ok(kvfs_close(fs));
	e->there = e->there || s.file || s.dir;
	if (!s.file || (*last >= 0 && is_same(&e->sights[*last], &s))) {
		kv_buf_free(&s.contents);
		return;
	}
	ck_assert_uint_lt(e->count, KV_ARRAY_COUNT(e->sights));
	*last = (ssize_t)e->count;
	e->sights[e->count++] = s;
}

static void check_path(const char *path)
{
	static struct expected e;
	struct kv_snapshot_info *list = NULL;
	struct kv_history_info info;
	struct kvfs_versions *v;
	struct kvfs *fs;
	size_t count = 0;
	ssize_t last = -1;

	memset(&e, 0, sizeof(e));
	ok(kv_snapshot_list(kvfs_db(m.fs), &list, &count));
	kv_history_get(kvfs_db(m.fs), &info);
	for (size_t i = 0; i < count; i++)
		if (!info.begun || list[i].seq < info.from) {
			ok(kvfs_open_snapshot(m.fs, list[i].name, &fs));
			expect_state(&e, fs, path, &last);
		}
	for (kv_seq seq = info.from; info.begun && seq <= info.newest; seq++) {
		ok(kvfs_open_at(m.fs, seq, &fs));
		expect_state(&e, fs, path, &last);
	}
	free(list);
	qsort(e.sights, e.count, sizeof(e.sights[0]), compare_sights);

	ok(kvfs_versions_open(m.fs, test_str(path), &v));
	ck_assert_int_eq(kvfs_versions_look(v, &root_caller), e.there ? 0 : -ENOENT);
	ok(buf_append(&e.told, path, strlen(path) + 1));
	ok(kvfs_versions_each(v, &root_caller, meet_version, &e));
	ck_assert_uint_eq(e.met, e.count);
	buf_clear(&e.told);
	ok(kvfs_versions_names(v, &root_caller, meet_name, &e));
	for (size_t at = 0; at < e.names.len; at += strlen((char *)e.names.data + at) + 1)
		ck_assert_msg(has_name(&e.told, (char *)e.names.data + at), "%s in %s is missing",
			      (char *)e.names.data + at, path);
	kvfs_versions_close(v);
	for (size_t i = 0; i < e.count; i++)
		kv_buf_free(&e.sights[i].contents);
	kv_buf_free(&e.names);
	kv_buf_free(&e.told);
}

/* ---- random pasts ---------------------------------------------------------------------------- */

/* The directory of a random path, referenced, and the last name. NULL: it is none. */
static struct kvfs_node *random_place(struct test_rng *rng, char name[4])
{
	struct kvfs_node *dir;
	struct kvfs_attr attr;

	(void)snprintf(name, 4, "%c", (char)('a' + (char)test_rng_below(rng, NAMES)));
	if (test_rng_below(rng, 3) == 0) {
		ok(kvfs_lookup(m.fs, m.root, ".", &dir, &attr));
		return dir;
	}
	if (kvfs_lookup(m.fs, m.root, name, &dir, &attr))
		return NULL;
	(void)snprintf(name, 4, "%c", (char)('a' + (char)test_rng_below(rng, NAMES)));
	if (S_ISDIR(attr.mode))
		return dir;
	model_forget(&m, dir);
	return NULL;
}

static void random_write(struct test_rng *rng, struct kvfs_node *dir, const char *name)
{
	static char bytes[9000];
	struct kvfs_node *node;
	struct kvfs_attr attr;
	size_t len = test_rng_below(rng, 3) ? 1 + test_rng_below(rng, 20) : sizeof(bytes);

	if (kvfs_lookup(m.fs, dir, name, &node, &attr))
		return;
	memset(bytes, (int)test_rng_below(rng, 256), len);
	if (S_ISREG(attr.mode))
		ok(kvfs_write(m.fs, node, test_rng_below(rng, 3000), kv_slice_of(bytes, len),
			      false));
	model_forget(&m, node);
}

/* A further name, whose record is then elsewhere. */
static void random_link(struct kvfs_node *dir, const char *name, struct kvfs_node *to,
			const char *other)
{
	struct kvfs_node *node, *again;

	if (kvfs_lookup(m.fs, dir, name, &node, NULL))
		return;
	if (!kvfs_link(m.fs, node, to, other, &again, NULL))
		model_forget(&m, again);
	model_forget(&m, node);
}

static void random_op(struct test_rng *rng)
{
	struct kvfs_node *dir, *to = NULL, *node = NULL;
	char name[4], other[4];

	dir = random_place(rng, name);
	if (!dir)
		return;
	switch (test_rng_below(rng, 11)) {
	case 0:
		(void)!kvfs_unlink(m.fs, dir, name);
		break;
	case 1:
		(void)!kvfs_rmdir(m.fs, dir, name);
		break;
	case 2:
		(void)!kvfs_mkdir(m.fs, dir, name, 0755, &model_owner, &node, NULL);
		break;
	case 3:
	case 4:
		(void)!kvfs_mknod(m.fs, dir, name, S_IFREG | 0644, 0, &model_owner, &node, NULL);
		break;
	case 5:
	case 6:
		to = random_place(rng, other);
		if (to)
			(void)!kvfs_rename(m.fs, dir, name, to, other, 0);
		break;
	case 7:
		to = random_place(rng, other);
		if (to)
			random_link(dir, name, to, other);
		break;
	default:
		random_write(rng, dir, name);
	}
	if (node)
		model_forget(&m, node);
	if (to)
		model_forget(&m, to);
	model_forget(&m, dir);
}

static void check_all(void)
{
	char path[8];

	check_path("");
	for (unsigned i = 0; i < NAMES; i++) {
		(void)snprintf(path, sizeof(path), "%c", 'a' + (int)i);
		check_path(path);
		for (unsigned j = 0; j < NAMES; j++) {
			(void)snprintf(path, sizeof(path), "%c/%c", 'a' + (int)i, 'a' + (int)j);
			check_path(path);
		}
	}
}

/* @history: when it begins, of the operations. */
static void random_past(const char *what, unsigned history)
{
	struct kvfs_history *h = NULL;
	struct test_rng rng = test_rng_seeded(what);
	char name[16];

	for (unsigned i = 0; i < OPS; i++) {
		if (i == history)
			ok(kvfs_history_start(m.fs, 3600, false, 1, &h));
		random_op(&rng);
		if (i % (OPS / SNAPSHOTS) == 0) {
			(void)snprintf(name, sizeof(name), "s%u", i);
			ok(kvfs_snapshot_create(m.fs, name));
		}
		if (test_rng_below(&rng, 40) == 0)
			ok(kv_flush(kvfs_db(m.fs)));
		if (test_rng_below(&rng, 100) == 0)
			ok(kv_compact(kvfs_db(m.fs), NULL));
	}
	check_all();
	kvfs_history_stop(h);
}

START_TEST(test_every_version_of_a_kept_history_is_found)
{
	random_past("history", 0);
}
END_TEST

START_TEST(test_versions_in_snapshots_are_found)
{
	random_past("snapshots", OPS);
}
END_TEST

START_TEST(test_versions_in_snapshots_and_later_in_history_are_found)
{
	random_past("both", OPS / 2);
}
END_TEST

/* ---- particular ones ------------------------------------------------------------------------- */

static int count_one(void *ctx, const struct kvfs_version *version)
{
	(void)version;
	++*(unsigned *)ctx;
	return 0;
}

static unsigned count_versions(const char *path, const struct kvfs_caller *who)
{
	struct kvfs_versions *v;
	unsigned n = 0;

	ok(kvfs_versions_open(m.fs, test_str(path), &v));
	ok(kvfs_versions_each(v, who, count_one, &n));
	kvfs_versions_close(v);
	return n;
}

static int count_name(void *ctx, const char *name)
{
	(void)name;
	++*(unsigned *)ctx;
	return 0;
}

static unsigned count_names(const char *path, const struct kvfs_caller *who)
{
	struct kvfs_versions *v;
	unsigned n = 0;

	ok(kvfs_versions_open(m.fs, test_str(path), &v));
	ok(kvfs_versions_names(v, who, count_name, &n));
	kvfs_versions_close(v);
	return n;
}

START_TEST(test_versions_of_one_time_are_told_apart)
{
	struct kvfs_attr attr = {.ctime = {1000, 5}, .mtime = {1000, 5}};
	struct kvfs_history *h;
	struct kvfs_versions *v;
	struct kvfs_version one;
	struct kvfs_node *file;
	static char bytes[70000];

	ok(kvfs_history_start(m.fs, 3600, false, 1, &h));
	file = model_mkfile(&m, m.root, "f", kv_slice_of(bytes, sizeof(bytes)));
	for (unsigned i = 0; i < 11; i++) {
		memset(bytes, 'a' + (int)i, 100);
		ok(kvfs_write(m.fs, file, 66000, kv_slice_of(bytes, 100), false));
		ok(kvfs_setattr(m.fs, file, KVFS_SET_MTIME | KVFS_SET_CTIME, &attr, NULL));
	}
	model_forget(&m, file);
	ok(kvfs_versions_open(m.fs, test_str("f"), &v));
	ok(kvfs_versions_find(v, &root_caller, "1970-01-01T00:16:40.000000005Z", &one));
	ok(kvfs_versions_find(v, &root_caller, "1970-01-01T00:16:40.000000005Z.11", &one));
	ck_assert_str_eq(one.name, "1970-01-01T00:16:40.000000005Z.11");
	fails(kvfs_versions_find(v, &root_caller, "1970-01-01T00:16:40.000000005Z.12", &one),
	      -ENOENT);
	fails(kvfs_versions_find(v, &root_caller, "1970-01-01T00:16:40.000000005Z.1", &one),
	      -ENOENT);
	fails(kvfs_versions_find(v, &root_caller, "1970", &one), -ENOENT);
	fails(kvfs_versions_find(v, &root_caller, "", &one), -ENOENT);
	kvfs_versions_close(v);
	kvfs_history_stop(h);
}
END_TEST

/* With lazytime a write may leave the record as it is. */
START_TEST(test_a_write_whose_times_wait_is_a_version)
{
	static char bytes[70000];
	struct kvfs_history *h;
	struct kvfs_node *file;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	ok(kvfs_history_start(m.fs, 3600, false, 1, &h));
	file = model_mkfile(&m, m.root, "f", kv_slice_of(bytes, sizeof(bytes)));
	for (unsigned i = 0; i < 3; i++) {
		memset(bytes, 'a' + (int)i, 100);
		ok(kvfs_write(m.fs, file, 66000, kv_slice_of(bytes, 100), false));
	}
	model_forget(&m, file);
	ok(kvfs_snapshot_create(m.fs, "s"));
	check_path("f");
	ck_assert_uint_ge(count_versions("f", &root_caller), 4);
	kvfs_history_stop(h);
}
END_TEST

START_TEST(test_what_was_made_beside_it_is_no_version)
{
	struct kvfs_history *h;
	char name[8];

	ok(kvfs_history_start(m.fs, 3600, false, 1, &h));
	ok(kvfs_key_put(m.fs, test_str("d/f"), test_str("x"), NULL));
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "d/%u", i);
		ok(kvfs_key_put(m.fs, test_str(name), test_str("x"), NULL));
	}
	ck_assert_uint_eq(count_versions("d/f", &root_caller), 1);
	kvfs_history_stop(h);
}
END_TEST

/* What came and went in a directory while it was elsewhere was never at the path. */
START_TEST(test_names_are_those_of_the_time_when_the_directory_was_there)
{
	struct kvfs_history *h;
	struct kvfs_node *dir, *file;

	ok(kvfs_history_start(m.fs, 3600, false, 1, &h));
	dir = model_mkdir(&m, m.root, "a");
	ok(kvfs_rename(m.fs, m.root, "a", m.root, "b", 0));
	file = model_mkfile(&m, dir, "x", test_str("1"));
	model_forget(&m, file);
	ok(kvfs_unlink(m.fs, dir, "x"));
	file = model_mkfile(&m, dir, "y", test_str("1"));
	model_forget(&m, file);
	ok(kvfs_rename(m.fs, m.root, "b", m.root, "a", 0));
	model_forget(&m, dir);
	ck_assert_uint_eq(count_names("a", &root_caller), 1);
	ck_assert_uint_eq(count_names("b", &root_caller), 2);
	check_path("a");
	check_path("b");
	kvfs_history_stop(h);
}
END_TEST

START_TEST(test_a_snapshot_of_a_directory_has_only_what_is_in_it)
{
	ok(kvfs_key_put(m.fs, test_str("d/e/f"), test_str("1"), NULL));
	ok(kvfs_key_put(m.fs, test_str("dx"), test_str("1"), NULL));
	ok(kvfs_snapshot_create_of(m.fs, "sub", test_str("d/e")));
	ok(kvfs_key_put(m.fs, test_str("d/e/f"), test_str("2"), NULL));
	ck_assert_uint_eq(count_versions("d/e/f", &root_caller), 1);
	ck_assert_uint_eq(count_versions("dx", &root_caller), 0);
	check_path("dx/none");
	ok(kvfs_snapshot_create(m.fs, "all"));
	ck_assert_uint_eq(count_versions("d/e/f", &root_caller), 2);
	ck_assert_uint_eq(count_versions("dx", &root_caller), 1);
}
END_TEST

/* ---- rights ---------------------------------------------------------------------------------- */

struct groups {
	uint32_t gid;
	unsigned asked;
};

static bool in_group(void *ctx, uint32_t gid)
{
	struct groups *g = ctx;

	g->asked++;
	return g->gid == gid;
}

static void chmod_dir(const char *name, uint32_t mode)
{
	struct kvfs_node *dir = model_lookup(&m, m.root, name);
	struct kvfs_attr attr = {.mode = mode};

	ok(kvfs_setattr(m.fs, dir, KVFS_SET_MODE, &attr, NULL));
	model_forget(&m, dir);
}

static int look_at(const char *path, const struct kvfs_caller *who)
{
	struct kvfs_versions *v;
	int err;

	ok(kvfs_versions_open(m.fs, test_str(path), &v));
	err = kvfs_versions_look(v, who);
	kvfs_versions_close(v);
	return err;
}

/* The rights of a directory then count, not those that it has now. */
START_TEST(test_each_version_is_seen_by_whom_its_directories_let_pass)
{
	struct groups g = {.gid = 7};
	struct kvfs_caller stranger = {.uid = 4711, .in_group = in_group, .ctx = &g};
	struct kvfs_caller owner = {.uid = 1000, .in_group = in_group, .ctx = &g};

	ok(kvfs_key_put(m.fs, test_str("d/f"), test_str("open"), &model_owner));
	ok(kvfs_snapshot_create(m.fs, "s1"));
	chmod_dir("d", 0700);
	ok(kvfs_key_put(m.fs, test_str("d/f"), test_str("closed"), &model_owner));
	ok(kvfs_key_put(m.fs, test_str("d/g"), test_str("closed"), &model_owner));
	ok(kvfs_snapshot_create(m.fs, "s2"));
	ck_assert_uint_eq(count_versions("d/f", &owner), 2);
	ck_assert_uint_eq(count_versions("d/f", &stranger), 1);
	ck_assert_uint_eq(count_versions("d/g", &stranger), 0);
	ck_assert_int_eq(look_at("d/g", &stranger), -EACCES);
	ck_assert_int_eq(look_at("d/f", &stranger), 0);
	ck_assert_int_eq(look_at("d", &stranger), 0);
	ck_assert_int_eq(look_at("d/none", &stranger), -ENOENT);
	ck_assert_uint_eq(count_names("d", &owner), 2);
	ck_assert_uint_eq(count_names("d", &stranger), 1);
	chmod_dir("d", 0711); /* with what was made while it was shut */
	ok(kvfs_snapshot_create(m.fs, "s2b"));
	ck_assert_uint_eq(count_versions("d/f", &stranger), 2);
	ok(kvfs_snapshot_drop(m.fs, "s2b"));
	ck_assert_uint_eq(count_versions("d/f", &stranger), 1);
	ok(kvfs_key_put(m.fs, test_str("d/h"), test_str("x"), &model_owner));
	ok(kvfs_snapshot_create(m.fs, "s3"));
	ck_assert_uint_eq(count_versions("d/h", &stranger), 1);
	ck_assert_uint_eq(count_names("d", &stranger), 1); /* it may be passed, not listed */
	ok(kvfs_snapshot_drop(m.fs, "s1"));
	ck_assert_int_eq(look_at("d/f", &stranger), 0); /* as in s3 */
	ok(kvfs_snapshot_drop(m.fs, "s3"));
	ck_assert_int_eq(look_at("d/f", &stranger), -EACCES);
}
END_TEST

START_TEST(test_a_state_that_went_is_no_proof_any_more)
{
	struct kvfs_versions *v;

	ok(kvfs_key_put(m.fs, test_str("f"), test_str("1"), NULL));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_versions_open(m.fs, test_str("f"), &v));
	ok(kvfs_versions_look(v, &root_caller));
	ok(kvfs_snapshot_drop(m.fs, "s"));
	fails(kvfs_versions_look(v, &root_caller), -ENOENT);
	kvfs_versions_close(v);
}
END_TEST

START_TEST(test_paths_that_are_none_are_refused)
{
	static const char *const bad[] = {"/", "a/", "/a", "a//b", "..", "a/./b"};
	char name[KVFS_NAME_MAX + 2];
	struct kvfs_versions *v;

	for (size_t i = 0; i < KV_ARRAY_COUNT(bad); i++)
		fails(kvfs_versions_open(m.fs, test_str(bad[i]), &v), -EINVAL);
	memset(name, 'x', sizeof(name));
	fails(kvfs_versions_open(m.fs, kv_slice_of(name, sizeof(name)), &v), -ENAMETOOLONG);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_every_version_of_a_kept_history_is_found,
		test_versions_in_snapshots_are_found,
		test_versions_in_snapshots_and_later_in_history_are_found,
		test_versions_of_one_time_are_told_apart,
		test_a_write_whose_times_wait_is_a_version,
		test_what_was_made_beside_it_is_no_version,
		test_names_are_those_of_the_time_when_the_directory_was_there,
		test_a_snapshot_of_a_directory_has_only_what_is_in_it,
		test_each_version_is_seen_by_whom_its_directories_let_pass,
		test_a_state_that_went_is_no_proof_any_more,
		test_paths_that_are_none_are_refused,
	};

	return test_suite_run_with("versions", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
