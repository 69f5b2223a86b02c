/* SPDX-License-Identifier: MIT */
/*
 * Memtables against a sorted array, with iterators that are in use while versions
 * are added, and with readers beside one writer and several. The budget is a stand-in defined
 * here (the linker prefers it to the cache layer's), so that charges can be seen.
 */
#include "kvcore/engine/memtable.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/array_iter.h"

#define KEYS	    40U
#define ENTRIES_MAX 3000U

struct cache {
	size_t charged;
};

void cache_charge(struct cache *c, size_t bytes)
{
	ck_assert_uint_eq(bytes % 65536, 0);
	c->charged += bytes;
}

void cache_uncharge(struct cache *c, size_t bytes)
{
	ck_assert_uint_le(bytes, c->charged);
	c->charged -= bytes;
}

struct world {
	char key[KEYS][40];
	struct kv_slice probes[KEYS];
	struct entry all[ENTRIES_MAX]; /* sorted */
	size_t count;
	char value[64][8];
	kv_seq seq;
	struct memtable *m;
};

static void world_init(struct world *w)
{
	memset(w, 0, sizeof(*w));
	for (unsigned i = 0; i < KEYS; i++) {
		int len = snprintf(w->key[i], sizeof(w->key[i]), "%s%02u%s",
				   i % 3 ? "usr/share/doc/" : "", i, i % 5 ? "" : "/tail");

		w->probes[i] = kv_slice_of(w->key[i], (size_t)len);
	}
	for (unsigned i = 0; i < KV_ARRAY_COUNT(w->value); i++)
		snprintf(w->value[i], sizeof(w->value[i]), "v%u", i);
	ck_assert_int_eq(memtable_new(NULL, &w->m), 0);
}

/* Add a random version to memtable and array; sometimes one of the same seq, which replaces. */
static void add_random(struct world *w, struct test_rng *rng, unsigned keys)
{
	struct entry e = {.key = w->probes[test_rng_below(rng, keys)],
			  .kind = test_rng_below(rng, 4) ? ENTRY_PUT : ENTRY_DELETE};
	size_t i = array_lower_bound(w->all, w->count, e.key);

	w->seq += test_rng_below(rng, 3);
	e.seq = w->seq + 1;
	if (e.kind == ENTRY_PUT)
		e.value = test_str(w->value[test_rng_below(rng, KV_ARRAY_COUNT(w->value))]);
	ck_assert_int_eq(memtable_add(w->m, &e), 0);
	if (i < w->count && slice_equal(w->all[i].key, e.key) && w->all[i].seq == e.seq) {
		w->all[i] = e;
		return;
	}
	ck_assert_uint_lt(w->count, ENTRIES_MAX);
	memmove(&w->all[i + 1], &w->all[i], (w->count - i) * sizeof(e));
	w->all[i] = e;
	w->count++;
}

static void check_gets(struct world *w)
{
	for (unsigned i = 0; i < KEYS; i++) {
		for (kv_seq max = 0; max <= w->seq + 2; max += 1 + w->seq / 50) {
			size_t at = array_lower_bound(w->all, w->count, w->probes[i]);
			struct entry e;
			int err = memtable_get(w->m, w->probes[i], max, &e);

			while (at < w->count && slice_equal(w->all[at].key, w->probes[i]) &&
			       w->all[at].seq > max)
				at++;
			if (at < w->count && slice_equal(w->all[at].key, w->probes[i])) {
				if (err || !array_entry_equal(&e, &w->all[at]))
					ck_abort_msg("key=%u max=%u err=%d", i, (unsigned)max, err);
			} else if (err != -KV_E_NOTFOUND) {
				ck_abort_msg("key=%u max=%u err=%d", i, (unsigned)max, err);
			}
		}
	}
}

