/* SPDX-License-Identifier: MIT */
/*
 * The nth allocation, or the nth thread, of the engine fails. A test program that uses this is
 * linked with --wrap of what is listed in tests/CMakeLists.txt (FAULT_POINTS), so that the calls in
 * our own code come here first; OpenSSL is given the same allocator. Memory that the
 * simulated host takes (sim_env_inside) is left alone. What is taken and not given back is
 * counted, so that a leak is seen in every build, not only under LeakSanitizer.
 *
 * Thread safety: any thread; arming and healing while nothing runs.
 */
#ifndef TESTS_SUPPORT_FAULT_POINTS_H
#define TESTS_SUPPORT_FAULT_POINTS_H

#include <stdbool.h>
#include <stdint.h>

enum fault_point {
	FAULT_MEMORY, /* malloc, calloc, realloc, aligned_alloc of ours: NULL */
	FAULT_CRYPTO, /* those of OpenSSL */
	FAULT_THREAD, /* pthread_create: EAGAIN */
	FAULT_POINTS
};

/* Before anything else of the process takes memory: give OpenSSL our allocator. */
void fault_points_init(void);
/* The @nth from now (1 is the next) fails, and if @for_good all later ones. Counts start at 0. */
void fault_points_arm(enum fault_point p, uint64_t nth, bool for_good);
/* Nothing fails from now on. */
void fault_points_heal(void);
/* Calls since the last arming, and how many of them failed. */
uint64_t fault_points_calls(enum fault_point p);
uint64_t fault_points_struck(enum fault_point p);
/* Blocks of ours that are not freed yet. */
int64_t fault_points_live(void);
/* Print the stack of every failure (-trace). */
void fault_points_trace(void);

#endif
