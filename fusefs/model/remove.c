/* SPDX-License-Identifier: MIT */
/*
 * unlink, rmdir and orphans. A file that somebody looks at when its last name
 * goes is moved to MODEL_ORPHANS in the same transaction, and is deleted at its
 * last forget or, after a crash, at the next open. Contents of few chunks are
 * deleted key by key, those of many by one range.
 *
 * A file that is nothing but its record is not moved: the node keeps the record.
 * Nobody could look at it after a crash, and there would be nothing to sweep. The
 * first change of such a file stores it.
 */
#include "fusefs/model/remove.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"
#include "fusefs/model/times.h"
#include "fusefs/model/draft.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"

int remove_contents(struct kv_txn *txn, const struct inode *r)
{
	struct model_key from, to;
	int err = 0;

	if (r->flags & MODEL_FLAG_CHUNKS)
		err = chunk_remove_all(txn, r);
	if (!err && (r->flags & MODEL_FLAG_XATTRS)) {
		place_id(MODEL_XATTRS, r->id, &from);
		place_id(MODEL_XATTRS, r->id + 1, &to);
		err = kv_txn_delete_range(txn, MODEL_XATTRS, model_key_slice(&from),
					  model_key_slice(&to));
	}
	return err;
}

/* All nodes together keep no more than this; then records are stored. */
#define REMOVE_KEEP_MAX (8U * 1024 * 1024)

/*
 * In a draft: whether others may look at the file, which the draft does not know. Its
 * contents and its record as an orphan stay until the commit, which does.
 */
static bool remove_is_shared(const struct kvfs *fs, uint64_t id)
{
	return fs->live && id < fs->first_id;
}

/* For the node to keep the record, which is all there is of the file. */
static bool remove_keep(struct kvfs *fs, const struct inode *r, struct remove_name *n)
{
	uint8_t raw[MODEL_RECORD_MAX];
	size_t len;

	if (!n->keep || !n->node || remove_is_shared(fs, r->id) ||
	    (r->flags & (MODEL_FLAG_CHUNKS | MODEL_FLAG_XATTRS)) || n->node->orphan ||
	    atomic_load_explicit(&fs->orphan_bytes, memory_order_relaxed) > REMOVE_KEEP_MAX)
		return false;
	len = inode_encode(r, raw);
	free(n->orphan);
	n->orphan = malloc(len);
	if (!n->orphan)
		return false;
	memcpy(n->orphan, raw, len);
	n->orphan_len = (uint16_t)len;
	return true;
}

/* The file of @r has no name any more. */
static int remove_last(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t now,
		       struct remove_name *n)
{
	struct model_key key;
	int err;

	n->last = true;
	err = inode_check_fixed(r);
	if (err)
		return err;
	if (r->flags & MODEL_FLAG_PREFIX) {
		err = kv_txn_delete(txn, MODEL_PREFIXES, r->prefix);
		if (err)
			return err;
		r->flags &= (uint8_t)~MODEL_FLAG_PREFIX;
		r->prefix.len = 0;
	}
	if (!n->node && !remove_is_shared(fs, r->id))
		return remove_contents(txn, r);
	if (n->node)
		(void)times_apply(fs, n->node, r);
	r->nlink = 0;
	r->ctime = now;
	if (remove_keep(fs, r, n))
		return 0;
	place_id(MODEL_ORPHANS, r->id, &key);
	return inode_put(txn, &key, r);
}

int remove_name(struct kvfs *fs, struct kv_txn *txn, const struct inode *r, uint64_t now,
		struct remove_name *n)
{
	struct inode file = *r;
	struct model_key key;
	int err;

	n->last = false;
	n->stored = false;
	n->node = node_find(fs, r->id);
	if (r->kind == MODEL_RECORD_FULL)
		return remove_last(fs, txn, &file, now, n);
	place_id(MODEL_INODES, r->id, &key);
	err = inode_get(fs, txn, &key, true, &n->linked);
	if (err)
		return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
	file = n->linked.r;
	if (file.kind != MODEL_RECORD_FULL || !file.nlink)
		return -KV_E_CORRUPT;
	err = inode_check_fixed(&file);
	if (err)
		return err;
	if (file.nlink > 1) {
		if (n->node)
			n->seq = times_apply(fs, n->node, &file);
		n->stored = true;
		file.nlink--;
		file.ctime = now;
		return inode_put(txn, &key, &file);
	}
	err = kv_txn_delete(txn, MODEL_INODES, model_key_slice(&key));
	return err ? err : remove_last(fs, txn, &file, now, n);
}

