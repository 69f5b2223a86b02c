/* SPDX-License-Identifier: MIT */
/*
 * Power loss in the middle of file operations. Each operation is one of a fixed
 * sequence, so the tree is known for every number of operations done: after a
 * crash it must be one of those, not older than the last sync, and the checker
 * must find nothing. Promises 1 to 4 of docs/crash-consistency.md.
 */
#include "kvcore/base/hash.h"
#include "tests/support/model_fixture.h"

#define OPS    160
#define ROUNDS 60

static struct model_fixture m;
static uint64_t state_hash[OPS + 1];

/* ---- the sequence ---- */

static struct kv_slice content_of(unsigned i)
{
	static uint8_t data[100000];
	static const size_t lens[] = {0, 5, 700, 3000, 70000, 100000};

	memset(data, (int)(i % 251 + 1), sizeof(data));
	return kv_slice_of(data, lens[i % 6]);
}

static struct kvfs_node *dir_of(unsigned i, int *err)
{
	struct kvfs_node *d = m.root;
	char name[16];

	*err = 0;
	if (i % 3 == 0)
		return d;
	snprintf(name, sizeof(name), "d%u", i % 3);
	*err = kvfs_lookup(m.fs, m.root, name, &d, NULL);
	return d;
}

/* One operation, one transaction. */
static int do_op(unsigned i)
{
	struct kvfs_node *d, *e, *n = NULL;
	char a[16], b[16];
	int err, err2;

	snprintf(a, sizeof(a), "f%u", i % 20);
	snprintf(b, sizeof(b), "f%u", (i * 7 + 3) % 20);
	if (i < 2) {
		snprintf(a, sizeof(a), "d%u", i + 1);
		return kvfs_mkdir(m.fs, m.root, a, 0755, &model_owner, NULL, NULL);
	}
	d = dir_of(i, &err);
	if (err)
		return err == -ENOENT ? 0 : err; /* it is called otherwise just now */
	e = dir_of(i / 3, &err);
	if (err) {
		if (d != m.root)
			kvfs_node_forget(m.fs, d, 1);
		return err == -ENOENT ? 0 : err;
	}
	switch (i % 8) {
	case 0:
		err = kvfs_rename(m.fs, d, a, e, b, 0);
		break;
	case 1:
		err = kvfs_unlink(m.fs, d, b);
		break;
	case 2:
		err = kvfs_rename(m.fs, m.root, i % 16 < 8 ? "d1" : "d2", m.root, "d3", 0);
		if (err == -ENOTEMPTY || err == -ENOENT)
			err = kvfs_rename(m.fs, m.root, "d3", m.root, "d1", 0);
		break;
	default:
		err = kvfs_lookup(m.fs, d, a, &n, NULL);
		if (err == -ENOENT)
			err = kvfs_mknod(m.fs, d, a, S_IFREG | 0644, 0, &model_owner, &n, NULL);
		else if (!err)
			err = kvfs_write(m.fs, n, i * 37, content_of(i), false);
		break;
	}
	err2 = err;
	if (n)
		kvfs_node_forget(m.fs, n, 1);
	if (d != m.root)
		kvfs_node_forget(m.fs, d, 1);
	if (e != m.root)
		kvfs_node_forget(m.fs, e, 1);
	/* What the sequence asks for and the tree refuses is no failure. */
	return err2 == -ENOENT || err2 == -EISDIR || err2 == -ENOTDIR || err2 == -ENOTEMPTY ? 0
											    : err2;
}

/* ---- the tree as a number ---- */

static int hash_emit(void *ctx, struct kv_slice key, struct kv_slice value)
{
	uint64_t *h = ctx;

	*h = hash_bytes(key, *h);
	*h = hash_bytes(value, *h);
	return 0;
}

static int hash_dirs(void *ctx, const struct kvfs_dirent *e)
{
	uint64_t *h = ctx;

	*h = hash_bytes(test_str(e->name), *h);
	return 0;
}

static uint64_t tree_hash(void)
{
	struct kvfs_scan scan = {.keys_only = false};
	struct kvfs_dir *dir;
	uint64_t h = 1;

	ok(kvfs_key_scan(m.fs, &scan, hash_emit, &h));
	ok(kvfs_dir_open(m.fs, m.root, &dir));
	ok(kvfs_dir_read(dir, 0, false, hash_dirs, &h));
	kvfs_dir_close(dir);
	return h;
}

static void learn(unsigned flags)
{
	model_make_with(&m, flags, KVFS_RELATIME);
	state_hash[0] = tree_hash();
	for (unsigned i = 0; i < OPS; i++) {
		ok(do_op(i));
		state_hash[i + 1] = tree_hash();
	}
	model_free(&m);
}

/* The number of operations that the tree shows: at least @synced, at most @done. */
static bool is_state(uint64_t hash, unsigned synced, unsigned done)
{
	for (unsigned i = synced; i <= done; i++)
		if (state_hash[i] == hash)
			return true;
	return false;
}

static void crash_once(struct test_rng *rng, unsigned flags)
{
	static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					       SIM_CRASH_GARBAGE};
	enum sim_crash mode = modes[test_rng_below(rng, 4)];
	struct kvfs_check_options o = {.found = model_print_problem};
	struct kvfs_check_result result;
	unsigned done = 0, synced = 0, ops = OPS;
	int err = 0;

	model_make_with(&m, flags, KVFS_RELATIME);
	/* The power goes in the middle of some write; a process is killed between two. */
	if (mode == SIM_CRASH_KILL)
		ops = (unsigned)test_rng_below(rng, OPS);
	else
		sim_env_cut(m.env, 1 + test_rng_below(rng, 400));
	while (done < ops && !err) {
		err = do_op(done);
		done++;
		if (!err && !test_rng_below(rng, 20) && !kvfs_sync(m.fs))
			synced = done;
		/* A killed process loses nothing that returned. */
		if (!err && mode == SIM_CRASH_KILL)
			synced = done;
	}
	sim_env_crash(m.env, mode);
	(void)!kvfs_close(m.fs);
	m.fs = NULL;
	o.env = sim_env_os(m.env);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	model_open(&m);
	ck_assert_msg(is_state(tree_hash(), synced, done),
		      "not a state between %u and %u, crash mode %d", synced, done, (int)mode);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_free(&m);
}

START_TEST(test_a_crash_leaves_a_state_that_was)
{
	struct test_rng rng = test_rng_seeded(__func__);

	learn(0);
	for (unsigned i = 0; i < ROUNDS; i++)
		crash_once(&rng, 0);
}
END_TEST

START_TEST(test_a_crash_with_lazy_times_leaves_a_state_that_was)
{
	struct test_rng rng = test_rng_seeded(__func__);

	learn(KVFS_LAZYTIME);
	for (unsigned i = 0; i < ROUNDS; i++)
		crash_once(&rng, KVFS_LAZYTIME);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_crash_leaves_a_state_that_was,
		test_a_crash_with_lazy_times_leaves_a_state_that_was,
	};

	return test_suite_run("crash_model", tests, KV_ARRAY_COUNT(tests), 300);
}
