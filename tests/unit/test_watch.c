/* SPDX-License-Identifier: MIT */
/* The changes of a volume in the order of their commits: kinds, paths as of each commit, names
 * that stand in no index, resuming, and the window of history. */
#include <sys/xattr.h>

#include "fusefs/model/kvfs_history.h"
#include "fusefs/model/kvfs_stage.h"
#include "fusefs/model/window.h"
#include "tests/support/model_fixture.h"

#define S INT64_C(1000000000)

static struct model_fixture m;
static struct kvfs_watch *watch;
static struct kv_buf told;

static void begin(const char *below)
{
	ok(kv_history_begin(kvfs_db(m.fs), false));
	ok(kvfs_watch_open(m.fs, 0, test_str(below), &watch));
}

static void setup(void)
{
	model_make(&m);
	begin("");
}

static void teardown(void)
{
	kvfs_watch_close(watch);
	watch = NULL;
	kv_buf_free(&told);
	model_free(&m);
}

static int tell(void *ctx, const struct kvfs_event *e)
{
	(void)ctx;
	ok(buf_printf(&told, "%s %.*s", kvfs_event_word(e->kind), (int)e->path.len,
		      (const char *)e->path.data));
	if (e->kind == KVFS_EVENT_RENAMED)
		ok(buf_printf(&told, " < %.*s", (int)e->from.len, (const char *)e->from.data));
	return buf_printf(&told, "; ");
}

/* What was committed since the last call, a bar after each commit that is told. */
static void expect_of(struct kvfs_watch *w, const char *want)
{
	size_t len;
	int err;

	ok(kvfs_sync(m.fs));
	buf_clear(&told);
	do {
		len = told.len;
		err = kvfs_watch_next(w, tell, NULL);
		if (told.len > len)
			ok(buf_printf(&told, "| "));
	} while (!err);
	fails(err, -KV_E_NOTFOUND);
	ok(buf_append_byte(&told, 0));
	ck_assert_str_eq((char *)told.data, want);
}

static void expect(const char *want)
{
	expect_of(watch, want);
}

static void rename_to(struct kvfs_node *from, const char *a, struct kvfs_node *to, const char *b)
{
	ok(kvfs_rename(m.fs, from, a, to, b, 0));
}

START_TEST(test_each_kind_is_told_with_its_path)
{
	struct kvfs_attr set = {.mode = 0600, .size = 2, .mtime = {.sec = 7}};
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *f, *l;

	f = model_mkfile(&m, d, "f", test_str("content"));
	expect("created d; | created d/f; | written d/f; | ");
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MODE, &set, NULL));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_SIZE, &set, NULL));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_MTIME, &set, NULL));
	ok(kvfs_setattr(m.fs, d, KVFS_SET_MODE, &set, NULL));
	ok(kvfs_setattr(m.fs, m.root, KVFS_SET_MODE, &set, NULL));
	expect("attributes d/f; | truncated d/f; | attributes d/f; | attributes d; | attributes .; "
	       "| ");
	ok(kvfs_setxattr(m.fs, f, "user.a", test_str("v"), 0));
	ok(kvfs_setxattr(m.fs, d, "user.a", test_str("v"), 0));
	ok(kvfs_removexattr(m.fs, f, "user.a"));
	expect("xattr d/f; | xattr d; | xattr d/f; | ");
	ok(kvfs_symlink(m.fs, m.root, "s", "target", &model_owner, &l, NULL));
	model_forget(&m, l);
	ok(kvfs_link(m.fs, f, m.root, "g", &l, NULL));
	model_forget(&m, l);
	expect("created s; | linked g; | ");
	ok(kvfs_write(m.fs, f, 0, test_str("again"), false));
	expect("written d/f; written g; | ");
	ok(kvfs_unlink(m.fs, d, "f"));
	ok(kvfs_write(m.fs, f, 0, test_str("other"), false));
	ok(kvfs_unlink(m.fs, m.root, "g"));
	ok(kvfs_write(m.fs, f, 0, test_str("nobody"), false));
	ok(kvfs_unlink(m.fs, m.root, "s"));
	ok(kvfs_rmdir(m.fs, m.root, "d"));
	expect("unlinked d/f; | written g; | unlinked g; | unlinked s; | unlinked d; | ");
	model_forget(&m, f);
	model_forget(&m, d);
	expect("");
}
END_TEST

