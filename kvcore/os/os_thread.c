/* SPDX-License-Identifier: MIT */
/*
 * Threads and locks over pthreads. Locking cannot fail for a correct caller, so
 * what pthreads reports is asserted. Read-write locks prefer writers: readers
 * of the memtable come without pause and would starve a commit. The ranks held
 * are the thread's own and the reason for a thread-local variable. Latches are futexes: who is
 * woken by one takes no mutex on its way, as it would from a condition.
 */
#include "kvcore/os/os_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kvcore/base/base.h"

#define OS_THREAD_NAME_MAX 15U
#define OS_WAIT_MAX_MS	   (1000ULL * 3600 * 24 * 365)
#define OS_RELAX_TURNS	   64U /* about a microsecond */
#define NS_PER_S	   1000000000ULL

#ifndef NDEBUG
#define OS_HELD_MAX 32U

static _Thread_local struct {
	int ranks[OS_HELD_MAX];
	unsigned count;
} os_held;

static void os_rank_acquire(int rank)
{
	for (unsigned i = 0; i < os_held.count; i++)
		KV_ASSERT(os_held.ranks[i] < rank);
	KV_ASSERT(os_held.count < OS_HELD_MAX);
	os_held.ranks[os_held.count++] = rank;
}

/* Locks may be released in any order. */
static void os_rank_release(int rank)
{
	unsigned i = os_held.count;

	while (i && os_held.ranks[i - 1] != rank)
		i--;
	KV_ASSERT(i); /* unlocked by a thread that does not hold it */
	os_held.ranks[i - 1] = os_held.ranks[--os_held.count];
}
#else
static inline void os_rank_acquire(int rank)
{
	(void)rank;
}

static inline void os_rank_release(int rank)
{
	(void)rank;
}
#endif

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

int os_mutex_init(struct os_mutex *mu, enum os_rank rank)
{
	pthread_mutexattr_t attr;
	int err = pthread_mutexattr_init(&attr);

	if (err)
		return -err;
	/* Spins a little before it sleeps: our critical sections are short. */
	err = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	if (!err)
		err = pthread_mutex_init(&mu->m, &attr);
	pthread_mutexattr_destroy(&attr);
	mu->rank = (int)rank;
	return -err;
}

void os_mutex_fini(struct os_mutex *mu)
{
	KV_ASSERT(!pthread_mutex_destroy(&mu->m));
}

KV_NO_THREAD_ANALYSIS void os_mutex_lock(struct os_mutex *mu)
{
	os_rank_acquire(mu->rank);
	KV_ASSERT(!pthread_mutex_lock(&mu->m));
}

KV_NO_THREAD_ANALYSIS void os_mutex_unlock(struct os_mutex *mu)
{
	os_rank_release(mu->rank);
	KV_ASSERT(!pthread_mutex_unlock(&mu->m));
}

int os_rwlock_init(struct os_rwlock *l, enum os_rank rank)
{
	pthread_rwlockattr_t attr;
	int err = pthread_rwlockattr_init(&attr);

	if (err)
		return -err;
	err = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	if (!err)
		err = pthread_rwlock_init(&l->l, &attr);
	pthread_rwlockattr_destroy(&attr);
	l->rank = (int)rank;
	return -err;
}

void os_rwlock_fini(struct os_rwlock *l)
{
	KV_ASSERT(!pthread_rwlock_destroy(&l->l));
}

KV_NO_THREAD_ANALYSIS void os_rwlock_rdlock(struct os_rwlock *l)
{
	int err;

	os_rank_acquire(l->rank);
	do { /* EAGAIN: more readers than the lock can count, for an instant */
		err = pthread_rwlock_rdlock(&l->l);
	} while (err == EAGAIN);
	KV_ASSERT(!err);
}

KV_NO_THREAD_ANALYSIS void os_rwlock_wrlock(struct os_rwlock *l)
{
	os_rank_acquire(l->rank);
	KV_ASSERT(!pthread_rwlock_wrlock(&l->l));
}

KV_NO_THREAD_ANALYSIS void os_rwlock_rdunlock(struct os_rwlock *l)
{
	os_rank_release(l->rank);
	KV_ASSERT(!pthread_rwlock_unlock(&l->l));
}

KV_NO_THREAD_ANALYSIS void os_rwlock_wrunlock(struct os_rwlock *l)
{
	os_rank_release(l->rank);
	KV_ASSERT(!pthread_rwlock_unlock(&l->l));
}

int os_cond_init(struct os_cond *cv)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);

	if (err)
		return -err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(&cv->c, &attr);
	pthread_condattr_destroy(&attr);
	return -err;
}

void os_cond_fini(struct os_cond *cv)
{
	KV_ASSERT(!pthread_cond_destroy(&cv->c));
}

/* The rank stays held: a waiting thread takes no other lock. */
KV_NO_THREAD_ANALYSIS void os_cond_wait(struct os_cond *cv, struct os_mutex *mu)
{
	KV_ASSERT(!pthread_cond_wait(&cv->c, &mu->m));
}

