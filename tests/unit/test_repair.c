/* SPDX-License-Identifier: MIT */
/*
 * kv_repair(): what it says is repaired is sound afterwards, what is lost lies in the
 * ranges it reported, and an interruption leaves the volume as it was.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"

/* Key ranges that a repair reported. */
struct losses {
	struct kv_buf from[512], to[512];
	unsigned count;
	unsigned problems, repaired;
};

static struct sim_env *whole;

static void setup(void)
{
	whole = sample_volume_new(3, SAMPLE_CLOSED);
}

static void teardown(void)
{
	sim_env_free(whole);
}

static void note(void *ctx, const struct kv_problem *p)
{
	struct losses *l = ctx;

	l->problems++;
	l->repaired += p->repaired;
	if (p->keyspace != SAMPLE_KEYSPACE)
		return;
	ck_assert_uint_lt(l->count, 512);
	ck_assert_int_eq(buf_assign(&l->from[l->count], p->from), 0);
	ck_assert_int_eq(buf_assign(&l->to[l->count], p->to), 0);
	l->count++;
}

static void losses_clear(struct losses *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		kv_buf_free(&l->from[i]);
		kv_buf_free(&l->to[i]);
	}
	memset(l, 0, sizeof(*l));
}

static bool is_reported(void *ctx, struct kv_slice key)
{
	const struct losses *l = ctx;

	for (unsigned i = 0; i < l->count; i++) {
		if (slice_compare(key, kv_buf_slice(&l->from[i])) >= 0 &&
		    (!l->to[i].len || slice_compare(key, kv_buf_slice(&l->to[i])) <= 0))
			return true;
	}
	return false;
}

static int repair(struct sim_env *e, struct losses *l, struct kv_verify_result *r)
{
	struct kv_verify_options o = {.found = note, .ctx = l, .env = sim_env_os(e)};

	memset(l, 0, sizeof(*l));
	return kv_repair(SAMPLE_NAME, &o, r);
}

static uint64_t problems(struct sim_env *e)
{
	struct kv_verify_options o = {.env = sim_env_os(e)};
	struct kv_verify_result r;

	ck_assert_int_eq(kv_verify(SAMPLE_NAME, &o, &r), 0);
	return r.problems;
}

/* Repair, and hold it to all it said. Returns whether something was damaged. */
static bool check_repair(struct sim_env *e)
{
	struct losses l;
	struct kv_verify_result r;
	unsigned wrong, missing;
	unsigned found;

	ck_assert_int_eq(repair(e, &l, &r), 0);
	found = l.problems;
	ck_assert_uint_eq(r.problems, l.problems);
	ck_assert_uint_eq(r.repaired, l.repaired);
	ck_assert_uint_eq(l.problems, l.repaired);
	ck_assert_uint_eq(problems(e), 0);
	ck_assert_int_eq(sample_compare(e, SAMPLE_CLOSED, is_reported, &l, &wrong, &missing), 0);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(missing, 0);
	losses_clear(&l);
	/* Run again it finds nothing to do. */
	ck_assert_int_eq(repair(e, &l, &r), 0);
	ck_assert_uint_eq(l.problems, 0);
	losses_clear(&l);
	return found > 0;
}

START_TEST(test_a_sound_volume_is_left_alone)
{
	uint64_t before = sim_env_calls(whole, SIM_OP_CHANGE);
	struct losses l;
	struct kv_verify_result r;

	ck_assert_int_eq(repair(whole, &l, &r), 0);
	ck_assert_uint_eq(l.problems, 0);
	/* At most the superblock copy that was a generation behind. */
	ck_assert_uint_le(sim_env_calls(whole, SIM_OP_CHANGE), before + 2);
}
END_TEST

START_TEST(test_any_damaged_page_is_cut_out)
{
	struct manifest_loaded loaded;
	unsigned damaged = 0;

	sample_load_manifest(whole, &loaded);
	for (size_t t = 0; t < loaded.manifest.table_count; t++) {
		const struct table_meta *m = &loaded.manifest.tables[t];

		for (uint64_t off = 1; off < m->extents[0].len; off += 1777) {
			struct sim_env *e = sim_env_clone(whole, off);

			sim_env_flip(e, SAMPLE_NAME, m->extents[0].off + off, 5);
			damaged += check_repair(e);
			sim_env_free(e);
		}
	}
	manifest_loaded_fini(&loaded);
	ck_assert_uint_gt(damaged, 20);
}
END_TEST

