/* SPDX-License-Identifier: MIT */
/*
 * Pages: what is encoded decodes to the same, searches agree with a linear one, and no
 * bytes get past validation that could lead a reader out of bounds (run under ASan).
 */
#include "kvcore/table/page.h"

#include <check.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/format/compress.h"
#include "tests/support/test_suite.h"

#define ITEMS_MAX 400U

struct model {
	struct page_item items[ITEMS_MAX];
	size_t count;
	uint8_t *keys[ITEMS_MAX];
	uint8_t *values[ITEMS_MAX];
	struct page_ref refs[ITEMS_MAX];
};

static void model_fini(struct model *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->keys[i]);
		free(m->values[i]);
	}
	m->count = 0;
}

static int compare_items(const void *a, const void *b)
{
	const struct page_item *x = (const struct page_item *)a;
	const struct page_item *y = (const struct page_item *)b;
	int order = slice_compare(x->key, y->key);

	return order != 0 ? order : (x->seq < y->seq) - (x->seq > y->seq);
}

/* Keys with prefixes in common, of few different bytes, some NUL: ties of heads are frequent. */
static struct kv_slice random_key(struct test_rng *rng, size_t prefix_len, uint8_t **owned)
{
	size_t len = IKEY_PREFIX_LEN + prefix_len + test_rng_below(rng, 9);
	uint8_t *key = malloc(len + 1);

	memset(key, 'p', len);
	for (size_t i = IKEY_PREFIX_LEN + prefix_len; i < len; i++)
		key[i] = (uint8_t)test_rng_below(rng, 3);
	*owned = key;
	return kv_slice_of(key, len);
}

static void sort_items(struct model *m)
{
	size_t kept = 1;

	qsort(m->items, m->count, sizeof(*m->items), compare_items);
	for (size_t i = 1; i < m->count; i++)
		if (compare_items(&m->items[kept - 1], &m->items[i]) != 0)
			m->items[kept++] = m->items[i];
	/* Buffers stay where they are until the end; items may be fewer. */
	for (size_t i = kept; i < m->count; i++)
		m->items[i].key.len = 0;
	m->count = kept;
}

struct page_case {
	struct model m;
	size_t owned; /* of m.keys, m.values */
	struct kv_buf page;
	struct page_limits limits;
};

static void case_fini(struct page_case *c)
{
	c->m.count = c->owned;
	model_fini(&c->m);
	kv_buf_free(&c->page);
}

static void make_leaf(struct page_case *c, struct test_rng *rng, size_t count, size_t value_max)
{
	size_t prefix_len = test_rng_below(rng, 2) ? test_rng_below(rng, 40) : 0;

	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < count; i++) {
		struct page_item *item = &c->m.items[i];
		size_t len = test_rng_below(rng, value_max + 1);

		item->key = random_key(rng, prefix_len, &c->m.keys[i]);
		item->tag = test_rng_below(rng, 4) ? ENTRY_PUT : ENTRY_DELETE;
		item->seq = test_rng_below(rng, 5) + (count % 2 ? 1ULL << 60 : 0);
		c->m.values[i] = malloc(len + 1);
		memset(c->m.values[i], 'v', len);
		item->payload = kv_slice_of(c->m.values[i], item->tag == ENTRY_PUT ? len : 0);
	}
	c->m.count = c->owned = count;
	sort_items(&c->m);
	ck_assert_int_eq(page_encode(PAGE_LEAF, c->m.items, c->m.count, &c->page), 0);
	c->limits.type = PAGE_LEAF;
}

