/* SPDX-License-Identifier: MIT */
/*
 * Looking at a page without a pin. cache_glance.c is compiled here with calls in the gaps between
 * finding a page, naming it, and looking again, so that each thing that may happen there does.
 */
#include <stdatomic.h>
#include <string.h>

struct cache;
static void in_the_gap(struct cache *c);
#define CACHE_GLANCE_GAP(c) in_the_gap(c)
#include "kvcore/cache/cache_glance.c"

#include "tests/support/test_suite.h"

#define BUDGET ((size_t)1024 * 1024)
#define LEN    4096U

static const struct cache_key key_a = {1, 0};
static const struct cache_key key_b = {2, 4096};

static void (*gap)(struct cache *c); /* called in the gap that comes after @passing others */
static unsigned passing;

static void in_the_gap(struct cache *c)
{
	void (*call)(struct cache *) = gap;

	if (!call || passing-- > 0)
		return;
	gap = NULL;
	call(c);
}

static void put(struct cache *c, struct cache_key key, uint8_t fill)
{
	uint8_t *data = malloc(LEN);
	struct cache_page *page;

	ck_assert_ptr_nonnull(data);
	memset(data, fill, LEN);
	ck_assert_int_eq(cache_insert(c, key, data, LEN, CACHE_NORMAL, &page), 0);
	cache_unpin(c, page);
}

/* A page becomes settled by the second use, and used by the third. */
static void use(struct cache *c, struct cache_key key, unsigned times)
{
	struct cache_page *page;

	while (times--) {
		page = cache_lookup(c, key, CACHE_NORMAL);
		ck_assert_ptr_nonnull(page);
		cache_unpin(c, page);
	}
}

static void put_in_use(struct cache *c, struct cache_key key, uint8_t fill)
{
	put(c, key, fill);
	use(c, key, 2);
}

static struct cache *new_cache(void)
{
	struct cache *c;

	ck_assert_int_eq(cache_new(BUDGET, &c), 0);
	put_in_use(c, key_a, 'a');
	return c;
}

static void evict_all(struct cache *c)
{
	cache_charge(c, BUDGET);
	cache_uncharge(c, BUDGET);
}

/* The content of a as a glance shows it, ' ' without. */
static uint8_t look(struct cache *c, unsigned which, void (*what)(struct cache *c))
{
	struct cache_glance *glance;
	const struct cache_page *page;
	uint8_t fill;

	passing = which;
	gap = what;
	page = cache_glance(c, key_a, &glance);
	ck_assert(gap == NULL);
	if (!page)
		return ' ';
	fill = page->data[LEN - 1];
	cache_glance_end(glance);
	return fill;
}

static uint64_t evictions(struct cache *c)
{
	struct cache_stat st;

	cache_get_stat(c, &st);
	return st.evictions;
}

START_TEST(test_only_a_page_whose_state_need_not_change_is_looked_at)
{
	struct cache *c;

	ck_assert_int_eq(cache_new(BUDGET, &c), 0);
	ck_assert_uint_eq(look(c, 0, NULL), ' ');
	put(c, key_a, 'a');
	ck_assert_uint_eq(look(c, 0, NULL), ' ');
	use(c, key_a, 1);
	ck_assert_uint_eq(look(c, 0, NULL), ' ');
	use(c, key_a, 1);
	ck_assert_uint_eq(look(c, 0, NULL), 'a');
	ck_assert_uint_eq(look(c, 0, NULL), 'a');
	cache_free(c);
}
END_TEST

START_TEST(test_a_page_that_is_looked_at_is_not_evicted)
{
	struct cache *c = new_cache();
	struct cache_glance *glance;
	const struct cache_page *page = cache_glance(c, key_a, &glance);

	ck_assert_ptr_nonnull(page);
	evict_all(c);
	ck_assert_uint_eq(evictions(c), 0);
	ck_assert_uint_eq(page->data[7], 'a');
	cache_glance_end(glance);
	use(c, key_a, 1); /* it is still there, and can be pinned */
	evict_all(c);
	ck_assert_uint_eq(evictions(c), 1);
	cache_free(c);
}
END_TEST

