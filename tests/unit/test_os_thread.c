/* SPDX-License-Identifier: MIT */
/*
 * Threads and locks: mutual exclusion, conditions with and without a limit,
 * signals and names of new threads, and the rank check, which must abort on
 * each order that could deadlock.
 */
#include "kvcore/os/os_thread.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define THREADS 4
#define ROUNDS	5000

struct shared {
	struct os_mutex mu;
	struct os_rwlock rw;
	struct os_cond cv;
	unsigned count;
	unsigned twin;
	bool go;
	_Atomic unsigned seen;
};

static void shared_init(struct shared *s)
{
	memset(s, 0, sizeof(*s));
	ck_assert_int_eq(os_mutex_init(&s->mu, OS_RANK_DB), 0);
	ck_assert_int_eq(os_rwlock_init(&s->rw, OS_RANK_SEGMENT), 0);
	ck_assert_int_eq(os_cond_init(&s->cv), 0);
}

static void shared_fini(struct shared *s)
{
	os_cond_fini(&s->cv);
	os_rwlock_fini(&s->rw);
	os_mutex_fini(&s->mu);
}

static void run_threads(struct shared *s, void (*run)(void *))
{
	struct os_thread t[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(os_thread_start(&t[i], "test", run, s), 0);
	for (int i = 0; i < THREADS; i++)
		os_thread_join(&t[i]);
}

static void add_under_mutex(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		os_mutex_lock(&s->mu);
		s->count++;
		os_mutex_unlock(&s->mu);
	}
}

START_TEST(test_a_mutex_excludes)
{
	struct shared s;

	shared_init(&s);
	run_threads(&s, add_under_mutex);
	ck_assert_uint_eq(s.count, THREADS * ROUNDS);
	shared_fini(&s);
}
END_TEST

static void read_and_write(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (i % 4) {
			os_rwlock_rdlock(&s->rw);
			if (s->count != s->twin)
				atomic_fetch_add(&s->seen, 1);
			os_rwlock_rdunlock(&s->rw);
		} else {
			os_rwlock_wrlock(&s->rw);
			s->count++;
			s->twin++;
			os_rwlock_wrunlock(&s->rw);
		}
	}
}

START_TEST(test_a_read_write_lock_shows_no_half_done_write)
{
	struct shared s;

	shared_init(&s);
	run_threads(&s, read_and_write);
	ck_assert_uint_eq(s.seen, 0);
	ck_assert_uint_eq(s.count, THREADS * ROUNDS / 4);
	shared_fini(&s);
}
END_TEST

static void wait_for_go(void *arg)
{
	struct shared *s = arg;

	os_mutex_lock(&s->mu);
	s->count++;
	os_cond_signal(&s->cv);
	while (!s->go)
		os_cond_wait(&s->cv, &s->mu);
	s->twin++;
	os_mutex_unlock(&s->mu);
}

START_TEST(test_a_broadcast_wakes_all_waiters)
{
	struct os_thread t[THREADS];
	struct shared s;

	shared_init(&s);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(os_thread_start(&t[i], "waiter", wait_for_go, &s), 0);
	os_mutex_lock(&s.mu);
	while (s.count < THREADS)
		os_cond_timedwait(&s.cv, &s.mu, 5);
	s.go = true;
	os_cond_broadcast(&s.cv);
	os_mutex_unlock(&s.mu);
	for (int i = 0; i < THREADS; i++)
		os_thread_join(&t[i]);
	ck_assert_uint_eq(s.twin, THREADS);
	shared_fini(&s);
}
END_TEST

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

START_TEST(test_a_timed_wait_ends_after_its_time_and_not_before)
{
	uint64_t start = now_ms();
	struct shared s;
	bool woken = true;

	shared_init(&s);
	os_mutex_lock(&s.mu);
	while (woken && now_ms() - start < 5000) /* a spurious wake-up is allowed */
		woken = os_cond_timedwait(&s.cv, &s.mu, 30);
	os_mutex_unlock(&s.mu);
	ck_assert(!woken);
	ck_assert_uint_ge(now_ms() - start, 30);
	shared_fini(&s);
}
END_TEST

