/* SPDX-License-Identifier: MIT */
/*
 * Range locks: what they keep out, who goes first, which waits are deadlocks.
 * Then threads in random order, moving money under key locks and adding up under
 * range locks: a missed deadlock shows as a time-out, an invented one as a victim where
 * the order of locking admits none, a lost exclusion as a wrong total (and to TSan as a race).
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "kvcore/engine/lock_manager.h"
#include "tests/support/test_suite.h"

#define LONG_MS 30000U /* nobody waits so long unless a deadlock was missed */

static struct lock_manager *manager;
static struct lock_owner *a, *b, *c;

static struct lock_owner *owner(void)
{
	struct lock_owner *o;

	ck_assert_int_eq(lock_owner_new(manager, &o), 0);
	return o;
}

static void setup(void)
{
	ck_assert_int_eq(lock_manager_new(&manager), 0);
	a = owner();
	b = owner();
	c = owner();
}

static void teardown(void)
{
	lock_owner_free(a);
	lock_owner_free(b);
	lock_owner_free(c);
	lock_manager_free(manager);
}

static struct lock_stat stat_now(void)
{
	struct lock_stat s;

	lock_manager_get_stat(manager, &s);
	return s;
}

static int try_key(struct lock_owner *o, const char *key, enum lock_mode mode)
{
	return lock_acquire(o, test_str(key), mode, 0, NULL);
}

static int try_range(struct lock_owner *o, const char *from, const char *to, enum lock_mode mode)
{
	return lock_acquire_range(o, test_str(from), test_str(to), mode, 0);
}

/* ---- one thread ------------------------------------------------------------------ */

