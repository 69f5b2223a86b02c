/* SPDX-License-Identifier: MIT */
/*
 * Commits that do not fit the log: whole or not at all wherever the power goes, in order with
 * the commits of other threads, under locks and conflicts like any other, and without a trace
 * when there is no room for them.
 */
#include "kvcore/engine/ingest.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/bytes.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/commit_internal.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_stats.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME	    "vol"
#define VALUE_LEN   1000U
#define LARGE_COUNT 900U /* keys of a transaction larger than a quarter of the log */

static struct sim_env *sim;
static struct kv_db *db;
static uint8_t bytes[VALUE_LEN];

static int try_open(void)
{
	const struct kv_options o = {.env = sim_env_os(sim),
				     .cache_bytes = 8U << 20,
				     .memtable_bytes = 64U << 10,
				     .lock_timeout_ms = 5000,
				     .commit_interval_ms = 60000};

	return kv_open(VOLUME, &o, &db);
}

static void make(uint64_t size)
{
	struct kv_create_options c = {.log_size_bytes = 1U << 20, .size_bytes = size};

	sim = sim_env_new(3);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	ck_assert_int_eq(try_open(), 0);
	for (unsigned i = 0; i < VALUE_LEN; i++)
		bytes[i] = (uint8_t)(i * 2654435761U >> 13);
}

static struct kv_slice key_of(unsigned i, char buf[16])
{
	return kv_slice_of(buf, (size_t)snprintf(buf, 16, "%06u", i));
}

/* Every key with values that begin with @mark. */
static int put_all(struct kv_txn *txn, uint8_t mark, unsigned count)
{
	uint8_t value[VALUE_LEN];
	char buf[16];
	int err = 0;

	for (unsigned i = 0; !err && i < count; i++) {
		for (unsigned j = 0; j < VALUE_LEN; j += 8) /* nothing to compress */
			be64_put(value + j, hash_u64(i * VALUE_LEN + j));
		value[0] = mark;
		err = kv_txn_put(txn, 1, key_of(i, buf), kv_slice_of(value, sizeof(value)));
	}
	return err;
}

static int commit_all(uint8_t mark, unsigned count)
{
	struct kv_txn *txn;
	int err;

	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	err = put_all(txn, mark, count);
	if (!err)
		return kv_txn_commit(txn, 0, NULL);
	kv_txn_abort(txn);
	return err;
}

/* The mark that all keys have; 0: there are none. Fails if they differ. */
static uint8_t mark_of_all(unsigned count)
{
	struct kv_iter *it;
	struct kv_txn *txn;
	uint8_t mark = 0;
	unsigned n = 0;
	char buf[16];

	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	ck_assert_int_eq(kv_iter_open(txn, 1, NULL, &it), 0);
	for (int err = kv_iter_first(it); err != -KV_E_NOTFOUND; err = kv_iter_next(it)) {
		struct kv_slice value;

		ck_assert_int_eq(err, 0);
		ck_assert(slice_equal(kv_iter_key(it), key_of(n, buf)));
		ck_assert_int_eq(kv_iter_value(it, &value), 0);
		ck_assert_uint_eq(value.len, VALUE_LEN);
		ck_assert(!n || value.data[0] == mark);
		mark = value.data[0];
		n++;
	}
	ck_assert(n == 0 || n == count);
	kv_iter_close(it);
	kv_txn_abort(txn);
	return mark;
}

static uint64_t large_commits(void)
{
	struct kv_stats s;

	kv_get_stats(db, &s);
	return s.commits_large;
}

static void finish(void)
{
	struct kv_verify_options o = {.env = sim_env_os(sim)};
	struct kv_verify_result r;

	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(kv_verify(VOLUME, &o, &r), 0);
	ck_assert_uint_eq(r.problems, 0);
	sim_env_free(sim);
}

START_TEST(test_a_transaction_larger_than_the_log_commits)
{
	struct kv_db_info info;

	make(0);
	ck_assert_int_eq(kv_get_info(db, &info), 0);
	ck_assert_uint_gt(3000 * VALUE_LEN, info.log_size);
	ck_assert_int_eq(commit_all('a', 3000), 0);
	ck_assert_uint_eq(large_commits(), 1);
	ck_assert_uint_eq(mark_of_all(3000), 'a');
	ck_assert_int_eq(commit_all('b', 3000), 0);
	ck_assert_uint_eq(mark_of_all(3000), 'b');
	/* It was durable at once. */
	sim_env_crash(sim, SIM_CRASH_DROP);
	ck_assert_int_ne(kv_close(db), 0);
	ck_assert_int_eq(try_open(), 0);
	ck_assert_uint_eq(mark_of_all(3000), 'b');
	finish();
}
END_TEST

