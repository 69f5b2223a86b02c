/* SPDX-License-Identifier: MIT */
/*
 * The superblock: every field reads back, any flipped bit is refused, and each
 * field outside its range is refused also when its checksum is right, as in an
 * image made to do harm.
 */
#include "kvcore/format/superblock.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define MIB (1024ULL * 1024)

static struct checksum *sha256;

static void setup(void)
{
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &sha256), 0);
}

static void teardown(void)
{
	checksum_free(sha256);
}

static struct superblock good_superblock(void)
{
	struct superblock sb = {
		.compat = 1ULL << 40, /* unknown and to be ignored, but kept */
		.created_ns = 1700000000123456789,
		.generation = 77,
		.size_max = 64 * MIB,
		.log_size = 4 * MIB,
		.checksum_algo = CHECKSUM_BLAKE2B,
		.compress_algo = 1,
		.page_size = 16384,
		.manifest_len = 5000,
		.manifest_extent_count = 2,
	};

	memset(sb.uuid, 0xa5, sizeof(sb.uuid));
	memset(sb.manifest_sum, 0x3c, sizeof(sb.manifest_sum));
	strcpy(sb.label, "a label");
	sb.manifest_extents[0] = (struct extent){8 * MIB, 4096};
	sb.manifest_extents[1] = (struct extent){FORMAT_LOG_OFF + 4 * MIB, 8192};
	return sb;
}

static struct superblock_disk good_raw(void)
{
	struct superblock sb = good_superblock();
	struct superblock_disk raw;

	ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), 0);
	return raw;
}

/* As an image made to do harm would have it. */
static int decode_with_right_sum(struct superblock_disk *raw)
{
	struct kv_slice part = {(const uint8_t *)raw, offsetof(struct superblock_disk, sum)};
	struct superblock out;

	ck_assert_int_eq(checksum_compute(sha256, &part, 1, raw->sum), 0);
	return superblock_decode(raw, sha256, &out);
}

START_TEST(test_every_field_reads_back)
{
	struct superblock sb = good_superblock(), back;
	struct superblock_disk raw = good_raw();

	ck_assert_int_eq(superblock_decode(&raw, sha256, &back), 0);
	ck_assert_uint_eq(back.compat, sb.compat);
	ck_assert_uint_eq(back.ro_compat, 0);
	ck_assert_uint_eq(back.incompat, 0);
	ck_assert_mem_eq(back.uuid, sb.uuid, sizeof(sb.uuid));
	ck_assert_str_eq(back.label, sb.label);
	ck_assert_int_eq(back.created_ns, sb.created_ns);
	ck_assert_uint_eq(back.generation, sb.generation);
	ck_assert_uint_eq(back.size_max, sb.size_max);
	ck_assert_uint_eq(back.log_size, sb.log_size);
	ck_assert_int_eq(back.checksum_algo, sb.checksum_algo);
	ck_assert_uint_eq(back.compress_algo, sb.compress_algo);
	ck_assert_uint_eq(back.page_size, sb.page_size);
	ck_assert_uint_eq(back.manifest_len, sb.manifest_len);
	ck_assert_mem_eq(back.manifest_sum, sb.manifest_sum, sizeof(sb.manifest_sum));
	ck_assert_uint_eq(back.manifest_extent_count, 2);
	ck_assert_uint_eq(back.manifest_extents[0].off, 8 * MIB);
	ck_assert_uint_eq(back.manifest_extents[1].len, 8192);
}
END_TEST

START_TEST(test_fields_stand_where_the_format_says)
{
	struct superblock_disk raw = good_raw();
	const uint8_t *b = (const uint8_t *)&raw;

	ck_assert_mem_eq(b, "\x89KVFS\r\n\x1a", 8);
	ck_assert_mem_eq(b + 8, "\x01\0\0\0\0\x10\0\0", 8);
	ck_assert_uint_eq(b[21], 1); /* compat, bit 40 */
	ck_assert_mem_eq(b + 56, "a label\0", 8);
	ck_assert_uint_eq(b[128], 77); /* generation */
	ck_assert_uint_eq(b[160], CHECKSUM_BLAKE2B);
	ck_assert_uint_eq(b[162], 1);
}
END_TEST

