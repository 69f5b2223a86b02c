/* SPDX-License-Identifier: MIT */
/*
 * One job done by several threads gives what one thread gives; cuts divide it evenly; a part
 * that fails undoes all; a full compaction's progress never falls.
 */
#include "kvcore/engine/compaction_rewrite.h"

#include <errno.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/compaction_pick.h"
#include "tests/support/engine_fixture.h"

#define TABLES 8U
#define KEYS   4000U

static struct fixture f;

/* Eight tables of level 0 over half of the keys each, newer ones over older ones. */
static void setup(void)
{
	fixture_make(&f, 7);
	fixture_open(&f);
	for (unsigned i = 0; i < TABLES; i++)
		ck_assert_int_eq(
			fixture_add_table(&f, 0, i * KEYS / 16, (i + 8) * KEYS / 16, i + 1), 0);
	snapshots_publish(f.db.snapshots, TABLES);
}

static void teardown(void)
{
	fixture_close(&f);
	fixture_free(&f);
}

static void make_job(struct compaction_job *job)
{
	const struct compaction_policy policy = {
		.table_bytes = 4096, .base_bytes = 1U << 30, .room = UINT64_MAX, .oldest = TABLES};

	ck_assert_int_eq(compaction_pick(f.db.versions, &policy, job), 0);
	ck_assert_uint_eq(job->upper_count, TABLES);
}

static void check_newest(void)
{
	struct version *v = versions_current(f.db.versions);
	const struct version_level *l = &v->level[COMPACTION_LAST];
	unsigned key = 0;

	ck_assert_uint_eq(v->level[0].count, 0);
	ck_assert_uint_gt(l->count, 4);
	for (size_t i = 0; i < l->count; i++) {
		struct iter *it;
		struct entry e;
		int err;

		ck_assert_int_eq(table_iter_new(l->tables[i], TABLE_ITER_ONCE, &it), 0);
		for (err = iter_first(it); !err; err = iter_next(it), key++) {
			uint8_t want[IKEY_MAX];
			/* The last table that has the key wrote it last. */
			kv_seq seq = min_u64(key * 16ULL / KEYS + 1, TABLES);

			iter_entry(it, &e);
			ck_assert(slice_equal(e.key, fixture_key(key, want)));
			ck_assert_uint_eq(e.seq, seq);
		}
		ck_assert_int_eq(err, -KV_E_NOTFOUND);
		iter_close(it);
	}
	ck_assert_uint_eq(key, (TABLES + 7) * KEYS / 16);
	version_unref(v);
}

START_TEST(test_any_number_of_threads_gives_the_same)
{
	for (unsigned threads = 1; threads <= 2 * COMPACTION_PARTS_MAX; threads++) {
		struct compaction_job job;
		uint64_t written = 0;

		make_job(&job);
		ck_assert_int_eq(compaction_rewrite(&f.db, &job, NULL, threads, &written), 0);
		ck_assert_uint_gt(written, 0);
		compaction_job_fini(&job);
		check_newest();
		teardown();
		setup();
	}
}
END_TEST

START_TEST(test_cuts_rise_and_divide_evenly)
{
	struct kv_slice cuts[COMPACTION_PARTS_MAX];
	struct compaction_job job;

	make_job(&job);
	ck_assert_int_eq(compaction_cuts(&job, 1, cuts), 0);
	for (unsigned n = 2; n <= TABLES; n++) {
		int made = compaction_cuts(&job, n, cuts);

		ck_assert_int_ge(made, n < TABLES ? (int)n - 1 : 1);
		ck_assert_int_lt(made, (int)n);
		for (int i = 1; i < made; i++)
			ck_assert_int_gt(slice_compare(cuts[i], cuts[i - 1]), 0);
	}
	ck_assert_int_eq(compaction_cuts(&job, 2, cuts), 1);
	ck_assert(slice_equal(cuts[0], kv_buf_slice(&table_get_meta(job.upper[3])->smallest)));
	compaction_job_fini(&job);
}
END_TEST

