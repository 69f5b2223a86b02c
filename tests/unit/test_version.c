/* SPDX-License-Identifier: MIT */
/*
 * Version edits over a simulated host: crashes at every write with every kind
 * of loss leave the old state or the new one, whole; failures before the superblock
 * leave no trace; space returns exactly when nobody can need it any more.
 */
#include "kvcore/engine/version.h"

#include <errno.h>

#include "kvcore/engine/values.h"
#include "kvcore/wal/wal.h"
#include "tests/support/engine_fixture.h"

static const enum sim_crash losses[] = {SIM_CRASH_DROP, SIM_CRASH_MIX, SIM_CRASH_GARBAGE};
#define LOSSES 3U

static size_t table_count(struct fixture *f, unsigned level)
{
	struct version *v = versions_current(f->db.versions);
	size_t n = v->level[level].count;

	version_unref(v);
	return n;
}

START_TEST(test_an_edit_is_there_after_reopening)
{
	struct fixture f;
	struct version_edit edit = {.set_log = true, .log_epoch = 7, .last_seq = 9};

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(fixture_add_table(&f, 0, 0, 100, 5), 0);
	ck_assert_int_eq(fixture_add_table(&f, 3, 200, 300, 4), 0);
	edit.log.lsn = 8192;
	memset(edit.log.prev_sum, 0xab, CHECKSUM_LEN);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_uint_eq(f.installs, 3);
	ck_assert_uint_eq(versions_manifest_writes(f.db.versions), 3);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(fixture_read_all(&f), 200);
	ck_assert_uint_eq(table_count(&f, 0), 1);
	ck_assert_uint_eq(table_count(&f, 3), 1);
	ck_assert_uint_eq(f.loaded.manifest.log_lsn, 8192);
	ck_assert_uint_eq(f.loaded.manifest.log_epoch, 7);
	ck_assert_uint_eq(f.loaded.manifest.last_seq, 9);
	ck_assert_uint_eq(f.loaded.manifest.log_prev_sum[15], 0xab);
	ck_assert_uint_gt(versions_new_table_id(f.db.versions), 2);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_an_epoch_comes_with_its_fence_and_leaves_the_log_position)
{
	struct fixture f;
	struct version_edit edit = {.log_epoch = 7, .log_fence = 4096};

	fixture_make(&f, 1);
	fixture_open(&f);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(f.loaded.manifest.log_epoch, 7);
	ck_assert_uint_eq(f.loaded.manifest.log_fence, 4096);
	ck_assert_uint_eq(f.loaded.manifest.log_lsn, 0);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* The state that the crash tests start from: a few edits behind it. */
static void make_base(struct fixture *f, uint64_t seed)
{
	fixture_make(f, seed);
	fixture_open(f);
	ck_assert_int_eq(fixture_add_table(f, 1, 0, 500, 5), 0);
	ck_assert_int_eq(fixture_add_table(f, 1, 500, 900, 6), 0);
}

/*
 * Cut the power during the @nth change of one edit, and look. False: the edit had fewer changes.
 */
static bool crash_once(unsigned nth, enum sim_crash mode, uint64_t seed)
{
	struct fixture f;
	uint64_t before;
	uint64_t entries;
	int err;

	make_base(&f, seed);
	before = fixture_generation(&f);
	sim_env_cut(f.env, nth);
	err = fixture_add_table(&f, 0, 100, 300, 7);
	sim_env_crash(f.env, mode);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert(f.loaded.sb.generation == before || f.loaded.sb.generation == before + 1);
	if (!err)
		ck_assert_uint_eq(f.loaded.sb.generation, before + 1);
	else
		ck_assert_int_eq(err, -KV_E_POISONED);
	entries = f.loaded.sb.generation == before ? 900 : 1100;
	ck_assert_uint_eq(fixture_read_all(&f), entries);
	/* And it goes on from there. */
	ck_assert_int_eq(fixture_add_table(&f, 0, 0, 10, 8), 0);
	ck_assert_uint_eq(fixture_read_all(&f), entries + 10);
	fixture_close(&f);
	fixture_free(&f);
	return err != 0;
}

/* The table is built before the edit's first change: count from there. */
START_TEST(test_a_crash_leaves_the_old_state_or_the_new_one)
{
	struct fixture f;
	uint64_t from;
	uint64_t all;

	make_base(&f, 1);
	from = sim_env_calls(f.env, SIM_OP_CHANGE);
	ck_assert_int_eq(fixture_add_table(&f, 0, 100, 300, 7), 0);
	all = sim_env_calls(f.env, SIM_OP_CHANGE) - from;
	fixture_close(&f);
	fixture_free(&f);
	for (unsigned mode = 0; mode < LOSSES; mode++) {
		for (uint64_t seed = 1; seed <= 6; seed++) {
			/* The first change is the write of the table's pages. */
			for (unsigned nth = 2; nth <= all + 1; nth++)
				(void)crash_once(nth, losses[mode], seed);
		}
	}
}
END_TEST

/* Chains of crashes, each during an edit of the volume that the one before left. */
START_TEST(test_repeated_crashes_never_lose_a_durable_edit)
{
	struct test_rng rng = test_rng_seeded("repeated_crashes");
	struct fixture f;
	uint64_t durable = 1;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	for (unsigned i = 0; i < 150; i++) {
		struct version_edit edit = {.last_seq = 1};
		bool ok;

		durable = fixture_generation(&f);
		sim_env_cut(f.env, 1 + test_rng_below(&rng, 8));
		do {
			ok = versions_apply(f.db.versions, &edit) == 0;
			durable += ok;
		} while (ok);
		sim_env_crash(f.env, losses[test_rng_below(&rng, LOSSES)]);
		fixture_close(&f);
		fixture_open(&f);
		ck_assert_uint_ge(f.loaded.sb.generation, durable);
		ck_assert_uint_le(f.loaded.sb.generation, durable + 1);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* Rot in one copy and then a crash during the next edit: the whole copy must not be at risk. */
START_TEST(test_a_damaged_copy_is_written_first)
{
	for (unsigned copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
		for (unsigned extra = 0; extra < 2; extra++) {
			for (unsigned nth = 1; nth <= 8; nth++) {
				struct version_edit edit = {.last_seq = 1};
				struct fixture f;
				int err;

				make_base(&f, nth);
				if (extra) /* both parities of the generation */
					ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
				ck_assert_int_eq(os_volume_sync(f.db.volume), 0);
				sim_env_flip(f.env, FIXTURE_NAME,
					     (uint64_t)copy * SUPERBLOCK_STRIDE + 100, 3);
				sim_env_cut(f.env, nth);
				err = versions_apply(f.db.versions, &edit);
				ck_assert(!err || err == -KV_E_POISONED);
				fixture_crash(&f, SIM_CRASH_GARBAGE);
				ck_assert_uint_eq(fixture_read_all(&f), 900);
				fixture_close(&f);
				fixture_free(&f);
			}
		}
	}
}
END_TEST

static void expect_unchanged(struct fixture *f, uint64_t free_bytes, uint64_t generation)
{
	ck_assert_uint_eq(fixture_free_bytes(f), free_bytes);
	ck_assert_uint_eq(fixture_generation(f), generation);
	ck_assert_uint_eq(fixture_read_all(f), 900);
}

START_TEST(test_without_space_nothing_happens)
{
	struct version_edit edit = {.last_seq = 8};
	struct extent taken[64];
	unsigned count = 0;
	struct fixture f;
	uint64_t before;

	make_base(&f, 1);
	before = fixture_free_bytes(&f);
	while (!space_alloc(f.db.space, SPACE_MANIFEST, FIXTURE_SIZE, FORMAT_BLOCK, &taken[count]))
		count++;
	ck_assert_uint_gt(count, 0);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), -KV_E_NOSPACE);
	expect_unchanged(&f, 0, 3);
	while (count)
		space_release(f.db.space, taken[--count]);
	expect_unchanged(&f, before, 3);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(fixture_read_all(&f), 900);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_failed_write_or_sync_poisons_and_is_never_retried)
{
	const enum sim_op ops[] = {SIM_OP_WRITE, SIM_OP_SYNC};
	const unsigned counts[] = {3, 2}; /* manifest and two copies; two syncs */

	for (unsigned o = 0; o < 2; o++) {
		for (unsigned nth = 1; nth <= counts[o]; nth++) {
			struct version_edit edit = {.last_seq = 8};
			struct fixture f;
			uint64_t writes;

			make_base(&f, nth);
			sim_env_fail(f.env, ops[o], nth, false, -EIO);
			ck_assert_int_eq(versions_apply(f.db.versions, &edit), -KV_E_POISONED);
			writes = sim_env_calls(f.env, SIM_OP_CHANGE);
			ck_assert_int_eq(versions_apply(f.db.versions, &edit), -KV_E_POISONED);
			ck_assert_uint_eq(sim_env_calls(f.env, SIM_OP_CHANGE), writes);
			ck_assert_uint_eq(fixture_read_all(&f), 900); /* reads go on */
			fixture_crash(&f, SIM_CRASH_MIX);
			ck_assert_uint_eq(fixture_read_all(&f), 900);
			ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
			fixture_close(&f);
			fixture_free(&f);
		}
	}
}
END_TEST

static struct wal *open_wal(struct fixture *f)
{
	struct wal_options o = {.volume = f->db.volume,
				.checksum = f->loaded.checksum,
				.log_off = FORMAT_LOG_OFF,
				.log_size = f->loaded.sb.log_size};
	struct wal_position start = {0};
	struct wal *w;

	memcpy(o.uuid, f->loaded.sb.uuid, sizeof(o.uuid));
	ck_assert_int_eq(wal_open(&o, &start, 0, 1, &w), 0);
	return w;
}

START_TEST(test_the_log_is_poisoned_with_it_and_its_tail_moved_after_it)
{
	struct version_edit edit = {.set_log = true};
	struct kv_slice part = kv_slice_of("payload", 7);
	struct fixture f;
	struct wal *w;
	uint64_t end;

	make_base(&f, 1);
	w = open_wal(&f);
	versions_set_wal(f.db.versions, w);
	ck_assert_int_eq(wal_append(w, &part, 1, &end), 0);
	ck_assert_uint_gt(wal_used(w), 0);
	wal_get_position(w, &edit.log);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_uint_eq(wal_used(w), 0);
	sim_env_fail(f.env, SIM_OP_SYNC, 1, false, -EIO);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), -KV_E_POISONED);
	ck_assert_int_ne(wal_poisoned(w), 0);
	ck_assert_int_eq(wal_append(w, &part, 1, &end), -KV_E_POISONED);
	versions_set_wal(f.db.versions, NULL);
	wal_free(w);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

