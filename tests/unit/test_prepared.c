/* SPDX-License-Identifier: MIT */
/*
 * Two-phase commit, the participant's side: what is prepared keeps its locks and its
 * writes over closing, crashes, flushes and compactions, and is then committed or
 * aborted whole. Power is cut at every write of preparing and of resolving.
 */
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/prepared_stream.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME "vol"
#define LARGE  (3U << 20) /* several parts */

static struct sim_env *sim;
static struct kv_db *db;
static uint8_t large[LARGE];

static void open_with(unsigned flags)
{
	const struct kv_options o = {.env = sim_env_os(sim),
				     .flags = flags,
				     .cache_bytes = 16U << 20,
				     .memtable_bytes = 1U << 20,
				     .lock_timeout_ms = 20,
				     .commit_interval_ms = 60000};

	ck_assert_int_eq(kv_open(VOLUME, &o, &db), 0);
}

static void make(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	open_with(0);
}

static void setup(void)
{
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (uint8_t)(i * 2654435761U >> 13);
	make();
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

static void reopen(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	open_with(0);
}

static void crash(enum sim_crash mode)
{
	sim_env_crash(sim, mode);
	(void)!kv_close(db);
	open_with(0);
}

static void put(const char *key, const char *value)
{
	ck_assert_int_eq(kv_put(db, 1, test_str(key), test_str(value), 0), 0);
}

static bool is(const char *key, struct kv_slice value)
{
	struct kv_buf got = {0};
	int err = kv_get(db, 1, test_str(key), &got);
	bool same = !err && slice_equal(kv_buf_slice(&got), value);

	ck_assert(!err || err == -KV_E_NOTFOUND);
	kv_buf_free(&got);
	return value.data ? same : err == -KV_E_NOTFOUND;
}

static const struct kv_slice absent = {NULL, 0};

static struct kv_txn *begin(unsigned flags, enum kv_isolation isolation)
{
	const struct kv_txn_options o = {.flags = flags, .isolation = isolation};
	struct kv_txn *txn = NULL;

	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
	return txn;
}

/* Everything that a transaction can do. */
static struct kv_txn *work(void)
{
	struct kv_txn *txn = begin(0, KV_ISOLATION_SNAPSHOT);

	ck_assert_int_eq(kv_txn_lock(txn, 1, test_str("locked")), 0);
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("a"), test_str("new")), 0);
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("b"), kv_slice_of(large, LARGE)), 0);
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("c"), kv_slice_of(large, 5000)), 0);
	ck_assert_int_eq(kv_txn_delete(txn, 1, test_str("d")), 0);
	ck_assert_int_eq(kv_txn_delete_range(txn, 1, test_str("e"), test_str("g")), 0);
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("f"), test_str("again")), 0);
	return txn;
}

static void rows(void)
{
	put("a", "old");
	put("d", "old");
	put("e", "old");
	put("f", "old");
}

static bool is_done(void)
{
	return is("a", test_str("new")) && is("b", kv_slice_of(large, LARGE)) &&
	       is("c", kv_slice_of(large, 5000)) && is("d", absent) && is("e", absent) &&
	       is("f", test_str("again"));
}

static bool is_undone(void)
{
	return is("a", test_str("old")) && is("b", absent) && is("c", absent) &&
	       is("d", test_str("old")) && is("e", test_str("old")) && is("f", test_str("old"));
}

static size_t prepared_count(void)
{
	struct kv_prepared_info *list = NULL;
	size_t count = 99;

	ck_assert_int_eq(kv_prepared_list(db, &list, &count), 0);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_gt(list[i].prepared_ns, 0);
	free(list);
	return count;
}

static bool is_locked(const char *key)
{
	struct kv_txn *txn = begin(0, KV_ISOLATION_SNAPSHOT);
	int err = kv_txn_lock(txn, 1, test_str(key));

	ck_assert(!err || err == -KV_E_LOCK_TIMEOUT);
	kv_txn_abort(txn);
	return err != 0;
}

static void expect_prepared(void)
{
	static const char *const keys[] = {"locked", "a", "b", "c", "d", "e", "ezz", "f"};

	ck_assert_uint_eq(prepared_count(), 1);
	ck_assert(is_undone());
	for (size_t i = 0; i < KV_ARRAY_COUNT(keys); i++)
		ck_assert(is_locked(keys[i]));
	ck_assert(!is_locked("g"));
}

static void expect_free(void)
{
	ck_assert_uint_eq(prepared_count(), 0);
	ck_assert(!is_locked("locked"));
	ck_assert(!is_locked("a"));
	ck_assert(!is_locked("ezz"));
}

/* ---- preparing and resolving ------------------------------------------------------- */

