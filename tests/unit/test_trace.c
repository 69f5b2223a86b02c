/* SPDX-License-Identifier: MIT */
/*
 * Statistics and trace hook through the public interface: what was done is
 * counted, timed and told, each end follows its beginning, and the text says what the
 * structs say.
 */
#include "kvcore/engine/trace.h"

#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define EVENTS_MAX 100000U

struct recorder {
	struct os_mutex mu;
	struct kv_trace_event *events;
	size_t count;
};

static struct sim_env *sim;
static struct recorder rec;
static struct kv_db *db;

static void record(void *ctx, const struct kv_trace_event *e)
{
	struct recorder *r = ctx;

	os_mutex_lock(&r->mu);
	if (r->count < EVENTS_MAX)
		r->events[r->count++] = *e;
	os_mutex_unlock(&r->mu);
}

static void open_db(unsigned kinds, bool traced)
{
	const struct kv_trace trace = {record, &rec, kinds};
	const struct kv_options o = {.env = sim_env_os(sim),
				     .cache_bytes = 8U << 20,
				     .memtable_bytes = 256U << 10,
				     .trace = traced ? &trace : NULL};

	ck_assert_int_eq(kv_open("volume", &o, &db), 0);
}

static void setup(void)
{
	struct kv_create_options o = {.size_bytes = 64U << 20, .log_size_bytes = 4U << 20};

	sim = sim_env_new(1);
	o.env = sim_env_os(sim);
	ck_assert_int_eq(kv_create("volume", &o), 0);
	memset(&rec, 0, sizeof(rec));
	ck_assert_int_eq(os_mutex_init(&rec.mu, (enum os_rank)(OS_RANK_LEAF + 1)), 0);
	rec.events = calloc(EVENTS_MAX, sizeof(*rec.events));
	ck_assert_ptr_nonnull(rec.events);
}

static void teardown(void)
{
	sim_env_free(sim);
	free(rec.events);
	os_mutex_fini(&rec.mu);
}

static void put(unsigned i, unsigned flags)
{
	char key[16];
	uint8_t value[200];
	struct test_rng rng = {i};
	int len = snprintf(key, sizeof(key), "key%06u", i);

	test_rng_fill(&rng, value, sizeof(value));
	ck_assert_int_eq(kv_put(db, 1, kv_slice_of(key, (size_t)len),
				kv_slice_of(value, sizeof(value)), flags),
			 0);
}

static int get(unsigned i)
{
	char key[16];
	int len = snprintf(key, sizeof(key), "key%06u", i);

	return kv_get(db, 1, kv_slice_of(key, (size_t)len), NULL);
}

/* Writes, reads, a flush and a compaction. */
static void work(void)
{
	for (unsigned i = 0; i < 1000; i++)
		put(2 * i, i % 100 ? 0 : KV_COMMIT_SYNC);
	ck_assert_int_eq(kv_flush(db), 0);
	for (unsigned i = 0; i < 1000; i++)
		put(2 * i, 0);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	for (unsigned i = 0; i < 2000; i++)
		ck_assert_int_eq(get(i), i % 2 ? -KV_E_NOTFOUND : 0);
}

static struct kv_histogram histogram(enum kv_histogram_id id)
{
	struct kv_histogram h;

	kv_get_histogram(db, id, &h);
	return h;
}

