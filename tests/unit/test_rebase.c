/* SPDX-License-Identifier: MIT */
/*
 * Long transactions: what they wrote is told in order, out of memory as well as of runs, and
 * bringing them up to the present tells exactly what others have changed.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME "vol"

static struct sim_env *sim;
static struct kv_db *db;

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_options o = {.cache_bytes = 8U << 20, .commit_interval_ms = 60000};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	o.env = c.env;
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	ck_assert_int_eq(kv_open(VOLUME, &o, &db), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

static struct kv_txn *begin(enum kv_isolation isolation)
{
	const struct kv_txn_options o = {
		.flags = KV_TXN_REBASE, .isolation = isolation, .memory_bytes = 64U << 10};
	struct kv_txn *txn = NULL;

	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
	/* Its snapshot is taken by its first read. */
	ck_assert_int_eq(kv_txn_get(txn, 9, test_str("none"), NULL), -KV_E_NOTFOUND);
	return txn;
}

static void put(unsigned keyspace, const char *key, const char *value)
{
	ck_assert_int_eq(kv_put(db, keyspace, test_str(key), test_str(value), 0), 0);
}

static void txn_put(struct kv_txn *txn, unsigned keyspace, const char *key, const char *value)
{
	ck_assert_int_eq(kv_txn_put(txn, keyspace, test_str(key), test_str(value)), 0);
}

/* Its value, or "-". */
static const char *newest(unsigned keyspace, const char *key)
{
	static char text[64];
	struct kv_buf got = {0};
	int err = kv_get(db, keyspace, test_str(key), &got);

	ck_assert(err == 0 || err == -KV_E_NOTFOUND);
	snprintf(text, sizeof(text), "%.*s", err ? 1 : (int)got.len,
		 err ? "-" : (const char *)got.data);
	kv_buf_free(&got);
	return text;
}

/* ---- what was told, as text ---- */

static char told[512];

static void tell(const char *text)
{
	ck_assert_uint_lt(strlen(told) + strlen(text), sizeof(told));
	strcat(told, text); /* NOLINT: the length was checked */
}

static int on_write(void *ctx, struct kv_slice key, bool deleted)
{
	char text[64];

	(void)ctx;
	snprintf(text, sizeof(text), "%s%.*s ", deleted ? "-" : "", (int)key.len,
		 (const char *)key.data);
	tell(text);
	return 0;
}

static int on_change(void *ctx, enum kv_rebase_kind kind, unsigned keyspace, struct kv_slice key)
{
	static const char *const kinds[] = {"", "r", "R"};
	char text[64];

	if (kind == KV_REBASE_END)
		return 0;

	snprintf(text, sizeof(text), "%s%u:%.*s ", kinds[kind], keyspace, (int)key.len,
		 (const char *)key.data);
	tell(text);
	return *(int *)ctx;
}

static void expect_changes(struct kv_txn *txn, int result, int want, const char *text)
{
	told[0] = 0;
	ck_assert_int_eq(kv_txn_rebase(txn, on_change, &result), want);
	ck_assert_str_eq(told, text);
}

/* ---- tests ---- */

START_TEST(test_what_was_written_is_told_in_the_order_of_the_keys)
{
	struct kv_txn *txn = begin(KV_ISOLATION_SNAPSHOT);

	txn_put(txn, 1, "z", "other keyspace");
	txn_put(txn, 2, "c", "1");
	txn_put(txn, 2, "a", "1");
	ck_assert_int_eq(kv_txn_delete(txn, 2, test_str("b")), 0);
	txn_put(txn, 2, "c", "2");
	txn_put(txn, 3, "a", "other keyspace");
	told[0] = 0;
	ck_assert_int_eq(kv_txn_scan_writes(txn, 2, test_str(""), on_write, NULL), 0);
	ck_assert_str_eq(told, "a -b c ");
	told[0] = 0;
	ck_assert_int_eq(kv_txn_scan_writes(txn, 2, test_str("aa"), on_write, NULL), 0);
	ck_assert_str_eq(told, "-b c ");
	kv_txn_abort(txn);
}
END_TEST