void remove_name_done(struct kvfs *fs, struct remove_name *n)
{
	if (n->node && n->last) {
		n->node->state = NODE_ORPHAN;
		if (n->orphan) {
			n->node->orphan = n->orphan;
			n->node->orphan_len = n->orphan_len;
			n->orphan = NULL;
			atomic_fetch_add(&fs->orphan_bytes, n->orphan_len);
		}
	} else if (n->node && n->stored)
		times_settled(fs, n->node, n->seq);
}

void remove_name_free(struct kvfs *fs, struct remove_name *n)
{
	inode_buf_free(&n->linked);
	free(n->orphan);
	n->orphan = NULL;
	node_unref(fs, n->node, 1);
	n->node = NULL;
}

/* ---- unlink and rmdir ---- */

struct remove_args {
	struct edit dir;
	struct kv_slice name;
	bool want_dir;
	struct inode_buf rec;
	struct remove_name gone;
};

static int remove_check_kind(struct kv_txn *txn, const struct remove_args *a)
{
	struct model_key prefix;
	bool has_child;
	int err;

	if (inode_is_dir(&a->rec.r) != a->want_dir)
		return a->want_dir ? -ENOTDIR : -EISDIR;
	if (!a->want_dir)
		return 0;
	err = inode_check_fixed(&a->rec.r); /* asked first, whether it is empty or not */
	if (err)
		return err;
	place_prefix(&a->rec.r, place_node_prefix(a->dir.node), a->name, &prefix);
	err = place_has_child(txn, model_key_slice(&prefix), &has_child);
	if (err)
		return err;
	return has_child ? -ENOTEMPTY : 0;
}

static int remove_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct remove_args *a = arg;
	int nlink = a->want_dir ? -1 : 0;
	struct model_key key;
	int err;

	err = node_check_dir(a->dir.node, true);
	if (err)
		return err;
	place_name(place_node_prefix(a->dir.node), a->name, &key);
	err = kv_txn_lock(txn, key.keyspace, model_key_slice(&key));
	if (!err && edit_dir_writes(fs, nlink))
		err = edit_lock(txn, &a->dir);
	if (!err)
		err = inode_get(fs, txn, &key, true, &a->rec);
	if (err)
		return err == -KV_E_NOTFOUND ? -ENOENT : err;
	err = remove_check_kind(txn, a);
	if (err)
		return err;
	err = kv_txn_delete(txn, key.keyspace, model_key_slice(&key));
	if (!err)
		err = remove_name(fs, txn, &a->rec.r, a->dir.now, &a->gone);
	if (!err)
		err = edit_dir(fs, txn, &a->dir, nlink);
	return err;
}

static void remove_done(struct kvfs *fs, void *arg)
{
	struct remove_args *a = arg;

	remove_name_done(fs, &a->gone);
	edit_dir_done(fs, &a->dir);
}

static void remove_again(struct kvfs *fs, void *arg)
{
	struct remove_args *a = arg;

	remove_name_free(fs, &a->gone);
}

static int remove_entry(struct kvfs *fs, struct kvfs_node *dir, const char *name, bool want_dir)
{
	struct remove_args a = {
		.dir = {.node = dir, .now = inode_time(kvfs_now())},
		.name = kv_slice_of(name, strlen(name)),
		.want_dir = want_dir,
		.gone = {.keep = true},
	};
	struct retry_op op = {.run = remove_run,
			      .done = remove_done,
			      .again = remove_again,
			      .arg = &a,
			      .exclusive = true,
			      .frees = true};
	int err;

	if (want_dir && !strcmp(name, ".."))
		return -ENOTEMPTY;
	err = place_check_name(a.name);
	if (!err)
		err = stage_settle(fs, dir, a.name, true);
	if (!err && want_dir)
		err = stage_settle_below(fs, dir, a.name);
	if (!err)
		err = retry_write(fs, &op);
	remove_name_free(fs, &a.gone);
	inode_buf_free(&a.rec);
	edit_free(&a.dir);
	return err;
}