static int refuse(void *ctx)
{
	(void)ctx;
	return -KV_E_INTERRUPTED;
}

START_TEST(test_what_stops_one_part_stops_all_and_changes_nothing)
{
	const struct compaction_watch watch = {refuse, NULL};
	uint64_t space = fixture_free_bytes(&f);
	uint64_t generation = fixture_generation(&f);
	struct compaction_job job;
	uint64_t written = 0;

	make_job(&job);
	ck_assert_int_eq(compaction_rewrite(&f.db, &job, &watch, 4, &written), -KV_E_INTERRUPTED);
	f.db.closing = true;
	ck_assert_int_eq(compaction_rewrite(&f.db, &job, NULL, 4, &written), -KV_E_INTERRUPTED);
	f.db.closing = false;
	sim_env_fail(f.env, SIM_OP_WRITE, 3, true, -EIO);
	ck_assert_int_eq(compaction_rewrite(&f.db, &job, NULL, 4, &written), -EIO);
	sim_env_heal(f.env);
	ck_assert_uint_eq(written, 0);
	ck_assert_uint_eq(fixture_free_bytes(&f), space);
	ck_assert_uint_eq(fixture_generation(&f), generation);
	ck_assert_int_eq(compaction_rewrite(&f.db, &job, NULL, 4, &written), 0);
	compaction_job_fini(&job);
	check_newest();
}
END_TEST

struct seen {
	uint64_t done, total;
	unsigned calls;
};

static int watch_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct seen *s = ctx;

	ck_assert_uint_ge(done, s->done);
	ck_assert_uint_le(done, total);
	ck_assert(!s->calls || total == s->total);
	*s = (struct seen){done, total, s->calls + 1};
	return 0;
}

START_TEST(test_the_progress_of_a_full_compaction_rises_to_all_of_it)
{
	struct seen seen = {0};
	const struct kv_progress progress = {watch_progress, &seen};

	f.db.table_bytes = 4096;
	f.db.options.compaction_threads = 4;
	ck_assert_int_eq(compaction_full(&f.db, &progress), 0);
	ck_assert_uint_gt(seen.calls, 2);
	ck_assert_uint_gt(seen.total, 0);
	ck_assert_uint_eq(seen.done, seen.total);
	check_newest();
}
END_TEST

static int begin_another(void *ctx)
{
	uint64_t *after_id = ctx;

	if (!*after_id)
		*after_id = versions_new_table_id(f.db.versions);
	return 0;
}

/* What the job keeps was chosen before the full compaction began, though it names tables later. */
START_TEST(test_a_full_compaction_rewrites_what_a_running_one_writes)
{
	uint64_t after_id = 0, written = 0, last_id = 0;
	const struct compaction_watch watch = {begin_another, &after_id};
	struct compaction_job job;
	struct version *v;

	make_job(&job);
	ck_assert_int_eq(compaction_rewrite(&f.db, &job, &watch, 1, &written), 0);
	compaction_job_fini(&job);
	ck_assert_uint_ne(after_id, 0);
	v = versions_current(f.db.versions);
	for (size_t i = 0; i < v->level[COMPACTION_LAST].count; i++) {
		const struct table_meta *m = table_get_meta(v->level[COMPACTION_LAST].tables[i]);

		ck_assert(compaction_full_owes(m, COMPACTION_LAST, TABLES, after_id));
		ck_assert(!compaction_full_owes(m, COMPACTION_LAST, TABLES, m->gc_id - 1));
		last_id = max_u64(last_id, m->id);
	}
	version_unref(v);
	ck_assert_uint_gt(last_id, after_id);
	f.db.table_bytes = 4096;
	ck_assert_int_eq(compaction_full(&f.db, NULL), 0);
	check_newest();
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_any_number_of_threads_gives_the_same,
		test_cuts_rise_and_divide_evenly,
		test_what_stops_one_part_stops_all_and_changes_nothing,
		test_the_progress_of_a_full_compaction_rises_to_all_of_it,
		test_a_full_compaction_rewrites_what_a_running_one_writes,
	};

	return test_suite_run_with("compaction_rewrite", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
