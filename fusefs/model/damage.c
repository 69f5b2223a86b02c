/* SPDX-License-Identifier: MIT */
/*
 * Engine keys in the words of files. When a page of the engine is damaged only
 * keys are known, among them bounds that are no whole keys; fsck turns them into
 * paths and file ids with this, and needs no volume for it.
 */
#include "fusefs/model/kvfs.h"

#include <errno.h>
#include <inttypes.h>

#include "fusefs/model/model_format.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define DAMAGE_FILES_MAX 64U /* of a range of ids that are named one by one */

static uint64_t id_at(struct kv_slice key)
{
	uint64_t id = 0;

	for (size_t i = 0; i < 8; i++)
		id = id << 8 | (i < key.len ? key.data[i] : 0U);
	return id;
}

bool kvfs_damage_id(unsigned keyspace, struct kv_slice key, uint64_t *id)
{
	switch (keyspace) {
	case MODEL_INODES:
	case MODEL_DATA:
	case MODEL_SHARED:
	case MODEL_XATTRS:
	case MODEL_ORPHANS:
		*id = id_at(key);
		return true;
	default:
		return false;
	}
}

/* A stored 0 is a slash to the user. */
static int append_path(struct kv_buf *out, struct kv_slice path)
{
	int err = 0;

	for (size_t i = 0; i < path.len && !err; i++) {
		if (!path.data[i])
			err = buf_append_byte(out, '/');
		else
			err = buf_append_escaped(out, kv_slice_of(path.data + i, 1));
	}
	return err;
}

int kvfs_damage_text(unsigned keyspace, struct kv_slice key, struct kv_buf *out)
{
	uint64_t id;
	int err;

	if (kvfs_damage_id(keyspace, key, &id))
		return buf_printf(out, "file id %" PRIu64, id);
	if (keyspace != MODEL_NAMES)
		return buf_append_escaped(out, key);
	/* In a directory that was given a fresh prefix: a path never begins with a slash. */
	if (key.len >= MODEL_FRESH_LEN && !key.data[0]) {
		id = id_at(kv_slice_of(key.data + 1, key.len - 1));
		err = buf_printf(out, "directory id %" PRIu64 "/", id);
		key = kv_slice_of(key.data + MODEL_FRESH_LEN, key.len - MODEL_FRESH_LEN);
	} else {
		err = buf_append_byte(out, '/');
	}
	return err ? err : append_path(out, key);
}

/* ---- in an open volume ---------------------------------------------------------- */

/* The file's path, or if it cannot be found its number. */
static int append_file(struct kvfs *fs, uint64_t id, struct kv_buf *out)
{
	struct kvfs_node *node;
	struct kv_buf path = {0};
	struct kvfs_attr attr;
	int err = kvfs_node_find(fs, id, &node, &attr);

	if (!err) {
		err = kvfs_node_path(fs, node, &path);
		kvfs_node_forget(fs, node, 1);
	}
	if (!err)
		err = buf_printf(out, "; file %.*s", (int)path.len, (const char *)path.data);
	else if (err != -ENOMEM)
		err = buf_printf(out, "; file id %" PRIu64, id);
	kv_buf_free(&path);
	return err;
}

int kvfs_damage_where(struct kvfs *fs, const struct kv_problem *problem, struct kv_buf *out)
{
	uint64_t id;
	uint64_t last;
	int err;

	if (!(problem->keyspace + problem->from.len + problem->to.len))
		return 0;
	if (kvfs_damage_id(problem->keyspace, problem->from, &id)) {
		if (!problem->to.len || !kvfs_damage_id(problem->keyspace, problem->to, &last))
			last = UINT64_MAX;
		if (last - id >= DAMAGE_FILES_MAX)
			return buf_printf(out, "; files of the ids from %" PRIu64 " to %" PRIu64,
					  id, last);
		for (err = 0; !err && id <= last; id++)
			err = append_file(fs, id, out);
		return err;
	}
	err = buf_printf(out, "; ");
	if (!err)
		err = kvfs_damage_text(problem->keyspace, problem->from, out);
	if (!err && !slice_equal(problem->from, problem->to)) {
		err = buf_printf(out, " to ");
		if (!err)
			err = problem->to.len
				      ? kvfs_damage_text(problem->keyspace, problem->to, out)
				      : buf_printf(out, "the last");
	}
	return err;
}
