/* SPDX-License-Identifier: MIT */
/*
 * The lock manager: what each mode admits, queues, upgrades, time-outs; then
 * threads in random order. There a missed deadlock shows as a time-out, a false
 * one as a victim where the order of locking admits none, and a lost exclusion as a
 * torn total (and to TSan as a race, since the accounts are plain memory).
 */
#include "kvcore/engine/lock_manager.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "tests/support/test_suite.h"

#define LONG_MS 30000U /* nobody waits so long unless a deadlock was missed */

static struct lock_manager *manager;

static void setup(void)
{
	ck_assert_int_eq(lock_manager_new(&manager), 0);
}

static void teardown(void)
{
	lock_manager_free(manager);
}

static struct lock_owner *owner(void)
{
	struct lock_owner *o;

	ck_assert_int_eq(lock_owner_new(manager, &o), 0);
	return o;
}

static struct lock_stat stat_now(void)
{
	struct lock_stat s;

	lock_manager_get_stat(manager, &s);
	return s;
}

static void wait_until_waiting(uint64_t waits)
{
	while (stat_now().waits < waits)
		;
}

static int try_lock(struct lock_owner *o, const char *key, enum lock_mode mode)
{
	return lock_acquire(o, test_str(key), mode, 0, NULL);
}

/* ---- one thread ----------------------------------------------------------- */

START_TEST(test_shared_locks_share_and_exclusive_ones_exclude)
{
	struct lock_owner *a = owner(), *b = owner();

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_lock(b, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_lock(a, "x", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_lock(b, "x", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_lock(b, "x", LOCK_EXCLUSIVE), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(try_lock(a, "x", LOCK_SHARED), 0); /* it has more already */
	ck_assert_uint_eq(lock_count(a), 2);
	ck_assert_uint_eq(lock_count(b), 1);
	lock_release_all(a);
	ck_assert_uint_eq(lock_count(a), 0);
	ck_assert_int_eq(try_lock(b, "k", LOCK_EXCLUSIVE), 0); /* an upgrade */
	ck_assert_int_eq(try_lock(b, "x", LOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	lock_owner_free(b);
	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), 0);
	lock_owner_free(a);
	lock_owner_free(NULL);
}
END_TEST

START_TEST(test_holds_tells_the_mode)
{
	struct lock_owner *a = owner(), *b = owner();

	ck_assert(!lock_holds(a, test_str("k"), LOCK_SHARED));
	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	ck_assert(lock_holds(a, test_str("k"), LOCK_SHARED));
	ck_assert(!lock_holds(a, test_str("k"), LOCK_EXCLUSIVE));
	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), 0);
	ck_assert(lock_holds(a, test_str("k"), LOCK_EXCLUSIVE));
	ck_assert_int_eq(try_lock(b, "other", LOCK_SHARED), 0);
	ck_assert(!lock_holds(b, test_str("k"), LOCK_SHARED));
	lock_owner_free(a);
	lock_owner_free(b);
}
END_TEST

START_TEST(test_many_locks_of_one_owner_are_all_released)
{
	struct lock_owner *a = owner(), *b = owner();
	uint8_t key[4];

	for (unsigned round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 20000; i++) {
			be32_put(key, i);
			if (lock_acquire(a, kv_slice_of(key, 4), LOCK_EXCLUSIVE, 0, NULL))
				ck_abort_msg("lock %u", i);
		}
		ck_assert_uint_eq(lock_count(a), 20000);
		be32_put(key, 19999);
		ck_assert(lock_holds(a, kv_slice_of(key, 4), LOCK_EXCLUSIVE));
		lock_release_all(a);
		ck_assert_int_eq(lock_acquire(b, kv_slice_of(key, 4), LOCK_EXCLUSIVE, 0, NULL), 0);
		lock_release_all(b);
	}
	lock_owner_free(a);
	lock_owner_free(b);
}
END_TEST

/* ---- one request in another thread --------------------------------------- */

struct request {
	struct lock_owner *o;
	const char *key;
	enum lock_mode mode;
	unsigned timeout_ms;
	int result;
	unsigned order; /* of being granted */
	_Atomic unsigned *ticket;
	struct os_thread thread;
};

static void request_run(void *arg)
{
	struct request *r = arg;

	r->result = lock_acquire(r->o, test_str(r->key), r->mode, r->timeout_ms, NULL);
	if (r->ticket)
		r->order = atomic_fetch_add(r->ticket, 1);
	if (r->ticket && !r->result)
		lock_release_all(r->o);
}

/* Start the request and return when it waits. */
static void request_start(struct request *r)
{
	uint64_t waits = stat_now().waits;

	ck_assert_int_eq(os_thread_start(&r->thread, "request", request_run, r), 0);
	wait_until_waiting(waits + 1);
}