KV_NO_THREAD_ANALYSIS bool os_cond_timedwait(struct os_cond *cv, struct os_mutex *mu, uint64_t ms)
{
	struct timespec until;
	int err;

	KV_ASSERT(!clock_gettime(CLOCK_MONOTONIC, &until));
	ms = min_u64(ms, OS_WAIT_MAX_MS); /* time_t must not overflow */
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	err = pthread_cond_timedwait(&cv->c, &mu->m, &until);
	KV_ASSERT(!err || err == ETIMEDOUT);
	return !err;
}

void os_cond_signal(struct os_cond *cv)
{
	KV_ASSERT(!pthread_cond_signal(&cv->c));
}

void os_cond_broadcast(struct os_cond *cv)
{
	KV_ASSERT(!pthread_cond_broadcast(&cv->c));
}

/* ---- latches ---------------------------------------------------------------- */

enum { LATCH_SHUT, LATCH_SLEPT_ON, LATCH_OPEN };

void os_latch_shut(struct os_latch *l)
{
	atomic_store_explicit(&l->state, LATCH_SHUT, memory_order_relaxed);
}

static bool latch_is_open(struct os_latch *l)
{
	/* Acquire pairs with the release in os_latch_open(). */
	return atomic_load_explicit(&l->state, memory_order_acquire) == LATCH_OPEN;
}

/*
 * The address may be another thread's memory when the kernel is told to wake its sleeper: then
 * that one wakes for nothing, for which all who sleep on a futex are prepared.
 */
void os_latch_open(struct os_latch *l)
{
	if (atomic_exchange_explicit(&l->state, LATCH_OPEN, memory_order_acq_rel) == LATCH_SLEPT_ON)
		(void)syscall(SYS_futex, &l->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Say that it is slept on. Returns whether it was opened before. */
static bool latch_announce(struct os_latch *l)
{
	uint32_t shut = LATCH_SHUT;

	return !atomic_compare_exchange_strong_explicit(&l->state, &shut, LATCH_SLEPT_ON,
							memory_order_acquire,
							memory_order_acquire) &&
	       shut == LATCH_OPEN;
}

/* Whatever ends the sleep, the caller looks at the latch. */
static void latch_sleep(struct os_latch *l, const struct timespec *until)
{
	(void)syscall(SYS_futex, &l->state, FUTEX_WAIT_BITSET_PRIVATE, LATCH_SLEPT_ON, until, NULL,
		      FUTEX_BITSET_MATCH_ANY);
}

void os_latch_wait(struct os_latch *l, unsigned turns)
{
	unsigned turn = 0;

	while (turn < turns && !latch_is_open(l))
		os_thread_relax(&turn);
	if (latch_announce(l))
		return;
	while (!latch_is_open(l))
		latch_sleep(l, NULL);
}

bool os_latch_wait_until(struct os_latch *l, uint64_t deadline_ns)
{
	const struct timespec until = {(time_t)(deadline_ns / NS_PER_S),
				       (long)(deadline_ns % NS_PER_S)};
	struct timespec now;

	if (latch_announce(l))
		return true;
	while (!latch_is_open(l)) {
		KV_ASSERT(!clock_gettime(CLOCK_MONOTONIC, &now));
		if ((uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec >= deadline_ns)
			return latch_is_open(l);
		latch_sleep(l, &until);
	}
	return true;
}

/* ---- threads ---------------------------------------------------------------- */

struct os_thread_start_args {
	void (*run)(void *arg);
	void *arg;
	char name[OS_THREAD_NAME_MAX + 1];
};

static void *os_thread_main(void *start)
{
	struct os_thread_start_args s = *(struct os_thread_start_args *)start;

	free(start);
	pthread_setname_np(pthread_self(), s.name); /* only a help for people */
	s.run(s.arg);
	return NULL;
}

/*
 * Signals are the application's and must not interrupt our I/O. Those that a
 * fault of the thread itself raises stay open, or it would die without a trace.
 */
static void os_thread_signals(sigset_t *set)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

	sigfillset(set);
	for (size_t i = 0; i < KV_ARRAY_COUNT(faults); i++)
		sigdelset(set, faults[i]);
}

int os_thread_start(struct os_thread *t, const char *name, void (*run)(void *arg), void *arg)
{
	struct os_thread_start_args *start;
	sigset_t blocked, before;
	int err;

	KV_ASSERT(strlen(name) <= OS_THREAD_NAME_MAX);
	start = calloc(1, sizeof(*start));
	if (!start)
		return -ENOMEM;
	start->run = run;
	start->arg = arg;
	memcpy(start->name, name, strlen(name));
	/* Inherited by the new thread, so that it never runs with them open. */
	os_thread_signals(&blocked);
	KV_ASSERT(!pthread_sigmask(SIG_BLOCK, &blocked, &before));
	err = pthread_create(&t->t, NULL, os_thread_main, start);
	KV_ASSERT(!pthread_sigmask(SIG_SETMASK, &before, NULL));
	if (err)
		free(start);
	return -err;
}

void os_thread_join(struct os_thread *t)
{
	KV_ASSERT(!pthread_join(t->t, NULL));
}

/* Threads started together have neighbouring ids, so they spread over shards. */
unsigned os_thread_hint(void)
{
	static _Thread_local unsigned hint;

	if (!hint)
		hint = (unsigned)gettid();
	return hint;
}

void os_thread_relax(unsigned *turns)
{
	if ((*turns)++ < OS_RELAX_TURNS)
		relax();
	else
		sched_yield();
}