START_TEST(test_gets_and_walks_equal_a_sorted_array)
{
	struct test_rng rng = test_rng_seeded("walk");
	static struct world w;

	for (unsigned round = 0; round < 30; round++) {
		struct iter *it;

		world_init(&w);
		ck_assert(memtable_empty(w.m));
		ck_assert_int_eq(memtable_iter_new(w.m, &it), 0);
		array_iter_walk(it, w.all, 0, w.probes, KEYS, 10, &rng);
		for (unsigned step = 0; step < 10; step++) {
			for (uint64_t n = test_rng_below(&rng, 40); n > 0; n--)
				add_random(&w, &rng, KEYS);
			array_iter_walk(it, w.all, w.count, w.probes, KEYS, 100, &rng);
			check_gets(&w);
			ck_assert_uint_eq(memtable_entries(w.m), w.count);
		}
		memtable_freeze(w.m, KV_SEQ_MAX - 1);
		memtable_unref(w.m); /* the iterator has a reference of its own */
		array_iter_walk(it, w.all, w.count, w.probes, KEYS, 200, &rng);
		iter_close(it);
	}
}
END_TEST

/* What a snapshot sees of an array: the newest version of each key that is not above it. */
static size_t visible_of(const struct world *w, kv_seq max, struct entry *out)
{
	size_t n = 0;

	for (size_t i = 0; i < w->count; i++) {
		if (w->all[i].seq > max || (n && slice_equal(out[n - 1].key, w->all[i].key)))
			continue;
		out[n++] = w->all[i];
	}
	return n;
}

START_TEST(test_a_snapshot_sees_one_version_of_each_key_both_ways)
{
	struct test_rng rng = test_rng_seeded("visible");
	static struct entry seen[KEYS];
	static struct world w;

	for (unsigned round = 0; round < 30; round++) {
		world_init(&w);
		for (unsigned n = 0; n < 300; n++)
			add_random(&w, &rng, round % 2 ? 3 : KEYS);
		for (unsigned n = 0; n < 10; n++) {
			kv_seq max = test_rng_below(&rng, w.seq + 3);
			size_t count = visible_of(&w, max, seen);
			struct iter *it;

			ck_assert_int_eq(memtable_iter_at(w.m, max, &it), 0);
			array_iter_walk(it, seen, count, w.probes, KEYS, 100, &rng);
			iter_close(it);
		}
		memtable_unref(w.m);
	}
}
END_TEST

/* Index of the first entry after (key, seq). */
static size_t index_after(const struct world *w, const struct entry *at)
{
	size_t i = 0;

	while (i < w->count && entry_compare(&w->all[i], at) <= 0)
		i++;
	return i;
}

static size_t index_of(const struct world *w, const struct entry *at)
{
	size_t i = 0;

	while (i < w->count && entry_compare(&w->all[i], at) < 0)
		i++;
	return i;
}

START_TEST(test_an_iterator_steps_rightly_while_versions_are_added)
{
	struct test_rng rng = test_rng_seeded("additions");
	static struct world w;

	for (unsigned round = 0; round < 60; round++) {
		struct iter *it;
		bool positioned = false;

		world_init(&w);
		ck_assert_int_eq(memtable_iter_new(w.m, &it), 0);
		for (unsigned step = 0; step < 1000; step++) {
			bool forward = test_rng_below(&rng, 2);
			struct entry at, e;
			size_t want;
			int err;

			/* Few keys: additions often meet the one that the iterator is on. */
			while (test_rng_below(&rng, 3) == 0)
				add_random(&w, &rng, round % 2 ? 3 : KEYS);
			if (!positioned) {
				positioned = iter_seek(it, w.probes[step % KEYS]) == 0;
				continue;
			}
			iter_entry(it, &at);
			want = forward ? index_after(&w, &at) : index_of(&w, &at) - 1;
			err = forward ? iter_next(it) : iter_prev(it);
			positioned = want < w.count;
			ck_assert_int_eq(err, positioned ? 0 : -KV_E_NOTFOUND);
			if (positioned) {
				iter_entry(it, &e);
				ck_assert(array_entry_equal(&e, &w.all[want]));
			}
		}
		iter_close(it);
		memtable_unref(w.m);
	}
}
END_TEST

