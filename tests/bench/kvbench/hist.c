/* SPDX-License-Identifier: MIT */
/* Latency histogram with logarithmic buckets; see hist.h. */
#include "tests/bench/kvbench/hist.h"

#include <stddef.h>

#define SUB (1U << HIST_SUB_BITS)

static size_t bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns < SUB)
		return (size_t)ns;
	top = 63U - (unsigned)__builtin_clzll(ns);
	return (size_t)((top - HIST_SUB_BITS + 1) * SUB +
			((ns >> (top - HIST_SUB_BITS)) & (SUB - 1)));
}

static uint64_t bucket_top(size_t bucket)
{
	uint64_t group = bucket / SUB;

	if (group == 0)
		return bucket;
	return ((SUB + bucket % SUB + 1) << (group - 1)) - 1;
}

void hist_add(struct hist *hist, uint64_t ns)
{
	hist->count++;
	hist->bucket[bucket_of(ns)]++;
}

void hist_merge(struct hist *into, const struct hist *from)
{
	into->count += from->count;
	for (size_t i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += from->bucket[i];
}

uint64_t hist_quantile(const struct hist *hist, double share)
{
	uint64_t want = (uint64_t)(share * (double)hist->count);
	uint64_t seen = 0;

	for (size_t i = 0; i < HIST_BUCKETS; i++) {
		seen += hist->bucket[i];
		if (seen > want)
			return bucket_top(i);
	}
	return 0;
}
