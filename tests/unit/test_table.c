/* SPDX-License-Identifier: MIT */
/* Building tables and looking things up in them, against a sorted array. */
#include "kvcore/table/table.h"

#include <check.h>
#include <errno.h>

#include "kvcore/base/buf.h"
#include "kvcore/os/os_thread.h"
#include "tests/unit/table_rig.h"

static const struct rig_options option_sets[] = {
	{.page_size = 1024, .compress = COMPRESS_NONE, .bloom_bits = 10},
	{.page_size = 1024, .compress = COMPRESS_SNAPPY},
	{.page_size = 4096, .compress = COMPRESS_SNAPPY, .bloom_bits = 10, .cache_bytes = 65536},
	{.page_size = 16384, .compress = COMPRESS_NONE, .cache_bytes = 1},
	{.page_size = 65536, .compress = COMPRESS_SNAPPY, .bloom_bits = 4},
};

static void check_get(struct table *t, const struct rig_model *m, struct kv_slice key, kv_seq seq)
{
	size_t i = rig_model_find(m, key, seq);
	struct kv_buf value = {0};
	struct entry got = {.key = key};
	int err;

	err = table_get(t, key, hash_bytes(key, 0), seq, &got.seq, &got.kind, &value);
	if (i == m->count || !slice_equal(m->entries[i].key, key)) {
		ck_assert_int_eq(err, -KV_E_NOTFOUND);
	} else {
		ck_assert_int_eq(err, 0);
		got.value = kv_buf_slice(&value);
		rig_check_entry(&got, &m->entries[i]);
	}
	kv_buf_free(&value);
}

static void check_meta(const struct rig_model *m, const struct table_meta *meta)
{
	uint64_t raw = 0, deletes = 0, refs = 0, extents = 0;
	kv_seq lowest = KV_SEQ_MAX, highest = 0;
	struct value_ref ref;

	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];

		raw += e->key.len + e->value.len;
		deletes += e->kind == ENTRY_DELETE;
		lowest = min_u64(lowest, e->seq);
		highest = max_u64(highest, e->seq);
		if (e->kind != ENTRY_PUT_REF)
			continue;
		ck_assert_int_eq(value_ref_decode(e->value, &ref), 0);
		refs += ref.stored_len;
	}
	for (uint32_t i = 0; i < meta->extent_count; i++)
		extents += meta->extents[i].len;
	ck_assert_uint_eq(meta->id, RIG_TABLE_ID);
	ck_assert_uint_eq(meta->level, 2);
	ck_assert_uint_eq(meta->entry_count, m->count);
	ck_assert_uint_eq(meta->delete_count, deletes);
	ck_assert_uint_eq(meta->raw_bytes, raw);
	ck_assert_uint_eq(meta->ref_bytes, refs);
	ck_assert_uint_eq(meta->seq_min, lowest);
	ck_assert_uint_eq(meta->seq_max, highest);
	ck_assert_uint_eq(extents, align_up_u64(meta->stored_bytes, FORMAT_BLOCK));
	ck_assert(slice_equal(kv_buf_slice(&meta->smallest), m->entries[0].key));
	ck_assert(slice_equal(kv_buf_slice(&meta->largest), m->entries[m->count - 1].key));
	ck_assert(!meta->largest_exclusive);
}

static void check_table(const struct rig_options *o, struct test_rng *rng, size_t keys)
{
	uint8_t key[IKEY_MAX + 8];
	struct table_meta meta;
	struct rig_model m;
	struct table *t;
	uint64_t free_before;
	struct rig r;

	rig_init(&r, test_rng_next(rng), o);
	rig_model_init(&m, rng, keys);
	free_before = rig_free_bytes(&r);
	ck_assert_int_eq(rig_build(&r, &m, NULL, keys % 2, &meta), 0);
	ck_assert_uint_eq(free_before - rig_free_bytes(&r),
			  align_up_u64(meta.stored_bytes, FORMAT_BLOCK));
	check_meta(&m, &meta);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	for (size_t i = 0; i < m.count; i += 1 + m.count / 2000) {
		const struct entry *e = &m.entries[i];

		ck_assert(table_covers(t, e->key));
		check_get(t, &m, e->key, e->seq);
		check_get(t, &m, e->key, e->seq - 1);
		check_get(t, &m, e->key, KV_SEQ_MAX);
	}
	for (int i = 0; i < 1500; i++)
		check_get(t, &m, rig_some_key(&m, rng, key), test_rng_below(rng, 60));
	ck_assert_uint_eq(r.damaged, 0);
	table_close(t, true);
	table_meta_fini(&meta);
	rig_model_fini(&m);
	rig_fini(&r);
}

