/* SPDX-License-Identifier: MIT */
/*
 * Summing counters, and the histograms. A value below 16 ns is its own bucket;
 * above, the bucket is the power of two and the four bits below the highest one
 * (log-linear, as in HdrHistogram), so finding it takes a few instructions and no
 * table, and a percentile is at most a sixteenth too high.
 */
#include "kvcore/os/os_stats.h"

#include "kvcore/base/base.h"

#define SUB_BITS 4U
#define SUB	 (1U << SUB_BITS)

static const struct {
	const char *name;
	unsigned every;
} os_histograms[] = {
#define OS_HISTOGRAM_ROW(NAME, name, every, text) {#name, every},
	KV_HISTOGRAMS(OS_HISTOGRAM_ROW)
#undef OS_HISTOGRAM_ROW
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned shift;
	uint64_t i;

	if (ns < SUB)
		return (unsigned)ns;
	shift = 63U - SUB_BITS - (unsigned)__builtin_clzll(ns);
	i = (uint64_t)(shift + 1) * SUB + ((ns >> shift) & (SUB - 1));
	return (unsigned)min_u64(i, KV_HISTOGRAM_BUCKETS - 1);
}

uint64_t kv_histogram_bucket_end(unsigned i)
{
	if (i < SUB)
		return i + 1U;
	if (i >= KV_HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	return (uint64_t)(SUB + i % SUB + 1) << (i / SUB - 1);
}

uint64_t kv_histogram_percentile(const struct kv_histogram *h, double percent)
{
	uint64_t seen = 0;
	double want = (double)h->samples * percent / 100.0;

	if (!h->samples)
		return 0;
	for (unsigned i = 0; i < KV_HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen && (double)seen >= want)
			return min_u64(kv_histogram_bucket_end(i), h->max_ns);
	}
	return h->max_ns;
}

void kv_histogram_subtract(struct kv_histogram *h, const struct kv_histogram *before)
{
	h->samples -= min_u64(h->samples, before->samples);
	h->sum_ns -= min_u64(h->sum_ns, before->sum_ns);
	for (unsigned i = 0; i < KV_HISTOGRAM_BUCKETS; i++)
		h->bucket[i] -= min_u64(h->bucket[i], before->bucket[i]);
	for (unsigned i = KV_HISTOGRAM_BUCKETS; i > 0; i--) {
		if (!h->bucket[i - 1])
			continue;
		h->max_ns = min_u64(h->max_ns, kv_histogram_bucket_end(i - 1));
		return;
	}
	h->max_ns = 0;
}

uint64_t os_stats_sum(struct os_stats *s, enum os_stat i)
{
	uint64_t sum = atomic_load_explicit(&s->shared.counter[i], memory_order_relaxed);

	for (unsigned n = 0; n < OS_STATS_SHARDS; n++)
		sum += atomic_load_explicit(&s->shard[n].counter[i], memory_order_relaxed);
	return sum;
}

void os_stats_record(struct os_stats *s, enum kv_histogram_id id, uint64_t ns)
{
	struct os_stats_histogram *h = &s->histogram[id];
	uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);

	/* The maximum first, so that who sees the sample in its bucket soon sees it, too. */
	while (ns > max &&
	       !atomic_compare_exchange_weak_explicit(&h->max_ns, &max, ns, memory_order_relaxed,
						      memory_order_relaxed))
		;
	atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->bucket[bucket_of(ns)], 1, memory_order_relaxed);
}

void os_stats_get_histogram(struct os_stats *s, enum kv_histogram_id id, struct kv_histogram *out)
{
	struct os_stats_histogram *h;

	*out = (struct kv_histogram){0};
	if ((unsigned)id >= KV_HISTOGRAM_COUNT)
		return;
	h = &s->histogram[id];
	out->name = os_histograms[id].name;
	out->every = os_histograms[id].every;
	for (unsigned i = 0; i < KV_HISTOGRAM_BUCKETS; i++) {
		out->bucket[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
		out->samples += out->bucket[i];
	}
	out->sum_ns = atomic_load_explicit(&h->sum_ns, memory_order_relaxed);
	out->max_ns = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
}