START_TEST(test_what_was_read_stays_valid_while_a_reference_is_held)
{
	struct entry e = {
		.key = test_str("k"), .seq = 1, .kind = ENTRY_PUT, .value = test_str("old")};
	struct entry got;
	struct memtable *m;

	ck_assert_int_eq(memtable_new(NULL, &m), 0);
	ck_assert_int_eq(memtable_add(m, &e), 0);
	ck_assert_int_eq(memtable_get(m, e.key, KV_SEQ_MAX, &got), 0);
	e.value = test_str("new");
	ck_assert_int_eq(memtable_add(m, &e), 0); /* the same seq: replaces */
	ck_assert(slice_equal(got.value, test_str("old")));
	ck_assert_int_eq(memtable_get(m, e.key, KV_SEQ_MAX, &got), 0);
	ck_assert(slice_equal(got.value, test_str("new")));
	ck_assert_uint_eq(memtable_entries(m), 1);
	memtable_unref(m);
}
END_TEST

START_TEST(test_range_deletes_are_told_apart_from_entries)
{
	const struct kv_slice all = {NULL, 0};
	struct memtable *m;
	struct range_set *copy;

	ck_assert_int_eq(memtable_new(NULL, &m), 0);
	ck_assert(!memtable_has_ranges(m));
	ck_assert_uint_eq(memtable_covering(m, test_str("c"), KV_SEQ_MAX), 0);
	ck_assert_int_eq(memtable_add_range(m, test_str("b"), test_str("f"), 5), 0);
	ck_assert_int_eq(memtable_add_range(m, test_str("d"), test_str("h"), 9), 0);
	ck_assert(memtable_has_ranges(m));
	ck_assert(!memtable_empty(m));
	ck_assert_uint_eq(memtable_entries(m), 0);
	ck_assert_uint_eq(memtable_covering(m, test_str("a"), KV_SEQ_MAX), 0);
	ck_assert_uint_eq(memtable_covering(m, test_str("b"), KV_SEQ_MAX), 5);
	ck_assert_uint_eq(memtable_covering(m, test_str("e"), KV_SEQ_MAX), 9);
	ck_assert_uint_eq(memtable_covering(m, test_str("e"), 8), 5);
	ck_assert_uint_eq(memtable_covering(m, test_str("e"), 4), 0);
	ck_assert_uint_eq(memtable_covering(m, test_str("h"), KV_SEQ_MAX), 0);
	ck_assert_int_eq(range_set_new(&copy), 0);
	ck_assert_int_eq(memtable_ranges(m, all, all, copy), 0);
	memtable_unref(m);
	ck_assert_uint_eq(range_set_covering(copy, test_str("e"), KV_SEQ_MAX), 9);
	ck_assert_uint_eq(range_set_covering(copy, test_str("b"), KV_SEQ_MAX), 5);
	range_set_free(copy);
}
END_TEST

START_TEST(test_keys_of_an_interval_are_counted_up_to_a_limit)
{
	struct memtable *m;

	ck_assert_int_eq(memtable_new(NULL, &m), 0);
	ck_assert_uint_eq(memtable_seq_max(m), KV_SEQ_MAX);
	for (uint8_t i = 10; i < 110; i++) {
		const struct entry e = {.key = {&i, 1}, .seq = i, .kind = ENTRY_PUT};

		ck_assert_int_eq(memtable_add(m, &e), 0);
	}
	ck_assert(memtable_has_more(m, test_str("\x0a"), test_str("\x6e"), 99));
	ck_assert(!memtable_has_more(m, test_str("\x0a"), test_str("\x6e"), 100));
	ck_assert(memtable_has_more(m, test_str("\x01"), test_str("\xff"), 99));
	ck_assert(!memtable_has_more(m, test_str("\x01"), test_str("\xff"), 100));
	ck_assert(!memtable_has_more(m, test_str("\x01"), test_str("\x0a"), 0));
	ck_assert(memtable_has_more(m, test_str("\x01"), test_str("\x0b"), 0));
	memtable_freeze(m, 109);
	ck_assert_uint_eq(memtable_seq_max(m), 109);
	memtable_unref(m);
}
END_TEST