START_TEST(test_a_get_finds_the_newest_version_not_newer_than_asked)
{
	struct test_rng rng = test_rng_seeded("table get");

	for (size_t i = 0; i < KV_ARRAY_COUNT(option_sets); i++) {
		check_table(&option_sets[i], &rng, 1);
		check_table(&option_sets[i], &rng, 20);
		check_table(&option_sets[i], &rng, 800);
	}
}
END_TEST

START_TEST(test_a_table_in_many_extents_reads_as_one)
{
	struct rig_options o = option_sets[0];
	struct test_rng rng = test_rng_seeded("table crumbs");

	o.crumbs = true;
	o.bloom_bits = 0;
	for (int round = 0; round < 20; round++) {
		uint8_t key[IKEY_MAX + 8];
		struct table_meta meta;
		struct rig_model m;
		struct table *t;
		struct rig r;

		rig_init(&r, test_rng_next(&rng), &o);
		rig_model_init(&m, &rng, 8);
		while (m.len > 150000) {
			rig_model_fini(&m);
			rig_model_init(&m, &rng, 8);
		}
		ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), 0);
		ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
		for (size_t i = 0; i < m.count; i++)
			check_get(t, &m, m.entries[i].key, m.entries[i].seq);
		for (int i = 0; i < 100; i++)
			check_get(t, &m, rig_some_key(&m, &rng, key), 10);
		if (meta.stored_bytes > 4 * FORMAT_BLOCK)
			ck_assert_uint_gt(meta.extent_count, 1);
		table_close(t, true);
		table_meta_fini(&meta);
		rig_model_fini(&m);
		rig_fini(&r);
	}
}
END_TEST

START_TEST(test_an_absent_key_rarely_reads_a_leaf)
{
	struct rig_options o = {.page_size = 4096, .bloom_bits = 10, .cache_bytes = 1U << 20};
	struct test_rng rng = test_rng_seeded("table absent");
	struct kv_buf value = {0};
	struct table_meta meta;
	struct rig_model m;
	enum entry_kind kind;
	struct table *t;
	uint64_t reads;
	struct rig r;
	kv_seq seq;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 2000);
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), 0);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	reads = sim_env_calls(r.sim, SIM_OP_READ);
	for (uint64_t i = 0; i < 2000; i++) {
		uint8_t key[12] = {0, 2, 'n', 'o'};
		struct kv_slice k = kv_slice_of(key, sizeof(key));

		be64_put(key + 4, i * 7919);
		ck_assert_int_eq(table_get(t, k, hash_bytes(k, 0), 9, &seq, &kind, &value),
				 -KV_E_NOTFOUND);
	}
	ck_assert_uint_lt(sim_env_calls(r.sim, SIM_OP_READ) - reads, 100);
	table_close(t, false);
	table_meta_fini(&meta);
	rig_model_fini(&m);
	kv_buf_free(&value);
	rig_fini(&r);
}
END_TEST

/* ---- range deletes ---------------------------------------------------------- */

static void check_ranges(struct table *t, size_t count, const char *inside, kv_seq seq)
{
	const struct range_set *ranges, *again;

	ck_assert_int_eq(table_ranges(t, &ranges), 0);
	ck_assert_uint_eq(range_set_count(ranges), count);
	ck_assert_uint_eq(range_set_covering(ranges, test_str(inside), KV_SEQ_MAX), seq);
	ck_assert_int_eq(table_ranges(t, &again), 0);
	ck_assert_ptr_eq(ranges, again);
}

