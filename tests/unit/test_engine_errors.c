/* SPDX-License-Identifier: MIT */
/*
 * The errors that kvcore.h documents, one test a function, as listed in docs/errors.md.
 * Those of transactions are in the tests of transactions, those of kvcore_check.h in the tests of
 * its files.
 */
#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define SIZE (32U << 20)

static struct sim_env *sim;
static struct kv_db *db;

static int open_with(const char *name, struct kv_options o)
{
	o.env = sim_env_os(sim);
	return kv_open(name, &o, &db);
}

static void setup(void)
{
	struct kv_create_options o = {.size_bytes = SIZE, .log_size_bytes = 1U << 20};

	sim = sim_env_new(1);
	o.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create("volume", &o), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){0}), 0);
	ck_assert_int_eq(kv_put(db, 1, test_str("key"), test_str("value"), 0), 0);
}

/* More pages than opening reads. */
static void put_many(void)
{
	char key[16];

	for (unsigned i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "a%06u", i);
		ck_assert_int_eq(kv_put(db, 1, test_str(key), test_str(key), 0), 0);
	}
}

static void teardown(void)
{
	sim_env_free(sim);
}

static void reopen_readonly(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.flags = KV_OPEN_RDONLY}), 0);
}

/* Every later write of the log fails. */
static void poison(void)
{
	sim_env_fail(sim, SIM_OP_SYNC, 1, true, -EIO);
	ck_assert_int_eq(kv_sync(db), -KV_E_POISONED);
	sim_env_heal(sim);
}

START_TEST(test_open)
{
	static const struct kv_options wrong[] = {
		{.flags = 1U << 31},
		{.cache_bytes = 1U << 20},
		{.memtable_bytes = 1},
		{.cache_bytes = 16U << 20, .memtable_bytes = 16U << 20},
		{.large_value_bytes = 1},
		{.large_value_bytes = 1U << 30},
		{.compaction_threads = 1000},
	};
	struct kv_db *first = db;

	ck_assert_int_eq(open_with("volume", (struct kv_options){0}), -KV_E_IN_USE);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(wrong); i++)
		ck_assert_int_eq(open_with("volume", wrong[i]), -KV_E_INVALID);
	ck_assert_int_eq(open_with("absent", (struct kv_options){0}), -ENOENT);
	sim_env_add_device(sim, "zeros", SIZE);
	ck_assert_int_eq(open_with("zeros", (struct kv_options){0}), -KV_E_NOT_A_VOLUME);
	ck_assert_ptr_eq(db, first);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

START_TEST(test_close_and_sync)
{
	poison();
	ck_assert_int_eq(kv_sync(db), -KV_E_POISONED);
	ck_assert_int_lt(kv_close(db), 0);
}
END_TEST

START_TEST(test_get)
{
	static const uint8_t long_key[KV_KEY_MAX + 1];
	struct kv_buf value = {0};

	ck_assert_int_eq(kv_get(db, 1, test_str("absent"), &value), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_get(db, 0, test_str("key"), &value), -KV_E_INVALID);
	ck_assert_int_eq(kv_get(db, KV_KEYSPACE_MAX + 1, test_str("key"), &value), -KV_E_INVALID);
	ck_assert_int_eq(kv_get(db, 1, kv_slice_of("", 0), &value), -KV_E_INVALID);
	ck_assert_int_eq(kv_get(db, 1, kv_slice_of(long_key, sizeof(long_key)), &value),
			 -KV_E_INVALID);
	put_many();
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){0}), 0);
	sim_env_fail(sim, SIM_OP_READ, 1, true, -EIO);
	ck_assert_int_eq(kv_get(db, 1, test_str("key"), &value), -EIO);
	sim_env_heal(sim);
	ck_assert_int_eq(kv_get(db, 1, test_str("key"), &value), 0);
	kv_buf_free(&value);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

static void flip_all(unsigned bit)
{
	/* The table is the only thing behind the log that is read again. */
	for (uint64_t off = (128U << 10) + (1U << 20); off < sim_env_size(sim, "volume"); off += 64)
		sim_env_flip(sim, "volume", off, bit);
}

