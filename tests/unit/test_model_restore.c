/* SPDX-License-Identifier: MIT */
/*
 * The whole volume back at a snapshot while it is in use: random states there and back, open files,
 * caches of others, writers that do not stop, power cuts.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/support/meanwhile.h"
#include "tests/support/model_random.h"

static struct model_fixture m;
static uint8_t big[300000];

static void setup(void)
{
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	model_make(&m);
}

static void teardown(void)
{
	model_free(&m);
}

static int restore(const char *name)
{
	return kvfs_snapshot_restore(m.fs, name, NULL, NULL);
}

static void expect_state(const char *name)
{
	uint8_t want[KVFS_HASH_LEN], got[KVFS_HASH_LEN];

	ok(kvfs_snapshot_hash(m.fs, name, want));
	hash_now(m.fs, got);
	ck_assert_mem_eq(want, got, sizeof(want));
}

#define HELD 6U

/* Somebody always looks at some of the files, whatever becomes of them. */
START_TEST(test_random_states_are_restored)
{
	struct test_rng rng = test_rng_seeded("model_restore");
	struct kvfs_node *held[HELD] = {NULL};
	char name[16];

	for (unsigned round = 0; round < 40; round++) {
		for (unsigned n = (unsigned)test_rng_below(&rng, 60); n; n--)
			random_step(&m, &rng);
		for (unsigned i = 0; i < HELD; i++) {
			struct kvfs_node *dir;

			if (test_rng_below(&rng, 2))
				continue;
			if (held[i])
				model_forget(&m, held[i]);
			held[i] = NULL;
			dir = random_dir(&m, &rng);
			(void)!kvfs_lookup(m.fs, dir, random_name(&rng), &held[i], NULL);
			if (dir != m.root)
				model_forget(&m, dir);
		}
		(void)snprintf(name, sizeof(name), "s%u", round);
		ok(kvfs_snapshot_create(m.fs, name));
		(void)snprintf(name, sizeof(name), "s%u",
			       (unsigned)test_rng_below(&rng, round + 1));
		ok(restore(name));
		expect_state(name);
		for (unsigned i = 0; i < HELD; i++)
			if (held[i])
				(void)model_attr(&m, held[i]);
	}
	for (unsigned i = 0; i < HELD; i++)
		if (held[i])
			model_forget(&m, held[i]);
	ck_assert(!node_any(m.fs));
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	expect_state(name);
	model_check(&m);
	model_reopen(&m);
	expect_state(name);
}
END_TEST

struct stale {
	char text[256]; /* the names, a space after each */
	unsigned files;
};

static void note_stale(void *ctx, uint64_t ino, const char *name)
{
	struct stale *s = ctx;
	size_t len = strlen(s->text);

	(void)ino;
	if (name)
		(void)snprintf(s->text + len, sizeof(s->text) - len, "%s ", name);
	else
		s->files++;
}

START_TEST(test_open_files_live_on_and_caches_are_told)
{
	struct stale stale = {0};
	const struct kvfs_draft_hooks hooks = {.stale = note_stale, .ctx = &stale};
	struct kvfs_node *changed, *removed, *made, *f;
	uint64_t changed_id, removed_id, closed_id;

	changed = model_mkfile(&m, m.root, "changed", kv_slice_of(big, sizeof(big)));
	removed = model_mkfile(&m, m.root, "removed", test_str("removed"));
	f = model_mkfile(&m, m.root, "closed", kv_slice_of(big, sizeof(big)));
	changed_id = kvfs_node_ino(changed);
	removed_id = kvfs_node_ino(removed);
	closed_id = kvfs_node_ino(f);
	model_forget(&m, f);
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_write(m.fs, changed, 100000, test_str("!"), false));
	ok(kvfs_unlink(m.fs, m.root, "removed"));
	ok(kvfs_unlink(m.fs, m.root, "closed"));
	made = model_mkfile(&m, m.root, "made", kv_slice_of(big, 100000));

	ok(kvfs_snapshot_restore(m.fs, "s", NULL, &hooks));
	expect_state("s");
	ck_assert_str_eq(stale.text, "changed closed made removed ");
	ck_assert_uint_ge(stale.files, 3); /* changed, made, and the root directory */
	/* The same file, as it was. */
	f = model_lookup(&m, m.root, "changed");
	ck_assert_ptr_eq(f, changed);
	ck_assert_uint_eq(kvfs_node_ino(f), changed_id);
	model_expect(&m, f, kv_slice_of(big, sizeof(big)));
	model_forget(&m, f);
	/* Who had one open that was not there keeps it. */
	model_expect(&m, made, kv_slice_of(big, 100000));
	ck_assert_uint_eq(model_attr(&m, made).nlink, 0);
	model_expect(&m, removed, test_str("removed"));
	f = model_lookup(&m, m.root, "removed");
	ck_assert_ptr_eq(f, removed);
	ck_assert_uint_eq(kvfs_node_ino(f), removed_id);
	model_forget(&m, f);
	/* Nobody had this one. */
	f = model_lookup(&m, m.root, "closed");
	ck_assert_uint_eq(kvfs_node_ino(f), closed_id);
	model_forget(&m, f);
	ok(kvfs_write(m.fs, made, 0, test_str("still"), false));
	model_forget(&m, made);
	model_forget(&m, removed);
	model_forget(&m, changed);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_check(&m);
}
END_TEST

