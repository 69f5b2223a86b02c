/* SPDX-License-Identifier: MIT */
/*
 * kvfs clone on a mount. The work is done by the thread that commits transactions, because the
 * kernel has to be told of the new entry: a name that was not there is cached. Thread safety: any
 * thread.
 */
#ifndef FUSEFS_CLONE_H
#define FUSEFS_CLONE_H

#include "fusefs/op.h"

/*
 * As kvfs_clone(), with an empty @snapshot for none. An ioctl of .kvfs/channel is answered by
 * channel_reply() when it is done, or when the caller was interrupted.
 * Return: 0; -ENOMEM, -EBUSY, and nothing is answered.
 */
int clone_begin(struct kvfsd *d, fuse_req_t req, const char *snapshot, const char *from,
		const char *to) KV_MUST_CHECK;

#endif