START_TEST(test_damage_is_never_data)
{
	struct kv_buf value = {0};

	put_many();
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){0}), 0);
	flip_all(3);
	ck_assert_int_eq(kv_get(db, 1, test_str("key"), &value), -KV_E_CHECKSUM);
	flip_all(3);
	ck_assert_int_eq(kv_get(db, 1, test_str("key"), &value), 0);
	kv_buf_free(&value);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* Level 0 cannot go where something damaged is: that must not be waited for. */
START_TEST(test_compaction_beside_damage_ends)
{
	put_many();
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){0}), 0);
	flip_all(3);
	ck_assert_int_lt(kv_compact(db, NULL), 0);
	flip_all(3); /* what the database takes for damaged from now on is the old table */
	put_many();
	ck_assert_int_eq(kv_flush(db), 0);
	(void)!kv_compact(db, NULL);
	ck_assert_int_eq(kv_get(db, 1, test_str("a000007"), NULL), 0);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

START_TEST(test_large_puts_into_a_poisoned_volume_take_no_room)
{
	static const uint8_t value[60000];
	char key[16];

	poison();
	for (unsigned i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "%u", i);
		ck_assert_int_eq(kv_put(db, 1, test_str(key), kv_slice_of(value, sizeof(value)), 0),
				 -KV_E_POISONED);
	}
	ck_assert_int_lt(kv_close(db), 0);
}
END_TEST

START_TEST(test_put_and_delete)
{
	static const uint8_t long_key[KV_KEY_MAX + 1];
	const struct kv_slice huge = kv_slice_of("never read", (size_t)KV_VALUE_MAX + 1);
	const struct kv_slice v = test_str("value");

	ck_assert_int_eq(kv_put(db, 1, test_str("key"), huge, 0), -KV_E_TOO_BIG);
	ck_assert_int_eq(kv_put(db, 0, test_str("key"), v, 0), -KV_E_INVALID);
	ck_assert_int_eq(kv_put(db, 1, kv_slice_of("", 0), v, 0), -KV_E_INVALID);
	ck_assert_int_eq(kv_put(db, 1, kv_slice_of(long_key, sizeof(long_key)), v, 0),
			 -KV_E_INVALID);
	ck_assert_int_eq(kv_delete(db, 0, test_str("key"), 0), -KV_E_INVALID);
	poison();
	ck_assert_int_eq(kv_put(db, 1, test_str("key"), v, 0), -KV_E_POISONED);
	ck_assert_int_eq(kv_delete(db, 1, test_str("key"), 0), -KV_E_POISONED);
	ck_assert_int_lt(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.flags = KV_OPEN_RDONLY}), 0);
	ck_assert_int_eq(kv_put(db, 1, test_str("key"), v, 0), -KV_E_READONLY);
	ck_assert_int_eq(kv_delete(db, 1, test_str("key"), 0), -KV_E_READONLY);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

