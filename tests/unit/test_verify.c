/* SPDX-License-Identifier: MIT */
/* kv_verify(): a sound volume is sound; every kind of damage is found, by its number. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"

#define PROBLEM_MAX 64U

struct found {
	unsigned count;
	enum kv_problem_id ids[PROBLEM_MAX];
};

static struct sim_env *host;

static void setup_closed(void)
{
	host = sample_volume_new(1, SAMPLE_CLOSED);
}

static void setup_killed(void)
{
	host = sample_volume_new(1, SAMPLE_KILLED);
}

static void teardown(void)
{
	sim_env_free(host);
}

static void note(void *ctx, const struct kv_problem *p)
{
	struct found *f = ctx;

	ck_assert(p->text && p->text[0]);
	ck_assert(!p->repaired);
	if (f->count < PROBLEM_MAX)
		f->ids[f->count] = p->id;
	f->count++;
}

static int verify(struct found *f, struct kv_verify_result *result)
{
	struct kv_verify_options o = {.found = note, .ctx = f, .env = sim_env_os(host)};
	int err;

	memset(f, 0, sizeof(*f));
	err = kv_verify(SAMPLE_NAME, &o, result);
	if (!err)
		ck_assert_uint_eq(result->problems, f->count);
	return err;
}

static bool has(const struct found *f, enum kv_problem_id id)
{
	for (unsigned i = 0; i < f->count && i < PROBLEM_MAX; i++) {
		if (f->ids[i] == id)
			return true;
	}
	return false;
}

static void expect(enum kv_problem_id id)
{
	struct kv_verify_result result;
	struct found f;

	ck_assert_int_eq(verify(&f, &result), 0);
	ck_assert_msg(has(&f, id), "problem %d was not found among %u", (int)id, f.count);
}

START_TEST(test_a_volume_closed_in_order_is_sound)
{
	struct kv_verify_result r;
	struct found f;

	ck_assert_int_eq(verify(&f, &r), 0);
	ck_assert_uint_eq(f.count, 0);
	ck_assert_uint_gt(r.tables, 1);
	ck_assert_uint_gt(r.pages, 5);
	ck_assert_uint_ge(r.entries, SAMPLE_KEYS);
	ck_assert_uint_ge(r.values, 10);
	ck_assert_uint_eq(r.log_frames, 0);
	ck_assert(!r.log_dirty);
}
END_TEST

START_TEST(test_a_volume_of_a_killed_process_is_sound)
{
	struct kv_verify_result r;
	struct found f;

	ck_assert_int_eq(verify(&f, &r), 0);
	ck_assert_uint_eq(f.count, 0);
	ck_assert_uint_ge(r.log_frames, 10);
	ck_assert(r.log_dirty);
}
END_TEST

START_TEST(test_it_writes_nothing)
{
	uint64_t before = sim_env_calls(host, SIM_OP_CHANGE);
	struct kv_verify_result r;
	struct found f;

	ck_assert_int_eq(verify(&f, &r), 0);
	ck_assert_uint_eq(sim_env_calls(host, SIM_OP_CHANGE), before);
}
END_TEST

static bool covers(struct extent e, uint64_t off)
{
	return off >= e.off && off < e.off + e.len;
}

/* Does anything refer to the byte? The log is not looked at after a clean close. */
static bool is_in_use(const struct manifest_loaded *l, uint64_t off)
{
	for (uint32_t i = 0; i < l->sb.manifest_extent_count; i++) {
		if (covers(l->sb.manifest_extents[i], off))
			return true;
	}
	for (size_t t = 0; t < l->manifest.table_count; t++) {
		for (uint32_t i = 0; i < l->manifest.tables[t].extent_count; i++) {
			if (covers(l->manifest.tables[t].extents[i], off))
				return true;
		}
	}
	for (size_t s = 0; s < l->manifest.segment_count; s++) {
		const struct segment_meta *m = &l->manifest.segments[s];

		if (covers((struct extent){m->extent.off, m->used_bytes}, off))
			return true;
	}
	return off < FORMAT_LOG_OFF && off % SUPERBLOCK_STRIDE < FORMAT_BLOCK;
}

