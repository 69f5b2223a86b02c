/* SPDX-License-Identifier: MIT */
/*
 * os_thread.h and os_env_host() on the scheduler of pct.h: what is linked instead of os_thread.c
 * and os_env_host.c. A lock's state stands in the memory of the pthread object. Locks are not fair,
 * as the real ones are not: whoever waits may go on when one is given back, and the priorities say
 * who does. Readers wait behind writers that wait, as in os_thread.c.
 *
 * The pauses and clocks of the C library that tests and engine call go the same way, by the
 * linker's --wrap.
 */
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_env.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/pct/pct_internal.h"

#define NS_PER_MS   1000000ULL
#define NS_PER_S    1000000000ULL
#define WAIT_MAX_MS (1000ULL * 3600 * 24)

/* ---- mutexes --------------------------------------------------------------------------- */

struct mutex {
	struct pct_thread *owner;
};

_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "fits");

static struct mutex *mutex_of(struct os_mutex *mu)
{
	return (struct mutex *)(void *)&mu->m;
}

int os_mutex_init(struct os_mutex *mu, enum os_rank rank)
{
	mutex_of(mu)->owner = NULL;
	mu->rank = (int)rank;
	return 0;
}

void os_mutex_fini(struct os_mutex *mu)
{
	KV_ASSERT(!mutex_of(mu)->owner && !pct_awaited(mu, PCT_WAIT_MUTEX));
}

static void take(struct os_mutex *mu)
{
	struct mutex *m = mutex_of(mu);

	while (m->owner)
		(void)pct_block(PCT_WAIT_MUTEX, mu, mu->rank, m->owner, PCT_NEVER);
	m->owner = pct_self();
}

KV_NO_THREAD_ANALYSIS void os_mutex_lock(struct os_mutex *mu)
{
	if (!pct_self()) /* before or after a run */
		return;
	pct_rank_take(mu->rank);
	pct_sync_point();
	take(mu);
}

static void give(struct os_mutex *mu)
{
	KV_ASSERT(mutex_of(mu)->owner == pct_self());
	mutex_of(mu)->owner = NULL;
	pct_wake_all(mu);
}

KV_NO_THREAD_ANALYSIS void os_mutex_unlock(struct os_mutex *mu)
{
	if (!pct_self())
		return;
	pct_rank_give(mu->rank);
	give(mu);
	pct_yield_to_woken();
}

/* ---- read-write locks ------------------------------------------------------------------ */

struct rwlock {
	struct pct_thread *writer;
	unsigned readers;
};

_Static_assert(sizeof(struct rwlock) <= sizeof(pthread_rwlock_t), "fits");

static struct rwlock *rwlock_of(struct os_rwlock *l)
{
	return (struct rwlock *)(void *)&l->l;
}

int os_rwlock_init(struct os_rwlock *l, enum os_rank rank)
{
	*rwlock_of(l) = (struct rwlock){0};
	l->rank = (int)rank;
	return 0;
}

void os_rwlock_fini(struct os_rwlock *l)
{
	KV_ASSERT(!rwlock_of(l)->writer && !rwlock_of(l)->readers);
}

KV_NO_THREAD_ANALYSIS void os_rwlock_rdlock(struct os_rwlock *l)
{
	struct rwlock *r = rwlock_of(l);

	pct_rank_take(l->rank);
	pct_sync_point();
	while (r->writer || pct_awaited(l, PCT_WAIT_WRITE))
		(void)pct_block(PCT_WAIT_READ, l, l->rank, r->writer, PCT_NEVER);
	r->readers++;
}

KV_NO_THREAD_ANALYSIS void os_rwlock_wrlock(struct os_rwlock *l)
{
	struct rwlock *r = rwlock_of(l);

	pct_rank_take(l->rank);
	pct_sync_point();
	while (r->writer || r->readers)
		(void)pct_block(PCT_WAIT_WRITE, l, l->rank, r->writer, PCT_NEVER);
	r->writer = pct_self();
}

KV_NO_THREAD_ANALYSIS void os_rwlock_rdunlock(struct os_rwlock *l)
{
	KV_ASSERT(rwlock_of(l)->readers);
	pct_rank_give(l->rank);
	rwlock_of(l)->readers--;
	pct_wake_all(l);
	pct_yield_to_woken();
}

KV_NO_THREAD_ANALYSIS void os_rwlock_wrunlock(struct os_rwlock *l)
{
	KV_ASSERT(rwlock_of(l)->writer == pct_self());
	pct_rank_give(l->rank);
	rwlock_of(l)->writer = NULL;
	pct_wake_all(l);
	pct_yield_to_woken();
}

/* ---- conditions --------------------------------------------------------------------------- */

int os_cond_init(struct os_cond *cv)
{
	(void)cv;
	return 0;
}

