/* SPDX-License-Identifier: MIT */
/*
 * entry.h: the order of entries, internal keys, and references to large values
 * with every cut and every flipped bit.
 */
#include "kvcore/format/entry.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

static struct entry entry_at(const char *key, kv_seq seq)
{
	return (struct entry){.key = test_str(key), .seq = seq};
}

START_TEST(test_keys_rise_and_versions_fall)
{
	const struct entry ordered[] = {
		entry_at("a", KV_SEQ_MAX), entry_at("a", 2),  entry_at("a", 1),
		entry_at("ab", 9),	   entry_at("b", 10), entry_at("b", 0),
	};

	for (size_t i = 0; i < KV_ARRAY_COUNT(ordered); i++) {
		for (size_t j = 0; j < KV_ARRAY_COUNT(ordered); j++) {
			int order = entry_compare(&ordered[i], &ordered[j]);

			ck_assert_int_eq((order > 0) - (order < 0), (i > j) - (i < j));
		}
	}
}
END_TEST

START_TEST(test_an_ikey_sorts_by_keyspace_and_then_by_key)
{
	uint8_t a[IKEY_MAX], b[IKEY_MAX];
	struct kv_slice x = ikey_make(a, 255, test_str("zzz"));
	struct kv_slice y = ikey_make(b, 256, test_str("a"));

	ck_assert_int_lt(slice_compare(x, y), 0);
	ck_assert_uint_eq(ikey_keyspace(x), 255);
	ck_assert_uint_eq(ikey_keyspace(y), 256);
	ck_assert(slice_equal(ikey_user(x), test_str("zzz")));
	/* The end of the last keyspace. */
	x = ikey_make(a, KV_KEYSPACE_MAX + 1, kv_slice_of(NULL, 0));
	ck_assert_int_lt(slice_compare(y, x), 0);
	ck_assert_uint_eq(x.len, IKEY_PREFIX_LEN);
	ck_assert_uint_eq(ikey_user(x).len, 0);
}
END_TEST

START_TEST(test_the_longest_key_fits)
{
	uint8_t user[KV_KEY_MAX], out[IKEY_MAX];
	struct kv_slice k;

	memset(user, 0xab, sizeof(user));
	k = ikey_make(out, 1, kv_slice_of(user, sizeof(user)));
	ck_assert_uint_eq(k.len, IKEY_MAX);
	ck_assert_mem_eq(ikey_user(k).data, user, sizeof(user));
}
END_TEST

static struct value_ref good_ref(void)
{
	struct value_ref ref = {
		.segment_id = 300, .off = 81920, .stored_len = 5000, .raw_len = 9000};

	memset(ref.sum, 0x5a, sizeof(ref.sum));
	return ref;
}

START_TEST(test_references_read_back)
{
	struct value_ref ref = good_ref(), back;
	uint8_t out[VALUE_REF_MAX];
	size_t len = value_ref_encode(&ref, out);

	ck_assert_uint_le(len, VALUE_REF_MAX);
	ck_assert_int_eq(value_ref_decode(kv_slice_of(out, len), &back), 0);
	ck_assert_uint_eq(back.segment_id, ref.segment_id);
	ck_assert_uint_eq(back.off, ref.off);
	ck_assert_uint_eq(back.stored_len, ref.stored_len);
	ck_assert_uint_eq(back.raw_len, ref.raw_len);
	ck_assert_mem_eq(back.sum, ref.sum, sizeof(ref.sum));
	ref = (struct value_ref){
		UINT64_MAX, INT64_MAX - KV_VALUE_MAX, KV_VALUE_MAX, KV_VALUE_MAX, {0}};
	len = value_ref_encode(&ref, out);
	ck_assert_uint_le(len, VALUE_REF_MAX);
	ck_assert_int_eq(value_ref_decode(kv_slice_of(out, len), &back), 0);
}
END_TEST

START_TEST(test_cut_and_lengthened_references_are_refused)
{
	struct value_ref ref = good_ref(), back;
	uint8_t out[VALUE_REF_MAX + 1] = {0};
	size_t len = value_ref_encode(&ref, out);

	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(value_ref_decode(kv_slice_of(out, cut), &back), -KV_E_CORRUPT);
	ck_assert_int_eq(value_ref_decode(kv_slice_of(out, len + 1), &back), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_a_flipped_bit_is_refused_or_gives_a_reference_within_limits)
{
	struct value_ref ref = good_ref(), back;
	uint8_t out[VALUE_REF_MAX];
	size_t len = value_ref_encode(&ref, out);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		int err;

		out[bit / 8] ^= (uint8_t)(1U << bit % 8);
		err = value_ref_decode(kv_slice_of(out, len), &back);
		ck_assert(!err || err == -KV_E_CORRUPT);
		if (!err) {
			ck_assert_uint_ge(back.segment_id, 1);
			ck_assert_uint_ge(back.stored_len, 1);
			ck_assert_uint_le(back.stored_len, back.raw_len);
			ck_assert_uint_le(back.raw_len, KV_VALUE_MAX);
		}
		out[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
}
END_TEST

START_TEST(test_references_outside_their_limits_are_refused)
{
	/* segment 0; nothing stored; more stored than raw: as bytes, no encoder makes them. */
	static const uint8_t heads[][4] = {{0, 0, 1, 1}, {1, 0, 0, 1}, {1, 0, 2, 1}, {1, 0, 0, 0}};
	uint8_t in[4 + CHECKSUM_LEN] = {0};
	struct value_ref back;

	for (size_t i = 0; i < KV_ARRAY_COUNT(heads); i++) {
		memcpy(in, heads[i], 4);
		ck_assert_int_eq(value_ref_decode(kv_slice_of(in, sizeof(in)), &back),
				 -KV_E_CORRUPT);
	}
	memcpy(in, "\x01\x00\x01\x01", 4);
	ck_assert_int_eq(value_ref_decode(kv_slice_of(in, sizeof(in)), &back), 0);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_keys_rise_and_versions_fall,
		test_an_ikey_sorts_by_keyspace_and_then_by_key,
		test_the_longest_key_fits,
		test_references_read_back,
		test_cut_and_lengthened_references_are_refused,
		test_a_flipped_bit_is_refused_or_gives_a_reference_within_limits,
		test_references_outside_their_limits_are_refused,
	};

	return test_suite_run("entry", tests, KV_ARRAY_COUNT(tests), 20);
}
