/* SPDX-License-Identifier: MIT */
/*
 * Damaged tables. Each flipped byte of an image is found by a walk, and readers
 * return the truth or an error. Forged tables, whose checksums are right, may
 * say anything, but readers stay in bounds, scans end and are in order.
 */
#include "kvcore/table/table.h"

#include <check.h>
#include <errno.h>

#include "kvcore/os/os_thread.h"
#include "tests/unit/table_rig.h"

/* ---- a table that is damaged again and again ------------------------------------ */

struct victim {
	struct rig r;
	struct rig_model m;
	struct table_meta meta;
	uint8_t *image; /* stored_bytes, as built */
};

static void victim_init(struct victim *v, struct test_rng *rng, size_t keys, size_t entries_max,
			enum compress_algo compress)
{
	struct rig_options o = {
		.page_size = 1024, .compress = compress, .bloom_bits = 10, .size_max = 16U << 20};
	struct range_set *set;

	rig_init(&v->r, test_rng_next(rng), &o);
	rig_model_init(&v->m, rng, keys);
	v->m.count = min_u64(v->m.count, entries_max);
	for (size_t i = 0; i < v->m.count; i++)
		if (v->m.entries[i].kind == ENTRY_PUT && v->m.entries[i].value.len > 200)
			v->m.entries[i].value.len = 200;
	ck_assert_int_eq(range_set_new(&set), 0);
	for (uint8_t i = 0; i < 10; i++) {
		uint8_t from[] = {0, 1, i}, to[] = {0, 1, (uint8_t)(i + 7)};

		ck_assert_int_eq(
			range_set_add(set, kv_slice_of(from, 3), kv_slice_of(to, 3), 1000U + i), 0);
	}
	ck_assert_int_eq(rig_build(&v->r, &v->m, set, false, &v->meta), 0);
	range_set_free(set);
	ck_assert_uint_eq(v->meta.extent_count, 1);
	v->image = malloc((size_t)v->meta.stored_bytes);
	sim_env_peek(v->r.sim, RIG_VOLUME, v->meta.extents[0].off, v->image,
		     (size_t)v->meta.stored_bytes);
}

static void victim_fini(struct victim *v)
{
	free(v->image);
	table_meta_fini(&v->meta);
	rig_model_fini(&v->m);
	rig_fini(&v->r);
}

static void poke(struct victim *v, uint64_t off, const void *data, size_t len)
{
	sim_env_poke(v->r.sim, RIG_VOLUME, v->meta.extents[0].off + off, data, len);
}

struct walked {
	const struct rig_model *m;
	size_t next; /* entries of the model before it were seen or are lost */
	unsigned damaged;
	unsigned pages;
};

static int walked_page(void *ctx, const struct page_ref *ref, int err, struct kv_slice from,
		       struct kv_slice to)
{
	struct walked *w = (struct walked *)ctx;

	ck_assert_ptr_nonnull(ref);
	if (err && from.len > 0 && to.len > 0)
		ck_assert_int_lt(slice_compare(from, to), 0);
	w->pages++;
	w->damaged += err != 0;
	return 0;
}

/* An entry of the model, behind the one before. */
static int walked_entry(void *ctx, const struct entry *e)
{
	struct walked *w = (struct walked *)ctx;
	size_t i = rig_model_find(w->m, e->key, e->seq);

	ck_assert_uint_ge(i, w->next);
	ck_assert_uint_lt(i, w->m->count);
	rig_check_entry(e, &w->m->entries[i]);
	w->next = i + 1;
	return 0;
}

static unsigned walk_and_count(struct victim *v)
{
	struct walked w = {.m = &v->m};
	struct table_walk walk = {walked_page, walked_entry, &w};

	ck_assert_int_eq(table_walk(&v->r.env, &v->meta, &walk), 0);
	if (w.damaged == 0)
		ck_assert_uint_eq(w.next, v->m.count);
	return w.damaged;
}

