/* SPDX-License-Identifier: MIT */
/*
 * Commit records: random payloads read back, and no cut, flipped bit or garbage
 * leads outside the payload (exact heap blocks, so ASan watches), to an endless
 * loop, or to a key or kind outside its limits.
 */
#include "kvcore/format/entry.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "tests/support/test_suite.h"

#define RECORDS 20

/* One random but valid operation; @store holds its bytes. */
static struct record_op random_op(struct test_rng *rng, uint8_t store[300])
{
	struct value_ref ref = {7, test_rng_below(rng, 1 << 20), 10, 20, {1, 2, 3}};
	struct record_op op = {.kind = (enum entry_kind)test_rng_below(rng, 4)};

	test_rng_fill(rng, store, 300);
	op.key = kv_slice_of(store, 3 + test_rng_below(rng, 60));
	switch (op.kind) {
	case ENTRY_PUT:
		op.value = kv_slice_of(store + 100, test_rng_below(rng, 200));
		break;
	case ENTRY_PUT_REF:
		op.value = kv_slice_of(store + 100, value_ref_encode(&ref, store + 100));
		break;
	case ENTRY_RANGE_DELETE:
		memset(store + 100, 0xff, 2);
		op.value = kv_slice_of(store + 100, 2 + test_rng_below(rng, 50));
		if (slice_compare(op.key, op.value) > 0)
			op.value = op.key;
		break;
	default:
		break;
	}
	return op;
}

static void random_payload(uint64_t seed, struct kv_buf *payload)
{
	struct test_rng rng = {seed};
	struct kv_buf ops = {0};

	buf_clear(payload);
	for (kv_seq seq = 1; seq <= RECORDS; seq++) {
		uint64_t count = test_rng_below(&rng, 6);

		buf_clear(&ops);
		for (uint64_t i = 0; i < count; i++) {
			uint8_t store[300];
			struct record_op op = random_op(&rng, store);

			ck_assert_int_eq(record_op_append(&ops, &op), 0);
		}
		ck_assert_int_eq(record_append(payload, seq, count, kv_buf_slice(&ops)), 0);
	}
	kv_buf_free(&ops);
}

START_TEST(test_random_payloads_read_back)
{
	struct test_rng seeds = test_rng_seeded("record");
	struct kv_buf payload = {0};

	for (int round = 0; round < 200; round++) {
		uint64_t seed = test_rng_next(&seeds);
		struct test_rng rng = {seed};
		struct record_reader r;
		struct record_op got;
		kv_seq seq;

		random_payload(seed, &payload);
		record_reader_init(&r, kv_buf_slice(&payload));
		for (kv_seq want = 1; want <= RECORDS; want++) {
			uint64_t count = test_rng_below(&rng, 6);

			ck_assert_int_eq(record_reader_next(&r, &seq), 0);
			ck_assert_uint_eq(seq, want);
			ck_assert_uint_eq(r.ops_left, count);
			for (uint64_t i = 0; i < count; i++) {
				uint8_t store[300];
				struct record_op op = random_op(&rng, store);

				ck_assert_int_eq(record_reader_op(&r, &got), 0);
				ck_assert_int_eq(got.kind, op.kind);
				ck_assert(slice_equal(got.key, op.key));
				ck_assert(slice_equal(got.value, op.value));
			}
			ck_assert_int_eq(record_reader_op(&r, &got), -KV_E_NOTFOUND);
		}
		ck_assert_int_eq(record_reader_next(&r, &seq), -KV_E_NOTFOUND);
		ck_assert_int_eq(record_reader_next(&r, &seq), -KV_E_NOTFOUND);
	}
	kv_buf_free(&payload);
}
END_TEST

/* Read everything of an exact copy; returns the last result, records counted in @count. */
static int read_all(struct kv_slice payload, unsigned *count)
{
	uint8_t *exact = malloc(payload.len ? payload.len : 1);
	struct record_reader r;
	struct record_op op;
	bool within = true; /* one assertion a payload: each costs a system call */
	unsigned found = 0;
	kv_seq seq;
	int err;

	ck_assert_ptr_nonnull(exact);
	if (payload.len)
		memcpy(exact, payload.data, payload.len);
	record_reader_init(&r, kv_slice_of(exact, payload.len));
	while (!(err = record_reader_next(&r, &seq))) {
		found++;
		within = within && seq;
		while (!(err = record_reader_op(&r, &op))) {
			within = within && op.kind <= ENTRY_RANGE_DELETE &&
				 op.key.len >= IKEY_PREFIX_LEN && op.key.len <= IKEY_MAX &&
				 op.value.len <= payload.len;
		}
		if (err != -KV_E_NOTFOUND)
			break;
	}
	free(exact);
	if (count)
		*count = found;
	ck_assert(within && (err == -KV_E_NOTFOUND || err == -KV_E_CORRUPT));
	return err;
}