START_TEST(test_a_thread_looks_at_one_page_at_a_time)
{
	struct cache *c = new_cache();
	struct cache_glance *glance;

	put_in_use(c, key_b, 'b');
	ck_assert_ptr_nonnull(cache_glance(c, key_b, &glance));
	ck_assert_uint_eq(look(c, 0, NULL), ' ');
	cache_glance_end(glance);
	ck_assert_uint_eq(look(c, 0, NULL), 'a');
	cache_free(c);
}
END_TEST

static void drop_a(struct cache *c)
{
	cache_drop_owner(c, key_a.owner);
}

static void reuse_for_b(struct cache *c)
{
	evict_all(c);
	put_in_use(c, key_b, 'b');
}

static void reuse_for_a(struct cache *c)
{
	evict_all(c);
	put_in_use(c, key_a, 'A');
}

START_TEST(test_what_happens_before_the_page_is_named_is_seen)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, 0, evict_all), ' ');
	put_in_use(c, key_a, 'a');
	ck_assert_uint_eq(look(c, 0, drop_a), ' ');
	put_in_use(c, key_a, 'a');
	ck_assert_uint_eq(look(c, 0, reuse_for_b), ' ');
	cache_free(c);

	c = new_cache();
	ck_assert_uint_eq(look(c, 0, reuse_for_a), 'A');
	cache_free(c);
}
END_TEST

START_TEST(test_an_eviction_after_the_page_is_named_leaves_it)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, 1, evict_all), ' '); /* not used lately any more */
	ck_assert_uint_eq(evictions(c), 0);
	use(c, key_a, 1);
	ck_assert_uint_eq(look(c, 0, NULL), 'a');
	cache_free(c);
}
END_TEST

/* ---- dropping, which waits ------------------------------------------------------- */

static struct os_thread dropper;
static _Atomic bool dropped;

static void run_drop(void *arg)
{
	cache_drop_owner(arg, key_a.owner);
	atomic_store(&dropped, true);
}

static bool is_there(struct cache *c)
{
	struct cache_page *page = cache_lookup(c, key_a, CACHE_ONCE);

	if (page)
		cache_unpin(c, page);
	return page != NULL;
}

/* Returns once the page cannot be found any more. */
static void drop_a_beside(struct cache *c)
{
	unsigned turns = 0;

	atomic_store(&dropped, false);
	ck_assert_int_eq(os_thread_start(&dropper, "dropper", run_drop, c), 0);
	while (is_there(c))
		os_thread_relax(&turns);
	ck_assert(!atomic_load(&dropped));
}

START_TEST(test_a_page_dropped_after_it_is_named_is_missed_and_goes_then)
{
	struct cache *c = new_cache();

	ck_assert_uint_eq(look(c, 1, drop_a_beside), ' ');
	os_thread_join(&dropper);
	ck_assert(atomic_load(&dropped));
	cache_free(c);
}
END_TEST

static struct cache_page *pinned;
static struct cache *pinned_in;

static void run_unpin(void *arg)
{
	cache_unpin(pinned_in, arg);
	atomic_store(&dropped, true);
}

/* The last pin of a page without an owner is given up, which would free it. */
static void drop_and_unpin_a_beside(struct cache *c)
{
	pinned_in = c;
	drop_a(c);
	atomic_store(&dropped, false);
	ck_assert_int_eq(os_thread_start(&dropper, "unpinner", run_unpin, pinned), 0);
	for (unsigned turns = 0; turns < 2000;)
		os_thread_relax(&turns);
	ck_assert(!atomic_load(&dropped));
}

