/* SPDX-License-Identifier: MIT */
/*
 * Large values: what is put is read back or refused, never altered; segments die
 * exactly when nothing refers to them; and a value that a sync made durable is
 * not touched by anything written later, whatever a power loss tears.
 */
#include "kvcore/engine/values.h"

#include <errno.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "tests/support/engine_fixture.h"

#define VALUE_BIG (2U * 1024 * 1024)

static struct test_rng fixed_rng(uint64_t seed)
{
	return (struct test_rng){seed};
}

/* Content that follows from @seed; every other one compresses well. */
static struct kv_buf make_value(uint64_t seed, size_t len)
{
	struct test_rng rng = fixed_rng(seed);
	struct kv_buf b = {0};

	ck_assert_int_eq(buf_resize(&b, len), 0);
	test_rng_fill(&rng, b.data, seed % 2 ? len : len / 8);
	return b;
}

static struct value_ref put(struct fixture *f, uint64_t seed, size_t len)
{
	struct kv_buf b = make_value(seed, len);
	struct value_ref ref;

	ck_assert_int_eq(values_put(f->db.values, kv_buf_slice(&b), SPACE_VALUE, &ref), 0);
	kv_buf_free(&b);
	return ref;
}

static int get(struct fixture *f, const struct value_ref *ref, struct kv_buf *out)
{
	struct version *v = versions_current(f->db.versions);
	int err = values_get(f->db.values, v, ref, out);

	version_unref(v);
	return err;
}

static void expect(struct fixture *f, const struct value_ref *ref, uint64_t seed, size_t len)
{
	struct kv_buf want = make_value(seed, len);
	struct kv_buf have = {0};

	ck_assert_int_eq(get(f, ref, &have), 0);
	ck_assert_uint_eq(have.len, len);
	ck_assert(len == 0 || memcmp(have.data, want.data, len) == 0);
	kv_buf_free(&want);
	kv_buf_free(&have);
}

static struct values_stat stat_of(struct fixture *f)
{
	struct values_stat st;

	values_get_stat(f->db.values, &st);
	return st;
}

/* Everything is durable, and the process gone. */
static void reopen(struct fixture *f)
{
	ck_assert_int_eq(os_volume_sync(f->db.volume), 0);
	fixture_crash(f, SIM_CRASH_DROP);
}

