/* SPDX-License-Identifier: MIT */
/*
 * Several threads on one volume: operations on few names race with each other,
 * keys are incremented in transactions, files are read while they are written.
 * Afterwards the checker finds nothing, and no update is lost.
 */
#include "kvcore/os/os_thread.h"
#include "tests/support/model_fixture.h"

#define THREADS 4

static struct model_fixture m;
static atomic_uint conflicts;

struct worker {
	struct os_thread thread;
	struct test_rng rng;
	unsigned steps;
};

static void start_all(struct worker *w, unsigned steps, void (*run)(void *arg))
{
	for (unsigned i = 0; i < THREADS; i++) {
		w[i].rng.state = i + 1;
		w[i].steps = steps;
		ok(os_thread_start(&w[i].thread, "worker", run, &w[i]));
	}
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(&w[i].thread);
}

static const char *name_of(struct worker *w)
{
	static const char *const names[] = {"a", "b", "c", "d"};

	return names[test_rng_below(&w->rng, 4)];
}

/* The root, or a directory in it. */
static struct kvfs_node *dir_of(struct worker *w)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;

	if (test_rng_below(&w->rng, 2) || kvfs_lookup(m.fs, m.root, name_of(w), &node, &attr))
		return m.root;
	if (S_ISDIR(attr.mode))
		return node;
	kvfs_node_forget(m.fs, node, 1);
	return m.root;
}

static int list_nothing(void *ctx, const struct kvfs_dirent *e)
{
	unsigned *left = ctx;

	if (e->node)
		return 1; /* refused, so nothing is kept */
	return !--*left;
}

static void use_file(struct worker *w, struct kvfs_node *dir, const char *name)
{
	struct kv_buf data = {0};
	struct kvfs_node *node;
	int err = kvfs_lookup(m.fs, dir, name, &node, NULL);

	if (err) {
		ck_assert(err == -ENOENT);
		return;
	}
	err = kvfs_write(m.fs, node, test_rng_below(&w->rng, 100000), test_str("some bytes"),
			 false);
	ck_assert(!err || err == -EISDIR);
	err = kvfs_read(m.fs, node, 0, 100, &data);
	ck_assert(!err || err == -EISDIR);
	kv_buf_free(&data);
	kvfs_node_forget(m.fs, node, 1);
}

static void change_names(struct worker *w)
{
	struct kvfs_node *dir = dir_of(w), *to = dir_of(w), *node = NULL;
	const char *name = name_of(w);
	unsigned left = 5;
	struct kvfs_dir *d;

	switch (test_rng_below(&w->rng, 9)) {
	case 0:
		(void)!kvfs_mknod(m.fs, dir, name, S_IFREG | 0644, 0, &model_owner, &node, NULL);
		break;
	case 1:
		(void)!kvfs_mkdir(m.fs, dir, name, 0755, &model_owner, &node, NULL);
		break;
	case 2:
		(void)!kvfs_unlink(m.fs, dir, name);
		break;
	case 3:
		(void)!kvfs_rmdir(m.fs, dir, name);
		break;
	case 4:
		(void)!kvfs_rename(m.fs, dir, name, to, name_of(w), 0);
		break;
	case 5:
		(void)!kvfs_rename(m.fs, dir, name, to, name_of(w), KVFS_RENAME_EXCHANGE);
		break;
	case 6:
		if (!kvfs_lookup(m.fs, dir, name, &node, NULL)) {
			struct kvfs_node *out;

			if (!kvfs_link(m.fs, node, to, name_of(w), &out, NULL))
				kvfs_node_forget(m.fs, out, 1);
		}
		break;
	case 7:
		ok(kvfs_dir_open(m.fs, dir, &d));
		ok(kvfs_dir_read(d, 0, test_rng_below(&w->rng, 2), list_nothing, &left));
		kvfs_dir_close(d);
		break;
	default:
		use_file(w, dir, name);
		break;
	}
	if (node)
		kvfs_node_forget(m.fs, node, 1);
	if (dir != m.root)
		kvfs_node_forget(m.fs, dir, 1);
	if (to != m.root)
		kvfs_node_forget(m.fs, to, 1);
}

static void names_run(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < w->steps; i++)
		change_names(w);
}

static void race_names(unsigned flags)
{
	struct worker w[THREADS];

	model_make_with(&m, flags, KVFS_RELATIME);
	start_all(w, 600, names_run);
	for (unsigned i = 0; i < MODEL_SHARDS; i++)
		ck_assert_uint_eq(m.fs->shards[i].count, 0);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_check(&m);
	model_free(&m);
}

START_TEST(test_races_on_names_leave_a_sound_tree_and_no_node)
{
	race_names(0);
}
END_TEST

