/* SPDX-License-Identifier: MIT */
/*
 * What a subcommand works on: a volume that is not mounted, opened through
 * libkvfs, or a directory of a mount, through which ordinary file calls do the
 * same. One at a time; one thread.
 */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <stdbool.h>

#include "fusefs/cli/mounts.h"
#include "fusefs/model/kvfs.h"

enum target_use {
	TARGET_READ,
	TARGET_WRITE,
	TARGET_COMPACT, /* as WRITE, but no mount can serve */
	TARGET_LOOK,	/* the volume is not opened, and no mount can serve */
};

struct target {
	const char *name; /* as given */
	bool mounted;
	int dir_fd;	    /* if mounted */
	struct mount mount; /* if mounted */
	struct kvfs *fs;    /* if not, and it was opened */
	struct kvfs_owner owner;
};

/*
 * Waits for a few seconds if the volume is in use but not mounted, since a daemon that was just
 * unmounted is still closing it. Return: 0, or -1 after a message; nothing is to be closed then.
 */
int target_open(const char *name, enum target_use use, struct target *out) KV_MUST_CHECK;
/* What was written is durable if it returns 0. Return: 0, or -1 after a message. */
int target_close(struct target *t) KV_MUST_CHECK;

#endif
