/* SPDX-License-Identifier: MIT */
/*
 * The lock manager. A lock that nobody waits for is changed under its shard's
 * mutex alone. A lock with waiters, and the fact that an owner waits, change
 * only with the graph mutex held as well, which is taken second. So
 *   - whoever holds either mutex may read a lock's queue, and the search
 *     (lock_graph.c) sees one exact state of the whole graph;
 *   - edges appear only when a request is queued, and all new ones touch the
 *     requester, so a search from it at that moment, before the graph mutex is let
 *     go, finds every cycle, and finds none that is not there.
 *
 *   lock_acquire() -> held | queued --grant()--> held
 *                             |------ time-out, deadlock ------> gone
 */
#include "kvcore/engine/lock_manager.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/lock_graph.h"
#include "kvcore/os/os_env.h"

#define SHARDS	    64U
#define BUCKETS_MIN 16U
#define NS_PER_MS   UINT64_C(1000000)

struct shard {
	struct os_mutex mu;
	struct lock **buckets; /* [mu] */
	size_t bucket_count;   /* [mu] a power of two */
	size_t lock_count;     /* [mu] */
};

struct lock_manager {
	struct os_mutex graph; /* OS_RANK_LEAF */
	uint64_t searches;     /* [graph] */
	_Atomic uint64_t waits, deadlocks, timeouts;
	struct shard shards[SHARDS];
};

/* ---- life --------------------------------------------------------------- */

int lock_manager_new(struct lock_manager **out)
{
	struct lock_manager *lm = calloc(1, sizeof(*lm));
	unsigned ready = 0;
	int err;

	if (!lm)
		return -ENOMEM;
	err = os_mutex_init(&lm->graph, OS_RANK_LEAF);
	if (err) {
		free(lm);
		return err;
	}
	for (; ready < SHARDS; ready++) {
		struct shard *s = &lm->shards[ready];

		s->buckets = calloc(BUCKETS_MIN, sizeof(struct lock *));
		s->bucket_count = BUCKETS_MIN;
		err = s->buckets ? os_mutex_init(&s->mu, OS_RANK_LOCK_MANAGER) : -ENOMEM;
		if (err)
			goto fail;
	}
	*out = lm;
	return 0;
fail:
	free(lm->shards[ready].buckets);
	while (ready--) {
		free(lm->shards[ready].buckets);
		os_mutex_fini(&lm->shards[ready].mu);
	}
	os_mutex_fini(&lm->graph);
	free(lm);
	return err;
}

void lock_manager_free(struct lock_manager *lm)
{
	if (!lm)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		KV_ASSERT(lm->shards[i].lock_count == 0);
		free(lm->shards[i].buckets);
		os_mutex_fini(&lm->shards[i].mu);
	}
	os_mutex_fini(&lm->graph);
	free(lm);
}

int lock_owner_new(struct lock_manager *lm, struct lock_owner **out)
{
	struct lock_owner *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return -ENOMEM;
	err = os_cond_init(&o->granted);
	if (err) {
		free(o);
		return err;
	}
	o->lm = lm;
	*out = o;
	return 0;
}

void lock_owner_free(struct lock_owner *o)
{
	if (!o)
		return;
	lock_release_all(o);
	os_cond_fini(&o->granted);
	free(o);
}

/* ---- the table of locks ------------------------------------------------- */

static struct shard *shard_of(struct lock_manager *lm, uint64_t hash)
{
	return &lm->shards[hash >> 58]; /* the low bits choose the bucket */
}

static struct lock **bucket_of(const struct shard *s, uint64_t hash)
{
	return &s->buckets[hash & (s->bucket_count - 1)];
}

static struct lock *table_find(const struct shard *s, uint64_t hash, struct kv_slice ikey)
{
	struct lock *l = *bucket_of(s, hash);

	while (l && (l->hash != hash || !slice_equal(kv_slice_of(l->key, l->key_len), ikey)))
		l = l->next;
	return l;
}

