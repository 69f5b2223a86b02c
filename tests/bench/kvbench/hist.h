/* SPDX-License-Identifier: MIT */
/*
 * A histogram of latencies: 32 steps to each power of two, so an answer is
 * within 3 % of the truth.
 */
#ifndef KVBENCH_HIST_H
#define KVBENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 5U
#define HIST_BUCKETS  (64U << HIST_SUB_BITS)

struct hist {
	uint64_t count;
	uint64_t bucket[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);
/* The latency that the given share of operations does not exceed, in ns; 0 if empty. */
uint64_t hist_quantile(const struct hist *hist, double share);

#endif
