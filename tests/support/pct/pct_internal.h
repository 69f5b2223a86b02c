/* SPDX-License-Identifier: MIT */
/*
 * What pct.c, the scheduler, offers to pct_thread.c, which stands for os_thread.c. A thread waits
 * for an address, in one of several ways; whoever changes what is there wakes those who wait.
 */
#ifndef TESTS_SUPPORT_PCT_PCT_INTERNAL_H
#define TESTS_SUPPORT_PCT_PCT_INTERNAL_H

#include "tests/support/pct/pct.h"
#include "tests/support/pct/pct_atomics.h"

#define PCT_NEVER UINT64_MAX

enum pct_wait {
	PCT_WAIT_NONE, /* it can run */
	PCT_WAIT_MUTEX,
	PCT_WAIT_READ,
	PCT_WAIT_WRITE,
	PCT_WAIT_COND,
	PCT_WAIT_LATCH,
	PCT_WAIT_JOIN,
	PCT_WAIT_SLEEP,
	PCT_WAIT_ENDED,
};

struct pct_thread;

struct pct_thread *pct_self(void);
/* 1 and up, in the order of their starts. */
unsigned pct_thread_number(const struct pct_thread *t);
bool pct_thread_ended(const struct pct_thread *t);
struct pct_thread *pct_thread_new(const char *name, void (*run)(void *arg), void *arg);
/* Ranks held: taking one that is not higher than all held aborts. */
void pct_rank_take(int rank);
void pct_rank_give(int rank);

/*
 * Sleep until woken or the clock reaches @until_ns. Returns false in the second case. @of: the
 * object, which is only compared; @rank, @owner: for the report, 0 and NULL if there is none.
 */
bool pct_block(enum pct_wait how, const void *of, int rank, const struct pct_thread *owner,
	       uint64_t until_ns);
/* Let all who wait for @of run. */
void pct_wake_all(const void *of);
/* Let one run, of the seed's choice. */
void pct_wake_one(const void *of);
/* Does anybody wait for @of in this way? */
bool pct_awaited(const void *of, enum pct_wait how);
/* A point at which threads meet, as pct_point() is one at which there is an atomic operation. */
void pct_sync_point(void);
/* A point after something was given: who was woken may go first. */
void pct_yield_to_woken(void);
/* Others first: the running thread waits for their stores. */
void pct_put_last(void);
/* Reads the clock, which lets time pass. */
uint64_t pct_clock_ns(void);

#endif