/* Each flipped bit is found, or else every key still reads as it was. */
START_TEST(test_any_flipped_bit_is_found_or_harmless)
{
	uint64_t size = sim_env_size(host, SAMPLE_NAME);
	unsigned found = 0, unused = 0;
	struct manifest_loaded loaded;
	struct kv_verify_result r;
	struct found f;

	sample_load_manifest(host, &loaded);
	for (uint64_t off = 0; off < size; off += 997) {
		unsigned wrong, missing;

		/* Where nothing is stored a few samples do. */
		if (!is_in_use(&loaded, off) && unused++ % 512)
			continue;
		sim_env_flip(host, SAMPLE_NAME, off, (unsigned)(off % 8));
		if (verify(&f, &r) || f.count) {
			found++;
		} else {
			ck_assert_int_eq(
				sample_compare(host, SAMPLE_CLOSED, NULL, NULL, &wrong, &missing),
				0);
			ck_assert_uint_eq(wrong + missing, 0);
		}
		sim_env_flip(host, SAMPLE_NAME, off, (unsigned)(off % 8));
	}
	manifest_loaded_fini(&loaded);
	ck_assert_uint_gt(found, 100);
}
END_TEST

START_TEST(test_each_damaged_superblock_copy_is_found)
{
	for (unsigned copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
		for (unsigned off = 0; off < FORMAT_BLOCK; off += 89) {
			uint64_t at = copy * SUPERBLOCK_STRIDE + off;

			sim_env_flip(host, SAMPLE_NAME, at, off % 8);
			expect(KV_PROBLEM_SUPERBLOCK_COPY);
			sim_env_flip(host, SAMPLE_NAME, at, off % 8);
		}
	}
}
END_TEST

/* What follows is checked by the copy of the superblock. */
START_TEST(test_two_damaged_superblock_copies_are_no_superblock)
{
	struct kv_verify_result r;
	struct found f;

	sim_env_flip(host, SAMPLE_NAME, 100, 0);
	sim_env_flip(host, SAMPLE_NAME, SUPERBLOCK_STRIDE + 100, 0);
	ck_assert_int_eq(verify(&f, &r), 0);
	ck_assert_uint_eq(f.count, 1);
	ck_assert_int_eq((int)f.ids[0], KV_PROBLEM_SUPERBLOCK_NONE);
	ck_assert_uint_gt(r.tables, 0);
	/* Without even the magic, and without copies, it is no volume. */
	sim_env_flip(host, SAMPLE_NAME, 0, 0);
	sim_env_flip(host, SAMPLE_NAME, SUPERBLOCK_STRIDE, 0);
	sim_env_flip(host, SAMPLE_NAME, MANIFEST_COPY_OFF, 0);
	sim_env_flip(host, SAMPLE_NAME, SUPERBLOCK_STRIDE + MANIFEST_COPY_OFF, 0);
	ck_assert_int_eq(verify(&f, &r), -KV_E_NOT_A_VOLUME);
}
END_TEST

START_TEST(test_a_copy_one_generation_behind_is_no_problem_but_two_are)
{
	struct manifest_loaded loaded;
	struct superblock_disk raw;
	struct kv_verify_result r;
	struct checksum *sha256;
	struct superblock sb;
	struct found f;

	sample_load_manifest(host, &loaded);
	sb = loaded.sb;
	manifest_loaded_fini(&loaded);
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &sha256), 0);
	for (unsigned behind = 1; behind <= 2; behind++) {
		sb.generation--;
		ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), 0);
		sim_env_poke(host, SAMPLE_NAME, 0, &raw, sizeof(raw));
		ck_assert_int_eq(verify(&f, &r), 0);
		ck_assert_uint_eq(f.count, behind - 1);
	}
	ck_assert_int_eq((int)f.ids[0], KV_PROBLEM_SUPERBLOCK_STALE);
	checksum_free(sha256);
}
END_TEST

START_TEST(test_a_damaged_manifest_is_found)
{
	struct manifest_loaded loaded;
	uint64_t off, len, copy;

	sample_load_manifest(host, &loaded);
	off = loaded.sb.manifest_extents[0].off;
	len = loaded.sb.manifest_len;
	copy = MANIFEST_COPY_OFF + loaded.sb.generation % 2 * SUPERBLOCK_STRIDE + FORMAT_BLOCK;
	manifest_loaded_fini(&loaded);
	for (uint64_t i = 0; i < len; i += 17) {
		sim_env_flip(host, SAMPLE_NAME, off + i, (unsigned)(i % 8));
		expect(KV_PROBLEM_MANIFEST_COPY);
		sim_env_flip(host, SAMPLE_NAME, copy + len - 1 - i, 3);
		expect(KV_PROBLEM_MANIFEST);
		sim_env_flip(host, SAMPLE_NAME, copy + len - 1 - i, 3);
		sim_env_flip(host, SAMPLE_NAME, off + i, (unsigned)(i % 8));
	}
}
END_TEST

