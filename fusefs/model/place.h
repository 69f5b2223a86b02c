/* SPDX-License-Identifier: MIT */
/*
 * Where records live: building keys, and taking them apart. A directory's
 * prefix is what the keys of its children begin with: "" for the root, the
 * natural one (parent's prefix, name, byte 0) for a directory that never moved,
 * byte 0 and its id for one whose natural prefix was taken. No name holds a 0,
 * so the keys below a prefix are one range.
 */
#ifndef KVFS_PLACE_H
#define KVFS_PLACE_H

#include "fusefs/model/model.h"
#include "fusefs/model/inode.h"

/* 0, or -EINVAL ("", ".", "..", '/' or NUL inside), -ENAMETOOLONG. */
int place_check_name(struct kv_slice name) KV_MUST_CHECK;

void place_id(unsigned keyspace, uint64_t id, struct model_key *out);
void place_meta(const char *what, struct model_key *out);
/* @prefix has at most MODEL_PREFIX_MAX bytes, @name at most KVFS_NAME_MAX. */
void place_name(struct kv_slice prefix, struct kv_slice name, struct model_key *out);
/* The natural prefix of the directory @name below @prefix. May be longer than MODEL_PREFIX_MAX. */
void place_natural(struct kv_slice prefix, struct kv_slice name, struct model_key *out);
void place_fresh(uint64_t id, struct model_key *out);
/* The prefix of a directory whose record stands at @prefix, @name. */
void place_prefix(const struct inode *r, struct kv_slice prefix, struct kv_slice name,
		  struct model_key *out);
/* First key after all that begin with @prefix; len 0: the end of the keyspace. */
void place_end(struct kv_slice prefix, struct model_key *out);
/* What the engine's filters should know besides keys: directories, files, chunks. */
void place_set_prefixes(struct kv_options *options);

/*
 * Take a key of MODEL_NAMES apart into the prefix of its directory and the name.
 * Return: 0, -KV_E_CORRUPT.
 */
int place_split(struct kv_slice key, struct kv_slice *prefix, struct kv_slice *name) KV_MUST_CHECK;

/*
 * Go to the first direct child of @prefix at or after the iterator's position,
 * jumping over keys further below. Return: 0 with the child's name, -KV_E_NOTFOUND, errors.
 */
int place_next_child(struct kv_iter *it, struct kv_slice prefix, struct kv_slice *name)
	KV_MUST_CHECK;
/* Whether a directory has a child. @txn sees the state asked about. */
int place_has_child(struct kv_txn *txn, struct kv_slice prefix, bool *out) KV_MUST_CHECK;

/* The key of a node's record; fs->ns is held. */
void place_node(const struct kvfs_node *node, struct model_key *out);
static inline struct kv_slice place_node_prefix(const struct kvfs_node *dir)
{
	return kv_slice_of(dir->prefix, dir->prefix_len);
}

#endif
