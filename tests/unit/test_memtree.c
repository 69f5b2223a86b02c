/* SPDX-License-Identifier: MIT */
/*
 * The concurrent B+-tree: keys that share prefixes, differ in length only, or
 * contain zeros, in random, rising and falling order, with every invariant checked
 * on the way; then several inserters at once beside readers that walk both ways.
 */
#include "kvcore/engine/memtree.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/bytes.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/test_suite.h"

#define KEYS 3000U

struct world {
	struct arena arena;
	struct memtree tree;
	struct memkey *key[KEYS]; /* distinct, sorted */
	size_t count;
	bool in[KEYS];
};

static struct memkey *key_make(struct arena *a, const void *data, size_t len)
{
	struct memkey *k = arena_alloc(a, sizeof(*k) + len);

	ck_assert_ptr_nonnull(k);
	atomic_init(&k->newest, NULL);
	k->len = (uint32_t)len;
	memcpy(k->bytes, data, len);
	return k;
}

static int key_order(const void *a, const void *b)
{
	return slice_compare(memkey_slice(*(struct memkey *const *)a),
			     memkey_slice(*(struct memkey *const *)b));
}

enum shape { SHAPE_NUMBERS, SHAPE_PATHS, SHAPE_ZEROS, SHAPE_BYTES, SHAPE_COUNT };

static size_t key_random(struct test_rng *rng, enum shape shape, uint8_t out[128])
{
	char *text = (char *)out;
	size_t len;

	switch (shape) {
	case SHAPE_NUMBERS:
		return (size_t)snprintf(text, 128, "%016u", (unsigned)test_rng_below(rng, 100000));
	case SHAPE_PATHS:
		return (size_t)snprintf(
			text, 128, "usr/share/%.*s/%u/%u", (int)test_rng_below(rng, 30),
			"a-rather-long-directory-name-here", (unsigned)test_rng_below(rng, 30),
			(unsigned)test_rng_below(rng, 100));
	case SHAPE_ZEROS: /* heads that equal each other's padding */
		len = test_rng_below(rng, 40);
		memset(out, 0, len);
		if (len && test_rng_below(rng, 2))
			out[test_rng_below(rng, len)] = 1;
		return len;
	default:
		len = test_rng_below(rng, 12);
		for (size_t i = 0; i < len; i++)
			out[i] = (uint8_t)test_rng_below(rng, 3);
		return len;
	}
}

static void world_init(struct world *w, struct test_rng *rng, enum shape shape)
{
	uint8_t buf[128];
	size_t kept = 0;

	memset(w, 0, sizeof(*w));
	arena_init(&w->arena);
	ck_assert_int_eq(memtree_init(&w->tree, &w->arena), 0);
	for (size_t i = 0; i < KEYS; i++)
		w->key[i] = key_make(&w->arena, buf, key_random(rng, shape, buf));
	qsort(w->key, KEYS, sizeof(w->key[0]), key_order);
	for (size_t i = 0; i < KEYS; i++) {
		if (!kept || key_order(&w->key[kept - 1], &w->key[i]))
			w->key[kept++] = w->key[i];
	}
	w->count = kept;
}

static void insert(struct memtree *t, struct arena *a, struct memkey *k)
{
	struct memtree_pos at = memtree_find(t, memkey_slice(k));
	struct memkey *in_tree;

	ck_assert_int_eq(memtree_insert(t, a, at, k, &in_tree), 0);
	ck_assert(in_tree == k || !key_order(&in_tree, &k));
}

static struct memkey *model_from(const struct world *w, size_t i)
{
	while (i < w->count && !w->in[i])
		i++;
	return i < w->count ? w->key[i] : NULL;
}

static struct memkey *model_before(const struct world *w, size_t i)
{
	while (i && !w->in[i - 1])
		i--;
	return i ? w->key[i - 1] : NULL;
}