static void give_go(void *arg)
{
	struct shared *s = arg;

	os_mutex_lock(&s->mu);
	s->go = true;
	os_cond_signal(&s->cv);
	os_mutex_unlock(&s->mu);
}

START_TEST(test_an_endless_timed_wait_is_woken_by_a_signal)
{
	struct os_thread t;
	struct shared s;
	bool woken = true;

	shared_init(&s);
	os_mutex_lock(&s.mu);
	ck_assert_int_eq(os_thread_start(&t, "signaller", give_go, &s), 0);
	while (!s.go)
		woken = os_cond_timedwait(&s.cv, &s.mu, UINT64_MAX);
	os_mutex_unlock(&s.mu);
	ck_assert(woken);
	os_thread_join(&t);
	shared_fini(&s);
}
END_TEST

/* ---- latches ---- */

#define PASSES 20000

struct ball {
	struct os_latch *_Atomic there; /* where the other thread waits; its stack */
	unsigned count;			/* handed over with the latch */
};

/* Wait for the ball on a latch of this stack frame, which is gone right afterwards. */
static void catch_ball(struct ball *b, unsigned spins)
{
	struct os_latch mine = {0};

	atomic_store(&b->there, &mine);
	os_latch_wait(&mine, spins);
}

static void throw_ball(struct ball *b)
{
	struct os_latch *l;
	unsigned turns = 0;

	while (!(l = atomic_exchange(&b->there, NULL)))
		os_thread_relax(&turns);
	b->count++;
	os_latch_open(l);
}

static void catch_all(void *arg)
{
	struct ball *b = arg;

	for (unsigned i = 0; i < PASSES; i++) {
		catch_ball(b, i % 3 ? 100 : 0);
		ck_assert_uint_eq(b->count, i + 1);
	}
}

START_TEST(test_a_latch_wakes_its_waiter_and_is_touched_no_more)
{
	struct ball b = {NULL, 0};
	struct os_thread t;

	ck_assert_int_eq(os_thread_start(&t, "catcher", catch_all, &b), 0);
	for (unsigned i = 0; i < PASSES; i++)
		throw_ball(&b);
	os_thread_join(&t);
	ck_assert_uint_eq(b.count, PASSES);
}
END_TEST

static void open_late(void *arg)
{
	const struct timespec pause = {0, 20000000};

	nanosleep(&pause, NULL);
	os_latch_open(arg);
}

START_TEST(test_a_timed_wait_for_a_latch_ends_at_its_deadline_or_when_it_opens)
{
	struct os_latch l = {0};
	uint64_t start = now_ms();
	struct os_thread t;

	ck_assert(!os_latch_wait_until(&l, (start + 30) * 1000000));
	ck_assert_uint_ge(now_ms() - start, 29);
	ck_assert_int_eq(os_thread_start(&t, "opener", open_late, &l), 0);
	ck_assert(os_latch_wait_until(&l, (now_ms() + 100000) * 1000000));
	os_thread_join(&t);
	ck_assert(os_latch_wait_until(&l, 0)); /* it stays open */
	os_latch_wait(&l, 0);
	os_latch_shut(&l);
	ck_assert(!os_latch_wait_until(&l, now_ms() * 1000000));
}
END_TEST

static void look_at_self(void *arg)
{
	struct shared *s = arg;
	sigset_t blocked;
	char name[16];

	pthread_sigmask(SIG_BLOCK, NULL, &blocked);
	if (sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGALRM) &&
	    sigismember(&blocked, SIGUSR1))
		atomic_fetch_add(&s->seen, 1);
	if (!sigismember(&blocked, SIGSEGV))
		atomic_fetch_add(&s->seen, 10);
	pthread_getname_np(pthread_self(), name, sizeof(name));
	if (!strcmp(name, "fifteen-letters"))
		atomic_fetch_add(&s->seen, 100);
}

