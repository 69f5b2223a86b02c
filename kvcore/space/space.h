/* SPDX-License-Identifier: MIT */
/*
 * Which extents of the volume are free. Derived at open from what the manifest
 * refers to (space_claim), never stored. All sizes are bytes and multiples of
 * FORMAT_BLOCK (asserted, but for what is claimed).
 *
 * Invariants: free extents are disjoint, not adjacent, and disjoint from all
 * claimed or allocated ones; free + allocated + overhead = size.
 *
 * A volume that grows on demand is extended through os_volume grow in steps of
 * about 1/8 of its size, powers of two from 1 to 256 MiB; when the host has no room the
 * step shrinks to what is needed, then it is -KV_E_NOSPACE, and a later call tries again.
 *
 * Thread safety: all functions from any thread; one leaf-like mutex of rank
 * OS_RANK_SPACE, not held across discard or grow of other callers' space.
 */
#ifndef KVCORE_SPACE_SPACE_H
#define KVCORE_SPACE_SPACE_H

#include "kvcore/format/entry.h"
#include "kvcore/os/os_env.h"

struct space;

/*
 * Who allocates. A part of the volume is reserved so that a full volume can
 * still delete, compact and checkpoint.
 */
enum space_class {
	SPACE_VALUE, /* user data outside the tree: leaves the whole reserve alone */
	SPACE_MOVE, /* values that compaction moves: leaves what a flush may use, since only a flush
		     * makes dead what is removed meanwhile */
	SPACE_FLUSH,   /* tables of memtables: what the log already accepted; may use all but the
			* manifest's reserve and a quarter for compaction */
	SPACE_COMPACT, /* compaction outputs: all but the manifest's reserve */
	SPACE_MANIFEST /* everything */
};

struct space_options {
	struct os_volume *volume; /* borrowed */
	uint64_t size_max;	  /* 0: grows on demand */
	uint64_t data_off;	  /* first byte that may be allocated */
	uint64_t reserve;	  /* bytes kept for SPACE_COMPACT and SPACE_MANIFEST; 0: chosen from
				   * the size: 1/16, at least 2 MiB, at most 256 MiB and 1/4 of the
				   * data's room */
	bool readonly;		  /* nothing is allocated, grown or discarded */
};

/* The size of a growing volume is that of the file. Return: 0, -ENOMEM, -errno. */
int space_new(const struct space_options *options, struct space **out) KV_MUST_CHECK;
void space_free(struct space *s);

/*
 * Mark an extent as in use, at open.
 * Return: 0, -KV_E_CORRUPT (misaligned, empty, out of bounds, or overlaps one already claimed),
 * -ENOMEM.
 */
int space_claim(struct space *s, struct extent e) KV_MUST_CHECK;

/*
 * Allocate one extent of at most @want and at least @min bytes, contiguous.
 * Prefers the exact size, then the smallest extent that holds @want; a smaller one
 * than a quarter of @want only when the volume cannot grow.
 * Return: 0, -KV_E_NOSPACE, -ENOMEM.
 */
int space_alloc(struct space *s, enum space_class class, uint64_t want, uint64_t min,
		struct extent *out) KV_MUST_CHECK;

/*
 * Give an extent back; it may be reused at once, so the caller has made sure
 * that no durable manifest and no reader refers to it. It is discarded on the host.
 */
void space_release(struct space *s, struct extent e);

/*
 * Cut free space at the end of a file that grows on demand, all but the reserve. For the end of
 * work: nobody allocates meanwhile, and what the durable manifest names is claimed. It may fail,
 * which only costs space.
 */
void space_trim(struct space *s);

struct space_stat {
	uint64_t size;	   /* of the volume now */
	uint64_t size_max; /* to which it may grow; UINT64_MAX if the host is the limit */
	uint64_t free;	   /* within size */
	uint64_t reserve;
	uint64_t free_extents;
	uint64_t largest_free;
};
void space_get_stat(struct space *s, struct space_stat *out);
/* Would @bytes of SPACE_VALUE be found now? A hint for early ENOSPC. May grow the volume. */
bool space_has_room(struct space *s, uint64_t bytes);

#endif