/* Without the memory the chains just get longer. */
static void table_grow(struct shard *s) KV_REQUIRES(s->mu)
{
	struct shard grown = {.bucket_count = s->bucket_count * 2};

	grown.buckets = calloc(grown.bucket_count, sizeof(struct lock *));
	if (!grown.buckets)
		return;
	for (size_t i = 0; i < s->bucket_count; i++) {
		struct lock *l = s->buckets[i];

		while (l) {
			struct lock *next = l->next;
			struct lock **bucket = bucket_of(&grown, l->hash);

			l->next = *bucket;
			*bucket = l;
			l = next;
		}
	}
	free(s->buckets);
	s->buckets = grown.buckets;
	s->bucket_count = grown.bucket_count;
}

/* NULL when out of memory. */
static struct lock *table_insert(struct shard *s, uint64_t hash, struct kv_slice ikey)
	KV_REQUIRES(s->mu)
{
	struct lock *l = calloc(1, sizeof(*l) + ikey.len);
	struct lock **bucket;

	if (!l)
		return NULL;
	l->hash = hash;
	l->key_len = ikey.len;
	if (ikey.len)
		memcpy(l->key, ikey.data, ikey.len);
	if (s->lock_count >= s->bucket_count)
		table_grow(s);
	bucket = bucket_of(s, hash);
	l->next = *bucket;
	*bucket = l;
	s->lock_count++;
	return l;
}

/* Forget a lock that nobody holds or waits for. */
static void table_reap(struct shard *s, struct lock *l) KV_REQUIRES(s->mu)
{
	struct lock **link = bucket_of(s, l->hash);

	if (l->holders || l->queue_first)
		return;
	while (*link != l)
		link = &(*link)->next;
	*link = l->next;
	s->lock_count--;
	free(l);
}

/* ---- holders ------------------------------------------------------------ */

static struct held *holder_find(const struct lock *l, const struct lock_owner *o)
{
	struct held *h = l->holders;

	while (h && h->owner != o)
		h = h->next;
	return h;
}

static void holder_link(struct held *h)
{
	h->prev = NULL;
	h->next = h->lock->holders;
	if (h->next)
		h->next->prev = h;
	h->lock->holders = h;
}

static void holder_unlink(struct held *h)
{
	if (h->prev)
		h->prev->next = h->next;
	else
		h->lock->holders = h->next;
	if (h->next)
		h->next->prev = h->prev;
}

/* Could a request that need not queue have the lock at once? */
static bool compatible(const struct lock *l, enum lock_mode mode)
{
	return !l->holders || (mode == LOCK_SHARED && l->holders->mode == LOCK_SHARED);
}

static bool sole_holder(const struct held *h)
{
	return !h->prev && !h->next;
}

/* The owner's own list, used by its thread only. */
static void owner_append(struct lock_owner *o, struct held *h)
{
	h->owner_next = NULL;
	if (o->last)
		o->last->owner_next = h;
	else
		o->first = h;
	o->last = h;
	o->count++;
}

/* ---- queue; all under the shard's and the graph mutex ------------------- */

static void enqueue(struct lock_owner *o, struct held *want, enum lock_mode mode, bool upgrade)
{
	struct lock *l = want->lock;

	o->waits_for = l;
	o->want = want;
	o->want_mode = mode;
	o->upgrade = upgrade;
	/* An upgrade waits for holders only; there is never a second one, since it would be a
	 * deadlock. */
	o->queue_prev = upgrade ? NULL : l->queue_last;
	o->queue_next = upgrade ? l->queue_first : NULL;
	if (o->queue_prev)
		o->queue_prev->queue_next = o;
	else
		l->queue_first = o;
	if (o->queue_next)
		o->queue_next->queue_prev = o;
	else
		l->queue_last = o;
}

