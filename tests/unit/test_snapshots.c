/* SPDX-License-Identifier: MIT */
/*
 * Live snapshots against counts per seq, and holders beside a publisher: what
 * is held must be in every list made meanwhile.
 */
#include "kvcore/engine/snapshots.h"

#include <stdlib.h>

#include "kvcore/base/base.h"
#include "tests/support/test_suite.h"

#define SEQS 200U

struct list {
	kv_seq *seq;
	size_t count;
	bool keep_all;
};

static struct list live(struct snapshots *s)
{
	struct list l = {NULL, 0, false};

	ck_assert_int_eq(snapshots_live(s, &l.seq, &l.count, &l.keep_all), 0);
	return l;
}

static void check_list(struct snapshots *s, const unsigned *held, kv_seq visible)
{
	struct list l = live(s);
	size_t n = 0;

	for (kv_seq seq = 0; seq <= visible; seq++) {
		if (!held[seq] && seq != visible)
			continue;
		ck_assert_uint_lt(n, l.count);
		ck_assert_uint_eq(l.seq[n++], seq);
	}
	ck_assert_uint_eq(n, l.count);
	free(l.seq);
}

START_TEST(test_the_list_is_what_is_held_and_the_visible_seq)
{
	struct test_rng rng = test_rng_seeded("list");

	for (unsigned round = 0; round < 20; round++) {
		unsigned held[SEQS + 1] = {0};
		kv_seq visible = 0, seq;
		struct snapshots *s;

		ck_assert_int_eq(snapshots_new(&s), 0);
		ck_assert_uint_eq(snapshots_visible(s), 0);
		for (unsigned step = 0; step < 400; step++) {
			uint64_t what = test_rng_below(&rng, 4);

			seq = test_rng_below(&rng, visible + 1);
			if (what == 0 && visible < SEQS) {
				snapshots_publish(s, ++visible);
				ck_assert_uint_eq(snapshots_visible(s), visible);
			} else if (what == 1) {
				ck_assert_int_eq(snapshots_acquire(s, &seq), 0);
				ck_assert_uint_eq(seq, visible);
				held[seq]++;
			} else if (what == 2 && held[seq]) {
				ck_assert_int_eq(snapshots_hold(s, seq), 0);
				held[seq]++;
			} else if (held[seq]) {
				snapshots_release(s, seq);
				held[seq]--;
			}
			check_list(s, held, visible);
		}
		snapshots_free(s);
	}
}
END_TEST

START_TEST(test_old_seqs_may_be_held_in_any_order_at_recovery)
{
	static const kv_seq named[] = {50, 10, 90, 10, 70};
	unsigned held[SEQS + 1] = {0};
	struct snapshots *s;

	ck_assert_int_eq(snapshots_new(&s), 0);
	snapshots_publish(s, 100);
	for (size_t i = 0; i < KV_ARRAY_COUNT(named); i++) {
		ck_assert_int_eq(snapshots_hold(s, named[i]), 0);
		held[named[i]]++;
		check_list(s, held, 100);
	}
	snapshots_free(s);
}
END_TEST

START_TEST(test_keeping_all_is_told)
{
	struct snapshots *s;
	struct list l;

	ck_assert_int_eq(snapshots_new(&s), 0);
	for (unsigned keep = 0; keep < 3; keep++) {
		snapshots_keep_all(s, keep == 1);
		l = live(s);
		ck_assert_int_eq(l.keep_all, keep == 1);
		free(l.seq);
	}
	snapshots_free(s);
	snapshots_free(NULL);
}
END_TEST

struct race {
	struct snapshots *s;
	_Atomic bool done;
};

static void holder(void *arg)
{
	struct race *r = arg;

	while (!atomic_load(&r->done)) {
		struct list l;
		kv_seq seq;
		size_t i = 0;

		ck_assert_int_eq(snapshots_acquire(r->s, &seq), 0);
		l = live(r->s);
		while (i < l.count && l.seq[i] != seq)
			i++;
		ck_assert_uint_lt(i, l.count);
		for (i = 1; i < l.count; i++)
			ck_assert_uint_lt(l.seq[i - 1], l.seq[i]);
		free(l.seq);
		snapshots_release(r->s, seq);
	}
}

START_TEST(test_what_is_held_is_in_every_list_beside_a_publisher)
{
	struct os_thread thread[3];
	static struct race r;

	ck_assert_int_eq(snapshots_new(&r.s), 0);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(thread); i++)
		ck_assert_int_eq(os_thread_start(&thread[i], "holder", holder, &r), 0);
	for (kv_seq seq = 1; seq < 200000; seq++)
		snapshots_publish(r.s, seq);
	atomic_store(&r.done, true);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(thread); i++)
		os_thread_join(&thread[i]);
	snapshots_free(r.s);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_list_is_what_is_held_and_the_visible_seq,
		test_old_seqs_may_be_held_in_any_order_at_recovery,
		test_keeping_all_is_told,
		test_what_is_held_is_in_every_list_beside_a_publisher,
	};

	return test_suite_run("snapshots", tests, KV_ARRAY_COUNT(tests), 60);
}
