/* SPDX-License-Identifier: MIT */
/*
 * The interval tree against a list that is searched from end to end.
 */
#include "kvcore/engine/lock_tree.h"

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "tests/support/test_suite.h"

#define NODES 200U
#define SPACE 300U

struct item {
	struct lock_tree_node node;
	uint8_t from[4], to[4];
	bool in, seen;
};

static struct lock_tree tree;
static struct item items[NODES];
static const struct lock_tree_node *last;

static bool mark(void *ctx, struct lock_tree_node *n)
{
	struct item *it = KV_CONTAINER_OF(n, struct item, node);

	(void)ctx;
	ck_assert(!it->seen);
	ck_assert(!last || slice_compare(last->from, n->from) <= 0);
	last = n;
	it->seen = true;
	return true;
}

static bool count_three(void *ctx, struct lock_tree_node *n)
{
	(void)n;
	return ++*(unsigned *)ctx < 3;
}

static void compare(uint32_t from, uint32_t to)
{
	uint8_t lower[4], upper[4];

	be32_put(lower, from);
	be32_put(upper, to);
	last = NULL;
	for (unsigned i = 0; i < NODES; i++)
		items[i].seen = false;
	lock_tree_each(&tree, kv_slice_of(lower, 4), kv_slice_of(upper, 4), mark, NULL);
	for (unsigned i = 0; i < NODES; i++) {
		const struct item *it = &items[i];
		bool overlaps = it->in && slice_compare(it->node.from, kv_slice_of(upper, 4)) < 0 &&
				slice_compare(it->node.to, kv_slice_of(lower, 4)) > 0;

		ck_assert_int_eq(it->seen, overlaps);
	}
}

START_TEST(test_overlaps_are_those_of_a_full_search)
{
	struct test_rng rng = test_rng_seeded("lock_tree");

	for (unsigned step = 0; step < 20000; step++) {
		struct item *it = &items[test_rng_below(&rng, NODES)];
		uint32_t from = (uint32_t)test_rng_below(&rng, SPACE);

		if (it->in) {
			lock_tree_remove(&tree, &it->node);
		} else {
			be32_put(it->from, from);
			be32_put(it->to, from + 1 + (uint32_t)test_rng_below(&rng, step % 40 + 1));
			it->node.from = kv_slice_of(it->from, 4);
			it->node.to = kv_slice_of(it->to, 4);
			lock_tree_insert(&tree, &it->node);
		}
		it->in = !it->in;
		if (step % 8 == 0) {
			from = (uint32_t)test_rng_below(&rng, SPACE);
			compare(from, from + 1 + (uint32_t)test_rng_below(&rng, 20));
		}
	}
	compare(0, 2 * SPACE);
}
END_TEST

START_TEST(test_a_visit_can_stop)
{
	static struct item it[5];
	struct lock_tree t = {0};
	unsigned n = 0;

	for (unsigned i = 0; i < 5; i++) {
		it[i].node.from = test_str("a");
		it[i].node.to = test_str("b");
		lock_tree_insert(&t, &it[i].node);
	}
	lock_tree_each(&t, test_str("a"), test_str("c"), count_three, &n);
	ck_assert_uint_eq(n, 3);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_overlaps_are_those_of_a_full_search,
		test_a_visit_can_stop,
	};

	return test_suite_run("lock_tree", tests, KV_ARRAY_COUNT(tests), 60);
}
