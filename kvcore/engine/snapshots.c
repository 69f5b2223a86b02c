/* SPDX-License-Identifier: MIT */
/*
 * Live snapshots: in each of a few shards a sorted array of seqs with counts. There are
 * as many as open read transactions began at different commits, so a binary search
 * and a short memmove beat any tree. A thread registers in its own shard, so
 * transactions that begin and end do not meet; whoever makes the list locks all shards
 * at once, so it sees every registration that came before and no half of a change.
 *
 * Holders of a seq are interchangeable: a release takes one away wherever it is
 * found, beginning with the thread's own shard. A registration reads the visible seq under its
 * shard's mutex, so a list made by snapshots_live() covers every one that comes later.
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

#define SHARDS	       8U
#define RELEASE_ROUNDS 1000U

struct shard {
	_Alignas(64) struct os_mutex mu; /* of rank OS_RANK_SNAPSHOTS + its index */
	struct held *held;		 /* [mu] rising */
	size_t count;			 /* [mu] */
	size_t cap;			 /* [mu] */
};

struct snapshots {
	/* Released by the commit leader, acquired by readers; alone in its cache line. */
	_Alignas(64) _Atomic kv_seq visible;
	_Alignas(64) _Atomic bool keep_all;
	_Atomic kv_seq floor; /* [atomic] KV_SEQ_MAX: none */
	struct shard shard[SHARDS];
};

int snapshots_new(struct snapshots **out)
{
	struct snapshots *s = aligned_alloc(_Alignof(struct snapshots), sizeof(*s));
	unsigned ready = 0;
	int err = 0;

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	atomic_init(&s->floor, KV_SEQ_MAX);
	while (!err && ready < SHARDS) {
		err = os_mutex_init(&s->shard[ready].mu, (enum os_rank)(OS_RANK_SNAPSHOTS + ready));
		ready += !err;
	}
	if (err) {
		while (ready--)
			os_mutex_fini(&s->shard[ready].mu);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void snapshots_free(struct snapshots *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		os_mutex_fini(&s->shard[i].mu);
		free(s->shard[i].held);
	}
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
static size_t search(const struct shard *s, kv_seq seq)
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

static struct shard *own_shard(struct snapshots *s)
{
	return &s->shard[os_thread_hint() % SHARDS];
}

static int hold_locked(struct shard *s, kv_seq seq) KV_REQUIRES(s->mu)
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
	struct shard *own = own_shard(s);
	kv_seq visible;
	int err;

	os_mutex_lock(&own->mu);
	visible = snapshots_visible(s);
	err = hold_locked(own, visible);
	os_mutex_unlock(&own->mu);
	if (!err)
		*seq = visible;
	return err;
}

int snapshots_hold(struct snapshots *s, kv_seq seq)
{
	struct shard *own = own_shard(s);
	int err;

	os_mutex_lock(&own->mu);
	err = hold_locked(own, seq);
	os_mutex_unlock(&own->mu);
	return err;
}

/* Returns whether a holder of the seq was there. */
static bool release_from(struct shard *s, kv_seq seq)
{
	bool found;
	size_t i;

	os_mutex_lock(&s->mu);
	i = search(s, seq);
	found = i < s->count && s->held[i].seq == seq;
	if (found && --s->held[i].count == 0) {
		s->count--;
		memmove(&s->held[i], &s->held[i + 1], (s->count - i) * sizeof(s->held[0]));
	}
	os_mutex_unlock(&s->mu);
	return found;
}

void snapshots_release(struct snapshots *s, kv_seq seq)
{
	unsigned own = os_thread_hint();
	bool found = false;

	/*
	 * The caller's hold, or one that stands for it, is somewhere; but a hold made behind our
	 * back may be the one that is left, so look more than once.
	 */
	for (unsigned i = 0; !found && i < SHARDS * RELEASE_ROUNDS; i++)
		found = release_from(&s->shard[(own + i) % SHARDS], seq);
	KV_ASSERT(found);
}

void snapshots_keep_all(struct snapshots *s, bool keep)
{
	atomic_store(&s->keep_all, keep);
}

void snapshots_keep_from(struct snapshots *s, kv_seq seq)
{
	atomic_store(&s->floor, seq);
}

kv_seq snapshots_floor(struct snapshots *s)
{
	return atomic_load(&s->floor);
}

KV_NO_THREAD_ANALYSIS static void lock_all(struct snapshots *s)
{
	for (unsigned i = 0; i < SHARDS; i++)
		os_mutex_lock(&s->shard[i].mu);
}

KV_NO_THREAD_ANALYSIS static void unlock_all(struct snapshots *s)
{
	for (unsigned i = 0; i < SHARDS; i++)
		os_mutex_unlock(&s->shard[i].mu);
}

static int seq_order(const void *a, const void *b)
{
	kv_seq x = *(const kv_seq *)a, y = *(const kv_seq *)b;

	return (x > y) - (x < y);
}

int snapshots_live(struct snapshots *s, kv_seq **out, size_t *count, bool *keep_all)
{
	size_t n = 1, distinct = 0;
	kv_seq *list;

	lock_all(s);
	for (unsigned i = 0; i < SHARDS; i++)
		n += s->shard[i].count;
	list = malloc(n * sizeof(*list));
	if (list) {
		n = 0;
		for (unsigned i = 0; i < SHARDS; i++) {
			for (size_t j = 0; j < s->shard[i].count; j++)
				list[n++] = s->shard[i].held[j].seq;
		}
		list[n++] = snapshots_visible(s);
	}
	unlock_all(s);
	if (!list)
		return -ENOMEM;
	qsort(list, n, sizeof(*list), seq_order);
	for (size_t i = 0; i < n; i++) {
		if (!distinct || list[distinct - 1] != list[i])
			list[distinct++] = list[i];
	}
	*out = list;
	*count = distinct;
	*keep_all = atomic_load(&s->keep_all);
	return 0;
}
