/* SPDX-License-Identifier: MIT */
/*
 * Isolation by interleavings: the phenomena of Adya's thesis (Weak Consistency, 1999)
 * in the cases that the Hermitage project collected, those that published engines
 * got wrong, and what each isolation level and mode must make of them.
 *
 * Transactions of one thread cannot wait for each other, so a lock time-out of a
 * millisecond stands for waiting: the waiter then aborts. What counts is what those that
 * did commit have seen and left behind.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME "vol"

enum mode { SNAPSHOT, SNAPSHOT_OPTIMISTIC, SERIALIZABLE, SERIALIZABLE_OPTIMISTIC, MODES };

static struct sim_env *sim;
static struct kv_db *db;
static enum mode mode;

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_options o = {.cache_bytes = 8U << 20, .memtable_bytes = 1U << 20};

	sim = sim_env_new(1);
	c.env = o.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create(VOLUME, &c), 0);
	ck_assert_int_eq(kv_open(VOLUME, &o, &db), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(kv_close(db), 0);
	sim_env_free(sim);
}

static bool serializable(void)
{
	return mode == SERIALIZABLE || mode == SERIALIZABLE_OPTIMISTIC;
}

/* ---- transactions that give up at the first refusal ---------------------------------- */

struct session {
	struct kv_txn *txn; /* NULL: aborted or committed */
	bool committed;
	int error;
};

static struct session begin_as(enum mode m)
{
	struct kv_txn_options o = {.lock_timeout_ms = 1};
	struct session s = {0};

	if (m == SNAPSHOT_OPTIMISTIC || m == SERIALIZABLE_OPTIMISTIC)
		o.flags = KV_TXN_OPTIMISTIC;
	if (m >= SERIALIZABLE)
		o.isolation = KV_ISOLATION_SERIALIZABLE;
	ck_assert_int_eq(kv_txn_begin(db, &o, &s.txn), 0);
	return s;
}

static struct session begin(void)
{
	return begin_as(mode);
}

static void refused(struct session *s, int err)
{
	ck_assert(err == -KV_E_CONFLICT || err == -KV_E_LOCK_TIMEOUT || err == -KV_E_DEADLOCK);
	s->error = err;
}

static void check(struct session *s, int err)
{
	if (!err)
		return;
	refused(s, err);
	kv_txn_abort(s->txn);
	s->txn = NULL;
}

static void put(struct session *s, const char *key, const char *value)
{
	if (s->txn)
		check(s, kv_txn_put(s->txn, 1, test_str(key), test_str(value)));
}

static void delete_range(struct session *s, const char *from, const char *to)
{
	if (s->txn)
		check(s, kv_txn_delete_range(s->txn, 1, test_str(from), test_str(to)));
}

static void commit(struct session *s)
{
	int err;

	if (!s->txn)
		return;
	err = kv_txn_commit(s->txn, 0, NULL);
	s->txn = NULL;
	if (err)
		refused(s, err);
	else
		s->committed = true;
}

static void abort_session(struct session *s)
{
	kv_txn_abort(s->txn);
	s->txn = NULL;
}

/* The value, -1 if the key is absent; -2 if the session is over. */
static int get(struct session *s, const char *key)
{
	struct kv_buf v = {0};
	int err, value;

	if (!s->txn)
		return -2;
	err = kv_txn_get(s->txn, 1, test_str(key), &v);
	if (err == -KV_E_NOTFOUND) {
		kv_buf_free(&v);
		return -1;
	}
	check(s, err);
	value = err ? -2 : v.data[0] - '0';
	kv_buf_free(&v);
	return value;
}

/* How many keys are in [from, to), of at most @limit that are looked at; -2: over. */
static int count(struct session *s, const char *from, const char *to, int limit)
{
	const struct kv_range r = {.lower = test_str(from), .upper = test_str(to)};
	struct kv_iter *it = NULL;
	int n = 0, err;

	if (!s->txn)
		return -2;
	err = kv_iter_open(s->txn, 1, &r, &it);
	if (err) {
		check(s, err);
		return -2;
	}
	for (err = kv_iter_first(it); !err && n < limit; err = kv_iter_next(it))
		n++;
	kv_iter_close(it);
	return n;
}

