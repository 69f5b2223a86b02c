/* SPDX-License-Identifier: MIT */
/*
 * Garbage collection against brute force: every history of one key over four
 * seqs, every list of live snapshots, with and without older data below. What a
 * snapshot reads must be the same before and after, and nothing may stay that
 * no snapshot needs.
 */
#include "kvcore/engine/gc.h"

#include "tests/support/test_suite.h"

#define SEQS 4U

enum what { NOTHING, PUT, DELETE, RANGE, RANGE_AND_PUT, WHATS };

/* At seqs 1 to SEQS. */
struct history {
	bool put[SEQS + 1], del[SEQS + 1], range[SEQS + 1];
};

static struct kv_slice key_of(void)
{
	return kv_slice_of("k", 1);
}

static bool below_yes(void *ctx, struct kv_slice first, struct kv_slice last, bool exclusive)
{
	(void)first;
	(void)last;
	(void)exclusive;
	return *(const bool *)ctx;
}

/* What a reader at @at finds: seq of a put, 0 for older data below, -1 for nothing. */
static int read_at(const struct history *h, unsigned at, bool below)
{
	unsigned covering = 0;

	for (unsigned s = at; s > 0; s--) {
		if (h->range[s] && !covering)
			covering = s;
		if ((h->put[s] || h->del[s]) && covering > s)
			return -1;
		if (h->put[s])
			return (int)s;
		if (h->del[s])
			return -1;
	}
	return below && !covering ? 0 : -1;
}

static void collect(const struct gc *gc, const struct history *h, const struct range_set *ranges,
		    bool below, struct history *out)
{
	struct gc_below b = {below_yes, &below};
	struct range_set *kept;
	struct gc_filter f;
	bool first = true;

	*out = (struct history){0};
	gc_filter_init(&f, gc, ranges, b);
	for (unsigned s = SEQS; s > 0; s--) {
		struct entry e = {key_of(), s, h->put[s] ? ENTRY_PUT : ENTRY_DELETE, {NULL, 0}};

		if (!h->put[s] && !h->del[s])
			continue;
		if (gc_filter_keep(&f, &e, first))
			*(h->put[s] ? &out->put[s] : &out->del[s]) = true;
		first = false;
	}
	ck_assert_int_eq(range_set_new(&kept), 0);
	ck_assert_int_eq(gc_filter_ranges(gc, ranges, b, kept), 0);
	for (size_t i = 0; i < range_set_count(kept); i++) {
		struct range_fragment frag = range_set_at(kept, i);

		for (size_t j = 0; j < frag.seq_count; j++)
			out->range[frag.seqs[j]] = true;
	}
	range_set_free(kept);
}

static bool is_live(unsigned mask, unsigned visible, unsigned at)
{
	return at >= visible || mask & 1U << at;
}

/* Reads of all live and all later snapshots. */
static bool reads_agree(const struct history *a, const struct history *b, unsigned mask,
			unsigned visible, bool below)
{
	for (unsigned at = 0; at <= SEQS; at++) {
		if (is_live(mask, visible, at) && read_at(a, at, below) != read_at(b, at, below))
			return false;
	}
	return true;
}

/* Without any one put that was kept, some read would change. */
static bool puts_needed(const struct history *kept, unsigned mask, unsigned visible, bool below)
{
	for (unsigned s = 1; s <= visible; s++) {
		struct history less = *kept;

		less.put[s] = false;
		if (kept->put[s] && reads_agree(kept, &less, mask, visible, below))
			return false;
	}
	return true;
}

static void check_history(const struct history *h)
{
	struct range_set *ranges;
	kv_seq live[SEQS + 1];

	ck_assert_int_eq(range_set_new(&ranges), 0);
	for (unsigned s = 1; s <= SEQS; s++) {
		if (h->range[s])
			ck_assert_int_eq(range_set_add(ranges, key_of(), kv_slice_of("l", 1), s),
					 0);
	}
	for (unsigned mask = 1; mask < 2U << SEQS; mask++) {
		struct gc gc = {.live = live};
		unsigned visible = 0;
		struct history kept;

		for (unsigned s = 0; s <= SEQS; s++) {
			if (mask & 1U << s) {
				live[gc.live_count++] = s;
				visible = s;
			}
		}
		for (int below = 0; below < 2; below++) {
			collect(&gc, h, ranges, below, &kept);
			ck_assert(reads_agree(h, &kept, mask, visible, below));
			ck_assert(puts_needed(&kept, mask, visible, below));
		}
	}
	range_set_free(ranges);
}

