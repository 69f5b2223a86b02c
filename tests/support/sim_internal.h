/* SPDX-License-Identifier: MIT */
/* What sim_env.c and sim_volume.c share. The env's mutex covers everything. */
#ifndef TESTS_SUPPORT_SIM_INTERNAL_H
#define TESTS_SUPPORT_SIM_INTERNAL_H

#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/sim_disk.h"

struct sim_fault {
	uint64_t at; /* count of calls at which it strikes; 0: none */
	bool for_good;
	int err;
};

struct sim_handle {
	struct os_volume volume;
	struct sim_env *env;
	struct sim_disk *disk;
	uint64_t life; /* of the env when it was opened */
	bool exclusive;
	bool shared;
	struct sim_handle *next;
};

struct sim_env {
	struct os_env os;
	struct os_mutex mu;
	uint64_t rng;
	uint64_t life; /* grows with each crash */
	struct sim_disk *disks;
	struct sim_handle *handles;
	struct sim_fault faults[SIM_OP_COUNT];
	uint64_t calls[SIM_OP_COUNT];
	uint64_t bytes_written;
	uint64_t cut_at; /* count of changes; 0: none */
	bool power_off;
	uint64_t limit;
	unsigned sync_us;
	bool clock_stopped;
	uint64_t clock_ns;	/* monotonic, when stopped */
	int64_t realtime_delta; /* realtime minus monotonic, when stopped */
};

/* Between these two the thread is inside the host. */
void sim_lock(struct sim_env *e);
void sim_unlock(struct sim_env *e);

/* What is to be done with an operation. */
enum sim_verdict { DO_IT, FAIL_IT, LOSE_IT };

extern const struct os_volume_ops sim_volume_ops;

/* Count a call and look whether a fault of its kind strikes. */
enum sim_verdict sim_volume_strike(struct sim_env *e, enum sim_op op, int *err);
/* Unlink a handle from the env and release its disk. The caller frees it. */
void sim_volume_detach(struct sim_env *e, struct sim_handle *h);

#endif
