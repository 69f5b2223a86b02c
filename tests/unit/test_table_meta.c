/* SPDX-License-Identifier: MIT */
/*
 * One table's place in the manifest: copies are deep, and each rule that a
 * table's fields must keep is refused alone when broken.
 */
#include "kvcore/format/table_meta.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "tests/support/test_suite.h"

static struct table_meta good_table(void)
{
	struct table_meta t = {
		.id = 1,
		.level = 2,
		.height = 3,
		.root = {.off = 0, .stored_len = 100, .raw_len = 200},
		.filter = {.off = 100, .stored_len = 50, .raw_len = 50},
		.ranges = {.off = 150, .stored_len = 50, .raw_len = 60},
		.stored_bytes = 8000,
		.entry_count = 10,
		.delete_count = 4,
		.range_count = 2,
		.seq_min = 5,
		.seq_max = 6,
		.extent_count = 2,
	};

	ck_assert_int_eq(buf_assign(&t.smallest, test_str("\1\1a")), 0);
	ck_assert_int_eq(buf_assign(&t.largest, test_str("\1\1b")), 0);
	t.extents = calloc(2, sizeof(*t.extents));
	ck_assert_ptr_nonnull(t.extents);
	t.extents[0] = (struct extent){1 << 20, 4096};
	t.extents[1] = (struct extent){2 << 20, 4096};
	return t;
}

START_TEST(test_a_copy_shares_no_memory)
{
	struct table_meta t = good_table(), copy;

	ck_assert_int_eq(table_meta_copy(&t, &copy), 0);
	ck_assert_ptr_ne(copy.smallest.data, t.smallest.data);
	ck_assert_ptr_ne(copy.largest.data, t.largest.data);
	ck_assert_ptr_ne(copy.extents, t.extents);
	table_meta_fini(&t);
	ck_assert(table_meta_valid(&copy));
	ck_assert(slice_equal(kv_buf_slice(&copy.smallest), test_str("\1\1a")));
	ck_assert(slice_equal(kv_buf_slice(&copy.largest), test_str("\1\1b")));
	ck_assert_uint_eq(copy.extents[1].off, 2 << 20);
	table_meta_fini(&copy);
}
END_TEST

START_TEST(test_an_empty_one_can_be_copied_and_released)
{
	struct table_meta t = {0}, copy;

	ck_assert_int_eq(table_meta_copy(&t, &copy), 0);
	ck_assert_ptr_null(copy.extents);
	table_meta_fini(&copy);
	table_meta_fini(&copy);
}
END_TEST

#define BREAKS(X)                                                                                  \
	X(t->id = 0)                                                                               \
	X(t->level = KV_LEVELS)                                                                    \
	X(t->height = TABLE_HEIGHT_MAX + 1)                                                        \
	X(t->height = 0)                                                                           \
	X(t->root.stored_len = 0)                                                                  \
	X(t->entry_count = 0)                                                                      \
	X(t->range_count = 0)                                                                      \
	X(t->ranges.stored_len = 0)                                                                \
	X(t->delete_count = 11)                                                                    \
	X(t->seq_min = 7)                                                                          \
	X(t->root.off = 7901)                                                                      \
	X(t->root.off = UINT64_MAX)                                                                \
	X(t->root.raw_len = 99)                                                                    \
	X(t->root.raw_len = PAGE_RAW_MAX + 1)                                                      \
	X(t->filter.raw_len = FILTER_RAW_MAX + 1)                                                  \
	X(t->filter.stored_len = UINT32_MAX)                                                       \
	X(t->ranges.off = 8000)                                                                    \
	X(t->stored_bytes = 8193)                                                                  \
	X(t->stored_bytes = 0)                                                                     \
	X(t->smallest.data[2] = 'c')                                                               \
	X(t->smallest.len = 1)                                                                     \
	X(t->largest.len = 0)                                                                      \
	X((t->largest.data[2] = 'a', t->largest_exclusive = true))                                 \
	X(t->extent_count = 0)                                                                     \
	X(t->extent_count = TABLE_EXTENTS_MAX + 1)                                                 \
	X(t->extents[0].off++)                                                                     \
	X(t->extents[1].len++)                                                                     \
	X(t->extents[1].len = 0)                                                                   \
	X(t->extents[1].off = UINT64_MAX - 4095)                                                   \
	X(t->extents[1].len = UINT64_MAX - 4095)

