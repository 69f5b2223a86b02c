/* SPDX-License-Identifier: MIT */
/* Keys: building, ordering and splitting them. */
#include "fusefs/model/place.h"

#include <errno.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

static struct kv_slice bytes(const char *s, size_t len)
{
	return kv_slice_of(s, len);
}
#define B(literal) bytes((literal), sizeof(literal) - 1)

START_TEST(test_names_are_any_bytes_but_slash_and_nul)
{
	char longest[257];

	memset(longest, 'n', sizeof(longest));
	ck_assert_int_eq(place_check_name(B("a")), 0);
	ck_assert_int_eq(place_check_name(B("\xff\x01\n")), 0);
	ck_assert_int_eq(place_check_name(B("...")), 0);
	ck_assert_int_eq(place_check_name(bytes(longest, 255)), 0);
	ck_assert_int_eq(place_check_name(bytes(longest, 256)), -ENAMETOOLONG);
	ck_assert_int_eq(place_check_name(B("")), -EINVAL);
	ck_assert_int_eq(place_check_name(B(".")), -EINVAL);
	ck_assert_int_eq(place_check_name(B("..")), -EINVAL);
	ck_assert_int_eq(place_check_name(B("a/b")), -EINVAL);
	ck_assert_int_eq(place_check_name(B("a\0b")), -EINVAL);
}
END_TEST

START_TEST(test_a_subtree_is_one_range)
{
	struct model_key end;
	struct kv_slice prefix = B("dir\0");

	place_end(prefix, &end);
	ck_assert(slice_equal(model_key_slice(&end), B("dir\x01")));
	ck_assert_int_lt(slice_compare(B("dir\0zzz"), model_key_slice(&end)), 0);
	ck_assert_int_lt(slice_compare(B("dir\0a\0b\0c"), model_key_slice(&end)), 0);
	ck_assert_int_ge(slice_compare(B("dir\x01"), model_key_slice(&end)), 0);
	place_end(B("\xff\xff"), &end);
	ck_assert_uint_eq(end.len, 0);
}
END_TEST

static void expect_split(struct kv_slice key, struct kv_slice prefix, struct kv_slice name)
{
	struct kv_slice p, n;

	ck_assert_int_eq(place_split(key, &p, &n), 0);
	ck_assert(slice_equal(p, prefix));
	ck_assert(slice_equal(n, name));
}

START_TEST(test_keys_split_into_prefix_and_name)
{
	expect_split(B("a"), B(""), B("a"));
	expect_split(B("a\0b"), B("a\0"), B("b"));
	expect_split(B("a\0b\0c"), B("a\0b\0"), B("c"));
	/* The id of a fresh prefix may hold any byte. */
	expect_split(B("\0\0\0\0\0\0\0\1\0x"), B("\0\0\0\0\0\0\0\1\0"), B("x"));
	expect_split(B("\0\0\0\0\0\0\0\1\0x\0y"), B("\0\0\0\0\0\0\0\1\0x\0"), B("y"));
}
END_TEST

START_TEST(test_keys_that_are_none_are_refused)
{
	struct kv_slice p, n;
	char big[MODEL_KEY_MAX + 10];

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(place_split(B(""), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(B("a\0"), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(B("\0\1\2"), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(B("\0\0\0\0\0\0\0\0\1"), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(B("a\0.."), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(B("a/b"), &p, &n), -KV_E_CORRUPT);
	ck_assert_int_eq(place_split(bytes(big, 256), &p, &n), -KV_E_CORRUPT);
	big[MODEL_PREFIX_MAX] = 0;
	ck_assert_int_eq(place_split(bytes(big, MODEL_PREFIX_MAX + 3), &p, &n), -KV_E_CORRUPT);
	big[MODEL_PREFIX_MAX] = 'x';
	big[MODEL_PREFIX_MAX - 1] = 0;
	ck_assert_int_eq(place_split(bytes(big, MODEL_PREFIX_MAX + 3), &p, &n), 0);
}
END_TEST

START_TEST(test_a_directory_has_its_own_prefix_or_the_natural_one)
{
	struct inode r = {.mode = S_IFDIR};
	struct model_key key;

	place_prefix(&r, B("p\0"), B("n"), &key);
	ck_assert(slice_equal(model_key_slice(&key), B("p\0n\0")));
	r.prefix = B("elsewhere\0");
	place_prefix(&r, B("p\0"), B("n"), &key);
	ck_assert(slice_equal(model_key_slice(&key), B("elsewhere\0")));
	place_fresh(0x0102030405060708, &key);
	ck_assert(slice_equal(model_key_slice(&key), B("\0\1\2\3\4\5\6\7\x08")));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_names_are_any_bytes_but_slash_and_nul,
		test_a_subtree_is_one_range,
		test_keys_split_into_prefix_and_name,
		test_keys_that_are_none_are_refused,
		test_a_directory_has_its_own_prefix_or_the_natural_one,
	};

	return test_suite_run("place", tests, KV_ARRAY_COUNT(tests), 30);
}