static void read_truth_or_error(struct victim *v, struct test_rng *rng)
{
	const struct range_set *ranges;
	struct kv_buf value = {0};
	struct table *t;
	struct iter *it;
	struct entry e;
	size_t i = 0;
	int err;

	ck_assert_int_eq(table_open(&v->r.env, &v->meta, &t), 0);
	ck_assert_int_eq(table_iter_new(t, 0, &it), 0);
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		rig_check_entry(&e, &v->m.entries[i++]);
	}
	ck_assert(err == -KV_E_NOTFOUND ? i == v->m.count
					: err == -KV_E_CHECKSUM || err == -KV_E_CORRUPT);
	iter_close(it);
	for (int n = 0; n < 10; n++) {
		const struct entry *want = &v->m.entries[test_rng_below(rng, v->m.count)];

		e = *want;
		err = table_get(t, e.key, hash_bytes(e.key, 0), e.seq, &e.seq, &e.kind, &value);
		if (!err) {
			e.value = kv_buf_slice(&value);
			rig_check_entry(&e, want);
		} else {
			ck_assert(err == -KV_E_CHECKSUM || err == -KV_E_CORRUPT);
		}
	}
	err = table_ranges(t, &ranges);
	ck_assert(!err ? range_set_count(ranges) == v->meta.range_count : err == -KV_E_CHECKSUM);
	kv_buf_free(&value);
	table_close(t, true);
}

START_TEST(test_a_flip_of_any_byte_is_found_and_never_read_as_data)
{
	struct test_rng rng = test_rng_seeded("table flips");
	struct victim v;

	for (unsigned round = 0; round < 2; round++) {
		victim_init(&v, &rng, 40, 16, round ? COMPRESS_SNAPPY : COMPRESS_NONE);
		ck_assert_uint_eq(walk_and_count(&v), 0);
		for (uint64_t off = 0; off < v.meta.stored_bytes; off += 1U + 2U * round) {
			uint8_t bad = (uint8_t)(v.image[off] ^ 1U << test_rng_below(&rng, 8));
			unsigned reported = v.r.damaged;

			poke(&v, off, &bad, 1);
			ck_assert_uint_ge(walk_and_count(&v), 1);
			if (off % 7 == 0)
				read_truth_or_error(&v, &rng);
			if (off % 7 == 0)
				ck_assert_uint_gt(v.r.damaged, reported);
			poke(&v, off, &v.image[off], 1);
		}
		victim_fini(&v);
	}
}
END_TEST

START_TEST(test_an_unreadable_page_costs_its_entries_only)
{
	struct test_rng rng = test_rng_seeded("table walk");
	uint8_t garbage[64];
	struct victim v;

	victim_init(&v, &rng, 60, 1000, COMPRESS_SNAPPY);
	test_rng_fill(&rng, garbage, sizeof(garbage));
	for (uint64_t off = 0; off + 64 < v.meta.stored_bytes; off += 997) {
		unsigned damaged;

		poke(&v, off, garbage, sizeof(garbage));
		damaged = walk_and_count(&v);
		ck_assert_uint_ge(damaged, 1);
		ck_assert_uint_le(damaged, 10);
		poke(&v, off, v.image + off, sizeof(garbage));
	}
	victim_fini(&v);
}
END_TEST

static int stop_at_third(void *ctx, const struct page_ref *ref, int err, struct kv_slice from,
			 struct kv_slice to)
{
	unsigned *seen = (unsigned *)ctx;

	(void)ref;
	(void)err;
	(void)from;
	(void)to;
	return ++*seen == 3 ? -KV_E_INTERRUPTED : 0;
}

START_TEST(test_a_callback_stops_the_walk)
{
	struct test_rng rng = {1};
	unsigned seen = 0;
	struct table_walk walk = {stop_at_third, NULL, &seen};
	struct victim v;

	victim_init(&v, &rng, 60, 1000, COMPRESS_SNAPPY);
	ck_assert_int_eq(table_walk(&v.r.env, &v.meta, &walk), -KV_E_INTERRUPTED);
	ck_assert_uint_eq(seen, 3);
	victim_fini(&v);
}
END_TEST

/* ---- forged tables --------------------------------------------------------------- */