START_TEST(test_a_table_of_range_deletes_alone_is_legal)
{
	struct rig_options o = {.bloom_bits = 10};
	struct kv_buf value = {0};
	struct range_set *set;
	struct table_meta meta;
	enum entry_kind kind;
	struct table *t;
	struct iter *it;
	struct rig r;
	kv_seq seq;

	rig_init(&r, 1, &o);
	ck_assert_int_eq(range_set_new(&set), 0);
	ck_assert_int_eq(range_set_add(set, test_str("bbb"), test_str("ddd"), 8), 0);
	ck_assert_int_eq(range_set_add(set, test_str("ccc"), test_str("eee"), 5), 0);
	ck_assert_int_eq(rig_build(&r, NULL, set, false, &meta), 0);
	ck_assert_uint_eq(meta.height, 0);
	ck_assert_uint_eq(meta.entry_count, 0);
	ck_assert_uint_eq(meta.range_count, 3);
	ck_assert_uint_eq(meta.seq_min, 5);
	ck_assert_uint_eq(meta.seq_max, 8);
	ck_assert(meta.largest_exclusive);
	ck_assert(slice_equal(kv_buf_slice(&meta.smallest), test_str("bbb")));
	ck_assert(slice_equal(kv_buf_slice(&meta.largest), test_str("eee")));
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	ck_assert(table_covers(t, test_str("eed")));
	ck_assert(!table_covers(t, test_str("eee")));
	ck_assert(!table_covers(t, test_str("bba")));
	check_ranges(t, 3, "ccd", 8);
	ck_assert_int_eq(table_get(t, test_str("ccc"), 0, 9, &seq, &kind, &value), -KV_E_NOTFOUND);
	ck_assert_int_eq(table_iter_new(t, 0, &it), 0);
	ck_assert_int_eq(iter_first(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_last(it), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_seek(it, test_str("a")), -KV_E_NOTFOUND);
	ck_assert_int_eq(iter_seek_before(it, test_str("z")), -KV_E_NOTFOUND);
	iter_close(it);
	table_close(t, false);
	table_meta_fini(&meta);
	range_set_free(set);
	rig_fini(&r);
}
END_TEST

/* Entries "bbb" to "ddd" and one range delete: what the bounds become. */
static void check_bounds(const char *from, const char *to, const char *smallest,
			 const char *largest, bool exclusive)
{
	struct entry entries[] = {{test_str("bbb"), 3, ENTRY_DELETE, {0}},
				  {test_str("ddd"), 4, ENTRY_DELETE, {0}}};
	struct rig_model m = {.entries = entries, .count = 2};
	struct rig_options o = {0};
	struct range_set *set;
	struct table_meta meta;
	struct table *t;
	struct rig r;

	rig_init(&r, 1, &o);
	ck_assert_int_eq(range_set_new(&set), 0);
	ck_assert_int_eq(range_set_add(set, test_str(from), test_str(to), 9), 0);
	ck_assert_int_eq(rig_build(&r, &m, set, false, &meta), 0);
	ck_assert(slice_equal(kv_buf_slice(&meta.smallest), test_str(smallest)));
	ck_assert(slice_equal(kv_buf_slice(&meta.largest), test_str(largest)));
	ck_assert_int_eq(meta.largest_exclusive, exclusive);
	ck_assert_uint_eq(meta.seq_min, 3);
	ck_assert_uint_eq(meta.seq_max, 9);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	check_ranges(t, 1, from, 9);
	check_get(t, &m, test_str("ddd"), 4);
	table_close(t, false);
	table_meta_fini(&meta);
	range_set_free(set);
	rig_fini(&r);
}

START_TEST(test_bounds_take_in_range_deletes)
{
	check_bounds("bbc", "bbd", "bbb", "ddd", false);
	check_bounds("aaa", "ccc", "aaa", "ddd", false);
	check_bounds("ccc", "ddd", "bbb", "ddd", false);
	check_bounds("ccc", "dddd", "bbb", "dddd", true);
	check_bounds("aaa", "zzz", "aaa", "zzz", true);
}
END_TEST

/* ---- building that fails ------------------------------------------------------ */

START_TEST(test_entries_out_of_order_are_refused)
{
	struct entry entries[] = {{test_str("bbb"), 3, ENTRY_DELETE, {0}},
				  {test_str("bbb"), 3, ENTRY_DELETE, {0}}};
	struct rig_model m = {.entries = entries, .count = 2};
	struct rig_options o = {0};
	struct table_meta meta;
	struct rig r;

	rig_init(&r, 1, &o);
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), -KV_E_CORRUPT);
	entries[1].seq = 4;
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), -KV_E_CORRUPT);
	entries[1].key = test_str("bba");
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), -KV_E_CORRUPT);
	ck_assert_int_eq(rig_build(&r, NULL, NULL, false, &meta), -KV_E_INVALID);
	rig_fini(&r);
}
END_TEST

START_TEST(test_failed_builds_give_all_space_back)
{
	struct rig_options o = {.page_size = 4096, .bloom_bits = 10};
	struct test_rng rng = test_rng_seeded("table build fails");
	struct table_meta meta;
	struct rig_model m;
	uint64_t free_before;
	struct rig r;
	int err = -EIO;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 3000);
	free_before = rig_free_bytes(&r);
	for (uint64_t nth = 1; err; nth++) {
		sim_env_fail(r.sim, SIM_OP_WRITE, nth, true, -EIO);
		err = rig_build(&r, &m, NULL, true, &meta);
		if (!err)
			break;
		ck_assert_int_eq(err, -EIO);
		ck_assert_uint_eq(rig_free_bytes(&r), free_before);
		ck_assert_uint_lt(nth, 1000);
	}
	table_meta_fini(&meta);
	rig_model_fini(&m);
	rig_fini(&r);
}
END_TEST