static int count_write(void *ctx, struct kv_slice key, bool deleted)
{
	unsigned *count = ctx;
	char want[16];

	snprintf(want, sizeof(want), "k%06u", (*count)++);
	ck_assert(slice_equal(key, test_str(want)));
	ck_assert(!deleted);
	return 0;
}

START_TEST(test_a_set_that_was_spilled_is_told_and_compared_whole)
{
	struct kv_txn *txn = begin(KV_ISOLATION_SNAPSHOT);
	unsigned count = 0;
	char key[16];

	for (unsigned i = 0; i < 5000; i++) {
		snprintf(key, sizeof(key), "k%06u", i);
		txn_put(txn, 1, key, "value");
	}
	ck_assert(writeset_spilled(txn->writes));
	put(1, "k000007", "theirs");
	put(1, "k004321", "theirs");
	put(1, "other", "theirs");
	ck_assert_int_eq(kv_txn_scan_writes(txn, 1, test_str(""), count_write, &count), 0);
	ck_assert_uint_eq(count, 5000);
	expect_changes(txn, 0, 0, "1:k000007 1:k004321 ");
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
	ck_assert_str_eq(newest(1, "k000007"), "value");
	ck_assert_str_eq(newest(1, "other"), "theirs");
}
END_TEST

START_TEST(test_after_a_rebase_reads_see_the_present_under_the_own_writes)
{
	struct kv_txn *txn;

	put(1, "a", "old");
	put(1, "b", "old");
	txn = begin(KV_ISOLATION_SNAPSHOT);
	txn_put(txn, 1, "a", "mine");
	put(1, "b", "new");
	ck_assert_int_eq(kv_flush(db), 0);
	put(1, "a", "theirs");
	expect_changes(txn, 0, 0, "1:a ");
	for (const char *key = "ab"; *key; key++) { /* as the new snapshot has it */
		struct kv_buf got = {0};

		ck_assert_int_eq(kv_txn_get(txn, 1, kv_slice_of(key, 1), &got), 0);
		ck_assert(slice_equal(kv_buf_slice(&got), test_str(*key == 'a' ? "mine" : "new")));
		kv_buf_free(&got);
	}
	expect_changes(txn, 0, 0, ""); /* nothing has happened since */
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
	ck_assert_str_eq(newest(1, "a"), "mine");
}
END_TEST

START_TEST(test_reads_that_are_not_watched_do_not_count)
{
	struct kv_txn *txn;
	struct kv_iter *it = NULL;

	put(1, "a", "old");
	put(1, "b", "old");
	txn = begin(KV_ISOLATION_SERIALIZABLE);
	ck_assert_int_eq(kv_txn_get(txn, 1, test_str("b"), NULL), 0);
	ck_assert_int_eq(kv_txn_watch_reads(txn, false), 0);
	ck_assert_int_eq(kv_txn_get(txn, 1, test_str("a"), NULL), 0);
	ck_assert_int_eq(kv_iter_open(txn, 2, NULL, &it), 0);
	kv_iter_close(it);
	ck_assert_int_eq(kv_txn_watch_reads(txn, true), 0);
	put(1, "a", "new");
	put(2, "a", "new");
	expect_changes(txn, 0, 0, "");
	put(1, "b", "new");
	expect_changes(txn, 1, 1, "r1:b ");
	kv_txn_abort(txn);
	ck_assert_int_eq(kv_txn_begin(db, NULL, &txn), 0);
	ck_assert_int_eq(kv_txn_watch_reads(txn, false), -KV_E_INVALID);
	kv_txn_abort(txn);
}
END_TEST

START_TEST(test_a_change_that_is_refused_leaves_the_snapshot_where_it_was)
{
	struct kv_txn *txn;

	put(1, "a", "old");
	txn = begin(KV_ISOLATION_SNAPSHOT);
	txn_put(txn, 1, "b", "mine");
	put(1, "a", "new");
	put(1, "b", "theirs");
	put(1, "c", "theirs");
	txn_put(txn, 1, "c", "mine");
	expect_changes(txn, -KV_E_CONFLICT, -KV_E_CONFLICT, "1:b ");
	ck_assert_int_eq(kv_txn_get(txn, 1, test_str("a"), NULL), 0);
	expect_changes(txn, 1, 1, "1:b 1:c ");
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), -KV_E_INVALID);
	ck_assert_str_eq(newest(1, "b"), "theirs");
}
END_TEST

