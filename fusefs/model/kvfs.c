/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing a volume as a file system, and what concerns all of it.
 * File ids are reserved in blocks, one transaction a block, so that no counter
 * is written by every create; what is left of a block at close is never used.
 */
#include "fusefs/model/kvfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fusefs/model/node.h"
#include "fusefs/model/open.h"
#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

#define KVFS_STAT_BLOCK	    4096U
#define KVFS_BYTES_PER_FILE 256U /* of a small file and its record, for estimates */

struct kvfs_time kvfs_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (struct kvfs_time){ts.tv_sec, (uint32_t)ts.tv_nsec};
}

int kvfs_writable(const struct kvfs *fs)
{
	return atomic_load_explicit(&fs->readonly, memory_order_relaxed) ? -KV_E_READONLY : 0;
}

/* Reserve the next block of ids; fs->id_mu is held. */
static int kvfs_reserve_ids(struct kvfs *fs)
{
	struct model_key key;
	struct kv_buf value = {0};
	struct kv_txn *txn;
	struct le64 next;
	int err;

	place_meta("next_id", &key);
	err = kv_txn_begin(fs->db, NULL, &txn);
	if (err)
		return err;
	err = kv_txn_get_for_update(txn, MODEL_META, model_key_slice(&key), &value);
	if (err)
		goto out;
	if (value.len != sizeof(next)) {
		err = -KV_E_CORRUPT;
		goto out;
	}
	memcpy(&next, value.data, sizeof(next));
	fs->id_next = le64_get(next);
	if (fs->id_next < MODEL_ID_FIRST || fs->id_next > UINT64_MAX - MODEL_ID_BLOCK) {
		fs->id_next = fs->id_end;
		err = -KV_E_CORRUPT;
		goto out;
	}
	next = le64_of(fs->id_next + MODEL_ID_BLOCK);
	err = kv_txn_put(txn, MODEL_META, model_key_slice(&key), kv_slice_of(&next, sizeof(next)));
	if (err)
		goto out;
	err = kv_txn_commit(txn, 0, NULL);
	txn = NULL;
	if (!err)
		fs->id_end = fs->id_next + MODEL_ID_BLOCK;
out:
	kv_txn_abort(txn);
	kv_buf_free(&value);
	return err;
}

int kvfs_new_id(struct kvfs *fs, uint64_t *out)
{
	int err = kvfs_writable(fs);

	if (err)
		return err;
	if (fs->live) /* all trees take them from one */
		return kvfs_new_id(fs->live, out);
	os_mutex_lock(&fs->id_mu);
	if (fs->id_next == fs->id_end) {
		err = kvfs_reserve_ids(fs);
		if (err)
			fs->id_next = fs->id_end;
	}
	if (!err)
		*out = fs->id_next++;
	os_mutex_unlock(&fs->id_mu);
	return err;
}

struct kvfs_node *kvfs_root(struct kvfs *fs)
{
	return &fs->root;
}

struct kvfs_node *kvfs_node_by_ino(struct kvfs *fs, uint64_t ino)
{
	struct kvfs_node *node = node_find(fs, ino);

	/* The caller knows that somebody else has a reference. */
	node_unref(fs, node, 1);
	return node;
}

uint64_t kvfs_node_ino(const struct kvfs_node *node)
{
	return node->ino;
}

uint64_t kvfs_node_parent_ino(struct kvfs *fs, struct kvfs_node *node)
{
	uint64_t ino;

	os_rwlock_rdlock(&fs->ns);
	ino = node->parent ? node->parent->ino : node->ino;
	os_rwlock_rdunlock(&fs->ns);
	return ino;
}

void kvfs_node_forget(struct kvfs *fs, struct kvfs_node *node, uint64_t refs)
{
	node_unref(fs, node, refs);
}

struct kv_db *kvfs_db(struct kvfs *fs)
{
	return fs->db;
}

int kvfs_sync(struct kvfs *fs)
{
	return fs->opened_readonly ? 0 : kv_sync(fs->db);
}

int kvfs_set_readonly(struct kvfs *fs, bool readonly)
{
	int err;

	if (fs->opened_readonly)
		return readonly ? 0 : -KV_E_READONLY;
	if (readonly && !kvfs_writable(fs)) {
		err = node_table_each(fs, times_flush);
		if (!err)
			err = kv_sync(fs->db);
		if (err)
			return err;
	}
	atomic_store(&fs->readonly, readonly);
	return 0;
}

int kvfs_statfs(struct kvfs *fs, struct kvfs_statfs *out)
{
	struct kv_db_info info;
	struct kvfs_statfs s = {.block_size = KVFS_STAT_BLOCK};
	uint64_t entries = 0;
	int err;

	err = kv_get_info(fs->db, &info);
	if (err)
		return err;
	for (unsigned i = 0; i < KV_LEVELS; i++)
		entries += info.level[i].entries;
	s.blocks = (info.used + info.free) / KVFS_STAT_BLOCK;
	s.blocks_free = info.free / KVFS_STAT_BLOCK;
	s.blocks_avail = s.blocks_free;
	s.files_free = info.free / KVFS_BYTES_PER_FILE;
	s.files = entries + s.files_free;
	*out = s;
	return 0;
}

int kvfs_node_path(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *out)
{
	struct kv_buf path = {0};
	const struct kvfs_node **chain = NULL;
	const struct kvfs_node *n;
	size_t depth = 0;
	int err = 0;

	os_rwlock_rdlock(&fs->ns);
	/* Up to a root of whatever view: a snapshot's node has its own. */
	for (n = node; n->parent; n = n->parent)
		depth++;
	chain = calloc(depth + 1, sizeof(const struct kvfs_node *));
	if (!chain)
		err = -ENOMEM;
	for (n = node, depth = 0; !err && n->parent; n = n->parent)
		chain[depth++] = n;
	if (!err && !depth)
		err = buf_append_byte(&path, '/');
	while (!err && depth) {
		n = chain[--depth];
		err = buf_append_byte(&path, '/');
		if (!err)
			err = buf_append_escaped(&path, kv_slice_of(n->name, strlen(n->name)));
	}
	if (!err && node->state == NODE_ORPHAN)
		err = buf_printf(&path, " (deleted)");
	os_rwlock_rdunlock(&fs->ns);
	free(chain);
	if (err) {
		kv_buf_free(&path);
		return err;
	}
	kv_buf_free(out);
	*out = path;
	return 0;
}
