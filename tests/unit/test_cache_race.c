/* SPDX-License-Identifier: MIT */
/*
 * What may happen to a page between the moment at which a reader without a lock finds it and
 * the one at which it pins it. cache.c is compiled here with a call in that gap, so each
 * case happens every time and not once in a million.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

struct cache;
static void in_the_gap(struct cache *c);
#define CACHE_GAP(c) in_the_gap(c)
#include "kvcore/cache/cache.c"

#define BUDGET ((size_t)1024 * 1024) /* one shard, so all descriptors are in one list */
#define LEN    4096U

static const struct cache_key key_a = {1, 0};
static const struct cache_key key_b = {2, 4096};

static void (*gap)(struct cache *c); /* called once, in the next gap */

static void in_the_gap(struct cache *c)
{
	void (*call)(struct cache *) = gap;

	gap = NULL;
	if (call)
		call(c);
}

static struct cache_page *insert(struct cache *c, struct cache_key key, uint8_t fill)
{
	uint8_t *data = malloc(LEN);
	struct cache_page *page;

	ck_assert_ptr_nonnull(data);
	memset(data, fill, LEN);
	ck_assert_int_eq(cache_insert(c, key, data, LEN, CACHE_NORMAL, &page), 0);
	return page;
}

static void put(struct cache *c, struct cache_key key, uint8_t fill)
{
	cache_unpin(c, insert(c, key, fill));
}

static struct cache *new_cache(void)
{
	struct cache *c;

	ck_assert_int_eq(cache_new(BUDGET, &c), 0);
	put(c, key_a, 'a');
	return c;
}

static void drop_a(struct cache *c)
{
	cache_drop_owner(c, key_a.owner);
}

static void evict_all(struct cache *c)
{
	cache_charge(c, BUDGET);
	cache_uncharge(c, BUDGET);
}

static void reuse_for_b(struct cache *c)
{
	evict_all(c);
	put(c, key_b, 'b');
}

static void reuse_for_a(struct cache *c)
{
	evict_all(c);
	put(c, key_a, 'A');
}

/* The descriptor that the reader stands on is b's, and a has another one. */
static void swap(struct cache *c)
{
	reuse_for_b(c);
	put(c, key_a, 'A');
}

/* The content of a, ' ' if it is not there, with that happening in the gap. */
static uint8_t look(struct cache *c, void (*what)(struct cache *c))
{
	struct cache_page *page;
	uint8_t fill;

	gap = what;
	page = cache_lookup(c, key_a, CACHE_NORMAL);
	ck_assert(gap == NULL);
	if (!page)
		return ' ';
	fill = page->data[LEN - 1];
	cache_unpin(c, page);
	return fill;
}

START_TEST(test_a_page_that_is_dropped_or_evicted_before_the_pin_is_missed)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, drop_a), ' ');
	put(c, key_a, 'a');
	ck_assert_uint_eq(look(c, evict_all), ' ');
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_that_is_reused_for_another_key_before_the_pin_is_missed)
{
	struct cache *c = new_cache();
	struct cache_stat st;

	ck_assert_uint_eq(look(c, reuse_for_b), ' ');
	evict_all(c); /* the pin of the wrong page was given up */
	cache_get_stat(c, &st);
	ck_assert_uint_eq(st.evictions, 2);
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_that_is_made_anew_before_the_pin_is_found_as_it_is_now)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, reuse_for_a), 'A');
	ck_assert_uint_eq(look(c, reuse_for_a), 'A');
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_that_has_moved_to_another_descriptor_is_found)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, swap), 'A');
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_dropped_after_the_pin_stays_until_the_unpin)
{
	struct cache *c = new_cache();
	struct cache_page *page = cache_lookup(c, key_a, CACHE_NORMAL);

	ck_assert_ptr_nonnull(page);
	drop_a(c);
	put(c, key_a, 'A');
	ck_assert_uint_eq(page->data[7], 'a');
	ck_assert_uint_eq(look(c, NULL), 'A');
	cache_unpin(c, page);
	ck_assert_uint_eq(look(c, NULL), 'A');
	cache_free(c);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache_race");
	TCase *tc = tcase_create("cache_race");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_a_page_that_is_dropped_or_evicted_before_the_pin_is_missed);
	tcase_add_test(tc, test_a_page_that_is_reused_for_another_key_before_the_pin_is_missed);
	tcase_add_test(tc, test_a_page_that_is_made_anew_before_the_pin_is_found_as_it_is_now);
	tcase_add_test(tc, test_a_page_that_has_moved_to_another_descriptor_is_found);
	tcase_add_test(tc, test_a_page_dropped_after_the_pin_stays_until_the_unpin);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