static uint64_t only_id(struct fixture *f, unsigned level, size_t at)
{
	struct version *v = versions_current(f->db.versions);
	uint64_t id = table_get_meta(v->level[level].tables[at])->id;

	version_unref(v);
	return id;
}

START_TEST(test_space_returns_when_the_last_reader_is_gone)
{
	struct version_edit edit = {.remove_count = 1};
	struct version *reader;
	struct fixture f;
	uint64_t full;
	uint64_t id;

	make_base(&f, 1);
	full = fixture_free_bytes(&f);
	reader = versions_current(f.db.versions);
	id = only_id(&f, 1, 0);
	edit.remove = &id;
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_uint_eq(fixture_free_bytes(&f), full);
	version_unref(reader);
	ck_assert_uint_gt(fixture_free_bytes(&f), full);
	ck_assert_uint_eq(fixture_read_all(&f), 400);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(fixture_read_all(&f), 400);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* Nothing leaks and nothing is freed twice: what is free after reopening was free before. */
START_TEST(test_free_space_is_the_same_after_reopening)
{
	struct test_rng rng = test_rng_seeded("free_space");
	struct fixture f;

	fixture_make(&f, rng.state);
	fixture_open(&f);
	for (unsigned i = 0; i < 40; i++) {
		uint64_t id;
		struct version_edit edit = {.remove = &id, .remove_count = 1};
		uint64_t before;

		ck_assert_int_eq(
			fixture_add_table(&f, 0, 0, 1 + (unsigned)test_rng_below(&rng, 900), i + 1),
			0);
		if (table_count(&f, 0) > 5) {
			id = only_id(&f, 0, test_rng_below(&rng, 5));
			ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
		}
		before = fixture_free_bytes(&f);
		fixture_close(&f);
		fixture_open(&f);
		ck_assert_uint_eq(fixture_free_bytes(&f), before);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_moved_table_keeps_its_bytes)
{
	struct fixture f;
	uint64_t id;
	uint32_t level = 4;
	struct version_edit edit = {.move = &id, .move_level = &level, .move_count = 1};
	uint64_t written;

	make_base(&f, 1);
	id = only_id(&f, 1, 1);
	written = fixture_free_bytes(&f);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_uint_eq(fixture_free_bytes(&f), written);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(table_count(&f, 1), 1);
	ck_assert_uint_eq(table_count(&f, 4), 1);
	ck_assert_uint_eq(only_id(&f, 4, 0), id);
	ck_assert_uint_eq(fixture_read_all(&f), 900);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_an_edit_that_makes_no_sense_is_refused)
{
	struct fixture f;
	uint64_t id = 4711;
	struct version_edit edit = {.remove = &id, .remove_count = 1};
	uint64_t generation;

	make_base(&f, 1);
	generation = fixture_generation(&f);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), -KV_E_INVALID);
	/* Overlaps with keys 0 to 499 of level 1. */
	ck_assert_int_eq(fixture_add_table(&f, 1, 400, 450, 9), -KV_E_CORRUPT);
	expect_unchanged(&f, fixture_free_bytes(&f), generation);
	ck_assert_int_eq(fixture_add_table(&f, 1, 900, 950, 9), 0);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_level_0_is_newest_first)
{
	struct fixture f;

	fixture_make(&f, 1);
	fixture_open(&f);
	for (kv_seq s = 1; s <= 4; s++)
		ck_assert_int_eq(fixture_add_table(&f, 0, 0, 10, s), 0);
	for (unsigned round = 0; round < 2; round++) {
		struct version *v = versions_current(f.db.versions);

		for (unsigned i = 0; i < 4; i++)
			ck_assert_uint_eq(table_get_meta(v->level[0].tables[i])->seq_max, 4 - i);
		version_unref(v);
		fixture_close(&f);
		fixture_open(&f);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_version_knows_which_keys_it_may_hold)
{
	uint8_t a[IKEY_MAX];
	uint8_t b[IKEY_MAX];
	struct version *v;
	struct fixture f;

	make_base(&f, 1); /* level 1: 0 to 899 */
	ck_assert_int_eq(fixture_add_table(&f, 0, 2000, 2010, 7), 0);
	v = versions_current(f.db.versions);
	ck_assert(version_overlaps(v, 0, fixture_key(2005, a), fixture_key(2005, b), false));
	ck_assert(!version_overlaps(v, 1, fixture_key(2005, a), fixture_key(2005, b), false));
	ck_assert(version_overlaps(v, 1, fixture_key(899, a), fixture_key(1000, b), true));
	ck_assert(!version_overlaps(v, 1, fixture_key(900, a), fixture_key(2005, b), true));
	ck_assert(!version_overlaps(v, 2, fixture_key(0, a), fixture_key(2005, b), true));
	ck_assert(!version_overlaps(v, 0, fixture_key(1000, a), fixture_key(2000, b), true));
	ck_assert(version_overlaps(v, 0, fixture_key(1000, a), fixture_key(2000, b), false));
	ck_assert(!version_overlaps(v, KV_LEVELS, fixture_key(0, a), fixture_key(2005, b), true));
	version_unref(v);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_claims_exclude_each_other)
{
	struct version_edit edit = {.last_seq = 9};
	struct version *v;
	struct fixture f;
	uint64_t ids[2];

	make_base(&f, 1);
	ids[0] = only_id(&f, 1, 0);
	ids[1] = only_id(&f, 1, 1);
	v = versions_current(f.db.versions);
	ck_assert_int_eq(versions_claim(f.db.versions, v, ids, 2), 0);
	ck_assert_int_eq(versions_claim(f.db.versions, v, ids + 1, 1), -KV_E_BUSY);
	versions_unclaim(f.db.versions, ids, 1, false);
	versions_unclaim(f.db.versions, ids + 1, 1, true);
	ck_assert_int_eq(versions_claim_of(f.db.versions, ids[0]), VERSION_UNCLAIMED);
	ck_assert_int_eq(versions_claim_of(f.db.versions, ids[1]), VERSION_DAMAGED);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_int_eq(versions_claim(f.db.versions, v, ids, 1), -KV_E_BUSY); /* not current */
	version_unref(v);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* A count that is wrong must never make a segment look dead. */
START_TEST(test_live_bytes_never_fall_below_nothing)
{
	struct segment_meta meta = {.id = 1, .used_bytes = 4096, .live_bytes = 100};
	struct segment *seg;
	struct segment_delta delta = {1, -101};
	struct version_edit edit = {.add_segments = &seg, .add_segment_count = 1};
	struct version_edit drop = {.deltas = &delta, .delta_count = 1};
	struct fixture f;

	make_base(&f, 1);
	meta.id = versions_new_segment_id(f.db.versions);
	delta.id = meta.id;
	ck_assert_int_eq(space_alloc(f.db.space, SPACE_VALUE, 4096, 4096, &meta.extent), 0);
	ck_assert_int_eq(segment_new(&meta, true, &seg), 0);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_int_eq(versions_apply(f.db.versions, &drop), 0);
	ck_assert_uint_eq(atomic_load(&seg->live_bytes), 100);
	delta.live_bytes = -100;
	ck_assert_int_eq(versions_apply(f.db.versions, &drop), 0);
	ck_assert_uint_eq(atomic_load(&seg->live_bytes), 0);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(f.loaded.manifest.segment_count, 1);
	ck_assert_uint_eq(f.loaded.manifest.segments[0].live_bytes, 0);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* Manifests whose owners claim the same space are refused at open. */
START_TEST(test_overlapping_extents_are_refused_at_open)
{
	struct versions_options vo;
	struct versions *vs;
	struct fixture f;
	struct space *space;
	struct space_options so;
	struct extent saved;

	make_base(&f, 1);
	fixture_close(&f);
	fixture_open(&f);
	so = (struct space_options){.volume = f.db.volume,
				    .size_max = f.loaded.sb.size_max,
				    .data_off = FORMAT_LOG_OFF + f.loaded.sb.log_size};
	ck_assert_int_eq(space_new(&so, &space), 0);
	vo = (struct versions_options){.volume = f.db.volume,
				       .space = space,
				       .checksum = f.loaded.checksum,
				       .sha256 = f.db.sha256,
				       .tables = &f.db.tables};
	saved = f.loaded.manifest.tables[0].extents[0];
	f.loaded.manifest.tables[0].extents[0] = f.loaded.manifest.tables[1].extents[0];
	ck_assert_int_eq(versions_open(&vo, &f.loaded.sb, &f.loaded.manifest, &vs), -KV_E_CORRUPT);
	f.loaded.manifest.tables[0].extents[0] = saved;
	space_free(space);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_an_edit_is_there_after_reopening,
		test_an_epoch_comes_with_its_fence_and_leaves_the_log_position,
		test_a_crash_leaves_the_old_state_or_the_new_one,
		test_repeated_crashes_never_lose_a_durable_edit,
		test_a_damaged_copy_is_written_first,
		test_without_space_nothing_happens,
		test_a_failed_write_or_sync_poisons_and_is_never_retried,
		test_the_log_is_poisoned_with_it_and_its_tail_moved_after_it,
		test_space_returns_when_the_last_reader_is_gone,
		test_free_space_is_the_same_after_reopening,
		test_a_moved_table_keeps_its_bytes,
		test_an_edit_that_makes_no_sense_is_refused,
		test_level_0_is_newest_first,
		test_a_version_knows_which_keys_it_may_hold,
		test_claims_exclude_each_other,
		test_live_bytes_never_fall_below_nothing,
		test_overlapping_extents_are_refused_at_open,
	};

	return test_suite_run("version", tests, sizeof(tests) / sizeof(tests[0]), 120);
}
