/* SPDX-License-Identifier: MIT */
/*
 * A mounted session: its threads, its signals and its end.
 *
 * Thread safety: one thread, the program's first.
 */
#ifndef FUSEFS_SESSION_H
#define FUSEFS_SESSION_H

#include "fusefs/op.h"
#include "fusefs/pool.h"

struct session {
	struct kvfsd *d;
	struct fuse_session *fuse;
	const char *dir; /* absolute, borrowed */
	uint64_t device; /* st_dev of the mount */
	struct pool pool;
};

/*
 * Mount at @dir, start serving and return once the root directory answers. What fails is logged.
 * @source: what mount(8) and df(1) show
 * Return: 0, or negative with nothing left behind.
 */
int session_start(struct session *s, struct kvfsd *d, const char *program, const char *source,
		  const char *dir) KV_MUST_CHECK;
/*
 * Serve until somebody unmounts, or until SIGTERM, SIGINT or SIGHUP, which unmount. Nothing of
 * the session is left afterwards.
 * Return: 0 or the negative error that ended it.
 */
int session_wait(struct session *s) KV_MUST_CHECK;

#endif
