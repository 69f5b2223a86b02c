/* SPDX-License-Identifier: MIT */
/* Counters over threads, and the histograms against a sorted array. */
#include "kvcore/os/os_stats.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define THREADS 40U /* more than shards */
#define ROUNDS	5000U

static struct os_stats *stats_new(void)
{
	struct os_stats *s = calloc(1, sizeof(*s));

	ck_assert_ptr_nonnull(s);
	return s;
}

static void count_much(void *arg)
{
	struct os_stats *s = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		os_stats_add(s, OS_STAT_gets, 1);
		os_stats_add(s, OS_STAT_log_bytes, 3);
		os_stats_record(s, KV_HISTOGRAM_GET, i);
	}
}

START_TEST(test_no_addition_of_any_thread_is_lost)
{
	struct os_stats *s = stats_new();
	struct kv_histogram h;
	struct os_thread t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(os_thread_start(&t[i], "count", count_much, s), 0);
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(&t[i]);
	ck_assert_uint_eq(os_stats_sum(s, OS_STAT_gets), THREADS * ROUNDS);
	ck_assert_uint_eq(os_stats_sum(s, OS_STAT_log_bytes), 3 * THREADS * ROUNDS);
	ck_assert_uint_eq(os_stats_sum(s, OS_STAT_commits), 0);
	os_stats_get_histogram(s, KV_HISTOGRAM_GET, &h);
	ck_assert_uint_eq(h.samples, THREADS * ROUNDS);
	ck_assert_uint_eq(h.sum_ns, (uint64_t)THREADS * ROUNDS * (ROUNDS - 1) / 2);
	ck_assert_uint_eq(h.max_ns, ROUNDS - 1);
	free(s);
}
END_TEST

START_TEST(test_one_in_so_many_is_sampled)
{
	struct os_stats *s = stats_new();
	unsigned sampled = 0;

	for (unsigned i = 0; i < 640; i++) {
		sampled += os_stats_sampled(s, OS_STAT_gets, 64);
		os_stats_add(s, OS_STAT_gets, 1);
	}
	ck_assert_uint_eq(sampled, 10);
	free(s);
}
END_TEST

START_TEST(test_buckets_cover_all_values_and_are_a_sixteenth_wide)
{
	struct os_stats *s = stats_new();
	struct kv_histogram h;
	uint64_t end = 0;

	for (unsigned i = 0; i + 1 < KV_HISTOGRAM_BUCKETS; i++) {
		uint64_t from = end;

		end = kv_histogram_bucket_end(i);
		ck_assert_uint_gt(end, from);
		ck_assert_uint_le(end - from, max_u64(1, from / 16));
		memset(s, 0, sizeof(*s));
		os_stats_record(s, KV_HISTOGRAM_FLUSH, from);
		os_stats_record(s, KV_HISTOGRAM_FLUSH, end - 1);
		os_stats_get_histogram(s, KV_HISTOGRAM_FLUSH, &h);
		ck_assert_uint_eq(h.bucket[i], 2);
	}
	os_stats_record(s, KV_HISTOGRAM_FLUSH, end);
	os_stats_record(s, KV_HISTOGRAM_FLUSH, UINT64_MAX);
	os_stats_get_histogram(s, KV_HISTOGRAM_FLUSH, &h);
	ck_assert_uint_eq(h.bucket[KV_HISTOGRAM_BUCKETS - 1], 2);
	ck_assert_uint_eq(kv_histogram_bucket_end(KV_HISTOGRAM_BUCKETS - 1), UINT64_MAX);
	ck_assert_uint_eq(kv_histogram_bucket_end(UINT32_MAX), UINT64_MAX);
	free(s);
}
END_TEST

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

START_TEST(test_percentiles_are_at_most_a_sixteenth_too_high)
{
	static const double percents[] = {0, 1, 50, 90, 99, 99.9, 100};
	struct test_rng rng = test_rng_seeded("percentiles");
	struct os_stats *s = stats_new();
	static uint64_t all[20000];
	struct kv_histogram h;

	for (unsigned i = 0; i < KV_ARRAY_COUNT(all); i++) {
		all[i] = test_rng_next(&rng) >> (24 + test_rng_below(&rng, 36));
		os_stats_record(s, KV_HISTOGRAM_COMMIT, all[i]);
	}
	qsort(all, KV_ARRAY_COUNT(all), sizeof(all[0]), compare);
	os_stats_get_histogram(s, KV_HISTOGRAM_COMMIT, &h);
	ck_assert_str_eq(h.name, "commit");
	for (unsigned i = 0; i < KV_ARRAY_COUNT(percents); i++) {
		double rank = percents[i] / 100.0 * (double)KV_ARRAY_COUNT(all);
		uint64_t n = (uint64_t)rank + ((double)(uint64_t)rank < rank);
		uint64_t exact = all[max_u64(n, 1) - 1];
		uint64_t got = kv_histogram_percentile(&h, percents[i]);

		ck_assert_uint_ge(got, exact);
		ck_assert_uint_le(got, exact + exact / 16 + 1);
	}
	ck_assert_uint_eq(kv_histogram_percentile(&h, 100), all[KV_ARRAY_COUNT(all) - 1]);
	free(s);
}
END_TEST

START_TEST(test_an_interval_is_the_difference_of_two_copies)
{
	struct os_stats *s = stats_new();
	struct kv_histogram before;
	struct kv_histogram after;

	os_stats_record(s, KV_HISTOGRAM_GET, 1000000);
	os_stats_get_histogram(s, KV_HISTOGRAM_GET, &before);
	os_stats_record(s, KV_HISTOGRAM_GET, 100);
	os_stats_record(s, KV_HISTOGRAM_GET, 200);
	os_stats_get_histogram(s, KV_HISTOGRAM_GET, &after);
	kv_histogram_subtract(&after, &before);
	ck_assert_uint_eq(after.samples, 2);
	ck_assert_uint_eq(after.sum_ns, 300);
	ck_assert_uint_ge(after.max_ns, 200);
	ck_assert_uint_le(after.max_ns, 213);
	kv_histogram_subtract(&after, &after);
	ck_assert_uint_eq(after.samples, 0);
	ck_assert_uint_eq(after.max_ns, 0);
	ck_assert_uint_eq(kv_histogram_percentile(&after, 50), 0);
	free(s);
}
END_TEST

START_TEST(test_an_unknown_histogram_is_all_zero)
{
	struct os_stats *s = stats_new();
	struct kv_histogram h = {.samples = 1};

	os_stats_get_histogram(s, (enum kv_histogram_id)KV_HISTOGRAM_COUNT, &h);
	ck_assert_uint_eq(h.samples, 0);
	ck_assert_ptr_null(h.name);
	free(s);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_no_addition_of_any_thread_is_lost,
		test_one_in_so_many_is_sampled,
		test_buckets_cover_all_values_and_are_a_sixteenth_wide,
		test_percentiles_are_at_most_a_sixteenth_too_high,
		test_an_interval_is_the_difference_of_two_copies,
		test_an_unknown_histogram_is_all_zero,
	};

	return test_suite_run("os_stats", tests, KV_ARRAY_COUNT(tests), 60);
}