START_TEST(test_the_budget_is_charged_for_all_memory_until_the_last_reference)
{
	static uint8_t value[3000];
	struct cache budget = {0};
	struct memtable *m;

	ck_assert_int_eq(memtable_new(&budget, &m), 0);
	for (unsigned i = 0; i < 2000; i++) {
		uint8_t key[4];
		struct entry e = {.key = kv_slice_of(key, sizeof(key)),
				  .seq = i + 1,
				  .kind = ENTRY_PUT,
				  .value = kv_slice_of(value, i % sizeof(value))};

		be32_put(key, i);
		ck_assert_int_eq(memtable_add(m, &e), 0);
		ck_assert_uint_ge(budget.charged, memtable_bytes(m));
		ck_assert_uint_lt(budget.charged, memtable_bytes(m) + 65536);
	}
	ck_assert_uint_gt(memtable_bytes(m), 1500 * 1000);
	memtable_ref(m);
	memtable_unref(m);
	ck_assert_uint_gt(budget.charged, 0);
	memtable_unref(m);
	ck_assert_uint_eq(budget.charged, 0);
}
END_TEST

/* ---- readers beside a writer --------------------------------------------- */

#define RACE_KEYS  64U
#define RACE_STEPS 20000U
#define READERS	   3U

struct race {
	struct memtable *m;
	_Atomic kv_seq visible; /* released by the writer after its additions */
	_Atomic bool done;
	_Atomic uint64_t moves;
};

static struct kv_slice race_key(uint8_t *out, uint64_t i)
{
	memcpy(out, "key/", 4);
	be32_put(out + 4, (uint32_t)(i % RACE_KEYS * 31));
	return kv_slice_of(out, 8);
}

/* Commit s puts key s and key s + 1, so that a reader can tell what it must see. */
static void race_writer(void *arg)
{
	struct race *r = arg;

	for (kv_seq seq = 1; seq <= RACE_STEPS; seq++) {
		for (uint64_t i = 0; i < 2; i++) {
			uint8_t key[8], value[8];
			struct entry e = {.key = race_key(key, seq + i),
					  .seq = seq,
					  .kind = ENTRY_PUT,
					  .value = kv_slice_of(value, sizeof(value))};

			be64_put(value, seq);
			if (memtable_add(r->m, &e))
				abort();
		}
		atomic_store_explicit(&r->visible, seq, memory_order_release);
	}
	memtable_freeze(r->m, KV_SEQ_MAX - 1);
	atomic_store(&r->done, true);
}

static void race_check_get(struct race *r, uint64_t i)
{
	kv_seq max = atomic_load_explicit(&r->visible, memory_order_acquire);
	uint8_t key[8];
	struct kv_slice ikey = race_key(key, i);
	struct entry e;
	kv_seq want = 0;

	for (kv_seq s = max; s > 0 && !want; s--) {
		if (s % RACE_KEYS == i % RACE_KEYS || (s + 1) % RACE_KEYS == i % RACE_KEYS)
			want = s;
	}
	if (memtable_get(r->m, ikey, max, &e)) {
		ck_assert_uint_eq(want, 0);
		return;
	}
	ck_assert_uint_eq(e.seq, want);
	ck_assert_uint_eq(be64_at(e.value.data), want);
}

static void race_reader(void *arg)
{
	struct race *r = arg;
	struct test_rng rng = {(uint64_t)(uintptr_t)&rng};
	struct iter *it;
	bool positioned = false;
	uint64_t moves = 0;

	ck_assert_int_eq(memtable_iter_new(r->m, &it), 0);
	while (!atomic_load(&r->done)) {
		bool forward = test_rng_below(&rng, 2);
		uint64_t run = 1 + test_rng_below(&rng, 50);
		uint8_t key[8];

		race_check_get(r, test_rng_next(&rng));
		if (!positioned)
			positioned = !iter_seek(it, race_key(key, test_rng_next(&rng)));
		while (positioned && run--) {
			struct entry at, e;

			iter_entry(it, &at);
			positioned = !(forward ? iter_next(it) : iter_prev(it));
			if (!positioned)
				break;
			iter_entry(it, &e);
			ck_assert_uint_eq(be64_at(e.value.data), e.seq);
			ck_assert((entry_compare(&e, &at) > 0) == forward);
			moves++;
		}
	}
	iter_close(it);
	atomic_fetch_add(&r->moves, moves);
}

