/* SPDX-License-Identifier: MIT */
/*
 * The whole engine at once for two seconds: commits of several kinds beside point
 * reads, transactions, iterators, snapshot handles, flushes and compactions. What is
 * checked: commits are seen whole or not at all, in one order by everybody, never again once
 * something newer was seen, and at once by who made them.
 */
#include <stdatomic.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define RUN_NS	  2000000000ULL
#define PAIRS	  32U
#define LARGE_LEN 6000U
#define ACCOUNTS  16U
#define BALANCE	  1000U
#define BLOCK	  7U
#define WIDE	  100U /* so many that followers apply their own */
#define WIDE_FROM 10U  /* id of the first of two such writers */

enum { SPACE_PAIRS = 1, SPACE_BLOCK, SPACE_LARGE, SPACE_ACCOUNTS, SPACE_WIDE };

static struct kv_db *db;
static _Atomic bool done;
static _Atomic uint64_t looks; /* by readers, so that we know they did anything */

struct worker {
	struct os_thread thread;
	struct test_rng rng;
	uint8_t id;
};

static void put_u64(struct kv_batch *b, unsigned keyspace, struct kv_slice key, uint64_t v)
{
	uint8_t bytes[8];

	be64_put(bytes, v);
	ck_assert_int_eq(kv_batch_put(b, keyspace, key, kv_slice_of(bytes, 8)), 0);
}

static uint64_t u64_of(struct kv_slice v)
{
	ck_assert_uint_eq(v.len, 8);
	return be64_at(v.data);
}

/* 0: absent. */
static uint64_t get_u64(unsigned keyspace, struct kv_slice key)
{
	struct kv_buf v = {0};
	int err = kv_get(db, keyspace, key, &v);
	uint64_t n = 0;

	ck_assert(!err || err == -KV_E_NOTFOUND);
	if (!err)
		n = u64_of(kv_buf_slice(&v));
	kv_buf_free(&v);
	return n;
}

/* Pair @i of side 'a' or 'b'; the writer in the key, since each pair has one. */
static struct kv_slice pair_key(uint8_t out[3], char side, uint8_t writer, uint64_t i)
{
	out[0] = (uint8_t)side;
	out[1] = writer;
	out[2] = (uint8_t)i;
	return kv_slice_of(out, 3);
}

/* ---- writers -------------------------------------------------------------- */

/* Both halves of a pair in one batch, rising; own commits are visible at once. */
static void run_pairs(void *arg)
{
	struct worker *w = arg;
	struct kv_batch *b = NULL;
	uint8_t key[3];

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (uint64_t n = 1; !atomic_load(&done); n++) {
		uint64_t i = test_rng_below(&w->rng, PAIRS);
		unsigned flags = test_rng_below(&w->rng, 8) ? 0 : KV_COMMIT_SYNC;

		put_u64(b, SPACE_PAIRS, pair_key(key, 'a', w->id, i), n);
		put_u64(b, SPACE_PAIRS, pair_key(key, 'b', w->id, i), n);
		ck_assert_int_eq(kv_batch_write(b, flags, NULL), 0);
		ck_assert_uint_eq(get_u64(SPACE_PAIRS, pair_key(key, 'b', w->id, i)), n);
	}
	kv_batch_free(b);
}

/* A block of keys replaced as a whole: a range delete and other keys of a new generation. */
static void run_block(void *arg)
{
	struct worker *w = arg;
	struct kv_batch *b = NULL;
	struct kv_slice all = {NULL, 0};

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (uint64_t n = 1; !atomic_load(&done); n++) {
		ck_assert_int_eq(kv_batch_delete_range(b, SPACE_BLOCK, all, all), 0);
		for (uint8_t i = 0; i < BLOCK; i++) {
			uint8_t key[2] = {(uint8_t)test_rng_below(&w->rng, 200), i};

			put_u64(b, SPACE_BLOCK, kv_slice_of(key, 2), n);
		}
		ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	}
	kv_batch_free(b);
}

static struct kv_slice wide_key(uint8_t out[3], unsigned writer, uint64_t i)
{
	out[0] = (uint8_t)i;
	out[1] = (uint8_t)writer;
	out[2] = (uint8_t)(i >> 8);
	return kv_slice_of(out, 3);
}

/* Many keys in one batch, those of two writers side by side. */
static void run_wide(void *arg)
{
	struct worker *w = arg;
	struct kv_batch *b = NULL;
	uint8_t key[3];

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (uint64_t n = 1; !atomic_load(&done); n++) {
		for (uint64_t i = 0; i < WIDE; i++)
			put_u64(b, SPACE_WIDE, wide_key(key, w->id, i), n);
		ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
		ck_assert_uint_eq(get_u64(SPACE_WIDE, wide_key(key, w->id, n % WIDE)), n);
	}
	kv_batch_free(b);
}