START_TEST(test_a_rename_is_told_from_and_to)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *e = model_mkdir(&m, m.root, "e");

	model_forget(&m, model_mkfile(&m, d, "f", test_str("1")));
	model_forget(&m, model_mkfile(&m, e, "g", test_str("2")));
	expect("created d; | created e; | created d/f; | written d/f; | created e/g; | written "
	       "e/g; | ");
	rename_to(d, "f", e, "h");
	rename_to(e, "h", e, "g");
	expect("renamed e/h < d/f; | unlinked e/g; renamed e/g < e/h; | ");
	model_forget(&m, model_mkfile(&m, d, "x", test_str("")));
	ok(kvfs_rename(m.fs, d, "x", e, "g", KVFS_RENAME_EXCHANGE));
	expect("created d/x; | renamed d/x < e/g; renamed e/g < d/x; | ");
	model_forget(&m, d);
	model_forget(&m, e);
}
END_TEST

/* After directories have moved, the paths are those of each commit, however late it is told. */
START_TEST(test_paths_are_as_of_each_commit)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, a, "b"), *f;

	f = model_mkfile(&m, b, "f", test_str("1"));
	rename_to(m.root, "a", m.root, "c");
	ok(kvfs_write(m.fs, f, 0, test_str("2"), false));
	rename_to(a, "b", m.root, "d");
	ok(kvfs_write(m.fs, f, 0, test_str("3"), false));
	model_forget(&m, model_mkdir(&m, m.root, "a"));
	rename_to(m.root, "d", a, "b");
	ok(kvfs_write(m.fs, f, 0, test_str("4"), false));
	rename_to(m.root, "c", m.root, "z");
	ok(kvfs_unlink(m.fs, b, "f"));
	expect("created a; | created a/b; | created a/b/f; | written a/b/f; | renamed c < a; | "
	       "written c/b/f; | renamed d < c/b; | written d/f; | created a; | "
	       "renamed c/b < d; | written c/b/f; | renamed z < c; | unlinked z/b/f; | ");
	model_forget(&m, f);
	model_forget(&m, b);
	model_forget(&m, a);
}
END_TEST

/* The same for a watch that begins when directories are displaced and files have several names. */
START_TEST(test_a_watch_that_begins_late_finds_displaced_directories_and_names)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *f, *l;

	f = model_mkfile(&m, a, "f", test_str("1"));
	ok(kvfs_link(m.fs, f, a, "g", &l, NULL));
	model_forget(&m, l);
	rename_to(m.root, "a", m.root, "c");
	kvfs_watch_close(watch);
	begin("");
	ok(kvfs_write(m.fs, f, 0, test_str("2"), false));
	rename_to(a, "f", m.root, "h");
	rename_to(m.root, "c", m.root, "d");
	ok(kvfs_write(m.fs, f, 0, test_str("3"), false));
	expect("written c/f; written c/g; | renamed h < c/f; | renamed d < c; | "
	       "written d/g; written h; | ");
	model_forget(&m, f);
	model_forget(&m, a);
}
END_TEST

START_TEST(test_only_what_is_below_is_told)
{
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b = model_mkdir(&m, m.root, "ab");

	kvfs_watch_close(watch);
	begin("a");
	model_forget(&m, model_mkfile(&m, a, "in", test_str("")));
	model_forget(&m, model_mkfile(&m, b, "out", test_str("")));
	rename_to(b, "out", a, "came");
	rename_to(a, "in", m.root, "went");
	rename_to(m.root, "a", m.root, "b");
	rename_to(m.root, "b", m.root, "a");
	expect("created a/in; | renamed a/came < ab/out; | renamed went < a/in; | "
	       "renamed b < a; | renamed a < b; | ");
	model_forget(&m, a);
	model_forget(&m, b);
}
END_TEST

/* A commit of many changes is one: of a draft, and of the key API. */
START_TEST(test_a_transaction_is_told_at_once)
{
	const struct kvfs_draft_hooks hooks = {0};
	struct model_fixture t = m;
	struct kvfs_txn *txn;
	struct kvfs_node *d;

	ok(kvfs_key_put(m.fs, test_str("x/old"), test_str("1"), NULL));
	ok(kvfs_key_put(m.fs, test_str("x/gone"), test_str("1"), NULL));
	expect("created x; created x/old; | created x/gone; | ");
	ok(kvfs_txn_begin(m.fs, NULL, &txn));
	ok(kvfs_txn_put(txn, test_str("x/old"), test_str("22")));
	ok(kvfs_txn_put(txn, test_str("y"), test_str("3")));
	ok(kvfs_txn_delete(txn, test_str("x/gone")));
	ok(kvfs_txn_commit(txn, false));
	expect("unlinked x/gone; written x/old; created y; | ");
	ok(kvfs_draft_begin(m.fs, 0, &t.fs));
	t.root = kvfs_root(t.fs);
	d = model_mkdir(&t, t.root, "d");
	model_forget(&t, model_mkfile(&t, d, "f", test_str("new")));
	ok(kvfs_rename(t.fs, t.root, "y", d, "y", 0));
	model_forget(&t, d);
	expect("");
	ok(kvfs_draft_commit(t.fs, &hooks));
	ok(kvfs_close(t.fs));
	expect("created d; created d/f; renamed d/y < y; | ");
}
END_TEST

