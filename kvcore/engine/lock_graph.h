/* SPDX-License-Identifier: MIT */
/*
 * Locks, holders and waiters as a graph of who waits for whom; private to
 * lock_*.c. [own]: the owner's thread; [shard]: the mutex of the lock's shard;
 * [both]: changed under the shard's and the graph mutex, read under either.
 * Fields of a lock marked [shard] are [both] while its queue is not empty.
 */
#ifndef KVCORE_ENGINE_LOCK_GRAPH_H
#define KVCORE_ENGINE_LOCK_GRAPH_H

#include "kvcore/engine/lock_manager.h"

struct lock {
	struct lock *next;		/* [shard] in its bucket */
	uint64_t hash;			/* [const] of the key */
	struct held *holders;		/* [shard] one exclusive or any number of shared ones */
	struct lock_owner *queue_first; /* [both] waits longest */
	struct lock_owner *queue_last;	/* [both] */
	size_t key_len;			/* [const] */
	uint8_t key[];			/* [const] */
};

/* One owner's hold on one lock, or the place for it while the owner waits. */
struct held {
	struct lock *lock;	  /* [const] */
	struct lock_owner *owner; /* [const] */
	enum lock_mode mode;	  /* [shard] */
	struct held *prev, *next; /* [shard] of the lock's holders */
	struct held *owner_next;  /* [own] */
};

struct lock_owner {
	struct lock_manager *lm;   /* [const] */
	struct os_cond granted;	   /* with the graph mutex: waits_for became NULL */
	struct held *first, *last; /* [own] in the order of acquisition */
	size_t count;		   /* [own] of held locks */

	/* The one request it may be waiting with. */
	struct lock *waits_for;			    /* [both] NULL: it does not wait */
	struct held *want;			    /* [both] linked or upgraded by the grant */
	enum lock_mode want_mode;		    /* [both] */
	bool upgrade;				    /* [both] it holds the lock shared */
	struct lock_owner *queue_prev, *queue_next; /* [both] */

	uint64_t search;		/* [graph] the last search that came by */
	struct lock_owner *search_next; /* [graph] still to be looked at */
};

/*
 * Does @from, just queued, wait for itself through others? Caller holds the graph mutex.
 * @search: a number not used before
 */
bool lock_graph_cycle(struct lock_owner *from, uint64_t search);

#endif
