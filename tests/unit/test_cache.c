/* SPDX-License-Identifier: MIT */
/* The page cache: content, the budget, scan resistance, pins, threads. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/cache/cache.h"
#include "kvcore/os/os_thread.h"

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

static uint64_t next_random(uint64_t *rng)
{
	*rng += 0x9e3779b97f4a7c15U;
	return hash_u64(*rng);
}

/* The content of a page follows from its key. */
static uint8_t byte_of(struct cache_key key)
{
	return (uint8_t)(key.owner * 7 + key.off * 13);
}

static size_t len_of(struct cache_key key)
{
	return 100 + (key.owner * 31 + key.off * 977) % 9000;
}

static struct cache_page *insert_len(struct cache *c, struct cache_key key, size_t len,
				     enum cache_priority prio)
{
	struct cache_page *page;
	uint8_t *data = malloc(len);

	ck_assert_ptr_nonnull(data);
	memset(data, byte_of(key), len);
	ck_assert_int_eq(cache_insert(c, key, data, len, prio, &page), 0);
	return page;
}

static void check_page(struct cache_key key, const struct cache_page *page, size_t len)
{
	ck_assert_uint_eq(page->len, len);
	ck_assert_uint_eq(page->data[0], byte_of(key));
	ck_assert_uint_eq(page->data[len / 2], byte_of(key));
	ck_assert_uint_eq(page->data[len - 1], byte_of(key));
}

/* As a reader does: from the cache or inserted. Returns whether it was a hit. */
static bool read_page(struct cache *c, struct cache_key key, size_t len, enum cache_priority prio)
{
	struct cache_page *page = cache_lookup(c, key, prio);
	bool hit = page != NULL;

	if (!page)
		page = insert_len(c, key, len, prio);
	check_page(key, page, len);
	cache_unpin(c, page);
	return hit;
}

static size_t used(struct cache *c)
{
	struct cache_stat st;

	cache_get_stat(c, &st);
	return st.page_bytes + st.charged_bytes;
}

static struct cache *new_cache(size_t budget)
{
	struct cache *c;

	ck_assert_int_eq(cache_new(budget, &c), 0);
	return c;
}

START_TEST(test_a_page_is_found_until_its_owner_is_dropped)
{
	struct cache *c = new_cache(8 * MIB);
	struct cache_key a = {1, 0};
	struct cache_key b = {2, 0};
	struct cache_page *page;
	struct cache_stat st;

	ck_assert_ptr_null(cache_lookup(c, a, CACHE_NORMAL));
	page = insert_len(c, a, 5000, CACHE_NORMAL);
	ck_assert_ptr_eq(cache_lookup(c, a, CACHE_NORMAL), page);
	cache_unpin(c, page);
	cache_unpin(c, page);
	ck_assert(!read_page(c, b, 10, CACHE_HIGH));
	ck_assert(read_page(c, b, 10, CACHE_ONCE));
	cache_drop_owner(c, 1);
	ck_assert_ptr_null(cache_lookup(c, a, CACHE_NORMAL));
	ck_assert(read_page(c, b, 10, CACHE_NORMAL));
	cache_get_stat(c, &st);
	ck_assert_uint_eq(st.hits, 3);
	ck_assert_uint_eq(st.misses, 3);
	ck_assert_uint_eq(st.evictions, 0);
	ck_assert_uint_eq(st.budget, 8 * MIB);
	cache_free(c);
}
END_TEST

START_TEST(test_inserting_a_key_twice_returns_the_first_page)
{
	struct cache *c = new_cache(8 * MIB);
	struct cache_key a = {1, 4096};
	struct cache_page *first = insert_len(c, a, 100, CACHE_NORMAL);
	size_t before = used(c);
	struct cache_page *second = insert_len(c, a, 100, CACHE_NORMAL);

	ck_assert_ptr_eq(first, second);
	ck_assert_uint_eq(used(c), before);
	cache_unpin(c, first);
	cache_unpin(c, second);
	cache_free(c);
}
END_TEST