/* With lazytime a write of what is there changes no record, and so no name. */
START_TEST(test_a_write_without_a_record_is_told)
{
	static uint8_t big[200000];
	struct kvfs_node *f, *l;

	teardown();
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	f = model_mkfile(&m, m.root, "f", kv_slice_of(big, sizeof(big)));
	begin("");
	ok(kvfs_write(m.fs, f, 70000, test_str("x"), false));
	rename_to(m.root, "f", m.root, "g");
	ok(kvfs_write(m.fs, f, 70000, test_str("y"), false));
	expect("written f; | renamed g < f; | written g; | ");
	ok(kvfs_link(m.fs, f, m.root, "h", &l, NULL));
	model_forget(&m, l);
	ok(kvfs_write(m.fs, f, 70000, test_str("z"), false));
	expect("linked h; | written g; written h; | ");
	model_forget(&m, f);
}
END_TEST

START_TEST(test_contents_of_any_size_are_written_and_truncated)
{
	static uint8_t big[200000];
	struct kvfs_attr set = {.size = 0};
	struct kvfs_node *f = model_mkfile(&m, m.root, "f", test_str("small"));

	ok(kvfs_write(m.fs, f, 0, kv_slice_of(big, sizeof(big)), false));
	ok(kvfs_write(m.fs, f, 100000, test_str("in the middle"), false));
	ok(kvfs_setattr(m.fs, f, KVFS_SET_SIZE, &set, NULL));
	ok(kvfs_write(m.fs, f, 0, test_str("again"), false));
	ok(kvfs_key_put(m.fs, test_str("f"), test_str("less"), NULL));
	expect("created f; | written f; | written f; | written f; | truncated f; | written f; | "
	       "truncated f; written f; | ");
	model_forget(&m, f);
}
END_TEST

/* Contents that files share are another's after the first write. */
START_TEST(test_a_clone_is_created_and_its_source_is_not_touched)
{
	static uint8_t big[200000];
	struct kvfs_node *a = model_mkdir(&m, m.root, "a"), *b, *f, *g;

	f = model_mkfile(&m, a, "f", kv_slice_of(big, sizeof(big)));
	expect("created a; | created a/f; | written a/f; | ");
	ok(kvfs_clone(m.fs, NULL, test_str("a"), test_str("b"), NULL, NULL));
	expect("created b; created b/f; | ");
	b = model_lookup(&m, m.root, "b");
	g = model_lookup(&m, b, "f");
	ok(kvfs_write(m.fs, g, 100000, test_str("mine"), false));
	ok(kvfs_write(m.fs, f, 100000, test_str("yours"), false));
	ok(kvfs_write(m.fs, g, 100000, test_str("mine"), false));
	expect("written b/f; | written a/f; | written b/f; | ");
	model_forget(&m, f);
	model_forget(&m, g);
	model_forget(&m, a);
	model_forget(&m, b);
}
END_TEST

START_TEST(test_a_watch_goes_on_where_another_ended)
{
	struct kvfs_watch *other;
	kv_seq at;

	model_forget(&m, model_mkfile(&m, m.root, "a", test_str("")));
	model_forget(&m, model_mkfile(&m, m.root, "b", test_str("")));
	ok(kvfs_sync(m.fs));
	while (!told.len) /* the first commit reserves ids */
		ok(kvfs_watch_next(watch, tell, NULL));
	at = kvfs_watch_position(watch);
	model_forget(&m, model_mkfile(&m, m.root, "c", test_str("")));
	ok(kvfs_watch_open(m.fs, at + 1, test_str(""), &other));
	expect_of(other, "created b; | created c; | ");
	fails(kvfs_watch_open(m.fs, kvfs_watch_position(other) + 2, test_str(""), &watch),
	      -KV_E_INVALID);
	kvfs_watch_close(other);
	ok(kvfs_watch_open(m.fs, at, test_str(""), &other));
	expect_of(other, "created a; | created b; | created c; | ");
	kvfs_watch_close(other);
}
END_TEST

