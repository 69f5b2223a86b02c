/* SPDX-License-Identifier: MIT */
/*
 * How fast writers may go so that flush and compaction keep up. Two speeds are
 * measured: that of flushes, and that at which compaction empties level 0. Writers
 * get a rate from them and from what is owed:
 *
 *   while a memtable is flushed   flush speed x room left / bytes left to flush
 *                                 so that the room ends when the flush does, not before
 *   while compaction is behind    drain speed x 2 (1000 - debt) / (1000 - PACE_DEBT_FROM)
 *                                 which holds the debt where writers have compaction's speed
 *
 * The smaller one counts. Short pauses are saved up, and none is longer than PACE_PAUSE_MAX_US,
 * so a writer meets many small delays instead of a stop.
 *
 * Thread safety: any thread; one leaf mutex, held for some arithmetic.
 */
#ifndef KVCORE_ENGINE_PACE_H
#define KVCORE_ENGINE_PACE_H

#include "kvcore/os/os_thread.h"

#define PACE_DEBT_FROM	  400U
#define PACE_PAUSE_MAX_US 5000U

struct pace {
	struct os_mutex mu;	 /* OS_RANK_LEAF */
	uint64_t written;	 /* [mu] bytes, as of the last question */
	uint64_t asked_ns;	 /* [mu] when that was */
	uint64_t paid_ns;	 /* [mu] until when the bytes admitted are paid for */
	uint64_t flush_bps;	 /* [mu] bytes a second; 0: not measured yet */
	uint64_t flush_began_ns; /* [mu] 0: no flush runs */
	uint64_t drain_bps;	 /* [mu] as flush_bps */
	uint64_t drain_from_ns;	 /* [mu] since when compaction has been at work; 0: it is idle */
};

/* What the engine looks like at the moment of a question. */
struct pace_state {
	uint64_t now_ns;
	uint64_t written; /* bytes by all writers, ever */
	uint64_t room;	  /* bytes that can be written before a flush must have ended */
	uint64_t frozen;  /* bytes of frozen memtables; 0: none is waiting */
	unsigned debt;	  /* of compaction, 0 to 1000 */
};

int pace_init(struct pace *p) KV_MUST_CHECK;
void pace_fini(struct pace *p);

/* Microseconds that the writer who asks should wait, for all bytes since the last question. */
unsigned pace_us(struct pace *p, const struct pace_state *s);

void pace_flush_began(struct pace *p, uint64_t now_ns);
/* @bytes: of the memtable; 0: it failed */
void pace_flush_ended(struct pace *p, uint64_t now_ns, uint64_t bytes);
/* Compaction begins to work, or goes on. */
void pace_drain_busy(struct pace *p, uint64_t now_ns);
/* Compaction found nothing to do. */
void pace_drain_idle(struct pace *p);
/* @bytes left level 0. */
void pace_drained(struct pace *p, uint64_t now_ns, uint64_t bytes);

#endif
