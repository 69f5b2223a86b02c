/* SPDX-License-Identifier: MIT */
/*
 * The manifest: random ones read back, nothing is encoded that would be refused,
 * and every cut is refused, while flipped bits and garbage give an error or a
 * manifest that keeps all its rules (which encoding it again proves).
 */
#include "kvcore/format/manifest.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "tests/support/test_suite.h"

static void set_key(struct kv_buf *buf, unsigned keyspace, unsigned number)
{
	uint8_t out[IKEY_MAX];
	char user[16];
	int len = snprintf(user, sizeof(user), "%08u", number);
	struct kv_slice key = ikey_make(out, keyspace, kv_slice_of(user, (size_t)len));

	ck_assert_int_eq(buf_assign(buf, key), 0);
}

/* A valid table that covers keys @from to @from + 9. */
static void make_table(struct test_rng *rng, struct table_meta *t, uint64_t id, uint32_t level,
		       unsigned from)
{
	memset(t, 0, sizeof(*t));
	t->id = id;
	t->level = level;
	t->height = 1 + (uint32_t)test_rng_below(rng, TABLE_HEIGHT_MAX);
	t->stored_bytes = 20000 + test_rng_below(rng, 4000);
	t->root = (struct page_ref){.off = 4096, .stored_len = 4000, .raw_len = 16384};
	test_rng_fill(rng, t->root.sum, CHECKSUM_LEN);
	if (test_rng_below(rng, 2))
		t->filter = (struct page_ref){.off = 9000, .stored_len = 300, .raw_len = 300};
	if (test_rng_below(rng, 2)) {
		t->ranges = (struct page_ref){.off = 10000, .stored_len = 20, .raw_len = 30};
		t->range_count = 3;
	}
	t->entry_count = 1 + test_rng_below(rng, 1000);
	t->delete_count = test_rng_below(rng, t->entry_count + 1);
	t->raw_bytes = test_rng_next(rng);
	t->ref_bytes = test_rng_below(rng, 1 << 30);
	t->seq_min = test_rng_below(rng, 500);
	t->seq_max = t->seq_min + test_rng_below(rng, 500);
	set_key(&t->smallest, 1, from);
	set_key(&t->largest, 1, from + 9);
	t->largest_exclusive = test_rng_below(rng, 2);
	t->extent_count = 1 + (uint32_t)test_rng_below(rng, 4);
	t->extents = calloc(t->extent_count, sizeof(*t->extents));
	ck_assert_ptr_nonnull(t->extents);
	for (uint32_t i = 0; i < t->extent_count; i++) {
		uint64_t blocks = 6 + test_rng_below(rng, 100);

		t->extents[i] = (struct extent){(id * 1000 + i * 200) * FORMAT_BLOCK,
						blocks * FORMAT_BLOCK};
	}
}

static struct manifest make_manifest(struct test_rng *rng)
{
	struct manifest m = {
		.generation = 5,
		.log_lsn = test_rng_next(rng),
		.log_epoch = 9,
		.log_fence = test_rng_next(rng),
		.clean = test_rng_below(rng, 2),
		.last_seq = 1000,
		.next_table_id = 100,
		.next_segment_id = 1000,
	};

	test_rng_fill(rng, m.uuid, sizeof(m.uuid));
	test_rng_fill(rng, m.log_prev_sum, sizeof(m.log_prev_sum));
	m.table_count = 3 + test_rng_below(rng, 20);
	m.tables = calloc(m.table_count, sizeof(*m.tables));
	m.segment_count = 2 + test_rng_below(rng, 10);
	m.segments = calloc(m.segment_count, sizeof(*m.segments));
	ck_assert(m.tables && m.segments);
	for (size_t i = 0; i < m.table_count; i++)
		make_table(rng, &m.tables[i], 99 - i, (uint32_t)(i / 4), (unsigned)i * 10);
	for (size_t i = 0; i < m.segment_count; i++) {
		struct segment_meta *s = &m.segments[i];

		s->id = 1 + 3 * i;
		s->extent = (struct extent){(1 << 30) + i * 65536, 65536};
		s->used_bytes = test_rng_below(rng, 65537);
		s->live_bytes = test_rng_below(rng, s->used_bytes + 1);
	}
	return m;
}