/* Contents that a clone shares are nobody's to write into. */
START_TEST(test_a_clone_keeps_what_it_shares)
{
	struct kvfs_node *d = model_mkdir(&m, m.root, "d"), *f;

	f = model_mkfile(&m, d, "f", kv_slice_of(big, sizeof(big)));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_write(m.fs, f, 0, test_str("changed"), false));
	ok(kvfs_clone(m.fs, NULL, test_str("d"), test_str("c"), NULL, NULL));
	ok(kvfs_snapshot_create(m.fs, "cloned"));
	ok(kvfs_unlink(m.fs, d, "f"));
	model_forget(&m, f);
	ok(restore("s"));
	expect_state("s");
	ok(restore("cloned"));
	expect_state("cloned");
	ok(kvfs_clone(m.fs, NULL, test_str("d"), test_str("e"), NULL, NULL));
	f = model_lookup(&m, d, "f");
	ok(kvfs_unlink(m.fs, d, "f"));
	ok(restore("cloned"));
	expect_state("cloned");
	model_forget(&m, f);
	model_forget(&m, d);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_check(&m);
}
END_TEST

static int stop(void *ctx, uint64_t done, uint64_t total)
{
	unsigned *calls = ctx;

	(void)done;
	(void)total;
	return ++*calls == 3;
}

START_TEST(test_what_cannot_be_restored_is_said)
{
	unsigned calls = 0;
	const struct kv_progress progress = {stop, &calls};
	struct test_rng rng = {7};
	struct kvfs *draft;

	fails(restore("none"), -KV_E_NOTFOUND);
	ok(kvfs_snapshot_create(m.fs, "empty"));
	for (unsigned n = 0; n < 200; n++)
		random_step(&m, &rng);
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_draft_begin(m.fs, 0, &draft));
	fails(kvfs_snapshot_restore(draft, "empty", NULL, NULL), -EINVAL);
	ok(kvfs_close(draft));
	model_forget(&m, model_mkdir(&m, m.root, "of"));
	ok(kvfs_snapshot_create_of(m.fs, "part", test_str("of")));
	fails(restore("part"), -EOPNOTSUPP);
	ok(kvfs_rmdir(m.fs, m.root, "of"));
	ok(kvfs_set_readonly(m.fs, true));
	fails(restore("empty"), -KV_E_READONLY);
	ok(kvfs_set_readonly(m.fs, false));
	ok(kvfs_snapshot_create(m.fs, "t"));
	fails(kvfs_snapshot_restore(m.fs, "empty", &progress, NULL), -KV_E_INTERRUPTED);
	expect_state("t");
	ok(restore("s"));
	expect_state("s");
	ok(restore("empty"));
	expect_state("empty");
	ck_assert_uint_eq(model_count_keys(&m, MODEL_DATA), 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_INODES), 0);
	model_check(&m);
}
END_TEST

/* ---- others who do not stop ---- */

static _Atomic bool stopped;

