/* SPDX-License-Identifier: MIT */
/*
 * The wrapped allocator and pthread_create. --wrap and not a malloc of our own: so the sanitizers'
 * allocators stay in place, and the C library, libcheck and the test itself never see a
 * failure that is meant for the engine.
 */
#include "tests/support/fault_points.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "tests/support/sim_env.h"

#define DEPTH 24 /* frames of a trace */

static struct {
	_Atomic uint64_t at; /* 0: none */
	_Atomic bool for_good;
	_Atomic uint64_t calls, struck;
} points[FAULT_POINTS];
static _Atomic int64_t live;
static bool trace;

/* OpenSSL's, whose headers only kvcore/format/checksum.c includes. */
int CRYPTO_set_mem_functions(void *(*take)(size_t n, const char *file, int line),
			     void *(*change)(void *p, size_t n, const char *file, int line),
			     void (*give)(void *p, const char *file, int line));
void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void __real_free(void *p);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void __wrap_free(void *p);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);

static void print_stack(void)
{
	void *frames[DEPTH];

	sim_env_inside++;
	backtrace_symbols_fd(frames, backtrace(frames, DEPTH), STDERR_FILENO);
	(void)!write(STDERR_FILENO, "\n", 1);
	sim_env_inside--;
}

/* Count a call; shall it fail? */
static bool strikes(enum fault_point p)
{
	uint64_t n, at;

	if (sim_env_inside)
		return false;
	n = atomic_fetch_add(&points[p].calls, 1) + 1;
	at = atomic_load(&points[p].at);
	if (!at || n < at || (n > at && !atomic_load(&points[p].for_good)))
		return false;
	if (!atomic_fetch_add(&points[p].struck, 1) && trace)
		print_stack();
	return true;
}

static void *taken(void *p)
{
	if (p && !sim_env_inside)
		atomic_fetch_add(&live, 1);
	return p;
}

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

void *__wrap_malloc(size_t n)
{
	return strikes(FAULT_MEMORY) ? no_memory() : taken(__real_malloc(n));
}

void *__wrap_calloc(size_t count, size_t n)
{
	return strikes(FAULT_MEMORY) ? no_memory() : taken(__real_calloc(count, n));
}

void *__wrap_realloc(void *p, size_t n)
{
	if (strikes(FAULT_MEMORY))
		return no_memory();
	return p ? __real_realloc(p, n) : taken(__real_realloc(p, n));
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
	return strikes(FAULT_MEMORY) ? no_memory() : taken(__real_aligned_alloc(align, n));
}

void __wrap_free(void *p)
{
	if (p && !sim_env_inside)
		atomic_fetch_sub(&live, 1);
	__real_free(p);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	return strikes(FAULT_THREAD) ? EAGAIN : __real_pthread_create(t, attr, run, arg);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return strikes(FAULT_CRYPTO) ? NULL : __real_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	return strikes(FAULT_CRYPTO) ? NULL : __real_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	__real_free(p);
}

void fault_points_init(void)
{
	KV_ASSERT(CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free));
}

void fault_points_arm(enum fault_point p, uint64_t nth, bool for_good)
{
	fault_points_heal();
	for (unsigned i = 0; i < FAULT_POINTS; i++) {
		atomic_store(&points[i].calls, 0);
		atomic_store(&points[i].struck, 0);
	}
	atomic_store(&points[p].for_good, for_good);
	atomic_store(&points[p].at, nth);
}

void fault_points_heal(void)
{
	for (unsigned i = 0; i < FAULT_POINTS; i++)
		atomic_store(&points[i].at, 0);
}

uint64_t fault_points_calls(enum fault_point p)
{
	return atomic_load(&points[p].calls);
}

uint64_t fault_points_struck(enum fault_point p)
{
	return atomic_load(&points[p].struck);
}

int64_t fault_points_live(void)
{
	return atomic_load(&live);
}

void fault_points_trace(void)
{
	trace = true;
}
