/* SPDX-License-Identifier: MIT */
/*
 * A volume whose superblocks, manifest, or both are gone is made whole from their copies, with all
 * that was checkpointed and all that the log holds.
 */
#include "kvcore/engine/manifest_copy.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sample_volume.h"
#include "tests/support/test_suite.h"

#define ok(expr) ck_assert_int_eq((expr), 0)

struct found {
	unsigned count, repaired;
	bool id[256];
};

static void note(void *ctx, const struct kv_problem *p)
{
	struct found *f = ctx;

	f->count++;
	f->repaired += p->repaired;
	f->id[p->id & 255] = true;
}

static void wipe(struct sim_env *e, uint64_t off, uint64_t len)
{
	static const uint8_t zeros[FORMAT_BLOCK];

	for (uint64_t at = 0; at < len; at += FORMAT_BLOCK)
		sim_env_poke(e, SAMPLE_NAME, off + at, zeros, sizeof(zeros));
}

static void wipe_superblocks(struct sim_env *e)
{
	wipe(e, 0, FORMAT_BLOCK);
	wipe(e, SUPERBLOCK_STRIDE, FORMAT_BLOCK);
}

static void wipe_manifest(struct sim_env *e)
{
	struct manifest_loaded l;

	sample_load_manifest(e, &l);
	for (uint32_t i = 0; i < l.sb.manifest_extent_count; i++)
		wipe(e, l.sb.manifest_extents[i].off, l.sb.manifest_extents[i].len);
	manifest_loaded_fini(&l);
}

static void wipe_both(struct sim_env *e)
{
	wipe_manifest(e);
	wipe_superblocks(e);
}

static void wipe_head(struct sim_env *e)
{
	wipe(e, 0, FORMAT_LOG_OFF);
}

static void wipe_copies(struct sim_env *e)
{
	wipe(e, MANIFEST_COPY_OFF, SUPERBLOCK_STRIDE - FORMAT_BLOCK);
	wipe(e, SUPERBLOCK_STRIDE + MANIFEST_COPY_OFF, SUPERBLOCK_STRIDE - FORMAT_BLOCK);
}

/* Everything is there again, also what only the log holds. */
static void check_whole(struct sim_env *e, enum sample_end end)
{
	struct kv_verify_options o = {.env = sim_env_os(e)};
	struct kv_verify_result r;
	unsigned wrong, missing;

	ok(kv_verify(SAMPLE_NAME, &o, &r));
	ck_assert_uint_eq(r.problems, 0);
	ok(sample_compare(e, end, NULL, NULL, &wrong, &missing));
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(missing, 0);
}

static void check_loss(void (*lose)(struct sim_env *e), enum kv_problem_id id, enum sample_end end)
{
	struct sim_env *e = sample_volume_new(3, end);
	struct found f = {0};
	struct kv_verify_options o = {.found = note, .ctx = &f, .env = sim_env_os(e)};
	struct kv_verify_result r;

	lose(e);
	ok(kv_repair(SAMPLE_NAME, &o, &r));
	ck_assert(f.id[id]);
	ck_assert_uint_eq(f.count, f.repaired);
	check_whole(e, end);
	sim_env_free(e);
}

START_TEST(test_a_volume_without_superblocks_comes_back)
{
	check_loss(wipe_superblocks, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_CLOSED);
	check_loss(wipe_superblocks, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_KILLED);
}
END_TEST

START_TEST(test_a_volume_without_its_manifest_comes_back)
{
	check_loss(wipe_manifest, KV_PROBLEM_MANIFEST_COPY, SAMPLE_CLOSED);
	check_loss(wipe_manifest, KV_PROBLEM_MANIFEST_COPY, SAMPLE_KILLED);
}
END_TEST

START_TEST(test_a_volume_without_either_comes_back)
{
	check_loss(wipe_both, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_CLOSED);
	check_loss(wipe_both, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_KILLED);
}
END_TEST

START_TEST(test_a_volume_without_all_before_its_log_is_found_by_a_search)
{
	check_loss(wipe_head, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_CLOSED);
	check_loss(wipe_head, KV_PROBLEM_SUPERBLOCK_NONE, SAMPLE_KILLED);
}
END_TEST

START_TEST(test_lost_copies_are_written_again)
{
	check_loss(wipe_copies, KV_PROBLEM_MANIFEST_COPY, SAMPLE_CLOSED);
}
END_TEST

