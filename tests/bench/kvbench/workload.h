/* SPDX-License-Identifier: MIT */
/*
 * Workloads: what each thread does, and what state of the database it needs.
 */
#ifndef KVBENCH_WORKLOAD_H
#define KVBENCH_WORKLOAD_H

#include <stdatomic.h>

#include "tests/bench/kvbench/data.h"
#include "tests/bench/kvbench/engine.h"
#include "tests/bench/kvbench/hist.h"

#define BATCH_COUNT 100U
#define HOT_KEYS    16U /* of the contended transactions */

enum start {
	START_EMPTY,  /* a new database, which is thrown away after the run */
	START_FILL,   /* a new database, which the next workloads use */
	START_LOADED, /* what START_FILL left */
};

enum kind {
	KIND_OPS,    /* threads call op() */
	KIND_OPEN,   /* one operation: open after a clean close, and one get */
	KIND_REPLAY, /* one operation: open after the process died */
};

/* What the threads of a run share. */
struct run {
	const struct engine *engine;
	const struct workload *workload;
	void *db;
	struct values values;
	struct zipf zipf;
	uint64_t keys; /* present at the start of a START_LOADED run */
	atomic_ullong inserted;
	atomic_bool stop;
	uint64_t ops_max; /* a thread ends at the earlier of both limits */
	uint64_t ns_max;
};

struct worker {
	struct run *run;
	void *session;
	struct rng rng;
	struct room room;
	struct hist hist;
	uint64_t ops;
	uint64_t first; /* of the indexes that this worker inserts */
	uint64_t cpu_ns;
	uint64_t entries; /* seen by scans */
	uint64_t bytes;
	int err;
};

struct workload {
	const char *name;
	const char *what;
	enum start start;
	enum kind kind;
	unsigned threads;
	bool sync;
	bool writer;	   /* one more thread puts at a fixed rate meanwhile */
	bool transactions; /* calls rmw() */
	bool timed;	   /* ends by time only */
	bool once;	   /* ends after a fixed number of operations: the keys, or one scan */
	unsigned sample;   /* the latency of one in so many operations is taken */
	unsigned unit;	   /* keys an operation */
	int (*op)(struct worker *w, uint64_t index);
};

extern const struct workload workloads[];
extern const size_t workload_count;

/* Can the engine do it at all? */
bool workload_fits(const struct workload *workload, const struct engine *engine);
uint64_t now_ns(void);
uint64_t thread_cpu_ns(void);

#endif