static void *write_on(void *arg)
{
	unsigned n = 0;

	(void)arg;
	while (!atomic_load(&stopped)) {
		char key[16];

		(void)snprintf(key, sizeof(key), "w/%u", n++ % 50);
		ok(kvfs_key_put(m.fs, test_str(key), test_str("x"), 0));
	}
	return NULL;
}

START_TEST(test_writers_do_not_hold_it_up)
{
	struct kv_buf value = {0};
	pthread_t thread;

	for (unsigned i = 0; i < 20; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "f/%u", i);
		ok(kvfs_key_put(m.fs, test_str(key), kv_slice_of(big, 5000 * i), 0));
	}
	model_forget(&m, model_mkdir(&m, m.root, "w"));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ck_assert_int_eq(pthread_create(&thread, NULL, write_on, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		ok(kvfs_key_put(m.fs, test_str("f/1"), test_str("changed"), 0));
		ok(kvfs_key_put(m.fs, test_str("f/new"), test_str("new"), 0));
		ok(restore("s"));
		fails(kvfs_key_get(m.fs, test_str("f/new"), &value), -KV_E_NOTFOUND);
	}
	atomic_store(&stopped, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ok(restore("s"));
	expect_state("s");
	kv_buf_free(&value);
	model_check(&m);
}
END_TEST

static int make_late(void *ctx)
{
	(void)ctx;
	return kvfs_key_put(m.fs, test_str("late"), test_str("x"), 0);
}

/* The snapshot does not have it, whether or not it touches what is written back. */
START_TEST(test_what_is_made_in_the_middle_is_undone_too)
{
	struct meanwhile late = {.act = make_late};
	const struct kv_progress progress = {meanwhile_report, &late};
	struct kv_buf value = {0};

	ok(kvfs_key_put(m.fs, test_str("d/f"), test_str("old"), 0));
	ok(kvfs_snapshot_create(m.fs, "s"));
	ok(kvfs_key_put(m.fs, test_str("d/f"), test_str("new"), 0));
	ok(kvfs_snapshot_restore(m.fs, "s", &progress, NULL));
	ck_assert(late.done);
	ok(late.err);
	fails(kvfs_key_get(m.fs, test_str("late"), &value), -KV_E_NOTFOUND);
	expect_state("s");
	kv_buf_free(&value);
	model_check(&m);
}
END_TEST

/* ---- power cuts ---- */

START_TEST(test_a_power_cut_leaves_before_or_after)
{
	uint8_t then[KVFS_HASH_LEN], last[KVFS_HASH_LEN], now[KVFS_HASH_LEN];
	unsigned before = 0, after = 0;
	bool ended = false;
	int err;

	for (unsigned n = 1; !ended; n++) {
		struct test_rng rng = {1};

		model_free(&m);
		model_make(&m);
		for (unsigned i = 0; i < 100; i++)
			random_step(&m, &rng);
		ok(kvfs_snapshot_create(m.fs, "s"));
		for (unsigned i = 0; i < 100; i++)
			random_step(&m, &rng);
		ok(kvfs_snapshot_hash(m.fs, "s", then));
		hash_now(m.fs, last);
		ok(kvfs_sync(m.fs));
		sim_env_cut(m.env, n);
		err = restore("s");
		ended = !err && n > 8;
		sim_env_crash(m.env, n % 2 ? SIM_CRASH_DROP : SIM_CRASH_MIX);
		(void)!kvfs_close(m.fs);
		m.fs = NULL;
		sim_env_heal(m.env);
		model_open(&m);
		hash_now(m.fs, now);
		if (memcmp(now, then, sizeof(now)) != 0) {
			ck_assert_msg(err, "what was acknowledged is gone");
			ck_assert_mem_eq(now, last, sizeof(now));
			before++;
		} else {
			after++;
		}
		ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
		model_check(&m);
	}
	ck_assert_uint_gt(before, 0);
	ck_assert_uint_gt(after, 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_random_states_are_restored,
		test_open_files_live_on_and_caches_are_told,
		test_a_clone_keeps_what_it_shares,
		test_what_cannot_be_restored_is_said,
		test_writers_do_not_hold_it_up,
		test_what_is_made_in_the_middle_is_undone_too,
		test_a_power_cut_leaves_before_or_after,
	};

	return test_suite_run_with("model_restore", tests, KV_ARRAY_COUNT(tests), 120, setup,
				   teardown);
}