START_TEST(test_without_its_manifest_it_opens_all_the_same)
{
	struct sim_env *e = sample_volume_new(3, SAMPLE_KILLED);
	unsigned wrong, missing;

	wipe_manifest(e);
	ok(sample_compare(e, SAMPLE_KILLED, NULL, NULL, &wrong, &missing));
	ck_assert_uint_eq(wrong + missing, 0);
	sim_env_free(e);
}
END_TEST

/* Any flip in what belongs to the present generation is found. */
START_TEST(test_a_flip_in_any_copy_is_found)
{
	struct sim_env *e = sample_volume_new(3, SAMPLE_CLOSED);
	struct found f;
	struct kv_verify_options o = {.found = note, .ctx = &f, .env = sim_env_os(e)};
	struct kv_verify_result r;
	struct manifest_loaded l;
	uint64_t slot;

	sample_load_manifest(e, &l);
	slot = MANIFEST_COPY_OFF + l.sb.generation % 2 * SUPERBLOCK_STRIDE;
	for (uint64_t at = 0; at < FORMAT_BLOCK + l.sb.manifest_len; at += 37) {
		memset(&f, 0, sizeof(f));
		sim_env_flip(e, SAMPLE_NAME, slot + at, (unsigned)at % 8);
		ok(kv_verify(SAMPLE_NAME, &o, &r));
		ck_assert_uint_eq(f.count, 1);
		ck_assert(f.id[KV_PROBLEM_MANIFEST_COPY]);
		sim_env_flip(e, SAMPLE_NAME, slot + at, (unsigned)at % 8);
	}
	manifest_loaded_fini(&l);
	sim_env_free(e);
}
END_TEST

/* What an earlier volume left behind is not taken for the present one, whatever its generation. */
START_TEST(test_a_search_finds_the_newest_volume)
{
	struct sim_env *e = sample_volume_new(3, SAMPLE_CLOSED);
	struct kv_create_options create = {.log_size_bytes = 2U << 20,
					   .size_bytes = 32U << 20,
					   .label = "second",
					   .env = sim_env_os(e)};
	struct kv_verify_options o = {.env = sim_env_os(e)};
	uint64_t size = sim_env_size(e, SAMPLE_NAME);
	uint8_t *old = malloc(size);
	uint8_t block[FORMAT_BLOCK];
	struct kv_verify_result r;
	struct kv_db_info info;

	ck_assert_ptr_nonnull(old);
	sim_env_peek(e, SAMPLE_NAME, 0, old, size);
	sim_env_advance(e, 1000000);
	ok(kv_create(SAMPLE_NAME, &create));
	/* Only its head and the blocks of its manifest were written since. */
	for (uint64_t off = 0; off + FORMAT_BLOCK <= size; off += FORMAT_BLOCK) {
		sim_env_peek(e, SAMPLE_NAME, off, block, sizeof(block));
		if (off >= FORMAT_LOG_OFF && off != FORMAT_LOG_OFF + create.log_size_bytes &&
		    off != FORMAT_LOG_OFF + create.log_size_bytes + FORMAT_BLOCK)
			sim_env_poke(e, SAMPLE_NAME, off, old + off, FORMAT_BLOCK);
	}
	wipe_head(e);
	ok(kv_repair(SAMPLE_NAME, &o, &r));
	ok(kv_probe(SAMPLE_NAME, sim_env_os(e), &info));
	ck_assert_str_eq(info.label, "second");
	free(old);
	sim_env_free(e);
}
END_TEST

static void nothing(struct sim_env *e)
{
	uint64_t size = sim_env_size(e, SAMPLE_NAME);

	wipe(e, 0, size / FORMAT_BLOCK * FORMAT_BLOCK);
}

START_TEST(test_nothing_is_made_of_nothing)
{
	struct sim_env *e = sample_volume_new(3, SAMPLE_CLOSED);
	struct kv_verify_options o = {.env = sim_env_os(e)};
	struct kv_verify_result r;

	nothing(e);
	ck_assert_int_eq(kv_repair(SAMPLE_NAME, &o, &r), -KV_E_NOT_A_VOLUME);
	sim_env_free(e);
}
END_TEST

