/* SPDX-License-Identifier: MIT */
/*
 * Locks, holders and waiters as a graph of who waits for whom; private to
 * lock_*.c. [own]: the owner's thread; [shard]: the mutex of the lock's shard; [graph]:
 * the graph mutex, taken after a shard's; [both]: changed under both, read under either.
 * Fields of a lock marked [shard] are [both] while its queue is not empty.
 */
#ifndef KVCORE_ENGINE_LOCK_GRAPH_H
#define KVCORE_ENGINE_LOCK_GRAPH_H

#include <stdatomic.h>

#include "kvcore/engine/lock_manager.h"
#include "kvcore/engine/lock_tree.h"

#define LOCK_SHARDS	64U
#define LOCK_INLINE_MAX 8U  /* holds that an owner has room for */
#define LOCK_SPARE_KEY	96U /* a spare lock's room, bytes */

struct lock {
	struct lock *next;		/* [shard] in its bucket, or the next spare one */
	uint64_t hash;			/* [const] of the key */
	struct held *holders;		/* [shard] one exclusive or any number of shared ones */
	struct lock_owner *queue_first; /* [both] waits longest */
	struct lock_owner *queue_last;	/* [both] */
	struct lock_tree_node node;	/* [shard] in the shard's tree; @from is the key */
	size_t room;			/* [const] of key */
	uint8_t key[];			/* [const] and a zero, so that node.to lies in it too */
};

/* One owner's hold on one lock, or the place for it while the owner waits. */
struct held {
	struct lock *lock;	  /* [const] */
	struct lock_owner *owner; /* [const] */
	enum lock_mode mode;	  /* [shard] */
	enum lock_mode shown;	  /* [shard] what ranges see: mode, once no range is in the way */
	struct held *prev, *next; /* [shard] of the lock's holders */
	struct held *owner_next;  /* [own] or the next free one */
};

/*
 * An interval in the table of ranges: one that is held, one that waits, or a key whose lock the
 * owner has but for ranges in the way (a point). All [graph].
 */
struct lock_span {
	struct lock_tree_node node;
	struct lock_owner *owner;
	enum lock_mode mode;
	bool point;		     /* conflicts with ranges only: keys meet in their shard */
	unsigned blockers;	     /* edges, and one while they are being gathered; 0: granted */
	bool gathering;		     /* it has not asked all shards yet */
	struct lock_edge *edges;     /* whom it waits for */
	struct lock_span *next_held; /* [own] */
};

/* A span waits until @blocker has released its locks or, if @reason is set, withdrawn that. */
struct lock_edge {
	struct lock_span *waiter;
	struct lock_owner *blocker;
	struct lock_span *reason;
	struct lock_edge *waiter_next;
	struct lock_edge *prev, *next; /* of the blocker */
};

struct lock_owner {
	struct lock_manager *lm;     /* [const] */
	struct os_cond granted;	     /* with the graph mutex: it waits no more */
	struct held *first, *last;   /* [own] in the order of acquisition */
	size_t count;		     /* [own] of held keys */
	struct lock_span *spans;     /* [own] held ranges */
	size_t span_count;	     /* [own] */
	struct held *free_held;	     /* [own] */
	struct lock_edge *blocks;    /* [graph] spans that wait for this owner */
	_Atomic size_t blocks_count; /* [graph] to change */

	/* The one request it may be waiting with: in a lock's queue, or with a span. */
	struct lock *waits_for;	  /* [both] NULL: in no queue */
	struct held *want;	  /* [both] linked or upgraded by the grant */
	enum lock_mode want_mode; /* [both] */
	bool upgrade;		  /* [both] it holds the lock shared */
	bool called;		  /* [graph] the lock was free: come and take it */
	uint64_t queued_ns;	  /* [both] when it came into the queue */
	struct lock_owner *queue_prev, *queue_next; /* [both] */
	struct lock_span *waits_with;		    /* [graph] */
	struct lock_span point;			    /* [graph] that of the key it waits for */

	uint64_t search;		/* [graph] the last search that came by */
	struct lock_owner *search_next; /* [graph] still to be looked at */
	struct held room[LOCK_INLINE_MAX];
};

struct lock_shard {
	struct os_mutex mu;
	struct lock **buckets; /* [mu] */
	size_t bucket_count;   /* [mu] a power of two */
	size_t lock_count;     /* [mu] */
	struct lock *spare;    /* [mu] with room for LOCK_SPARE_KEY bytes */
	unsigned spare_count;  /* [mu] */
	bool ordered;	       /* [mu] all locks are in @tree too: a range has asked */
	struct lock_tree tree; /* [mu] */
};

struct lock_manager {
	struct os_mutex graph;	/* OS_RANK_LEAF */
	uint64_t searches;	/* [graph] */
	struct lock_tree spans; /* [graph] the table of ranges */
	_Atomic size_t ranges;	/* in it, points not counted; raised before shards are asked */
	_Atomic uint64_t waits, deadlocks, timeouts;
	struct lock_shard shards[LOCK_SHARDS];
};

static inline bool lock_conflict(enum lock_mode a, enum lock_mode b)
{
	return a != LOCK_NONE && b != LOCK_NONE && (a == LOCK_EXCLUSIVE || b == LOCK_EXCLUSIVE);
}

/*
 * Is any range locked or wanted? Asked under a shard's mutex: a range that is not seen here
 * has not asked this shard yet, and will find what the caller leaves there.
 */
static inline bool lock_ranges_in_use(struct lock_manager *lm)
{
	return atomic_load_explicit(&lm->ranges, memory_order_acquire) != 0;
}

/*
 * Does @from, just queued, wait for itself through others? Caller holds the graph mutex.
 * @search: a number not used before
 */
bool lock_graph_cycle(struct lock_owner *from, uint64_t search);

/* lock_table.c: the locks of a shard. Caller holds its mutex. */
int lock_table_init(struct lock_shard *s) KV_MUST_CHECK;
void lock_table_fini(struct lock_shard *s);
struct lock *lock_table_find(const struct lock_shard *s, uint64_t hash, struct kv_slice ikey);
struct lock *lock_table_insert(struct lock_shard *s, uint64_t hash,
			       struct kv_slice ikey); /* NULL: out of memory */
/* Forget a lock that nobody holds or waits for; another one stays. */
void lock_table_reap(struct lock_manager *lm, struct lock_shard *s, struct lock *l);
/* The locks in [from, to). */
void lock_table_each(struct lock_shard *s, struct kv_slice from, struct kv_slice to,
		     bool (*visit)(void *ctx, struct lock_tree_node *n), void *ctx);

/* lock_range.c */
/*
 * The owner has got a key's lock but for ranges: wait for those in the way, then show the hold to
 * ranges. Return: 0, -KV_E_DEADLOCK, -KV_E_LOCK_TIMEOUT, -ENOMEM; on error the hold is as before.
 */
int lock_range_pass(struct lock_owner *o, struct lock_shard *s, struct held *h,
		    uint64_t deadline_ns) KV_MUST_CHECK;
/* Let go all ranges, and all spans that wait for the owner. */
void lock_range_release(struct lock_owner *o);

/* lock_manager.c */
/* Wait on o->granted with the graph mutex held. Returns false when the deadline has passed. */
bool lock_wait(struct lock_owner *o, uint64_t deadline_ns);
uint64_t lock_deadline(unsigned timeout_ms); /* 0: do not wait */

#endif