static void check_tables_equal(const struct table_meta *a, const struct table_meta *b)
{
	ck_assert_uint_eq(a->id, b->id);
	ck_assert_uint_eq(a->level, b->level);
	ck_assert_uint_eq(a->height, b->height);
	ck_assert_mem_eq(&a->root, &b->root, sizeof(a->root));
	ck_assert_mem_eq(&a->filter, &b->filter, sizeof(a->filter));
	ck_assert_mem_eq(&a->ranges, &b->ranges, sizeof(a->ranges));
	ck_assert_uint_eq(a->stored_bytes, b->stored_bytes);
	ck_assert_uint_eq(a->entry_count, b->entry_count);
	ck_assert_uint_eq(a->delete_count, b->delete_count);
	ck_assert_uint_eq(a->range_count, b->range_count);
	ck_assert_uint_eq(a->raw_bytes, b->raw_bytes);
	ck_assert_uint_eq(a->ref_bytes, b->ref_bytes);
	ck_assert_uint_eq(a->seq_min, b->seq_min);
	ck_assert_uint_eq(a->seq_max, b->seq_max);
	ck_assert(slice_equal(kv_buf_slice(&a->smallest), kv_buf_slice(&b->smallest)));
	ck_assert(slice_equal(kv_buf_slice(&a->largest), kv_buf_slice(&b->largest)));
	ck_assert_int_eq(a->largest_exclusive, b->largest_exclusive);
	ck_assert_uint_eq(a->extent_count, b->extent_count);
	ck_assert_mem_eq(a->extents, b->extents, a->extent_count * sizeof(*a->extents));
}

static void check_manifests_equal(const struct manifest *a, const struct manifest *b)
{
	ck_assert_mem_eq(a->uuid, b->uuid, sizeof(a->uuid));
	ck_assert_uint_eq(a->generation, b->generation);
	ck_assert_uint_eq(a->log_lsn, b->log_lsn);
	ck_assert_mem_eq(a->log_prev_sum, b->log_prev_sum, sizeof(a->log_prev_sum));
	ck_assert_uint_eq(a->log_epoch, b->log_epoch);
	ck_assert_uint_eq(a->log_fence, b->log_fence);
	ck_assert_int_eq(a->clean, b->clean);
	ck_assert_uint_eq(a->last_seq, b->last_seq);
	ck_assert_uint_eq(a->next_table_id, b->next_table_id);
	ck_assert_uint_eq(a->next_segment_id, b->next_segment_id);
	ck_assert_uint_eq(a->table_count, b->table_count);
	ck_assert_uint_eq(a->segment_count, b->segment_count);
	for (size_t i = 0; i < a->table_count; i++)
		check_tables_equal(&a->tables[i], &b->tables[i]);
	for (size_t i = 0; i < a->segment_count; i++) {
		ck_assert_uint_eq(a->segments[i].id, b->segments[i].id);
		ck_assert_uint_eq(a->segments[i].extent.off, b->segments[i].extent.off);
		ck_assert_uint_eq(a->segments[i].extent.len, b->segments[i].extent.len);
		ck_assert_uint_eq(a->segments[i].used_bytes, b->segments[i].used_bytes);
		ck_assert_uint_eq(a->segments[i].live_bytes, b->segments[i].live_bytes);
	}
}

START_TEST(test_random_manifests_read_back)
{
	struct test_rng rng = test_rng_seeded("manifest");
	struct kv_buf out = {0};

	for (int i = 0; i < 50; i++) {
		struct manifest m = make_manifest(&rng), back;

		ck_assert_int_eq(manifest_encode(&m, &out), 0);
		ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), 0);
		check_manifests_equal(&m, &back);
		manifest_fini(&m);
		manifest_fini(&back);
	}
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_an_empty_manifest_reads_back)
{
	struct manifest m = {.generation = 1, .next_table_id = 1, .next_segment_id = 1}, back;
	struct kv_buf out = {0};

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	ck_assert_mem_eq(out.data, "KMNF\x01\0\0\0", 8);
	ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), 0);
	check_manifests_equal(&m, &back);
	manifest_fini(&back);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_the_smallest_table_fits_the_bound_on_their_number)
{
	struct manifest m = {.generation = 1, .next_table_id = 2, .next_segment_id = 2}, back;
	struct extent extent = {FORMAT_BLOCK, FORMAT_BLOCK};
	uint8_t key[] = {0, 0};
	struct table_meta t = {
		.id = 1,
		.height = 1,
		.root = {.stored_len = 1, .raw_len = 1},
		.stored_bytes = 1,
		.entry_count = 1,
		.smallest = {key, 2, 2},
		.largest = {key, 2, 2},
		.extent_count = 1,
		.extents = &extent,
	};
	struct kv_buf out = {0};

	m.tables = &t;
	m.table_count = 1;
	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), 0);
	manifest_fini(&back);
	kv_buf_free(&out);
}
END_TEST