START_TEST(test_readers_see_whole_commits_in_order_beside_a_writer)
{
	static struct race r;
	struct os_thread reader[READERS], writer;

	ck_assert_int_eq(memtable_new(NULL, &r.m), 0);
	for (unsigned i = 0; i < READERS; i++)
		ck_assert_int_eq(os_thread_start(&reader[i], "reader", race_reader, &r), 0);
	ck_assert_int_eq(os_thread_start(&writer, "writer", race_writer, &r), 0);
	os_thread_join(&writer);
	for (unsigned i = 0; i < READERS; i++)
		os_thread_join(&reader[i]);
	ck_assert_uint_gt(atomic_load(&r.moves), 0);
	memtable_unref(r.m);
}
END_TEST

/* ---- several writers ------------------------------------------------------- */

#define WRITERS	     4U
#define WRITER_STEPS 6000U

struct writer {
	struct race *race;
	struct os_thread thread;
	uint64_t first; /* it adds the seqs first, first + WRITERS, ..., in blocks turned round */
};

/* Falling runs of 8: versions of a key come out of order. */
static kv_seq writer_seq(const struct writer *w, uint64_t i)
{
	return w->first + WRITERS * (i / 8 * 8 + 7 - i % 8);
}

static void run_writer(void *arg)
{
	struct writer *w = arg;

	for (uint64_t i = 0; i < WRITER_STEPS; i++) {
		kv_seq seq = writer_seq(w, i);

		for (uint64_t k = 0; k < 2; k++) {
			uint8_t key[8], value[8];
			struct entry e = {.key = race_key(key, seq * 7 + k),
					  .seq = seq,
					  .kind = ENTRY_PUT,
					  .value = kv_slice_of(value, sizeof(value))};

			be64_put(value, seq);
			if (memtable_add(w->race->m, &e))
				abort();
		}
	}
	atomic_fetch_sub(&w->race->visible, 1);
}

/* Walks while they add: order and content hold whatever comes in between. */
static void run_walker(void *arg)
{
	struct race *r = arg;
	struct test_rng rng = {(uint64_t)(uintptr_t)&rng};
	struct entry at, e;
	struct iter *it;
	uint8_t key[8];

	ck_assert_int_eq(memtable_iter_new(r->m, &it), 0);
	while (atomic_load(&r->visible)) {
		bool forward = test_rng_below(&rng, 2);

		if (iter_seek(it, race_key(key, test_rng_next(&rng))))
			continue;
		iter_entry(it, &at);
		for (unsigned i = 0; i < 200 && !(forward ? iter_next(it) : iter_prev(it)); i++) {
			iter_entry(it, &e);
			ck_assert_uint_eq(be64_at(e.value.data), e.seq);
			ck_assert((entry_compare(&e, &at) > 0) == forward);
			at = e;
		}
		if (!memtable_get(r->m, race_key(key, test_rng_next(&rng)), 5000, &e))
			ck_assert_uint_le(e.seq, 5000);
	}
	iter_close(it);
}

/* All versions are there, in order, both ways. */
static void check_all_versions(struct memtable *m)
{
	struct entry at = {.seq = 0}, e;
	struct iter *it;
	size_t n = 1;

	ck_assert_int_eq(memtable_iter_new(m, &it), 0);
	ck_assert_int_eq(iter_first(it), 0);
	iter_entry(it, &at);
	while (!iter_next(it)) {
		iter_entry(it, &e);
		ck_assert_int_lt(entry_compare(&at, &e), 0);
		at = e;
		n++;
	}
	ck_assert_uint_eq(n, 2 * WRITERS * WRITER_STEPS);
	ck_assert_uint_eq(memtable_entries(m), n);
	ck_assert_int_eq(iter_last(it), 0);
	while (!iter_prev(it))
		n--;
	ck_assert_uint_eq(n, 1);
	iter_close(it);
}