START_TEST(test_a_batch_larger_than_the_log_commits_and_can_be_used_again)
{
	struct kv_batch *b;
	char buf[16];

	make(0);
	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (unsigned round = 0; round < 2; round++) {
		bytes[0] = (uint8_t)('a' + round);
		for (unsigned i = 0; i < LARGE_COUNT; i++)
			ck_assert_int_eq(
				kv_batch_put(b, 1, key_of(i, buf), kv_slice_of(bytes, VALUE_LEN)),
				0);
		ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
		ck_assert_uint_eq(mark_of_all(LARGE_COUNT), bytes[0]);
	}
	ck_assert_uint_eq(large_commits(), 2);
	kv_batch_free(b);
	finish();
}
END_TEST

START_TEST(test_a_power_loss_at_any_write_leaves_all_of_it_or_nothing)
{
	unsigned old = 0, new = 0;

	for (uint64_t nth = 1; old + new < 200; nth += 1 + nth / 16) {
		uint8_t mark;
		int err;

		make(0);
		ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
		sim_env_cut(sim, nth);
		err = commit_all('b', LARGE_COUNT);
		sim_env_crash(sim, (enum sim_crash)(nth % 4));
		(void)!kv_close(db);
		ck_assert_int_eq(try_open(), 0);
		mark = mark_of_all(LARGE_COUNT);
		ck_assert(mark == 'b' || (mark == 'a' && err));
		old += mark == 'a';
		new += mark == 'b';
		finish();
		if (!err)
			break;
	}
	ck_assert_uint_gt(old, 10);
	ck_assert_uint_gt(new, 0);
}
END_TEST

START_TEST(test_without_room_the_caller_gets_enospc_and_nothing_else_happens)
{
	struct kv_db_info before, after;

	make(8U << 20);
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_get_info(db, &before), 0);
	for (unsigned round = 0; round < 3; round++) {
		ck_assert_int_eq(commit_all('b', 20000), -KV_E_NOSPACE);
		ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a');
	}
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_get_info(db, &after), 0);
	ck_assert_uint_eq(after.free, before.free);
	ck_assert_int_eq(commit_all('c', LARGE_COUNT), 0);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'c');
	finish();
}
END_TEST

START_TEST(test_a_failed_manifest_write_leaves_the_outcome_unknown)
{
	struct kv_txn *txn;
	uint8_t mark;

	make(0);
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_flush(db), 0); /* nothing else has to be written before the edit */
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	ck_assert_int_eq(put_all(txn, 'b', LARGE_COUNT), 0);
	sim_env_fail(sim, SIM_OP_SYNC, 1, false, -EIO);
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), -KV_E_UNKNOWN_OUTCOME);
	ck_assert_int_eq(kv_put(db, 1, test_str("x"), test_str("y"), 0), -KV_E_POISONED);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a');
	ck_assert_int_ne(kv_close(db), 0);
	sim_env_heal(sim);
	ck_assert_int_eq(try_open(), 0);
	mark = mark_of_all(LARGE_COUNT);
	ck_assert(mark == 'a' || mark == 'b');
	finish();
}
END_TEST

START_TEST(test_its_keys_are_locked_and_its_updates_conflict_like_any_other)
{
	const struct kv_txn_options impatient = {.lock_timeout_ms = 1};
	struct kv_txn *large, *other, *late;
	char buf[16];

	make(0);
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_txn_begin(db, NULL, &late), 0);
	ck_assert_int_eq(kv_txn_get(late, 1, key_of(5, buf), NULL), 0); /* its snapshot */
	ck_assert_int_eq(kv_txn_begin(db, NULL, &large), 0);
	ck_assert_int_eq(put_all(large, 'b', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_txn_begin(db, &impatient, &other), 0);
	ck_assert_int_eq(kv_txn_delete(other, 1, key_of(7, buf)), -KV_E_LOCK_TIMEOUT);
	kv_txn_abort(other);
	ck_assert_int_eq(kv_txn_commit(large, 0, NULL), 0);
	ck_assert_int_eq(kv_txn_delete(late, 1, key_of(7, buf)), -KV_E_CONFLICT);
	kv_txn_abort(late);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'b');
	finish();
}
END_TEST

/* What a key has: the first byte of its value. */
static uint8_t mark_of(unsigned i)
{
	struct kv_buf value = {0};
	uint8_t mark;
	char buf[16];

	ck_assert_int_eq(kv_get(db, 1, key_of(i, buf), &value), 0);
	mark = value.data[0];
	kv_buf_free(&value);
	return mark;
}