static unsigned notes_on_volume(void)
{
	struct kv_buf notes = {0};
	unsigned count;

	ok(window_read_notes(m.fs, &notes));
	count = (unsigned)(notes.len / sizeof(struct window_note));
	kv_buf_free(&notes);
	return count;
}

static kv_seq from(void)
{
	struct kv_history_info info;

	kv_history_get(kvfs_db(m.fs), &info);
	return info.begun ? info.from : 0;
}

START_TEST(test_a_window_moves_with_the_time)
{
	struct kvfs_history *h;
	kv_seq first;
	bool dropped;

	kvfs_watch_close(watch);
	watch = NULL;
	ok(kv_history_end(kvfs_db(m.fs)));
	fails(kvfs_history_start(m.fs, 0, false, S, &h), -EINVAL);
	ok(kvfs_key_put(m.fs, test_str("k"), test_str("v"), NULL));
	ok(kvfs_history_start(m.fs, 100, false, 1000 * S, &h));
	first = from();
	for (int64_t t = 1001; t <= 1100; t++) {
		ok(kvfs_key_put(m.fs, test_str("k"), test_str("v"), NULL));
		ok(kvfs_history_tick(h, t * S, &dropped));
		ck_assert(!dropped);
	}
	ck_assert_uint_eq(from(), first);
	ok(kvfs_history_tick(h, 1150 * S, NULL));
	ck_assert_uint_eq(from(), first + 50);
	ok(kvfs_history_tick(h, 1151 * S, NULL));
	ck_assert_uint_eq(from(), first + 50);
	ok(kvfs_history_tick(h, 2000 * S, NULL));
	ck_assert_uint_eq(from(), first + 100);
	ck_assert_uint_eq(notes_on_volume(), 0);
	kvfs_history_stop(h);
	ck_assert_uint_eq(from(), 0);
}
END_TEST

START_TEST(test_a_lasting_window_goes_on_after_opening)
{
	struct kvfs_history *h;
	kv_seq first;

	kvfs_watch_close(watch);
	watch = NULL;
	ok(kv_history_end(kvfs_db(m.fs)));
	ok(kvfs_history_start(m.fs, 100, true, 1000 * S, &h));
	first = from();
	for (int64_t t = 1001; t <= 1010; t++) {
		ok(kvfs_key_put(m.fs, test_str("k"), test_str("v"), NULL));
		ok(kvfs_history_tick(h, t * S, NULL));
		ok(kvfs_history_tick(h, t * S + S / 2, NULL)); /* nothing but its own note came */
	}
	ck_assert_uint_eq(notes_on_volume(), 11);
	kvfs_history_stop(h);
	model_reopen(&m);
	ck_assert_uint_eq(from(), first);
	ok(kvfs_watch_open(m.fs, first + 1, test_str(""), &watch));
	buf_clear(&told);
	while (!told.len)
		ok(kvfs_watch_next(watch, tell, NULL));
	ck_assert_mem_eq(told.data, "created k; ", 11);
	ok(kvfs_history_start(m.fs, 100, true, 1105 * S, &h));
	ok(kvfs_history_tick(h, 1107 * S, NULL));
	ck_assert_uint_gt(from(), first + 10);
	ck_assert_uint_le(notes_on_volume(), 6);
	fails(kvfs_watch_next(watch, tell, NULL), -KV_E_GONE);
	kvfs_history_stop(h);
	ok(kvfs_history_forget(m.fs));
	ck_assert_uint_eq(notes_on_volume(), 0);
	ck_assert_uint_eq(from(), 0);
	ok(kvfs_history_forget(m.fs));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_each_kind_is_told_with_its_path,
		test_a_rename_is_told_from_and_to,
		test_paths_are_as_of_each_commit,
		test_a_watch_that_begins_late_finds_displaced_directories_and_names,
		test_only_what_is_below_is_told,
		test_a_transaction_is_told_at_once,
		test_a_write_without_a_record_is_told,
		test_contents_of_any_size_are_written_and_truncated,
		test_a_clone_is_created_and_its_source_is_not_touched,
		test_a_watch_goes_on_where_another_ended,
		test_a_window_moves_with_the_time,
		test_a_lasting_window_goes_on_after_opening,
	};

	return test_suite_run_with("watch", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
