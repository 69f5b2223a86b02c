/* SPDX-License-Identifier: MIT */
/*
 * A thread that takes and drops snapshots by the clock, as the mount options keep_*
 * say, or else the volume (kvfs_keep_get()).
 *
 * Thread safety: keeper_wake() from any thread between start and stop.
 */
#ifndef FUSEFS_KEEPER_H
#define FUSEFS_KEEPER_H

#include <pthread.h>
#include <stdbool.h>

#include "fusefs/model/kvfs.h"

struct kvfsd;
struct fuse_session;

struct keeper {
	struct kvfsd *d;	   /* [const] */
	struct fuse_session *fuse; /* [const] */
	pthread_t thread;	   /* [const] */
	pthread_mutex_t mu;	   /* a leaf */
	pthread_cond_t wake;
	bool running; /* [self] of who starts and stops */
	bool stop;    /* [mu] */
	bool again;   /* [mu] the policy has changed */
};

/* Return: 0 or the -errno of making a thread. */
int keeper_start(struct keeper *k, struct kvfsd *d, struct fuse_session *fuse) KV_MUST_CHECK;
/* Before the session ends. Nothing if it was not started. */
void keeper_stop(struct keeper *k);
/* The policy has changed. */
void keeper_wake(struct keeper *k);
/* What this mount obeys. */
int keeper_policy(struct kvfsd *d, struct kvfs_keep *out) KV_MUST_CHECK;

#endif
