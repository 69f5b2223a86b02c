/* SPDX-License-Identifier: MIT */
/*
 * Keys that one thread alone writes, among threads that write others: what it reads is at any time
 * what it wrote last, whatever flushes and compactions go on, and after a crash it is one of the
 * states since the last one that is durable. Small and large values, deletes, range deletes,
 * batches that several threads apply, snapshots that are read again later.
 *
 * Thread safety: one thread at a time.
 */
#ifndef TESTS_CRASH_SCHEDULE_OWN_H
#define TESTS_CRASH_SCHEDULE_OWN_H

#include "kvcore/kvcore.h"
#include "tests/support/test_suite.h"

#define OWN_KEYS  12U
#define OWN_BATCH 70U /* keys that are always written together */

/* What each key holds: the number of its value, 0 if it is not there. */
struct own_state {
	uint32_t value[OWN_KEYS];
	uint32_t batch;
};

struct schedule_own {
	struct kv_db *db;
	unsigned number; /* of the keys' names */
	uint32_t next_value;
	struct own_state *states; /* heap: each that a commit was to make; the first is empty */
	unsigned count;
	unsigned made;	  /* the last that a commit made */
	unsigned durable; /* the last that is durable */
};

void schedule_own_init(struct schedule_own *o, struct kv_db *db, unsigned number);
void schedule_own_fini(struct schedule_own *o);
/* One operation. Aborts if it reads what it should not; returns what the engine says else. */
int schedule_own_step(struct schedule_own *o, struct test_rng *rng);
/* What is there must be what was made last or, @crashed, one of those since the durable one. */
void schedule_own_check(struct schedule_own *o, bool crashed);

#endif
