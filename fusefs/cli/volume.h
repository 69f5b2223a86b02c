/* SPDX-License-Identifier: MIT */
/* Files of a volume that is not mounted, by path. */
#ifndef CLI_VOLUME_H
#define CLI_VOLUME_H

#include "fusefs/model/kvfs.h"

/*
 * The node at @path, components without "." and ".." as text.h checks them; empty: the root.
 * @out: forgotten by the caller, once. Return: 0, -ENOENT, -ENOTDIR, -ELOOP, errors of reading.
 */
int volume_lookup(struct kvfs *fs, const char *path, struct kvfs_node **out, struct kvfs_attr *attr)
	KV_MUST_CHECK;

#endif