START_TEST(test_a_prepared_transaction_is_invisible_and_holds_its_locks_until_it_is_resolved)
{
	kv_seq seq = 0;

	for (int commit = 0; commit < 2; commit++) {
		rows();
		ck_assert_int_eq(kv_txn_prepare(work(), test_str("gid")), 0);
		expect_prepared();
		if (commit)
			ck_assert_int_eq(
				kv_prepared_commit(db, test_str("gid"), KV_COMMIT_SYNC, &seq), 0);
		else
			ck_assert_int_eq(kv_prepared_abort(db, test_str("gid")), 0);
		ck_assert(commit ? is_done() && seq : is_undone());
		expect_free();
		reopen();
		ck_assert(commit ? is_done() : is_undone());
		expect_free();
	}
}
END_TEST

START_TEST(test_what_is_prepared_survives_closing_crashes_flush_and_compaction)
{
	for (int commit = 0; commit < 2; commit++) {
		for (int how = 0; how < 4; how++) {
			rows();
			ck_assert_int_eq(kv_delete(db, 1, test_str("b"), 0), 0);
			ck_assert_int_eq(kv_delete(db, 1, test_str("c"), 0), 0);
			ck_assert_int_eq(kv_txn_prepare(work(), test_str("gid")), 0);
			if (how == 0)
				reopen();
			else if (how < 3)
				crash(how == 1 ? SIM_CRASH_DROP : SIM_CRASH_KILL);
			ck_assert_int_eq(kv_compact(db, NULL), 0);
			expect_prepared();
			reopen();
			expect_prepared();
			if (commit)
				ck_assert_int_eq(kv_prepared_commit(db, test_str("gid"),
								    KV_COMMIT_SYNC, NULL),
						 0);
			else
				ck_assert_int_eq(kv_prepared_abort(db, test_str("gid")), 0);
			crash(SIM_CRASH_DROP);
			ck_assert(commit ? is_done() : is_undone());
			expect_free();
		}
	}
}
END_TEST

START_TEST(test_several_are_prepared_and_resolved_each_for_itself)
{
	struct kv_prepared_info *list = NULL;
	size_t count = 0, seen = 0;
	char key[8];

	for (int i = 0; i < 6; i++) {
		struct kv_txn *txn =
			begin(i % 2 ? KV_TXN_OPTIMISTIC : 0,
			      i % 3 ? KV_ISOLATION_SERIALIZABLE : KV_ISOLATION_SNAPSHOT);

		snprintf(key, sizeof(key), "k%d", i);
		ck_assert_int_eq(kv_txn_put(txn, 1, test_str(key), test_str("v")), 0);
		ck_assert_int_eq(kv_txn_prepare(txn, kv_slice_of("\0\1\2\3\4\5\xff" + i, 2)), 0);
	}
	reopen();
	ck_assert_int_eq(kv_prepared_list(db, &list, &count), 0);
	ck_assert_uint_eq(count, 6);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(list[i].gid_len, 2);
		seen |= 1U << list[i].gid[0];
	}
	ck_assert_uint_eq(seen, 63);
	free(list);
	for (int i = 0; i < 6; i++) {
		const struct kv_slice gid = kv_slice_of("\0\1\2\3\4\5\xff" + i, 2);

		if (i % 2)
			ck_assert_int_eq(kv_prepared_abort(db, gid), 0);
		else
			ck_assert_int_eq(kv_prepared_commit(db, gid, 0, NULL), 0);
		snprintf(key, sizeof(key), "k%d", i);
		ck_assert(is(key, i % 2 ? absent : test_str("v")));
		ck_assert_uint_eq(prepared_count(), 5U - (unsigned)i);
	}
}
END_TEST

START_TEST(test_what_a_serializable_one_has_read_stays_locked)
{
	for (int optimistic = 0; optimistic < 2; optimistic++) {
		const struct kv_range r = {.lower = test_str("r"), .upper = test_str("s")};
		struct kv_txn *txn =
			begin(optimistic ? KV_TXN_OPTIMISTIC : 0, KV_ISOLATION_SERIALIZABLE);
		struct kv_iter *it = NULL;

		ck_assert_int_eq(kv_txn_get(txn, 1, test_str("absent"), NULL), -KV_E_NOTFOUND);
		ck_assert_int_eq(kv_iter_open(txn, 1, &r, &it), 0);
		kv_iter_close(it);
		ck_assert_int_eq(kv_txn_prepare(txn, test_str("reader")), 0);
		for (int round = 0; round < 2; round++) {
			ck_assert_uint_eq(prepared_count(), 1);
			ck_assert(is_locked("absent"));
			ck_assert(is_locked("rrr"));
			ck_assert(!is_locked("s"));
			reopen();
		}
		ck_assert_int_eq(kv_prepared_commit(db, test_str("reader"), 0, NULL), 0);
		ck_assert(!is_locked("rrr"));
	}
}
END_TEST

