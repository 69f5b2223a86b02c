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
 * Overtaking a waiter adds an edge from it to an owner that waits for nothing, so no cycle: if
 * that owner waits later, its own search comes by here.
 *
 *   lock_acquire() -> held | queued --grant()--> held -> ranges in the way? lock_range_pass()
 *                             |------ time-out, deadlock ------> gone
 */
#include "kvcore/engine/lock_manager.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/lock_graph.h"
#include "kvcore/os/os_env.h"

#define NS_PER_MS UINT64_C(1000000)
/*
 * A lock that is let go while somebody has waited for less than this is left free until the
 * waiter comes: threads that run take it meanwhile, instead of all waiting for one that sleeps.
 */
#define OVERTAKE_NS UINT64_C(500000)
/* How often a request looks again before it queues: a few pauses of the processor later at first,
 * then after other threads could run. */
#define TRY_TURNS   20U
#define TRY_PAUSING 4U
#define TRY_PAUSES  32U

/* ---- small parts --------------------------------------------------------- */

static struct lock_shard *shard_of(struct lock_manager *lm, uint64_t hash)
{
	return &lm->shards[hash >> 58]; /* the low bits choose the bucket */
}

static struct held *held_take(struct lock_owner *o)
{
	struct held *h = o->free_held;

	if (!h)
		return calloc(1, sizeof(*h));
	o->free_held = h->owner_next;
	memset(h, 0, sizeof(*h));
	return h;
}

static void held_give(struct lock_owner *o, struct held *h)
{
	if (h < o->room || h >= o->room + LOCK_INLINE_MAX) {
		free(h);
		return;
	}
	h->owner_next = o->free_held;
	o->free_held = h;
}

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
	for (; ready < LOCK_SHARDS; ready++) {
		struct lock_shard *s = &lm->shards[ready];

		err = lock_table_init(s);
		if (err)
			goto fail;
		err = os_mutex_init(&s->mu, OS_RANK_LOCK_MANAGER);
		if (err) {
			lock_table_fini(s);
			goto fail;
		}
	}
	*out = lm;
	return 0;