static void check_lookups(const struct world *w)
{
	for (size_t i = 0; i < w->count; i++) {
		struct kv_slice key = memkey_slice(w->key[i]);

		ck_assert_ptr_eq(memtree_find(&w->tree, key).key, w->in[i] ? w->key[i] : NULL);
		ck_assert_ptr_eq(memtree_seek(&w->tree, key).key, model_from(w, i));
		ck_assert_ptr_eq(memtree_seek_before(&w->tree, key).key, model_before(w, i));
		ck_assert_ptr_eq(memtree_floor(&w->tree, key).key, model_before(w, i + 1));
	}
}

static void check_walks(const struct world *w)
{
	struct memtree_pos p = memtree_first(&w->tree);
	size_t n = 0;

	for (size_t i = 0; i < w->count; i++) {
		if (!w->in[i])
			continue;
		ck_assert_ptr_eq(p.key, w->key[i]);
		p = memtree_next(&w->tree, p);
		n++;
	}
	ck_assert_ptr_null(p.key);
	for (p = memtree_last(&w->tree); p.key; p = memtree_prev(&w->tree, p))
		n--;
	ck_assert_uint_eq(n, 0);
}

/* What to insert at step @i: at random, rising or falling. */
static size_t choose(const struct world *w, struct test_rng *rng, unsigned order, size_t i)
{
	if (order == 0)
		return test_rng_below(rng, w->count);
	return order == 1 ? i : w->count - 1 - i;
}

START_TEST(test_lookups_and_walks_equal_a_sorted_array)
{
	struct test_rng rng = test_rng_seeded("array");
	static struct world w;

	for (unsigned round = 0; round < 3 * SHAPE_COUNT; round++) {
		world_init(&w, &rng, (enum shape)(round % SHAPE_COUNT));
		check_lookups(&w);
		check_walks(&w);
		for (size_t i = 0; i < w.count; i++) {
			size_t k = choose(&w, &rng, round / SHAPE_COUNT, i);

			insert(&w.tree, &w.arena, w.key[k]);
			w.in[k] = true;
			if (i % 100 == 0) {
				ck_assert(memtree_check(&w.tree));
				check_walks(&w);
			}
		}
		ck_assert(memtree_check(&w.tree));
		check_lookups(&w);
		check_walks(&w);
		arena_fini(&w.arena);
	}
}
END_TEST

/* ---- several inserters, readers beside them ------------------------------- */

#define INSERTERS 4U
#define READERS	  2U

struct race {
	struct world w;
	_Atomic unsigned running; /* inserters */
};

struct racer {
	struct race *race;
	struct arena arena;
	uint64_t seed;
	struct os_thread thread;
	_Atomic size_t mine; /* keys up to this one in my order are in the tree */
	size_t order[KEYS];
};

static void run_inserter(void *arg)
{
	struct racer *r = arg;
	struct race *race = r->race;

	for (size_t i = 0; i < race->w.count; i++) {
		const struct memkey *k = race->w.key[r->order[i]];

		/* A record of its own: inserters race for the same keys. */
		insert(&race->w.tree, &r->arena, key_make(&r->arena, k->bytes, k->len));
		atomic_store_explicit(&r->mine, i + 1, memory_order_release);
	}
	atomic_fetch_sub(&race->running, 1);
}

/* Walk a while from a random key; the order must hold. */
static void walk(const struct world *w, struct test_rng *rng)
{
	struct memkey *at = w->key[test_rng_below(rng, w->count)];
	bool forward = test_rng_below(rng, 2);
	struct memtree_pos p = forward ? memtree_seek(&w->tree, memkey_slice(at))
				       : memtree_floor(&w->tree, memkey_slice(at));

	for (unsigned i = 0; p.key && i < 100; i++) {
		struct memkey *last = p.key;

		p = forward ? memtree_next(&w->tree, p) : memtree_prev(&w->tree, p);
		ck_assert(!p.key || (key_order(&last, &p.key) < 0) == forward);
	}
}