/* ---- refusals ---------------------------------------------------------------------------- */

START_TEST(test_every_error_of_preparing_aborts_the_transaction)
{
	static const uint8_t long_gid[KV_GID_MAX + 1];
	struct kv_txn *txn;

	rows();
	ck_assert_int_eq(kv_txn_prepare(work(), kv_slice_of(NULL, 0)), -KV_E_INVALID);
	ck_assert_int_eq(kv_txn_prepare(work(), kv_slice_of(long_gid, sizeof(long_gid))),
			 -KV_E_INVALID);
	ck_assert_int_eq(kv_txn_prepare(begin(KV_TXN_RDONLY, 0), test_str("g")), -KV_E_READONLY);
	txn = begin(KV_TXN_OPTIMISTIC, KV_ISOLATION_SERIALIZABLE);
	ck_assert_int_eq(kv_txn_get(txn, 1, test_str("a"), NULL), 0);
	put("a", "old");
	ck_assert_int_eq(kv_txn_prepare(txn, test_str("g")), -KV_E_CONFLICT);
	expect_free();
	ck_assert_int_eq(kv_txn_prepare(begin(0, 0), test_str("g")), 0);
	ck_assert_int_eq(kv_txn_prepare(work(), test_str("g")), -KV_E_EXISTS);
	ck_assert(!is_locked("a"));
	ck_assert(is_undone());
	ck_assert_int_eq(kv_prepared_abort(db, test_str("g")), 0);
}
END_TEST

START_TEST(test_resolving_what_is_not_there_is_refused)
{
	ck_assert_int_eq(kv_prepared_commit(db, test_str("g"), 0, NULL), -KV_E_NOTFOUND);
	ck_assert_int_eq(kv_prepared_abort(db, test_str("g")), -KV_E_NOTFOUND);
	rows();
	ck_assert_int_eq(kv_txn_prepare(work(), test_str("g")), 0);
	ck_assert_int_eq(kv_close(db), 0);
	open_with(KV_OPEN_RDONLY);
	ck_assert_uint_eq(prepared_count(), 1);
	ck_assert_int_eq(kv_prepared_commit(db, test_str("g"), 0, NULL), -KV_E_READONLY);
	ck_assert_int_eq(kv_prepared_abort(db, test_str("g")), -KV_E_READONLY);
	ck_assert(is_undone());
}
END_TEST

static void commit_slowly(void *arg)
{
	*(int *)arg = kv_prepared_commit(db, test_str("g"), KV_COMMIT_SYNC, NULL);
}

START_TEST(test_two_cannot_resolve_the_same_one)
{
	struct os_thread t;
	int result = -1, mine;

	ck_assert_int_eq(kv_txn_prepare(work(), test_str("g")), 0);
	sim_env_sync_latency(sim, 300000);
	ck_assert_int_eq(os_thread_start(&t, "commit", commit_slowly, &result), 0);
	while (!is("a", test_str("new"))) /* visible, and its sync under way */
		;
	mine = kv_prepared_abort(db, test_str("g"));
	os_thread_join(&t);
	sim_env_sync_latency(sim, 0);
	ck_assert_int_eq(mine, -KV_E_BUSY);
	ck_assert_int_eq(result, 0);
	ck_assert(is("a", test_str("new")));
}
END_TEST

/* ---- power cuts ------------------------------------------------------------------------------ */

static const enum sim_crash crashes[] = {SIM_CRASH_DROP, SIM_CRASH_MIX, SIM_CRASH_GARBAGE,
					 SIM_CRASH_KILL};

static void remake(void)
{
	(void)!kv_close(db);
	sim_env_free(sim);
	make();
	rows();
	ck_assert_int_eq(kv_sync(db), 0);
}

