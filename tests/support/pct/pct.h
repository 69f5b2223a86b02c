/* SPDX-License-Identifier: MIT */
/*
 * Threads under a scheduler of ours, for tests: one runs at a time, and which one follows from a
 * seed, so that a run repeats exactly. After Burckhardt, Kothari, Musuvathi and Nagarakatte, A
 * Randomized Scheduler with Probabilistic Guarantees of Finding Bugs (ASPLOS 2010): each thread has
 * a random priority, the highest that can run does, and at a few random points the running one is
 * put behind the others. A quarter of the seeds change at random points throughout instead.
 *
 * A program gets it by linking the files of this folder in place of os_thread.c and
 * os_env_host.c, and by compiling what it tests with pct_atomics.h: then locks, conditions,
 * latches, starts and joins of threads, pauses, clocks, the simulated host's I/O and atomics are
 * points at which the scheduler may switch. Threads are contexts within one thread of the host.
 *
 * The clock is simulated too: reading it lets a little time pass, and when nothing can run it
 * goes on to the next time that somebody waits for. Conditions wake for nothing now and
 * then. Not simulated: what a processor does to the order of memory; atomics are in program order.
 */
#ifndef TESTS_SUPPORT_PCT_PCT_H
#define TESTS_SUPPORT_PCT_PCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pct_result {
	uint64_t trace; /* hash of all switches: equal if the schedule was */
	uint64_t steps; /* points passed */
	uint64_t switches;
	uint64_t now_ns;
	unsigned threads; /* started, with the first */
};

/*
 * Run @fn(@arg) as the first thread, and those that it starts. If they can never end, that is if
 * none can run, or after 200 million points or two hours, it prints what each waits for and
 * aborts. All must have been joined when @fn returns. Not reentrant.
 */
void pct_run(uint64_t seed, void (*fn)(void *arg), void *arg, struct pct_result *result);
/* From here on the schedule is disturbed; before, the priorities alone decide. */
void pct_disturb(void);

#endif