START_TEST(test_what_is_done_is_counted_and_timed)
{
	struct kv_stats st;

	open_db(0, false);
	work();
	kv_get_stats(db, &st);
	ck_assert_uint_eq(st.commits, 2000);
	ck_assert_uint_eq(st.commits_synced, 10);
	ck_assert_uint_eq(st.gets, 2000);
	ck_assert_uint_eq(st.gets_absent, 1000);
	ck_assert_uint_ge(st.flushes, 2);
	ck_assert_uint_ge(st.compactions, 1);
	ck_assert_uint_ge(st.filter_checks, 1990); /* a few keys are in the range of no table */
	ck_assert_uint_le(st.filter_checks, 2000);
	ck_assert_uint_ge(st.filter_useful, 900);
	ck_assert_uint_eq(st.filter_useful + st.filter_false_positives, st.filter_checks - 1000);
	ck_assert_uint_gt(st.disk_write_bytes, st.flush_bytes);
	ck_assert_uint_gt(st.disk_syncs, 10);
	ck_assert_uint_gt(st.tables, 0);
	ck_assert_uint_gt(st.table_bytes, 0);
	ck_assert_uint_eq(st.cache_budget_bytes, 8U << 20);
	ck_assert_uint_eq(st.handles, 0);
	ck_assert_uint_eq(histogram(KV_HISTOGRAM_COMMIT_SYNCED).samples, 10);
	ck_assert_uint_ge(histogram(KV_HISTOGRAM_COMMIT).samples, 200); /* about one in 8 */
	ck_assert_uint_ge(histogram(KV_HISTOGRAM_GET).samples, 2000 / 64);
	ck_assert_uint_eq(histogram(KV_HISTOGRAM_FLUSH).samples, st.flushes);
	ck_assert_uint_eq(histogram(KV_HISTOGRAM_COMPACTION).samples, st.compactions);
	ck_assert_uint_ge(histogram(KV_HISTOGRAM_LOG_SYNC).samples, 10);
	ck_assert_uint_gt(histogram(KV_HISTOGRAM_PAGE_READ).samples, 0);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

/* Every end has its beginning, of the same kind and place. */
static void check_pairs(void)
{
	for (size_t i = 0; i < rec.count; i++) {
		const struct kv_trace_event *e = &rec.events[i];
		size_t j = i + 1;

		ck_assert_uint_gt(e->id, 0);
		if (e->end)
			continue;
		ck_assert_uint_eq(e->duration_ns, 0);
		while (j < rec.count && rec.events[j].id != e->id)
			j++;
		ck_assert_msg(j < rec.count, "a beginning without an end");
		ck_assert(rec.events[j].end);
		ck_assert_int_eq(rec.events[j].kind, e->kind);
		ck_assert_int_eq(rec.events[j].area, e->area);
		ck_assert_uint_eq(rec.events[j].time_ns - rec.events[j].duration_ns, e->time_ns);
	}
}

static unsigned ends(enum kv_trace_kind kind, enum kv_trace_area area)
{
	unsigned n = 0;

	for (size_t i = 0; i < rec.count; i++)
		n += rec.events[i].end && rec.events[i].kind == kind && rec.events[i].area == area;
	return n;
}

START_TEST(test_the_hook_is_told_of_each_beginning_and_end)
{
	open_db(0, true);
	work();
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_uint_lt(rec.count, EVENTS_MAX);
	check_pairs();
	ck_assert_uint_eq(ends(KV_TRACE_COMMIT, KV_TRACE_NO_AREA), 2000);
	ck_assert_uint_ge(ends(KV_TRACE_FLUSH, KV_TRACE_NO_AREA), 2);
	ck_assert_uint_ge(ends(KV_TRACE_COMPACTION, KV_TRACE_NO_AREA), 1);
	ck_assert_uint_ge(ends(KV_TRACE_WRITE, KV_TRACE_LOG), 1);
	ck_assert_uint_ge(ends(KV_TRACE_SYNC, KV_TRACE_LOG), 10);
	ck_assert_uint_ge(ends(KV_TRACE_WRITE, KV_TRACE_TABLE), 2);
	ck_assert_uint_ge(ends(KV_TRACE_READ, KV_TRACE_TABLE), 1);
	ck_assert_uint_ge(ends(KV_TRACE_WRITE, KV_TRACE_MANIFEST), 2);
	ck_assert_uint_ge(ends(KV_TRACE_SYNC, KV_TRACE_MANIFEST), 2);
	for (size_t i = 0; i < rec.count; i++) {
		if (rec.events[i].kind == KV_TRACE_COMPACTION)
			ck_assert_ptr_nonnull(rec.events[i].reason);
	}
}
END_TEST

START_TEST(test_the_hook_is_told_only_of_the_kinds_it_asked_for)
{
	open_db(1U << KV_TRACE_FLUSH, true);
	work();
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_uint_gt(rec.count, 0);
	for (size_t i = 0; i < rec.count; i++)
		ck_assert_int_eq(rec.events[i].kind, KV_TRACE_FLUSH);
	check_pairs();
}
END_TEST

START_TEST(test_a_failed_sync_is_told_with_its_error)
{
	bool seen = false;

	open_db(1U << KV_TRACE_SYNC, true);
	put(1, 0);
	rec.count = 0;
	sim_env_fail(sim, SIM_OP_SYNC, 1, true, -EIO);
	ck_assert_int_eq(kv_sync(db), -KV_E_POISONED);
	for (size_t i = 0; i < rec.count; i++)
		seen = seen || (rec.events[i].end && rec.events[i].result == -EIO);
	ck_assert(seen);
	ck_assert_int_lt(kv_close(db), 0);
}
END_TEST

START_TEST(test_the_text_names_every_counter_gauge_and_histogram)
{
#define NAME(name)			 #name " ",
#define LATENCY(NAME, name, every, text) "latency_" #name " samples=",
	static const char *const names[] = {KV_COUNTERS(NAME) KV_GAUGES(NAME)
						    KV_HISTOGRAMS(LATENCY)};
	struct kv_buf text = {0};

	open_db(0, false);
	work();
	ck_assert_int_eq(kv_stats_text(db, &text), 0);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(names); i++)
		ck_assert_msg(strstr((const char *)text.data, names[i]), "%s is missing", names[i]);
	ck_assert_ptr_nonnull(strstr((const char *)text.data, "\ncommits_synced 10\n"));
	kv_buf_free(&text);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_what_is_done_is_counted_and_timed,
		test_the_hook_is_told_of_each_beginning_and_end,
		test_the_hook_is_told_only_of_the_kinds_it_asked_for,
		test_a_failed_sync_is_told_with_its_error,
		test_the_text_names_every_counter_gauge_and_histogram,
	};

	return test_suite_run_with("trace", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
