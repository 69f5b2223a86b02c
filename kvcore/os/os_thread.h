/* SPDX-License-Identifier: MIT */
/*
 * Threads, mutexes with ranks, read-write locks and condition variables. In
 * builds without NDEBUG each thread keeps the ranks it holds, and taking a lock
 * of a rank not higher than all held ones is an assertion failure: this proves
 * the order that docs/concurrency.md states.
 *
 * Creation can fail (-EAGAIN, -ENOMEM); locking cannot.
 */
#ifndef KVCORE_OS_OS_THREAD_H
#define KVCORE_OS_OS_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kvcore/kv_types.h"

/* Clang's thread safety analysis; nothing elsewhere. */
#ifdef __clang__
#define KV_CAPABILITY(name)    __attribute__((capability(name)))
#define KV_REQUIRES(...)       __attribute__((requires_capability(__VA_ARGS__)))
#define KV_ACQUIRE(...)	       __attribute__((acquire_capability(__VA_ARGS__)))
#define KV_ACQUIRE_SHARED(...) __attribute__((acquire_shared_capability(__VA_ARGS__)))
#define KV_RELEASE(...)	       __attribute__((release_capability(__VA_ARGS__)))
#define KV_RELEASE_SHARED(...) __attribute__((release_shared_capability(__VA_ARGS__)))
#define KV_NO_THREAD_ANALYSIS  __attribute__((no_thread_safety_analysis))
#else
#define KV_CAPABILITY(name)
#define KV_REQUIRES(...)
#define KV_ACQUIRE(...)
#define KV_ACQUIRE_SHARED(...)
#define KV_RELEASE(...)
#define KV_RELEASE_SHARED(...)
#define KV_NO_THREAD_ANALYSIS
#endif

/*
 * Ranks: a thread takes locks in rising order only. The one table of them all;
 * docs/concurrency.md explains each.
 */
enum os_rank {
	OS_RANK_MODEL_STAGE = 3, /* fusefs: an open file's changes; held across commits */
	OS_RANK_MODEL_DRAFT = 5, /* fusefs: namespace of a draft */
	OS_RANK_MODEL_NODE = 10, /* fusefs: namespace of any other tree */
	OS_RANK_MODEL_TXN = 15,	 /* fusefs: the engine's transaction of a draft; held across I/O */
	OS_RANK_MODEL_STAGES = 17,   /* fusefs: the list of such */
	OS_RANK_MODEL_TABLE = 20,    /* fusefs: node table shard */
	OS_RANK_NAMED = 25,	     /* engine: list of named snapshots; held across commits */
	OS_RANK_INGEST = 27,	     /* engine: one large commit at a time; held across I/O */
	OS_RANK_DB_MAINTENANCE = 30, /* engine: one flush, compaction or manifest edit at a time */
	OS_RANK_LOCK_MANAGER = 40,   /* engine: key locks */
	OS_RANK_COMMIT = 50,	     /* engine: commit queue */
	OS_RANK_DB = 60,	     /* engine: db->mu: version pointer, memtable list, flags */
	OS_RANK_SNAPSHOTS = 70,	     /* engine: live snapshots; 8 shards, 70 to 77 */
	OS_RANK_SEGMENT = 90,	     /* engine: the open value segment */
	OS_RANK_SPACE = 100,	     /* space map */
	OS_RANK_WAL = 110,	     /* log writer state */
	OS_RANK_WAL_SYNC = 115,	     /* log sync queue */
	OS_RANK_CACHE = 120,	     /* one cache shard */
	OS_RANK_LEAF = 200,	     /* takes no other lock while held */
};

struct KV_CAPABILITY("mutex") os_mutex {
	pthread_mutex_t m;
	int rank;
};

struct KV_CAPABILITY("rwlock") os_rwlock {
	pthread_rwlock_t l;
	int rank;
};

struct os_cond {
	pthread_cond_t c; /* on the monotonic clock */
};

int os_mutex_init(struct os_mutex *mu, enum os_rank rank) KV_MUST_CHECK;
void os_mutex_fini(struct os_mutex *mu);
void os_mutex_lock(struct os_mutex *mu) KV_ACQUIRE(*mu);
void os_mutex_unlock(struct os_mutex *mu) KV_RELEASE(*mu);

int os_rwlock_init(struct os_rwlock *l, enum os_rank rank) KV_MUST_CHECK;
void os_rwlock_fini(struct os_rwlock *l);
void os_rwlock_rdlock(struct os_rwlock *l) KV_ACQUIRE_SHARED(*l);
void os_rwlock_wrlock(struct os_rwlock *l) KV_ACQUIRE(*l);
void os_rwlock_rdunlock(struct os_rwlock *l) KV_RELEASE_SHARED(*l);
void os_rwlock_wrunlock(struct os_rwlock *l) KV_RELEASE(*l);

int os_cond_init(struct os_cond *cv) KV_MUST_CHECK;
void os_cond_fini(struct os_cond *cv);
void os_cond_wait(struct os_cond *cv, struct os_mutex *mu) KV_REQUIRES(*mu);
/* Returns false when @ms passed without a signal. */
bool os_cond_timedwait(struct os_cond *cv, struct os_mutex *mu, uint64_t ms) KV_REQUIRES(*mu);
void os_cond_signal(struct os_cond *cv);
void os_cond_broadcast(struct os_cond *cv);

/*
 * An event for one thread to wait for: no mutex, nothing to release. All zero is shut. Opening it
 * is the last that the opener does with it: the waiter may free it at once. What was stored
 * before the opening is seen after the wait.
 */
struct os_latch {
	_Atomic uint32_t state;
};

/* Make an open latch shut again; by its waiter, while nobody else can open it. */
void os_latch_shut(struct os_latch *l);
void os_latch_open(struct os_latch *l);
/* Before it sleeps it looks again up to @turns times, as os_thread_relax() counts them. */
void os_latch_wait(struct os_latch *l, unsigned turns);
/* Returns false when the monotonic clock has reached @deadline_ns and the latch is not open. */
bool os_latch_wait_until(struct os_latch *l, uint64_t deadline_ns);

struct os_thread {
	pthread_t t;
};

/* @name: at most 15 bytes, seen in ps and gdb. All signals are blocked in the new thread. */
int os_thread_start(struct os_thread *t, const char *name, void (*run)(void *arg), void *arg)
	KV_MUST_CHECK;
void os_thread_join(struct os_thread *t);
/* A small number that differs between threads as far as it can, for sharding. */
unsigned os_thread_hint(void);
/*
 * Called in a loop that waits for a few stores of another thread. @turns counts the calls,
 * from 0: the first ones only pause the processor, later ones let other threads run.
 */
void os_thread_relax(unsigned *turns);

#endif