START_TEST(test_a_pinned_page_outlives_its_owner_and_is_never_evicted)
{
	struct cache *c = new_cache(MIB);
	struct cache_key a = {1, 0};
	struct cache_key b = {2, 0};
	struct cache_page *pa = insert_len(c, a, 8000, CACHE_NORMAL);
	struct cache_page *pb = insert_len(c, b, 8000, CACHE_ONCE);

	for (uint64_t i = 0; i < 1000; i++)
		read_page(c, (struct cache_key){3, i}, 8000, CACHE_NORMAL);
	ck_assert_ptr_eq(cache_lookup(c, b, CACHE_ONCE), pb);
	cache_unpin(c, pb);
	cache_drop_owner(c, 1);
	ck_assert_ptr_null(cache_lookup(c, a, CACHE_NORMAL));
	check_page(a, pa, 8000);
	check_page(b, pb, 8000);
	cache_unpin(c, pa);
	cache_unpin(c, pb);
	cache_free(c);
}
END_TEST

START_TEST(test_when_everything_is_pinned_a_page_is_handed_out_uncached)
{
	struct cache *c = new_cache(256 * KIB);
	struct cache_page *pages[64];
	size_t n = KV_ARRAY_COUNT(pages);

	for (uint64_t i = 0; i < n; i++) {
		pages[i] = insert_len(c, (struct cache_key){1, i}, 8 * KIB, CACHE_NORMAL);
		ck_assert_uint_le(used(c), 256 * KIB);
	}
	for (uint64_t i = 0; i < n; i++) {
		check_page((struct cache_key){1, i}, pages[i], 8 * KIB);
		cache_unpin(c, pages[i]);
	}
	ck_assert(read_page(c, (struct cache_key){1, 0}, 8 * KIB, CACHE_NORMAL));
	ck_assert(!read_page(c, (struct cache_key){1, n - 1}, 8 * KIB, CACHE_NORMAL));
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_larger_than_the_budget_is_handed_out_uncached)
{
	struct cache *c = new_cache(64 * KIB);
	struct cache_key a = {1, 0};

	ck_assert(!read_page(c, a, 100 * KIB, CACHE_HIGH));
	ck_assert(!read_page(c, a, 100 * KIB, CACHE_HIGH));
	ck_assert_uint_le(used(c), 64 * KIB);
	cache_free(c);
}
END_TEST

START_TEST(test_charging_evicts_pages_and_uncharging_gives_the_room_back)
{
	struct cache *c = new_cache(4 * MIB);
	struct cache_stat st;

	for (uint64_t i = 0; i < 2000; i++)
		read_page(c, (struct cache_key){1, i}, 4 * KIB, CACHE_NORMAL);
	cache_get_stat(c, &st);
	ck_assert_uint_gt(st.page_bytes, 3 * MIB);
	cache_charge(c, 3 * MIB);
	cache_get_stat(c, &st);
	ck_assert_uint_le(st.page_bytes, MIB);
	ck_assert_uint_gt(st.page_bytes, MIB / 2);
	cache_charge(c, 3 * MIB); /* more than there is: never fails */
	cache_get_stat(c, &st);
	ck_assert_uint_eq(st.charged_bytes, 6 * MIB);
	ck_assert(!read_page(c, (struct cache_key){1, 7}, 4 * KIB, CACHE_NORMAL));
	ck_assert(!read_page(c, (struct cache_key){1, 7}, 4 * KIB, CACHE_NORMAL));
	cache_uncharge(c, 6 * MIB);
	read_page(c, (struct cache_key){1, 7}, 4 * KIB, CACHE_NORMAL);
	ck_assert(read_page(c, (struct cache_key){1, 7}, 4 * KIB, CACHE_NORMAL));
	cache_free(c);
}
END_TEST

