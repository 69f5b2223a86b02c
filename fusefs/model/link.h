/* SPDX-License-Identifier: MIT */
/* Names for files that have none yet. */
#ifndef KVFS_LINK_H
#define KVFS_LINK_H

#include "fusefs/model/node.h"

/* A file of kvfs_stage_create() gets the name that it was made under. */
int link_unborn(struct kvfs *fs, struct kvfs_node *node, const char *name) KV_MUST_CHECK;

#endif