#define ALL 1000

/* Two rows, as all cases begin. */
static void rows(void)
{
	ck_assert_int_eq(kv_put(db, 1, test_str("r1"), test_str("1"), 0), 0);
	ck_assert_int_eq(kv_put(db, 1, test_str("r2"), test_str("2"), 0), 0);
}

static void clear(void)
{
	struct kv_batch *b;

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	ck_assert_int_eq(kv_batch_delete_range(b, 1, test_str("a"), test_str("z")), 0);
	ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	kv_batch_free(b);
}

static int now(const char *key)
{
	struct session s = begin_as(SNAPSHOT);
	int value = get(&s, key);

	abort_session(&s);
	return value;
}

/* Run a case in every mode; it says whether the phenomenon was there. */
static void in_every_mode(bool (*phenomenon)(void), bool snapshot, bool strict)
{
	for (int m = 0; m < MODES; m++) {
		for (int flushed = 0; flushed < 2; flushed++) {
			bool seen;

			mode = (enum mode)m;
			clear();
			rows();
			if (flushed)
				ck_assert_int_eq(kv_flush(db), 0);
			seen = phenomenon();
			if (seen != (serializable() ? strict : snapshot))
				ck_abort_msg("mode %d: %s", m, seen ? "seen" : "not seen");
		}
	}
}

/* ---- what no level allows --------------------------------------------------------------- */

static bool dirty_write(void)
{
	struct session a = begin(), b = begin();

	put(&a, "r1", "3");
	put(&b, "r1", "4");
	put(&a, "r2", "3");
	commit(&a);
	put(&b, "r2", "4");
	commit(&b);
	return now("r1") != now("r2");
}

static bool aborted_read(void)
{
	struct session a = begin(), b = begin();
	int seen;

	put(&a, "r1", "9");
	seen = get(&b, "r1");
	abort_session(&a);
	seen = seen == 9 || get(&b, "r1") == 9;
	commit(&b);
	return seen;
}

static bool intermediate_read(void)
{
	struct session a = begin(), b = begin();
	int seen;

	put(&a, "r1", "9");
	seen = get(&b, "r1");
	put(&a, "r1", "8");
	commit(&a);
	commit(&b);
	return seen == 9;
}

static bool circular_information_flow(void)
{
	struct session a = begin(), b = begin();
	int x, y;

	put(&a, "r1", "9");
	put(&b, "r2", "8");
	x = get(&a, "r2");
	y = get(&b, "r1");
	commit(&a);
	commit(&b);
	return a.committed && b.committed && (x == 8 || y == 9);
}

/* A transaction that was seen to happen vanishes again. */
static bool observed_transaction_vanishes(void)
{
	struct session a = begin(), b = begin(), c = begin();
	int x, y, again;

	put(&a, "r1", "3");
	put(&a, "r2", "3");
	put(&b, "r1", "4");
	commit(&a);
	x = get(&c, "r1");
	put(&b, "r2", "5");
	y = get(&c, "r2");
	commit(&b);
	again = get(&c, "r2");
	commit(&c);
	return c.committed && (again != y || (x == 3 && y == 2) || (x == 1 && y == 3));
}

static bool predicate_many_preceders(void)
{
	struct session a = begin(), b = begin();
	int before = count(&a, "r", "s", ALL), after;

	put(&b, "r3", "3");
	commit(&b);
	after = count(&a, "r", "s", ALL);
	commit(&a);
	return a.committed && before != after;
}

