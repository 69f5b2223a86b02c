/* SPDX-License-Identifier: MIT */
/*
 * Conversations of the kvfs command with the daemon, one for each node of .kvfs/channel;
 * model/channel_format.h says what is asked. Whoever dies in one leaves it until the
 * kernel forgets the node, at the latest at the next lookup of the name.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef FUSEFS_CHANNEL_H
#define FUSEFS_CHANNEL_H

#include "fusefs/op.h"

/* An ioctl KVFS_IOC_CHANNEL on the node @ino. Replies. */
void channel_request(fuse_req_t req, fuse_ino_t ino, const void *in, size_t len);
/* A request that was answered later than it came; its answer has no bytes. */
void channel_reply(fuse_req_t req, int status);
/* The node is gone: release what its conversation holds. */
void channel_end(struct control *c, fuse_ino_t ino);
void channel_end_all(struct control *c);

#endif
