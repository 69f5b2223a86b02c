/* SPDX-License-Identifier: MIT */
/*
 * Power loss while open files are transactions: each file holds one of the values
 * that were committed to it, whole, none older than the last that was synced, and the
 * checker finds nothing. Promise 1 of docs/crash-consistency.md, for kvfs_stage_open().
 */
#include "fusefs/model/kvfs_stage.h"
#include "kvcore/base/hash.h"
#include "tests/support/model_fixture.h"

#define FILES  5
#define OPS    60
#define ROUNDS 80

static struct model_fixture m;
static unsigned committed[FILES]; /* the number of the last value, 0: no file */
static unsigned tried[FILES];
static unsigned synced[FILES];

/* Value @n: its length and bytes tell its number. */
static struct kv_slice value_of(unsigned n)
{
	static uint8_t data[300000];
	static const size_t lens[] = {4, 2000, 5000, 66000, 200000, 300000};
	size_t len = lens[n % 6];

	memset(data, (int)(n % 251 + 1), len);
	memcpy(data, &n, sizeof(n));
	return kv_slice_of(data, len);
}

/* Value @n goes in pieces through a stage of file @i, as a new file if there is none. */
static int put(unsigned i, unsigned n, bool gives_up)
{
	struct kv_slice value = value_of(n);
	struct kvfs_stage *s = NULL;
	struct kvfs_node *node;
	struct kvfs_attr attr;
	char name[8];
	int err;

	snprintf(name, sizeof(name), "f%u", i);
	err = kvfs_lookup(m.fs, m.root, name, &node, NULL);
	if (err == -ENOENT)
		err = kvfs_stage_create(m.fs, m.root, name, 0644, &model_owner, &node, &attr, &s);
	else if (!err)
		err = kvfs_stage_open(m.fs, node, &s);
	if (err)
		return err;
	/* Cut first, or overwritten and cut: both leave nothing of the old. */
	if (n % 2)
		err = kvfs_stage_set_size(s, 0);
	for (size_t off = 0; off < value.len && !err; off += 50000)
		err = kvfs_stage_write(
			s, off, kv_slice_of(value.data + off, min_u64(50000, value.len - off)),
			false);
	if (!err)
		err = kvfs_stage_set_size(s, value.len);
	if (!err && !gives_up)
		err = kvfs_stage_commit(s, false);
	kvfs_stage_close(s);
	kvfs_node_forget(m.fs, node, 1);
	return err;
}

static void expect_file(unsigned i)
{
	struct kv_buf data = {0};
	struct kvfs_node *node;
	unsigned n = 0;
	char name[8];
	int err;

	snprintf(name, sizeof(name), "f%u", i);
	err = kvfs_lookup(m.fs, m.root, name, &node, NULL);
	if (err == -ENOENT) {
		ck_assert_uint_eq(synced[i], 0);
		return;
	}
	ok(err);
	ok(kvfs_read(m.fs, node, 0, 400000, &data));
	ck_assert_uint_ge(data.len, sizeof(n));
	memcpy(&n, data.data, sizeof(n));
	ck_assert_msg(n && n >= synced[i] && (n <= committed[i] || n == tried[i]),
		      "file %u shows value %u, not %u to %u", i, n, synced[i], committed[i]);
	ck_assert(slice_equal(kv_buf_slice(&data), value_of(n)));
	kv_buf_free(&data);
	kvfs_node_forget(m.fs, node, 1);
}

static void crash_once(struct test_rng *rng)
{
	static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					       SIM_CRASH_GARBAGE};
	enum sim_crash mode = modes[test_rng_below(rng, 4)];
	struct kvfs_check_options o = {.found = model_print_problem};
	struct kvfs_check_result result;
	int err = 0;

	model_make(&m);
	memset(committed, 0, sizeof(committed));
	memset(tried, 0, sizeof(tried));
	memset(synced, 0, sizeof(synced));
	if (mode != SIM_CRASH_KILL)
		sim_env_cut(m.env, 1 + test_rng_below(rng, 600));
	for (unsigned n = 1; n <= OPS && !err; n++) {
		unsigned i = (unsigned)test_rng_below(rng, FILES);
		bool gives_up = !test_rng_below(rng, 4);

		if (!gives_up)
			tried[i] = n;
		err = put(i, n, gives_up);
		if (!err && !gives_up)
			committed[i] = n;
		if (!err && !test_rng_below(rng, 10) && !kvfs_sync(m.fs))
			memcpy(synced, committed, sizeof(synced));
		if (mode == SIM_CRASH_KILL && !test_rng_below(rng, OPS))
			break;
	}
	if (mode == SIM_CRASH_KILL) /* which loses nothing that returned */
		memcpy(synced, committed, sizeof(synced));
	sim_env_crash(m.env, mode);
	(void)!kvfs_close(m.fs);
	m.fs = NULL;
	o.env = sim_env_os(m.env);
	ok(kvfs_check(MODEL_VOLUME, &o, &result));
	ck_assert_uint_eq(result.problems, 0);
	model_open(&m);
	for (unsigned i = 0; i < FILES; i++)
		expect_file(i);
	ck_assert_uint_eq(model_count_keys(&m, MODEL_ORPHANS), 0);
	model_free(&m);
}

START_TEST(test_a_crash_leaves_the_old_or_the_new_contents)
{
	struct test_rng rng = test_rng_seeded(__func__);

	for (unsigned i = 0; i < ROUNDS; i++)
		crash_once(&rng);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {test_a_crash_leaves_the_old_or_the_new_contents};

	return test_suite_run("crash_stage", tests, KV_ARRAY_COUNT(tests), 300);
}