static void make_inner(struct page_case *c, struct test_rng *rng, size_t count)
{
	memset(c, 0, sizeof(*c));
	for (size_t i = 0; i < count; i++) {
		struct page_item *item = &c->m.items[i];

		item->key = random_key(rng, count % 20, &c->m.keys[i]);
		item->tag = (uint8_t)(test_rng_below(rng, 3) ? 0 : PAGE_SEP_HAS_SEQ);
		/* While sorting, a separator without a seq stands before all versions. */
		item->seq = item->tag ? test_rng_below(rng, 5) : KV_SEQ_MAX;
		c->m.values[i] = malloc(PAGE_REF_DISK_MAX);
	}
	c->m.count = c->owned = count;
	sort_items(&c->m);
	for (size_t i = 0; i < c->m.count; i++) {
		struct page_ref *ref = &c->m.refs[i];
		struct page_item *item = &c->m.items[i];

		ref->off = i * 5000;
		ref->stored_len = (uint32_t)(1 + test_rng_below(rng, 5000));
		ref->raw_len = ref->stored_len + (uint32_t)test_rng_below(rng, 60000);
		test_rng_fill(rng, ref->sum, sizeof(ref->sum));
		item->payload = kv_slice_of(c->m.values[i], page_ref_encode(ref, c->m.values[i]));
		if (!item->tag)
			item->seq = 0;
	}
	ck_assert_int_eq(page_encode(PAGE_INNER, c->m.items, c->m.count, &c->page), 0);
	c->limits.type = PAGE_INNER;
	c->limits.children_end = c->m.count * 5000;
}

static kv_seq item_seq(const struct page_case *c, size_t i)
{
	const struct page_item *item = &c->m.items[i];

	return c->limits.type == PAGE_INNER && !item->tag ? KV_SEQ_MAX : item->seq;
}

static void check_content(const struct page_case *c)
{
	struct page p = page_view(c->page.data, c->page.len);
	uint8_t key[PAGE_KEY_ROOM];

	ck_assert_uint_eq(p.count, c->m.count);
	for (uint32_t i = 0; i < p.count; i++) {
		const struct page_item *item = &c->m.items[i];
		struct page_cell cell;
		struct page_ref ref;

		page_get_cell(&p, i, &cell);
		ck_assert(
			slice_equal(kv_slice_of(key, page_get_key(&p, i, &cell, key)), item->key));
		ck_assert(page_key_equals(&p, i, &cell, item->key));
		ck_assert(slice_equal(cell.payload, item->payload));
		ck_assert_uint_eq(cell.seq, item_seq(c, i));
		ck_assert_uint_eq(cell.tag, item->tag);
		if (c->limits.type == PAGE_LEAF)
			continue;
		page_get_child(&p, i, &ref);
		ck_assert_mem_eq(ref.sum, c->m.refs[i].sum, sizeof(ref.sum));
		ck_assert_uint_eq(ref.off, c->m.refs[i].off);
		ck_assert_uint_eq(ref.stored_len, c->m.refs[i].stored_len);
		ck_assert_uint_eq(ref.raw_len, c->m.refs[i].raw_len);
	}
}

static void check_search(const struct page_case *c, struct kv_slice key, kv_seq seq)
{
	struct page p = page_view(c->page.data, c->page.len);
	struct page_item target = {.key = key, .seq = seq};
	uint32_t lower = 0, child = 0;

	for (uint32_t i = 0; i < c->m.count; i++) {
		struct page_item item = c->m.items[i];

		item.seq = item_seq(c, i);
		lower += compare_items(&item, &target) < 0;
		child += compare_items(&item, &target) <= 0;
	}
	ck_assert_uint_eq(page_lower_bound(&p, key, seq), lower);
	ck_assert_uint_eq(page_find_child(&p, key, seq), child > 0 ? child - 1 : 0);
}

static void check_searches(const struct page_case *c, struct test_rng *rng)
{
	static const kv_seq seqs[] = {0, 1, 3, 1ULL << 60, (1ULL << 60) + 2, KV_SEQ_MAX};
	struct kv_slice nothing = {0};

	check_search(c, nothing, 0);
	for (size_t s = 0; s < KV_ARRAY_COUNT(seqs); s++) {
		for (size_t i = 0; i < c->m.count; i += 1 + c->m.count / 20) {
			struct kv_slice key = c->m.items[i].key;

			check_search(c, key, seqs[s]);
			key.len -= test_rng_below(rng, key.len);
			check_search(c, key, seqs[s]);
		}
		for (int i = 0; i < 10; i++) {
			uint8_t *owned;
			struct kv_slice key = random_key(rng, test_rng_below(rng, 12), &owned);

			check_search(c, key, seqs[s]);
			free(owned);
		}
	}
}

