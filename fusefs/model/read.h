/* SPDX-License-Identifier: MIT */
/*
 * Searching a file for data and holes, a step at a time: no step looks at more than a few
 * MiB, so that no transaction stays open over a terabyte. Thread safety: any thread.
 */
#ifndef KVFS_READ_H
#define KVFS_READ_H

#include "fusefs/model/chunk.h"

/* @s: as for chunk_seek(), of any regular file. -ENXIO (no such place before the end). */
int read_seek(struct kvfs *fs, struct kvfs_node *node, struct chunk_seek *s) KV_MUST_CHECK;

#endif
