/* SPDX-License-Identifier: MIT */
/*
 * Live snapshots: a sorted array of seqs with counts. There are as many as open
 * read transactions began at different commits, so a binary search and a short
 * memmove beat any tree. The visible seq is read without the mutex by point
 * reads; a registration reads it under the mutex, so that a list made by
 * snapshots_live() covers every registration that comes later.
 */
#include "kvcore/engine/snapshots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"

struct held {
	kv_seq seq;
	uint64_t count;
};

struct snapshots {
	_Atomic kv_seq visible; /* released by the commit leader, acquired by readers */
	struct os_mutex mu;
	struct held *held; /* [mu] rising */
	size_t count;	   /* [mu] */
	size_t cap;	   /* [mu] */
	bool keep_all;	   /* [mu] */
};

int snapshots_new(struct snapshots **out)
{
	struct snapshots *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	err = os_mutex_init(&s->mu, OS_RANK_SNAPSHOTS);
	if (err) {
		free(s);
		return err;
	}
	atomic_init(&s->visible, 0);
	*out = s;
	return 0;
}

void snapshots_free(struct snapshots *s)
{
	if (!s)
		return;
	os_mutex_fini(&s->mu);
	free(s->held);
	free(s);
}

void snapshots_publish(struct snapshots *s, kv_seq seq)
{
	/* Release pairs with the acquire in snapshots_visible(): who sees the seq sees its writes.
	 */
	atomic_store_explicit(&s->visible, seq, memory_order_release);
}

kv_seq snapshots_visible(struct snapshots *s)
{
	return atomic_load_explicit(&s->visible, memory_order_acquire);
}

/* Index of the first held seq >= @seq. New snapshots are the newest: the end is tried first. */
static size_t search(const struct snapshots *s, kv_seq seq)
{
	size_t lo = 0, hi = s->count;

	if (hi && s->held[hi - 1].seq < seq)
		return hi;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->held[mid].seq < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int hold_locked(struct snapshots *s, kv_seq seq) KV_REQUIRES(s->mu)
{
	size_t i = search(s, seq);

	if (i < s->count && s->held[i].seq == seq) {
		s->held[i].count++;
		return 0;
	}
	if (s->count == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct held *grown = realloc(s->held, cap * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		s->held = grown;
		s->cap = cap;
	}
	memmove(&s->held[i + 1], &s->held[i], (s->count - i) * sizeof(s->held[0]));
	s->held[i] = (struct held){seq, 1};
	s->count++;
	return 0;
}

int snapshots_acquire(struct snapshots *s, kv_seq *seq)
{
	kv_seq visible;
	int err;

	os_mutex_lock(&s->mu);
	visible = snapshots_visible(s);
	err = hold_locked(s, visible);
	os_mutex_unlock(&s->mu);
	if (!err)
		*seq = visible;
	return err;
}

int snapshots_hold(struct snapshots *s, kv_seq seq)
{
	int err;

	os_mutex_lock(&s->mu);
	err = hold_locked(s, seq);
	os_mutex_unlock(&s->mu);
	return err;
}

void snapshots_release(struct snapshots *s, kv_seq seq)
{
	size_t i;

	os_mutex_lock(&s->mu);
	i = search(s, seq);
	KV_ASSERT(i < s->count && s->held[i].seq == seq);
	if (--s->held[i].count == 0) {
		s->count--;
		memmove(&s->held[i], &s->held[i + 1], (s->count - i) * sizeof(s->held[0]));
	}
	os_mutex_unlock(&s->mu);
}

void snapshots_keep_all(struct snapshots *s, bool keep)
{
	os_mutex_lock(&s->mu);
	s->keep_all = keep;
	os_mutex_unlock(&s->mu);
}

int snapshots_live(struct snapshots *s, kv_seq **out, size_t *count, bool *keep_all)
{
	kv_seq *list, visible;
	size_t n;
	int err = -ENOMEM;

	os_mutex_lock(&s->mu);
	list = malloc((s->count + 1) * sizeof(*list));
	if (!list)
		goto out;
	visible = snapshots_visible(s);
	for (n = 0; n < s->count; n++)
		list[n] = s->held[n].seq;
	if (n == 0 || list[n - 1] < visible)
		list[n++] = visible;
	*out = list;
	*count = n;
	*keep_all = s->keep_all;
	err = 0;
out:
	os_mutex_unlock(&s->mu);
	return err;
}