START_TEST(test_put_on_a_full_volume)
{
	static const uint8_t value[60000];
	char key[16];
	int err = 0;

	for (unsigned i = 0; !err && i < 10000; i++) {
		uint8_t random[60000];
		struct test_rng rng = {i};

		test_rng_fill(&rng, random, sizeof(random));
		snprintf(key, sizeof(key), "%u", i);
		err = kv_put(db, 1, test_str(key), kv_slice_of(random, sizeof(random)), 0);
	}
	ck_assert_int_eq(err, -KV_E_NOSPACE);
	ck_assert_int_eq(kv_put(db, 1, test_str("k"), kv_slice_of(value, 3000), KV_COMMIT_RESERVE),
			 0);
	ck_assert_int_eq(kv_delete(db, 1, test_str("1"), KV_COMMIT_RESERVE), 0);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* Put until it fails or all is written. @done: puts that succeeded. */
static int put_until_error(unsigned *done)
{
	char key[16];
	int err = 0;

	for (; !err && *done < 20000; *done += !err) {
		snprintf(key, sizeof(key), "f%06u", *done);
		err = kv_put(db, 1, test_str(key), test_str(key), 0);
	}
	return err;
}

static void check_put_until(unsigned done)
{
	struct kv_buf value = {0};
	char key[16];

	for (unsigned i = 0; i < done; i++) {
		snprintf(key, sizeof(key), "f%06u", i);
		ck_assert_int_eq(kv_get(db, 1, test_str(key), &value), 0);
		ck_assert_mem_eq(value.data, key, value.len);
	}
	kv_buf_free(&value);
}

START_TEST(test_put_while_tables_cannot_be_written)
{
	static const int reasons[] = {-EIO, -EROFS, -ENOMEM};
	unsigned done = 0;

	ck_assert_int_eq(kv_close(db), 0);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(reasons); i++) {
		done = 0;
		ck_assert_int_eq(
			open_with("volume", (struct kv_options){.memtable_bytes = 64U << 10}), 0);
		sim_env_fail(sim, SIM_OP_WRITE_DIRECT, 1, true, reasons[i]);
		ck_assert_int_eq(put_until_error(&done), reasons[i]);
		/* What was acknowledged is there, now and after a power loss; reads go on. */
		check_put_until(done);
		ck_assert_int_eq(kv_sync(db), 0);
		ck_assert_int_eq(kv_flush(db), reasons[i]);
		sim_env_crash(sim, SIM_CRASH_MIX);
		(void)!kv_close(db);
		ck_assert_int_eq(
			open_with("volume", (struct kv_options){.memtable_bytes = 64U << 10}), 0);
		check_put_until(done);
		ck_assert_int_eq(kv_close(db), 0);
	}
}
END_TEST

START_TEST(test_put_goes_on_when_tables_can_be_written_again)
{
	unsigned done = 0;
	int err;

	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.memtable_bytes = 64U << 10}), 0);
	sim_env_fail(sim, SIM_OP_WRITE_DIRECT, 1, true, -EIO);
	ck_assert_int_eq(put_until_error(&done), -EIO);
	sim_env_heal(sim);
	do { /* until the flush was tried again */
		err = put_until_error(&done);
	} while (err == -EIO);
	ck_assert_int_eq(err, 0);
	check_put_until(20000);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* The reason of the last failure is kept, but not taken for that of what was not tried yet. */
START_TEST(test_a_flush_that_is_asked_for_tries_at_once_what_failed)
{
	unsigned done = 0;

	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.memtable_bytes = 64U << 10}), 0);
	sim_env_fail(sim, SIM_OP_WRITE_DIRECT, 1, true, -EIO);
	ck_assert_int_eq(put_until_error(&done), -EIO);
	ck_assert_int_eq(kv_flush(db), -EIO);
	sim_env_heal(sim);
	ck_assert_int_eq(kv_flush(db), 0);
	ck_assert_int_eq(put_until_error(&done), 0);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

START_TEST(test_batch)
{
	const struct kv_slice huge = kv_slice_of("never read", (size_t)KV_VALUE_MAX + 1);
	struct kv_txn_options quick = {.lock_timeout_ms = 1};
	struct kv_batch *b;
	struct kv_txn *txn;

	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.lock_timeout_ms = 10}), 0);
	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	ck_assert_int_eq(kv_batch_put(b, 0, test_str("k"), test_str("v")), -KV_E_INVALID);
	ck_assert_int_eq(kv_batch_put(b, 1, test_str("k"), huge), -KV_E_TOO_BIG);
	ck_assert_int_eq(kv_batch_delete(b, 1, kv_slice_of("", 0)), -KV_E_INVALID);
	ck_assert_int_eq(kv_batch_delete_range(b, 1, test_str("b"), test_str("a")), -KV_E_INVALID);
	ck_assert_int_eq(kv_batch_put(b, 1, test_str("key"), test_str("v")), 0);
	ck_assert_int_eq(kv_txn_begin(db, &quick, &txn), 0);
	ck_assert_int_eq(kv_txn_lock(txn, 1, test_str("key")), 0);
	ck_assert_int_eq(kv_batch_write(b, 0, NULL), -KV_E_LOCK_TIMEOUT);
	/* Single operations are batches of one. */
	ck_assert_int_eq(kv_put(db, 1, test_str("key"), test_str("v"), 0), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(kv_delete(db, 1, test_str("key"), 0), -KV_E_LOCK_TIMEOUT);
	kv_txn_abort(txn);
	sim_env_fail(sim, SIM_OP_SYNC, 1, true, -EIO);
	ck_assert_int_eq(kv_batch_write(b, KV_COMMIT_SYNC, NULL), -KV_E_UNKNOWN_OUTCOME);
	sim_env_heal(sim);
	kv_batch_free(b);
	ck_assert_int_lt(kv_close(db), 0);
}
END_TEST