START_TEST(test_the_key_of_a_damaged_value_is_dropped_not_reverted)
{
	struct manifest_loaded loaded;
	unsigned wrong, missing;
	unsigned damaged = 0;

	sample_load_manifest(whole, &loaded);
	for (size_t s = 0; s < loaded.manifest.segment_count; s++) {
		const struct segment_meta *m = &loaded.manifest.segments[s];

		for (uint64_t off = 1; off < m->used_bytes; off += 4001) {
			struct sim_env *e = sim_env_clone(whole, off);

			sim_env_flip(e, SAMPLE_NAME, m->extent.off + off, 5);
			damaged += check_repair(e);
			/* Nor does an older value of the key come back. */
			ck_assert_int_eq(
				sample_compare(e, SAMPLE_CLOSED, NULL, NULL, &wrong, &missing), 0);
			ck_assert_uint_eq(wrong, 0);
			ck_assert_uint_le(missing, 2);
			sim_env_free(e);
		}
	}
	manifest_loaded_fini(&loaded);
	ck_assert_uint_gt(damaged, 5);
}
END_TEST

START_TEST(test_a_damaged_superblock_copy_is_restored)
{
	for (unsigned copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
		struct sim_env *e = sim_env_clone(whole, copy);

		sim_env_flip(e, SAMPLE_NAME, copy * SUPERBLOCK_STRIDE + 77, 3);
		ck_assert(check_repair(e));
		/* Now the other one may go. */
		sim_env_flip(e, SAMPLE_NAME, (1 - copy) * SUPERBLOCK_STRIDE + 77, 3);
		ck_assert(check_repair(e));
		sim_env_free(e);
	}
}
END_TEST

static void edit_counts(void *ctx, struct os_volume *volume, struct checksum *c, struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	m->tables[0].entry_count++;
	m->segments[0].live_bytes--;
}

START_TEST(test_wrong_counts_are_corrected)
{
	sample_edit_manifest(whole, edit_counts, NULL);
	ck_assert_uint_ge(problems(whole), 1);
	ck_assert(check_repair(whole));
}
END_TEST

/* ---- the log ------------------------------------------------------------------------ */

/* Keys that the log has newer values of. */
static bool is_of_the_log(void *ctx, struct kv_slice key)
{
	(void)ctx;
	for (unsigned i = 49; i < SAMPLE_KEYS; i += 50) {
		char name[16];

		if (slice_equal(key, kv_slice_of(name, sample_key(i, name))))
			return true;
	}
	return false;
}

START_TEST(test_a_log_with_a_hole_is_cut_there)
{
	struct sim_env *e = sample_volume_new(2, SAMPLE_KILLED);
	struct manifest_loaded loaded;
	struct kv_verify_result r;
	struct losses l;
	unsigned wrong, missing;
	uint64_t off;

	sample_load_manifest(e, &loaded);
	off = FORMAT_LOG_OFF + loaded.manifest.log_lsn % loaded.sb.log_size;
	manifest_loaded_fini(&loaded);
	sim_env_flip(e, SAMPLE_NAME, align_up_u64(off, FORMAT_BLOCK) + 100, 3);
	/* It cannot be opened as it is. */
	ck_assert_int_eq(sample_compare(e, SAMPLE_KILLED, is_of_the_log, NULL, &wrong, &missing),
			 -KV_E_CORRUPT);
	ck_assert_int_eq(repair(e, &l, &r), 0);
	ck_assert_uint_gt(l.problems, 10); /* the keys are named */
	ck_assert_uint_eq(l.repaired, l.problems);
	losses_clear(&l);
	ck_assert_uint_eq(problems(e), 0);
	ck_assert_int_eq(sample_compare(e, SAMPLE_KILLED, is_of_the_log, NULL, &wrong, &missing),
			 0);
	ck_assert_uint_eq(wrong + missing, 0);
	sim_env_free(e);
}
END_TEST

#define CUT_KEYS 200U