START_TEST(test_races_on_names_with_lazy_times)
{
	race_names(KVFS_LAZYTIME);
}
END_TEST

static int increment(const char *key)
{
	struct kv_buf value = {0};
	struct kvfs_txn *txn;
	uint64_t n = 0;
	int err;

	ok(kvfs_txn_begin(m.fs, &model_owner, &txn));
	err = kvfs_txn_get(txn, test_str(key), &value);
	ck_assert(!err || err == -KV_E_NOTFOUND);
	if (!err)
		memcpy(&n, value.data, sizeof(n));
	n++;
	ok(kvfs_txn_put(txn, test_str(key), kv_slice_of(&n, sizeof(n))));
	kv_buf_free(&value);
	return kvfs_txn_commit(txn, false);
}

static void increment_run(void *arg)
{
	static const char *const keys[] = {"dir/x", "dir/y", "z"};
	struct worker *w = arg;

	for (unsigned i = 0; i < w->steps; i++) {
		int err;

		do {
			err = increment(keys[i % 3]);
			if (err)
				atomic_fetch_add(&conflicts, 1);
		} while (err == -KV_E_CONFLICT);
		ok(err);
	}
}

START_TEST(test_transactions_on_keys_lose_no_update)
{
	struct worker w[THREADS];
	struct kv_buf value = {0};
	uint64_t n, sum = 0;

	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	start_all(w, 90, increment_run);
	ok(kvfs_key_get(m.fs, test_str("dir/x"), &value));
	memcpy(&n, value.data, sizeof(n));
	sum += n;
	ok(kvfs_key_get(m.fs, test_str("dir/y"), &value));
	memcpy(&n, value.data, sizeof(n));
	sum += n;
	ok(kvfs_key_get(m.fs, test_str("z"), &value));
	memcpy(&n, value.data, sizeof(n));
	sum += n;
	ck_assert_uint_eq(sum, THREADS * 90);
	kv_buf_free(&value);
	model_check(&m);
	model_free(&m);
}
END_TEST

/* All threads write the whole file with one byte value: a reader never sees two. */
static void writes_run(void *arg)
{
	static uint8_t block[THREADS][150000];
	struct worker *w = arg;
	struct kvfs_node *f = model_lookup(&m, m.root, "file");
	uint8_t mine = (uint8_t)w->rng.state;
	struct kv_buf got = {0};

	memset(block[mine - 1], mine, sizeof(block[0]));
	for (unsigned i = 0; i < w->steps; i++) {
		ok(kvfs_write(m.fs, f, 0, kv_slice_of(block[mine - 1], sizeof(block[0])), false));
		ok(kvfs_read(m.fs, f, 0, sizeof(block[0]), &got));
		ck_assert_uint_eq(got.len, sizeof(block[0]));
		ck_assert_uint_eq(got.data[0], got.data[got.len - 1]);
		ck_assert_uint_eq(got.data[0], got.data[got.len / 2]);
	}
	kv_buf_free(&got);
	model_forget(&m, f);
}

START_TEST(test_a_read_sees_no_half_of_a_write)
{
	struct worker w[THREADS];

	model_make_with(&m, KVFS_LAZYTIME, KVFS_NOATIME);
	model_forget(&m, model_mkfile(&m, m.root, "file", test_str("x")));
	start_all(w, 40, writes_run);
	model_check(&m);
	model_free(&m);
}
END_TEST

static void same_dir_run(void *arg)
{
	struct worker *w = arg;
	char key[64];

	for (unsigned i = 0; i < w->steps; i++) {
		snprintf(key, sizeof(key), "new%u/sub/key%u-%u", i / 10, (unsigned)w->rng.state, i);
		ok(kvfs_key_put(m.fs, test_str(key), test_str("v"), &model_owner));
	}
}

START_TEST(test_missing_parents_are_made_once)
{
	struct kvfs_check_result result;
	struct kvfs_check_options o = {.found = model_print_problem};
	struct worker w[THREADS];

	model_make(&m);
	start_all(w, 100, same_dir_run);
	model_close(&m);
	o.env = sim_env_os(m.env);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	ck_assert_uint_eq(result.files, THREADS * 100);
	ck_assert_uint_eq(result.directories, 1 + 10 + 10);
	model_free(&m);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_races_on_names_leave_a_sound_tree_and_no_node,
		test_races_on_names_with_lazy_times,
		test_transactions_on_keys_lose_no_update,
		test_a_read_sees_no_half_of_a_write,
		test_missing_parents_are_made_once,
	};

	return test_suite_run("model_threads", tests, KV_ARRAY_COUNT(tests), 120);
}
