/* SPDX-License-Identifier: MIT */
/*
 * Answers of direct writes. Before a write with O_DIRECT is acknowledged, the pages that the
 * kernel may have cached of its range are dropped. The kernel does so by itself for a write that
 * the program waits for, but not at the end of an asynchronous one (io_submit(2)), after which
 * others would read what was there before.
 *
 * Dropping a page that is being read waits for that read, which workers have to answer, so none of
 * them may wait for it: a thread of its own does, and answers.
 *
 * Thread safety: direct_answer() from any thread between start and stop.
 */
#ifndef FUSEFS_DIRECT_H
#define FUSEFS_DIRECT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct direct_write;
struct fuse_req;
struct fuse_session;

struct direct {
	struct fuse_session *fuse; /* [const] */
	pthread_t thread;	   /* [const] */
	pthread_mutex_t mu;	   /* a leaf */
	pthread_cond_t wake;
	struct direct_write *head, **tail; /* [mu] to be answered, the oldest first */
	bool running;			   /* [self] of who starts and stops */
	bool stop;			   /* [mu] */
};

/* Return: 0 or the -errno of making a thread. */
int direct_start(struct direct *w, struct fuse_session *fuse);
/* When nobody serves requests any more; what waits is answered. Nothing if it was not started. */
void direct_stop(struct direct *w);
/* Answer @req, a write of @size bytes at @off that has happened. */
void direct_answer(struct direct *w, struct fuse_req *req, uint64_t ino, off_t off, size_t size);

#endif