START_TEST(test_a_damaged_page_and_value_are_found)
{
	struct manifest_loaded loaded;
	const struct table_meta *m;

	sample_load_manifest(host, &loaded);
	for (size_t t = 0; t < loaded.manifest.table_count; t++) {
		m = &loaded.manifest.tables[t];
		sim_env_flip(host, SAMPLE_NAME, m->extents[0].off + 3, 1);
		expect(KV_PROBLEM_TABLE_PAGE);
		sim_env_flip(host, SAMPLE_NAME, m->extents[0].off + 3, 1);
	}
	ck_assert_uint_ge(loaded.manifest.segment_count, 1);
	sim_env_flip(host, SAMPLE_NAME, loaded.manifest.segments[0].extent.off + 9, 1);
	expect(KV_PROBLEM_VALUE);
	manifest_loaded_fini(&loaded);
}
END_TEST

static int stop(void *ctx, uint64_t done, uint64_t total)
{
	(void)ctx;
	ck_assert_uint_le(done, total);
	return 1;
}

START_TEST(test_it_can_be_interrupted)
{
	struct kv_progress progress = {stop, NULL};
	struct kv_verify_options o = {.progress = &progress, .env = sim_env_os(host)};
	struct kv_verify_result r;

	ck_assert_int_eq(kv_verify(SAMPLE_NAME, &o, &r), -KV_E_INTERRUPTED);
}
END_TEST

START_TEST(test_a_volume_in_use_is_refused)
{
	struct kv_options open = {.env = sim_env_os(host)};
	struct kv_verify_result r;
	struct kv_db *db;
	struct found f;

	ck_assert_int_eq(kv_open(SAMPLE_NAME, &open, &db), 0);
	ck_assert_int_eq(verify(&f, &r), -KV_E_IN_USE);
	ck_assert_int_eq(kv_close(db), 0);
	ck_assert_int_eq(kv_verify("absent", NULL, &r), -ENOENT);
}
END_TEST

/* ---- relations that no checksum covers ------------------------------------------ */

static void edit_entries(void *ctx, struct os_volume *volume, struct checksum *c,
			 struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	m->tables[0].entry_count++;
}

static void edit_live(void *ctx, struct os_volume *volume, struct checksum *c, struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	m->segments[0].live_bytes--;
}

static void edit_used(void *ctx, struct os_volume *volume, struct checksum *c, struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	m->segments[0].used_bytes = 1;
	m->segments[0].live_bytes = 1;
}

static void edit_overlap(void *ctx, struct os_volume *volume, struct checksum *c,
			 struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	/* The table's place may be the last of the volume, and the segment longer. */
	m->tables[0].extents[0].off = m->segments[0].extent.off;
}

static void edit_bounds(void *ctx, struct os_volume *volume, struct checksum *c, struct manifest *m)
{
	(void)ctx;
	(void)volume;
	(void)c;
	m->segments[0].extent.off = 1ULL << 40;
}

/* An empty filter with a right checksum. */
static void edit_filter(void *ctx, struct os_volume *volume, struct checksum *c, struct manifest *m)
{
	uint8_t page[128] = {PAGE_FILTER, 4, 0, 0, 1};
	struct kv_slice part = kv_slice_of(page, sizeof(page));
	struct page_ref *ref = &m->tables[0].filter;

	(void)ctx;
	ck_assert_uint_gt(ref->stored_len, 0);
	ck_assert_uint_le(ref->off + ref->stored_len, m->tables[0].extents[0].len);
	ck_assert_int_eq(
		os_volume_write(volume, m->tables[0].extents[0].off + ref->off, page, 128, 0), 0);
	ref->stored_len = ref->raw_len = 128;
	ck_assert_int_eq(checksum_compute(c, &part, 1, ref->sum), 0);
}

