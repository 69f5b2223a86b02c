/* SPDX-License-Identifier: MIT */
/*
 * Strict two-phase locking on ikeys and on ranges of them: shared and exclusive,
 * with upgrade, fair FIFO queues, a waits-for search at the moment a lock has to be
 * waited for (Gray and Reuter, Transaction Processing, 1993, chapter 7), and time-outs.
 *
 * A range lock covers every key of its interval, those that do not exist too: it
 * conflicts with key locks in it and with ranges that overlap it, unless both are
 * shared. Who comes first goes first, with two exceptions, without which there would be a
 * deadlock: an upgrade goes before strangers that wait, and an owner goes before a
 * range that waits for that same owner. And for speed: a free key whose first waiter has not
 * waited for 500 us and is yet to wake may be taken by who comes along; afterwards it is
 * handed to the waiter.
 *
 * The victim of a deadlock is the request that would close the cycle: it gets
 * -KV_E_DEADLOCK at once and holds what it held before. A place in a queue counts as
 * waiting: being fair, the manager never reorders queues to dissolve a cycle.
 *
 * Thread safety: any thread; an owner is used by one thread at a time. Keys
 * hash into shards, each with a mutex of rank OS_RANK_LOCK_MANAGER; ranges and the
 * waits-for search take one further mutex. Nobody waits with a mutex held. While no range
 * is locked, key locks do not pay for them, and a lock that nobody waits for
 * is taken and released without allocating.
 */
#ifndef KVCORE_ENGINE_LOCK_MANAGER_H
#define KVCORE_ENGINE_LOCK_MANAGER_H

#include <stdbool.h>

#include "kvcore/os/os_thread.h"

enum lock_mode { LOCK_NONE, LOCK_SHARED, LOCK_EXCLUSIVE };

struct lock_manager;
struct lock_owner; /* a transaction's locks and place in the waits-for graph */

int lock_manager_new(struct lock_manager **out) KV_MUST_CHECK;
void lock_manager_free(struct lock_manager *lm); /* no lock is held */

int lock_owner_new(struct lock_manager *lm, struct lock_owner **out) KV_MUST_CHECK;
/* Releases all its locks. NULL is allowed. */
void lock_owner_free(struct lock_owner *o);

/*
 * Take or upgrade. Having it already is success. @timeout_ms: 0 tries only.
 * @had: whether it was held before in this mode or a stronger one; may be NULL
 * Return: 0, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT, -ENOMEM.
 */
int lock_acquire(struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode,
		 unsigned timeout_ms, bool *had) KV_MUST_CHECK;
/*
 * Lock [from, to); from < to. A range inside one that the owner has in this mode or a
 * stronger one is held already. Same results.
 */
int lock_acquire_range(struct lock_owner *o, struct kv_slice from, struct kv_slice to,
		       enum lock_mode mode, unsigned timeout_ms) KV_MUST_CHECK;
/* By a lock on the key itself. */
bool lock_holds(const struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode);
/* All at once, in the order of acquisition; the owner can be used again. */
void lock_release_all(struct lock_owner *o);
size_t lock_count(const struct lock_owner *o); /* of keys and ranges */
/* All locks that it holds, keys first; @to is empty for a key. Stops at an error of @fn. */
int lock_each(const struct lock_owner *o,
	      int (*fn)(void *ctx, enum lock_mode mode, struct kv_slice from, struct kv_slice to),
	      void *ctx) KV_MUST_CHECK;

struct lock_stat {
	uint64_t waits, deadlocks, timeouts;
};
void lock_manager_get_stat(struct lock_manager *lm, struct lock_stat *out);

#endif