/* Between two keys known to be in the tree, a walk must not miss one that is also known. */
static void check_no_gap(const struct racer *inserter, struct test_rng *rng)
{
	const struct world *w = &inserter->race->w;
	size_t known = atomic_load_explicit(&inserter->mine, memory_order_acquire);
	struct memkey *k;
	struct memtree_pos p;

	if (!known)
		return;
	k = w->key[inserter->order[test_rng_below(rng, known)]];
	p = memtree_find(&w->tree, memkey_slice(k));
	ck_assert(p.key && !key_order(&p.key, &k));
	p = memtree_seek_before(&w->tree, memkey_slice(k));
	p = p.key ? memtree_next(&w->tree, p) : memtree_first(&w->tree);
	while (p.key && key_order(&p.key, &k) < 0) /* inserted in between meanwhile */
		p = memtree_next(&w->tree, p);
	ck_assert(p.key && !key_order(&p.key, &k));
	p = memtree_next(&w->tree, p);
	p = p.key ? memtree_prev(&w->tree, p) : memtree_last(&w->tree);
	while (p.key && key_order(&p.key, &k) > 0)
		p = memtree_prev(&w->tree, p);
	ck_assert(p.key && !key_order(&p.key, &k));
}

struct reader {
	struct race *race;
	struct racer *inserters;
	struct os_thread thread;
	uint64_t seed;
};

static void run_reader(void *arg)
{
	struct reader *r = arg;
	struct test_rng rng = {r->seed};

	while (atomic_load(&r->race->running)) {
		walk(&r->race->w, &rng);
		check_no_gap(&r->inserters[test_rng_below(&rng, INSERTERS)], &rng);
	}
}

static void shuffle(struct racer *r, size_t count, unsigned how)
{
	struct test_rng rng = {r->seed};

	for (size_t i = 0; i < count; i++)
		r->order[i] = how == 2 ? count - 1 - i : i;
	for (size_t i = count; how == 0 && i > 1; i--) {
		size_t j = test_rng_below(&rng, i);
		size_t t = r->order[i - 1];

		r->order[i - 1] = r->order[j];
		r->order[j] = t;
	}
}

START_TEST(test_inserters_race_and_readers_miss_nothing)
{
	struct test_rng rng = test_rng_seeded("race");
	static struct race race;
	static struct racer inserter[INSERTERS];
	struct reader reader[READERS];

	for (unsigned round = 0; round < 2 * SHAPE_COUNT; round++) {
		world_init(&race.w, &rng, (enum shape)(round % SHAPE_COUNT));
		atomic_store(&race.running, INSERTERS);
		for (unsigned i = 0; i < INSERTERS; i++) {
			struct racer *r = &inserter[i];

			arena_init(&r->arena);
			r->race = &race;
			r->seed = test_rng_next(&rng);
			atomic_store(&r->mine, 0);
			shuffle(r, race.w.count, (round + i) % 3);
		}
		for (unsigned i = 0; i < READERS; i++) {
			reader[i] = (struct reader){&race, inserter, {0}, test_rng_next(&rng)};
			ck_assert_int_eq(os_thread_start(&reader[i].thread, "reader", run_reader,
							 &reader[i]),
					 0);
		}
		for (unsigned i = 0; i < INSERTERS; i++)
			ck_assert_int_eq(os_thread_start(&inserter[i].thread, "inserter",
							 run_inserter, &inserter[i]),
					 0);
		for (unsigned i = 0; i < INSERTERS; i++)
			os_thread_join(&inserter[i].thread);
		for (unsigned i = 0; i < READERS; i++)
			os_thread_join(&reader[i].thread);
		ck_assert(memtree_check(&race.w.tree));
		for (size_t i = 0; i < race.w.count; i++) { /* the records of whoever was first */
			race.w.key[i] = memtree_find(&race.w.tree, memkey_slice(race.w.key[i])).key;
			ck_assert_ptr_nonnull(race.w.key[i]);
			race.w.in[i] = true;
		}
		check_lookups(&race.w);
		check_walks(&race.w);
		for (unsigned i = 0; i < INSERTERS; i++)
			arena_fini(&inserter[i].arena);
		arena_fini(&race.w.arena);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_lookups_and_walks_equal_a_sorted_array,
		test_inserters_race_and_readers_miss_nothing,
	};

	return test_suite_run("memtree", tests, KV_ARRAY_COUNT(tests), 120);
}
