/* SPDX-License-Identifier: MIT */
/*
 * Read sets: a list of intervals in the order of reading, their keys one after the
 * other in a buffer. When the list has doubled it is sorted and overlaps are
 * merged, so reading the same keys again and again takes no more memory than once.
 */
#include "kvcore/engine/readset.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/format/entry.h"

#define COUNT_MIN 64U

struct interval {
	size_t off; /* of from in the keys; to follows */
	uint32_t from_len, to_len;
};

struct readset {
	struct kv_buf keys;
	struct interval *list;
	size_t count, cap;
	size_t tidy_count; /* the list is compacted when it is as long as this */
	bool tidy;	   /* sorted and disjoint */
};

int readset_new(struct readset **out)
{
	struct readset *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->tidy_count = COUNT_MIN;
	*out = r;
	return 0;
}

void readset_free(struct readset *r)
{
	if (!r)
		return;
	kv_buf_free(&r->keys);
	free(r->list);
	free(r);
}

bool readset_empty(const struct readset *r)
{
	return r->count == 0;
}

static struct kv_slice from_of(const struct readset *r, const struct interval *i)
{
	return kv_slice_of(r->keys.data + i->off, i->from_len);
}

static struct kv_slice to_of(const struct readset *r, const struct interval *i)
{
	return kv_slice_of(r->keys.data + i->off + i->from_len, i->to_len);
}

static size_t bytes_of(const struct readset *r)
{
	return r->keys.len + r->count * sizeof(*r->list);
}

static int append(struct readset *r, struct kv_slice from, struct kv_slice to)
{
	const struct interval i = {r->keys.len, (uint32_t)from.len, (uint32_t)to.len};
	int err;

	if (r->count == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : COUNT_MIN;
		struct interval *list = realloc(r->list, cap * sizeof(*list));

		if (!list)
			return -ENOMEM;
		r->list = list;
		r->cap = cap;
	}
	err = buf_append_slice(&r->keys, from);
	if (!err && to.len)
		err = buf_append_slice(&r->keys, to);
	if (err) {
		r->keys.len = i.off;
		return err;
	}
	r->list[r->count++] = i;
	return 0;
}

/* ---- compaction ----------------------------------------------------------- */

static int compare(const void *a, const void *b, void *ctx)
{
	const struct readset *r = ctx;

	return slice_compare(from_of(r, a), from_of(r, b));
}

/* An interval being put together; @end is a bound, also of a single key. */
struct merged {
	struct kv_slice from, to;
	uint8_t end[IKEY_MAX + 1];
};

static struct kv_slice end_of(struct merged *m)
{
	size_t n = m->from.len;

	if (m->to.len)
		return m->to;
	for (size_t i = 0; i < n; i++)
		m->end[i] = m->from.data[i];
	m->end[n] = 0; /* nothing lies between a key and it with a zero behind */
	return kv_slice_of(m->end, n + 1);
}

static bool same_keyspace(struct kv_slice a, struct kv_slice b)
{
	return a.len >= IKEY_PREFIX_LEN && b.len >= IKEY_PREFIX_LEN &&
	       ikey_keyspace(a) == ikey_keyspace(b);
}

/* Do two neighbours become one? @coarse: unless their keyspaces differ. */
static bool joins(struct merged *m, const struct merged *next, bool coarse)
{
	if (slice_equal(m->from, next->from))
		return true;
	return (m->to.len && slice_compare(next->from, m->to) < 0) ||
	       (coarse && same_keyspace(m->from, next->from));
}

static void join(struct merged *m, struct merged *next)
{
	struct kv_slice end = end_of(next);

	if (!next->to.len && slice_equal(m->from, next->from))
		return;
	if (slice_compare(end_of(m), end) >= 0)
		return;
	if (next->to.len) {
		m->to = next->to;
	} else {
		for (size_t i = 0; i < end.len; i++)
			m->end[i] = end.data[i];
		m->to = kv_slice_of(m->end, end.len);
	}
}

/* @coarse: join each two neighbours. The sorted list goes to @out. */
static int merge_all(const struct readset *r, bool coarse, struct readset *out)
{
	struct merged m = {.from = {NULL, 0}};
	bool open = false, paired = false;
	int err = 0;

	for (size_t i = 0; i < r->count && !err; i++) {
		struct merged next = {from_of(r, &r->list[i]), to_of(r, &r->list[i]), {0}};

		if (open && joins(&m, &next, false)) {
			join(&m, &next);
		} else if (open && coarse && !paired && joins(&m, &next, true)) {
			join(&m, &next);
			paired = true;
		} else {
			if (open)
				err = append(out, m.from, m.to);
			m.from = next.from;
			m.to = next.to;
			open = true;
			paired = false;
		}
	}
	if (open && !err)
		err = append(out, m.from, m.to);
	return err;
}

static int compact_once(struct readset *r, bool coarse)
{
	struct readset out = {.tidy = true};
	struct readset old;
	int err;

	if (!r->tidy && r->count)
		qsort_r(r->list, r->count, sizeof(*r->list), compare, r);
	err = merge_all(r, coarse, &out);
	if (err) {
		kv_buf_free(&out.keys);
		free(out.list);
		return err;
	}
	out.tidy_count = 2 * out.count > COUNT_MIN ? 2 * out.count : COUNT_MIN;
	old = *r;
	*r = out;
	kv_buf_free(&old.keys);
	free(old.list);
	return 0;
}

static int compact(struct readset *r)
{
	size_t before;
	int err = compact_once(r, false);

	while (!err && bytes_of(r) > READSET_BYTES_MAX / 2) {
		before = r->count;
		err = compact_once(r, true);
		if (r->count == before)
			break; /* one for each keyspace */
	}
	return err;
}

int readset_add(struct readset *r, struct kv_slice from, struct kv_slice to)
{
	int err = 0;

	if (r->count >= r->tidy_count || bytes_of(r) >= READSET_BYTES_MAX)
		err = compact(r);
	if (!err)
		err = append(r, from, to);
	if (!err)
		r->tidy = false;
	return err;
}

int readset_each(struct readset *r, int (*fn)(void *ctx, struct kv_slice from, struct kv_slice to),
		 void *ctx)
{
	int err = r->tidy ? 0 : compact(r);

	for (size_t i = 0; i < r->count && !err; i++)
		err = fn(ctx, from_of(r, &r->list[i]), to_of(r, &r->list[i]));
	return err;
}
