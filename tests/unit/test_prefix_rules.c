/* SPDX-License-Identifier: MIT */
/* Prefix rules: which prefixes keys have, what a range has in common, and rules as bytes. */
#include "kvcore/table/prefix_rules.h"

#include <check.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/table/filter.h"
#include "tests/support/test_suite.h"

static const struct kv_prefix_rule some[] = {
	{1, KV_PREFIX_SEPARATOR, '/'},
	{2, KV_PREFIX_LENGTH, 2},
	{2, KV_PREFIX_LENGTH, 4},
	{0x1234, KV_PREFIX_LENGTH, 255},
};

static struct prefix_rules rules;

static void setup(void)
{
	ck_assert_int_eq(prefix_rules_init(&rules, some, KV_ARRAY_COUNT(some)), 0);
}

static void teardown(void)
{
}

/* An ikey; a few of them may be in use. */
static struct kv_slice ikey(uint8_t keyspace, const char *key)
{
	static uint8_t buf[8][64];
	static unsigned next;
	uint8_t *b = buf[next++ % KV_ARRAY_COUNT(buf)];

	b[0] = 0;
	b[1] = keyspace;
	memcpy(b + 2, key, strlen(key));
	return kv_slice_of(b, 2 + strlen(key));
}

/* The prefixes of a key, each followed by a '|'. */
static const char *prefixes(struct kv_slice key, size_t known)
{
	static char text[200];
	struct prefix_state state = {0};
	struct kv_slice prefix;

	text[0] = 0;
	while (prefix_rules_next(&rules, key, known, &state, &prefix)) {
		strncat(text, (const char *)prefix.data + 2, prefix.len - 2);
		strcat(text, "|");
	}
	return text;
}

START_TEST(test_the_prefixes_of_a_key)
{
	ck_assert_str_eq(prefixes(ikey(1, "usr/share/doc"), 0), "usr/|usr/share/|");
	ck_assert_str_eq(prefixes(ikey(1, "usr/share/"), 0), "usr/|usr/share/|");
	ck_assert_str_eq(prefixes(ikey(1, "/"), 0), "/|");
	ck_assert_str_eq(prefixes(ikey(1, "usr"), 0), "");
	ck_assert_str_eq(prefixes(ikey(2, "abcdef"), 0), "ab|abcd|");
	ck_assert_str_eq(prefixes(ikey(2, "abc"), 0), "ab|");
	ck_assert_str_eq(prefixes(ikey(2, "a"), 0), "");
	ck_assert_str_eq(prefixes(ikey(3, "usr/share"), 0), "");
	ck_assert_str_eq(prefixes(ikey(0x34, "usr/share"), 0), "");
}
END_TEST

/* What a key shares with the one before is known: "usr/sha" is 2 + 7 bytes. */
START_TEST(test_known_prefixes_are_left_out)
{
	ck_assert_str_eq(prefixes(ikey(1, "usr/share/doc"), 9), "usr/share/|");
	ck_assert_str_eq(prefixes(ikey(1, "usr/share/doc"), 12), "");
	ck_assert_str_eq(prefixes(ikey(2, "abcdef"), 4), "abcd|");
	ck_assert_str_eq(prefixes(ikey(2, "abcdef"), 3), "ab|abcd|");
	ck_assert_str_eq(prefixes(ikey(2, "abcdef"), 6), "");
}
END_TEST

static const char *of_range(struct kv_slice lower, struct kv_slice upper)
{
	static char text[64];
	struct kv_slice prefix;

	text[0] = 0;
	if (prefix_rules_of_range(&rules, lower, upper, &prefix))
		strncat(text, (const char *)prefix.data + 2, prefix.len - 2);
	return text;
}