START_TEST(test_values_of_all_sizes_are_read_back)
{
	struct test_rng rng = test_rng_seeded("sizes");
	struct value_ref refs[60];
	size_t lens[60];
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned i = 0; i < 60; i++) {
		lens[i] = 1 + test_rng_below(&rng, 1U << (4 + i % 15));
		refs[i] = put(&f, i, lens[i]);
		ck_assert_uint_eq(refs[i].raw_len, lens[i]);
		ck_assert_uint_le(refs[i].stored_len, value_stored_max(lens[i]));
	}
	for (unsigned i = 0; i < 60; i++)
		expect(&f, &refs[i], i, lens[i]);
	ck_assert_uint_gt(stat_of(&f).bytes_written, 0);
	reopen(&f);
	for (unsigned i = 0; i < 60; i++)
		expect(&f, &refs[i], i, lens[i]);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_value_larger_than_a_segment_has_its_own)
{
	struct value_ref small;
	struct value_ref big;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	small = put(&f, 1, 1000);
	big = put(&f, 3, VALUE_BIG);
	ck_assert_uint_ne(small.segment_id, big.segment_id);
	ck_assert_uint_eq(big.off, 0);
	ck_assert_uint_eq(put(&f, 5, 1000).segment_id, small.segment_id);
	expect(&f, &big, 3, VALUE_BIG);
	ck_assert_uint_eq(stat_of(&f).segments, 2);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_empty_and_too_long_values_are_refused)
{
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(values_put(f.db.values, kv_slice_of("", 0), SPACE_VALUE, &ref),
			 -KV_E_INVALID);
	ck_assert_int_eq(
		values_put(f.db.values, kv_slice_of("", KV_VALUE_MAX + 1UL), SPACE_VALUE, &ref),
		-KV_E_INVALID);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_any_flip_in_a_value_is_found)
{
	struct kv_buf out = {0};
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned seed = 0; seed < 2; seed++) { /* compressed and not */
		struct value_ref ref = put(&f, seed, 700);
		struct version *v = versions_current(f.db.versions);
		uint64_t at = version_segment(v, ref.segment_id)->extent.off + ref.off;

		version_unref(v);
		for (uint64_t bit = 0; bit < 8 * ref.stored_len; bit++) {
			sim_env_flip(f.env, FIXTURE_NAME, at + bit / 8, bit % 8);
			ck_assert_int_eq(get(&f, &ref, &out), -KV_E_CHECKSUM);
			sim_env_flip(f.env, FIXTURE_NAME, at + bit / 8, bit % 8);
		}
		expect(&f, &ref, seed, 700);
	}
	kv_buf_free(&out);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_references_that_cannot_be_right_are_refused)
{
	struct kv_buf out = {0};
	struct value_ref good;
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	good = put(&f, 1, 700);
	ref = good;
	ref.segment_id = 99;
	ck_assert_int_eq(get(&f, &ref, &out), -KV_E_CORRUPT);
	ck_assert_int_eq(values_replayed(f.db.values, &ref), -KV_E_CORRUPT);
	ref = good;
	ref.off = UINT64_MAX - 3;
	ck_assert_int_eq(get(&f, &ref, &out), -KV_E_CORRUPT);
	ck_assert_int_eq(values_replayed(f.db.values, &ref), -KV_E_CORRUPT);
	ref = good;
	ref.stored_len = UINT64_MAX;
	ck_assert_int_eq(get(&f, &ref, &out), -KV_E_CORRUPT);
	ref = good;
	ref.raw_len = UINT64_MAX;
	ck_assert_int_eq(get(&f, &ref, &out), -KV_E_CORRUPT);
	ref = good;
	ref.raw_len += 1; /* then it would be compressed */
	ck_assert_int_lt(get(&f, &ref, &out), 0);
	ck_assert_ptr_null(out.data);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_segment_dies_when_nothing_is_pending_or_live)
{
	struct segment_delta delta;
	struct version_edit edit = {.deltas = &delta, .delta_count = 1};
	struct value_ref ref;
	struct fixture f;
	uint64_t full;

	fixture_make(&f, 1);
	fixture_open(&f);
	ref = put(&f, 1, VALUE_BIG);
	full = fixture_free_bytes(&f);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	expect(&f, &ref, 1, VALUE_BIG); /* pending */
	delta = (struct segment_delta){ref.segment_id, (int64_t)ref.stored_len};
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	values_settle(f.db.values, ref.segment_id);
	ck_assert_uint_eq(stat_of(&f).live_bytes, ref.stored_len);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	expect(&f, &ref, 1, VALUE_BIG); /* live */
	delta.live_bytes = -delta.live_bytes;
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	ck_assert_uint_eq(stat_of(&f).segments, 0);
	ck_assert_uint_ge(fixture_free_bytes(&f), full + VALUE_BIG);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(f.loaded.manifest.segment_count, 0);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_reader_keeps_a_dead_segment)
{
	struct version *reader;
	struct kv_buf out = {0};
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ref = put(&f, 1, VALUE_BIG);
	reader = versions_current(f.db.versions);
	values_settle(f.db.values, ref.segment_id);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	ck_assert_uint_eq(stat_of(&f).segments, 0);
	put(&f, 3, VALUE_BIG);
	ck_assert_int_eq(values_get(f.db.values, reader, &ref, &out), 0);
	kv_buf_free(&out);
	version_unref(reader);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_an_open_segment_is_not_dead)
{
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	ref = put(&f, 1, 1000);
	values_settle(f.db.values, ref.segment_id);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	ck_assert_uint_eq(stat_of(&f).segments, 1);
	ck_assert_uint_eq(put(&f, 1, 1000).segment_id, ref.segment_id);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_recovery_cuts_unused_tails)
{
	struct value_ref refs[3];
	struct version_edit edit = {.last_seq = 1};
	struct fixture f;
	uint64_t before;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned i = 0; i < 3; i++)
		refs[i] = put(&f, 1, 5000);
	reopen(&f);
	before = fixture_free_bytes(&f);
	/* The log refers to the first two only. */
	ck_assert_int_eq(values_replayed(f.db.values, &refs[0]), 0);
	ck_assert_int_eq(values_replayed(f.db.values, &refs[1]), 0);
	ck_assert_int_eq(values_recovered(f.db.values), 0);
	ck_assert_uint_eq(fixture_free_bytes(&f), before); /* the volume still names the long one */
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_uint_eq(stat_of(&f).bytes, 3 * FORMAT_BLOCK);
	ck_assert_uint_gt(fixture_free_bytes(&f), before + 900 * 1024);
	expect(&f, &refs[0], 1, 5000);
	expect(&f, &refs[1], 1, 5000);
	ck_assert_uint_ne(put(&f, 1, 5000).segment_id, refs[0].segment_id);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(f.loaded.manifest.segments[0].extent.len, 3 * FORMAT_BLOCK);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_segment_without_replayed_values_goes)
{
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	put(&f, 1, 5000);
	put(&f, 1, VALUE_BIG);
	reopen(&f);
	ck_assert_uint_eq(stat_of(&f).segments, 2);
	ck_assert_int_eq(values_recovered(f.db.values), 0);
	ck_assert_int_eq(values_reap(f.db.values), 0);
	ck_assert_uint_eq(stat_of(&f).segments, 0);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_values_of_mostly_dead_segments_should_move)
{
	struct segment_delta delta;
	struct version_edit edit = {.deltas = &delta, .delta_count = 1};
	struct value_ref refs[4];
	struct version *v;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned i = 0; i < 4; i++)
		refs[i] = put(&f, 1, 100 * 1024);
	delta = (struct segment_delta){refs[0].segment_id, 2 * (int64_t)refs[0].stored_len};
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_int_eq(values_recovered(f.db.values), 0); /* seals */
	v = versions_current(f.db.versions);
	ck_assert(!values_should_move(f.db.values, v, &refs[0])); /* four are pending */
	for (unsigned i = 0; i < 4; i++)
		values_settle(f.db.values, refs[i].segment_id);
	ck_assert(!values_should_move(f.db.values, v, &refs[0])); /* half is not mostly */
	delta.live_bytes = -1;
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert(values_should_move(f.db.values, v, &refs[0]));
	version_unref(v);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_full_volume_leaves_room_for_compaction)
{
	struct kv_buf b = make_value(1, 300 * 1024);
	struct value_ref ref;
	struct fixture f;
	int err;

	fixture_make(&f, 1);
	fixture_open(&f);
	do {
		err = values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &ref);
	} while (!err);
	ck_assert_int_eq(err, -KV_E_NOSPACE);
	ck_assert_int_eq(values_put(f.db.values, kv_slice_of(b.data, 100), SPACE_MOVE, &ref), 0);
	ck_assert_int_eq(fixture_add_table(&f, 0, 0, 100, 1), 0);
	kv_buf_free(&b);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_failed_write_loses_only_that_value)
{
	struct kv_buf b = make_value(1, 5000);
	struct value_ref good;
	struct value_ref ref;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	good = put(&f, 3, 5000);
	sim_env_fail(f.env, SIM_OP_WRITE, 1, false, -EIO);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &ref), -EIO);
	sim_env_fail(f.env, SIM_OP_WRITE, 1, false, -ENOSPC);
	ck_assert_int_eq(values_put(f.db.values, kv_buf_slice(&b), SPACE_VALUE, &ref),
			 -KV_E_NOSPACE);
	expect(&f, &good, 3, 5000);
	ref = put(&f, 5, 5000);
	expect(&f, &ref, 5, 5000);
	kv_buf_free(&b);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* ---- the sealing rule ------------------------------------------------------------ */