fail:
	while (ready--) {
		lock_table_fini(&lm->shards[ready]);
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
	KV_ASSERT(!lock_ranges_in_use(lm));
	for (unsigned i = 0; i < LOCK_SHARDS; i++) {
		lock_table_fini(&lm->shards[i]);
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
	for (unsigned i = 0; i < LOCK_INLINE_MAX; i++)
		held_give(o, &o->room[i]);
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
	o->called = false;
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

/* May a thread that runs take the lock before the first of the queue? */
static bool may_overtake(const struct lock *l)
{
	const struct lock_owner *o = l->queue_first;

	return !l->holders && !o->upgrade &&
	       os_monotonic_ns(os_env_host()) - o->queued_ns < OVERTAKE_NS;
}

/* Give the lock to those at the front of the queue who can have it. @come: the first has come. */
static void grant(struct lock_manager *lm, struct lock *l, bool come)
{
	struct lock_owner *o;

	while ((o = l->queue_first) != NULL) {
		if (o->upgrade ? !sole_holder(o->want) : !compatible(l, o->want_mode))
			return;
		if (!come && may_overtake(l)) {
			o->called = true;
			os_cond_signal(&o->granted);
			return;
		}
		come = false;
		dequeue(o);
		o->want->mode = o->want_mode;
		if (!lock_ranges_in_use(lm))
			o->want->shown = o->want_mode;
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
		if (!compatible(l, mode) || (l->queue_first && !may_overtake(l)))
			return ATTEMPT_WAIT;
		if (l->queue_first)
			os_mutex_lock(&lm->graph);
		h->mode = mode;
		holder_link(h);
		if (l->queue_first)
			os_mutex_unlock(&lm->graph);
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
	o->queued_ns = os_monotonic_ns(os_env_host());
	enqueue(o, h, mode, upgrade);
	if (lock_graph_cycle(o, ++lm->searches)) {
		dequeue(o);
		err = -KV_E_DEADLOCK;
	}
	os_mutex_unlock(&lm->graph);
	atomic_fetch_add_explicit(err ? &lm->deadlocks : &lm->waits, 1, memory_order_relaxed);
	return err;
}

uint64_t lock_deadline(unsigned timeout_ms)
{
	/* The clock of condition variables. */
	return timeout_ms ? os_monotonic_ns(os_env_host()) + timeout_ms * NS_PER_MS : 0;
}

bool lock_wait(struct lock_owner *o, uint64_t deadline_ns)
{
	uint64_t now = os_monotonic_ns(os_env_host());

	if (now >= deadline_ns)
		return false;
	(void)os_cond_timedwait(&o->granted, &o->lm->graph,
				(deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
	return true;
}

/* The lock was free: take it if it still is, and see who can share it. */
static void come(struct lock_owner *o, struct lock_shard *s, struct lock *l)
{
	os_mutex_lock(&s->mu);
	os_mutex_lock(&o->lm->graph);
	o->called = false;
	if (o->waits_for && l->queue_first == o)
		grant(o->lm, l, true);
	os_mutex_unlock(&o->lm->graph);
	os_mutex_unlock(&s->mu);
}

/* Leave the queue after a time-out. Returns whether the grant came first after all. */
static bool give_up(struct lock_owner *o, struct lock_shard *s, struct lock *l)
{
	struct lock_manager *lm = o->lm;
	bool granted;

	os_mutex_lock(&s->mu);
	os_mutex_lock(&lm->graph);
	granted = !o->waits_for;
	if (!granted) {
		dequeue(o);
		grant(lm, l, false); /* who waited only for this request */
	}
	os_mutex_unlock(&lm->graph);
	os_mutex_unlock(&s->mu);
	return granted;
}

/* Wait in the queue. Return: 0 (granted), -KV_E_LOCK_TIMEOUT (it has left the queue). */
static int wait_granted(struct lock_owner *o, struct lock_shard *s, struct lock *l,
			uint64_t deadline_ns)
{
	bool in_time = true;
	bool waits = true;

	while (waits && in_time) {
		bool called;

		os_mutex_lock(&o->lm->graph);
		while (o->waits_for && !o->called && in_time)
			in_time = lock_wait(o, deadline_ns);
		called = o->waits_for && o->called;
		waits = o->waits_for != NULL;
		os_mutex_unlock(&o->lm->graph);
		if (called)
			come(o, s, l);
	}
	return !waits || give_up(o, s, l) ? 0 : -KV_E_LOCK_TIMEOUT;
}

/* Find or make the lock and the owner's hold on it. -KV_E_EXISTS: it has what it wants. */
static int prepare(struct lock_owner *o, struct lock_shard *s, uint64_t hash, struct kv_slice ikey,
		   enum lock_mode mode, struct held **out) KV_REQUIRES(s->mu)
{
	struct lock *l = lock_table_find(s, hash, ikey);
	struct held *h = l ? holder_find(l, o) : NULL;

	if (h) {
		if (h->mode >= mode)
			return -KV_E_EXISTS;
		*out = h;
		return 0;
	}
	h = held_take(o);
	if (!h)
		return -ENOMEM;
	if (!l)
		l = lock_table_insert(s, hash, ikey);
	if (!l) {
		held_give(o, h);
		return -ENOMEM;
	}
	h->lock = l;
	h->owner = o;
	*out = h;
	return 0;
}

/* Let the hold go, or make it shared again, and see who can go on. */
static void release(struct lock_manager *lm, struct held *h, enum lock_mode keep)
{
	struct lock *l = h->lock;
	struct lock_shard *s = shard_of(lm, l->hash);
	bool queue;

	os_mutex_lock(&s->mu);
	queue = l->queue_first != NULL;
	if (queue)
		os_mutex_lock(&lm->graph);
	h->mode = keep;
	if (keep == LOCK_NONE)
		holder_unlink(h);
	if (queue) {
		grant(lm, l, false);
		os_mutex_unlock(&lm->graph);
	} else {
		lock_table_reap(lm, s, l);
	}
	os_mutex_unlock(&s->mu);
}

/* Take, or queue for, the lock. Under the shard's mutex. @queued: it must be waited for. */
static int take_or_queue(struct lock_owner *o, struct held *h, enum lock_mode mode, bool upgrade,
			 uint64_t *deadline_ns, unsigned timeout_ms)
{
	if (attempt(o->lm, h, mode, upgrade) == ATTEMPT_DONE) {
		if (!lock_ranges_in_use(o->lm))
			h->shown = mode;
		return 0;
	}
	if (!timeout_ms)
		return -KV_E_LOCK_TIMEOUT;
	*deadline_ns = lock_deadline(timeout_ms);
	return queue_up(o, h, mode, upgrade);
}

/* After an attempt without queueing, before the next one. Returns whether there is one. */
static bool look_again(struct lock_owner *o, struct held **h, unsigned *turn)
{
	unsigned pauses = *turn < TRY_PAUSING ? 0 : UINT_MAX;

	if (*turn == TRY_TURNS)
		return false;
	(*turn)++;
	held_give(o, *h); /* the lock may be gone when the mutex is */
	*h = NULL;
	do {
		os_thread_relax(&pauses);
	} while (pauses > 0 && pauses < TRY_PAUSES);
	return true;
}

/* The lock is held but for ranges: on error it is as before. */
static int pass_ranges(struct lock_owner *o, struct lock_shard *s, struct held *h, bool upgrade,
		       uint64_t deadline_ns)
{
	int err = lock_range_pass(o, s, h, deadline_ns);

	if (err)
		release(o->lm, h, upgrade ? LOCK_SHARED : LOCK_NONE);
	return err;
}

int lock_acquire(struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode,
		 unsigned timeout_ms, bool *had)
{
	uint64_t hash = hash_bytes(ikey, 0);
	struct lock_shard *s = shard_of(o->lm, hash);
	struct held *h = NULL;
	bool upgrade = false;
	uint64_t deadline_ns = 0;
	unsigned turn = 0;
	int err;

	do {
		os_mutex_lock(&s->mu);
		err = prepare(o, s, hash, ikey, mode, &h);
		if (!err) {
			upgrade = h->mode != LOCK_NONE;
			err = take_or_queue(o, h, mode, upgrade, &deadline_ns,
					    upgrade || turn == TRY_TURNS ? timeout_ms : 0);
		}
		os_mutex_unlock(&s->mu);
	} while (err == -KV_E_LOCK_TIMEOUT && timeout_ms && !upgrade && look_again(o, &h, &turn));
	if (had)
		*had = err == -KV_E_EXISTS;
	if (err == -KV_E_EXISTS)
		return 0;
	if (!err && deadline_ns)
		err = wait_granted(o, s, h->lock, deadline_ns);
	if (!err && h->shown != mode)
		err = pass_ranges(o, s, h, upgrade,
				  deadline_ns ? deadline_ns : lock_deadline(timeout_ms));
	if (err == -KV_E_LOCK_TIMEOUT)
		atomic_fetch_add_explicit(&o->lm->timeouts, 1, memory_order_relaxed);
	if (upgrade || !h)
		return err;
	if (err)
		held_give(o, h);
	else
		owner_append(o, h);
	return err;
}

bool lock_holds(const struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode)
{
	uint64_t hash = hash_bytes(ikey, 0);
	struct lock_shard *s = shard_of(o->lm, hash);
	struct held *h = NULL;
	struct lock *l;
	bool holds;

	if (!o->count)
		return false;
	os_mutex_lock(&s->mu);
	l = lock_table_find(s, hash, ikey);
	if (l)
		h = holder_find(l, o);
	holds = h && h->mode >= mode;
	os_mutex_unlock(&s->mu);
	return holds;
}

/* ---- all locks of an owner -------------------------------------------------------- */

void lock_release_all(struct lock_owner *o)
{
	struct held *h = o->first;

	while (h) {
		struct held *next = h->owner_next;

		release(o->lm, h, LOCK_NONE);
		held_give(o, h);
		h = next;
	}
	o->first = NULL;
	o->last = NULL;
	o->count = 0;
	lock_range_release(o);
}

size_t lock_count(const struct lock_owner *o)
{
	return o->count + o->span_count;
}

int lock_each(const struct lock_owner *o,
	      int (*fn)(void *ctx, enum lock_mode mode, struct kv_slice from, struct kv_slice to),
	      void *ctx)
{
	int err = 0;

	/* Only the owner's thread changes these while nothing is waited for. */
	for (const struct held *h = o->first; h && !err; h = h->owner_next)
		err = fn(ctx, h->mode, h->lock->node.from, kv_slice_of(NULL, 0));
	for (const struct lock_span *s = o->spans; s && !err; s = s->next_held)
		err = fn(ctx, s->mode, s->node.from, s->node.to);
	return err;
}

void lock_manager_get_stat(struct lock_manager *lm, struct lock_stat *out)
{
	out->waits = atomic_load_explicit(&lm->waits, memory_order_relaxed);
	out->deadlocks = atomic_load_explicit(&lm->deadlocks, memory_order_relaxed);
	out->timeouts = atomic_load_explicit(&lm->timeouts, memory_order_relaxed);
}
