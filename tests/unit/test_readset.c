/* SPDX-License-Identifier: MIT */
/*
 * Read sets: whatever is added is covered, in order and without overlap; memory is
 * bounded; nothing is covered that lies outside until the bound is reached.
 */
#include "kvcore/engine/readset.h"

#include <errno.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "kvcore/format/entry.h"
#include "tests/support/test_suite.h"

#define SPACE 2000U

static bool covered[SPACE];
static size_t intervals, bytes;

static uint32_t number(struct kv_slice ikey)
{
	return (uint32_t)ikey.data[2] << 8 | ikey.data[3];
}

static int mark(void *ctx, struct kv_slice from, struct kv_slice to)
{
	uint32_t *last = ctx, end;

	ck_assert_uint_ge(number(from), *last);
	end = !to.len ? number(from) + 1 : number(to) + (to.len > 4);
	for (uint32_t i = number(from); i < end; i++) {
		ck_assert(!covered[i]);
		covered[i] = true;
	}
	*last = end;
	intervals++;
	return 0;
}

static struct kv_slice key(uint8_t *buf, uint32_t n)
{
	buf[0] = 0;
	buf[1] = 1;
	buf[2] = (uint8_t)(n >> 8);
	buf[3] = (uint8_t)n;
	return kv_slice_of(buf, 4);
}

START_TEST(test_exactly_what_was_added_is_covered)
{
	struct test_rng rng = test_rng_seeded("readset");

	for (unsigned round = 0; round < 50; round++) {
		static bool model[SPACE];
		struct readset *r;
		uint32_t last = 0;

		ck_assert_int_eq(readset_new(&r), 0);
		ck_assert(readset_empty(r));
		for (unsigned i = 0; i < SPACE; i++)
			model[i] = covered[i] = false;
		for (unsigned n = 1 + (unsigned)test_rng_below(&rng, 1000); n; n--) {
			uint8_t a[4], b[4];
			uint32_t from = (uint32_t)test_rng_below(&rng, SPACE - 20);
			uint32_t len = 1 + (uint32_t)test_rng_below(&rng, 19);
			bool point = test_rng_below(&rng, 3) != 0;

			ck_assert_int_eq(
				readset_add(r, key(a, from),
					    point ? kv_slice_of(NULL, 0) : key(b, from + len)),
				0);
			for (uint32_t i = from; i < from + (point ? 1 : len); i++)
				model[i] = true;
		}
		ck_assert(!readset_empty(r));
		ck_assert_int_eq(readset_each(r, mark, &last), 0);
		ck_assert_mem_eq(model, covered, sizeof(model));
		readset_free(r);
	}
	readset_free(NULL);
}
END_TEST

struct probe {
	struct kv_slice key;
	bool found;
};

static int measure(void *ctx, struct kv_slice from, struct kv_slice to)
{
	struct probe *p = ctx;

	bytes += from.len + to.len;
	intervals++;
	ck_assert(!to.len || ikey_keyspace(from) == ikey_keyspace(to));
	if (slice_equal(from, p->key) ||
	    (to.len && slice_compare(from, p->key) < 0 && slice_compare(p->key, to) < 0))
		p->found = true;
	return 0;
}

START_TEST(test_memory_is_bounded_and_nothing_is_forgotten)
{
	uint8_t buf[IKEY_MAX] = {0};
	struct readset *r;

	ck_assert_int_eq(readset_new(&r), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		buf[1] = (uint8_t)(1 + i % 3);
		be32_put(buf + 2, i * 2654435761U);
		ck_assert_int_eq(readset_add(r, kv_slice_of(buf, 1000), kv_slice_of(NULL, 0)), 0);
	}
	for (uint32_t i = 0; i < 20000; i += 997) {
		struct probe p = {.key = kv_slice_of(buf, 1000)};

		buf[1] = (uint8_t)(1 + i % 3);
		be32_put(buf + 2, i * 2654435761U);
		bytes = intervals = 0;
		ck_assert_int_eq(readset_each(r, measure, &p), 0);
		ck_assert(p.found);
		ck_assert_uint_le(bytes, READSET_BYTES_MAX);
		ck_assert_uint_ge(intervals, 100);
	}
	readset_free(r);
}
END_TEST

START_TEST(test_the_same_key_again_takes_no_more_memory)
{
	uint8_t buf[IKEY_MAX] = {0, 1};
	struct probe p = {.key = kv_slice_of(buf, sizeof(buf))};
	struct readset *r;

	ck_assert_int_eq(readset_new(&r), 0);
	for (unsigned i = 0; i < 10000; i++)
		ck_assert_int_eq(readset_add(r, p.key, kv_slice_of(NULL, 0)), 0);
	bytes = intervals = 0;
	ck_assert_int_eq(readset_each(r, measure, &p), 0);
	ck_assert_uint_eq(intervals, 1);
	ck_assert_uint_eq(bytes, sizeof(buf));
	readset_free(r);
}
END_TEST

static int stop(void *ctx, struct kv_slice from, struct kv_slice to)
{
	(void)ctx;
	(void)from;
	(void)to;
	return -ECANCELED;
}

START_TEST(test_each_stops_at_an_error)
{
	struct readset *r;

	ck_assert_int_eq(readset_new(&r), 0);
	ck_assert_int_eq(readset_each(r, stop, NULL), 0);
	ck_assert_int_eq(readset_add(r, test_str("aab"), kv_slice_of(NULL, 0)), 0);
	ck_assert_int_eq(readset_each(r, stop, NULL), -ECANCELED);
	readset_free(r);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_exactly_what_was_added_is_covered,
		test_memory_is_bounded_and_nothing_is_forgotten,
		test_the_same_key_again_takes_no_more_memory,
		test_each_stops_at_an_error,
	};

	return test_suite_run("readset", tests, KV_ARRAY_COUNT(tests), 60);
}