static bool lost_update(void)
{
	struct session a = begin(), b = begin();

	get(&a, "r1");
	get(&b, "r1");
	put(&a, "r1", "3");
	put(&b, "r1", "4");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

static bool read_skew(void)
{
	struct session a = begin(), b = begin();
	int x = get(&a, "r1"), y;

	put(&b, "r1", "3");
	put(&b, "r2", "3");
	commit(&b);
	y = get(&a, "r2");
	commit(&a);
	return a.committed && b.committed && (x == 3) != (y == 3);
}

/* As above, but the first then writes what depends on both. */
static bool read_skew_with_write(void)
{
	struct session a = begin(), b = begin();
	int x = get(&a, "r1");

	get(&b, "r1");
	get(&b, "r2");
	put(&b, "r1", "3");
	put(&b, "r2", "4");
	commit(&b);
	put(&a, "r2", "5");
	commit(&a);
	return a.committed && b.committed && x == 1;
}

START_TEST(test_dirty_writes_are_prevented)
{
	in_every_mode(dirty_write, false, false);
}
END_TEST

START_TEST(test_aborted_and_intermediate_versions_are_not_read)
{
	in_every_mode(aborted_read, false, false);
	in_every_mode(intermediate_read, false, false);
}
END_TEST

START_TEST(test_information_does_not_flow_in_a_circle)
{
	in_every_mode(circular_information_flow, false, false);
}
END_TEST

START_TEST(test_an_observed_transaction_does_not_vanish)
{
	in_every_mode(observed_transaction_vanishes, false, false);
}
END_TEST

START_TEST(test_a_predicate_is_read_the_same_twice)
{
	in_every_mode(predicate_many_preceders, false, false);
}
END_TEST

START_TEST(test_updates_are_not_lost)
{
	in_every_mode(lost_update, false, false);
}
END_TEST

START_TEST(test_reads_are_not_skewed)
{
	in_every_mode(read_skew, false, false);
	in_every_mode(read_skew_with_write, false, false);
}
END_TEST

/* ---- what only serializable prevents ------------------------------------------------------- */

static bool write_skew(void)
{
	struct session a = begin(), b = begin();

	get(&a, "r1");
	get(&a, "r2");
	get(&b, "r1");
	get(&b, "r2");
	put(&a, "r1", "8");
	put(&b, "r2", "9");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

static bool write_skew_on_absent_keys(void)
{
	struct session a = begin(), b = begin();

	get(&a, "x1");
	get(&b, "x2");
	put(&a, "x2", "1");
	put(&b, "x1", "1");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

static bool phantom(void)
{
	struct session a = begin(), b = begin();
	int x = count(&a, "r", "s", ALL), y = count(&b, "r", "s", ALL);

	put(&a, "r3", "3");
	put(&b, "r4", "4");
	commit(&a);
	commit(&b);
	return a.committed && b.committed && x == 2 && y == 2;
}

static bool phantom_in_an_empty_range(void)
{
	struct session a = begin(), b = begin();

	count(&a, "x", "y", ALL);
	count(&b, "x", "y", ALL);
	put(&a, "x1", "3");
	put(&b, "x2", "4");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

/* The scan stopped before it returned what the other one changes. */
static bool phantom_behind_a_stopped_scan(void)
{
	struct session a = begin(), b = begin();

	count(&a, "r", "s", 1);
	count(&b, "r", "s", 1);
	put(&a, "r5", "3");
	put(&b, "r6", "4");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

static bool phantom_by_range_delete(void)
{
	struct session a = begin(), b = begin();

	count(&a, "r", "s", ALL);
	count(&b, "w", "x", ALL);
	delete_range(&b, "r1", "r2");
	put(&a, "w1", "1");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

static bool delete_skew(void)
{
	struct session a = begin(), b = begin();

	get(&a, "r2");
	get(&b, "r1");
	delete_range(&a, "r1", "r1z");
	delete_range(&b, "r2", "r2z");
	commit(&a);
	commit(&b);
	return a.committed && b.committed;
}

/* Three of them, no two of which read and write the same pair. */
static bool cycle_of_three(void)
{
	struct session a = begin(), b = begin(), c = begin();

	get(&a, "r1");
	get(&b, "r2");
	get(&c, "r3");
	put(&a, "r2", "7");
	put(&b, "r3", "7");
	put(&c, "r1", "7");
	commit(&a);
	commit(&b);
	commit(&c);
	return a.committed && b.committed && c.committed;
}

/* Fekete, O'Neil, O'Neil, A Read-Only Transaction Anomaly Under Snapshot Isolation, 2004. */
static bool read_only_anomaly(void)
{
	struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct session a = begin(), b, c = {0};
	int x, y;

	get(&a, "r1");
	get(&a, "r2");
	b = begin();
	get(&b, "r2");
	put(&b, "r2", "9");
	commit(&b);
	ck_assert_int_eq(kv_txn_begin(db, &ro, &c.txn), 0);
	x = get(&c, "r1");
	y = get(&c, "r2");
	commit(&c);
	put(&a, "r1", "8");
	commit(&a);
	return a.committed && b.committed && x == 1 && y == 9;
}

/* The write begins while the other one is about to commit. */
static bool skew_with_blind_write_after_commit(void)
{
	struct session a = begin(), b = begin();

	get(&a, "r1");
	get(&b, "r2");
	put(&a, "r2", "5");
	commit(&a);
	put(&b, "r1", "5");
	commit(&b);
	return a.committed && b.committed;
}

START_TEST(test_write_skew_is_possible_at_snapshot_level_only)
{
	in_every_mode(write_skew, true, false);
	in_every_mode(write_skew_on_absent_keys, true, false);
	in_every_mode(skew_with_blind_write_after_commit, true, false);
	in_every_mode(cycle_of_three, true, false);
	in_every_mode(delete_skew, true, false);
}
END_TEST

START_TEST(test_phantoms_are_possible_at_snapshot_level_only)
{
	in_every_mode(phantom, true, false);
	in_every_mode(phantom_in_an_empty_range, true, false);
	in_every_mode(phantom_behind_a_stopped_scan, true, false);
	in_every_mode(phantom_by_range_delete, true, false);
}
END_TEST

START_TEST(test_a_reader_sees_no_state_that_serializable_ones_never_made)
{
	in_every_mode(read_only_anomaly, true, false);
}
END_TEST

/* ---- levels that meet ------------------------------------------------------------------------ */

START_TEST(test_writers_of_every_level_respect_what_a_serializable_one_has_read)
{
	struct kv_batch *batch = NULL;
	struct session reader;

	ck_assert_int_eq(kv_batch_new(db, &batch), 0);
	for (int m = 0; m < MODES; m++) {
		struct session w[3];

		clear();
		rows();
		reader = begin_as(SERIALIZABLE);
		ck_assert_int_eq(get(&reader, "r1"), 1);
		ck_assert_int_eq(count(&reader, "r1z", "r9", ALL), 1);
		for (int i = 0; i < 3; i++)
			w[i] = begin_as((enum mode)m);
		put(&w[0], "r1", "7");
		put(&w[1], "r3", "7");
		delete_range(&w[2], "r0", "r2");
		for (int i = 0; i < 3; i++) {
			commit(&w[i]);
			ck_assert_int_eq(w[i].error, -KV_E_LOCK_TIMEOUT);
		}
		ck_assert_int_eq(get(&reader, "r1"), 1);
		ck_assert_int_eq(count(&reader, "r1z", "r9", ALL), 1);
		commit(&reader);
		ck_assert(reader.committed);
	}
	kv_batch_free(batch);
}
END_TEST

START_TEST(test_an_optimistic_commit_does_not_pass_a_lock_and_its_owner_loses_nothing)
{
	struct session locked = begin_as(SNAPSHOT), quick = begin_as(SNAPSHOT_OPTIMISTIC);

	rows();
	put(&locked, "r1", "5");
	ck_assert_int_eq(get(&quick, "r1"), 1);
	put(&quick, "r1", "6");
	commit(&quick);
	ck_assert_int_eq(quick.error, -KV_E_LOCK_TIMEOUT);
	commit(&locked);
	ck_assert(locked.committed);
	ck_assert_int_eq(now("r1"), 5);
}
END_TEST

START_TEST(test_a_serializable_read_sees_the_newest_commit)
{
	struct session s = begin_as(SERIALIZABLE);

	rows();
	ck_assert_int_eq(get(&s, "r1"), 1);
	ck_assert_int_eq(kv_put(db, 1, test_str("r2"), test_str("7"), 0), 0);
	ck_assert_int_eq(get(&s, "r2"), 7);
	ck_assert_int_eq(kv_put(db, 1, test_str("s1"), test_str("7"), 0), 0);
	ck_assert_int_eq(count(&s, "s", "t", ALL), 1);
	commit(&s);
	ck_assert(s.committed);
}
END_TEST

START_TEST(test_reading_for_share_keeps_one_key_from_write_skew_at_snapshot_level)
{
	for (int m = SNAPSHOT; m <= SNAPSHOT_OPTIMISTIC; m++) {
		struct session a = begin_as((enum mode)m), b = begin_as((enum mode)m);

		clear();
		rows();
		check(&a, kv_txn_get_for_share(a.txn, 1, test_str("r2"), NULL));
		check(&b, kv_txn_get_for_share(b.txn, 1, test_str("r1"), NULL));
		put(&a, "r1", "8");
		put(&b, "r2", "9");
		commit(&a);
		commit(&b);
		ck_assert(!a.committed || !b.committed);
	}
}
END_TEST

/* ---- own writes, savepoints -------------------------------------------------------------------
 */

START_TEST(test_own_writes_and_savepoints_work_in_every_mode)
{
	for (int m = 0; m < MODES; m++) {
		struct session s;
		unsigned first = 0, second = 0;

		clear();
		rows();
		s = begin_as((enum mode)m);
		put(&s, "r1", "5");
		ck_assert_int_eq(kv_txn_savepoint(s.txn, &first), 0);
		put(&s, "r1", "6");
		put(&s, "r3", "6");
		delete_range(&s, "r2", "r3");
		ck_assert_int_eq(get(&s, "r1"), 6);
		ck_assert_int_eq(get(&s, "r2"), -1);
		ck_assert_int_eq(count(&s, "r", "s", ALL), 2);
		ck_assert_int_eq(kv_txn_savepoint(s.txn, &second), 0);
		put(&s, "r2", "7");
		ck_assert_int_eq(get(&s, "r2"), 7);
		ck_assert_int_eq(kv_txn_rollback_to(s.txn, second), 0);
		ck_assert_int_eq(get(&s, "r2"), -1);
		ck_assert_int_eq(kv_txn_rollback_to(s.txn, first), 0);
		ck_assert_int_eq(get(&s, "r1"), 5);
		ck_assert_int_eq(get(&s, "r2"), 2);
		ck_assert_int_eq(get(&s, "r3"), -1);
		ck_assert_int_eq(kv_txn_rollback_to(s.txn, second), -KV_E_INVALID);
		commit(&s);
		ck_assert(s.committed);
		ck_assert_int_eq(now("r1"), 5);
		ck_assert_int_eq(now("r2"), 2);
	}
}
END_TEST

START_TEST(test_locks_outlive_a_rollback_to_a_savepoint)
{
	struct session s = begin_as(SERIALIZABLE), other = begin_as(SNAPSHOT);
	unsigned sp = 0;

	rows();
	ck_assert_int_eq(kv_txn_savepoint(s.txn, &sp), 0);
	put(&s, "r1", "5");
	ck_assert_int_eq(kv_txn_rollback_to(s.txn, sp), 0);
	put(&other, "r1", "6");
	ck_assert_int_eq(other.error, -KV_E_LOCK_TIMEOUT);
	commit(&s);
	ck_assert(s.committed);
}
END_TEST

/* ---- validation
 * ---------------------------------------------------------------------------------- */

START_TEST(test_a_key_that_came_and_went_again_is_no_conflict_once_nothing_of_it_is_left)
{
	struct session s = begin_as(SERIALIZABLE_OPTIMISTIC);

	rows();
	ck_assert_int_eq(count(&s, "q", "r", ALL), 0);
	put(&s, "r1", "5");
	commit(&s);
	ck_assert(s.committed);
	s = begin_as(SERIALIZABLE_OPTIMISTIC);
	ck_assert_int_eq(get(&s, "q1"), -1);
	ck_assert_int_eq(kv_put(db, 1, test_str("q1"), test_str("1"), 0), 0);
	ck_assert_int_eq(kv_delete(db, 1, test_str("q1"), 0), 0);
	put(&s, "r1", "6");
	commit(&s);
	ck_assert_int_eq(s.error, -KV_E_CONFLICT);
}
END_TEST

START_TEST(test_validation_finds_changes_in_memtables_tables_and_range_deletes)
{
	for (int how = 0; how < 4; how++) {
		for (int flushed = 0; flushed < 3; flushed++) {
			struct session s, other = begin_as(SNAPSHOT);

			clear();
			rows();
			s = begin_as(SERIALIZABLE_OPTIMISTIC);
			ck_assert_int_eq(count(&s, "r", "r9", ALL), 2);
			ck_assert_int_eq(get(&s, "t"), -1);
			put(&s, "y", "5");
			if (how == 0)
				put(&other, "r5", "1");
			else if (how == 1)
				delete_range(&other, "r11", "r3");
			else if (how == 2)
				put(&other, "t", "1");
			else
				put(&other, "r9", "1"); /* not in the range */
			commit(&other);
			ck_assert(other.committed);
			if (flushed)
				ck_assert_int_eq(kv_flush(db), 0);
			if (flushed == 2)
				ck_assert_int_eq(kv_compact(db, NULL), 0);
			commit(&s);
			ck_assert_int_eq(s.error, how == 3 ? 0 : -KV_E_CONFLICT);
		}
	}
}
END_TEST

START_TEST(test_an_optimistic_transaction_that_writes_nothing_always_commits)
{
	for (int m = SNAPSHOT_OPTIMISTIC; m < MODES; m += 2) {
		struct session s;

		rows();
		s = begin_as((enum mode)m);
		ck_assert_int_eq(get(&s, "r1"), 1);
		ck_assert_int_eq(count(&s, "r", "s", ALL), 2);
		rows();
		ck_assert_int_eq(get(&s, "r2"), 2);
		commit(&s);
		ck_assert(s.committed);
	}
}
END_TEST

/* ---- documented errors
 * ------------------------------------------------------------------------------ */

START_TEST(test_unknown_flags_and_levels_are_refused)
{
	struct kv_txn_options o = {.flags = 1U << 7};
	struct kv_txn *txn = NULL;

	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), -KV_E_INVALID);
	o = (struct kv_txn_options){.isolation = (enum kv_isolation)2};
	ck_assert_int_eq(kv_txn_begin(db, &o, &txn), -KV_E_INVALID);
	ck_assert_ptr_null(txn);
}
END_TEST

START_TEST(test_arguments_outside_their_range_are_refused_in_every_mode)
{
	static uint8_t big[KV_KEY_MAX + 1];
	const struct kv_slice key = test_str("k"), none = {NULL, 0}, large = {big, sizeof(big)};

	for (int m = 0; m < MODES; m++) {
		struct session s = begin_as((enum mode)m);
		const struct kv_slice huge = {big, KV_VALUE_MAX + 1};
		struct kv_buf v = {0};

		ck_assert_int_eq(kv_txn_get(s.txn, 0, key, &v), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_get(s.txn, 1, none, &v), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_get_for_update(s.txn, 1, large, &v), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_get_for_share(s.txn, KV_KEYSPACE_MAX + 1, key, &v),
				 -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_lock(s.txn, 1, none), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_put(s.txn, 1, large, key), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_put(s.txn, 1, key, huge), -KV_E_TOO_BIG);
		ck_assert_int_eq(kv_txn_delete(s.txn, 0, key), -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_delete_range(s.txn, 1, test_str("b"), test_str("a")),
				 -KV_E_INVALID);
		ck_assert_int_eq(kv_txn_get(s.txn, 1, key, &v), -KV_E_NOTFOUND);
		abort_session(&s);
	}
}
END_TEST

START_TEST(test_a_read_only_transaction_refuses_locks_and_writes)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_txn *txn = NULL;
	unsigned sp = 0;

	ck_assert_int_eq(kv_txn_begin(db, &ro, &txn), 0);
	ck_assert_int_eq(kv_txn_put(txn, 1, test_str("k"), test_str("v")), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_delete(txn, 1, test_str("k")), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_delete_range(txn, 1, test_str("k"), test_str("l")), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_lock(txn, 1, test_str("k")), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_get_for_update(txn, 1, test_str("k"), NULL), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_get_for_share(txn, 1, test_str("k"), NULL), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_savepoint(txn, &sp), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_rollback_to(txn, 1), -KV_E_READONLY);
	ck_assert_int_eq(kv_txn_commit(txn, 0, NULL), 0);
}
END_TEST

struct crossing {
	struct kv_txn *txn;
	const char *key;
	int result;
};

static void cross(void *arg)
{
	struct crossing *c = arg;

	c->result = kv_txn_put(c->txn, 1, test_str(c->key), test_str("1"));
	if (c->result) /* else it waits for the end of the other one */
		kv_txn_abort(c->txn);
}

START_TEST(test_two_serializable_readers_that_write_what_the_other_read_are_a_deadlock)
{
	const struct kv_txn_options o = {.isolation = KV_ISOLATION_SERIALIZABLE};
	struct crossing c[2] = {{.key = "r1"}, {.key = "r2"}};
	struct os_thread t;

	rows();
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(kv_txn_begin(db, &o, &c[i].txn), 0);
		ck_assert_int_eq(kv_txn_get(c[i].txn, 1, test_str("r1"), NULL), 0);
		ck_assert_int_eq(kv_txn_get(c[i].txn, 1, test_str("r2"), NULL), 0);
	}
	ck_assert_int_eq(os_thread_start(&t, "cross", cross, &c[0]), 0);
	cross(&c[1]);
	os_thread_join(&t);
	ck_assert((c[0].result == -KV_E_DEADLOCK) != (c[1].result == -KV_E_DEADLOCK));
	for (int i = 0; i < 2; i++) {
		if (!c[i].result)
			kv_txn_abort(c[i].txn);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_dirty_writes_are_prevented,
		test_aborted_and_intermediate_versions_are_not_read,
		test_information_does_not_flow_in_a_circle,
		test_an_observed_transaction_does_not_vanish,
		test_a_predicate_is_read_the_same_twice,
		test_updates_are_not_lost,
		test_reads_are_not_skewed,
		test_write_skew_is_possible_at_snapshot_level_only,
		test_phantoms_are_possible_at_snapshot_level_only,
		test_a_reader_sees_no_state_that_serializable_ones_never_made,
		test_writers_of_every_level_respect_what_a_serializable_one_has_read,
		test_an_optimistic_commit_does_not_pass_a_lock_and_its_owner_loses_nothing,
		test_a_serializable_read_sees_the_newest_commit,
		test_reading_for_share_keeps_one_key_from_write_skew_at_snapshot_level,
		test_own_writes_and_savepoints_work_in_every_mode,
		test_locks_outlive_a_rollback_to_a_savepoint,
		test_a_key_that_came_and_went_again_is_no_conflict_once_nothing_of_it_is_left,
		test_validation_finds_changes_in_memtables_tables_and_range_deletes,
		test_an_optimistic_transaction_that_writes_nothing_always_commits,
		test_unknown_flags_and_levels_are_refused,
		test_arguments_outside_their_range_are_refused_in_every_mode,
		test_a_read_only_transaction_refuses_locks_and_writes,
		test_two_serializable_readers_that_write_what_the_other_read_are_a_deadlock,
	};

	return test_suite_run_with("engine_isolation", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