START_TEST(test_leaves_decode_and_search_as_a_sorted_list)
{
	struct test_rng rng = test_rng_seeded("page leaf");
	struct page_case c;

	for (int round = 0; round < 150; round++) {
		make_leaf(&c, &rng, 1 + test_rng_below(&rng, ITEMS_MAX),
			  test_rng_below(&rng, 2) ? 20 : 600);
		ck_assert_int_eq(page_validate(c.page.data, c.page.len, &c.limits), 0);
		check_content(&c);
		check_searches(&c, &rng);
		case_fini(&c);
	}
}
END_TEST

START_TEST(test_inner_pages_decode_and_search_as_a_sorted_list)
{
	struct test_rng rng = test_rng_seeded("page inner");
	struct page_case c;

	for (int round = 0; round < 100; round++) {
		make_inner(&c, &rng, 1 + test_rng_below(&rng, ITEMS_MAX));
		ck_assert_int_eq(page_validate(c.page.data, c.page.len, &c.limits), 0);
		check_content(&c);
		check_searches(&c, &rng);
		case_fini(&c);
	}
}
END_TEST

START_TEST(test_the_largest_entries_fit)
{
	uint8_t *key = malloc(IKEY_MAX), *value = malloc(VALUE_INLINE_MAX);
	struct page_limits limits = {.type = PAGE_LEAF};
	struct page_item items[2] = {
		{kv_slice_of(key, IKEY_MAX), ENTRY_PUT, KV_SEQ_MAX,
		 kv_slice_of(value, VALUE_INLINE_MAX)},
		{kv_slice_of(key, IKEY_MAX), ENTRY_PUT, 0, kv_slice_of(value, VALUE_INLINE_MAX)},
	};
	struct kv_buf page = {0};
	struct page p;

	memset(key, 0xff, IKEY_MAX);
	memset(value, 0, VALUE_INLINE_MAX);
	for (size_t n = 1; n <= 2; n++) {
		ck_assert_int_eq(page_encode(PAGE_LEAF, items, n, &page), 0);
		ck_assert_int_eq(page_validate(page.data, page.len, &limits), 0);
		p = page_view(page.data, page.len);
		ck_assert_uint_eq(page_lower_bound(&p, items[0].key, 5), 1);
		ck_assert_uint_eq(page_lower_bound(&p, items[0].key, KV_SEQ_MAX), 0);
	}
	kv_buf_free(&page);
	free(key);
	free(value);
}
END_TEST

/* Use everything that a reader uses of a page. */
static void exercise(const uint8_t *data, size_t len, enum page_type type)
{
	struct page p = page_view(data, len);
	uint8_t key[PAGE_KEY_ROOM], before[PAGE_KEY_ROOM];
	struct kv_slice last = {0};
	struct page_cell cell;
	struct page_ref ref;

	for (uint32_t i = 0; i < p.count; i++) {
		struct kv_slice k;

		page_get_cell(&p, i, &cell);
		k = kv_slice_of(key, page_get_key(&p, i, &cell, key));
		if (i > 0)
			ck_assert_int_le(slice_compare(last, k), 0);
		ck_assert(page_key_equals(&p, i, &cell, k));
		ck_assert_uint_eq(page_lower_bound(&p, k, cell.seq), i);
		ck_assert_uint_eq(page_find_child(&p, k, cell.seq), i);
		if (type == PAGE_INNER)
			page_get_child(&p, i, &ref);
		memcpy(before, key, k.len);
		last = kv_slice_of(before, k.len);
	}
}

static size_t flip_all(const struct page_case *c)
{
	size_t accepted = 0;
	uint8_t *copy = malloc(c->page.len);

	memcpy(copy, c->page.data, c->page.len);
	for (size_t bit = 0; bit < 8 * c->page.len; bit++) {
		copy[bit / 8] ^= (uint8_t)(1U << bit % 8);
		if (page_validate(copy, c->page.len, &c->limits) == 0) {
			exercise(copy, c->page.len, c->limits.type);
			accepted++;
		}
		copy[bit / 8] ^= (uint8_t)(1U << bit % 8);
	}
	free(copy);
	return accepted;
}