START_TEST(test_a_later_write_never_tears_a_durable_value)
{
	struct test_rng rng = test_rng_seeded("later_write");

	for (unsigned round = 0; round < 60; round++) {
		struct value_ref durable[8];
		size_t lens[8];
		struct fixture f;

		fixture_make_sized(&f, test_rng_next(&rng), 8U << 20);
		fixture_open(&f);
		for (unsigned i = 0; i < 8; i++) {
			lens[i] = 1 + test_rng_below(&rng, 6000);
			durable[i] = put(&f, i, lens[i]);
		}
		values_seal(f.db.values);
		ck_assert_int_eq(os_volume_sync(f.db.volume), 0);
		for (unsigned i = 0; i < 4; i++)
			put(&f, 100 + i, 1 + test_rng_below(&rng, 3000));
		fixture_crash(&f, SIM_CRASH_GARBAGE);
		for (unsigned i = 0; i < 8; i++)
			expect(&f, &durable[i], i, lens[i]);
		fixture_close(&f);
		fixture_free(&f);
	}
}
END_TEST

#define WRITERS	    3U
#define WRITER_PUTS 120U

struct writer {
	struct fixture *f;
	uint64_t seed;
	struct value_ref refs[WRITER_PUTS];
	size_t lens[WRITER_PUTS];
	_Atomic unsigned done;
};