START_TEST(test_each_broken_rule_is_refused_alone)
{
	struct table_meta table = good_table(), *t = &table;

	ck_assert(table_meta_valid(t));
	table_meta_fini(t);
#define CHECK_BREAK(change)                                                                        \
	do {                                                                                       \
		table = good_table();                                                              \
		change;                                                                            \
		if (table_meta_valid(t))                                                           \
			ck_abort_msg("accepted: %s", #change);                                     \
		table_meta_fini(t);                                                                \
	} while (0);
	BREAKS(CHECK_BREAK)
#undef CHECK_BREAK
}
END_TEST

START_TEST(test_a_table_of_only_range_deletes_is_valid)
{
	struct table_meta t = good_table();

	t.height = 0;
	t.root.stored_len = 0;
	t.filter.stored_len = 0;
	t.entry_count = 0;
	t.delete_count = 0;
	ck_assert(table_meta_valid(&t));
	table_meta_fini(&t);
}
END_TEST

START_TEST(test_keys_and_extents_at_their_limits_read_back)
{
	struct table_meta t = good_table(), back;
	struct kv_buf out = {0};
	struct cursor c;

	ck_assert_int_eq(buf_resize(&t.largest, IKEY_MAX), 0);
	free(t.extents);
	t.extents = calloc(TABLE_EXTENTS_MAX, sizeof(*t.extents));
	ck_assert_ptr_nonnull(t.extents);
	t.extent_count = TABLE_EXTENTS_MAX;
	for (uint32_t i = 0; i < TABLE_EXTENTS_MAX; i++)
		t.extents[i] = (struct extent){(1 + i) * FORMAT_BLOCK, FORMAT_BLOCK};
	t.extents[0].off = (uint64_t)INT64_MAX / FORMAT_BLOCK * FORMAT_BLOCK - FORMAT_BLOCK;
	ck_assert(table_meta_valid(&t));
	ck_assert_int_eq(table_meta_encode(&t, &out), 0);
	c = cursor_of(kv_buf_slice(&out));
	ck_assert_int_eq(table_meta_decode(&c, &back), 0);
	ck_assert_int_eq(cursor_finish(&c), 0);
	ck_assert_uint_eq(back.extents[0].off, t.extents[0].off);
	ck_assert_uint_eq(back.largest.len, IKEY_MAX);
	table_meta_fini(&t);
	table_meta_fini(&back);
	kv_buf_free(&out);
}
END_TEST

START_TEST(test_a_longer_key_is_refused)
{
	struct table_meta t = good_table(), back;
	struct kv_buf out = {0};
	struct cursor c;

	ck_assert_int_eq(buf_resize(&t.largest, IKEY_MAX + 1), 0);
	ck_assert(!table_meta_valid(&t));
	ck_assert_int_eq(table_meta_encode(&t, &out), 0); /* judged by manifest_encode() */
	c = cursor_of(kv_buf_slice(&out));
	ck_assert_int_eq(table_meta_decode(&c, &back), -KV_E_CORRUPT);
	table_meta_fini(&t);
	kv_buf_free(&out);
}
END_TEST

int main(void)
{
	const TTest *tests[] = {
		test_a_copy_shares_no_memory,
		test_an_empty_one_can_be_copied_and_released,
		test_each_broken_rule_is_refused_alone,
		test_a_table_of_only_range_deletes_is_valid,
		test_keys_and_extents_at_their_limits_read_back,
		test_a_longer_key_is_refused,
	};

	return test_suite_run("table_meta", tests, KV_ARRAY_COUNT(tests), 30);
}