START_TEST(test_flipped_bits_are_refused_or_leave_a_sound_page)
{
	struct test_rng rng = test_rng_seeded("page flips");
	struct page_case c;

	for (int round = 0; round < 5; round++) {
		make_leaf(&c, &rng, 1 + test_rng_below(&rng, 30), 6);
		(void)flip_all(&c);
		case_fini(&c);
		make_inner(&c, &rng, 1 + test_rng_below(&rng, 20));
		(void)flip_all(&c);
		case_fini(&c);
	}
}
END_TEST

START_TEST(test_cut_and_random_pages_are_refused_or_sound)
{
	struct test_rng rng = test_rng_seeded("page fuzz");
	struct page_case c;

	for (int round = 0; round < 40; round++) {
		bool leaf = round % 2;

		if (leaf)
			make_leaf(&c, &rng, 1 + test_rng_below(&rng, 30), 10);
		else
			make_inner(&c, &rng, 1 + test_rng_below(&rng, 20));
		for (size_t len = 0; len < c.page.len; len++) {
			uint8_t *cut = malloc(len + 1);

			memcpy(cut + 1, c.page.data, len);
			if (page_validate(cut + 1, len, &c.limits) == 0)
				exercise(cut + 1, len, c.limits.type);
			free(cut);
		}
		for (int n = 0; n < 2000; n++) {
			size_t i = test_rng_below(&rng, c.page.len);

			c.page.data[i] = (uint8_t)test_rng_next(&rng);
			if (page_validate(c.page.data, c.page.len, &c.limits) == 0)
				exercise(c.page.data, c.page.len, c.limits.type);
		}
		case_fini(&c);
	}
}
END_TEST

START_TEST(test_children_outside_the_table_are_refused)
{
	struct test_rng rng = test_rng_seeded("page children");
	struct page_case c;

	make_inner(&c, &rng, 10);
	c.limits.children_end = c.m.refs[c.m.count - 1].off + c.m.refs[c.m.count - 1].stored_len;
	ck_assert_int_eq(page_validate(c.page.data, c.page.len, &c.limits), 0);
	c.limits.children_end--;
	ck_assert_int_eq(page_validate(c.page.data, c.page.len, &c.limits), -KV_E_CORRUPT);
	case_fini(&c);
}
END_TEST

START_TEST(test_a_leaf_outside_the_tables_bounds_is_refused)
{
	struct test_rng rng = test_rng_seeded("page bounds");
	struct table_meta meta = {0};
	struct kv_slice first, last;
	struct page_case c;

	make_leaf(&c, &rng, 20, 10);
	first = c.m.items[0].key;
	last = c.m.items[c.m.count - 1].key;
	meta.smallest = (struct kv_buf){c.m.keys[0], 0, 0};
	c.limits.bounds = &meta;
	for (int what = 0; what < 4; what++) {
		uint8_t low[64], high[64];

		memcpy(low, first.data, first.len);
		memcpy(high, last.data, last.len);
		meta.smallest = (struct kv_buf){low, first.len, 0};
		meta.largest = (struct kv_buf){high, last.len, 0};
		meta.largest_exclusive = what == 1;
		if (what == 2)
			meta.smallest.len++, low[first.len] = 0;
		if (what == 3)
			meta.largest.len--;
		ck_assert_int_eq(page_validate(c.page.data, c.page.len, &c.limits),
				 what == 0 ? 0 : -KV_E_CORRUPT);
	}
	case_fini(&c);
}
END_TEST

#define STR(s) kv_slice_of(s, sizeof(s) - 1)