void os_cond_fini(struct os_cond *cv)
{
	KV_ASSERT(!pct_awaited(cv, PCT_WAIT_COND));
}

/* The rank stays held, as in os_thread.c. */
static bool wait_until(struct os_cond *cv, struct os_mutex *mu, uint64_t until_ns)
{
	bool woken;

	pct_sync_point();
	give(mu);
	woken = pct_block(PCT_WAIT_COND, cv, mu->rank, NULL, until_ns);
	take(mu);
	return woken;
}

KV_NO_THREAD_ANALYSIS void os_cond_wait(struct os_cond *cv, struct os_mutex *mu)
{
	(void)wait_until(cv, mu, PCT_NEVER);
}

KV_NO_THREAD_ANALYSIS bool os_cond_timedwait(struct os_cond *cv, struct os_mutex *mu, uint64_t ms)
{
	return wait_until(cv, mu, pct_clock_ns() + min_u64(ms, WAIT_MAX_MS) * NS_PER_MS);
}

void os_cond_signal(struct os_cond *cv)
{
	pct_sync_point();
	pct_wake_one(cv);
	pct_yield_to_woken();
}

void os_cond_broadcast(struct os_cond *cv)
{
	pct_sync_point();
	pct_wake_all(cv);
	pct_yield_to_woken();
}

/* ---- latches --------------------------------------------------------------------------------- */

enum { LATCH_SHUT, LATCH_OPEN };

void os_latch_shut(struct os_latch *l)
{
	atomic_store(&l->state, LATCH_SHUT);
}

/* The memory may be gone as soon as another thread runs. */
void os_latch_open(struct os_latch *l)
{
	atomic_store(&l->state, LATCH_OPEN);
	pct_wake_all(l);
	pct_yield_to_woken();
}

void os_latch_wait(struct os_latch *l, unsigned turns)
{
	(void)turns;
	while (atomic_load(&l->state) != LATCH_OPEN)
		(void)pct_block(PCT_WAIT_LATCH, l, 0, NULL, PCT_NEVER);
}

bool os_latch_wait_until(struct os_latch *l, uint64_t deadline_ns)
{
	while (atomic_load(&l->state) != LATCH_OPEN) {
		if (pct_clock_ns() >= deadline_ns)
			return atomic_load(&l->state) == LATCH_OPEN;
		(void)pct_block(PCT_WAIT_LATCH, l, 0, NULL, deadline_ns);
	}
	return true;
}

/* ---- threads ------------------------------------------------------------------------------ */

_Static_assert(sizeof(pthread_t) == sizeof(struct pct_thread *),
	       "a thread's handle is its address");

static struct pct_thread *thread_of(const struct os_thread *t)
{
	return (struct pct_thread *)t->t; /* NOLINT(performance-no-int-to-ptr) */
}

int os_thread_start(struct os_thread *t, const char *name, void (*run)(void *arg), void *arg)
{
	t->t = (pthread_t)pct_thread_new(name, run, arg);
	pct_yield_to_woken();
	return 0;
}

void os_thread_join(struct os_thread *t)
{
	struct pct_thread *other = thread_of(t);

	pct_sync_point();
	while (!pct_thread_ended(other))
		(void)pct_block(PCT_WAIT_JOIN, other, 0, other, PCT_NEVER);
}

unsigned os_thread_hint(void)
{
	return pct_self() ? pct_thread_number(pct_self()) : 1;
}

void os_thread_relax(unsigned *turns)
{
	++*turns;
	pct_put_last();
}

/* ---- clocks and pauses ---------------------------------------------------------------------- */

int __wrap_nanosleep(const struct timespec *t, struct timespec *left);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);

int __wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
	uint64_t ns = (uint64_t)t->tv_sec * NS_PER_S + (uint64_t)t->tv_nsec;

	(void)left;
	(void)pct_block(PCT_WAIT_SLEEP, NULL, 0, NULL, pct_clock_ns() + ns);
	return 0;
}

/* The real time is that of 1970. */
int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
	uint64_t ns = pct_self() ? pct_clock_ns() : 0;

	(void)id;
	t->tv_sec = (time_t)(ns / NS_PER_S);
	t->tv_nsec = (long)(ns % NS_PER_S);
	return 0;
}

static uint64_t host_monotonic_ns(struct os_env *env)
{
	(void)env;
	return pct_clock_ns();
}

static int64_t host_realtime_ns(struct os_env *env)
{
	(void)env;
	return (int64_t)pct_clock_ns();
}

/* Volumes are the simulated host's (sim_env.h), whose clock is clock_gettime(). */
static const struct os_env_ops host_ops = {
	.monotonic_ns = host_monotonic_ns,
	.realtime_ns = host_realtime_ns,
};

struct os_env *os_env_host(void)
{
	static struct os_env host = {&host_ops};

	return &host;
}