START_TEST(test_what_was_read_is_compared_if_it_is_serializable)
{
	struct kv_range range = {.lower = {(const uint8_t *)"m", 1},
				 .upper = {(const uint8_t *)"p", 1}};

	put(1, "a", "old");
	for (int serializable = 0; serializable < 2; serializable++) {
		struct kv_txn *txn =
			begin(serializable ? KV_ISOLATION_SERIALIZABLE : KV_ISOLATION_SNAPSHOT);
		struct kv_iter *it = NULL;

		ck_assert_int_eq(kv_txn_get(txn, 1, test_str("a"), NULL), 0);
		ck_assert_int_eq(kv_txn_get_for_update(txn, 1, test_str("b"), NULL) |
					 -KV_E_NOTFOUND,
				 -KV_E_NOTFOUND);
		ck_assert_int_eq(kv_iter_open(txn, 1, &range, &it), 0);
		kv_iter_close(it);
		txn_put(txn, 1, "x", "mine");
		put(1, "a", "new");
		put(1, "b", "new");
		put(1, "n", "a phantom");
		put(1, "x", "theirs");
		expect_changes(txn, 0, 0, serializable ? "1:x r1:a r1:b R1:m " : "1:x ");
		kv_txn_abort(txn);
	}
}
END_TEST

static int veto(void *ctx, enum kv_rebase_kind kind, unsigned keyspace, struct kv_slice key)
{
	(void)ctx;
	(void)keyspace;
	(void)key;
	return kind == KV_REBASE_END;
}

START_TEST(test_the_last_word_can_refuse_when_no_key_has_changed)
{
	struct kv_txn *txn = begin(KV_ISOLATION_SNAPSHOT);

	txn_put(txn, 1, "a", "mine");
	ck_assert_int_eq(kv_txn_rebase(txn, veto, NULL), 1);
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), -KV_E_INVALID);
	ck_assert_str_eq(newest(1, "a"), "-");
}
END_TEST

START_TEST(test_only_one_that_was_begun_for_it_can_be_rebased)
{
	const struct kv_txn_options o = {.flags = KV_TXN_OPTIMISTIC};
	struct kv_txn *txn = NULL;
	int result = 0;

	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), 0);
	ck_assert_int_eq(kv_txn_rebase(txn, on_change, &result), -KV_E_INVALID);
	kv_txn_abort(txn);
}
END_TEST

START_TEST(test_a_released_savepoint_keeps_what_was_written_after_it)
{
	struct kv_txn *txn = begin(KV_ISOLATION_SNAPSHOT);
	unsigned sp = 0, other = 0;

	txn_put(txn, 1, "a", "1");
	for (int i = 0; i < 100; i++) { /* more than could be kept */
		ck_assert_int_eq(kv_txn_savepoint(txn, &sp), 0);
		txn_put(txn, 1, "a", "2");
		ck_assert_int_eq(kv_txn_release(txn, sp), 0);
	}
	ck_assert_int_eq(kv_txn_rollback_to(txn, sp), -KV_E_INVALID);
	ck_assert_int_eq(kv_txn_savepoint(txn, &other), 0);
	txn_put(txn, 1, "a", "3");
	ck_assert_int_eq(kv_txn_rollback_to(txn, other), 0);
	expect_changes(txn, 0, 0, "");
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
	ck_assert_str_eq(newest(1, "a"), "2");
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_what_was_written_is_told_in_the_order_of_the_keys,
		test_a_set_that_was_spilled_is_told_and_compared_whole,
		test_after_a_rebase_reads_see_the_present_under_the_own_writes,
		test_a_change_that_is_refused_leaves_the_snapshot_where_it_was,
		test_what_was_read_is_compared_if_it_is_serializable,
		test_reads_that_are_not_watched_do_not_count,
		test_the_last_word_can_refuse_when_no_key_has_changed,
		test_only_one_that_was_begun_for_it_can_be_rebased,
		test_a_released_savepoint_keeps_what_was_written_after_it,
	};

	return test_suite_run_with("rebase", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
