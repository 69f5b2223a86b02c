/* SPDX-License-Identifier: MIT */
/*
 * Superblock copies and manifest as bytes on the volume: any flip in one copy is
 * survived, any flip in the manifest is found, and the newest whole copy wins.
 */
#include "kvcore/engine/manifest_store.h"

#include "tests/support/engine_fixture.h"

/* A volume with two tables; its handles are closed. */
static void make_volume(struct fixture *f)
{
	fixture_make(f, 1);
	fixture_open(f);
	ck_assert_int_eq(fixture_add_table(f, 1, 0, 50, 5), 0);
	ck_assert_int_eq(fixture_add_table(f, 1, 50, 90, 6), 0);
	ck_assert_int_eq(os_volume_sync(f->db.volume), 0);
}

static int load(struct fixture *f, struct manifest_loaded *out)
{
	return manifest_store_load(f->db.volume, f->db.sha256, out);
}

static uint64_t copy_off(unsigned copy)
{
	return (uint64_t)copy * SUPERBLOCK_STRIDE;
}

START_TEST(test_any_flip_in_one_copy_is_survived)
{
	struct manifest_loaded m;
	struct fixture f;

	make_volume(&f);
	for (unsigned copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
		for (unsigned bit = 0; bit < 8 * FORMAT_BLOCK; bit += bit < 4096 ? 1 : 13) {
			sim_env_flip(f.env, FIXTURE_NAME, copy_off(copy) + bit / 8, bit % 8);
			ck_assert_int_eq(load(&f, &m), 0);
			ck_assert_int_ne(m.copy_err[copy], 0);
			ck_assert_int_eq(m.copy_err[1 - copy], 0);
			ck_assert_uint_eq(m.copy_used, 1 - copy);
			ck_assert_uint_eq(m.sb.generation, 3);
			ck_assert_uint_eq(m.manifest.table_count, 2);
			manifest_loaded_fini(&m);
			sim_env_flip(f.env, FIXTURE_NAME, copy_off(copy) + bit / 8, bit % 8);
		}
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_without_a_whole_copy_the_reason_is_told)
{
	uint8_t zeros[FORMAT_BLOCK] = {0};
	struct manifest_loaded m;
	struct fixture f;

	make_volume(&f);
	sim_env_flip(f.env, FIXTURE_NAME, copy_off(0) + 200, 1);
	sim_env_poke(f.env, FIXTURE_NAME, copy_off(1), zeros, sizeof(zeros));
	ck_assert_int_eq(load(&f, &m), -KV_E_CHECKSUM);
	sim_env_poke(f.env, FIXTURE_NAME, copy_off(0), zeros, sizeof(zeros));
	ck_assert_int_eq(load(&f, &m), -KV_E_NOT_A_VOLUME);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* The copy serves for it; without one the reason is told. */
START_TEST(test_any_flip_in_the_manifest_is_found_and_survived)
{
	struct manifest_loaded m;
	struct extent e;
	struct fixture f;
	uint64_t len, copy;

	make_volume(&f);
	ck_assert_int_eq(load(&f, &m), 0);
	e = m.sb.manifest_extents[0];
	len = m.sb.manifest_len;
	copy = MANIFEST_COPY_OFF + m.sb.generation % 2 * SUPERBLOCK_STRIDE + FORMAT_BLOCK;
	manifest_loaded_fini(&m);
	for (uint64_t bit = 0; bit < 8 * len; bit++) {
		sim_env_flip(f.env, FIXTURE_NAME, e.off + bit / 8, bit % 8);
		ck_assert_int_eq(load(&f, &m), 0);
		ck_assert_uint_eq(m.manifest.table_count, 2);
		manifest_loaded_fini(&m);
		sim_env_flip(f.env, FIXTURE_NAME, copy + bit / 8, (bit + 1) % 8);
		ck_assert_int_eq(load(&f, &m), -KV_E_CHECKSUM);
		sim_env_flip(f.env, FIXTURE_NAME, copy + bit / 8, (bit + 1) % 8);
		sim_env_flip(f.env, FIXTURE_NAME, e.off + bit / 8, bit % 8);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_the_newest_whole_copy_wins)
{
	struct superblock_disk old;
	struct version_edit edit = {.last_seq = 9};
	struct manifest_loaded m;
	struct fixture f;

	make_volume(&f);
	for (unsigned copy = 0; copy < SUPERBLOCK_COPIES; copy++) {
		sim_env_peek(f.env, FIXTURE_NAME, copy_off(copy), &old, sizeof(old));
		ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
		ck_assert_int_eq(os_volume_sync(f.db.volume), 0);
		sim_env_poke(f.env, FIXTURE_NAME, copy_off(copy), &old, sizeof(old));
		ck_assert_int_eq(load(&f, &m), 0);
		ck_assert_uint_eq(m.sb.generation, fixture_generation(&f));
		ck_assert_uint_eq(m.copy_used, 1 - copy);
		ck_assert(m.copy_old[copy]);
		ck_assert(!m.copy_old[1 - copy]);
		manifest_loaded_fini(&m);
		ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	}
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

/* An intact manifest under an intact superblock of another generation does not belong to it. */
START_TEST(test_a_manifest_of_another_generation_is_refused)
{
	struct manifest_loaded m;
	struct manifest other;
	struct fixture f;

	make_volume(&f);
	ck_assert_int_eq(load(&f, &m), 0);
	m.sb.generation++;
	ck_assert_int_eq(manifest_store_read(f.db.volume, m.checksum, &m.sb, &other),
			 -KV_E_CORRUPT);
	m.sb.generation--;
	m.sb.uuid[0] ^= 1;
	ck_assert_int_eq(manifest_store_read(f.db.volume, m.checksum, &m.sb, &other),
			 -KV_E_CORRUPT);
	manifest_loaded_fini(&m);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

START_TEST(test_a_manifest_may_lie_in_many_extents)
{
	struct extent all[1024];
	struct version_edit edit = {.last_seq = 9};
	struct manifest_loaded m;
	unsigned count = 0;
	struct fixture f;

	/* Only every other block is free. */
	make_volume(&f);
	for (unsigned i = 0; i < 300; i++) {
		unsigned from = 1000 + i * 3;

		ck_assert_int_eq(fixture_add_table(&f, 1, from, from + 2, 7), 0);
	}
	while (count < 1024 &&
	       !space_alloc(f.db.space, SPACE_MANIFEST, FORMAT_BLOCK, FORMAT_BLOCK, &all[count]))
		count++;
	while (!space_alloc(f.db.space, SPACE_MANIFEST, FIXTURE_SIZE, FORMAT_BLOCK,
			    &(struct extent){0}))
		;
	for (unsigned i = 0; i < count; i += 2)
		space_release(f.db.space, all[i]);
	ck_assert_int_eq(versions_apply(f.db.versions, &edit), 0);
	ck_assert_int_eq(load(&f, &m), 0);
	ck_assert_uint_gt(m.sb.manifest_extent_count, 2);
	ck_assert_uint_eq(m.manifest.table_count, 302);
	manifest_loaded_fini(&m);
	fixture_close(&f);
	fixture_open(&f);
	ck_assert_uint_eq(fixture_read_all(&f), 690);
	fixture_close(&f);
	fixture_free(&f);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_any_flip_in_one_copy_is_survived,
		test_without_a_whole_copy_the_reason_is_told,
		test_any_flip_in_the_manifest_is_found_and_survived,
		test_the_newest_whole_copy_wins,
		test_a_manifest_of_another_generation_is_refused,
		test_a_manifest_may_lie_in_many_extents,
	};

	return test_suite_run("manifest_store", tests, sizeof(tests) / sizeof(tests[0]), 120);
}