START_TEST(test_wrong_relations_are_found)
{
	static const struct {
		void (*edit)(void *ctx, struct os_volume *volume, struct checksum *c,
			     struct manifest *m);
		enum kv_problem_id id;
	} rows[] = {
		{edit_entries, KV_PROBLEM_TABLE_PROPS},	 {edit_live, KV_PROBLEM_SEGMENT_COUNT},
		{edit_used, KV_PROBLEM_VALUE_DANGLING},	 {edit_overlap, KV_PROBLEM_EXTENT_OVERLAP},
		{edit_bounds, KV_PROBLEM_EXTENT_BOUNDS}, {edit_filter, KV_PROBLEM_TABLE_FILTER},
	};
	struct sim_env *whole = host;

	for (size_t i = 0; i < KV_ARRAY_COUNT(rows); i++) {
		host = sim_env_clone(whole, i);
		sample_edit_manifest(host, rows[i].edit, NULL);
		expect(rows[i].id);
		sim_env_free(host);
	}
	host = whole;
}
END_TEST

/* ---- the log ------------------------------------------------------------------------ */

START_TEST(test_a_hole_in_the_log_is_found)
{
	struct manifest_loaded loaded;
	uint64_t off;

	sample_load_manifest(host, &loaded);
	off = FORMAT_LOG_OFF + loaded.manifest.log_lsn % loaded.sb.log_size;
	manifest_loaded_fini(&loaded);
	off = align_up_u64(off, FORMAT_BLOCK) + sizeof(struct log_frame_header);
	sim_env_flip(host, SAMPLE_NAME, off, 2);
	expect(KV_PROBLEM_LOG_HOLE);
}
END_TEST

/* ---- any bytes ------------------------------------------------------------------------ */

START_TEST(test_any_garbage_is_answered)
{
	struct sim_env *whole = host;
	uint64_t size = sim_env_size(host, SAMPLE_NAME);
	uint64_t x = 12345;

	for (unsigned round = 0; round < 200; round++) {
		struct kv_verify_result r;
		uint8_t junk[700];
		struct found f;

		host = sim_env_clone(whole, round);
		for (unsigned n = 0; n < 1 + round % 8; n++) {
			for (size_t i = 0; i < sizeof(junk); i++) {
				x = x * 6364136223846793005U + 1442695040888963407U;
				junk[i] = round % 3 ? (uint8_t)(x >> 56) : 0xff;
			}
			sim_env_poke(host, SAMPLE_NAME, (x >> 16) % (size - sizeof(junk)), junk,
				     1 + (x >> 8) % sizeof(junk));
		}
		if (verify(&f, &r))
			ck_assert_uint_eq(f.count, 0);
		sim_env_free(host);
	}
	host = whole;
}
END_TEST

static Suite *verify_suite(void)
{
	Suite *s = suite_create("verify");
	TCase *closed = tcase_create("closed");
	TCase *killed = tcase_create("killed");

	tcase_set_timeout(closed, 240);
	tcase_add_checked_fixture(closed, setup_closed, teardown);
	tcase_add_test(closed, test_a_volume_closed_in_order_is_sound);
	tcase_add_test(closed, test_it_writes_nothing);
	tcase_add_test(closed, test_any_flipped_bit_is_found_or_harmless);
	tcase_add_test(closed, test_each_damaged_superblock_copy_is_found);
	tcase_add_test(closed, test_two_damaged_superblock_copies_are_no_superblock);
	tcase_add_test(closed, test_a_copy_one_generation_behind_is_no_problem_but_two_are);
	tcase_add_test(closed, test_a_damaged_manifest_is_found);
	tcase_add_test(closed, test_a_damaged_page_and_value_are_found);
	tcase_add_test(closed, test_it_can_be_interrupted);
	tcase_add_test(closed, test_a_volume_in_use_is_refused);
	tcase_add_test(closed, test_wrong_relations_are_found);
	tcase_add_test(closed, test_any_garbage_is_answered);
	suite_add_tcase(s, closed);

	tcase_set_timeout(killed, 60);
	tcase_add_checked_fixture(killed, setup_killed, teardown);
	tcase_add_test(killed, test_a_volume_of_a_killed_process_is_sound);
	tcase_add_test(killed, test_it_writes_nothing);
	tcase_add_test(killed, test_a_hole_in_the_log_is_found);
	suite_add_tcase(s, killed);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(verify_suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