static void dequeue(struct lock_owner *o)
{
	struct lock *l = o->waits_for;

	if (o->queue_prev)
		o->queue_prev->queue_next = o->queue_next;
	else
		l->queue_first = o->queue_next;
	if (o->queue_next)
		o->queue_next->queue_prev = o->queue_prev;
	else
		l->queue_last = o->queue_prev;
	o->waits_for = NULL;
}

/* Give the lock to those at the front of the queue who can have it. */
static void grant(struct lock *l)
{
	struct lock_owner *o;

	while ((o = l->queue_first) != NULL) {
		if (o->upgrade ? !sole_holder(o->want) : !compatible(l, o->want_mode))
			return;
		dequeue(o);
		o->want->mode = o->want_mode;
		if (!o->upgrade)
			holder_link(o->want);
		os_cond_signal(&o->granted);
	}
}

/* ---- acquiring ---------------------------------------------------------- */

enum attempt { ATTEMPT_DONE, ATTEMPT_WAIT };

/* Take the lock if that needs no waiting. @h: the owner's hold, in the list already if @upgrade. */
static enum attempt attempt(struct lock_manager *lm, struct held *h, enum lock_mode mode,
			    bool upgrade)
{
	struct lock *l = h->lock;

	if (!upgrade) {
		if (l->queue_first || !compatible(l, mode))
			return ATTEMPT_WAIT;
		h->mode = mode;
		holder_link(h);
		return ATTEMPT_DONE;
	}
	if (!sole_holder(h))
		return ATTEMPT_WAIT;
	if (l->queue_first) {
		os_mutex_lock(&lm->graph);
		h->mode = mode;
		os_mutex_unlock(&lm->graph);
	} else {
		h->mode = mode;
	}
	return ATTEMPT_DONE;
}

/* Queue the request unless it would close a cycle. Under the shard's mutex. */
static int queue_up(struct lock_owner *o, struct held *h, enum lock_mode mode, bool upgrade)
{
	struct lock_manager *lm = o->lm;
	int err = 0;

	os_mutex_lock(&lm->graph);
	enqueue(o, h, mode, upgrade);
	if (lock_graph_cycle(o, ++lm->searches)) {
		dequeue(o);
		err = -KV_E_DEADLOCK;
	}
	os_mutex_unlock(&lm->graph);
	atomic_fetch_add_explicit(err ? &lm->deadlocks : &lm->waits, 1, memory_order_relaxed);
	return err;
}

/* Returns whether the request was granted in time; if not, it is still queued. */
static bool wait_granted(struct lock_owner *o, unsigned timeout_ms)
{
	struct lock_manager *lm = o->lm;
	struct os_env *env = os_env_host(); /* the clock of condition variables */
	uint64_t deadline = os_monotonic_ns(env) + timeout_ms * NS_PER_MS;
	bool granted;

	os_mutex_lock(&lm->graph);
	while (o->waits_for) {
		uint64_t now = os_monotonic_ns(env);

		if (now >= deadline)
			break;
		(void)os_cond_timedwait(&o->granted, &lm->graph,
					(deadline - now + NS_PER_MS - 1) / NS_PER_MS);
	}
	granted = !o->waits_for;
	os_mutex_unlock(&lm->graph);
	return granted;
}

/* Leave the queue after a time-out. Returns whether the grant came first after all. */
static bool give_up(struct lock_owner *o, struct shard *s, struct lock *l)
{
	struct lock_manager *lm = o->lm;
	bool granted;

	os_mutex_lock(&s->mu);
	os_mutex_lock(&lm->graph);
	granted = !o->waits_for;
	if (!granted) {
		dequeue(o);
		grant(l); /* who waited only for this request */
	}
	os_mutex_unlock(&lm->graph);
	os_mutex_unlock(&s->mu);
	return granted;
}

