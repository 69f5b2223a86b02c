/* SPDX-License-Identifier: MIT */
/*
 * kv_scrub() on an open database: it reads all there is, finds what a flipped bit has damaged while
 * the database is at work, can be stopped anywhere and goes on from there.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"
#include "tests/support/test_suite.h"

#define ok(expr) ck_assert_int_eq((expr), 0)

struct seen {
	unsigned found;
	enum kv_problem_id id;
	bool keyed;
	unsigned calls, stop_at; /* of progress; 0: never */
	uint64_t done, after;
};

static void found(void *ctx, const struct kv_problem *p)
{
	struct seen *s = ctx;

	s->found++;
	s->id = p->id;
	s->keyed = s->keyed || p->from.len;
}

static int progress(void *ctx, const struct kv_scrub_progress *p)
{
	struct seen *s = ctx;

	ck_assert_uint_ge(p->done, s->done);
	ck_assert_uint_ge(p->total, p->done);
	s->done = p->done;
	s->after = p->after;
	return ++s->calls == s->stop_at;
}

static struct kv_db *open_sample(struct sim_env *e, unsigned flags)
{
	const struct kv_options o = {.flags = flags, .env = sim_env_os(e)};
	struct kv_db *db;

	ok(kv_open(SAMPLE_NAME, &o, &db));
	return db;
}

static int scrub(struct kv_db *db, struct seen *s, unsigned stop_at, uint64_t after,
		 struct kv_scrub_result *r)
{
	struct kv_scrub_options o = {
		.found = found, .progress = progress, .ctx = s, .after = after};

	memset(s, 0, sizeof(*s));
	s->stop_at = stop_at;
	return kv_scrub(db, &o, r);
}

START_TEST(test_a_sound_database_is_read_to_its_end)
{
	for (unsigned flags = 0; flags < 2; flags++) {
		struct sim_env *e = sample_volume_new(1, SAMPLE_KILLED);
		struct kv_db *db = open_sample(e, flags ? KV_OPEN_RDONLY : 0);
		struct kv_scrub_result r;
		struct kv_stats stats;
		struct seen s;

		ok(scrub(db, &s, 0, 0, &r));
		ck_assert_uint_eq(s.found, 0);
		/* What a compaction writes anew meanwhile was read by it, and is left out. */
		if (flags) {
			ck_assert_uint_gt(r.tables, 0);
			ck_assert_uint_gt(r.entries, SAMPLE_KEYS / 2);
			ck_assert_uint_gt(r.values, 5);
		}
		ck_assert_uint_eq(r.after, 0);
		kv_get_stats(db, &stats);
		ck_assert_uint_eq(stats.scrub_bytes, s.done);
		ck_assert_uint_eq(stats.scrub_problems, 0);
		ok(kv_close(db));
		sim_env_free(e);
	}
}
END_TEST

enum where { IN_PAGE, IN_FILTER, IN_VALUE, IN_SUPERBLOCK, IN_MANIFEST };

/* No two sample volumes need have their tables at the same places. */
static uint64_t place_of(struct sim_env *e, enum where where)
{
	struct manifest_loaded l;
	const struct table_meta *t;
	uint64_t off = 300; /* in the first copy of the superblock */

	sample_load_manifest(e, &l);
	t = &l.manifest.tables[0];
	if (where == IN_PAGE)
		off = t->extents[0].off + 10;
	else if (where == IN_FILTER)
		off = t->extents[0].off + t->filter.off + 100;
	else if (where == IN_VALUE)
		off = l.manifest.segments[0].extent.off + 10;
	else if (where == IN_MANIFEST)
		off = l.sb.manifest_extents[0].off + 3;
	manifest_loaded_fini(&l);
	return off;
}

/* Flips made behind the back of an open database. */
static void check_flip(enum where where, enum kv_problem_id id, bool keyed)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	uint64_t off = place_of(e, where);
	struct kv_db *db = open_sample(e, KV_OPEN_RDONLY);
	struct kv_scrub_result r;
	struct kv_stats stats;
	struct seen s;

	sim_env_flip(e, SAMPLE_NAME, off, 3);
	ok(scrub(db, &s, 0, 0, &r));
	ck_assert_uint_eq(r.problems, s.found);
	ck_assert_uint_ge(s.found, 1);
	ck_assert_int_eq((int)s.id, (int)id);
	ck_assert(s.keyed == keyed);
	kv_get_stats(db, &stats);
	ck_assert_uint_eq(stats.scrub_problems, s.found);
	ok(kv_close(db));
	sim_env_free(e);
}