/* Decode an exact copy; what is accepted must encode again. Returns the result. */
static int decode_exact(struct kv_slice in)
{
	uint8_t *exact = malloc(in.len ? in.len : 1);
	struct kv_buf again = {0};
	struct manifest m;
	int err, err2;

	if (!exact)
		return -1;
	if (in.len)
		memcpy(exact, in.data, in.len);
	err = manifest_decode(kv_slice_of(exact, in.len), &m);
	free(exact);
	if (err)
		return err;
	err2 = manifest_encode(&m, &again);
	if (err2 || !slice_equal(in, kv_buf_slice(&again)))
		ck_abort_msg("accepted, but does not encode to the same: %d", err2);
	manifest_fini(&m);
	kv_buf_free(&again);
	return 0;
}

START_TEST(test_every_cut_is_refused)
{
	struct test_rng rng = {1};
	struct manifest m = make_manifest(&rng);
	struct kv_buf out = {0};

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	for (size_t cut = 0; cut < out.len; cut++) {
		if (decode_exact(kv_slice_of(out.data, cut)) != -KV_E_CORRUPT)
			ck_abort_msg("cut %zu", cut);
	}
	ck_assert_int_eq(buf_append_byte(&out, 0), 0);
	ck_assert_int_eq(decode_exact(kv_buf_slice(&out)), -KV_E_CORRUPT);
	manifest_fini(&m);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_flipped_bits_are_refused_or_keep_every_rule)
{
	struct test_rng rng = {2};
	struct manifest m = make_manifest(&rng);
	struct kv_buf out = {0};
	unsigned refused = 0;

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	for (size_t bit = 0; bit < 8 * out.len; bit++) {
		int err;

		out.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		err = decode_exact(kv_buf_slice(&out));
		if (err && err != -KV_E_CORRUPT && err != -KV_E_VERSION)
			ck_abort_msg("bit %zu: %d", bit, err);
		refused += err != 0;
		out.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	ck_assert_uint_gt(refused, out.len);
	manifest_fini(&m);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_garbage_is_read_safely)
{
	struct test_rng rng = test_rng_seeded("manifest");
	struct manifest m = make_manifest(&rng);
	struct kv_buf out = {0};
	uint8_t garbage[400];

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	for (int i = 0; i < 20000; i++) {
		size_t len = test_rng_below(&rng, sizeof(garbage));
		size_t keep = test_rng_below(&rng, 80); /* of a good one's beginning */
		int err;

		test_rng_fill(&rng, garbage, len);
		for (size_t j = 0; j < len; j += 2)
			garbage[j] &= 15;
		memcpy(garbage, out.data, keep < len ? keep : len);
		err = decode_exact(kv_slice_of(garbage, len));
		if (err && err != -KV_E_CORRUPT && err != -KV_E_VERSION)
			ck_abort_msg("round %d: %d", i, err);
	}
	manifest_fini(&m);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_a_count_beyond_the_bytes_is_refused_before_allocating)
{
	struct manifest m = {.generation = 1, .next_table_id = 1, .next_segment_id = 1}, back;
	struct kv_buf out = {0};

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	out.len -= 2; /* the two counts */
	ck_assert_int_eq(buf_append_varint(&out, UINT64_MAX / 512), 0);
	ck_assert_int_eq(buf_append_zeros(&out, 100), 0);
	ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), -KV_E_CORRUPT);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_a_newer_manifest_has_an_error_of_its_own)
{
	struct manifest m = {.generation = 1, .next_table_id = 1, .next_segment_id = 1}, back;
	struct kv_buf out = {0};

	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	out.data[4] = 2;
	ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), -KV_E_VERSION);
	out.data[4] = 0;
	ck_assert_int_eq(manifest_decode(kv_buf_slice(&out), &back), -KV_E_CORRUPT);
	kv_buf_free(&out);
}
END_TEST

