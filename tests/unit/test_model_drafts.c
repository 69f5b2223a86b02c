/* SPDX-License-Identifier: MIT */
/*
 * Transactions as trees: what a draft shows, what becomes of it at a commit, what conflicts and
 * what does not, and what those see who look at the live tree meanwhile.
 */
#include "tests/support/model_fixture.h"

static struct model_fixture m; /* the live tree */
static struct model_fixture d; /* the draft */

static void setup(void)
{
	model_make(&m);
}

static void teardown(void)
{
	model_check(&m);
	model_free(&m);
}

static struct model_fixture begin_as(unsigned flags)
{
	struct model_fixture draft = m;

	ok(kvfs_draft_begin(m.fs, flags, &draft.fs));
	draft.root = kvfs_root(draft.fs);
	return draft;
}

static struct model_fixture begin(void)
{
	return begin_as(0);
}

static void abandon(struct model_fixture *draft)
{
	ok(kvfs_close(draft->fs));
}

/* ---- what a commit tells ---- */

static char told[4096];

static void on_conflict(void *ctx, struct kv_slice path)
{
	size_t len = strlen(told);

	(void)ctx;
	ck_assert_uint_lt(len + path.len + 2, sizeof(told));
	memcpy(told + len, path.data, path.len);
	told[len + path.len] = ' ';
	told[len + path.len + 1] = 0;
}

static void on_stale(void *ctx, uint64_t ino, const char *name)
{
	size_t len = strlen(told);

	(void)ctx;
	if (name)
		snprintf(told + len, sizeof(told) - len, "%u/%s ", (unsigned)ino, name);
}

static int commit(struct model_fixture *draft)
{
	const struct kvfs_draft_hooks hooks = {.conflict = on_conflict, .stale = on_stale};

	told[0] = 0;
	return kvfs_draft_commit(draft->fs, &hooks);
}

static void commits(struct model_fixture *draft)
{
	int err = commit(draft);

	if (err)
		ck_abort_msg("commit: %s: %s", kv_strerror(err), told);
	abandon(draft);
}

static void conflicts(struct model_fixture *draft, const char *paths)
{
	fails(commit(draft), -KV_E_CONFLICT);
	ck_assert_str_eq(told, paths);
	abandon(draft);
}

/* ---- short for what is done ---- */

static void file(struct model_fixture *f, struct kvfs_node *dir, const char *name, const char *text)
{
	model_forget(f, model_mkfile(f, dir, name, test_str(text)));
}

static void write_at(struct model_fixture *f, const char *name, const char *text)
{
	struct kvfs_node *node = model_lookup(f, f->root, name);

	ok(kvfs_write(f->fs, node, 0, test_str(text), false));
	model_forget(f, node);
}

static void expect(struct model_fixture *f, struct kvfs_node *dir, const char *name,
		   const char *text)
{
	struct kvfs_node *node = model_lookup(f, dir, name);

	model_expect(f, node, test_str(text));
	model_forget(f, node);
}

/* ---- tests ---- */

START_TEST(test_changes_show_in_the_draft_alone_until_the_commit)
{
	struct kvfs_node *dir, *same;

	file(&m, m.root, "old", "1");
	file(&m, m.root, "gone", "1");
	d = begin();
	file(&d, d.root, "new", "2");
	dir = model_mkdir(&d, d.root, "dir");
	file(&d, dir, "below", "3");
	write_at(&d, "old", "4");
	ok(kvfs_unlink(d.fs, d.root, "gone"));
	model_expect_list(&d, d.root, ". .. dir new old ");
	model_expect_list(&m, m.root, ". .. gone old ");
	expect(&m, m.root, "old", "1");
	expect(&d, d.root, "old", "4");
	model_forget(&d, dir);
	commits(&d);
	model_expect_list(&m, m.root, ". .. dir new old ");
	expect(&m, m.root, "old", "4");
	same = model_lookup(&m, m.root, "dir");
	expect(&m, same, "below", "3");
	ck_assert_uint_eq(model_attr(&m, m.root).nlink, 3);
	model_forget(&m, same);
}
END_TEST