/* Keys of a database of its own that are there: the first so many, and no other. */
static unsigned keys_there(struct sim_env *e)
{
	const struct kv_options o = {.env = sim_env_os(e)};
	unsigned count = 0;
	struct kv_db *db;
	char key[16];

	ck_assert_int_eq(kv_open("cut", &o, &db), 0);
	for (unsigned i = 0; i < CUT_KEYS; i++) {
		snprintf(key, sizeof(key), "%04u", i);
		if (kv_get(db, 1, kv_slice_of(key, 4), NULL))
			continue;
		ck_assert_uint_eq(count, i);
		count++;
	}
	ck_assert_int_eq(kv_close(db), 0);
	return count;
}

START_TEST(test_what_stands_before_a_hole_of_the_log_stays)
{
	struct sim_env *e = sim_env_new(7);
	const struct kv_create_options c = {.env = sim_env_os(e), .log_size_bytes = 4U << 20};
	const struct kv_options o = {.env = c.env};
	const struct kv_verify_options v = {.env = c.env};
	struct kv_verify_result r;
	struct kv_db_info info;
	struct kv_db *db;
	uint8_t value[1000] = {1};
	unsigned left;
	char key[16];

	ck_assert_int_eq(kv_create("cut", &c), 0);
	ck_assert_int_eq(kv_open("cut", &o, &db), 0);
	for (unsigned i = 0; i < CUT_KEYS; i++) {
		snprintf(key, sizeof(key), "%04u", i);
		ck_assert_int_eq(kv_put(db, 1, kv_slice_of(key, 4),
					kv_slice_of(value, sizeof(value)), KV_COMMIT_SYNC),
				 0);
	}
	sim_env_crash(e, SIM_CRASH_KILL);
	(void)!kv_close(db);
	ck_assert_int_eq(kv_probe("cut", c.env, &info), 0);
	ck_assert_uint_gt(info.log_used, CUT_KEYS * sizeof(value));
	sim_env_flip(e, "cut", align_up_u64(FORMAT_LOG_OFF + info.log_used / 2, FORMAT_BLOCK) + 100,
		     3);
	ck_assert_int_eq(kv_repair("cut", &v, &r), 0);
	left = keys_there(e);
	ck_assert_uint_gt(left, CUT_KEYS / 4);
	ck_assert_uint_lt(left, CUT_KEYS * 3 / 4);
	ck_assert_uint_eq(keys_there(e), left); /* also when opened again */
	ck_assert_int_eq(kv_verify("cut", &v, &r), 0);
	ck_assert_uint_eq(r.problems, 0);
	sim_env_free(e);
}
END_TEST

START_TEST(test_a_damaged_value_that_only_the_log_refers_to_is_mended)
{
	struct sim_env *e = sample_volume_new(2, SAMPLE_KILLED);
	struct manifest_loaded loaded;
	const struct segment_meta *m;
	struct kv_verify_result r;
	struct losses l;
	unsigned wrong, missing;

	sample_load_manifest(e, &loaded);
	m = &loaded.manifest.segments[loaded.manifest.segment_count - 1];
	sim_env_flip(e, SAMPLE_NAME, m->extent.off + align_up_u64(m->used_bytes, FORMAT_BLOCK) + 10,
		     3);
	manifest_loaded_fini(&loaded);
	ck_assert_uint_eq(problems(e), 1);
	ck_assert_int_eq(repair(e, &l, &r), 0);
	ck_assert_uint_eq(l.problems, 1);
	ck_assert_uint_eq(l.repaired, 1);
	losses_clear(&l);
	ck_assert_uint_eq(problems(e), 0);
	ck_assert_int_eq(sample_compare(e, SAMPLE_KILLED, NULL, NULL, &wrong, &missing), 0);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(missing, 1);
	sim_env_free(e);
}
END_TEST

START_TEST(test_what_cannot_be_mended_is_said_and_left)
{
	struct manifest_loaded loaded;
	struct kv_verify_result r;
	struct losses l;

	sample_load_manifest(whole, &loaded);
	sim_env_flip(whole, SAMPLE_NAME, loaded.sb.manifest_extents[0].off, 0);
	sim_env_flip(
		whole, SAMPLE_NAME,
		MANIFEST_COPY_OFF + loaded.sb.generation % 2 * SUPERBLOCK_STRIDE + FORMAT_BLOCK, 0);
	manifest_loaded_fini(&loaded);
	ck_assert_int_eq(repair(whole, &l, &r), 0);
	ck_assert_uint_eq(l.problems, 1);
	ck_assert_uint_eq(l.repaired, 0);
	ck_assert_uint_eq(problems(whole), 1);
	losses_clear(&l);
}
END_TEST

