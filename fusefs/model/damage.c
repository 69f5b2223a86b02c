/* SPDX-License-Identifier: MIT */
/*
 * Engine keys in the words of files. When a page of the engine is damaged only
 * keys are known, among them bounds that are no whole keys; fsck turns them into
 * paths and file ids with this, and needs no volume for it.
 */
#include "fusefs/model/kvfs_damage.h"

#include <errno.h>
#include <inttypes.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define DAMAGE_FILES_MAX 64U /* that are named one by one */

static uint64_t id_at(struct kv_slice key)
{
	uint64_t id = 0;

	for (size_t i = 0; i < 8; i++)
		id = id << 8 | (i < key.len ? key.data[i] : 0U);
	return id;
}

enum kvfs_damage_kind kvfs_damage_id(unsigned keyspace, struct kv_slice key, uint64_t *id)
{
	switch (keyspace) {
	case MODEL_INODES:
	case MODEL_XATTRS:
	case MODEL_ORPHANS:
		*id = id_at(key);
		return KVFS_DAMAGE_FILE;
	case MODEL_DATA:
	case MODEL_SHARED:
		*id = id_at(key);
		return KVFS_DAMAGE_CONTENTS;
	default:
		return KVFS_DAMAGE_OTHER;
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

	if (kvfs_damage_id(keyspace, key, &id) != KVFS_DAMAGE_OTHER)
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

/* ---- contents, which several files may have ---- */

struct damage_search {
	struct kvfs *fs;
	uint64_t from, to;  /* numbers of contents, both included */
	struct kv_buf *out; /* the paths */
	unsigned found;
};

/* The record itself, if @r only points to it. */
static int follow_link(struct kvfs *fs, struct kv_txn *txn, const struct inode *r,
		       struct inode_buf *out)
{
	struct model_key key;

	place_id(MODEL_INODES, r->id, &key);
	return inode_get(fs, txn, &key, false, out);
}

static int on_entry(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct damage_search *s = ctx;
	struct inode_buf linked = {0};
	uint64_t id;
	int err = 0;

	if (r->kind == MODEL_RECORD_LINK) {
		err = follow_link(s->fs, txn, r, &linked);
		r = &linked.r;
	}
	id = err ? 0 : inode_content(r);
	if (!err && r->flags & MODEL_FLAG_CHUNKS && id >= s->from && id <= s->to) {
		err = buf_printf(s->out, "; file /");
		if (!err)
			err = append_path(s->out, path);
		s->found++;
	}
	inode_buf_free(&linked);
	return err ? err : s->found == DAMAGE_FILES_MAX;
}

static int append_contents(struct kvfs *fs, uint64_t from, uint64_t to, struct kv_buf *out)
{
	struct damage_search s = {.fs = fs, .from = from, .to = to, .out = out};
	struct walk w = {.visit = on_entry, .ctx = &s, .prefix = kv_buf_slice(&fs->top_path)};
	struct kv_txn *txn;
	int err = retry_begin_read(fs, &txn);

	if (err)
		return err;
	err = walk_run(txn, &w);
	retry_end_read(fs, txn);
	if (err > 0)
		return buf_printf(out, "; and maybe more");
	if (err == -ENOMEM)
		return err;
	if (err) /* the names may be damaged, too */
		return buf_printf(out, "; names could not be read: %s", kv_strerror(err));
	return s.found ? 0 : buf_printf(out, "; file id %" PRIu64, from);
}

int kvfs_node_contents(struct kvfs *fs, struct kvfs_node *node, uint64_t *id)
{
	struct inode_buf rec = {0};
	struct model_key key;
	struct kv_txn *txn;
	int err;

	os_rwlock_rdlock(&fs->ns);
	place_node(node, &key);
	err = retry_begin_read(fs, &txn);
	if (!err) {
		err = inode_get(fs, txn, &key, false, &rec);
		retry_end_read(fs, txn);
	}
	os_rwlock_rdunlock(&fs->ns);
	*id = err ? 0 : inode_content(&rec.r);
	inode_buf_free(&rec);
	return err;
}

static int append_files(struct kvfs *fs, uint64_t from, uint64_t to, struct kv_buf *out)
{
	int err = 0;

	for (uint64_t id = from; !err && id <= to; id++)
		err = append_file(fs, id, out);
	return err;
}

int kvfs_damage_where(struct kvfs *fs, const struct kv_problem *problem, struct kv_buf *out)
{
	enum kvfs_damage_kind kind;
	uint64_t id;
	uint64_t last;
	int err;

	if (!(problem->keyspace + problem->from.len + problem->to.len))
		return 0;
	kind = kvfs_damage_id(problem->keyspace, problem->from, &id);
	if (kind != KVFS_DAMAGE_OTHER) {
		if (!problem->to.len || !kvfs_damage_id(problem->keyspace, problem->to, &last))
			last = UINT64_MAX;
		if (kind == KVFS_DAMAGE_CONTENTS)
			return append_contents(fs, id, last, out);
		if (last - id >= DAMAGE_FILES_MAX)
			return buf_printf(out, "; files of the ids from %" PRIu64 " to %" PRIu64,
					  id, last);
		return append_files(fs, id, last, out);
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