static void put_small(unsigned i, const char *mark)
{
	char buf[16];

	ck_assert_int_eq(kv_put(db, 1, key_of(i, buf), test_str(mark), 0), 0);
}

static void crash_and_open(enum sim_crash how)
{
	sim_env_crash(sim, how);
	(void)!kv_close(db);
	ck_assert_int_eq(try_open(), 0);
}

START_TEST(test_of_small_and_large_commits_the_later_one_wins)
{
	make(0);
	put_small(5, "s");
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	ck_assert_uint_eq(mark_of(5), 'a');
	put_small(6, "t");
	ck_assert_uint_eq(mark_of(6), 't');
	crash_and_open(SIM_CRASH_DROP); /* "t" was not synced */
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a');
	put_small(6, "t");
	ck_assert_int_eq(kv_sync(db), 0);
	crash_and_open(SIM_CRASH_DROP);
	ck_assert_uint_eq(mark_of(6), 't');
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_uint_eq(mark_of(5), 'a');
	ck_assert_uint_eq(mark_of(6), 't');
	ck_assert_int_eq(commit_all('b', LARGE_COUNT), 0);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'b');
	finish();
}
END_TEST

/* What is still in memory then would be newer than it by place and older by number. */
START_TEST(test_a_pause_leaves_nothing_in_memory)
{
	kv_seq last;

	make(0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 50; i++)
			put_small(i, "s");
		ck_assert_int_eq(commit_pause(db, &last), 0);
		ck_assert_uint_eq(last, snapshots_visible(db->snapshots));
		ck_assert(memtable_empty(commit_active(db)));
		os_mutex_lock(&db->mu);
		ck_assert_uint_eq(db->frozen_count, 0);
		os_mutex_unlock(&db->mu);
		commit_resume(db, 0);
	}
	finish();
}
END_TEST

START_TEST(test_a_large_transaction_can_be_prepared)
{
	struct kv_txn *txn;

	make(0);
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	for (unsigned round = 0; round < 4; round++) {
		uint8_t before = mark_of_all(LARGE_COUNT);
		uint8_t mark = (uint8_t)('b' + round);

		ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
		ck_assert_int_eq(put_all(txn, mark, LARGE_COUNT), 0);
		ck_assert_int_eq(kv_txn_prepare(txn, test_str("gid")), 0);
		ck_assert_uint_eq(mark_of_all(LARGE_COUNT), before);
		if (round & 1)
			crash_and_open(SIM_CRASH_DROP);
		if (round & 2)
			ck_assert_int_eq(kv_prepared_abort(db, test_str("gid")), 0);
		else
			ck_assert_int_eq(kv_prepared_commit(db, test_str("gid"), 0, NULL), 0);
		ck_assert_uint_eq(mark_of_all(LARGE_COUNT), round & 2 ? before : mark);
	}
	/* One that is not resolved does not hinder closing. */
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	ck_assert_int_eq(put_all(txn, 'x', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_txn_prepare(txn, test_str("gid")), 0);
	finish();
}
END_TEST

START_TEST(test_a_large_optimistic_transaction_is_validated)
{
	const struct kv_txn_options optimistic = {.flags = KV_TXN_OPTIMISTIC};
	struct kv_txn *txn;
	char buf[16];

	make(0);
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	for (unsigned round = 0; round < 2; round++) {
		ck_assert_int_eq(kv_txn_begin(db, &optimistic, &txn), 0);
		ck_assert_int_eq(kv_txn_get(txn, 1, key_of(1, buf), NULL), 0);
		ck_assert_int_eq(put_all(txn, 'b', LARGE_COUNT), 0);
		if (round)
			put_small(LARGE_COUNT / 2, "s");
		ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), round ? -KV_E_CONFLICT : 0);
		ck_assert_uint_eq(mark_of(LARGE_COUNT / 2), round ? 's' : 'b');
	}
	finish();
}
END_TEST

static enum sim_fate all_garbage(void *ctx, const char *name, uint64_t sector)
{
	(void)ctx;
	(void)name;
	(void)sector;
	return SIM_GARBAGE;
}

/* The manifest makes its large values durable: what is placed later shares no block with them. */
START_TEST(test_later_values_cannot_tear_those_of_a_large_commit)
{
	static uint8_t value[6001];
	struct kv_buf got = {0};
	struct kv_txn *txn;

	make(0);
	memset(value, 'v', sizeof(value));
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	ck_assert_int_eq(put_all(txn, 'a', LARGE_COUNT), 0);
	ck_assert_int_eq(kv_txn_put(txn, 2, test_str("value"), kv_slice_of(value, sizeof(value))),
			 0);
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
	value[0] = 'w';
	ck_assert_int_eq(kv_put(db, 2, test_str("later"), kv_slice_of(value, sizeof(value)), 0), 0);
	sim_env_crash_by(sim, all_garbage, NULL);
	(void)!kv_close(db);
	ck_assert_int_eq(try_open(), 0);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a');
	ck_assert_int_eq(kv_get(db, 2, test_str("value"), &got), 0);
	value[0] = 'v';
	ck_assert_uint_eq(got.len, sizeof(value));
	ck_assert_mem_eq(got.data, value, sizeof(value));
	kv_buf_free(&got);
	finish();
}
END_TEST