/* Every page of the tree, with its parent. */
struct forge_page {
	struct page_ref ref;
	uint32_t height;
	size_t parent;
	uint32_t child; /* index in the parent */
};

struct forge {
	struct forge_page pages[4096];
	size_t count;
	struct victim *v;
	uint8_t *image; /* changed */
	struct table_meta meta;
};

static void forge_list(struct forge *f, const struct page_ref *ref, uint32_t height, size_t parent,
		       uint32_t child)
{
	size_t me = f->count++;
	struct page p;

	ck_assert_uint_lt(me, KV_ARRAY_COUNT(f->pages));
	f->pages[me] = (struct forge_page){*ref, height, parent, child};
	if (height == 1)
		return;
	p = page_view(f->v->image + ref->off, ref->raw_len);
	for (uint32_t i = 0; i < p.count; i++) {
		struct page_ref below;

		page_get_child(&p, i, &below);
		forge_list(f, &below, height - 1, me, i);
	}
}

/* Where in the image the encoded reference to child @i ends: the checksum is its last part. */
static size_t ref_end(const struct forge *f, const struct forge_page *parent, uint32_t i)
{
	struct page p = page_view(f->v->image + parent->ref.off, parent->ref.raw_len);
	struct page_cell c;

	page_get_cell(&p, i, &c);
	return (size_t)(c.payload.data + c.payload.len - f->v->image);
}

/* Make the checksums right again from a changed page up to the root. */
static void forge_sums(struct forge *f, size_t i)
{
	for (;;) {
		const struct forge_page *page = &f->pages[i];
		struct kv_slice data = kv_slice_of(f->image + page->ref.off, page->ref.stored_len);
		uint8_t sum[CHECKSUM_LEN];

		ck_assert_int_eq(checksum_compute(f->v->r.checksum, &data, 1, sum), 0);
		if (i == 0) {
			memcpy(f->meta.root.sum, sum, sizeof(sum));
			break;
		}
		memcpy(f->image + ref_end(f, &f->pages[page->parent], page->child) - CHECKSUM_LEN,
		       sum, sizeof(sum));
		i = page->parent;
	}
	poke(f->v, 0, f->image, (size_t)f->meta.stored_bytes);
}

static int count_entries(void *ctx, const struct entry *e)
{
	struct walked *w = (struct walked *)ctx;

	ck_assert_uint_ge(e->key.len, IKEY_PREFIX_LEN);
	w->next++;
	return 0;
}

/* Use a forged table in all ways. Nothing is known of its content. */
static void exercise(struct forge *f, struct test_rng *rng)
{
	struct walked w = {.m = &f->v->m};
	struct table_walk walk = {walked_page, count_entries, &w};
	uint8_t last_key[IKEY_MAX], room[IKEY_MAX + 8];
	struct entry last = {0}, e;
	struct kv_buf value = {0};
	struct table *t;
	struct iter *it;
	size_t steps = 0;
	int err;

	ck_assert_int_eq(table_walk(&f->v->r.env, &f->meta, &walk), 0);
	ck_assert_uint_le(w.pages, f->count * 40);
	ck_assert_int_eq(table_open(&f->v->r.env, &f->meta, &t), 0);
	ck_assert_int_eq(table_iter_new(t, TABLE_ITER_READAHEAD, &it), 0);
	for (err = iter_first(it); !err; err = iter_next(it)) {
		iter_entry(it, &e);
		if (steps++ > 0)
			ck_assert_int_lt(entry_compare(&last, &e), 0);
		memcpy(last_key, e.key.data, e.key.len);
		last = e;
		last.key.data = last_key;
	}
	for (int i = 0; i < 10; i++) {
		struct kv_slice key = rig_some_key(&f->v->m, rng, room);

		if (iter_seek(it, key) == 0) {
			iter_entry(it, &e);
			ck_assert_int_ge(slice_compare(e.key, key), 0);
			(void)iter_prev(it);
		}
		if (iter_seek_before(it, key) == 0) {
			iter_entry(it, &e);
			ck_assert_int_lt(slice_compare(e.key, key), 0);
			(void)iter_next(it);
		}
		ck_assert_int_le(table_get(t, key, hash_bytes(key, 0), 20, &e.seq, &e.kind, &value),
				 0);
	}
	for (err = iter_last(it); !err; err = iter_prev(it))
		ck_assert_uint_lt(steps++, 100000);
	iter_close(it);
	kv_buf_free(&value);
	table_close(t, true);
}