/* Two pages, a value and a superblock copy. */
static void damage_much(struct sim_env *e)
{
	struct manifest_loaded loaded;
	const struct manifest *m = &loaded.manifest;
	uint64_t second = 10;

	sample_load_manifest(e, &loaded);
	/* Two pages, also if all has been compacted into one table meanwhile. */
	if (m->table_count == 1)
		second += m->tables[0].stored_bytes / 2;
	sim_env_flip(e, SAMPLE_NAME, m->tables[0].extents[0].off + 10, 1);
	sim_env_flip(e, SAMPLE_NAME, m->tables[m->table_count - 1].extents[0].off + second, 1);
	sim_env_flip(e, SAMPLE_NAME, m->segments[0].extent.off + 10, 1);
	sim_env_flip(e, SAMPLE_NAME, 10, 1);
	manifest_loaded_fini(&loaded);
}

START_TEST(test_power_loss_leaves_the_old_state_or_the_new)
{
	enum sim_crash modes[] = {SIM_CRASH_DROP, SIM_CRASH_MIX, SIM_CRASH_GARBAGE};
	unsigned old = 0, mended = 0;
	uint64_t before;

	damage_much(whole);
	before = problems(whole);
	ck_assert_uint_ge(before, 3); /* a compaction may have left the value dead */
	for (size_t mode = 0; mode < KV_ARRAY_COUNT(modes); mode++) {
		for (unsigned nth = 1;; nth++) {
			struct sim_env *e = sim_env_clone(whole, nth);
			struct kv_verify_result r;
			uint64_t after;
			struct losses l;
			int err;

			sim_env_cut(e, nth);
			err = repair(e, &l, &r);
			losses_clear(&l);
			sim_env_crash(e, modes[mode]);
			after = problems(e);
			old += after + 1 >= before; /* the superblock copy may be mended */
			mended += after <= 1;
			ck_assert(after + 1 >= before || after <= 1);
			/* Whatever it left can be repaired again. */
			if (after)
				ck_assert_int_eq(repair(e, &l, &r), 0);
			losses_clear(&l);
			ck_assert_uint_eq(problems(e), 0);
			sim_env_free(e);
			if (!err)
				break;
			ck_assert_uint_lt(nth, 500);
		}
	}
	ck_assert_uint_gt(old, 5);
	ck_assert_uint_gt(mended, 2);
}
END_TEST

START_TEST(test_a_failing_write_leaves_the_old_state_or_the_new)
{
	uint64_t before;

	damage_much(whole);
	before = problems(whole);
	for (unsigned nth = 1;; nth++) {
		struct sim_env *e = sim_env_clone(whole, nth);
		struct kv_verify_result r;
		uint64_t after;
		struct losses l;
		int err;

		sim_env_fail(e, SIM_OP_CHANGE, nth, false, -EIO);
		err = repair(e, &l, &r);
		losses_clear(&l);
		sim_env_crash(e, SIM_CRASH_KILL);
		after = problems(e);
		ck_assert(after + 1 >= before || after <= 1);
		sim_env_free(e);
		if (!err)
			break;
		ck_assert_uint_lt(nth, 500);
	}
}
END_TEST

static int stop_late(void *ctx, uint64_t done, uint64_t total)
{
	unsigned *left = ctx;

	(void)done;
	(void)total;
	return !(*left)--;
}

/* One that succeeds has reported all that is gone then; one that fails has lost nothing. */
static bool repair_under_read_error(uint64_t nth, bool for_good)
{
	struct sim_env *e = sim_env_clone(whole, nth);
	struct losses l;
	const struct kv_verify_options again = {.found = note, .ctx = &l, .env = sim_env_os(e)};
	struct kv_verify_result r;
	unsigned wrong, missing;
	bool struck;
	int err;

	sim_env_fail(e, SIM_OP_READ, nth, for_good, -EIO);
	err = repair(e, &l, &r);
	struck = sim_env_calls(e, SIM_OP_READ) >= nth;
	sim_env_heal(e);
	if (err)
		losses_clear(&l);
	/* Left over may be a value that only a page refers to which could not be read at first. */
	if (problems(e))
		ck_assert_int_eq(kv_repair(SAMPLE_NAME, &again, &r), 0);
	ck_assert_uint_eq(problems(e), 0);
	ck_assert_int_eq(sample_compare(e, SAMPLE_CLOSED, is_reported, &l, &wrong, &missing), 0);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(missing, 0);
	losses_clear(&l);
	sim_env_free(e);
	return struck;
}

