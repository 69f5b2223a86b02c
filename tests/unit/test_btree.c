/* SPDX-License-Identifier: MIT */
/*
 * The in-memory B+-tree against a sorted array: random insertions and removals
 * of keys that share prefixes, differ in length only, or contain zeros, with
 * every invariant checked on the way.
 */
#include "kvcore/base/btree.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define KEYS	600U
#define KEY_MAX 80U

struct key {
	uint8_t data[KEY_MAX];
	size_t len;
	bool in_tree;
	uint8_t *stored; /* the tree's copy, on the heap so that a stale use is found by ASan */
};

struct model {
	struct key key[KEYS]; /* sorted, distinct */
	size_t count;
	struct test_rng rng;
};

static struct kv_slice slice_of(const struct key *k)
{
	return kv_slice_of(k->data, k->len);
}

static int key_order(const void *a, const void *b)
{
	return slice_compare(slice_of(a), slice_of(b));
}

/* Few byte values and long common prefixes make ties of heads likely. */
static void key_random(struct model *m, struct key *k)
{
	static const char *const prefixes[] = {
		"",
		"a",
		"shared/prefix/of/some/len",
		"shared/prefix/of/more",
		"a prefix that is longer than a node keeps a copy of, by far",
		"\xff\xff\xff\xff\xff\xff\xff\xff"};
	const char *prefix = prefixes[test_rng_below(&m->rng, KV_ARRAY_COUNT(prefixes))];
	size_t more = test_rng_below(&m->rng, 12);

	memset(k, 0, sizeof(*k));
	k->len = strlen(prefix);
	memcpy(k->data, prefix, k->len);
	while (more--)
		k->data[k->len++] =
			(uint8_t)(test_rng_below(&m->rng, 2) ? test_rng_below(&m->rng, 3) : 0xff);
}

static void model_init(struct model *m, uint64_t seed)
{
	struct key all[KEYS];

	memset(m, 0, sizeof(*m));
	m->rng.state = seed;
	for (size_t i = 0; i < KEYS; i++)
		key_random(m, &all[i]);
	qsort(all, KEYS, sizeof(all[0]), key_order);
	for (size_t i = 0; i < KEYS; i++) {
		if (i == 0 || key_order(&all[i - 1], &all[i]) != 0)
			m->key[m->count++] = all[i];
	}
}

static void insert(struct btree *t, struct key *k)
{
	uint8_t *copy = malloc(k->len + 1);
	uint64_t changes = t->changes;
	bool inserted;
	void **slot;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, k->data, k->len);
	ck_assert_int_eq(btree_insert(t, kv_slice_of(copy, k->len), &slot, &inserted), 0);
	ck_assert_int_eq(inserted, !k->in_tree);
	ck_assert_int_eq(t->changes != changes, inserted);
	if (inserted) {
		ck_assert_ptr_null(*slot);
		*slot = k;
		k->stored = copy;
		k->in_tree = true;
	} else {
		ck_assert_ptr_eq(*slot, k);
		free(copy);
	}
}

static void erase(struct btree *t, struct key *k)
{
	struct kv_slice stored = {NULL, 0};
	void *value = btree_remove(t, slice_of(k), &stored);

	ck_assert_ptr_eq(value, k->in_tree ? k : NULL);
	if (k->in_tree) {
		ck_assert_ptr_eq(stored.data, k->stored);
		ck_assert_uint_eq(stored.len, k->len);
		free(k->stored);
		k->in_tree = false;
	}
}

/* An assertion of libcheck's costs a system call even if it holds: this one is called often. */
static void expect(struct btree_pos p, struct model *m, size_t i)
{
	bool there = i < m->count;

	if (btree_valid(p) != there ||
	    (there &&
	     (btree_value(p) != &m->key[i] || !slice_equal(btree_key(p), slice_of(&m->key[i])))))
		ck_abort_msg("key %zu is not where it belongs", i);
}

/* Index of the next key in the tree at or after @i; count: none. */
static size_t next_in(const struct model *m, size_t i)
{
	while (i < m->count && !m->key[i].in_tree)
		i++;
	return i;
}

/* Index of the last key in the tree before @i; SIZE_MAX: none. */
static size_t prev_in(const struct model *m, size_t i)
{
	while (i-- > 0) {
		if (m->key[i].in_tree)
			return i;
	}
	return SIZE_MAX;
}

