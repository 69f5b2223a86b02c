/* SPDX-License-Identifier: MIT */
/*
 * Putting and deleting keys. Directories are found by reads outside the
 * transaction, or through it when it made some itself; with fs->ns held none
 * that is there can move or go. Whoever makes a missing directory first holds
 * its key's lock, and another finds it then.
 */
#include "fusefs/model/key_change.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/content.h"
#include "fusefs/model/create.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

/* ---- nodes ---- */

static int key_nodes_add(struct key_nodes *n, const struct key_node *node)
{
	return buf_append(&n->list, node, sizeof(*node));
}

void key_nodes_settle(struct kvfs *fs, struct key_nodes *n)
{
	struct key_node e;

	for (size_t off = 0; off < n->list.len; off += sizeof(e)) {
		memcpy(&e, n->list.data + off, sizeof(e));
		if (e.kind == KEY_NODE_ORPHAN)
			e.node->state = NODE_ORPHAN;
		else if (e.kind == KEY_NODE_DEFERRED)
			times_defer(fs, e.node, NODE_PENDING_MTIME | NODE_PENDING_CTIME, e.now);
		else if (e.kind == KEY_NODE_STORED)
			times_settled(fs, e.node, e.seq);
	}
}

void key_nodes_free(struct kvfs *fs, struct key_nodes *n)
{
	struct key_node e;

	for (size_t off = 0; off < n->list.len; off += sizeof(e)) {
		memcpy(&e, n->list.data + off, sizeof(e));
		node_unref(fs, e.node, 1);
	}
	kv_buf_free(&n->list);
	n->touched.len = 0;
}

/* The record will be written: pending times of its node, if there is one, go with it. */
static int key_apply_pending(const struct key_op *op, struct inode *r)
{
	struct key_node e = {.node = node_find(op->fs, r->id), .kind = KEY_NODE_STORED};

	if (!e.node)
		return 0;
	e.seq = times_apply(op->fs, e.node, r);
	/* Room was made by key_nodes_reserve(). */
	return key_nodes_add(op->nodes, &e);
}

/* So that a node found is never lost for lack of memory. */
static int key_nodes_reserve(struct key_nodes *n)
{
	return buf_reserve(&n->list, 4 * sizeof(struct key_node));
}

/* ---- directories ---- */

static int key_check_dir(const struct inode *dir, bool removes)
{
	if (!inode_is_dir(dir))
		return -KV_E_CORRUPT;
	return removes ? inode_check_fixed(dir) : inode_check_immutable(dir);
}

