/* SPDX-License-Identifier: MIT */
/*
 * Counters and latency histograms that are cheap enough to be always on.
 *
 * A counter is a sum over shards. A shard belongs to the first thread that comes to it, which
 * adds with a plain load and store; threads whose shard is taken by another add atomically
 * to a shared one. So the usual addition is a few instructions on a line that no other
 * thread writes. Histograms are shared: what is timed is rare or sampled.
 *
 * Thread safety: any thread. All accesses are relaxed atomics: numbers order nothing.
 */
#ifndef KVCORE_OS_OS_STATS_H
#define KVCORE_OS_OS_STATS_H

#include <stdatomic.h>

#include "kvcore/kvcore.h"
#include "kvcore/os/os_thread.h"

enum os_stat {
#define OS_STAT_ENUM(name) OS_STAT_##name,
	KV_COUNTERS(OS_STAT_ENUM)
#undef OS_STAT_ENUM
		OS_STAT_COUNT
};

#define OS_STATS_SHARDS 16U

struct os_stats_shard {
	_Atomic unsigned owner; /* os_thread_hint() of a thread; 0: nobody's yet */
	_Atomic uint64_t counter[OS_STAT_COUNT];
	uint8_t pad[64]; /* no line is shared with the next one */
};

struct os_stats_histogram {
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t max_ns;
	_Atomic uint64_t bucket[KV_HISTOGRAM_BUCKETS];
};

/* All zero is ready for use. */
struct os_stats {
	struct os_stats_shard shard[OS_STATS_SHARDS];
	struct os_stats_shard shared;
	struct os_stats_histogram histogram[KV_HISTOGRAM_COUNT];
};

/* This thread's own shard, or the shared one. */
static inline struct os_stats_shard *os_stats_shard_of(struct os_stats *s)
{
	unsigned me = os_thread_hint();
	struct os_stats_shard *h = &s->shard[me % OS_STATS_SHARDS];
	unsigned owner = atomic_load_explicit(&h->owner, memory_order_relaxed);

	if (owner == me ||
	    (!owner && atomic_compare_exchange_strong_explicit(
			       &h->owner, &owner, me, memory_order_relaxed, memory_order_relaxed)))
		return h;
	return &s->shared;
}

static inline void os_stats_add(struct os_stats *s, enum os_stat i, uint64_t n)
{
	struct os_stats_shard *h = os_stats_shard_of(s);

	if (h == &s->shared)
		atomic_fetch_add_explicit(&h->counter[i], n, memory_order_relaxed);
	else /* nobody else writes it */
		atomic_store_explicit(&h->counter[i],
				      atomic_load_explicit(&h->counter[i], memory_order_relaxed) +
					      n,
				      memory_order_relaxed);
}

/* Is this one of the @every that is to be timed, by this thread's count of @i? */
static inline bool os_stats_sampled(struct os_stats *s, enum os_stat i, unsigned every)
{
	struct os_stats_shard *h = os_stats_shard_of(s);

	return atomic_load_explicit(&h->counter[i], memory_order_relaxed) % every == 0;
}

uint64_t os_stats_sum(struct os_stats *s, enum os_stat i);
void os_stats_record(struct os_stats *s, enum kv_histogram_id id, uint64_t ns);
void os_stats_get_histogram(struct os_stats *s, enum kv_histogram_id id, struct kv_histogram *out);

#endif
