/* SPDX-License-Identifier: MIT */
/*
 * A sorted array of disjoint fragments. Adding a range is in two phases: first
 * everything that can fail (keys, room for one more seq in each fragment it
 * meets, copies for the at most two that it splits), then a splice that cannot.
 *
 * A fragment's seqs are kept at the end of their block of memory, because
 * the next one is nearly always newer and is put before the others at no cost.
 */
#include "kvcore/table/range_del.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/arena.h"
#include "kvcore/base/base.h"

struct seq_list {
	size_t count;
	size_t cap; /* 0: the one seq is in place */
	union {
		kv_seq one;
		kv_seq *block; /* used: the last @count of @cap */
	} u;
};

struct fragment {
	struct kv_slice from, to; /* in the arena, shared between fragments */
	struct seq_list seqs;
};

struct range_set {
	struct arena keys;
	struct fragment *frags;
	size_t count;
	size_t cap;
	size_t seq_bytes; /* of blocks */
};

/* ---- lists of seqs -------------------------------------------------------- */

static const kv_seq *seqs_of(const struct seq_list *l)
{
	return l->cap > 0 ? l->u.block + (l->cap - l->count) : &l->u.one;
}

static int seqs_set_cap(struct range_set *s, struct seq_list *l, size_t cap)
{
	kv_seq *block = malloc(cap * sizeof(*block));

	if (!block)
		return -ENOMEM;
	if (l->count > 0)
		memcpy(block + (cap - l->count), seqs_of(l), l->count * sizeof(*block));
	if (l->cap > 0)
		free(l->u.block);
	s->seq_bytes += (cap - l->cap) * sizeof(*block);
	l->u.block = block;
	l->cap = cap;
	return 0;
}

/* Room for one more. */
static int seqs_reserve(struct range_set *s, struct seq_list *l)
{
	if (l->count == 0 || l->count < l->cap)
		return 0;
	return seqs_set_cap(s, l, l->cap > 0 ? 2 * l->cap : 4);
}

static void seqs_free(struct range_set *s, struct seq_list *l)
{
	if (l->cap > 0)
		free(l->u.block);
	s->seq_bytes -= l->cap * sizeof(kv_seq);
}

static int seqs_copy(struct range_set *s, const struct seq_list *from, struct seq_list *out)
{
	struct seq_list copy = {0};
	int err;

	if (from->count == 1) {
		copy.count = 1;
		copy.u.one = *seqs_of(from);
	} else {
		err = seqs_set_cap(s, &copy, from->count);
		if (err)
			return err;
		memcpy(copy.u.block, seqs_of(from), from->count * sizeof(kv_seq));
		copy.count = from->count;
	}
	*out = copy;
	return 0;
}

