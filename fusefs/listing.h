/* SPDX-License-Identifier: MIT */
/*
 * Positions in directories, as the kernel sees them. The kernel keeps what it has
 * listed and goes on from it with any handle of the directory, so a position must
 * mean the same to all of them, for as long as the kernel may remember it. A
 * listing is that: it numbers the names of one directory.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef FUSEFS_LISTING_H
#define FUSEFS_LISTING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fusefs/model/kvfs.h"

enum listing_position {
	LISTING_START = 0,
	LISTING_DOT = 1,     /* behind "." */
	LISTING_DOT_DOT = 2, /* behind ".." */
	LISTING_FIRST = 3,   /* behind the first name that was listed */
};

struct listing;

/* All listings of a mount; those of directories that are not open up to LISTING_BYTES_MAX. */
struct listings {
	pthread_mutex_t mu;
	struct listing **buckets;	 /* [mu] by ino */
	size_t bucket_count;		 /* [mu] a power of two */
	size_t count;			 /* [mu] */
	size_t closed_bytes;		 /* [mu] */
	struct listing *newest, *oldest; /* [mu] those that are closed, by the time of closing */
};
#define LISTING_BYTES_MAX ((size_t)64 << 20)

int listing_init(struct listings *all) KV_MUST_CHECK;
void listing_fini(struct listings *all);

/*
 * A handle of directory @ino is opened.
 * @known: whether positions that the kernel remembers of it still mean something
 */
int listing_open(struct listings *all, uint64_t ino, struct listing **out, bool *known)
	KV_MUST_CHECK;
void listing_close(struct listings *all, struct listing *l);
/* The kernel has forgotten @ino: the listing is dropped unless a handle is open. */
void listing_forget(struct listings *all, uint64_t ino);

/* Somebody lists from the start who does not hold older positions. They may lose their meaning if
 * nobody else has the directory open and most names are gone. */
void listing_restart(struct listings *all, struct listing *l);
/*
 * The position behind @name, numbered now if it is new.
 * @before: the position in front of it, or 0: a guess where to find it
 */
int listing_position(struct listing *l, const char *name, uint64_t before, uint64_t *out)
	KV_MUST_CHECK;
/* The name in front of @position. False if there is none: it is before the first name or unknown.
 */
bool listing_name(struct listing *l, uint64_t position, char name[KVFS_NAME_MAX + 1]);

#endif
