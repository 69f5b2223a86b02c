/* SPDX-License-Identifier: MIT */
/*
 * History and its readers. With the mount option history= it is kept for so long, and lasts
 * across mounts. Without, it is kept while somebody reads the changes, for ten minutes back, and
 * for a minute after, so that a reader can come back.
 *
 * A node of .kvfs/feed is a file that grows: the changes from its lookup on. Once a second the
 * keeper's thread appends to it, takes the page at its end out of the kernel's cache, and
 * only then lets it be longer: so no page that a reader gets ends with bytes that were not there
 * when it was read.
 *
 * Thread safety: any thread, unless stated.
 */
#ifndef FUSEFS_FEED_H
#define FUSEFS_FEED_H

#include <pthread.h>
#include <stdbool.h>

#include "fusefs/model/kvfs_versions.h"

struct feed;
struct fuse_session;
struct kvfsd;

struct feeds {
	/* Held across calls about history; taken with no other lock of the daemon but that of a
	 * directory of .kvfs/history. */
	pthread_mutex_t mu;
	struct kvfs *fs;	      /* [const] after feed_start(); NULL: there is no history */
	struct kvfs_history *history; /* [mu] NULL: nothing is kept */
	bool lasting;	   /* [mu] by the mount option: it does not end with its readers */
	unsigned readers;  /* [mu] */
	int64_t idle_ns;   /* [mu] since when there are none */
	struct feed *list; /* [mu] nodes of .kvfs/feed */
};

int feed_init(struct feeds *f) KV_MUST_CHECK;
void feed_fini(struct feeds *f);
/* At the begin of the session, by one thread. A line is logged for what goes wrong. */
int feed_start(struct kvfsd *d) KV_MUST_CHECK;
/* Before the volume is closed, when no request is served any more. */
void feed_stop(struct kvfsd *d);

/* kvfs_watch_open() with history kept meanwhile; ended with feed_unwatch(). */
int feed_watch(struct feeds *f, kv_seq from, struct kv_slice below, struct kvfs_watch **out)
	KV_MUST_CHECK;
void feed_unwatch(struct feeds *f, struct kvfs_watch *w); /* NULL is allowed */

/* As kvfs_history_at(); -KV_E_GONE if nothing is kept. */
int feed_at(struct feeds *f, int64_t ns, kv_seq *out) KV_MUST_CHECK;

/* kvfs_versions_open() with history kept from now on for a while, so that what it finds lasts. */
int feed_versions(struct feeds *f, struct kv_slice path, struct kvfs_versions **out) KV_MUST_CHECK;

/* Begin the file of node @id. @text: receives its first line. */
int feed_begin(struct kvfsd *d, uint64_t id, struct kv_buf *text) KV_MUST_CHECK;
void feed_end(struct feeds *f, uint64_t id);

/* By the keeper's thread, about once a second while feed_busy(). */
bool feed_busy(struct feeds *f);
void feed_tick(struct kvfsd *d, struct fuse_session *fuse);

#endif