/* Index of the first (newest) seq <= @max_seq. */
static size_t seqs_find(const kv_seq *seqs, size_t count, kv_seq max_seq)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (seqs[mid] > max_seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* After seqs_reserve(). */
static void seqs_insert(struct seq_list *l, kv_seq seq)
{
	size_t i = seqs_find(seqs_of(l), l->count, seq);
	kv_seq *start;

	if (i < l->count && seqs_of(l)[i] == seq)
		return;
	if (l->cap == 0) {
		l->u.one = seq;
	} else {
		start = l->u.block + (l->cap - l->count - 1);
		memmove(start, start + 1, i * sizeof(*start));
		start[i] = seq;
	}
	l->count++;
}

/* ---- the set --------------------------------------------------------------- */

int range_set_new(struct range_set **out)
{
	struct range_set *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	arena_init(&s->keys);
	*out = s;
	return 0;
}

void range_set_free(struct range_set *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		seqs_free(s, &s->frags[i].seqs);
	free(s->frags);
	arena_fini(&s->keys);
	free(s);
}

size_t range_set_count(const struct range_set *s)
{
	return s->count;
}

struct range_fragment range_set_at(const struct range_set *s, size_t i)
{
	const struct fragment *f = &s->frags[i];

	KV_ASSERT(i < s->count);
	return (struct range_fragment){f->from, f->to, seqs_of(&f->seqs), f->seqs.count};
}

size_t range_set_find(const struct range_set *s, struct kv_slice ikey)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (slice_compare(s->frags[mid].to, ikey) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

kv_seq range_set_covering(const struct range_set *s, struct kv_slice ikey, kv_seq max_seq)
{
	size_t i = range_set_find(s, ikey);
	const struct fragment *f;
	size_t n;

	if (i == s->count)
		return 0;
	f = &s->frags[i];
	if (slice_compare(f->from, ikey) > 0)
		return 0;
	n = seqs_find(seqs_of(&f->seqs), f->seqs.count, max_seq);
	return n < f->seqs.count ? seqs_of(&f->seqs)[n] : 0;
}

size_t range_set_bytes(const struct range_set *s)
{
	return sizeof(*s) + arena_bytes(&s->keys) + s->cap * sizeof(*s->frags) + s->seq_bytes;
}

/* ---- adding ---------------------------------------------------------------- */

static int reserve_fragments(struct range_set *s, size_t more)
{
	size_t cap = s->cap > 0 ? s->cap : 8;
	struct fragment *frags;

	if (more <= s->cap - s->count)
		return 0;
	while (cap - s->count < more)
		cap *= 2;
	frags = realloc(s->frags, cap * sizeof(*frags));
	if (!frags)
		return -ENOMEM;
	s->frags = frags;
	s->cap = cap;
	return 0;
}

static int copy_key(struct range_set *s, struct kv_slice key, struct kv_slice *out)
{
	const uint8_t *data = arena_copy(&s->keys, key);

	if (!data)
		return -ENOMEM;
	*out = kv_slice_of(data, key.len);
	return 0;
}

/*
 * Split the fragment at @key, which lies inside it. There is room for one more.
 * The set means the same afterwards, so a later failure need not undo it.
 */
static int split_at(struct range_set *s, size_t i, struct kv_slice key)
{
	struct fragment right = {key, s->frags[i].to, {0}};
	int err;

	err = seqs_copy(s, &s->frags[i].seqs, &right.seqs);
	if (err)
		return err;
	memmove(&s->frags[i + 2], &s->frags[i + 1], (s->count - i - 1) * sizeof(*s->frags));
	s->frags[i].to = key;
	s->frags[i + 1] = right;
	s->count++;
	return 0;
}

static size_t gaps_in(const struct range_set *s, size_t first, size_t n, struct kv_slice from,
		      struct kv_slice to)
{
	size_t gaps = 0;

	for (size_t i = 0; i <= n; i++) {
		struct kv_slice a = i == 0 ? from : s->frags[first + i - 1].to;
		struct kv_slice b = i == n ? to : s->frags[first + i].from;

		gaps += slice_compare(a, b) < 0;
	}
	return gaps;
}

/*
 * @n whole fragments from @first lie within the range: give them the seq and
 * fill the gaps between them. From the right, so that each moves once.
 */
static void splice(struct range_set *s, size_t first, size_t n, size_t gaps,
		   const struct fragment *range)
{
	struct fragment *f = &s->frags[first];
	size_t to = n + gaps;

	memmove(f + to, f + n, (s->count - first - n) * sizeof(*f));
	for (size_t i = n + 1; i-- > 0;) {
		struct kv_slice a = i == 0 ? range->from : f[i - 1].to;
		struct kv_slice b = i == n ? range->to : f[to].from;

		if (slice_compare(a, b) < 0) {
			f[--to] = *range;
			f[to].from = a;
			f[to].to = b;
		}
		if (i > 0) {
			f[--to] = f[i - 1];
			seqs_insert(&f[to].seqs, range->seqs.u.one);
		}
	}
	s->count += gaps;
}

int range_set_add(struct range_set *s, struct kv_slice from, struct kv_slice to, kv_seq seq)
{
	struct fragment range = {{0}, {0}, {.count = 1, .u = {.one = seq}}};
	size_t first = range_set_find(s, from), n = 0, gaps;
	int err;

	KV_ASSERT(slice_compare(from, to) < 0);
	err = reserve_fragments(s, 2);
	if (err)
		return err;
	err = copy_key(s, from, &range.from);
	if (err)
		return err;
	err = copy_key(s, to, &range.to);
	if (err)
		return err;
	if (first < s->count && slice_compare(s->frags[first].from, from) < 0) {
		err = split_at(s, first, range.from);
		if (err)
			return err;
		first++;
	}
	while (first + n < s->count && slice_compare(s->frags[first + n].from, to) < 0)
		n++;
	if (n > 0 && slice_compare(s->frags[first + n - 1].to, to) > 0) {
		err = split_at(s, first + n - 1, range.to);
		if (err)
			return err;
	}
	for (size_t i = first; i < first + n; i++) {
		err = seqs_reserve(s, &s->frags[i].seqs);
		if (err)
			return err;
	}
	gaps = gaps_in(s, first, n, from, to);
	err = reserve_fragments(s, gaps);
	if (err)
		return err;
	splice(s, first, n, gaps, &range);
	return 0;
}

int range_set_append(struct range_set *s, struct kv_slice from, struct kv_slice to,
		     const kv_seq *seqs, size_t seq_count)
{
	struct seq_list list = {.count = 1, .u = {.one = seqs[0]}};
	struct fragment f = {0};
	int err;

	KV_ASSERT(slice_compare(from, to) < 0);
	KV_ASSERT(s->count == 0 || slice_compare(s->frags[s->count - 1].to, from) <= 0);
	err = reserve_fragments(s, 1);
	if (err)
		return err;
	if (s->count > 0 && slice_equal(s->frags[s->count - 1].to, from))
		f.from = s->frags[s->count - 1].to;
	else
		err = copy_key(s, from, &f.from);
	if (err)
		return err;
	err = copy_key(s, to, &f.to);
	if (err)
		return err;
	if (seq_count > 1) {
		list.count = 0;
		err = seqs_set_cap(s, &list, seq_count);
		if (err)
			return err;
		memcpy(list.u.block, seqs, seq_count * sizeof(*seqs));
		list.count = seq_count;
	}
	f.seqs = list;
	s->frags[s->count++] = f;
	return 0;
}

int range_set_add_set(struct range_set *s, const struct range_set *from, struct kv_slice lower,
		      struct kv_slice upper)
{
	size_t i = lower.len > 0 ? range_set_find(from, lower) : 0;
	int err;

	for (; i < from->count; i++) {
		struct range_fragment f = range_set_at(from, i);

		if (upper.len > 0 && slice_compare(f.from, upper) >= 0)
			break;
		if (lower.len > 0 && slice_compare(f.from, lower) < 0)
			f.from = lower;
		if (upper.len > 0 && slice_compare(f.to, upper) > 0)
			f.to = upper;
		/* Oldest first: each is then put before the others. */
		for (size_t n = f.seq_count; n-- > 0;) {
			err = range_set_add(s, f.from, f.to, f.seqs[n]);
			if (err)
				return err;
		}
	}
	return 0;
}