/* Hits of 1000 reads over a hot set that is used twice, after a scan of ten budgets. */
static unsigned hot_hits_after_scan(size_t budget, enum cache_priority scan)
{
	struct cache *c = new_cache(budget);
	uint64_t hot = budget / 2 / (4 * KIB);
	unsigned hits = 0;

	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < hot; i++)
			read_page(c, (struct cache_key){1, i * 4096}, 4 * KIB, CACHE_NORMAL);
	for (uint64_t i = 0; i < 10 * budget / (4 * KIB); i++)
		read_page(c, (struct cache_key){2, i * 4096}, 4 * KIB, scan);
	for (uint64_t i = 0; i < 1000; i++)
		hits += read_page(c, (struct cache_key){1, i % hot * 4096}, 4 * KIB, CACHE_NORMAL);
	cache_free(c);
	return hits;
}

START_TEST(test_what_is_used_twice_survives_a_scan_of_ten_times_the_budget)
{
	ck_assert_uint_ge(hot_hits_after_scan(32 * MIB, CACHE_NORMAL), 990);
	ck_assert_uint_ge(hot_hits_after_scan(4 * MIB, CACHE_NORMAL), 990);
	ck_assert_uint_eq(hot_hits_after_scan(4 * MIB, CACHE_ONCE), 1000);
}
END_TEST

START_TEST(test_pages_of_high_priority_survive_a_scan_at_once)
{
	struct cache *c = new_cache(8 * MIB);

	for (uint64_t i = 0; i < 100; i++)
		read_page(c, (struct cache_key){1, i}, 16 * KIB, CACHE_HIGH);
	for (uint64_t i = 0; i < 20000; i++)
		read_page(c, (struct cache_key){2, i}, 4 * KIB, CACHE_NORMAL);
	for (uint64_t i = 0; i < 100; i++)
		ck_assert(read_page(c, (struct cache_key){1, i}, 16 * KIB, CACHE_HIGH));
	cache_free(c);
}
END_TEST

static void scan_over(struct cache *c, size_t bytes)
{
	for (uint64_t i = 0; i < bytes / (4 * KIB); i++) {
		read_page(c, (struct cache_key){2, i * 4096}, 4 * KIB, CACHE_NORMAL);
		read_page(c, (struct cache_key){2, i * 4096}, 4 * KIB, CACHE_NORMAL);
	}
}

START_TEST(test_a_held_page_stays_until_it_is_let_go)
{
	struct cache *c = new_cache(4 * MIB);
	struct cache_key key = {1, 0};
	struct cache_page *page = insert_len(c, key, 10000, CACHE_NORMAL);

	ck_assert(cache_hold(c, page));
	ck_assert(!cache_hold(c, page));
	scan_over(c, 40 * MIB);
	check_page(key, page, 10000);
	ck_assert_ptr_eq(cache_lookup(c, key, CACHE_NORMAL), page);
	cache_unpin(c, page);
	cache_let_go(c, page);
	scan_over(c, 40 * MIB);
	ck_assert_ptr_null(cache_lookup(c, key, CACHE_NORMAL));
	cache_free(c);
}
END_TEST

START_TEST(test_a_held_page_outlives_its_owner)
{
	struct cache *c = new_cache(4 * MIB);
	struct cache_key key = {1, 0};
	struct cache_page *page = insert_len(c, key, 10000, CACHE_NORMAL);

	ck_assert(cache_hold(c, page));
	cache_drop_owner(c, 1);
	ck_assert_ptr_null(cache_lookup(c, key, CACHE_NORMAL));
	check_page(key, page, 10000);
	cache_let_go(c, page);
	cache_free(c);
}
END_TEST

START_TEST(test_at_most_a_quarter_of_the_budget_is_held)
{
	struct cache *c = new_cache(4 * MIB);
	struct cache_page *pages[64];
	size_t count = 0;
	struct cache_page *last;

	while (count < KV_ARRAY_COUNT(pages)) {
		last = insert_len(c, (struct cache_key){1, count}, 50 * KIB, CACHE_NORMAL);
		if (!cache_hold(c, last))
			break;
		pages[count++] = last;
	}
	ck_assert_uint_eq(count, MIB / (51 * KIB));
	cache_let_go(c, pages[--count]);
	ck_assert(cache_hold(c, last));
	cache_let_go(c, last);
	while (count > 0)
		cache_let_go(c, pages[--count]);
	cache_free(c);
}
END_TEST