START_TEST(test_every_snapshot_reads_the_same_after_collection)
{
	unsigned total = 1;

	for (unsigned s = 0; s < SEQS; s++)
		total *= WHATS;
	for (unsigned n = 0; n < total; n++) {
		struct history h = {0};
		unsigned rest = n;

		for (unsigned s = 1; s <= SEQS; s++, rest /= WHATS) {
			h.put[s] = rest % WHATS == PUT || rest % WHATS == RANGE_AND_PUT;
			h.del[s] = rest % WHATS == DELETE;
			h.range[s] = rest % WHATS == RANGE || rest % WHATS == RANGE_AND_PUT;
		}
		check_history(&h);
	}
}
END_TEST

START_TEST(test_a_delete_over_nothing_goes_once_all_readers_see_it)
{
	kv_seq live[] = {4, 9};
	struct gc gc = {.live = live, .live_count = 2};
	struct entry e = {key_of(), 4, ENTRY_DELETE, {NULL, 0}};
	bool below = false;
	struct gc_below b = {below_yes, &below};
	struct gc_filter f;

	gc_filter_init(&f, &gc, NULL, b);
	ck_assert(!gc_filter_keep(&f, &e, true));
	e.seq = 5; /* snapshot 4 does not see it */
	ck_assert(gc_filter_keep(&f, &e, true));
	below = true;
	e.seq = 4;
	ck_assert(gc_filter_keep(&f, &e, true));
}
END_TEST

START_TEST(test_keep_all_keeps_everything)
{
	kv_seq live[] = {100};
	struct gc gc = {.live = live, .live_count = 1, .keep_all = true};
	bool below = false;
	struct gc_below b = {below_yes, &below};
	struct range_set *in;
	struct range_set *out;
	struct gc_filter f;

	ck_assert_int_eq(range_set_new(&in), 0);
	ck_assert_int_eq(range_set_new(&out), 0);
	for (kv_seq s = 1; s < 5; s++)
		ck_assert_int_eq(range_set_add(in, key_of(), kv_slice_of("l", 1), s), 0);
	ck_assert_int_eq(gc_filter_ranges(&gc, in, b, out), 0);
	ck_assert_uint_eq(range_set_count(out), 1);
	ck_assert_uint_eq(range_set_at(out, 0).seq_count, 4);
	gc_filter_init(&f, &gc, in, b);
	for (kv_seq s = 5; s > 0; s--) {
		struct entry e = {key_of(), s, ENTRY_DELETE, {NULL, 0}};

		ck_assert(gc_filter_keep(&f, &e, s == 5));
	}
	range_set_free(in);
	range_set_free(out);
}
END_TEST

START_TEST(test_ranges_are_followed_from_key_to_key)
{
	kv_seq live[] = {10};
	struct gc gc = {.live = live, .live_count = 1};
	bool below = true;
	struct gc_below b = {below_yes, &below};
	const char *const keys[] = {"a", "b", "c", "d", "e", "f"};
	const bool kept[] = {true, false, true, false, false, true};
	struct range_set *ranges;
	struct gc_filter f;

	ck_assert_int_eq(range_set_new(&ranges), 0);
	ck_assert_int_eq(range_set_add(ranges, kv_slice_of("b", 1), kv_slice_of("c", 1), 5), 0);
	ck_assert_int_eq(range_set_add(ranges, kv_slice_of("d", 1), kv_slice_of("f", 1), 5), 0);
	gc_filter_init(&f, &gc, ranges, b);
	for (unsigned i = 0; i < 6; i++) {
		struct entry e = {kv_slice_of(keys[i], 1), 3, ENTRY_PUT, {NULL, 0}};

		ck_assert_int_eq(gc_filter_keep(&f, &e, true), kept[i]);
	}
	range_set_free(ranges);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_every_snapshot_reads_the_same_after_collection,
		test_a_delete_over_nothing_goes_once_all_readers_see_it,
		test_keep_all_keeps_everything,
		test_ranges_are_followed_from_key_to_key,
	};

	return test_suite_run("gc", tests, sizeof(tests) / sizeof(tests[0]), 120);
}