START_TEST(test_an_aborted_draft_leaves_nothing)
{
	struct kvfs_attr attr;
	struct kvfs_node *node;

	file(&m, m.root, "f", "1");
	d = begin();
	write_at(&d, "f", "2");
	node = model_lookup(&d, d.root, "f");
	kvfs_draft_abort(d.fs);
	fails(kvfs_getattr(d.fs, node, &attr), -ESTALE);
	fails(kvfs_write(d.fs, node, 0, test_str("x"), false), -ESTALE);
	fails(commit(&d), -ESTALE);
	model_forget(&d, node);
	abandon(&d);
	expect(&m, m.root, "f", "1");
}
END_TEST

START_TEST(test_the_draft_is_the_volume_at_its_beginning)
{
	file(&m, m.root, "f", "1");
	d = begin();
	write_at(&m, "f", "2");
	file(&m, m.root, "later", "1");
	expect(&d, d.root, "f", "1");
	ck_assert(!model_exists(&d, d.root, "later"));
	commits(&d);
	expect(&m, m.root, "f", "2");
}
END_TEST

START_TEST(test_the_first_committer_of_a_file_wins)
{
	struct model_fixture other;

	file(&m, m.root, "f", "1");
	file(&m, m.root, "g", "1");
	d = begin();
	other = begin();
	write_at(&d, "f", "d");
	write_at(&other, "f", "o");
	write_at(&other, "g", "o");
	commits(&d);
	conflicts(&other, "/f ");
	expect(&m, m.root, "f", "d");
	expect(&m, m.root, "g", "1");
}
END_TEST

START_TEST(test_different_names_in_one_directory_do_not_conflict)
{
	struct kvfs_node *dir = model_mkdir(&m, m.root, "dir");
	struct kvfs_node *in_a, *in_b;
	struct model_fixture other;

	file(&m, dir, "x", "1");
	d = begin();
	other = begin();
	in_a = model_lookup(&d, d.root, "dir");
	in_b = model_lookup(&other, other.root, "dir");
	file(&d, in_a, "a", "1");
	model_forget(&d, model_mkdir(&d, in_a, "da"));
	file(&other, in_b, "b", "1");
	model_forget(&other, model_mkdir(&other, in_b, "db"));
	ok(kvfs_unlink(other.fs, in_b, "x"));
	model_forget(&d, in_a);
	model_forget(&other, in_b);
	commits(&d);
	model_forget(&m, model_mkdir(&m, dir, "dm"));
	commits(&other);
	model_expect_list(&m, dir, ". .. a b da db dm ");
	ck_assert_uint_eq(model_attr(&m, dir).nlink, 5);
	model_forget(&m, dir);
}
END_TEST

START_TEST(test_two_that_make_one_name_conflict)
{
	d = begin();
	file(&d, d.root, "f", "d");
	file(&m, m.root, "f", "m");
	conflicts(&d, "/f ");
	expect(&m, m.root, "f", "m");
}
END_TEST

START_TEST(test_reading_live_files_is_no_conflict)
{
	struct kv_buf got = {0};
	struct kvfs_node *node;

	model_free(&m);
	model_make_with(&m, 0, KVFS_STRICTATIME);
	file(&m, m.root, "f", "1");
	d = begin();
	write_at(&d, "f", "2");
	node = model_lookup(&m, m.root, "f");
	ok(kvfs_read(m.fs, node, 0, 1, &got));
	kv_buf_free(&got);
	model_forget(&m, node);
	commits(&d);
	expect(&m, m.root, "f", "2");
}
END_TEST