START_TEST(test_pages_read_once_go_before_those_read_normally)
{
	struct cache *c = new_cache(8 * MIB);
	unsigned hits = 0;

	for (uint64_t i = 0; i < 1000; i++) /* half the budget, each used only once */
		read_page(c, (struct cache_key){1, i}, 4 * KIB, CACHE_NORMAL);
	for (uint64_t i = 0; i < 20000; i++)
		read_page(c, (struct cache_key){2, i}, 4 * KIB, CACHE_ONCE);
	for (uint64_t i = 0; i < 1000; i++)
		hits += read_page(c, (struct cache_key){1, i}, 4 * KIB, CACHE_NORMAL);
	ck_assert_uint_eq(hits, 1000);
	cache_free(c);
}
END_TEST

START_TEST(test_a_new_working_set_replaces_the_old_one)
{
	struct cache *c = new_cache(4 * MIB);
	uint64_t rng = 1;

	for (uint64_t owner = 1; owner <= 4; owner++) {
		unsigned hits = 0;

		for (uint64_t i = 0; i < 400 * 20; i++) {
			struct cache_key key = {owner, next_random(&rng) % 400};

			hits += read_page(c, key, 4 * KIB, CACHE_NORMAL) && i >= 400 * 19;
		}
		ck_assert_uint_ge(hits, 390);
	}
	cache_free(c);
}
END_TEST

#define HELD_MAX 8

START_TEST(test_random_use_keeps_content_and_budget)
{
	static const size_t budgets[] = {64 * KIB, MIB, 5 * MIB};

	for (uint64_t seed = 0; seed < 12; seed++) {
		size_t budget = budgets[seed % KV_ARRAY_COUNT(budgets)];
		struct cache *c = new_cache(budget);
		struct cache_page *held[HELD_MAX];
		size_t held_count = 0;
		size_t charged = 0;
		uint64_t rng = seed;

		for (int i = 0; i < 20000; i++) {
			struct cache_key key = {1 + next_random(&rng) % 5, next_random(&rng) % 300};
			enum cache_priority prio = (enum cache_priority)(next_random(&rng) % 3);
			uint64_t dice = next_random(&rng) % 1000;

			if (dice < 900) {
				read_page(c, key, len_of(key), prio);
			} else if (dice < 940 && held_count < HELD_MAX) {
				struct cache_page *page = cache_lookup(c, key, prio);

				if (page)
					held[held_count++] = page;
			} else if (dice < 980 && held_count != 0) {
				cache_unpin(c, held[--held_count]);
			} else if (dice < 985) {
				cache_drop_owner(c, key.owner);
				ck_assert_ptr_null(cache_lookup(c, key, prio));
			} else if (charged == 0) {
				charged = (size_t)(next_random(&rng) % (budget / 2));
				cache_charge(c, charged);
			} else {
				cache_uncharge(c, charged);
				charged = 0;
			}
			if (held_count == 0)
				ck_assert_uint_le(used(c), budget);
		}
		while (held_count != 0)
			cache_unpin(c, held[--held_count]);
		cache_free(c);
	}
}
END_TEST

/* ---- threads ------------------------------------------------------------ */

struct crowd {
	struct cache *cache;
	_Atomic uint64_t seed;
	_Atomic unsigned wrong;
};

static void use_randomly(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t rng = atomic_fetch_add(&crowd->seed, 1) << 32;

	for (int i = 0; i < 4000; i++) {
		struct cache_key key = {1 + next_random(&rng) % 3, next_random(&rng) % 200};
		enum cache_priority prio = (enum cache_priority)(next_random(&rng) % 3);
		struct cache_page *page = cache_lookup(crowd->cache, key, prio);

		if (!page)
			page = insert_len(crowd->cache, key, len_of(key), prio);
		if (page->len != len_of(key) || page->data[5] != byte_of(key))
			atomic_fetch_add(&crowd->wrong, 1);
		if (i % 64 == 0)
			cache_drop_owner(crowd->cache, key.owner);
		if (i % 32 == 0) {
			cache_charge(crowd->cache, 200 * KIB);
			cache_uncharge(crowd->cache, 200 * KIB);
		}
		cache_unpin(crowd->cache, page);
	}
}