static void break_generation(struct manifest *m)
{
	m->generation = 0;
}
static void break_table_id(struct manifest *m)
{
	m->tables[0].id = 0;
}
static void break_next_table_id(struct manifest *m)
{
	m->next_table_id = m->tables[0].id;
}
static void break_unique_id(struct manifest *m)
{
	m->tables[0].id = m->tables[m->table_count - 1].id;
}
static void break_last_seq(struct manifest *m)
{
	m->tables[0].seq_max = 500;
	m->last_seq = 499;
}
static void break_level(struct manifest *m)
{
	m->tables[m->table_count - 1].level = KV_LEVELS;
}
static void break_level_order(struct manifest *m)
{
	m->tables[0].level = KV_LEVELS - 1;
}
static void break_overlap(struct manifest *m)
{
	for (size_t i = 0; i < m->table_count; i++)
		m->tables[i].level = 1;
	set_key(&m->tables[0].largest, 1, 10);
	m->tables[0].largest_exclusive = false; /* 10 is the next one's first */
}
static void break_segment_order(struct manifest *m)
{
	m->segments[1].id = m->segments[0].id;
}
static void break_segment_id(struct manifest *m)
{
	m->segments[m->segment_count - 1].id = m->next_segment_id;
}
static void break_segment_used(struct manifest *m)
{
	m->segments[0].used_bytes = m->segments[0].extent.len + 1;
}
static void break_segment_live(struct manifest *m)
{
	m->segments[0].live_bytes = m->segments[0].used_bytes + 1;
}
static void break_segment_extent(struct manifest *m)
{
	m->segments[0].extent.off = INT64_MAX - 4095;
}
static void break_segment_alignment(struct manifest *m)
{
	m->segments[0].extent.off += 1;
}

START_TEST(test_broken_rules_are_neither_encoded_nor_change_the_output)
{
	static void (*const breaks[])(struct manifest *) = {
		break_generation,     break_table_id,	       break_next_table_id,
		break_unique_id,      break_last_seq,	       break_level,
		break_level_order,    break_overlap,	       break_segment_order,
		break_segment_id,     break_segment_used,      break_segment_live,
		break_segment_extent, break_segment_alignment,
	};
	struct kv_buf out = {0};

	ck_assert_int_eq(buf_append(&out, "before", 6), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(breaks); i++) {
		struct test_rng rng = {3};
		struct manifest m = make_manifest(&rng);
		int err;

		breaks[i](&m);
		err = manifest_encode(&m, &out);
		if (err != -KV_E_INVALID)
			ck_abort_msg("breaks[%zu]: %d", i, err);
		ck_assert_uint_eq(out.len, 6);
		manifest_fini(&m);
	}
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_an_exclusive_end_may_touch_the_next_table)
{
	struct test_rng rng = {4};
	struct manifest m = make_manifest(&rng);
	struct kv_buf out = {0};

	for (size_t i = 0; i < m.table_count; i++)
		m.tables[i].level = 1;
	set_key(&m.tables[0].largest, 1, 10);
	m.tables[0].largest_exclusive = true;
	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	ck_assert_int_eq(decode_exact(kv_buf_slice(&out)), 0);
	manifest_fini(&m);
	kv_buf_free(&out);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_random_manifests_read_back,
		test_an_empty_manifest_reads_back,
		test_the_smallest_table_fits_the_bound_on_their_number,
		test_every_cut_is_refused,
		test_flipped_bits_are_refused_or_keep_every_rule,
		test_garbage_is_read_safely,
		test_a_count_beyond_the_bytes_is_refused_before_allocating,
		test_a_newer_manifest_has_an_error_of_its_own,
		test_broken_rules_are_neither_encoded_nor_change_the_output,
		test_an_exclusive_end_may_touch_the_next_table,
	};

	return test_suite_run("manifest", tests, KV_ARRAY_COUNT(tests), 60);
}
