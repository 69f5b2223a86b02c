/* SPDX-License-Identifier: MIT */
/* A request of the kvfs command to restore the whole volume: kvfs_snapshot_restore(). */
#ifndef FUSEFS_RESTORE_H
#define FUSEFS_RESTORE_H

#include "fusefs/op.h"

/*
 * Begin it and reply when it is done (channel_reply()). The string is copied. Return: 0; else
 * nobody replies: -ENOMEM, -EBUSY (the mount is ending), -KV_E_READONLY.
 */
int restore_begin(struct kvfsd *d, fuse_req_t req, const char *name) KV_MUST_CHECK;

#endif