START_TEST(test_a_name_made_below_a_directory_that_the_draft_removed_conflicts)
{
	for (unsigned flags = 0; flags <= KVFS_LAZYTIME; flags += KVFS_LAZYTIME) {
		struct kvfs_node *dir;

		model_free(&m);
		model_make_with(&m, flags, KVFS_NOATIME);
		dir = model_mkdir(&m, m.root, "dir");
		d = begin();
		ok(kvfs_rmdir(d.fs, d.root, "dir"));
		file(&m, dir, "f", "1");
		conflicts(&d, "/dir/f ");
		expect(&m, dir, "f", "1");
		/* And the other way round. */
		ok(kvfs_unlink(m.fs, dir, "f"));
		d = begin();
		model_forget(&m, dir);
		dir = model_lookup(&d, d.root, "dir");
		file(&d, dir, "f", "1");
		model_forget(&d, dir);
		ok(kvfs_rmdir(m.fs, m.root, "dir"));
		conflicts(&d, "/dir ");
	}
}
END_TEST

START_TEST(test_a_directory_moved_by_the_draft_keeps_names_made_meanwhile)
{
	struct kvfs_node *dir = model_mkdir(&m, m.root, "dir");

	file(&m, dir, "a", "1");
	d = begin();
	ok(kvfs_rename(d.fs, d.root, "dir", d.root, "moved", 0));
	file(&m, dir, "b", "2");
	commits(&d);
	model_expect_list(&m, m.root, ". .. moved ");
	model_expect_list(&m, dir, ". .. a b "); /* the node went with it */
	file(&m, dir, "c", "3");
	model_forget(&m, dir);
	dir = model_lookup(&m, m.root, "moved");
	model_expect_list(&m, dir, ". .. a b c ");
	model_forget(&m, dir);
	/* The old name is free for another one. */
	model_forget(&m, model_mkdir(&m, m.root, "dir"));
}
END_TEST

START_TEST(test_a_prefix_that_another_directory_took_away_conflicts)
{
	struct kvfs_node *dir;

	d = begin();
	dir = model_mkdir(&d, d.root, "dir");
	file(&d, dir, "mine", "1");
	model_forget(&d, dir);
	dir = model_mkdir(&m, m.root, "dir");
	file(&m, dir, "theirs", "1");
	ok(kvfs_rename(m.fs, m.root, "dir", m.root, "away", 0));
	model_forget(&m, dir);
	conflicts(&d, "/dir ");
}
END_TEST

/* Files that somebody has open in the live tree are moved, linked and unlinked by the draft. */
START_TEST(test_open_files_of_the_live_tree_go_where_the_commit_puts_them)
{
	struct kvfs_node *moved, *linked, *gone, *dir, *deep;
	char *big = malloc(200000);

	memset(big, 'x', 200000);
	file(&m, m.root, "moved", "moved");
	file(&m, m.root, "linked", "linked");
	model_forget(&m, model_mkfile(&m, m.root, "gone", kv_slice_of(big, 200000)));
	moved = model_lookup(&m, m.root, "moved");
	linked = model_lookup(&m, m.root, "linked");
	gone = model_lookup(&m, m.root, "gone");
	d = begin();
	dir = model_mkdir(&d, d.root, "new");
	deep = model_mkdir(&d, dir, "deep");
	ok(kvfs_rename(d.fs, dir, "deep", d.root, "away", 0)); /* displaced */
	ok(kvfs_rename(d.fs, d.root, "moved", deep, "there", 0));
	model_forget(&d, deep);
	model_forget(&d, dir);
	dir = model_lookup(&d, d.root, "linked");
	ok(kvfs_link(d.fs, dir, d.root, "second", NULL, NULL));
	model_forget(&d, dir);
	ok(kvfs_unlink(d.fs, d.root, "gone"));
	commits(&d);
	ok(kvfs_write(m.fs, moved, 0, test_str("MOVED"), false));
	model_expect(&m, moved, test_str("MOVED"));
	ck_assert_uint_eq(model_attr(&m, linked).nlink, 2);
	model_expect(&m, gone, kv_slice_of(big, 200000));
	ck_assert_uint_eq(model_attr(&m, gone).nlink, 0);
	model_forget(&m, gone);
	model_forget(&m, linked);
	dir = model_lookup(&m, m.root, "away");
	expect(&m, dir, "there", "MOVED");
	model_forget(&m, dir);
	model_forget(&m, moved);
	ck_assert_uint_eq(model_count_keys(&m, 3), 0); /* no chunks are left */
	free(big);
}
END_TEST