/* Returns whether the cut was reached. */
static bool cut_while(uint64_t nth, int what)
{
	struct kv_txn *txn;
	uint64_t before;
	int err;

	remake();
	txn = work();
	if (what) {
		ck_assert_int_eq(kv_txn_prepare(txn, test_str("g")), 0);
		if (what > 2)
			reopen();
	}
	before = sim_env_calls(sim, SIM_OP_CHANGE);
	sim_env_cut(sim, nth);
	if (!what)
		err = kv_txn_prepare(txn, test_str("g"));
	else if (what == 1 || what == 3)
		err = kv_prepared_commit(db, test_str("g"), KV_COMMIT_SYNC, NULL);
	else
		err = kv_prepared_abort(db, test_str("g"));
	before = sim_env_calls(sim, SIM_OP_CHANGE) - before;
	crash(crashes[nth % KV_ARRAY_COUNT(crashes)]);
	if (prepared_count()) {
		expect_prepared();
		ck_assert(!what ? true : err != 0);
		ck_assert_int_eq(nth % 2 ? kv_prepared_commit(db, test_str("g"), 0, NULL)
					 : kv_prepared_abort(db, test_str("g")),
				 0);
		ck_assert(nth % 2 ? is_done() : is_undone());
	} else {
		ck_assert(what == 1 || what == 3 ? is_done() : is_undone());
		ck_assert(what || err);
	}
	expect_free();
	return before >= nth;
}

START_TEST(test_power_cuts_leave_it_prepared_or_resolved_whole)
{
	for (int what = 0; what < 5; what++) {
		uint64_t nth = 1;

		while (cut_while(nth, what))
			nth++;
		ck_assert_uint_gt(nth, 2);
	}
}
END_TEST

/* ---- bytes that make no sense -------------------------------------------------------------- */

static int count_item(void *ctx, const struct prepared_item *item)
{
	ck_assert_uint_gt(item->key.len, 1);
	*(unsigned *)ctx += 1;
	return 0;
}

static int keep_part(void *ctx, struct kv_slice bytes)
{
	struct kv_buf *all = ctx;

	memcpy(all->data + all->len, bytes.data, bytes.len);
	all->len += bytes.len;
	return 0;
}

static int read_all(struct kv_slice in, size_t step, unsigned *items)
{
	struct prepared_reader r = {.item = count_item, .ctx = items};
	int err = 0;

	for (size_t done = 0; done < in.len && !err; done += step) {
		size_t len = in.len - done < step ? in.len - done : step;

		err = prepared_reader_feed(&r, kv_slice_of(in.data + done, len));
	}
	if (!err)
		err = prepared_reader_finish(&r);
	prepared_reader_fini(&r);
	return err;
}

START_TEST(test_a_record_is_read_back_in_parts_of_any_size_and_garbage_is_refused)
{
	static uint8_t room[4096];
	struct kv_buf all = {.data = room};
	struct prepared_writer w = {.part = keep_part, .ctx = &all};
	struct test_rng rng = test_rng_seeded("prepared");
	unsigned items = 0;

	for (unsigned tag = PREPARED_PUT; tag <= PREPARED_RANGE_EXCLUSIVE; tag++) {
		const struct prepared_item item = {(enum prepared_tag)tag,
						   kv_slice_of("\0\1abc", 5),
						   kv_slice_of("\0\1xyzxyzxyz", 11)};

		ck_assert_int_eq(prepared_writer_add(&w, &item), 0);
	}
	ck_assert_int_eq(prepared_writer_finish(&w), 0);
	prepared_writer_fini(&w);
	for (size_t step = 1; step < all.len + 2; step++) {
		items = 0;
		ck_assert_int_eq(read_all(kv_slice_of(room, all.len), step, &items), 0);
		ck_assert_uint_eq(items, 7);
	}
	for (size_t cut = 1; cut < all.len; cut++) {
		int err = read_all(kv_slice_of(room, cut), 64, &items);

		ck_assert(err == 0 || err == -KV_E_CORRUPT);
	}
	for (unsigned round = 0; round < 20000; round++) {
		uint8_t bad[128];
		size_t len = 1 + test_rng_below(&rng, sizeof(bad));
		int err;

		memcpy(bad, room, sizeof(bad));
		for (unsigned n = 1 + (unsigned)test_rng_below(&rng, 4); n; n--)
			bad[test_rng_below(&rng, len)] = (uint8_t)test_rng_below(&rng, 256);
		err = read_all(kv_slice_of(bad, len), 1 + test_rng_below(&rng, 64), &items);
		ck_assert(err == 0 || err == -KV_E_CORRUPT);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_prepared_transaction_is_invisible_and_holds_its_locks_until_it_is_resolved,
		test_what_is_prepared_survives_closing_crashes_flush_and_compaction,
		test_several_are_prepared_and_resolved_each_for_itself,
		test_what_a_serializable_one_has_read_stays_locked,
		test_every_error_of_preparing_aborts_the_transaction,
		test_resolving_what_is_not_there_is_refused,
		test_two_cannot_resolve_the_same_one,
		test_power_cuts_leave_it_prepared_or_resolved_whole,
		test_a_record_is_read_back_in_parts_of_any_size_and_garbage_is_refused,
	};

	return test_suite_run_with("prepared", tests, KV_ARRAY_COUNT(tests), 240, setup, teardown);
}
