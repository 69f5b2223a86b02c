/* SPDX-License-Identifier: MIT */
/* The workloads of crash_faults.c: every path of the engine, in fixed order, whatever fails. */
#ifndef TESTS_CRASH_FAULT_WORK_H
#define TESTS_CRASH_FAULT_WORK_H

#include "tests/support/fault_model.h"
#include "tests/support/sim_env.h"

#define FAULT_VOLUME "volume"

struct fault_run {
	struct fault_model m;
	struct sim_env *sim;
	struct kv_db *db; /* NULL: not open */
	struct kv_snapshot *held;
	unsigned held_state;
	uint16_t prep_version[FAULT_PREPS][3]; /* what prepared transactions will have written */
	bool made;			       /* there is a volume */
	bool for_good;			       /* the fault */
	bool torn;	 /* a change of superblock or manifest may have been interrupted */
	bool reads_fail; /* it is one that looks like damage */
	bool lossy;	 /* it is one by which commits that were not synced are lost */
	bool gave_up;	 /* a repair under faults has reported losses: the content is not judged */
};

/* Make a volume, fill it, change it in every way, look at it in every way, twice over. */
void fault_work_life(struct fault_run *r);
/* On a volume made by fault_work_fill(): until it is full, and out of that again. */
void fault_work_fill(struct fault_run *r);
void fault_work_full(struct fault_run *r);
/* Open, if need be twice, and judge what is there if that is not known. */
void fault_work_open(struct fault_run *r);
/* Let go of everything and close. Returns the result of kv_close(). */
int fault_work_close(struct fault_run *r);
/* One put of a key; the result is judged. */
void fault_work_put(struct fault_run *r, unsigned key, unsigned flags);
/* kv_verify() without faults: nothing may be found. */
void fault_work_verify(struct fault_run *r);

#endif