START_TEST(test_contents_that_nobody_looks_at_go_with_the_commit)
{
	char *big = malloc(200000);

	memset(big, 'x', 200000);
	model_forget(&m, model_mkfile(&m, m.root, "big", kv_slice_of(big, 200000)));
	d = begin();
	ok(kvfs_unlink(d.fs, d.root, "big"));
	model_forget(&d, model_mkfile(&d, d.root, "brief", kv_slice_of(big, 200000)));
	ok(kvfs_unlink(d.fs, d.root, "brief"));
	commits(&d);
	ck_assert_uint_eq(model_count_keys(&m, 3), 0);
	ck_assert_uint_eq(model_count_keys(&m, 5), 0);
	free(big);
}
END_TEST

START_TEST(test_lazy_writes_of_others_conflict_although_no_record_shows_them)
{
	char *big = malloc(200000);
	struct kvfs_node *node;

	model_free(&m);
	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	memset(big, 'x', 200000);
	node = model_mkfile(&m, m.root, "big", kv_slice_of(big, 200000));
	d = begin();
	write_at(&d, "big", "mine");
	ok(kvfs_write(m.fs, node, 150000, test_str("theirs"), false));
	conflicts(&d, "/big ");
	model_forget(&m, node);
	free(big);
}
END_TEST

START_TEST(test_a_failed_call_is_undone)
{
	struct kvfs_node *dir;

	d = begin();
	dir = model_mkdir(&d, d.root, "dir");
	file(&d, dir, "f", "1");
	fails(kvfs_rmdir(d.fs, d.root, "dir"), -ENOTEMPTY);
	fails(kvfs_rename(d.fs, d.root, "dir", dir, "x", 0), -EINVAL);
	model_forget(&d, dir);
	model_expect_list(&d, d.root, ". .. dir ");
	commits(&d);
	model_expect_list(&m, m.root, ". .. dir ");
}
END_TEST

START_TEST(test_what_was_read_counts_if_it_is_serializable)
{
	for (unsigned flags = 0; flags <= KVFS_DRAFT_SERIALIZABLE; flags++) {
		model_free(&m);
		model_make(&m);
		file(&m, m.root, "a", "1");
		file(&m, m.root, "b", "1");
		d = begin_as(flags);
		expect(&d, d.root, "a", "1");
		write_at(&d, "b", "2");
		write_at(&m, "a", "2");
		if (flags)
			conflicts(&d, "/a ");
		else
			commits(&d);
	}
}
END_TEST

START_TEST(test_others_are_told_which_names_changed)
{
	struct kvfs_node *dir = model_mkdir(&m, m.root, "seen"), *in;
	char want[64];

	model_forget(&m, model_mkdir(&m, m.root, "unseen"));
	d = begin();
	in = model_lookup(&d, d.root, "seen");
	file(&d, in, "f", "1");
	model_forget(&d, in);
	in = model_lookup(&d, d.root, "unseen");
	file(&d, in, "g", "1");
	model_forget(&d, in);
	ok(commit(&d));
	abandon(&d);
	snprintf(want, sizeof(want), "1/seen %u/f 1/unseen ", (unsigned)kvfs_node_ino(dir));
	ck_assert_str_eq(told, want);
	model_forget(&m, dir);
}
END_TEST

