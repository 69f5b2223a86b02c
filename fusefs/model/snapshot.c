/* SPDX-License-Identifier: MIT */
/*
 * Snapshots as users name them: a snapshot of the engine whose name can be a file
 * name. Times that wait in nodes are written before, so that a snapshot shows
 * what stat(2) showed when it was taken.
 */
#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/roothash.h"
#include "fusefs/model/times.h"

int kvfs_snapshot_check_name(const char *name)
{
	return place_check_name(kv_slice_of(name, strlen(name)));
}

int kvfs_snapshot_create(struct kvfs *fs, const char *name)
{
	int err;

	err = kvfs_snapshot_check_name(name);
	if (!err)
		err = kvfs_writable(fs);
	if (!err && fs->lazytime)
		err = node_table_each(fs, times_flush);
	if (!err && fs->lazytime)
		err = times_flush(fs, &fs->root);
	return err ? err : kv_snapshot_create(fs->db, name);
}

int kvfs_snapshot_drop(struct kvfs *fs, const char *name)
{
	int err = kvfs_writable(fs);

	if (!err)
		err = kv_snapshot_drop(fs->db, name);
	return err ? err : roothash_forget(fs, name);
}