START_TEST(test_threads_see_only_what_was_inserted)
{
	struct crowd crowd = {.cache = new_cache(MIB)};
	struct os_thread threads[4];
	struct cache_stat st;

	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		ck_assert_int_eq(os_thread_start(&threads[i], "crowd", use_randomly, &crowd), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		os_thread_join(&threads[i]);
	ck_assert_uint_eq(atomic_load(&crowd.wrong), 0);
	cache_get_stat(crowd.cache, &st);
	ck_assert_uint_le(st.page_bytes, MIB);
	ck_assert_uint_gt(st.evictions, 0);
	ck_assert_uint_eq(st.hits + st.misses, 16000);
	cache_free(crowd.cache);
}
END_TEST

/* So few pages fit that nearly each lookup finds one that somebody is about to evict. */
static void use_few(void *arg)
{
	struct crowd *crowd = arg;
	uint64_t rng = atomic_fetch_add(&crowd->seed, 1) << 32;

	for (int i = 0; i < 20000; i++) {
		struct cache_key key = {1, next_random(&rng) % 24};
		struct cache_page *page = cache_lookup(crowd->cache, key, CACHE_NORMAL);

		if (!page)
			page = insert_len(crowd->cache, key, 3000 + key.off, CACHE_NORMAL);
		if (page->len != 3000 + key.off || page->data[2999] != byte_of(key))
			atomic_fetch_add(&crowd->wrong, 1);
		cache_unpin(crowd->cache, page);
		if (i % 256 == 0)
			cache_drop_owner(crowd->cache, 1);
	}
}

START_TEST(test_threads_that_evict_each_others_pages_see_only_their_own)
{
	struct crowd crowd = {.cache = new_cache(64 * KIB)};
	struct os_thread threads[4];
	struct cache_stat st;

	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		ck_assert_int_eq(os_thread_start(&threads[i], "crowd", use_few, &crowd), 0);
	for (size_t i = 0; i < KV_ARRAY_COUNT(threads); i++)
		os_thread_join(&threads[i]);
	ck_assert_uint_eq(atomic_load(&crowd.wrong), 0);
	cache_get_stat(crowd.cache, &st);
	ck_assert_uint_gt(st.hits, 1000);
	ck_assert_uint_gt(st.evictions, 1000);
	cache_free(crowd.cache);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache");
	TCase *tc = tcase_create("cache");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_a_page_is_found_until_its_owner_is_dropped);
	tcase_add_test(tc, test_inserting_a_key_twice_returns_the_first_page);
	tcase_add_test(tc, test_a_pinned_page_outlives_its_owner_and_is_never_evicted);
	tcase_add_test(tc, test_when_everything_is_pinned_a_page_is_handed_out_uncached);
	tcase_add_test(tc, test_a_page_larger_than_the_budget_is_handed_out_uncached);
	tcase_add_test(tc, test_charging_evicts_pages_and_uncharging_gives_the_room_back);
	tcase_add_test(tc, test_what_is_used_twice_survives_a_scan_of_ten_times_the_budget);
	tcase_add_test(tc, test_pages_of_high_priority_survive_a_scan_at_once);
	tcase_add_test(tc, test_a_held_page_stays_until_it_is_let_go);
	tcase_add_test(tc, test_a_held_page_outlives_its_owner);
	tcase_add_test(tc, test_at_most_a_quarter_of_the_budget_is_held);
	tcase_add_test(tc, test_pages_read_once_go_before_those_read_normally);
	tcase_add_test(tc, test_a_new_working_set_replaces_the_old_one);
	tcase_add_test(tc, test_random_use_keeps_content_and_budget);
	tcase_add_test(tc, test_threads_see_only_what_was_inserted);
	tcase_add_test(tc, test_threads_that_evict_each_others_pages_see_only_their_own);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
