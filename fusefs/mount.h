/* SPDX-License-Identifier: MIT */
/* What mount.kvfs does: mount a volume, or change the mode of a mount. */
#ifndef FUSEFS_MOUNT_H
#define FUSEFS_MOUNT_H

#include "fusefs/options.h"

/* Exit statuses of mount(8). */
enum mount_status { MOUNT_OK = 0, MOUNT_USAGE = 1, MOUNT_FAILED = 32 };

/*
 * Mount, and serve until the end: in the foreground before it returns, else in another process
 * while this one returns when the mount answers. What fails is logged in one line.
 */
enum mount_status mount_run(const struct mount_options *opt, struct log *log);
/* mount -o remount */
enum mount_status mount_remount(const struct mount_options *opt, struct log *log);

#endif