/* Find or make the lock and the owner's hold on it. -KV_E_EXISTS: it has what it wants. */
static int prepare(struct lock_owner *o, struct shard *s, uint64_t hash, struct kv_slice ikey,
		   enum lock_mode mode, struct held **out) KV_REQUIRES(s->mu)
{
	struct lock *l = table_find(s, hash, ikey);
	struct held *h = l ? holder_find(l, o) : NULL;

	if (h) {
		if (mode == LOCK_SHARED || h->mode == LOCK_EXCLUSIVE)
			return -KV_E_EXISTS;
		*out = h;
		return 0;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	if (!l)
		l = table_insert(s, hash, ikey);
	if (!l) {
		free(h);
		return -ENOMEM;
	}
	h->lock = l;
	h->owner = o;
	*out = h;
	return 0;
}

int lock_acquire(struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode,
		 unsigned timeout_ms)
{
	struct lock_manager *lm = o->lm;
	uint64_t hash = hash_bytes(ikey, 0);
	struct shard *s = shard_of(lm, hash);
	struct held *h = NULL;
	bool wait = false, upgrade = false;
	int err;

	os_mutex_lock(&s->mu);
	err = prepare(o, s, hash, ikey, mode, &h);
	if (err)
		goto out;
	upgrade = holder_find(h->lock, o) != NULL;
	if (attempt(lm, h, mode, upgrade) == ATTEMPT_WAIT) {
		wait = timeout_ms > 0;
		err = wait ? queue_up(o, h, mode, upgrade) : -KV_E_LOCK_TIMEOUT;
	}
out:
	os_mutex_unlock(&s->mu);
	if (err == -KV_E_EXISTS)
		return 0;
	if (!err && wait && !wait_granted(o, timeout_ms) && !give_up(o, s, h->lock))
		err = -KV_E_LOCK_TIMEOUT;
	if (err == -KV_E_LOCK_TIMEOUT)
		atomic_fetch_add_explicit(&lm->timeouts, 1, memory_order_relaxed);
	if (upgrade)
		return err; /* NOLINT(clang-analyzer-unix.Malloc): h was held already */
	if (err)
		free(h);
	else
		owner_append(o, h);
	return err;
}

bool lock_holds(const struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode)
{
	uint64_t hash = hash_bytes(ikey, 0);
	struct shard *s = shard_of(o->lm, hash);
	struct held *h = NULL;
	struct lock *l;
	bool holds;

	if (!o->count)
		return false;
	os_mutex_lock(&s->mu);
	l = table_find(s, hash, ikey);
	if (l)
		h = holder_find(l, o);
	holds = h && (mode == LOCK_SHARED || h->mode == LOCK_EXCLUSIVE);
	os_mutex_unlock(&s->mu);
	return holds;
}

/* ---- releasing ---------------------------------------------------------- */

static void release(struct lock_manager *lm, struct held *h)
{
	struct lock *l = h->lock;
	struct shard *s = shard_of(lm, l->hash);

	os_mutex_lock(&s->mu);
	if (l->queue_first) {
		os_mutex_lock(&lm->graph);
		holder_unlink(h);
		grant(l);
		os_mutex_unlock(&lm->graph);
	} else {
		holder_unlink(h);
		table_reap(s, l);
	}
	os_mutex_unlock(&s->mu);
	free(h);
}

void lock_release_all(struct lock_owner *o)
{
	struct held *h = o->first;

	while (h) {
		struct held *next = h->owner_next;

		release(o->lm, h);
		h = next;
	}
	o->first = NULL;
	o->last = NULL;
	o->count = 0;
}

size_t lock_count(const struct lock_owner *o)
{
	return o->count;
}

void lock_manager_get_stat(struct lock_manager *lm, struct lock_stat *out)
{
	out->waits = atomic_load_explicit(&lm->waits, memory_order_relaxed);
	out->deadlocks = atomic_load_explicit(&lm->deadlocks, memory_order_relaxed);
	out->timeouts = atomic_load_explicit(&lm->timeouts, memory_order_relaxed);
}