/* Values outside the tree, each byte the same. */
static void run_large(void *arg)
{
	struct worker *w = arg;
	static uint8_t value[LARGE_LEN];

	while (!atomic_load(&done)) {
		uint8_t key = (uint8_t)test_rng_below(&w->rng, 4);

		test_rng_fill(&w->rng, value, 16);
		memset(value + 16, value[0], sizeof(value) - 16);
		ck_assert_int_eq(kv_put(db, SPACE_LARGE, kv_slice_of(&key, 1),
					kv_slice_of(value, sizeof(value)), 0),
				 0);
	}
}

static int move_money(struct kv_txn *txn, uint8_t from, uint8_t to, uint64_t amount)
{
	uint8_t account[2] = {from, to};
	struct kv_buf v = {0};
	int err = 0;

	for (unsigned i = 0; !err && i < 2; i++) {
		uint8_t bytes[8];
		struct kv_slice key = kv_slice_of(&account[i], 1);

		err = kv_txn_get_for_update(txn, SPACE_ACCOUNTS, key, &v);
		if (err)
			break;
		be64_put(bytes, u64_of(kv_buf_slice(&v)) + (i ? amount : -amount));
		err = kv_txn_put(txn, SPACE_ACCOUNTS, key, kv_slice_of(bytes, 8));
	}
	kv_buf_free(&v);
	return err;
}

static void run_transfers(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&done)) {
		uint8_t from = (uint8_t)test_rng_below(&w->rng, ACCOUNTS);
		uint8_t to =
			(uint8_t)((from + 1 + test_rng_below(&w->rng, ACCOUNTS - 1)) % ACCOUNTS);
		struct kv_txn *txn = NULL;
		int err;

		ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
		err = move_money(txn, from, to, test_rng_below(&w->rng, 10));
		if (err) {
			ck_assert(err == -KV_E_CONFLICT || err == -KV_E_DEADLOCK);
			kv_txn_abort(txn);
		} else {
			ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
		}
	}
}

/* ---- readers -------------------------------------------------------------- */

/* Newest versions never go back, and the second half is at least as new as the first. */
static void run_gets(void *arg)
{
	struct worker *w = arg;
	uint64_t seen[2][PAIRS] = {{0}};
	struct kv_buf v = {0};
	uint8_t key[3];

	while (!atomic_load(&done)) {
		uint8_t writer = (uint8_t)test_rng_below(&w->rng, 2);
		uint64_t i = test_rng_below(&w->rng, PAIRS);
		uint64_t a = get_u64(SPACE_PAIRS, pair_key(key, 'a', writer, i));
		uint64_t b = get_u64(SPACE_PAIRS, pair_key(key, 'b', writer, i));
		uint8_t large = (uint8_t)test_rng_below(&w->rng, 4);
		int err = kv_get(db, SPACE_LARGE, kv_slice_of(&large, 1), &v);

		ck_assert_uint_ge(a, seen[writer][i]);
		ck_assert_uint_ge(b, a);
		seen[writer][i] = b;
		ck_assert(!err || err == -KV_E_NOTFOUND);
		if (!err) {
			ck_assert_uint_eq(v.len, LARGE_LEN);
			ck_assert_uint_eq(v.data[LARGE_LEN - 1], v.data[0]);
		}
		atomic_fetch_add(&looks, 1);
	}
	kv_buf_free(&v);
}

/* Sum and count over a keyspace; all values the same if @same. */
static uint64_t scan(struct kv_txn *txn, unsigned keyspace, bool forward, bool same,
		     unsigned *count)
{
	struct kv_iter *it = NULL;
	struct kv_slice v;
	uint64_t sum = 0, first = 0;
	int err;

	ck_assert_int_eq(kv_iter_open(txn, keyspace, NULL, &it), 0);
	*count = 0;
	for (err = forward ? kv_iter_first(it) : kv_iter_last(it); !err && kv_iter_valid(it);
	     err = forward ? kv_iter_next(it) : kv_iter_prev(it)) {
		ck_assert_int_eq(kv_iter_value(it, &v), 0);
		first = *count ? first : u64_of(v);
		ck_assert(!same || u64_of(v) == first);
		sum += u64_of(v);
		++*count;
	}
	ck_assert(!err || err == -KV_E_NOTFOUND);
	kv_iter_close(it);
	return sum;
}