static int request_join(struct request *r)
{
	os_thread_join(&r->thread);
	return r->result;
}

START_TEST(test_a_request_times_out_and_those_behind_it_go_on)
{
	struct lock_owner *a = owner(), *b = owner(), *c = owner();
	struct request x = {.o = b, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = 300};
	struct request s = {.o = c, .key = "k", .mode = LOCK_SHARED, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	request_start(&x);
	request_start(&s); /* behind the exclusive request, although it would share with a */
	ck_assert_int_eq(request_join(&x), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(request_join(&s), 0);
	ck_assert_uint_eq(stat_now().timeouts, 1);
	ck_assert_uint_eq(lock_count(b), 0);
	lock_owner_free(a);
	lock_owner_free(b);
	lock_owner_free(c);
}
END_TEST

START_TEST(test_a_queue_is_served_in_order)
{
	struct lock_owner *a = owner();
	struct request r[6];
	_Atomic unsigned ticket = 0;

	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), 0);
	for (unsigned i = 0; i < 6; i++) {
		r[i] = (struct request){.o = owner(),
					.key = "k",
					.mode = LOCK_EXCLUSIVE,
					.timeout_ms = LONG_MS,
					.ticket = &ticket};
		request_start(&r[i]);
	}
	lock_release_all(a);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_int_eq(request_join(&r[i]), 0);
		ck_assert_uint_eq(r[i].order, i);
		lock_owner_free(r[i].o);
	}
	lock_owner_free(a);
}
END_TEST

START_TEST(test_who_has_waited_for_a_while_is_not_overtaken)
{
	const struct timespec while_ = {0, 5000000};
	struct lock_owner *a = owner(), *b = owner(), *c = owner();
	struct request x = {.o = b, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), 0);
	request_start(&x);
	nanosleep(&while_, NULL);
	lock_release_all(a);
	ck_assert_int_eq(try_lock(c, "k", LOCK_SHARED), -KV_E_LOCK_TIMEOUT);
	ck_assert_int_eq(request_join(&x), 0);
	lock_owner_free(a);
	lock_owner_free(b);
	lock_owner_free(c);
}
END_TEST

START_TEST(test_an_upgrade_goes_before_waiting_strangers)
{
	struct lock_owner *a = owner(), *b = owner(), *c = owner();
	struct request stranger = {
		.o = c, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};
	struct request upgrade = {
		.o = a, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_lock(b, "k", LOCK_SHARED), 0);
	request_start(&stranger);
	request_start(&upgrade);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&upgrade), 0);
	ck_assert(lock_holds(a, test_str("k"), LOCK_EXCLUSIVE));
	ck_assert_uint_eq(lock_count(a), 1);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&stranger), 0);
	lock_owner_free(a);
	lock_owner_free(b);
	lock_owner_free(c);
}
END_TEST

START_TEST(test_a_sole_shared_holder_upgrades_at_once_despite_a_queue)
{
	struct lock_owner *a = owner(), *b = owner();
	struct request x = {.o = b, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	request_start(&x);
	ck_assert_int_eq(try_lock(a, "k", LOCK_EXCLUSIVE), 0);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&x), 0);
	lock_owner_free(a);
	lock_owner_free(b);
}
END_TEST

/* ---- deadlocks ------------------------------------------------------------ */

