/* SPDX-License-Identifier: MIT */
/*
 * Range sets and their pages against a list of ranges that is searched by brute
 * force. Keys are one or two letters of a small alphabet, so that bounds meet often.
 */
#include "kvcore/table/range_del.h"

#include <check.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/table/range_page.h"
#include "tests/support/test_suite.h"

#define LETTERS	   6U
#define KEY_COUNT  (LETTERS * (LETTERS + 1)) /* "a", "aa", ..., "af", "b", ... */
#define RANGES_MAX 60U

struct model {
	uint8_t keys[KEY_COUNT][2];
	struct {
		size_t from, to; /* indices of keys */
		kv_seq seq;
	} ranges[RANGES_MAX];
	size_t count;
};

static struct kv_slice key_at(const struct model *m, size_t i)
{
	return kv_slice_of(m->keys[i], i % (LETTERS + 1) == 0 ? 1 : 2);
}

static void model_init(struct model *m)
{
	m->count = 0;
	for (size_t i = 0; i < KEY_COUNT; i++) {
		m->keys[i][0] = (uint8_t)('a' + i / (LETTERS + 1));
		m->keys[i][1] = (uint8_t)('a' + i % (LETTERS + 1) - 1);
	}
}

static kv_seq model_covering(const struct model *m, size_t key, kv_seq max_seq)
{
	kv_seq best = 0;

	for (size_t i = 0; i < m->count; i++)
		if (m->ranges[i].from <= key && key < m->ranges[i].to &&
		    m->ranges[i].seq <= max_seq && m->ranges[i].seq > best)
			best = m->ranges[i].seq;
	return best;
}

static void add_random(struct model *m, struct test_rng *rng, struct range_set *s, kv_seq seq_max)
{
	size_t a = test_rng_below(rng, KEY_COUNT), b = test_rng_below(rng, KEY_COUNT - 1);

	if (b >= a)
		b++;
	m->ranges[m->count].from = min_u64(a, b);
	m->ranges[m->count].to = max_u64(a, b);
	m->ranges[m->count].seq = 1 + test_rng_below(rng, seq_max);
	ck_assert_int_eq(range_set_add(s, key_at(m, m->ranges[m->count].from),
				       key_at(m, m->ranges[m->count].to), m->ranges[m->count].seq),
			 0);
	m->count++;
}

static void check_form(const struct range_set *s)
{
	for (size_t i = 0; i < range_set_count(s); i++) {
		struct range_fragment f = range_set_at(s, i);

		ck_assert_int_lt(slice_compare(f.from, f.to), 0);
		if (i > 0)
			ck_assert_int_le(slice_compare(range_set_at(s, i - 1).to, f.from), 0);
		ck_assert_uint_ge(f.seq_count, 1);
		for (size_t n = 1; n < f.seq_count; n++)
			ck_assert_uint_lt(f.seqs[n], f.seqs[n - 1]);
		ck_assert_uint_eq(range_set_find(s, f.from), i);
	}
}

/* Keys in [lower, upper) must be covered as in the model, others not at all. */
static void check_covering(const struct range_set *s, const struct model *m, size_t lower,
			   size_t upper, kv_seq seq_max)
{
	for (size_t key = 0; key < KEY_COUNT; key++)
		for (kv_seq seq = 0; seq <= seq_max + 1; seq++) {
			bool inside = lower <= key && key < upper;
			kv_seq want = inside ? model_covering(m, key, seq) : 0;

			ck_assert_uint_eq(range_set_covering(s, key_at(m, key), seq), want);
		}
}

START_TEST(test_an_empty_set_covers_nothing)
{
	struct range_set *s;

	ck_assert_int_eq(range_set_new(&s), 0);
	ck_assert_uint_eq(range_set_count(s), 0);
	ck_assert_uint_eq(range_set_covering(s, test_str("a"), KV_SEQ_MAX), 0);
	ck_assert_uint_eq(range_set_find(s, test_str("a")), 0);
	range_set_free(s);
	range_set_free(NULL);
}
END_TEST

START_TEST(test_random_ranges_cover_what_a_list_of_them_covers)
{
	struct test_rng rng = test_rng_seeded("range_del");
	struct model m;

	for (int round = 0; round < 60; round++) {
		kv_seq seq_max = 1 + test_rng_below(&rng, 12);
		size_t n = 1 + test_rng_below(&rng, RANGES_MAX);
		struct range_set *s;

		model_init(&m);
		ck_assert_int_eq(range_set_new(&s), 0);
		for (size_t i = 0; i < n; i++) {
			add_random(&m, &rng, s, seq_max);
			check_form(s);
		}
		check_covering(s, &m, 0, KEY_COUNT, seq_max);
		range_set_free(s);
	}
}
END_TEST