static void run_writer(void *arg)
{
	struct writer *w = arg;
	struct test_rng rng = fixed_rng(w->seed);

	for (unsigned i = 0; i < WRITER_PUTS; i++) {
		w->lens[i] = 1 + test_rng_below(&rng, 3000);
		w->refs[i] = put(w->f, w->seed + i, w->lens[i]);
		atomic_store(&w->done, i + 1);
	}
}

/* Seal and sync while others write; the last such sync counts, then power is lost. */
static void seal_race(uint64_t seed)
{
	struct writer writers[WRITERS];
	struct os_thread threads[WRITERS];
	unsigned durable[WRITERS];
	struct fixture f;
	bool all = false;

	memset(writers, 0, sizeof(writers));
	fixture_make_sized(&f, seed, 16U << 20);
	fixture_open(&f);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].f = &f;
		writers[i].seed = 1000 * i + seed;
		ck_assert_int_eq(os_thread_start(&threads[i], "writer", run_writer, &writers[i]),
				 0);
	}
	for (unsigned round = 0; round < 3 + seed % 7 && !all; round++) {
		all = true;
		for (unsigned i = 0; i < WRITERS; i++) {
			durable[i] = atomic_load(&writers[i].done);
			all = all && durable[i] == WRITER_PUTS;
		}
		values_seal(f.db.values);
		ck_assert_int_eq(os_volume_sync(f.db.volume), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		os_thread_join(&threads[i]);
	fixture_crash(&f, SIM_CRASH_GARBAGE);
	for (unsigned i = 0; i < WRITERS; i++) {
		for (unsigned j = 0; j < durable[i]; j++)
			expect(&f, &writers[i].refs[j], writers[i].seed + j, writers[i].lens[j]);
	}
	fixture_close(&f);
	fixture_free(&f);
}

START_TEST(test_what_was_sealed_while_others_wrote_survives)
{
	for (uint64_t seed = 1; seed <= 15; seed++)
		seal_race(seed);
}
END_TEST

/* A volume whose writes wait for a gate. */
struct gated {
	struct os_volume base;
	struct os_volume *real;
	struct os_volume_ops ops;
	_Atomic bool waiting;
	_Atomic bool open;
};

static int gated_write(struct os_volume *v, uint64_t off, const void *buf, size_t len,
		       unsigned flags)
{
	struct gated *g = KV_CONTAINER_OF(v, struct gated, base);

	atomic_store(&g->waiting, true);
	while (!atomic_load(&g->open))
		usleep(1000);
	return os_volume_write(g->real, off, buf, len, flags);
}

struct action {
	struct values *values;
	_Atomic bool done;
};

static void run_put(void *arg)
{
	struct action *a = arg;
	struct value_ref ref;

	ck_assert_int_eq(values_put(a->values, kv_slice_of("abc", 3), SPACE_VALUE, &ref), 0);
	atomic_store(&a->done, true);
}

static void run_seal(void *arg)
{
	struct action *a = arg;

	values_seal(a->values);
	atomic_store(&a->done, true);
}

START_TEST(test_sealing_waits_for_writes_in_flight)
{
	struct gated g = {.open = true};
	struct action putting = {0};
	struct action sealing = {0};
	struct os_thread threads[2];
	struct values_options o;
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	g.real = f.db.volume;
	g.ops.write = gated_write;
	g.base.ops = &g.ops;
	o = (struct values_options){.volume = &g.base,
				    .space = f.db.space,
				    .checksum = f.loaded.checksum,
				    .versions = f.db.versions};
	ck_assert_int_eq(values_new(&o, &putting.values), 0);
	sealing.values = putting.values;
	run_put(&putting); /* so that there is an open segment */
	atomic_store(&g.open, false);
	atomic_store(&g.waiting, false);
	ck_assert_int_eq(os_thread_start(&threads[0], "put", run_put, &putting), 0);
	while (!atomic_load(&g.waiting))
		usleep(1000);
	ck_assert_int_eq(os_thread_start(&threads[1], "seal", run_seal, &sealing), 0);
	usleep(100 * 1000);
	ck_assert(!atomic_load(&sealing.done));
	atomic_store(&g.open, true);
	os_thread_join(&threads[0]);
	os_thread_join(&threads[1]);
	ck_assert(atomic_load(&sealing.done));
	values_free(putting.values);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_threads_share_segments)
{
	struct writer writers[WRITERS];
	struct os_thread threads[WRITERS];
	struct fixture f;

	memset(writers, 0, sizeof(writers));
	fixture_make(&f, 1);
	fixture_open(&f);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].f = &f;
		writers[i].seed = 1000 * i;
		ck_assert_int_eq(os_thread_start(&threads[i], "writer", run_writer, &writers[i]),
				 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		os_thread_join(&threads[i]);
	for (unsigned i = 0; i < WRITERS; i++) {
		for (unsigned j = 0; j < WRITER_PUTS; j++)
			expect(&f, &writers[i].refs[j], writers[i].seed + j, writers[i].lens[j]);
	}
	ck_assert_uint_eq(stat_of(&f).segments, 1);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_values_of_all_sizes_are_read_back,
		test_a_value_larger_than_a_segment_has_its_own,
		test_empty_and_too_long_values_are_refused,
		test_any_flip_in_a_value_is_found,
		test_references_that_cannot_be_right_are_refused,
		test_a_segment_dies_when_nothing_is_pending_or_live,
		test_a_reader_keeps_a_dead_segment,
		test_an_open_segment_is_not_dead,
		test_recovery_cuts_unused_tails,
		test_a_segment_without_replayed_values_goes,
		test_values_of_mostly_dead_segments_should_move,
		test_a_full_volume_leaves_room_for_compaction,
		test_a_failed_write_loses_only_that_value,
		test_a_later_write_never_tears_a_durable_value,
		test_what_was_sealed_while_others_wrote_survives,
		test_sealing_waits_for_writes_in_flight,
		test_threads_share_segments,
	};

	return test_suite_run("values", tests, sizeof(tests) / sizeof(tests[0]), 120);
}
