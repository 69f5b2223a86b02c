/* SPDX-License-Identifier: MIT */
/*
 * The node table: every file that somebody looks at, by its id, with where its
 * record lives. A node is shared by all who look at the file; references keep
 * it, and keep its parents. Thread safety: any thread; what else must be held
 * is said at each function.
 */
#ifndef KVFS_NODE_H
#define KVFS_NODE_H

#include "fusefs/model/inode.h"

int node_table_init(struct kvfs *fs) KV_MUST_CHECK;
/* Frees all nodes, whatever references they have. */
void node_table_fini(struct kvfs *fs);
/* Calls @visit for each node with a reference added for the call; no lock is held by the caller. */
int node_table_each(struct kvfs *fs, int (*visit)(struct kvfs *fs, struct kvfs_node *node))
	KV_MUST_CHECK;

/* Adds a reference; NULL if there is no such node. */
struct kvfs_node *node_find(struct kvfs *fs, uint64_t ino);
/*
 * Look at a node without a reference, which might become the last: @see is called with the node
 * and takes no lock. Return: its result, -KV_E_NOTFOUND.
 */
int node_look(struct kvfs *fs, uint64_t ino, int (*see)(const struct kvfs_node *node, void *ctx),
	      void *ctx) KV_MUST_CHECK;
/* Whether there is such a node. */
bool node_is_known(struct kvfs *fs, uint64_t ino);
void node_ref(struct kvfs *fs, struct kvfs_node *node);
/* May run transactions, if the last reference goes: no lock is held. @node may be NULL. */
void node_unref(struct kvfs *fs, struct kvfs_node *node, uint64_t refs);
/* False: it is the last one, and stays. Runs no transaction. */
bool node_unref_unless_last(struct kvfs *fs, struct kvfs_node *node) KV_MUST_CHECK;
/* Does anybody hold a node other than the root? */
bool node_any(struct kvfs *fs);
/* The same for references that last, of a child to its parent or of an open directory: no
 * node_unref() takes them away. @node of node_release() may be NULL. */
void node_hold(struct kvfs *fs, struct kvfs_node *node);
void node_release(struct kvfs *fs, struct kvfs_node *node);

/*
 * A node that is not in the table yet, with one reference, for the record @r at
 * @parent, @name. Made before a transaction, so that nothing can fail after it.
 * Return: 0, -ENOMEM.
 */
int node_new(struct kvfs *fs, const struct inode *r, enum node_state state,
	     struct kvfs_node *parent, struct kv_slice name, struct kvfs_node **out) KV_MUST_CHECK;
/* Throw one away that was not published; NULL is allowed. @parent has another reference. */
void node_discard(struct kvfs *fs, struct kvfs_node *node);
/* Into the table; if the file has a node already, that one is returned and @node is gone. */
struct kvfs_node *node_publish(struct kvfs *fs, struct kvfs_node *node);
/* The node of @r with a reference added, made if there is none. fs->ns is held. */
int node_make(struct kvfs *fs, const struct inode *r, enum node_state state,
	      struct kvfs_node *parent, struct kv_slice name, struct kvfs_node **out) KV_MUST_CHECK;
/*
 * The node lives elsewhere now. fs->ns is held for writing. @name is malloc'd and now the node's.
 * The former parent is returned, for node_release() after the lock is released.
 */
struct kvfs_node *node_move(struct kvfs *fs, struct kvfs_node *node, struct kvfs_node *parent,
			    char *name) KV_MUST_CHECK;
bool node_is_at(const struct kvfs_node *node, const struct kvfs_node *parent, struct kv_slice name);

static inline struct node_shard *node_shard(struct kvfs *fs, uint64_t ino)
{
	return &fs->shards[ino % MODEL_SHARDS];
}

static inline bool node_is_dir(const struct kvfs_node *node)
{
	return node->type == (uint16_t)S_IFDIR;
}

/* fs->ns is held for writing, or the node is not yet published. */
static inline void node_set_guard(struct kvfs_node *node, const struct inode *r)
{
	node->guard = r->flags & (MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND);
}

/* What the record says, and what may change without the kernel's doing; fs->ns is held. */
void node_attr(const struct kvfs_node *node, const struct inode *r, struct kvfs_attr *out);

/*
 * Whether entries may be made in it, or, with @removes, also taken out of it.
 * Return: 0, -ENOTDIR, -ENOENT (removed), -EPERM (its flags).
 */
int node_check_dir(const struct kvfs_node *node, bool removes) KV_MUST_CHECK;

#endif