static void forge_init(struct forge *f, struct victim *v)
{
	f->v = v;
	f->count = 0;
	f->image = malloc((size_t)v->meta.stored_bytes);
	memcpy(f->image, v->image, (size_t)v->meta.stored_bytes);
	ck_assert_int_eq(table_meta_copy(&v->meta, &f->meta), 0);
	forge_list(f, &v->meta.root, v->meta.height, 0, 0);
}

static void forge_fini(struct forge *f)
{
	poke(f->v, 0, f->v->image, (size_t)f->meta.stored_bytes);
	free(f->image);
	table_meta_fini(&f->meta);
}

/* Change one to three random bytes of a random page, inner ones as often as leaves. */
static size_t change_bytes(struct forge *f, struct test_rng *rng)
{
	size_t i = test_rng_below(rng, f->count);

	if (test_rng_below(rng, 2))
		i = f->pages[i].parent;
	for (uint64_t n = 1 + test_rng_below(rng, 3); n > 0; n--) {
		uint64_t at = test_rng_below(rng, 4)
				      ? test_rng_below(rng, f->pages[i].ref.stored_len)
				      : test_rng_below(rng, 24);

		f->image[f->pages[i].ref.off + at] = (uint8_t)test_rng_next(rng);
	}
	return i;
}

/* Let a child reference be that of another page: of another level, twice the same, anything. */
static size_t swap_refs(struct forge *f, struct test_rng *rng)
{
	for (int tries = 0; tries < 200; tries++) {
		size_t a = 1 + test_rng_below(rng, f->count - 1);
		size_t b = 1 + test_rng_below(rng, f->count - 1);
		uint8_t to[PAGE_REF_DISK_MAX], from[PAGE_REF_DISK_MAX];
		size_t len = page_ref_encode(&f->pages[a].ref, to);
		size_t end = ref_end(f, &f->pages[f->pages[a].parent], f->pages[a].child);

		if (a == b || page_ref_encode(&f->pages[b].ref, from) != len)
			continue;
		memcpy(f->image + end - len, from, len);
		return f->pages[a].parent;
	}
	return 0;
}

START_TEST(test_forged_tables_are_read_in_bounds_and_in_order)
{
	struct test_rng rng = test_rng_seeded("table forged");
	struct forge *f = malloc(sizeof(*f));
	struct victim v;

	victim_init(&v, &rng, 400, 2000, COMPRESS_NONE);
	ck_assert_uint_ge(v.meta.height, 3);
	for (int round = 0; round < 200; round++) {
		size_t i;

		forge_init(f, &v);
		i = round % 2 ? change_bytes(f, &rng) : swap_refs(f, &rng);
		forge_sums(f, i);
		exercise(f, &rng);
		forge_fini(f);
	}
	victim_fini(&v);
	free(f);
}
END_TEST

/* The filter and the range deletes of a table, forged. */
static void forge_single(struct victim *v, struct page_ref *ref, struct test_rng *rng)
{
	struct page_ref good = *ref;
	uint8_t *page = calloc(1, ref->stored_len);
	struct kv_slice data = kv_slice_of(page, ref->stored_len);
	const struct range_set *ranges;
	struct kv_buf value = {0};
	struct table *t;
	struct entry e;

	for (int round = 0; round < 100; round++) {
		memcpy(page, v->image + ref->off, ref->stored_len);
		page[test_rng_below(rng, round % 2 ? ref->stored_len : 8)] =
			(uint8_t)test_rng_next(rng);
		ck_assert_int_eq(checksum_compute(v->r.checksum, &data, 1, ref->sum), 0);
		poke(v, ref->off, page, ref->stored_len);
		ck_assert_int_eq(table_open(&v->r.env, &v->meta, &t), 0);
		for (int i = 0; i < 5; i++) {
			e = v->m.entries[test_rng_below(rng, v->m.count)];
			ck_assert_int_le(table_get(t, e.key, hash_bytes(e.key, 0), e.seq, &e.seq,
						   &e.kind, &value),
					 0);
		}
		if (table_ranges(t, &ranges) == 0 && ranges)
			(void)range_set_covering(ranges, e.key, 5);
		table_close(t, true);
		(void)walk_and_count(v);
	}
	poke(v, ref->off, v->image + ref->off, ref->stored_len);
	*ref = good;
	kv_buf_free(&value);
	free(page);
}