/* The record of the directory in which an entry is made or removed. */
static int key_touch_dir(const struct key_op *op, const struct model_key *key, int nlink,
			 bool removes)
{

	struct inode_buf dir = {0};
	struct key_node e = {.kind = KEY_NODE_DEFERRED, .now = op->now};
	int err;

	/* Many keys of one directory in one transaction: once is enough. */
	if (!nlink && op->nodes->touched.keyspace == key->keyspace &&
	    slice_equal(model_key_slice(&op->nodes->touched), model_key_slice(key)))
		return 0;
	if (op->fs->lazytime && !nlink) {
		err = inode_get(op->fs, op->txn, key, false, &dir);
		if (!err)
			err = key_check_dir(&dir.r, removes);
		if (err)
			goto out;
		e.node = node_find(op->fs, dir.r.id);
		if (e.node) {
			err = key_nodes_add(op->nodes, &e);
			goto out;
		}
	}
	err = inode_get(op->fs, op->txn, key, true, &dir);
	if (!err)
		err = key_check_dir(&dir.r, removes);
	if (!err)
		err = key_apply_pending(op, &dir.r);
	if (err)
		goto out;
	dir.r.nlink += (uint32_t)nlink;
	dir.r.mtime = op->now;
	dir.r.ctime = op->now;
	err = inode_put(op->txn, key, &dir.r);
out:
	if (!err && !(dir.r.flags & MODEL_FLAG_APPEND))
		op->nodes->touched = *key; /* nothing more to check or to change */
	inode_buf_free(&dir);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* What a new entry takes from its directory. */
static int key_inherit(const struct key_op *op, const struct model_key *dir_key, struct inode *r,
		       struct kv_buf *xattrs)
{
	struct inode_buf dir = {0};
	int err;

	err = inode_get(op->fs, op->reader, dir_key, false, &dir);
	if (err == -KV_E_NOTFOUND) /* made in this transaction */
		err = inode_get(op->fs, op->txn, dir_key, false, &dir);
	if (!err)
		err = inode_check_immutable(&dir.r);
	if (!err)
		err = create_inherit(op->txn, r, &dir.r, op->owner, xattrs);
	inode_buf_free(&dir);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

static int key_new_record(const struct key_op *op, uint32_t mode, struct inode *out)
{
	*out = (struct inode){
		.kind = MODEL_RECORD_FULL,
		.mode = mode,
		.nlink = (mode & S_IFMT) == S_IFDIR ? 2 : 1,
		.atime = op->now,
		.mtime = op->now,
		.ctime = op->now,
		.btime = op->now,
	};
	return kvfs_new_id(op->fs, &out->id);
}

/* Make the directory @name below @place, unless somebody just did, and go into it. */
static int key_make_dir(const struct key_op *op, struct key_place *place, struct kv_slice name)
{
	struct inode_buf rec = {0};
	struct kv_buf xattrs = {0};
	uint8_t fresh[MODEL_FRESH_LEN];
	struct model_key at, prefix;
	int err;

	place_name(model_key_slice(&place->prefix), name, &at);
	err = inode_get(op->fs, op->txn, &at, true, &rec);
	if (!err && !inode_is_dir(&rec.r))
		err = (rec.r.mode & S_IFMT) == S_IFLNK ? -ELOOP : -ENOTDIR;
	if (err != -KV_E_NOTFOUND)
		goto out;
	err = key_new_record(op, S_IFDIR | 0755, &rec.r);
	if (!err)
		err = key_inherit(op, &place->dir, &rec.r, &xattrs);
	if (!err)
		err = create_choose_prefix(op->fs, op->txn, model_key_slice(&place->prefix), name,
					   &rec.r, fresh);
	if (!err)
		err = inode_put(op->txn, &at, &rec.r);
	if (!err)
		err = key_touch_dir(op, &place->dir, 1, false);
out:
	if (!err) {
		place_prefix(&rec.r, model_key_slice(&place->prefix), name, &prefix);
		place->prefix = prefix;
		place->dir = at;
	}
	kv_buf_free(&xattrs);
	inode_buf_free(&rec);
	return err;
}

static int key_make_parents(const struct key_op *op, struct key_place *place)
{
	struct kv_slice rest = place->missing, name;
	const uint8_t *slash;
	int err = 0;

	while (!err && rest.len) {
		slash = memchr(rest.data, '/', rest.len);
		name = kv_slice_of(rest.data, slash ? (size_t)(slash - rest.data) : rest.len);
		rest = kv_slice_of(rest.data + name.len + 1, rest.len - name.len - 1);
		err = key_nodes_reserve(op->nodes);
		if (!err)
			err = key_make_dir(op, place, name);
	}
	return err;
}

/* ---- put and delete ---- */

static int key_create(const struct key_op *op, const struct key_place *place,
		      const struct model_key *at, struct kv_slice value)
{
	struct content_edit content = {0};
	struct kv_buf xattrs = {0};
	struct inode r;
	int err;

	err = key_new_record(op, S_IFREG | 0644, &r);
	if (!err)
		err = key_inherit(op, &place->dir, &r, &xattrs);
	if (!err)
		err = content_replace(op->fs, op->txn, &r, value, &content);
	if (!err)
		err = inode_put(op->txn, at, &r);
	if (!err)
		err = key_touch_dir(op, &place->dir, 0, false);
	content_edit_free(&content);
	kv_buf_free(&xattrs);
	return err;
}

/* The file at @at is there: @rec. */
static int key_replace(const struct key_op *op, struct model_key *at, struct inode_buf *rec,
		       struct kv_slice value)
{
	struct content_edit content = {0};
	int err = 0;

	if (inode_is_dir(&rec->r))
		return -EISDIR;
	if ((rec->r.mode & S_IFMT) != S_IFREG)
		return -EINVAL;
	if (rec->r.kind == MODEL_RECORD_LINK) {
		place_id(MODEL_INODES, rec->r.id, at);
		err = inode_get(op->fs, op->txn, at, true, rec);
		if (err == -KV_E_NOTFOUND || (!err && rec->r.kind != MODEL_RECORD_FULL))
			err = -KV_E_CORRUPT;
	}
	if (!err)
		err = inode_check_fixed(&rec->r);
	if (!err)
		err = key_apply_pending(op, &rec->r);
	if (!err)
		err = content_replace(op->fs, op->txn, &rec->r, value, &content);
	if (!err) {
		rec->r.mtime = op->now;
		rec->r.ctime = op->now;
		err = inode_put(op->txn, at, &rec->r);
	}
	content_edit_free(&content);
	return err;
}

int key_put(const struct key_op *op, struct kv_slice key, struct kv_slice value)
{
	struct inode_buf rec = {0};
	struct key_place place;
	struct model_key at;
	int err;

	err = key_nodes_reserve(op->nodes);
	if (!err)
		err = key_find(op->fs, op->reader, key, &place);
	if (!err)
		err = key_make_parents(op, &place);
	if (!err)
		err = key_nodes_reserve(op->nodes);
	if (err)
		return err;
	place_name(model_key_slice(&place.prefix), place.name, &at);
	err = inode_get(op->fs, op->txn, &at, true, &rec);
	if (err == -KV_E_NOTFOUND)
		err = key_create(op, &place, &at, value);
	else if (!err)
		err = key_replace(op, &at, &rec, value);
	inode_buf_free(&rec);
	return err;
}

int key_delete(const struct key_op *op, struct kv_slice key)
{
	struct remove_name gone = {0};
	struct inode_buf rec = {0};
	struct key_place place;
	struct key_node e;
	struct model_key at;
	int err;

	err = key_nodes_reserve(op->nodes);
	if (!err)
		err = key_find(op->fs, op->reader, key, &place);
	if (!err && place.missing.len)
		err = -KV_E_NOTFOUND;
	if (err)
		return err;
	place_name(model_key_slice(&place.prefix), place.name, &at);
	err = inode_get(op->fs, op->txn, &at, true, &rec);
	if (!err && inode_is_dir(&rec.r))
		err = -EISDIR;
	if (!err && (rec.r.mode & S_IFMT) != S_IFREG)
		err = -EINVAL;
	if (!err)
		err = kv_txn_delete(op->txn, at.keyspace, model_key_slice(&at));
	if (err)
		goto out;
	err = remove_name(op->fs, op->txn, &rec.r, op->now, &gone);
	if (gone.node) {
		e = (struct key_node){.node = gone.node,
				      .kind = gone.last ? KEY_NODE_ORPHAN : KEY_NODE_STORED,
				      .seq = gone.seq};
		/* Room was made above: the reference is never lost. */
		if (key_nodes_add(op->nodes, &e) && !err)
			err = -ENOMEM;
	}
	if (!err)
		err = key_touch_dir(op, &place.dir, 0, true);
out:
	inode_buf_free(&gone.linked);
	inode_buf_free(&rec);
	return err;
}
