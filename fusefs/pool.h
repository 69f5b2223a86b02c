/* SPDX-License-Identifier: MIT */
/*
 * The threads that serve a session. One of them reads /dev/fuse; it answers what it
 * has read by itself as long as that is quick and nothing else is waiting, and
 * leaves the reading to another otherwise. See pool.c.
 */
#ifndef FUSEFS_POOL_H
#define FUSEFS_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fusefs/op.h"

struct pool {
	struct kvfsd *d;	      /* [const] */
	struct fuse_session *session; /* [const] */
	int fd;			      /* [const] /dev/fuse */
	unsigned max_threads;	      /* [const] */
	bool sync;		      /* [const] each change waits for the disk */

	pthread_mutex_t mu;   /* a leaf: nothing is called while it is held */
	pthread_cond_t turn;  /* there is no reader, or the end has come */
	pthread_cond_t watch; /* for the warden: there is something to watch, or the end */
	pthread_t workers[OPTIONS_THREADS_MAX]; /* [mu] */
	unsigned worker_count;			/* [mu] */
	unsigned waiting;			/* [mu] for their turn */
	unsigned reader;	   /* [mu] index + 1 of the worker that reads, 0: none does */
	bool ended;		   /* [mu] no more requests are read */
	bool warden_sleeps;	   /* [mu] */
	int result;		   /* [mu] why it ended: 0 or -errno of reading */
	uint32_t last_pid;	   /* [the reader] who sent the last request */
	unsigned watchful;	   /* [the reader] for how many more requests to poll */
	pthread_t warden;	   /* [self] */
	atomic_uint_fast64_t beat; /* [atomic] odd while the reader answers; changes with each */
	atomic_uint cold;	   /* [atomic] how many more requests are taken for slow reads */
	atomic_bool wake_warden;   /* [atomic] copy of warden_sleeps for the reader */
};

/*
 * Start serving. When serving ends, SIGUSR2 is sent to the process.
 * Return: 0 or the -errno of creating threads, with nothing left behind.
 */
int pool_start(struct pool *p, struct kvfsd *d, struct fuse_session *session, unsigned max_threads,
	       bool sync) KV_MUST_CHECK;
bool pool_ended(struct pool *p);
/* Interrupt whoever reads with SIGUSR1, for which the caller has a handler, so that it looks at
 * fuse_session_exited(). To be repeated until pool_ended(). */
void pool_interrupt(struct pool *p);
/* After pool_ended(), wait for the threads. Return: 0 or the error that ended the session. */
int pool_join(struct pool *p) KV_MUST_CHECK;

#endif
