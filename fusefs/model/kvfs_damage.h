/* SPDX-License-Identifier: MIT */
/*
 * What damage below the file layer means for files: keys of the engine in the words of paths, for
 * fsck.kvfs and kvfs scrub. Included beside kvfs.h, whose conventions hold.
 */
#ifndef KVFS_DAMAGE_H
#define KVFS_DAMAGE_H

#include "fusefs/model/kvfs.h"

enum kvfs_damage_kind {
	KVFS_DAMAGE_OTHER,    /* not of a keyspace that is ordered by numbers */
	KVFS_DAMAGE_FILE,     /* the file with the number */
	KVFS_DAMAGE_CONTENTS, /* the files whose contents have the number: kvfs_node_contents() */
};
/* @id: missing bytes of a key that is only a bound count as 0. Any thread. */
KV_API enum kvfs_damage_kind kvfs_damage_id(unsigned keyspace, struct kv_slice key, uint64_t *id);
/* Append a path, or "file id N", escaped. -ENOMEM. */
KV_API int kvfs_damage_text(unsigned keyspace, struct kv_slice key, struct kv_buf *out)
	KV_MUST_CHECK;

/*
 * The number that contents in chunks have: the file's own, or, of a clone or what was cloned, one
 * that other files may share. Return: 0, errors of reading.
 */
KV_API int kvfs_node_contents(struct kvfs *fs, struct kvfs_node *node, uint64_t *id) KV_MUST_CHECK;

/*
 * Append where damage lies that was found in an open volume: the paths of files, as far as they can
 * be found, or the names between which a range of keys lies; nothing if no key is concerned. Costs
 * a search through the names for each file. -ENOMEM, errors of reading.
 */
KV_API int kvfs_damage_where(struct kvfs *fs, const struct kv_problem *problem, struct kv_buf *out)
	KV_MUST_CHECK;

#endif