/* All of these hold in any one snapshot. */
static void check_snapshot(struct kv_txn *txn, struct test_rng *rng)
{
	bool forward = test_rng_below(rng, 2);
	struct kv_buf a = {0}, b = {0};
	uint8_t key[3];
	unsigned count;
	int err;

	ck_assert_uint_eq(scan(txn, SPACE_ACCOUNTS, forward, false, &count), ACCOUNTS * BALANCE);
	(void)scan(txn, SPACE_BLOCK, forward, true, &count);
	ck_assert(count == BLOCK || count == 0);
	for (uint64_t i = 0; i < PAIRS; i++) {
		err = kv_txn_get(txn, SPACE_PAIRS, pair_key(key, 'a', (uint8_t)(i % 2), i), &a);
		ck_assert_int_eq(
			kv_txn_get(txn, SPACE_PAIRS, pair_key(key, 'b', (uint8_t)(i % 2), i), &b),
			err);
		ck_assert(err || slice_equal(kv_buf_slice(&a), kv_buf_slice(&b)));
	}
	for (uint64_t i = 1; i < 2 * WIDE; i++) {
		unsigned writer = WIDE_FROM + (i >= WIDE);

		err = kv_txn_get(txn, SPACE_WIDE, wide_key(key, writer, 0), &a);
		ck_assert_int_eq(kv_txn_get(txn, SPACE_WIDE, wide_key(key, writer, i % WIDE), &b),
				 err);
		ck_assert(err || slice_equal(kv_buf_slice(&a), kv_buf_slice(&b)));
	}
	kv_buf_free(&a);
	kv_buf_free(&b);
	atomic_fetch_add(&looks, 1);
}

static void run_snapshots(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&done)) {
		struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
		struct kv_snapshot *snapshot = NULL;
		struct kv_txn *txn = NULL;

		if (test_rng_below(&w->rng, 2))
			ck_assert_int_eq(kv_snapshot_open(db, NULL, &snapshot), 0);
		o.snapshot = snapshot;
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
			check_snapshot(txn, &w->rng);
			ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
		}
		kv_snapshot_release(snapshot);
	}
}

static void run_upkeep(void *arg)
{
	struct worker *w = arg;

	while (!atomic_load(&done)) {
		int err = test_rng_below(&w->rng, 4) ? kv_flush(db) : kv_compact(db, NULL);

		ck_assert(!err || err == -KV_E_BUSY);
	}
}

/* ---- the run -------------------------------------------------------------- */

static void fill_accounts(void)
{
	struct kv_batch *b = NULL;

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (uint8_t i = 0; i < ACCOUNTS; i++)
		put_u64(b, SPACE_ACCOUNTS, kv_slice_of(&i, 1), BALANCE);
	ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	kv_batch_free(b);
}

START_TEST(test_all_at_once_is_atomic_ordered_and_monotonic)
{
	static void (*const jobs[])(void *) = {
		run_pairs, run_pairs, run_block,     run_large,	 run_transfers, run_transfers,
		run_gets,  run_gets,  run_snapshots, run_upkeep, run_wide,	run_wide,
	};
	static struct worker worker[KV_ARRAY_COUNT(jobs)];
	struct test_rng rng = test_rng_seeded("all");
	struct sim_env *sim = sim_env_new(test_rng_next(&rng));
	struct os_env *env = sim_env_os(sim);
	const struct kv_create_options c = {.log_size_bytes = 4U << 20, .env = env};
	const struct kv_options o = {
		.env = env, .cache_bytes = 8U << 20, .memtable_bytes = 256U << 10};
	struct kv_txn *txn = NULL;
	uint64_t end;

	ck_assert_int_eq(kv_create("vol", &c), 0);
	ck_assert_int_eq(kv_open("vol", &o, &db), 0);
	fill_accounts();
	for (unsigned i = 0; i < KV_ARRAY_COUNT(jobs); i++) {
		worker[i].rng.state = test_rng_next(&rng);
		worker[i].id = (uint8_t)i;
		ck_assert_int_eq(os_thread_start(&worker[i].thread, "worker", jobs[i], &worker[i]),
				 0);
	}
	end = os_monotonic_ns(os_env_host()) + RUN_NS;
	while (os_monotonic_ns(os_env_host()) < end)
		nanosleep(&(struct timespec){0, 10000000}, NULL);
	atomic_store(&done, true);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(jobs); i++)
		os_thread_join(&worker[i].thread);
	ck_assert_uint_gt(atomic_load(&looks), 10);
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(kv_open("vol", &o, &db), 0);
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	check_snapshot(txn, &rng);
	kv_txn_abort(txn);
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_all_at_once_is_atomic_ordered_and_monotonic,
	};

	return test_suite_run("engine_threads", tests, KV_ARRAY_COUNT(tests), 240);
}
