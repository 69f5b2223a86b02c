/* SPDX-License-Identifier: MIT */
/*
 * One run of one workload on one engine, in a process of its own: its peak
 * memory, its processor time and its writes are then those of the run.
 */
#ifndef KVBENCH_CHILD_H
#define KVBENCH_CHILD_H

#include "tests/bench/kvbench/workload.h"

struct run_spec {
	const struct engine *engine;
	const struct workload *workload;
	struct engine_settings settings;
	size_t value_len;
	uint64_t keys;
	uint64_t ops_max;
	uint64_t ns_max;
};

/* Times in ns, sizes in bytes. */
struct run_result {
	uint64_t ops;	    /* operations, each of unit keys; entries of a scan */
	uint64_t wall;	    /* of the measured part */
	uint64_t cpu;	    /* of the whole process in it, so with background work */
	uint64_t cpu_front; /* of the measured threads only */
	uint64_t p50, p99, p999;
	uint64_t settle_cpu;  /* of settling after it, for those that write */
	uint64_t user_bytes;  /* keys and values written */
	uint64_t disk_writes; /* to the disk until all was settled and closed; /proc/self/io */
	uint64_t space;	      /* on disk after it */
	uint64_t fixed;	      /* of it, what an empty database has too: a preallocated log */
	uint64_t peak_rss;
	int err;
};

/* Forks, runs, waits. Return: 0, or -1 if the run failed (said on stderr). */
int child_run(const struct run_spec *spec, struct run_result *out);

#endif