START_TEST(test_a_new_thread_has_a_name_and_its_signals_blocked)
{
	sigset_t before, after;
	struct os_thread t;
	struct shared s;

	shared_init(&s);
	pthread_sigmask(SIG_BLOCK, NULL, &before);
	ck_assert_int_eq(os_thread_start(&t, "fifteen-letters", look_at_self, &s), 0);
	pthread_sigmask(SIG_BLOCK, NULL, &after);
	os_thread_join(&t);
	ck_assert_uint_eq(s.seen, 111);
	ck_assert_int_eq(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	shared_fini(&s);
}
END_TEST

static void take_hint(void *arg)
{
	*(unsigned *)arg = os_thread_hint();
}

START_TEST(test_hints_differ_between_threads_and_stay)
{
	unsigned own = os_thread_hint(), other = own;
	struct os_thread t;

	ck_assert_int_eq(os_thread_start(&t, "hint", take_hint, &other), 0);
	os_thread_join(&t);
	ck_assert_uint_ne(own, other);
	ck_assert_uint_eq(own, os_thread_hint());
}
END_TEST

START_TEST(test_rising_ranks_may_be_released_in_any_order)
{
	struct os_mutex a, b, c;

	ck_assert_int_eq(os_mutex_init(&a, OS_RANK_COMMIT), 0);
	ck_assert_int_eq(os_mutex_init(&b, OS_RANK_DB), 0);
	ck_assert_int_eq(os_mutex_init(&c, OS_RANK_LEAF), 0);
	for (int i = 0; i < 100; i++) {
		os_mutex_lock(&a);
		os_mutex_lock(&b);
		os_mutex_unlock(&a);
		os_mutex_lock(&c);
		os_mutex_unlock(&b);
		os_mutex_unlock(&c);
	}
	os_mutex_fini(&c);
	os_mutex_fini(&b);
	os_mutex_fini(&a);
}
END_TEST

#ifndef NDEBUG
/* Each of these must not return. */
KV_NO_THREAD_ANALYSIS static void take_falling_ranks(struct shared *s)
{
	os_rwlock_rdlock(&s->rw);
	os_mutex_lock(&s->mu);
}

KV_NO_THREAD_ANALYSIS static void take_equal_ranks(struct shared *s)
{
	os_rwlock_rdlock(&s->rw);
	os_rwlock_rdlock(&s->rw);
}

KV_NO_THREAD_ANALYSIS static void unlock_what_is_not_held(struct shared *s)
{
	os_mutex_unlock(&s->mu);
}

static int signal_of(void (*run)(struct shared *))
{
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (!child) {
		struct shared s;

		if (!freopen("/dev/null", "w", stderr))
			_exit(1);
		shared_init(&s);
		run(&s);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

START_TEST(test_wrong_lock_orders_abort)
{
	ck_assert_int_eq(signal_of(take_falling_ranks), SIGABRT);
	ck_assert_int_eq(signal_of(take_equal_ranks), SIGABRT);
	ck_assert_int_eq(signal_of(unlock_what_is_not_held), SIGABRT);
}
END_TEST
#endif

int main(void)
{
	const TTest *tests[] = {
		test_a_mutex_excludes,
		test_a_read_write_lock_shows_no_half_done_write,
		test_a_broadcast_wakes_all_waiters,
		test_a_timed_wait_ends_after_its_time_and_not_before,
		test_an_endless_timed_wait_is_woken_by_a_signal,
		test_a_latch_wakes_its_waiter_and_is_touched_no_more,
		test_a_timed_wait_for_a_latch_ends_at_its_deadline_or_when_it_opens,
		test_a_new_thread_has_a_name_and_its_signals_blocked,
		test_hints_differ_between_threads_and_stay,
		test_rising_ranks_may_be_released_in_any_order,
#ifndef NDEBUG
		test_wrong_lock_orders_abort,
#endif
	};

	return test_suite_run("os_thread", tests, KV_ARRAY_COUNT(tests), 60);
}
