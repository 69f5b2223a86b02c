/* SPDX-License-Identifier: MIT */
/*
 * ioctl(2) requests that the daemon understands on any file or directory of a
 * mount. They exist because FUSE of this age carries neither syncfs nor a
 * remount to the daemon.
 */
#ifndef FUSEFS_CONTROL_H
#define FUSEFS_CONTROL_H

#include <linux/ioctl.h>
#include <stdint.h>

/* Return when everything acknowledged so far is durable. Anybody may ask, as for sync(2). */
#define KVFS_IOC_SYNC _IO('k', 1)
/* Serve read-only (1) or read-write (0). Root or the daemon's user. EROFS: the volume was opened
 * read-only. */
#define KVFS_IOC_SET_READONLY _IOW('k', 2, uint32_t)
/*
 * Make everything durable and answer every later request EIO, until the mount is unmounted: the
 * request of XFS, by which tests cut a file system off. Its argument, how much to write first,
 * does not come through FUSE. Root or the daemon's user.
 */
#define KVFS_IOC_SHUTDOWN _IOR('X', 125, uint32_t)

#endif