START_TEST(test_a_page_that_cannot_be_read_is_reported_or_ends_the_repair)
{
	damage_much(whole);
	for (unsigned for_good = 0; for_good < 2; for_good++) {
		uint64_t nth = 1;

		while (repair_under_read_error(nth, for_good))
			nth++;
		ck_assert_uint_gt(nth, 50);
	}
}
END_TEST

START_TEST(test_an_interruption_changes_nothing)
{
	uint64_t before;

	damage_much(whole);
	before = problems(whole);
	for (unsigned calls = 0; calls < 3; calls++) {
		struct sim_env *e = sim_env_clone(whole, calls);
		unsigned left = calls;
		struct kv_progress progress = {stop_late, &left};
		struct kv_verify_options o = {.progress = &progress, .env = sim_env_os(e)};
		struct kv_verify_result r;
		int err = kv_repair(SAMPLE_NAME, &o, &r);

		ck_assert(!err || err == -KV_E_INTERRUPTED);
		if (err)
			ck_assert_uint_ge(problems(e) + 1, before);
		sim_env_free(e);
	}
}
END_TEST

START_TEST(test_a_full_volume_is_reported)
{
	struct kv_verify_result r;
	struct losses l;

	damage_much(whole);
	sim_env_limit(whole, sim_env_size(whole, SAMPLE_NAME));
	/* There may be room for it in the gaps; if not, it says so and leaves it. */
	if (repair(whole, &l, &r))
		ck_assert_uint_ge(problems(whole), 3);
	losses_clear(&l);
}
END_TEST

START_TEST(test_the_log_is_still_replayed_afterwards)
{
	struct sim_env *e = sample_volume_new(5, SAMPLE_KILLED);
	struct manifest_loaded loaded;
	unsigned wrong, missing;
	struct kv_verify_result r;
	struct losses l;

	sample_load_manifest(e, &loaded);
	sim_env_flip(e, SAMPLE_NAME, loaded.manifest.tables[0].extents[0].off + 10, 1);
	manifest_loaded_fini(&loaded);
	ck_assert_int_eq(repair(e, &l, &r), 0);
	ck_assert_uint_ge(l.problems, 1);
	ck_assert_uint_eq(l.problems, l.repaired);
	ck_assert(r.log_dirty);
	ck_assert_uint_eq(problems(e), 0);
	ck_assert_int_eq(sample_compare(e, SAMPLE_KILLED, is_reported, &l, &wrong, &missing), 0);
	ck_assert_uint_eq(wrong + missing, 0);
	losses_clear(&l);
	sim_env_free(e);
}
END_TEST

static Suite *repair_suite(void)
{
	Suite *s = suite_create("repair");
	TCase *c = tcase_create("repair");

	tcase_set_timeout(c, 240);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_a_sound_volume_is_left_alone);
	tcase_add_test(c, test_any_damaged_page_is_cut_out);
	tcase_add_test(c, test_the_key_of_a_damaged_value_is_dropped_not_reverted);
	tcase_add_test(c, test_a_damaged_superblock_copy_is_restored);
	tcase_add_test(c, test_wrong_counts_are_corrected);
	tcase_add_test(c, test_a_log_with_a_hole_is_cut_there);
	tcase_add_test(c, test_what_stands_before_a_hole_of_the_log_stays);
	tcase_add_test(c, test_a_damaged_value_that_only_the_log_refers_to_is_mended);
	tcase_add_test(c, test_what_cannot_be_mended_is_said_and_left);
	tcase_add_test(c, test_power_loss_leaves_the_old_state_or_the_new);
	tcase_add_test(c, test_a_failing_write_leaves_the_old_state_or_the_new);
	tcase_add_test(c, test_a_page_that_cannot_be_read_is_reported_or_ends_the_repair);
	tcase_add_test(c, test_an_interruption_changes_nothing);
	tcase_add_test(c, test_a_full_volume_is_reported);
	tcase_add_test(c, test_the_log_is_still_replayed_afterwards);
	suite_add_tcase(s, c);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(repair_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