START_TEST(test_a_page_without_owner_whose_last_pin_goes_waits_for_who_named_it)
{
	struct cache *c = new_cache();

	pinned = cache_lookup(c, key_a, CACHE_NORMAL);
	ck_assert_ptr_nonnull(pinned);
	ck_assert_uint_eq(look(c, 1, drop_and_unpin_a_beside), ' ');
	os_thread_join(&dropper);
	ck_assert(atomic_load(&dropped));
	cache_free(c);
}
END_TEST

/* ---- threads ------------------------------------------------------------------------ */

#define KEYS 200U /* four times what fits */

struct crowd {
	struct cache *cache;
	_Atomic uint64_t seed;
	_Atomic unsigned wrong, glances;
};

static uint8_t fill_of(struct cache_key key)
{
	return (uint8_t)(key.off * 13 + 7);
}

static bool glance_at(struct crowd *crowd, struct cache_key key)
{
	struct cache_glance *glance;
	const struct cache_page *page = cache_glance(crowd->cache, key, &glance);

	if (!page)
		return false;
	for (size_t i = 0; i < page->len; i++)
		if (page->data[i] != fill_of(key))
			atomic_fetch_add(&crowd->wrong, 1);
	cache_glance_end(glance);
	atomic_fetch_add(&crowd->glances, 1);
	return true;
}

static void read_randomly(void *arg)
{
	struct crowd *crowd = arg;
	struct test_rng rng = {atomic_fetch_add(&crowd->seed, 1)};

	for (int i = 0; i < 20000; i++) {
		struct cache_key key = {1, test_rng_next(&rng) % KEYS};
		struct cache_page *page;

		if (i % 2) /* half of the reads are of few pages, which become used */
			key.off %= 16;
		if (glance_at(crowd, key))
			continue;
		page = cache_lookup(crowd->cache, key, CACHE_NORMAL);
		if (page)
			cache_unpin(crowd->cache, page);
		else
			put(crowd->cache, key, fill_of(key));
	}
}

/* Owners come and go, so descriptors are reused for pages of others. */
static void drop_others(void *arg)
{
	struct crowd *crowd = arg;

	for (uint64_t i = 0; i < 500; i++) {
		for (uint64_t off = 0; off < 8; off++)
			put(crowd->cache, (struct cache_key){2 + i, off}, 'x');
		cache_drop_owner(crowd->cache, 2 + i);
	}
}

START_TEST(test_threads_see_what_was_inserted_while_pages_go)
{
	static void (*const work[])(void *) = {read_randomly, read_randomly, read_randomly,
					       drop_others};
	struct crowd crowd = {0};
	struct os_thread threads[4];

	ck_assert_int_eq(cache_new(KEYS / 4 * LEN, &crowd.cache), 0);
	for (size_t i = 0; i < 4; i++)
		ck_assert_int_eq(os_thread_start(&threads[i], "crowd", work[i], &crowd), 0);
	for (size_t i = 0; i < 4; i++)
		os_thread_join(&threads[i]);
	ck_assert_uint_eq(atomic_load(&crowd.wrong), 0);
	ck_assert_uint_gt(atomic_load(&crowd.glances), 1000);
	ck_assert_uint_gt(evictions(crowd.cache), 1000);
	cache_free(crowd.cache);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_only_a_page_whose_state_need_not_change_is_looked_at,
		test_a_page_that_is_looked_at_is_not_evicted,
		test_a_thread_looks_at_one_page_at_a_time,
		test_what_happens_before_the_page_is_named_is_seen,
		test_an_eviction_after_the_page_is_named_leaves_it,
		test_a_page_dropped_after_it_is_named_is_missed_and_goes_then,
		test_a_page_without_owner_whose_last_pin_goes_waits_for_who_named_it,
		test_threads_see_what_was_inserted_while_pages_go,
	};

	return test_suite_run("cache_glance", tests, sizeof(tests) / sizeof(tests[0]), 120);
}