START_TEST(test_a_range_keeps_writers_of_its_keys_out_whether_they_exist_or_not)
{
	ck_assert_int_eq(try_range(a, "c", "f", LOCK_SHARED), 0);
	ck_assert_int_eq(try_key(b, "c", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_key(b, "ezzz", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_key(b, "bzzz", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(b, "f", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(b, "d", LOCK_SHARED), 0);
	ck_assert_int_eq(try_key(b, "d", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT); /* an upgrade */
	ck_assert(lock_holds(b, test_str("d"), LOCK_SHARED));
	ck_assert(!lock_holds(b, test_str("d"), LOCK_EXCLUSIVE));
	ck_assert_int_eq(try_key(a, "e", LOCK_EXCLUSIVE), 0); /* one's own is in nobody's way */
	lock_release_all(a);
	ck_assert_int_eq(try_key(b, "c", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(b, "d", LOCK_EXCLUSIVE), 0);
}
END_TEST

START_TEST(test_keys_locked_before_keep_a_range_out)
{
	ck_assert_int_eq(try_key(a, "d", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(a, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "a", "e", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_range(b, "d", "e", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_range(b, "a", "d", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "e", "z", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "j", "l", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_range(a, "d", "e", LOCK_SHARED), 0);
	ck_assert_uint_eq(lock_count(a), 3);
	ck_assert_uint_eq(lock_count(b), 2);
	lock_release_all(a);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_EXCLUSIVE), 0);
}
END_TEST

START_TEST(test_ranges_conflict_where_they_overlap_unless_both_are_shared)
{
	ck_assert_int_eq(try_range(a, "c", "f", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "e", "g", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_range(c, "f", "g", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	lock_release_all(b);
	ck_assert_int_eq(try_range(c, "f", "g", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_key(b, "fa", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	lock_release_all(c);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_SHARED), 0);
}
END_TEST

START_TEST(test_a_range_inside_one_that_is_held_costs_no_lock)
{
	ck_assert_int_eq(try_range(a, "c", "m", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(a, "d", "m", LOCK_SHARED), 0);
	ck_assert_uint_eq(lock_count(a), 1);
	ck_assert_int_eq(try_range(a, "d", "e", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_range(a, "d", "z", LOCK_SHARED), 0);
	ck_assert_uint_eq(lock_count(a), 3);
}
END_TEST

struct listing {
	unsigned keys, ranges, exclusive;
};

static int list_lock(void *ctx, enum lock_mode mode, struct kv_slice from, struct kv_slice to)
{
	struct listing *l = ctx;

	ck_assert_uint_gt(from.len, 0);
	*(to.len ? &l->ranges : &l->keys) += 1;
	l->exclusive += mode == LOCK_EXCLUSIVE;
	return l->keys + l->ranges == 3 ? -ECANCELED : 0;
}

START_TEST(test_each_tells_all_locks_and_stops_at_an_error)
{
	struct listing l = {0};

	ck_assert_int_eq(try_key(a, "x", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(a, "c", "m", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(lock_each(a, list_lock, &l), 0);
	ck_assert_uint_eq(l.keys, 1);
	ck_assert_uint_eq(l.ranges, 1);
	ck_assert_uint_eq(l.exclusive, 1);
	ck_assert_int_eq(lock_each(a, list_lock, &l), -ECANCELED);
}
END_TEST

START_TEST(test_key_locks_taken_while_a_range_is_in_use_are_all_found_and_released)
{
	uint8_t key[4];

	ck_assert_int_eq(try_range(c, "zz", "zzz", LOCK_SHARED), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		be32_put(key, i);
		ck_assert_int_eq(lock_acquire(a, kv_slice_of(key, 4), LOCK_EXCLUSIVE, 0, NULL), 0);
	}
	be32_put(key, 4999);
	ck_assert_int_eq(lock_acquire_range(b, kv_slice_of(key, 4), test_str("z"), LOCK_SHARED, 0),
			 -KV_E_LOCK_TIMEOUT);
	be32_put(key, 5000);
	ck_assert_int_eq(lock_acquire_range(b, kv_slice_of(key, 4), test_str("z"), LOCK_SHARED, 0),
			 0);
	lock_release_all(a);
	ck_assert_int_eq(
		lock_acquire_range(b, kv_slice_of(NULL, 0), test_str("z"), LOCK_EXCLUSIVE, 0), 0);
}
END_TEST

/* ---- requests in other threads ----------------------------------------------------- */

struct request {
	struct lock_owner *o;
	const char *from, *to; /* to NULL: a key */
	enum lock_mode mode;
	unsigned timeout_ms; /* 0: LONG_MS */
	int result;
	struct os_thread thread;
};

static void request_run(void *arg)
{
	struct request *r = arg;
	unsigned ms = r->timeout_ms ? r->timeout_ms : LONG_MS;

	r->result =
		r->to ? lock_acquire_range(r->o, test_str(r->from), test_str(r->to), r->mode, ms)
		      : lock_acquire(r->o, test_str(r->from), r->mode, ms, NULL);
}

/* Start the request and return when it waits. */
static void request_start(struct request *r)
{
	uint64_t waits = stat_now().waits;

	ck_assert_int_eq(os_thread_start(&r->thread, "request", request_run, r), 0);
	while (stat_now().waits == waits)
		sched_yield();
}

static int request_join(struct request *r)
{
	os_thread_join(&r->thread);
	return r->result;
}

START_TEST(test_a_waiting_range_goes_before_keys_that_come_later)
{
	struct request range = {.o = b, .from = "a", .to = "z", .mode = LOCK_SHARED};
	struct request key = {.o = c, .from = "m", .mode = LOCK_EXCLUSIVE};

	ck_assert_int_eq(try_key(a, "k", LOCK_EXCLUSIVE), 0);
	request_start(&range);
	ck_assert_int_eq(try_key(c, "m", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	request_start(&key);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&range), 0);
	ck_assert_int_eq(try_key(a, "m", LOCK_SHARED), -KV_E_LOCK_TIMEOUT); /* behind c */
	lock_release_all(b);
	ck_assert_int_eq(request_join(&key), 0);
}
END_TEST

START_TEST(test_a_waiting_key_goes_before_ranges_that_come_later)
{
	struct request key = {.o = b, .from = "m", .mode = LOCK_EXCLUSIVE};
	struct request range = {.o = c, .from = "a", .to = "z", .mode = LOCK_SHARED};

	ck_assert_int_eq(try_range(a, "a", "z", LOCK_SHARED), 0);
	request_start(&key);
	ck_assert_int_eq(try_range(c, "a", "z", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	request_start(&range);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&key), 0);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&range), 0);
}
END_TEST

START_TEST(test_whom_a_range_waits_for_goes_on_locking_in_it)
{
	struct request range = {.o = b, .from = "a", .to = "z", .mode = LOCK_SHARED};
	struct request second = {.o = c, .from = "b", .to = "y", .mode = LOCK_EXCLUSIVE};

	ck_assert_int_eq(try_key(a, "k", LOCK_EXCLUSIVE), 0);
	request_start(&range);
	request_start(&second); /* behind both */
	ck_assert_int_eq(try_key(a, "m", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_range(a, "n", "p", LOCK_EXCLUSIVE), 0);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&range), 0);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&second), 0);
	ck_assert_uint_eq(stat_now().deadlocks, 0);
}
END_TEST

START_TEST(test_a_request_behind_a_range_that_gives_up_goes_on)
{
	struct request range = {
		.o = b, .from = "a", .to = "z", .mode = LOCK_EXCLUSIVE, .timeout_ms = 200};
	struct request key = {.o = c, .from = "m", .mode = LOCK_SHARED};

	ck_assert_int_eq(try_key(a, "k", LOCK_SHARED), 0);
	request_start(&range);
	request_start(&key);
	ck_assert_int_eq(request_join(&range), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(request_join(&key), 0);
	ck_assert_uint_eq(lock_count(b), 0);
	ck_assert_uint_eq(stat_now().timeouts, 1);
}
END_TEST

START_TEST(test_a_key_that_gives_up_waiting_for_a_range_leaves_the_key_free)
{
	struct request key = {.o = b, .from = "m", .mode = LOCK_EXCLUSIVE, .timeout_ms = 200};
	struct request next = {.o = c, .from = "m", .mode = LOCK_SHARED};

	ck_assert_int_eq(try_range(a, "a", "z", LOCK_SHARED), 0);
	request_start(&key);
	request_start(&next); /* in the key's queue, though the range would let it pass */
	ck_assert_int_eq(request_join(&key), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(request_join(&next), 0);
	ck_assert_uint_eq(lock_count(b), 0);
}
END_TEST

START_TEST(test_two_ranges_that_insert_into_each_other_are_a_deadlock)
{
	struct request key = {.o = a, .from = "m", .mode = LOCK_EXCLUSIVE};

	ck_assert_int_eq(try_range(a, "a", "z", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_SHARED), 0);
	request_start(&key);
	ck_assert_int_eq(lock_acquire(b, test_str("n"), LOCK_EXCLUSIVE, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	ck_assert_uint_eq(stat_now().deadlocks, 1);
	ck_assert(!lock_holds(b, test_str("n"), LOCK_SHARED));
	lock_release_all(b);
	ck_assert_int_eq(request_join(&key), 0);
}
END_TEST

START_TEST(test_an_upgrade_under_two_ranges_is_a_deadlock_that_keeps_the_shared_lock)
{
	struct request key = {.o = a, .from = "m", .mode = LOCK_EXCLUSIVE};

	ck_assert_int_eq(try_range(a, "a", "z", LOCK_SHARED), 0);
	ck_assert_int_eq(try_range(b, "a", "z", LOCK_SHARED), 0);
	ck_assert_int_eq(try_key(b, "n", LOCK_SHARED), 0);
	request_start(&key);
	ck_assert_int_eq(lock_acquire(b, test_str("n"), LOCK_EXCLUSIVE, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	ck_assert(lock_holds(b, test_str("n"), LOCK_SHARED));
	ck_assert_int_eq(try_key(c, "n", LOCK_SHARED), 0);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&key), 0);
}
END_TEST

START_TEST(test_a_cycle_through_a_key_queue_and_a_range_is_found)
{
	struct request range = {.o = a, .from = "a", .to = "m", .mode = LOCK_SHARED};

	ck_assert_int_eq(try_key(a, "x", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(b, "c", LOCK_EXCLUSIVE), 0);
	request_start(&range);
	ck_assert_int_eq(lock_acquire(b, test_str("x"), LOCK_SHARED, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&range), 0);
}
END_TEST

START_TEST(test_a_range_that_closes_a_cycle_is_the_victim)
{
	struct request key = {.o = b, .from = "x", .mode = LOCK_SHARED};

	ck_assert_int_eq(try_key(a, "x", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_key(b, "c", LOCK_EXCLUSIVE), 0);
	request_start(&key);
	ck_assert_int_eq(lock_acquire_range(a, test_str("a"), test_str("m"), LOCK_SHARED, LONG_MS),
			 -KV_E_DEADLOCK);
	ck_assert_uint_eq(lock_count(a), 1);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&key), 0);
}
END_TEST

/* ---- many threads --------------------------------------------------------------------- */

#define ACCOUNTS 12U
#define THREADS	 6U
#define START	 1000

struct bank {
	long account[ACCOUNTS]; /* plain memory: the locks are all that protects it */
	unsigned transfers;	/* of each thread */
	unsigned timeout_ms;
	/* Lock in one order, and no two threads the same key: no deadlock is possible. (With keys
	 * in common it is: behind a queue for a key that itself is behind a range.) */
	bool sorted;
	_Atomic uint64_t victims, timeouts;
	_Atomic unsigned threads;
	uint64_t seed;
};

static int bank_range(const struct bank *k, struct lock_owner *o, unsigned from, unsigned to,
		      enum lock_mode mode)
{
	uint8_t lower[4], upper[4];

	be32_put(lower, from);
	be32_put(upper, to);
	return lock_acquire_range(o, kv_slice_of(lower, 4), kv_slice_of(upper, 4), mode,
				  k->timeout_ms);
}

static int bank_add_up(struct bank *k, struct lock_owner *o, struct test_rng *rng)
{
	unsigned cut = k->sorted ? ACCOUNTS : 1 + (unsigned)test_rng_below(rng, ACCOUNTS - 1);
	bool swap = !k->sorted && test_rng_below(rng, 2);
	long total = 0;
	int err = bank_range(k, o, swap ? cut : 0, swap ? ACCOUNTS : cut, LOCK_SHARED);

	sched_yield();
	if (!err && cut < ACCOUNTS)
		err = bank_range(k, o, swap ? 0 : cut, swap ? cut : ACCOUNTS, LOCK_SHARED);
	for (unsigned i = 0; i < ACCOUNTS && !err; i++)
		total += k->account[i];
	if (!err && total != (long)ACCOUNTS * START)
		abort();
	return err;
}

static int bank_transaction(struct bank *k, struct lock_owner *o, struct test_rng *rng,
			    unsigned thread)
{
	unsigned x = k->sorted ? thread : (unsigned)test_rng_below(rng, ACCOUNTS);
	unsigned y = k->sorted ? x + THREADS
			       : (x + 1 + (unsigned)test_rng_below(rng, ACCOUNTS - 1)) % ACCOUNTS;
	unsigned how = (unsigned)test_rng_below(rng, 8);
	uint8_t key[4];
	int err;

	if (how < 2)
		return bank_add_up(k, o, rng);
	be32_put(key, x);
	err = how == 2 ? bank_range(k, o, x, x + 1, LOCK_EXCLUSIVE)
		       : lock_acquire(o, kv_slice_of(key, 4), LOCK_EXCLUSIVE, k->timeout_ms, NULL);
	sched_yield();
	be32_put(key, y);
	if (!err && how == 3 && !k->sorted)
		err = lock_acquire(o, kv_slice_of(key, 4), LOCK_SHARED, k->timeout_ms, NULL);
	if (!err)
		err = lock_acquire(o, kv_slice_of(key, 4), LOCK_EXCLUSIVE, k->timeout_ms, NULL);
	if (!err) {
		k->account[x] -= 7;
		k->account[y] += 7;
	}
	return err;
}

static void bank_run(void *arg)
{
	struct bank *k = arg;
	unsigned thread = atomic_fetch_add(&k->threads, 1);
	struct test_rng rng = {(k->seed + thread) * 7919};
	struct lock_owner *o;

	if (lock_owner_new(manager, &o))
		abort();
	for (unsigned i = 0; i < k->transfers;) {
		int err = bank_transaction(k, o, &rng, thread);

		lock_release_all(o);
		if (err == -KV_E_DEADLOCK)
			atomic_fetch_add(&k->victims, 1);
		else if (err == -KV_E_LOCK_TIMEOUT)
			atomic_fetch_add(&k->timeouts, 1);
		else if (err)
			abort();
		else
			i++;
	}
	lock_owner_free(o);
}

static void bank(struct bank *k)
{
	struct os_thread thread[THREADS];
	struct test_rng rng = test_rng_seeded("range bank");
	long total = 0;

	k->seed = rng.state;
	for (unsigned i = 0; i < ACCOUNTS; i++)
		k->account[i] = START;
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(os_thread_start(&thread[i], "bank", bank_run, k), 0);
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(&thread[i]);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		total += k->account[i];
	ck_assert_int_eq(total, (long)ACCOUNTS * START);
}

START_TEST(test_ranges_in_random_order_find_every_deadlock_and_lose_no_exclusion)
{
	static struct bank k = {.transfers = 2000, .timeout_ms = LONG_MS};

	bank(&k);
	ck_assert_uint_eq(atomic_load(&k.timeouts), 0);
	ck_assert_uint_eq(stat_now().deadlocks, atomic_load(&k.victims));
	ck_assert_uint_gt(stat_now().deadlocks, 0);
}
END_TEST

START_TEST(test_one_order_of_locking_ranges_has_no_victims)
{
	static struct bank k = {.transfers = 3000, .timeout_ms = LONG_MS, .sorted = true};

	bank(&k);
	ck_assert_uint_eq(atomic_load(&k.timeouts), 0);
	ck_assert_uint_eq(atomic_load(&k.victims), 0);
}
END_TEST

START_TEST(test_time_outs_of_ranges_that_race_with_grants_lose_nothing)
{
	static struct bank k = {.transfers = 2000, .timeout_ms = 1};

	bank(&k);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_range_keeps_writers_of_its_keys_out_whether_they_exist_or_not,
		test_keys_locked_before_keep_a_range_out,
		test_ranges_conflict_where_they_overlap_unless_both_are_shared,
		test_a_range_inside_one_that_is_held_costs_no_lock,
		test_each_tells_all_locks_and_stops_at_an_error,
		test_key_locks_taken_while_a_range_is_in_use_are_all_found_and_released,
		test_a_waiting_range_goes_before_keys_that_come_later,
		test_a_waiting_key_goes_before_ranges_that_come_later,
		test_whom_a_range_waits_for_goes_on_locking_in_it,
		test_a_request_behind_a_range_that_gives_up_goes_on,
		test_a_key_that_gives_up_waiting_for_a_range_leaves_the_key_free,
		test_two_ranges_that_insert_into_each_other_are_a_deadlock,
		test_an_upgrade_under_two_ranges_is_a_deadlock_that_keeps_the_shared_lock,
		test_a_cycle_through_a_key_queue_and_a_range_is_found,
		test_a_range_that_closes_a_cycle_is_the_victim,
		test_ranges_in_random_order_find_every_deadlock_and_lose_no_exclusion,
		test_one_order_of_locking_ranges_has_no_victims,
		test_time_outs_of_ranges_that_race_with_grants_lose_nothing,
	};

	return test_suite_run_with("lock_range", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