START_TEST(test_the_request_that_closes_a_cycle_fails_at_once_and_keeps_its_locks)
{
	struct lock_owner *o[4];
	const char *const keys[] = {"k0", "k1", "k2", "k3"};
	struct request r[3];

	for (unsigned i = 0; i < 4; i++) {
		o[i] = owner();
		ck_assert_int_eq(try_lock(o[i], keys[i], LOCK_EXCLUSIVE), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		r[i] = (struct request){.o = o[i],
					.key = keys[i + 1],
					.mode = i % 2 ? LOCK_SHARED : LOCK_EXCLUSIVE,
					.timeout_ms = LONG_MS};
		request_start(&r[i]);
	}
	ck_assert_int_eq(lock_acquire(o[3], test_str("k0"), LOCK_SHARED, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	ck_assert(lock_holds(o[3], test_str("k3"), LOCK_EXCLUSIVE));
	ck_assert_uint_eq(stat_now().deadlocks, 1);
	lock_release_all(o[3]);
	for (unsigned i = 3; i-- > 0;) {
		ck_assert_int_eq(request_join(&r[i]), 0);
		lock_release_all(o[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		lock_owner_free(o[i]);
}
END_TEST

START_TEST(test_two_upgrades_of_one_lock_are_a_deadlock)
{
	struct lock_owner *a = owner(), *b = owner();
	struct request r = {.o = a, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_lock(b, "k", LOCK_SHARED), 0);
	request_start(&r);
	ck_assert_int_eq(lock_acquire(b, test_str("k"), LOCK_EXCLUSIVE, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	ck_assert(lock_holds(b, test_str("k"), LOCK_SHARED));
	lock_release_all(b);
	ck_assert_int_eq(request_join(&r), 0);
	lock_owner_free(a);
	lock_owner_free(b);
}
END_TEST

/* a holds k shared and x; b waits for k exclusively; c, behind b, would share k and holds y. */
START_TEST(test_waiting_behind_a_waiter_counts_as_waiting_for_it)
{
	struct lock_owner *a = owner(), *b = owner(), *c = owner();
	struct request bk = {.o = b, .key = "k", .mode = LOCK_EXCLUSIVE, .timeout_ms = LONG_MS};
	struct request ck = {.o = c, .key = "k", .mode = LOCK_SHARED, .timeout_ms = LONG_MS};

	ck_assert_int_eq(try_lock(a, "k", LOCK_SHARED), 0);
	ck_assert_int_eq(try_lock(c, "y", LOCK_EXCLUSIVE), 0);
	request_start(&bk);
	request_start(&ck);
	/* a -> c (y) -> b (queue of k) -> a (k) */
	ck_assert_int_eq(lock_acquire(a, test_str("y"), LOCK_EXCLUSIVE, LONG_MS, NULL),
			 -KV_E_DEADLOCK);
	lock_release_all(a);
	ck_assert_int_eq(request_join(&bk), 0);
	lock_release_all(b);
	ck_assert_int_eq(request_join(&ck), 0);
	lock_owner_free(a);
	lock_owner_free(b);
	lock_owner_free(c);
}
END_TEST

/* ---- many threads --------------------------------------------------------- */

#define ACCOUNTS 8U
#define THREADS	 6U
#define START	 1000

struct bank {
	long account[ACCOUNTS]; /* plain memory: the locks are all that protects it */
	unsigned transfers;	/* of each thread */
	unsigned timeout_ms;
	bool sorted;   /* lock in one order: no deadlock is possible */
	bool upgrades; /* lock shared first */
	_Atomic uint64_t victims, timeouts, done;
	_Atomic uint64_t seed;
};

static int bank_lock(const struct bank *b, struct lock_owner *o, unsigned account, bool exclusive)
{
	uint8_t key[4];
	struct kv_slice ikey = kv_slice_of(key, sizeof(key));
	int err = 0;

	be32_put(key, account);
	if (b->upgrades || !exclusive)
		err = lock_acquire(o, ikey, LOCK_SHARED, b->timeout_ms, NULL);
	if (!err && exclusive)
		err = lock_acquire(o, ikey, LOCK_EXCLUSIVE, b->timeout_ms, NULL);
	return err;
}

/* Move money between two accounts, or look at all of them. */
static int bank_transaction(struct bank *b, struct lock_owner *o, struct test_rng *rng)
{
	unsigned x = (unsigned)test_rng_below(rng, ACCOUNTS);
	unsigned y = (x + 1 + (unsigned)test_rng_below(rng, ACCOUNTS - 1)) % ACCOUNTS;
	unsigned first = b->sorted && y < x ? y : x, second = first == x ? y : x;
	long total = 0;
	int err = 0;

	if (test_rng_below(rng, 10) == 0) {
		for (unsigned i = 0; i < ACCOUNTS && !err; i++) {
			err = bank_lock(b, o, b->sorted ? i : (x + i) % ACCOUNTS, false);
		}
		for (unsigned i = 0; i < ACCOUNTS && !err; i++)
			total += b->account[i];
		if (!err && total != (long)ACCOUNTS * START)
			abort();
		return err;
	}
	err = bank_lock(b, o, first, true);
	sched_yield(); /* make others run into the first lock, also on one processor */
	if (!err)
		err = bank_lock(b, o, second, true);
	if (!err) {
		b->account[x] -= 7;
		b->account[y] += 7;
	}
	return err;
}

static void bank_run(void *arg)
{
	struct bank *b = arg;
	struct test_rng rng = {atomic_fetch_add(&b->seed, 1) * 7919};
	struct lock_owner *o;

	if (lock_owner_new(manager, &o))
		abort();
	for (unsigned i = 0; i < b->transfers;) {
		int err = bank_transaction(b, o, &rng);

		lock_release_all(o);
		if (err == -KV_E_DEADLOCK)
			atomic_fetch_add(&b->victims, 1);
		else if (err == -KV_E_LOCK_TIMEOUT)
			atomic_fetch_add(&b->timeouts, 1);
		else if (err)
			abort();
		else
			i++;
	}
	atomic_fetch_add(&b->done, b->transfers);
	lock_owner_free(o);
}

static void bank(struct bank *b)
{
	struct os_thread thread[THREADS];
	struct test_rng rng = test_rng_seeded("bank");
	long total = 0;

	atomic_store(&b->seed, rng.state);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		b->account[i] = START;
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(os_thread_start(&thread[i], "bank", bank_run, b), 0);
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(&thread[i]);
	for (unsigned i = 0; i < ACCOUNTS; i++)
		total += b->account[i];
	ck_assert_int_eq(total, (long)ACCOUNTS * START);
	ck_assert_uint_eq(atomic_load(&b->done), THREADS * (uint64_t)b->transfers);
}

START_TEST(test_random_order_finds_every_deadlock_and_loses_no_exclusion)
{
	static struct bank b = {.transfers = 3000, .timeout_ms = LONG_MS};

	bank(&b);
	ck_assert_uint_eq(atomic_load(&b.timeouts), 0);
	ck_assert_uint_eq(stat_now().deadlocks, atomic_load(&b.victims));
	ck_assert_uint_gt(stat_now().deadlocks, 0);
}
END_TEST

START_TEST(test_upgrades_in_random_order_find_every_deadlock)
{
	static struct bank b = {.transfers = 1500, .timeout_ms = LONG_MS, .upgrades = true};

	bank(&b);
	ck_assert_uint_eq(atomic_load(&b.timeouts), 0);
}
END_TEST

START_TEST(test_one_order_of_locking_has_no_victims)
{
	static struct bank b = {.transfers = 4000, .timeout_ms = LONG_MS, .sorted = true};

	bank(&b);
	ck_assert_uint_eq(atomic_load(&b.timeouts), 0);
	ck_assert_uint_eq(atomic_load(&b.victims), 0);
}
END_TEST

START_TEST(test_time_outs_that_race_with_grants_lose_nothing)
{
	static struct bank b = {.transfers = 3000, .timeout_ms = 1, .upgrades = true};

	bank(&b);
}
END_TEST

struct stream {
	_Atomic bool stop;
	_Atomic uint64_t rounds;
};

/* Holds a shared lock nearly all the time; two of these overlap without end. */
static void stream_run(void *arg)
{
	struct stream *s = arg;
	struct lock_owner *o;

	if (lock_owner_new(manager, &o))
		abort();
	while (!atomic_load(&s->stop)) {
		if (lock_acquire(o, test_str("k"), LOCK_SHARED, LONG_MS, NULL))
			abort();
		atomic_fetch_add(&s->rounds, 1);
		lock_release_all(o);
	}
	lock_owner_free(o);
}

START_TEST(test_a_stream_of_sharers_does_not_starve_an_exclusive_request)
{
	struct os_thread thread[4];
	static struct stream s;
	struct lock_owner *x = owner();

	for (unsigned i = 0; i < KV_ARRAY_COUNT(thread); i++)
		ck_assert_int_eq(os_thread_start(&thread[i], "sharer", stream_run, &s), 0);
	while (atomic_load(&s.rounds) < 100)
		;
	for (unsigned i = 0; i < 50; i++) {
		ck_assert_int_eq(lock_acquire(x, test_str("k"), LOCK_EXCLUSIVE, LONG_MS, NULL), 0);
		lock_release_all(x);
	}
	atomic_store(&s.stop, true);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(thread); i++)
		os_thread_join(&thread[i]);
	lock_owner_free(x);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_shared_locks_share_and_exclusive_ones_exclude,
		test_holds_tells_the_mode,
		test_many_locks_of_one_owner_are_all_released,
		test_a_request_times_out_and_those_behind_it_go_on,
		test_a_queue_is_served_in_order,
		test_who_has_waited_for_a_while_is_not_overtaken,
		test_an_upgrade_goes_before_waiting_strangers,
		test_a_sole_shared_holder_upgrades_at_once_despite_a_queue,
		test_the_request_that_closes_a_cycle_fails_at_once_and_keeps_its_locks,
		test_two_upgrades_of_one_lock_are_a_deadlock,
		test_waiting_behind_a_waiter_counts_as_waiting_for_it,
		test_random_order_finds_every_deadlock_and_loses_no_exclusion,
		test_upgrades_in_random_order_find_every_deadlock,
		test_one_order_of_locking_has_no_victims,
		test_time_outs_that_race_with_grants_lose_nothing,
		test_a_stream_of_sharers_does_not_starve_an_exclusive_request,
	};

	return test_suite_run_with("lock_manager", tests, KV_ARRAY_COUNT(tests), 120, setup,
				   teardown);
}