START_TEST(test_the_longest_prefix_that_a_range_has)
{
	ck_assert_str_eq(of_range(ikey(1, "a/b/c"), ikey(1, "a/b/d")), "a/b/");
	ck_assert_str_eq(of_range(ikey(1, "a/b/"), ikey(1, "a/b0")), "a/b/"); /* '/' + 1 */
	ck_assert_str_eq(of_range(ikey(1, "a/b/x"), ikey(1, "a/b0")), "a/b/");
	ck_assert_str_eq(of_range(ikey(1, "a/b/x"), ikey(1, "a/b0a")), "a/");
	ck_assert_str_eq(of_range(ikey(1, "a/b/x"), ikey(1, "a/b1")), "a/");
	ck_assert_str_eq(of_range(ikey(1, "a/b"), ikey(1, "b")), "");
	ck_assert_str_eq(of_range(ikey(1, ""), ikey(2, "")), "");
	ck_assert_str_eq(of_range(ikey(2, "abcdx"), ikey(2, "abcdz")), "abcd");
	ck_assert_str_eq(of_range(ikey(2, "abcd"), ikey(2, "abce")), "abcd");
	ck_assert_str_eq(of_range(ikey(2, "abcd"), ikey(2, "abcf")), "ab");
	ck_assert_str_eq(of_range(ikey(2, "abcd"), ikey(2, "ax")), "");
}
END_TEST

START_TEST(test_rules_as_bytes)
{
	struct prefix_rules back;
	struct kv_prefix_rule bad[KV_PREFIX_RULES_MAX + 1] = {{1, KV_PREFIX_LENGTH, 0}};
	uint8_t disk[PREFIX_RULES_DISK];

	ck_assert_int_eq(prefix_rules_decode(rules.disk, &back), 0);
	ck_assert_uint_eq(back.count, KV_ARRAY_COUNT(some));
	ck_assert_mem_eq(back.rule, some, sizeof(some));
	ck_assert_int_eq(prefix_rules_init(&back, bad, 1), -KV_E_INVALID);
	bad[0] = (struct kv_prefix_rule){1, 3, 1};
	ck_assert_int_eq(prefix_rules_init(&back, bad, 1), -KV_E_INVALID);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(bad); i++)
		bad[i] = some[0];
	ck_assert_int_eq(prefix_rules_init(&back, bad, KV_PREFIX_RULES_MAX), 0);
	ck_assert_int_eq(prefix_rules_decode(back.disk, &back), 0);
	ck_assert_int_eq(prefix_rules_init(&back, bad, KV_PREFIX_RULES_MAX + 1), -KV_E_INVALID);
	memcpy(disk, rules.disk, sizeof(disk));
	disk[PREFIX_RULES_DISK - 1] = 1; /* behind the last rule */
	ck_assert_int_eq(prefix_rules_decode(disk, &back), -KV_E_CORRUPT);
	memcpy(disk, rules.disk, sizeof(disk));
	disk[2] = 9; /* a kind that there is not */
	ck_assert_int_eq(prefix_rules_decode(disk, &back), -KV_E_CORRUPT);
}
END_TEST

START_TEST(test_a_filter_knows_its_rules)
{
	struct kv_slice key = ikey(1, "usr/share/doc");
	uint64_t hashes[] = {hash_bytes(key, 0), hash_bytes(ikey(1, "usr/"), 0), 0};
	struct prefix_rules other;
	struct kv_buf page = {0};

	ck_assert_int_eq(prefix_rules_init(&other, some, 1), 0);
	ck_assert_int_eq(filter_build(hashes, 3, 16, &rules, 4096, &page), 0);
	ck_assert_int_eq(filter_validate(page.data, page.len), 0);
	ck_assert(filter_has_rules(page.data, &rules));
	ck_assert(!filter_has_rules(page.data, &other));
	ck_assert(!filter_admits_key(page.data, key)); /* one of its prefixes is not there */
	hashes[2] = hash_bytes(ikey(1, "usr/share/"), 0);
	ck_assert_int_eq(filter_build(hashes, 3, 16, &rules, 4096, &page), 0);
	ck_assert(filter_admits_key(page.data, key));
	page.data[offsetof(struct filter_header_disk, prefixes) + 2] = 7;
	ck_assert_int_eq(filter_validate(page.data, page.len), -KV_E_CORRUPT);
	kv_buf_free(&page);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_prefixes_of_a_key,
		test_known_prefixes_are_left_out,
		test_the_longest_prefix_that_a_range_has,
		test_rules_as_bytes,
		test_a_filter_knows_its_rules,
	};

	return test_suite_run_with("prefix_rules", tests, KV_ARRAY_COUNT(tests), 60, setup,
				   teardown);
}