/* So many tables that the manifest does not fit between the superblocks. */
static void grow_manifest(struct manifest *m, size_t count)
{
	m->tables = calloc(count, sizeof(*m->tables));
	ck_assert_ptr_nonnull(m->tables);
	for (size_t i = 0; i < count; i++) {
		struct table_meta *t = &m->tables[m->table_count++];

		t->id = i + 1;
		t->height = 1;
		t->root = (struct page_ref){.off = 0, .stored_len = 100, .raw_len = 100};
		t->stored_bytes = 100;
		t->entry_count = 1;
		t->seq_min = t->seq_max = 1;
		ok(buf_append_zeros(&t->smallest, 2000));
		ok(buf_append_zeros(&t->largest, 2000));
		t->extents = calloc(1, sizeof(*t->extents));
		ck_assert_ptr_nonnull(t->extents);
		t->extent_count = 1;
		t->extents[0] = (struct extent){(1000 + i) * FORMAT_BLOCK, FORMAT_BLOCK};
	}
	m->next_table_id = count + 1;
	m->last_seq = 1;
}

START_TEST(test_a_large_manifest_has_its_copy_beside_it)
{
	struct sim_env *e = sample_volume_new(3, SAMPLE_CLOSED);
	struct os_env *env = sim_env_os(e);
	struct manifest m = {0}, back;
	struct manifest_loaded l;
	struct os_volume *volume;
	struct checksum *sha256;
	struct superblock sb;
	struct kv_buf blob = {0};
	uint64_t off;

	sample_load_manifest(e, &l);
	ok(checksum_new(CHECKSUM_SHA256, &sha256));
	ok(env->ops->volume_open(env, SAMPLE_NAME, 0, 0, &volume, NULL));
	grow_manifest(&m, 40);
	memcpy(m.uuid, l.sb.uuid, KV_UUID_LEN);
	m.generation = l.sb.generation + 1;
	ok(manifest_encode(&m, &blob));
	ck_assert_uint_gt(blob.len, MANIFEST_COPY_MAX);
	sb = l.sb;
	sb.generation = m.generation;
	sb.manifest_extent_count = 2; /* the boundary lies within the second manifest */
	sb.manifest_extents[0] = (struct extent){2000 * FORMAT_BLOCK, 200 * 1024};
	sb.manifest_extents[1] = (struct extent){
		3000 * FORMAT_BLOCK, manifest_copy_room(blob.len) - sb.manifest_extents[0].len};
	ok(volume->ops->grow(volume, 4000 * FORMAT_BLOCK));
	ok(manifest_store_write(volume, l.checksum, sha256, &blob, &sb));
	for (unsigned copy = 0; copy < 2; copy++) {
		ok(manifest_store_read_copy(volume, l.checksum, &sb, copy, &back));
		ck_assert_uint_eq(back.table_count, 40);
		manifest_fini(&back);
	}
	ok(manifest_copy_check(volume, sha256, &sb));
	wipe(e, sb.manifest_extents[0].off, FORMAT_BLOCK);
	ck_assert_int_eq(manifest_store_read_copy(volume, l.checksum, &sb, 0, &back),
			 -KV_E_CHECKSUM);
	wipe_head(e);
	ok(manifest_copy_find(volume, sha256, true, &sb, &off));
	ck_assert_uint_eq(sb.generation, m.generation);
	ck_assert_uint_eq(off,
			  sb.manifest_extents[1].off + sb.manifest_extents[1].len - FORMAT_BLOCK);
	ok(manifest_store_read(volume, l.checksum, &sb, &back));
	manifest_fini(&back);
	manifest_fini(&m);
	manifest_loaded_fini(&l);
	kv_buf_free(&blob);
	checksum_free(sha256);
	ok(volume->ops->close(volume));
	sim_env_free(e);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_volume_without_superblocks_comes_back,
		test_a_volume_without_its_manifest_comes_back,
		test_a_volume_without_either_comes_back,
		test_a_volume_without_all_before_its_log_is_found_by_a_search,
		test_lost_copies_are_written_again,
		test_without_its_manifest_it_opens_all_the_same,
		test_a_flip_in_any_copy_is_found,
		test_a_search_finds_the_newest_volume,
		test_nothing_is_made_of_nothing,
		test_a_large_manifest_has_its_copy_beside_it,
	};
	return test_suite_run("manifest_copy", tests, KV_ARRAY_COUNT(tests), 60);
}