START_TEST(test_forged_filters_and_ranges_are_read_in_bounds)
{
	struct test_rng rng = test_rng_seeded("table forged filter");
	struct victim v;

	victim_init(&v, &rng, 30, 200, COMPRESS_NONE);
	forge_single(&v, &v.meta.filter, &rng);
	forge_single(&v, &v.meta.ranges, &rng);
	ck_assert_uint_eq(walk_and_count(&v), 0);
	victim_fini(&v);
}
END_TEST

START_TEST(test_a_lost_filter_costs_no_answers)
{
	struct test_rng rng = test_rng_seeded("table lost filter");
	struct kv_buf value = {0};
	struct table *t;
	struct victim v;
	uint8_t bad;
	bool admits;

	victim_init(&v, &rng, 30, 200, COMPRESS_NONE);
	bad = (uint8_t)~v.image[v.meta.filter.off + 70];
	poke(&v, v.meta.filter.off + 70, &bad, 1);
	ck_assert_int_eq(table_open(&v.r.env, &v.meta, &t), 0);
	for (size_t i = 0; i < v.m.count; i++) {
		struct entry e = v.m.entries[i];

		ck_assert_int_eq(
			table_get(t, e.key, hash_bytes(e.key, 0), e.seq, &e.seq, &e.kind, &value),
			0);
	}
	ck_assert_uint_eq(v.r.damaged, 1);
	ck_assert_int_eq(table_filter_admits(t, v.m.entries[0].key, &admits), -KV_E_CHECKSUM);
	kv_buf_free(&value);
	table_close(t, true);
	victim_fini(&v);
}
END_TEST

START_TEST(test_descriptions_that_cannot_be_right_are_refused)
{
	struct table_walk walk = {0};
	struct test_rng rng = {1};
	struct table_meta good;
	struct table *t;
	struct victim v;

	victim_init(&v, &rng, 30, 200, COMPRESS_NONE);
	good = v.meta;
	for (int what = 0; what < 8; what++) {
		struct extent e = good.extents[0];

		v.meta = good;
		if (what == 0)
			v.meta.height = TABLE_HEIGHT_MAX + 1;
		else if (what == 1)
			v.meta.root.off = good.stored_bytes;
		else if (what == 2)
			v.meta.root.stored_len = v.meta.root.raw_len + 1;
		else if (what == 3)
			v.meta.root.raw_len = PAGE_RAW_MAX + 1;
		else if (what == 4)
			v.meta.stored_bytes = e.len + 1;
		else if (what == 5)
			v.meta.filter.off = UINT64_MAX;
		else if (what == 6)
			v.meta.extents[0].off++;
		else
			v.meta.extents[0].len = 0;
		ck_assert_int_eq(table_open(&v.r.env, &v.meta, &t), -KV_E_CORRUPT);
		ck_assert_int_eq(table_walk(&v.r.env, &v.meta, &walk), -KV_E_CORRUPT);
		good.extents[0] = e;
	}
	v.meta = good;
	victim_fini(&v);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_a_flip_of_any_byte_is_found_and_never_read_as_data,
		test_an_unreadable_page_costs_its_entries_only,
		test_a_callback_stops_the_walk,
		test_forged_tables_are_read_in_bounds_and_in_order,
		test_forged_filters_and_ranges_are_read_in_bounds,
		test_a_lost_filter_costs_no_answers,
		test_descriptions_that_cannot_be_right_are_refused,
	};

	return test_suite_run("table_walk", tests, KV_ARRAY_COUNT(tests), 240);
}
