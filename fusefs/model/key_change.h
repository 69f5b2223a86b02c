/* SPDX-License-Identifier: MIT */
/* What key_put() and key_delete() (key.h) keep about nodes. */
#ifndef KVFS_KEY_CHANGE_H
#define KVFS_KEY_CHANGE_H

#include "fusefs/model/key.h"

enum key_node_kind {
	KEY_NODE_STORED,   /* its record was written with its pending times */
	KEY_NODE_DEFERRED, /* a directory whose times changed, to be kept in the node */
	KEY_NODE_ORPHAN,   /* its last name is gone */
	KEY_NODE_SEEN,	   /* only the reference matters */
};

struct key_node {
	struct kvfs_node *node; /* referenced */
	enum key_node_kind kind;
	uint32_t seq;
	uint64_t now;
};

#endif