START_TEST(test_any_flipped_bit_is_refused)
{
	struct superblock_disk raw = good_raw();
	uint8_t *bytes = (uint8_t *)&raw;
	struct superblock out;

	for (size_t bit = 0; bit < 8 * sizeof(raw); bit++) {
		int want = bit / 8 < sizeof(raw.magic) ? -KV_E_NOT_A_VOLUME : -KV_E_CHECKSUM;

		bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		if (superblock_decode(&raw, sha256, &out) != want)
			ck_abort_msg("bit %zu", bit);
		bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	ck_assert_int_eq(superblock_decode(&raw, sha256, &out), 0);
}
END_TEST

START_TEST(test_flipped_bits_under_a_right_checksum_are_read_safely)
{
	struct superblock_disk raw = good_raw();
	uint8_t *bytes = (uint8_t *)&raw;

	for (size_t bit = 0; bit < 8 * offsetof(struct superblock_disk, sum); bit++) {
		int err;

		bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
		err = decode_with_right_sum(&raw);
		if (err && err != -KV_E_NOT_A_VOLUME && err != -KV_E_VERSION &&
		    err != -KV_E_FEATURE && err != -KV_E_CORRUPT)
			ck_abort_msg("bit %zu: %d", bit, err);
		bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}
END_TEST

START_TEST(test_versions_and_features_have_errors_of_their_own)
{
	struct superblock_disk raw = good_raw();

	raw.version = le32_of(FORMAT_VERSION + 1);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_VERSION);
	raw.version = le32_of(0);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_CORRUPT);
	raw = good_raw();
	raw.incompat = le64_of(1);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_FEATURE);
	raw = good_raw();
	raw.checksum_algo = le16_of(99);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_FEATURE);
	raw = good_raw();
	raw.compress_algo = le16_of(99);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_FEATURE);
	raw = good_raw();
	raw.ro_compat = le64_of(1ULL << 63);
	ck_assert_int_eq(decode_with_right_sum(&raw), 0); /* the caller mounts it read-only */
	memset(&raw, 0, sizeof(raw));
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_NOT_A_VOLUME);
}
END_TEST

START_TEST(test_reserved_bytes_are_zero_unless_a_feature_says_otherwise)
{
	struct superblock_disk raw = good_raw();

	raw.zero1[100] = 1; /* compat bit 40 may be what gave it a meaning */
	ck_assert_int_eq(decode_with_right_sum(&raw), 0);
	raw.compat = le64_of(0);
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_CORRUPT);
	raw = good_raw();
	raw.compat = le64_of(0);
	ck_assert_int_eq(decode_with_right_sum(&raw), 0);
	raw.zero0[3] = 1;
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_CORRUPT);
	raw = good_raw();
	raw.label[60] = 'x'; /* behind the label's end */
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_CORRUPT);
	raw = good_raw();
	raw.manifest_extents[2].len = le64_of(4096); /* behind the count */
	ck_assert_int_eq(decode_with_right_sum(&raw), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_a_label_may_fill_its_field)
{
	struct superblock sb = good_superblock(), back;
	struct superblock_disk raw;

	memset(sb.label, 'x', KV_LABEL_MAX);
	sb.label[KV_LABEL_MAX] = '\0';
	ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), 0);
	ck_assert_int_eq(superblock_decode(&raw, sha256, &back), 0);
	ck_assert_str_eq(back.label, sb.label);
}
END_TEST