START_TEST(test_the_worked_examples_of_the_format_are_what_is_encoded)
{
	static const char leaf[] =
		"\x01\x00\x06\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00"
		"\x00\x01"
		"etc/"
		"\x01\x04\x00"
		"tux"
		"\x01\x08\x03"
		"nameh1"
		"\x00\x08\x01"
		"name"
		"\x01\x04\x00"
		"hi"
		"hosthosthostmotd"
		"\x16\x00\x1c\x00\x25\x00\x2c\x00";
	static const char inner[] =
		"\x02\x00\x06\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		"\x00\x01"
		"etc/"
		"\x00\x04\x00\x00\xac\x02\xe8\x07"
		"0123456789abcdef"
		"\x00\x01\x00\xac\x02\xc8\x01\xc8\x01"
		"fedcba9876543210"
		"hostm\x00\x00\x00\x16\x00\x2e\x00";
	const struct page_item entries[] = {
		{STR("\0\1etc/host"), ENTRY_PUT, 12, STR("tux")},
		{STR("\0\1etc/hostname"), ENTRY_PUT, 15, STR("h1")},
		{STR("\0\1etc/hostname"), ENTRY_DELETE, 13, STR("")},
		{STR("\0\1etc/motd"), ENTRY_PUT, 12, STR("hi")},
	};
	struct page_ref refs[] = {{0, 300, 1000, {0}}, {300, 200, 200, {0}}};
	uint8_t room[2][PAGE_REF_DISK_MAX];
	struct page_item children[] = {{STR("\0\1etc/host"), 0, 0, {0}},
				       {STR("\0\1etc/m"), 0, 0, {0}}};
	struct kv_buf page = {0};

	ck_assert_int_eq(page_encode(PAGE_LEAF, entries, 4, &page), 0);
	ck_assert(slice_equal(kv_buf_slice(&page), STR(leaf)));
	memcpy(refs[0].sum, "0123456789abcdef", CHECKSUM_LEN);
	memcpy(refs[1].sum, "fedcba9876543210", CHECKSUM_LEN);
	for (size_t i = 0; i < 2; i++)
		children[i].payload = kv_slice_of(room[i], page_ref_encode(&refs[i], room[i]));
	ck_assert_int_eq(page_encode(PAGE_INNER, children, 2, &page), 0);
	ck_assert(slice_equal(kv_buf_slice(&page), STR(inner)));
	kv_buf_free(&page);
}
END_TEST

START_TEST(test_short_repetitions_are_found_in_a_large_page)
{
	struct test_rng rng = test_rng_seeded("page compression");
	struct page_item items[140];
	uint8_t keys[140][IKEY_PREFIX_LEN + 4];
	uint8_t values[140][100];
	struct kv_buf page = {0}, stored = {0};

	for (size_t i = 0; i < KV_ARRAY_COUNT(items); i++) {
		memset(keys[i], 1, sizeof(keys[i]));
		keys[i][sizeof(keys[i]) - 1] = (uint8_t)i;
		test_rng_fill(&rng, values[i], 50);
		memcpy(values[i] + 50, values[i], 50);
		items[i] = (struct page_item){kv_slice_of(keys[i], sizeof(keys[i])), ENTRY_PUT, i,
					      kv_slice_of(values[i], sizeof(values[i]))};
	}
	ck_assert_int_eq(page_encode(PAGE_LEAF, items, KV_ARRAY_COUNT(items), &page), 0);
	ck_assert_int_eq(compress_page(COMPRESS_SNAPPY, kv_buf_slice(&page), &stored), 0);
	ck_assert_uint_gt(stored.len, 0);
	ck_assert_uint_lt(stored.len, page.len * 2 / 3);
	kv_buf_free(&page);
	kv_buf_free(&stored);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_worked_examples_of_the_format_are_what_is_encoded,
		test_leaves_decode_and_search_as_a_sorted_list,
		test_inner_pages_decode_and_search_as_a_sorted_list,
		test_the_largest_entries_fit,
		test_flipped_bits_are_refused_or_leave_a_sound_page,
		test_cut_and_random_pages_are_refused_or_sound,
		test_children_outside_the_table_are_refused,
		test_a_leaf_outside_the_tables_bounds_is_refused,
		test_short_repetitions_are_found_in_a_large_page,
	};

	return test_suite_run("page", tests, KV_ARRAY_COUNT(tests), 60);
}