START_TEST(test_a_set_added_to_a_set_is_clipped)
{
	struct test_rng rng = test_rng_seeded("range_del clip");
	struct model m;

	for (int round = 0; round < 60; round++) {
		struct range_set *s, *clipped;
		size_t lower = test_rng_below(&rng, KEY_COUNT);
		size_t upper = test_rng_below(&rng, KEY_COUNT);
		bool no_lower = round % 3 == 0, no_upper = round % 4 == 0;
		struct kv_slice none = {0};

		model_init(&m);
		ck_assert_int_eq(range_set_new(&s), 0);
		ck_assert_int_eq(range_set_new(&clipped), 0);
		for (size_t i = 0; i < 20; i++)
			add_random(&m, &rng, s, 9);
		if (!no_lower && !no_upper && lower >= upper)
			no_upper = true;
		ck_assert_int_eq(range_set_add_set(clipped, s, no_lower ? none : key_at(&m, lower),
						   no_upper ? none : key_at(&m, upper)),
				 0);
		check_form(clipped);
		check_covering(clipped, &m, no_lower ? 0 : lower, no_upper ? KEY_COUNT : upper, 9);
		range_set_free(s);
		range_set_free(clipped);
	}
}
END_TEST

START_TEST(test_a_hundred_thousand_ranges_in_order_take_no_time)
{
	struct range_set *s;
	uint8_t from[8], to[8];

	ck_assert_int_eq(range_set_new(&s), 0);
	for (uint32_t i = 0; i < 100000; i++) {
		be64_put(from, 2ULL * i);
		be64_put(to, 2ULL * i + 1);
		ck_assert_int_eq(range_set_add(s, kv_slice_of(from, 8), kv_slice_of(to, 8), i + 1),
				 0);
	}
	ck_assert_uint_eq(range_set_count(s), 100000);
	/* The same range again and again. */
	for (uint32_t i = 0; i < 100000; i++)
		ck_assert_int_eq(
			range_set_add(s, kv_slice_of(from, 8), kv_slice_of(to, 8), 100001 + i), 0);
	ck_assert_uint_eq(range_set_count(s), 100000);
	ck_assert_uint_eq(range_set_at(s, 99999).seq_count, 100001);
	ck_assert_uint_eq(range_set_covering(s, kv_slice_of(from, 8), 150000), 150000);
	ck_assert_uint_gt(range_set_bytes(s), 100000 * 16);
	range_set_free(s);
}
END_TEST

static struct range_set *random_set(struct test_rng *rng, struct model *m)
{
	struct range_set *s;

	model_init(m);
	ck_assert_int_eq(range_set_new(&s), 0);
	for (size_t i = 0; i < 12; i++)
		add_random(m, rng, s, 7);
	return s;
}

START_TEST(test_a_page_of_ranges_decodes_to_the_same_set)
{
	struct test_rng rng = test_rng_seeded("range_page");
	struct model m;

	for (int round = 0; round < 50; round++) {
		struct range_set *s = random_set(&rng, &m), *back;
		struct kv_buf page = {0};

		ck_assert_int_eq(range_page_encode(s, &page), 0);
		ck_assert_int_eq(range_page_decode(kv_buf_slice(&page), &back), 0);
		ck_assert_uint_eq(range_set_count(back), range_set_count(s));
		check_form(back);
		check_covering(back, &m, 0, KEY_COUNT, 7);
		range_set_free(s);
		range_set_free(back);
		kv_buf_free(&page);
	}
}
END_TEST

START_TEST(test_damaged_pages_of_ranges_are_refused_or_well_formed)
{
	struct test_rng rng = test_rng_seeded("range_page damage");
	struct model m;
	struct range_set *s = random_set(&rng, &m), *back;
	struct kv_buf page = {0};

	ck_assert_int_eq(range_page_encode(s, &page), 0);
	for (size_t len = 0; len < page.len; len++) {
		uint8_t *exact = malloc(len + 1); /* for ASan to see the end */

		memcpy(exact + 1, page.data, len);
		ck_assert_int_eq(range_page_decode(kv_slice_of(exact + 1, len), &back),
				 -KV_E_CORRUPT);
		free(exact);
	}
	for (size_t bit = 0; bit < 8 * page.len; bit++) {
		page.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
		if (range_page_decode(kv_buf_slice(&page), &back) == 0) {
			check_form(back);
			range_set_free(back);
		}
		page.data[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	range_set_free(s);
	kv_buf_free(&page);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_an_empty_set_covers_nothing,
		test_random_ranges_cover_what_a_list_of_them_covers,
		test_a_set_added_to_a_set_is_clipped,
		test_a_hundred_thousand_ranges_in_order_take_no_time,
		test_a_page_of_ranges_decodes_to_the_same_set,
		test_damaged_pages_of_ranges_are_refused_or_well_formed,
	};

	return test_suite_run("range_del", tests, KV_ARRAY_COUNT(tests), 60);
}