static void break_block_size(struct superblock_disk *r)
{
	r->block_size = le32_of(512);
}
static void break_generation(struct superblock_disk *r)
{
	r->generation = le64_of(0);
}
static void break_log_off(struct superblock_disk *r)
{
	r->log_off = le64_of(0);
}
static void break_log_size_small(struct superblock_disk *r)
{
	r->log_size = le64_of(MIB - 4096);
}
static void break_log_size_large(struct superblock_disk *r)
{
	r->log_size = le64_of(1024 * MIB + 4096);
}
static void break_log_size_alignment(struct superblock_disk *r)
{
	r->log_size = le64_of(2 * MIB + 512);
}
static void break_page_size_small(struct superblock_disk *r)
{
	r->page_size = le32_of(1023);
}
static void break_page_size_large(struct superblock_disk *r)
{
	r->page_size = le32_of(65537);
}
static void break_size_max(struct superblock_disk *r)
{
	r->size_max = le64_of(UINT64_MAX);
}
static void break_size_below_extent(struct superblock_disk *r)
{
	r->size_max = le64_of(8 * MIB);
}
static void break_manifest_len_zero(struct superblock_disk *r)
{
	r->manifest_len = le64_of(0);
}
static void break_manifest_len_beyond_extents(struct superblock_disk *r)
{
	r->manifest_len = le64_of(3 * 4096 + 1);
}
static void break_extent_count_zero(struct superblock_disk *r)
{
	r->manifest_extent_count = le32_of(0);
}
static void break_extent_count_large(struct superblock_disk *r)
{
	r->manifest_extent_count = le32_of(MANIFEST_EXTENTS_MAX + 1);
}
static void break_extent_count_huge(struct superblock_disk *r)
{
	r->manifest_extent_count = le32_of(UINT32_MAX);
}
static void break_extent_in_log(struct superblock_disk *r)
{
	r->manifest_extents[0].off = le64_of(FORMAT_LOG_OFF + 4 * MIB - 4096);
}
static void break_extent_alignment(struct superblock_disk *r)
{
	r->manifest_extents[0].off = le64_of(8 * MIB + 1);
}
static void break_extent_length(struct superblock_disk *r)
{
	r->manifest_extents[0].len = le64_of(4097);
}
static void break_extent_empty(struct superblock_disk *r)
{
	r->manifest_extents[0].len = le64_of(0);
}
static void break_extent_overflow(struct superblock_disk *r)
{
	r->size_max = le64_of(0);
	r->manifest_extents[0].off = le64_of(UINT64_MAX - 4095);
	r->manifest_extents[0].len = le64_of(8192);
}
static void break_extent_overlap(struct superblock_disk *r)
{
	r->manifest_extents[0].off = le64_of(FORMAT_LOG_OFF + 4 * MIB + 4096);
}

START_TEST(test_fields_outside_their_range_are_refused_under_a_right_checksum)
{
	static void (*const breaks[])(struct superblock_disk *) = {
		break_block_size,	 break_generation,
		break_log_off,		 break_log_size_small,
		break_log_size_large,	 break_log_size_alignment,
		break_page_size_small,	 break_page_size_large,
		break_size_max,		 break_size_below_extent,
		break_manifest_len_zero, break_manifest_len_beyond_extents,
		break_extent_count_zero, break_extent_count_large,
		break_extent_count_huge, break_extent_in_log,
		break_extent_alignment,	 break_extent_length,
		break_extent_empty,	 break_extent_overflow,
		break_extent_overlap,
	};

	for (size_t i = 0; i < KV_ARRAY_COUNT(breaks); i++) {
		struct superblock_disk raw = good_raw();
		int err;

		breaks[i](&raw);
		err = decode_with_right_sum(&raw);
		if (err != -KV_E_CORRUPT)
			ck_abort_msg("breaks[%zu]: %d", i, err);
	}
}
END_TEST

START_TEST(test_nothing_is_encoded_that_would_be_refused)
{
	struct superblock sb = good_superblock();
	struct superblock_disk raw;

	sb.manifest_extents[1].off += 512;
	ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), -KV_E_INVALID);
	sb = good_superblock();
	sb.generation = 0;
	ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), -KV_E_INVALID);
	sb = good_superblock();
	sb.incompat = 1;
	ck_assert_int_eq(superblock_encode(&sb, sha256, &raw), -KV_E_INVALID);
}
END_TEST

START_TEST(test_garbage_behind_a_right_magic_and_checksum_is_read_safely)
{
	struct test_rng rng = test_rng_seeded("superblock");

	for (int i = 0; i < 5000; i++) {
		struct superblock_disk raw = good_raw();
		size_t from = test_rng_below(&rng, sizeof(raw) - 16);

		if (from < sizeof(raw.magic) + 8)
			from = sizeof(raw.magic) + 8;
		test_rng_fill(&rng, (uint8_t *)&raw + from, 1 + test_rng_below(&rng, 16));
		if (decode_with_right_sum(&raw) > 0)
			ck_abort_msg("positive result");
	}
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_every_field_reads_back,
		test_fields_stand_where_the_format_says,
		test_any_flipped_bit_is_refused,
		test_flipped_bits_under_a_right_checksum_are_read_safely,
		test_versions_and_features_have_errors_of_their_own,
		test_reserved_bytes_are_zero_unless_a_feature_says_otherwise,
		test_a_label_may_fill_its_field,
		test_fields_outside_their_range_are_refused_under_a_right_checksum,
		test_nothing_is_encoded_that_would_be_refused,
		test_garbage_behind_a_right_magic_and_checksum_is_read_safely,
	};

	return test_suite_run_with("superblock", tests, KV_ARRAY_COUNT(tests), 60, setup, teardown);
}