START_TEST(test_iterators)
{
	static const uint8_t long_key[KV_KEY_MAX + 1];
	const struct kv_slice too_long = kv_slice_of(long_key, sizeof(long_key));
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_iter *it;
	struct kv_txn *txn;

	ck_assert_int_eq(kv_txn_begin(db, &ro, &txn), 0);
	ck_assert_int_eq(kv_iter_open(txn, 0, NULL, &it), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_open(txn, 1, NULL, &it), 0);
	ck_assert_int_eq(kv_iter_next(it), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_prev(it), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_seek(it, too_long), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_seek_before(it, too_long), -KV_E_INVALID);
	ck_assert_int_eq(kv_iter_seek(it, test_str("z")), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_iter_seek_before(it, test_str("a")), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_iter_first(it), 0);
	ck_assert_int_eq(kv_iter_next(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_iter_last(it), 0);
	ck_assert_int_eq(kv_iter_prev(it), -KV_E_NOTFOUND);
	kv_iter_close(it);
	ck_assert_int_eq(kv_iter_open(txn, 2, NULL, &it), 0);
	ck_assert_int_eq(kv_iter_first(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_iter_last(it), -KV_E_NOTFOUND);
	kv_iter_close(it);
	kv_txn_abort(txn);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

START_TEST(test_snapshots)
{
	char long_name[KV_SNAPSHOT_NAME_MAX + 2];
	struct kv_snapshot *s;

	memset(long_name, 'x', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = 0;
	ck_assert_int_eq(kv_snapshot_create(db, NULL), -KV_E_INVALID);
	ck_assert_int_eq(kv_snapshot_create(db, ""), -KV_E_INVALID);
	ck_assert_int_eq(kv_snapshot_create(db, long_name), -KV_E_INVALID);
	ck_assert_int_eq(kv_snapshot_create(db, "s"), 0);
	ck_assert_int_eq(kv_snapshot_create(db, "s"), -KV_E_EXISTS);
	ck_assert_int_eq(kv_snapshot_open(db, "t", &s), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_snapshot_drop(db, "t"), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_snapshot_drop(db, NULL), -KV_E_INVALID);
	reopen_readonly();
	ck_assert_int_eq(kv_snapshot_create(db, "t"), -KV_E_READONLY);
	ck_assert_int_eq(kv_snapshot_drop(db, "s"), -KV_E_READONLY);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

static int stop(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	(void)done;
	(void)total;
	return 1;
}

START_TEST(test_flush_and_compact)
{
	const struct kv_progress progress = {stop, NULL};

	ck_assert_int_eq(kv_compact(db, &progress), -KV_E_INTERRUPTED);
	poison();
	ck_assert_int_eq(kv_flush(db), -KV_E_POISONED);
	ck_assert_int_eq(kv_compact(db, NULL), -KV_E_POISONED);
	ck_assert_int_lt(kv_close(db), 0);
	ck_assert_int_eq(open_with("volume", (struct kv_options){.flags = KV_OPEN_RDONLY}), 0);
	ck_assert_int_eq(kv_flush(db), -KV_E_READONLY);
	ck_assert_int_eq(kv_compact(db, NULL), -KV_E_READONLY);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_open,
		test_close_and_sync,
		test_get,
		test_damage_is_never_data,
		test_compaction_beside_damage_ends,
		test_large_puts_into_a_poisoned_volume_take_no_room,
		test_put_and_delete,
		test_put_on_a_full_volume,
		test_put_while_tables_cannot_be_written,
		test_put_goes_on_when_tables_can_be_written_again,
		test_a_flush_that_is_asked_for_tries_at_once_what_failed,
		test_batch,
		test_iterators,
		test_snapshots,
		test_flush_and_compact,
	};

	return test_suite_run_with("errors", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