static void compare(struct btree *t, struct model *m)
{
	struct btree_pos p = btree_first(t);
	size_t i = next_in(m, 0), n = 0;

	ck_assert(btree_check(t));
	for (; btree_valid(p); p = btree_next(p), n++) {
		expect(p, m, i);
		i = next_in(m, i + 1);
	}
	ck_assert_uint_eq(i, m->count);
	ck_assert_uint_eq(n, t->count);
	i = prev_in(m, m->count);
	for (p = btree_last(t); btree_valid(p); p = btree_prev(p)) {
		expect(p, m, i);
		i = prev_in(m, i);
	}
	ck_assert_uint_eq(i, SIZE_MAX);
	for (i = 0; i < m->count; i++) {
		struct kv_slice key = slice_of(&m->key[i]);
		void **slot = btree_find(t, key);

		expect(btree_find_pos(t, key), m, slot ? i : m->count);
		if ((slot != NULL) != m->key[i].in_tree || (slot && *slot != &m->key[i]))
			ck_abort_msg("key %zu: found=%d", i, slot != NULL);
		expect(btree_seek(t, key), m, next_in(m, i));
		expect(btree_seek_before(t, key), m, prev_in(m, i));
	}
}

static void clear(struct btree *t, struct model *m)
{
	btree_fini(t);
	for (size_t i = 0; i < m->count; i++) {
		if (m->key[i].in_tree)
			free(m->key[i].stored);
		m->key[i].in_tree = false;
	}
}

START_TEST(test_an_empty_tree_has_no_positions)
{
	struct kv_slice key = kv_slice_of("k", 1);
	struct btree t;

	btree_init(&t);
	ck_assert(!btree_valid(btree_first(&t)));
	ck_assert(!btree_valid(btree_last(&t)));
	ck_assert(!btree_valid(btree_seek(&t, key)));
	ck_assert(!btree_valid(btree_seek_before(&t, key)));
	ck_assert_ptr_null(btree_find(&t, key));
	ck_assert_ptr_null(btree_remove(&t, key, NULL));
	ck_assert(btree_check(&t));
	btree_fini(&t);
}
END_TEST

START_TEST(test_random_changes_match_a_sorted_array)
{
	struct test_rng rng = test_rng_seeded("changes");

	for (unsigned round = 0; round < 10; round++) {
		static struct model m;
		struct btree t;

		model_init(&m, test_rng_next(&rng));
		btree_init(&t);
		for (unsigned step = 0; step < 6000; step++) {
			struct key *k = &m.key[test_rng_below(&m.rng, m.count)];
			/* Grow, shrink to almost nothing, grow again. */
			bool grow = test_rng_below(&m.rng, 100) < (step / 1500 % 2 ? 15 : 75);

			if (grow)
				insert(&t, k);
			else
				erase(&t, k);
			if (step % 100 == 0)
				ck_assert(btree_check(&t));
			if (step % 1000 == 0)
				compare(&t, &m);
		}
		compare(&t, &m);
		clear(&t, &m);
	}
}
END_TEST

START_TEST(test_any_order_of_filling_and_emptying_keeps_the_structure)
{
	static struct model m;
	struct btree t;

	model_init(&m, 7);
	btree_init(&t);
	for (unsigned order = 0; order < 4; order++) {
		for (size_t i = 0; i < m.count; i++) {
			insert(&t, &m.key[order & 1 ? m.count - 1 - i : i]);
			if (!btree_check(&t))
				ck_abort_msg("order=%u i=%zu", order, i);
		}
		compare(&t, &m);
		for (size_t i = 0; i < m.count; i++) {
			erase(&t, &m.key[order & 2 ? m.count - 1 - i : i]);
			if (!btree_check(&t))
				ck_abort_msg("order=%u i=%zu", order, i);
		}
		ck_assert_uint_eq(t.count, 0);
		ck_assert_uint_eq(t.bytes, 0);
	}
	clear(&t, &m);
}
END_TEST

START_TEST(test_appending_fills_nodes_better_than_half)
{
	static uint8_t keys[20000][8];
	struct btree t;
	size_t bytes;

	btree_init(&t);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(keys); i++) {
		bool inserted;
		void **slot;

		snprintf((char *)keys[i], sizeof(keys[i]), "%07u", i);
		ck_assert_int_eq(btree_insert(&t, kv_slice_of(keys[i], 7), &slot, &inserted), 0);
	}
	ck_assert(btree_check(&t));
	bytes = t.bytes / KV_ARRAY_COUNT(keys);
	ck_assert_uint_lt(bytes, 45); /* 29 a key in full nodes, 58 in half-full ones */
	btree_fini(&t);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_an_empty_tree_has_no_positions,
		test_random_changes_match_a_sorted_array,
		test_any_order_of_filling_and_emptying_keeps_the_structure,
		test_appending_fills_nodes_better_than_half,
	};

	return test_suite_run("btree", tests, KV_ARRAY_COUNT(tests), 60);
}