START_TEST(test_a_read_only_volume_takes_no_draft_and_no_commit)
{
	struct kvfs *none;

	d = begin();
	file(&d, d.root, "f", "1");
	ok(kvfs_set_readonly(m.fs, true));
	fails(kvfs_draft_begin(m.fs, 0, &none), -KV_E_READONLY);
	fails(commit(&d), -KV_E_READONLY);
	ok(kvfs_set_readonly(m.fs, false));
	commits(&d);
	expect(&m, m.root, "f", "1");
}
END_TEST

/* Cut the power at every operation of the host during a commit: all of it is there or nothing, and
 * all if the call had returned. */
START_TEST(test_a_power_cut_leaves_all_of_a_commit_or_nothing)
{
	unsigned all = 0, none = 0;

	for (unsigned n = 1; n <= 60; n++) {
		char name[16];
		int err;

		model_free(&m);
		model_make(&m);
		file(&m, m.root, "old", "1");
		d = begin();
		for (unsigned i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "f%02u", i);
			file(&d, d.root, name, "new");
		}
		ok(kvfs_unlink(d.fs, d.root, "old"));
		ok(kvfs_sync(m.fs));
		sim_env_cut(m.env, n);
		err = commit(&d);
		sim_env_crash(m.env, n % 2 ? SIM_CRASH_MIX : SIM_CRASH_DROP);
		(void)!kvfs_close(d.fs);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		sim_env_heal(m.env);
		model_open(&m);
		if (model_exists(&m, m.root, "old"))
			ck_assert_int_ne(err, 0);
		for (unsigned i = 0; i < 50; i++) {
			snprintf(name, sizeof(name), "f%02u", i);
			ck_assert_int_eq(model_exists(&m, m.root, name),
					 !model_exists(&m, m.root, "old"));
		}
		all += model_exists(&m, m.root, "f00");
		none += !model_exists(&m, m.root, "f00");
	}
	ck_assert_uint_gt(all, 0);
	ck_assert_uint_gt(none, 0);
}
END_TEST

START_TEST(test_a_large_draft_waits_on_the_volume)
{
	struct kvfs_node *dir, *in;
	char name[16];

	d = begin();
	dir = model_mkdir(&d, d.root, "dir");
	for (unsigned i = 0; i < 30000; i++) {
		snprintf(name, sizeof(name), "f%05u", i);
		in = model_mkfile(&d, dir, name, test_str(name));
		model_forget(&d, in);
	}
	model_forget(&d, dir);
	commits(&d);
	dir = model_lookup(&m, m.root, "dir");
	for (unsigned i = 0; i < 30000; i += 997) {
		snprintf(name, sizeof(name), "f%05u", i);
		expect(&m, dir, name, name);
	}
	model_forget(&m, dir);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_changes_show_in_the_draft_alone_until_the_commit,
		test_an_aborted_draft_leaves_nothing,
		test_the_draft_is_the_volume_at_its_beginning,
		test_the_first_committer_of_a_file_wins,
		test_different_names_in_one_directory_do_not_conflict,
		test_two_that_make_one_name_conflict,
		test_reading_live_files_is_no_conflict,
		test_a_name_made_below_a_directory_that_the_draft_removed_conflicts,
		test_a_directory_moved_by_the_draft_keeps_names_made_meanwhile,
		test_a_prefix_that_another_directory_took_away_conflicts,
		test_open_files_of_the_live_tree_go_where_the_commit_puts_them,
		test_contents_that_nobody_looks_at_go_with_the_commit,
		test_lazy_writes_of_others_conflict_although_no_record_shows_them,
		test_a_failed_call_is_undone,
		test_what_was_read_counts_if_it_is_serializable,
		test_others_are_told_which_names_changed,
		test_a_read_only_volume_takes_no_draft_and_no_commit,
		test_a_power_cut_leaves_all_of_a_commit_or_nothing,
		test_a_large_draft_waits_on_the_volume,
	};

	return test_suite_run_with("model_drafts", tests, KV_ARRAY_COUNT(tests), 120, setup,
				   teardown);
}
