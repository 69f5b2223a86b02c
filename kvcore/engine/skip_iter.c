/* SPDX-License-Identifier: MIT */
/*
 * A directory of 100,000 files removed by one range delete must not cost
 * 100,000 steps to whoever lists its neighbour before compaction has been there.
 * Whenever the source stands on an entry inside a fragment whose newest visible
 * delete is younger than the whole source, it is moved to the fragment's end.
 */
#include "kvcore/engine/skip_iter.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"

struct skip_iter {
	struct iter base;
	struct iter *source;
	const struct range_set *ranges;
	kv_seq seq_max;
	kv_seq snapshot;
};

static struct skip_iter *skip_of(struct iter *it)
{
	return KV_CONTAINER_OF(it, struct skip_iter, base);
}

/* The fragment that hides everything of the source at @key, if there is one. */
static bool hiding_fragment(const struct skip_iter *s, struct kv_slice key,
			    struct range_fragment *out)
{
	size_t i = range_set_find(s->ranges, key);

	if (i == range_set_count(s->ranges))
		return false;
	*out = range_set_at(s->ranges, i);
	if (slice_compare(out->from, key) > 0)
		return false;
	return range_set_covering(s->ranges, key, s->snapshot) > s->seq_max;
}

static int settle_forward(struct skip_iter *s, int err)
{
	struct range_fragment f;
	struct entry e;

	while (!err) {
		iter_entry(s->source, &e);
		if (!hiding_fragment(s, e.key, &f))
			break;
		err = iter_seek(s->source, f.to);
	}
	return err;
}

static int settle_backward(struct skip_iter *s, int err)
{
	struct range_fragment f;
	struct entry e;

	while (!err) {
		iter_entry(s->source, &e);
		if (!hiding_fragment(s, e.key, &f))
			break;
		err = iter_seek_before(s->source, f.from);
	}
	return err;
}

static int skip_first(struct iter *it)
{
	struct skip_iter *s = skip_of(it);

	return settle_forward(s, iter_first(s->source));
}

static int skip_last(struct iter *it)
{
	struct skip_iter *s = skip_of(it);

	return settle_backward(s, iter_last(s->source));
}

static int skip_seek(struct iter *it, struct kv_slice ikey)
{
	struct skip_iter *s = skip_of(it);

	return settle_forward(s, iter_seek(s->source, ikey));
}

static int skip_seek_before(struct iter *it, struct kv_slice ikey)
{
	struct skip_iter *s = skip_of(it);

	return settle_backward(s, iter_seek_before(s->source, ikey));
}

static int skip_next(struct iter *it)
{
	struct skip_iter *s = skip_of(it);

	return settle_forward(s, iter_next(s->source));
}

static int skip_prev(struct iter *it)
{
	struct skip_iter *s = skip_of(it);

	return settle_backward(s, iter_prev(s->source));
}

static void skip_entry(struct iter *it, struct entry *out)
{
	iter_entry(skip_of(it)->source, out);
}

static void skip_close(struct iter *it)
{
	struct skip_iter *s = skip_of(it);

	iter_close(s->source);
	free(s);
}

static const struct iter_ops skip_ops = {
	.first = skip_first,
	.last = skip_last,
	.seek = skip_seek,
	.seek_before = skip_seek_before,
	.next = skip_next,
	.prev = skip_prev,
	.entry = skip_entry,
	.close = skip_close,
};

int skip_iter_new(struct iter *source, const struct range_set *ranges, kv_seq seq_max,
		  kv_seq snapshot, struct iter **out)
{
	struct skip_iter *s = malloc(sizeof(*s));

	if (!s) {
		iter_close(source);
		return -ENOMEM;
	}
	*s = (struct skip_iter){{&skip_ops}, source, ranges, seq_max, snapshot};
	*out = &s->base;
	return 0;
}