/* ---- beside others ---------------------------------------------------------------- */

static _Atomic bool stop;
static _Atomic uint64_t last_small; /* number that a small commit wrote last */

static void small_commits(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		uint64_t n = atomic_load(&last_small) + 1;
		struct kv_batch *b;
		char buf[16];

		ck_assert_int_eq(kv_batch_new(db, &b), 0);
		ck_assert_int_eq(kv_batch_put(b, 2, test_str("number"), kv_slice_of(&n, sizeof(n))),
				 0);
		ck_assert_int_eq(kv_batch_put(b, 2, key_of((unsigned)(n % 50), buf),
					      kv_slice_of(bytes, 200)),
				 0);
		ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
		atomic_store(&last_small, n);
		kv_batch_free(b);
	}
}

/* A scan and two reads in one snapshot: the large set and its marker agree. */
static void readers(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		const struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
		struct kv_buf first = {0}, last = {0};
		struct kv_txn *txn;
		char buf[16];

		ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
		ck_assert_int_eq(kv_txn_get(txn, 1, key_of(0, buf), &first), 0);
		ck_assert_int_eq(kv_txn_get(txn, 1, key_of(LARGE_COUNT - 1, buf), &last), 0);
		ck_assert_uint_eq(first.data[0], last.data[0]);
		kv_txn_abort(txn);
		kv_buf_free(&first);
		kv_buf_free(&last);
	}
}

static void check_order(uint64_t lead)
{
	struct os_thread threads[2];
	struct kv_buf got = {0};
	uint64_t acknowledged = 0;
	uint64_t found;

	make(0);
	db->ingest_lead = lead;
	ck_assert_int_eq(commit_all('a', LARGE_COUNT), 0);
	atomic_store(&stop, false);
	atomic_store(&last_small, 0);
	ck_assert_int_eq(os_thread_start(&threads[0], "small", small_commits, NULL), 0);
	ck_assert_int_eq(os_thread_start(&threads[1], "read", readers, NULL), 0);
	for (unsigned round = 1; round <= 6; round++) {
		acknowledged = atomic_load(&last_small);
		ck_assert_int_eq(commit_all((uint8_t)('a' + round), LARGE_COUNT), 0);
	}
	atomic_store(&stop, true);
	os_thread_join(&threads[0]);
	os_thread_join(&threads[1]);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a' + 6);
	/* A large commit is durable, and so is all that was acknowledged before it. */
	sim_env_crash(sim, SIM_CRASH_DROP);
	(void)!kv_close(db);
	ck_assert_int_eq(try_open(), 0);
	ck_assert_uint_eq(mark_of_all(LARGE_COUNT), 'a' + 6);
	ck_assert_int_eq(kv_get(db, 2, test_str("number"), &got), 0);
	ck_assert_uint_eq(got.len, 8);
	memcpy(&found, got.data, sizeof(found));
	ck_assert_uint_ge(found, acknowledged);
	kv_buf_free(&got);
	finish();
}

START_TEST(test_large_and_small_commits_of_several_threads_keep_their_order)
{
	check_order(0);
}
END_TEST

START_TEST(test_a_large_commit_whose_number_was_overtaken_takes_another)
{
	check_order(1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_transaction_larger_than_the_log_commits,
		test_a_batch_larger_than_the_log_commits_and_can_be_used_again,
		test_a_power_loss_at_any_write_leaves_all_of_it_or_nothing,
		test_without_room_the_caller_gets_enospc_and_nothing_else_happens,
		test_a_failed_manifest_write_leaves_the_outcome_unknown,
		test_its_keys_are_locked_and_its_updates_conflict_like_any_other,
		test_of_small_and_large_commits_the_later_one_wins,
		test_a_pause_leaves_nothing_in_memory,
		test_a_large_transaction_can_be_prepared,
		test_a_large_optimistic_transaction_is_validated,
		test_large_and_small_commits_of_several_threads_keep_their_order,
		test_a_large_commit_whose_number_was_overtaken_takes_another,
		test_later_values_cannot_tear_those_of_a_large_commit,
	};

	return test_suite_run("ingest", tests, KV_ARRAY_COUNT(tests), 120);
}
