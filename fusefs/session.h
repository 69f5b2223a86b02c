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
	struct pool pool;
};

/*
 * A session of libfuse that is not mounted yet, for the volume and the options of @opt.
 * Return: 0, -ENOMEM.
 */
int session_new(const struct mount_options *opt, struct kvfsd *d, struct fuse_session **out)
	KV_MUST_CHECK;
/*
 * Have the steward of @d mount, start serving and return once the root directory answers. What
 * fails is logged.
 * Return: 0, or negative with nothing left behind.
 */
int session_start(struct session *s, struct kvfsd *d) KV_MUST_CHECK;
/*
 * Serve until somebody unmounts, or until SIGTERM, SIGINT or SIGHUP, which unmount. Nothing of
 * the session is left afterwards.
 * Return: 0 or the negative error that ended it.
 */
int session_wait(struct session *s) KV_MUST_CHECK;

#endif