int kvfs_unlink(struct kvfs *fs, struct kvfs_node *dir, const char *name)
{
	return remove_entry(fs, dir, name, false);
}

int kvfs_rmdir(struct kvfs *fs, struct kvfs_node *dir, const char *name)
{
	return remove_entry(fs, dir, name, true);
}

/* ---- orphans ---- */

struct remove_orphan_args {
	uint64_t id;
	struct inode_buf rec;
};

static int remove_orphan_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct remove_orphan_args *a = arg;
	struct model_key key;
	int err;

	place_id(MODEL_ORPHANS, a->id, &key);
	err = inode_get(fs, txn, &key, true, &a->rec);
	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	if (a->rec.r.kind != MODEL_RECORD_FULL || a->rec.r.id != a->id)
		return -KV_E_CORRUPT;
	err = remove_contents(txn, &a->rec.r);
	return err ? err : kv_txn_delete(txn, MODEL_ORPHANS, model_key_slice(&key));
}

int remove_get_orphan(struct kvfs *fs, uint64_t id, struct kv_buf *value)
{
	struct kvfs_node *node = node_find(fs, id);
	int err = -KV_E_NOTFOUND;

	if (node && node->orphan)
		err = buf_assign(value, kv_slice_of(node->orphan, node->orphan_len));
	if (node)
		node_unref(fs, node, 1);
	return err;
}

void remove_orphan_node(struct kvfs *fs, struct kvfs_node *node)
{
	struct model_key key;

	if (fs->live && (remove_is_shared(fs, node->ino) || draft_ended(fs)))
		return;
	if (node->orphan) {
		atomic_fetch_sub(&fs->orphan_bytes, node->orphan_len);
		place_id(MODEL_ORPHANS, node->ino, &key);
		if (inode_read(fs, NULL, &key, NULL) == -KV_E_NOTFOUND)
			return;
	}
	remove_orphan(fs, node->ino);
}

void remove_orphan(struct kvfs *fs, uint64_t id)
{
	struct remove_orphan_args a = {.id = id};
	struct retry_op op = {.run = remove_orphan_run, .arg = &a, .frees = true};
	int err = retry_write(fs, &op);

	if (err)
		logmsg(&fs->log, KV_LOG_WARN, "model: orphan not deleted id=%llu: %s",
		       (unsigned long long)id, kv_strerror(err));
	inode_buf_free(&a.rec);
}

#define REMOVE_SWEEP 256U

/* Up to REMOVE_SWEEP ids of MODEL_ORPHANS after @after. */
static int remove_list_orphans(struct kvfs *fs, uint64_t after, uint64_t *ids, size_t *count)
{
	struct model_key key;
	struct kv_iter *it;
	struct kv_txn *txn;
	int err;

	*count = 0;
	err = retry_begin_read(fs, &txn);
	if (err)
		return err;
	err = kv_iter_open(txn, MODEL_ORPHANS, NULL, &it);
	if (err)
		goto out;
	place_id(MODEL_ORPHANS, after + 1, &key);
	err = kv_iter_seek(it, model_key_slice(&key));
	while (!err && *count < REMOVE_SWEEP) {
		struct kv_slice k = kv_iter_key(it);

		if (k.len == 8)
			ids[(*count)++] = be64_at(k.data);
		err = kv_iter_next(it);
	}
	kv_iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = 0;
out:
	retry_end_read(fs, txn);
	return err;
}

int remove_all_orphans(struct kvfs *fs)
{
	uint64_t ids[REMOVE_SWEEP];
	uint64_t after = 0;
	size_t count;
	int err;

	do {
		err = remove_list_orphans(fs, after, ids, &count);
		if (err)
			return err;
		for (size_t i = 0; i < count; i++)
			remove_orphan(fs, ids[i]);
		if (count)
			after = ids[count - 1];
	} while (count == REMOVE_SWEEP);
	return 0;
}