START_TEST(test_several_writers_add_at_once_in_any_order_of_numbers)
{
	static struct race r;
	static struct writer writer[WRITERS];
	struct os_thread walker[READERS];

	ck_assert_int_eq(memtable_new(NULL, &r.m), 0);
	atomic_store(&r.visible, WRITERS); /* those that are still at work */
	for (unsigned i = 0; i < READERS; i++)
		ck_assert_int_eq(os_thread_start(&walker[i], "walker", run_walker, &r), 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		writer[i] = (struct writer){.race = &r, .first = 1 + i};
		ck_assert_int_eq(
			os_thread_start(&writer[i].thread, "writer", run_writer, &writer[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		os_thread_join(&writer[i].thread);
	for (unsigned i = 0; i < READERS; i++)
		os_thread_join(&walker[i]);
	check_all_versions(r.m);
	memtable_unref(r.m);
}
END_TEST

/* ---- range deletes against a model ------------------------------------------ */

/* What memtable_ranges() gives between bounds is what @whole says there, and nothing beside. */
static void check_parts_of_ranges(struct memtable *m, const struct range_set *whole,
				  struct test_rng *rng)
{
	for (unsigned n = 0; n < 50; n++) {
		uint8_t lower = (uint8_t)test_rng_below(rng, 255);
		uint8_t upper = (uint8_t)(lower + 1 + test_rng_below(rng, 255U - lower));
		struct range_set *part;

		ck_assert_int_eq(range_set_new(&part), 0);
		ck_assert_int_eq(
			memtable_ranges(m, kv_slice_of(&lower, 1), kv_slice_of(&upper, 1), part),
			0);
		for (unsigned i = 0; i < 256; i++) {
			uint8_t key = (uint8_t)i;
			struct kv_slice k = kv_slice_of(&key, 1);

			ck_assert_uint_eq(range_set_covering(part, k, KV_SEQ_MAX),
					  lower <= key && key < upper
						  ? range_set_covering(whole, k, KV_SEQ_MAX)
						  : 0);
		}
		range_set_free(part);
	}
}

START_TEST(test_range_deletes_equal_a_list_of_them)
{
	struct test_rng rng = test_rng_seeded("ranges");
	const struct kv_slice all = {NULL, 0};
	uint8_t from[200], to[200];

	for (unsigned round = 0; round < 20; round++) {
		struct range_set *copy;
		struct memtable *m;

		ck_assert_int_eq(memtable_new(NULL, &m), 0);
		ck_assert_int_eq(range_set_new(&copy), 0);
		for (unsigned n = 0; n < KV_ARRAY_COUNT(from); n++) {
			uint8_t a = (uint8_t)test_rng_below(&rng, 250);

			from[n] = a;
			to[n] = (uint8_t)(a + 1 + test_rng_below(&rng, round % 2 ? 5 : 255U - a));
			ck_assert_int_eq(memtable_add_range(m, kv_slice_of(&from[n], 1),
							    kv_slice_of(&to[n], 1), n / 2 + 1),
					 0);
		}
		ck_assert_int_eq(memtable_ranges(m, all, all, copy), 0);
		for (unsigned i = 0; i < 256 * 8; i++) {
			uint8_t key = (uint8_t)i;
			kv_seq max = test_rng_below(&rng, KV_ARRAY_COUNT(from) / 2 + 2);
			kv_seq want = 0;

			for (unsigned n = 0; n < KV_ARRAY_COUNT(from); n++) {
				if (from[n] <= key && key < to[n] && n / 2 + 1 <= max)
					want = n / 2 + 1;
			}
			ck_assert_uint_eq(memtable_covering(m, kv_slice_of(&key, 1), max), want);
			ck_assert_uint_eq(range_set_covering(copy, kv_slice_of(&key, 1), max),
					  want);
		}
		check_parts_of_ranges(m, copy, &rng);
		range_set_free(copy);
		memtable_unref(m);
	}
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_several_writers_add_at_once_in_any_order_of_numbers,
		test_range_deletes_equal_a_list_of_them,
		test_gets_and_walks_equal_a_sorted_array,
		test_a_snapshot_sees_one_version_of_each_key_both_ways,
		test_an_iterator_steps_rightly_while_versions_are_added,
		test_what_was_read_stays_valid_while_a_reference_is_held,
		test_range_deletes_are_told_apart_from_entries,
		test_keys_of_an_interval_are_counted_up_to_a_limit,
		test_the_budget_is_charged_for_all_memory_until_the_last_reference,
		test_readers_see_whole_commits_in_order_beside_a_writer,
	};

	return test_suite_run("memtable", tests, KV_ARRAY_COUNT(tests), 120);
}