START_TEST(test_a_cut_payload_ends_at_a_record_or_is_refused)
{
	struct kv_buf payload = {0};
	unsigned count, clean = 0;

	random_payload(1, &payload);
	for (size_t cut = 0; cut < payload.len; cut++) {
		if (read_all(kv_slice_of(payload.data, cut), &count) == -KV_E_NOTFOUND)
			clean++;
		ck_assert_uint_le(count, RECORDS);
	}
	ck_assert_uint_eq(clean, RECORDS); /* the ends of 0 to RECORDS-1 records */
	ck_assert_int_eq(read_all(kv_buf_slice(&payload), &count), -KV_E_NOTFOUND);
	ck_assert_uint_eq(count, RECORDS);
	kv_buf_free(&payload);
}
END_TEST

START_TEST(test_flipped_bits_and_garbage_are_read_safely)
{
	struct test_rng rng = test_rng_seeded("record");
	struct kv_buf payload = {0};
	uint8_t garbage[200];

	random_payload(2, &payload);
	for (size_t bit = 0; bit < 8 * payload.len; bit++) {
		payload.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		(void)read_all(kv_buf_slice(&payload), NULL);
		payload.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	for (int i = 0; i < 20000; i++) {
		size_t len = test_rng_below(&rng, sizeof(garbage));

		test_rng_fill(&rng, garbage, len);
		for (size_t j = 0; j < len; j += 3)
			garbage[j] &= 7; /* small numbers get further */
		(void)read_all(kv_slice_of(garbage, len), NULL);
	}
	kv_buf_free(&payload);
}
END_TEST

static int read_one_op(const struct record_op *op, uint64_t count)
{
	struct kv_buf ops = {0}, payload = {0};
	int err;

	ck_assert_int_eq(record_op_append(&ops, op), 0);
	ck_assert_int_eq(record_append(&payload, 1, count, kv_buf_slice(&ops)), 0);
	err = read_all(kv_buf_slice(&payload), NULL);
	kv_buf_free(&ops);
	kv_buf_free(&payload);
	return err;
}

START_TEST(test_operations_outside_their_limits_are_refused)
{
	static uint8_t longer[IKEY_MAX + 1];
	struct record_op op = {ENTRY_PUT, test_str("\1\1k"), test_str("v")};

	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_NOTFOUND);
	ck_assert_int_eq(read_one_op(&op, 2), -KV_E_CORRUPT); /* says two, holds one */
	ck_assert_int_eq(read_one_op(&op, 0), -KV_E_CORRUPT);
	ck_assert_int_eq(read_one_op(&op, UINT64_MAX), -KV_E_CORRUPT);
	op.key = test_str("\1\1"); /* no user key */
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_CORRUPT);
	op.key = kv_slice_of(longer, sizeof(longer));
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_CORRUPT);
	op.key = kv_slice_of(longer, IKEY_MAX);
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_NOTFOUND);
	op = (struct record_op){ENTRY_PUT_REF, test_str("\1\1k"), test_str("not a reference")};
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_CORRUPT);
	op = (struct record_op){ENTRY_RANGE_DELETE, test_str("\1\1"), test_str("\1\2")};
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_NOTFOUND);
	op = (struct record_op){ENTRY_RANGE_DELETE, test_str("\1\2"), test_str("\1\1")};
	ck_assert_int_eq(read_one_op(&op, 1), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_records_may_be_skipped_without_reading_their_operations)
{
	struct kv_buf payload = {0};
	struct record_reader r;
	kv_seq seq = 0;

	random_payload(3, &payload);
	record_reader_init(&r, kv_buf_slice(&payload));
	for (kv_seq want = 1; want <= RECORDS; want++) {
		ck_assert_int_eq(record_reader_next(&r, &seq), 0);
		ck_assert_uint_eq(seq, want);
	}
	ck_assert_int_eq(record_reader_next(&r, &seq), -KV_E_NOTFOUND);
	kv_buf_free(&payload);
}
END_TEST

START_TEST(test_a_record_of_seq_zero_is_refused)
{
	struct kv_buf payload = {0};

	ck_assert_int_eq(record_append(&payload, 0, 0, kv_slice_of(NULL, 0)), 0);
	ck_assert_int_eq(read_all(kv_buf_slice(&payload), NULL), -KV_E_CORRUPT);
	kv_buf_free(&payload);
}
END_TEST

START_TEST(test_a_count_beyond_the_bytes_is_refused_before_its_operations)
{
	struct kv_buf payload = {0};
	struct record_reader r;
	kv_seq seq;

	ck_assert_int_eq(record_append(&payload, 1, 1000, test_str("short")), 0);
	record_reader_init(&r, kv_buf_slice(&payload));
	ck_assert_int_eq(record_reader_next(&r, &seq), -KV_E_CORRUPT);
	ck_assert_int_eq(record_reader_next(&r, &seq), -KV_E_CORRUPT);
	kv_buf_free(&payload);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_random_payloads_read_back,
		test_a_cut_payload_ends_at_a_record_or_is_refused,
		test_flipped_bits_and_garbage_are_read_safely,
		test_operations_outside_their_limits_are_refused,
		test_records_may_be_skipped_without_reading_their_operations,
		test_a_record_of_seq_zero_is_refused,
		test_a_count_beyond_the_bytes_is_refused_before_its_operations,
	};

	return test_suite_run("record", tests, KV_ARRAY_COUNT(tests), 60);
}