START_TEST(test_damage_is_found_wherever_it_is)
{
	check_flip(IN_PAGE, KV_PROBLEM_TABLE_PAGE, true);
	check_flip(IN_FILTER, KV_PROBLEM_TABLE_FILTER, false);
	check_flip(IN_VALUE, KV_PROBLEM_VALUE, true);
	check_flip(IN_SUPERBLOCK, KV_PROBLEM_SUPERBLOCK_COPY, false);
	check_flip(IN_MANIFEST, KV_PROBLEM_MANIFEST_COPY, false);
}
END_TEST

START_TEST(test_a_scrub_that_was_stopped_goes_on_where_it_was)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_db *db = open_sample(e, KV_OPEN_RDONLY);
	struct kv_scrub_result whole, part, rest;
	struct seen s;

	ok(scrub(db, &s, 0, 0, &whole));
	ck_assert_uint_gt(whole.tables, 1);
	for (unsigned stop = 1; stop <= whole.tables; stop++) {
		ck_assert_int_eq(scrub(db, &s, stop, 0, &part), -KV_E_INTERRUPTED);
		ck_assert_uint_eq(part.tables, stop);
		ck_assert_uint_eq(part.after, s.after);
		ok(scrub(db, &s, 0, part.after, &rest));
		ck_assert_uint_eq(part.entries + rest.entries, whole.entries);
		ck_assert_uint_eq(part.values + rest.values, whole.values);
	}
	ok(kv_close(db));
	sim_env_free(e);
}
END_TEST

/* Writes, flushes and compactions go on between its steps: it ends, and calls nothing damaged. */
struct writer {
	struct kv_db *db;
	unsigned round;
};

static int write_more(void *ctx, const struct kv_scrub_progress *p)
{
	struct writer *w = ctx;
	char key[16], value[300];

	(void)p;
	memset(value, 'v', sizeof(value));
	for (unsigned i = 0; i < 200; i++) {
		size_t len = sample_key((w->round * 131 + i * 7) % SAMPLE_KEYS, key);

		ok(kv_put(w->db, SAMPLE_KEYSPACE, kv_slice_of(key, len),
			  kv_slice_of(value, sizeof(value)), i % 50 ? 0 : KV_COMMIT_SYNC));
	}
	ok(kv_flush(w->db));
	if (++w->round % 3 == 0)
		ok(kv_compact(w->db, NULL));
	return 0;
}

static void no_damage(void *ctx, const struct kv_problem *p)
{
	(void)ctx;
	ck_abort_msg("%s", p->text);
}

START_TEST(test_a_database_at_work_is_scrubbed)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_KILLED);
	struct writer w = {open_sample(e, 0), 0};
	const struct kv_scrub_options o = {.found = no_damage, .progress = write_more, .ctx = &w};
	struct kv_scrub_result r;

	for (unsigned i = 0; i < 5; i++) {
		ok(kv_scrub(w.db, &o, &r));
		ck_assert_uint_gt(r.tables, 0);
		ck_assert_uint_eq(r.problems, 0);
	}
	ok(kv_close(w.db));
	sim_env_free(e);
}
END_TEST

/* The log's durable part is followed while the database is open. */
START_TEST(test_a_damaged_log_is_found)
{
	struct sim_env *e = sample_volume_new(1, SAMPLE_CLOSED);
	struct kv_db *db = open_sample(e, 0);
	struct sim_env *copy;
	struct manifest_loaded l;
	struct kv_scrub_result r;
	struct seen s;
	char key[16];
	uint64_t at;

	for (unsigned i = 0; i < 5; i++)
		ok(kv_put(db, SAMPLE_KEYSPACE, kv_slice_of(key, sample_key(i, key)),
			  kv_slice_of("x", 1), KV_COMMIT_SYNC));
	ok(scrub(db, &s, 0, 0, &r));
	ck_assert_uint_eq(s.found, 0);
	ck_assert_uint_ge(r.log_frames, 5);
	copy = sim_env_clone(e, 1);
	sample_load_manifest(copy, &l);
	sim_env_free(copy);
	at = align_up_u64(l.manifest.log_lsn, FORMAT_BLOCK) % l.sb.log_size;
	manifest_loaded_fini(&l);
	sim_env_flip(e, SAMPLE_NAME, FORMAT_LOG_OFF + at + FORMAT_BLOCK + 20, 1);
	ok(scrub(db, &s, 0, 0, &r));
	ck_assert_uint_eq(s.found, 1);
	ck_assert_int_eq((int)s.id, KV_PROBLEM_LOG_HOLE);
	ok(kv_close(db));
	sim_env_free(e);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_sound_database_is_read_to_its_end,
		test_damage_is_found_wherever_it_is,
		test_a_scrub_that_was_stopped_goes_on_where_it_was,
		test_a_database_at_work_is_scrubbed,
		test_a_damaged_log_is_found,
	};

	return test_suite_run("engine_scrub", tests, KV_ARRAY_COUNT(tests), 60);
}