START_TEST(test_a_full_volume_is_nospace_and_loses_nothing)
{
	struct rig_options o = {.page_size = 4096, .size_max = 8U << 20};
	struct test_rng rng = test_rng_seeded("table nospace");
	struct table_meta meta;
	struct rig_model m;
	uint64_t free_before;
	struct rig r;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 10000);
	free_before = rig_free_bytes(&r);
	ck_assert_int_eq(rig_build(&r, &m, NULL, false, &meta), -KV_E_NOSPACE);
	ck_assert_uint_eq(rig_free_bytes(&r), free_before);
	rig_model_fini(&m);
	rig_fini(&r);
}
END_TEST

START_TEST(test_the_builders_size_is_close_to_the_tables)
{
	struct rig_options o = {.page_size = 4096, .bloom_bits = 10};
	struct test_rng rng = test_rng_seeded("table size");
	struct table_builder *b;
	struct table_meta meta;
	struct rig_model m;
	uint64_t size;
	struct rig r;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 3000);
	ck_assert_int_eq(table_builder_new(&r.env, RIG_TABLE_ID, SPACE_FLUSH, false, &b), 0);
	for (size_t i = 0; i < m.count; i++)
		ck_assert_int_eq(table_builder_add(b, &m.entries[i]), 0);
	ck_assert_uint_eq(table_builder_entries(b), m.count);
	size = table_builder_size(b);
	ck_assert_int_eq(table_builder_finish(b, NULL, 0, &meta), 0);
	ck_assert_uint_ge(size, meta.stored_bytes - meta.stored_bytes / 10);
	ck_assert_uint_le(size, meta.stored_bytes + meta.stored_bytes / 10);
	table_meta_fini(&meta);
	rig_model_fini(&m);
	rig_fini(&r);
}
END_TEST

/* ---- threads ------------------------------------------------------------------ */

struct reader {
	struct table *t;
	const struct rig_model *m;
	struct os_thread thread;
	uint64_t seed;
};

static void read_at_random(void *arg)
{
	struct reader *reader = (struct reader *)arg;
	struct test_rng rng = {reader->seed};
	const struct range_set *ranges;

	for (int i = 0; i < 2000; i++) {
		const struct entry *e = &reader->m->entries[test_rng_below(&rng, reader->m->count)];

		check_get(reader->t, reader->m, e->key, e->seq);
		ck_assert_int_eq(table_ranges(reader->t, &ranges), 0);
		ck_assert_uint_eq(range_set_count(ranges), 1);
	}
}

START_TEST(test_threads_may_read_one_table)
{
	struct rig_options o = {.page_size = 1024, .bloom_bits = 10, .cache_bytes = 100000};
	struct test_rng rng = test_rng_seeded("table threads");
	struct reader readers[3];
	struct range_set *set;
	struct table_meta meta;
	struct rig_model m;
	struct table *t;
	struct rig r;

	rig_init(&r, 1, &o);
	rig_model_init(&m, &rng, 500);
	ck_assert_int_eq(range_set_new(&set), 0);
	ck_assert_int_eq(range_set_add(set, test_str("a"), test_str("b"), 1), 0);
	ck_assert_int_eq(rig_build(&r, &m, set, false, &meta), 0);
	ck_assert_int_eq(table_open(&r.env, &meta, &t), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(readers); i++) {
		readers[i] = (struct reader){.t = t, .m = &m, .seed = test_rng_next(&rng)};
		ck_assert_int_eq(
			os_thread_start(&readers[i].thread, "reader", read_at_random, &readers[i]),
			0);
	}
	for (size_t i = 0; i < KV_ARRAY_COUNT(readers); i++)
		os_thread_join(&readers[i].thread);
	table_close(t, true);
	table_meta_fini(&meta);
	range_set_free(set);
	rig_model_fini(&m);
	rig_fini(&r);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_get_finds_the_newest_version_not_newer_than_asked,
		test_a_table_in_many_extents_reads_as_one,
		test_an_absent_key_rarely_reads_a_leaf,
		test_a_table_of_range_deletes_alone_is_legal,
		test_bounds_take_in_range_deletes,
		test_entries_out_of_order_are_refused,
		test_failed_builds_give_all_space_back,
		test_a_full_volume_is_nospace_and_loses_nothing,
		test_the_builders_size_is_close_to_the_tables,
		test_threads_may_read_one_table,
	};

	return test_suite_run("table", tests, KV_ARRAY_COUNT(tests), 120);
}
