/* SPDX-License-Identifier: MIT */
/*
 * Strict two-phase locking on ikeys: shared and exclusive, with upgrade, fair
 * FIFO queues, a waits-for search at the moment a lock has to be waited for
 * (Gray and Reuter, Transaction Processing, 1993, chapter 7), and time-outs.
 *
 * The victim of a deadlock is the request that would close the cycle: it gets
 * -KV_E_DEADLOCK at once and holds what it held before.
 *
 * Thread safety: any thread; an owner is used by one thread at a time. Keys
 * hash into shards, each with a mutex of rank OS_RANK_LOCK_MANAGER; the waits-for search
 * takes one further mutex and no shard's. Nobody waits with a mutex held.
 */
#ifndef KVCORE_ENGINE_LOCK_MANAGER_H
#define KVCORE_ENGINE_LOCK_MANAGER_H

#include <stdbool.h>

#include "kvcore/os/os_thread.h"

enum lock_mode { LOCK_SHARED, LOCK_EXCLUSIVE };

struct lock_manager;
struct lock_owner; /* a transaction's locks and place in the waits-for graph */

int lock_manager_new(struct lock_manager **out) KV_MUST_CHECK;
void lock_manager_free(struct lock_manager *lm); /* no lock is held */

int lock_owner_new(struct lock_manager *lm, struct lock_owner **out) KV_MUST_CHECK;
/* Releases all its locks. NULL is allowed. */
void lock_owner_free(struct lock_owner *o);

/*
 * Take or upgrade. An upgrade goes before waiting strangers. Having it already is success.
 * @timeout_ms: 0 tries only.
 * Return: 0, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT, -ENOMEM.
 */
int lock_acquire(struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode,
		 unsigned timeout_ms) KV_MUST_CHECK;
bool lock_holds(const struct lock_owner *o, struct kv_slice ikey, enum lock_mode mode);
/* All at once, in the order of acquisition; the owner can be used again. */
void lock_release_all(struct lock_owner *o);
size_t lock_count(const struct lock_owner *o);

struct lock_stat {
	uint64_t waits, deadlocks, timeouts;
};
void lock_manager_get_stat(struct lock_manager *lm, struct lock_stat *out);

#endif
