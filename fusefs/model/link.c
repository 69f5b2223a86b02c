/* SPDX-License-Identifier: MIT */
/*
 * link. The second name moves the record to MODEL_INODES and leaves a link at
 * the first; it stays there even if the count falls to one again. A file that
 * has no name (it was unlinked, and is open) gets its record back at the name.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/edit.h"
#include "fusefs/model/link.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"

struct link_args {
	struct edit file, dir;
	struct kv_slice name;
	char *node_name;	  /* for a node that had no name */
	struct kvfs_node *former; /* its former parent */
	bool linked;		  /* committed, and a reference was added */
	bool staged;
};

static int link_put_links(struct kv_txn *txn, struct link_args *a, const struct model_key *key)
{
	struct inode link = {
		.kind = MODEL_RECORD_LINK, .mode = a->file.rec.r.mode, .id = a->file.rec.r.id};
	int err;

	if (a->file.node->state == NODE_NAMED) {
		err = inode_put(txn, &a->file.key, &link);
		if (err)
			return err;
		place_id(MODEL_INODES, link.id, &a->file.key);
	}
	err = edit_store(txn, &a->file);
	return err ? err : inode_put(txn, key, &link);
}

static int link_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct link_args *a = arg;
	struct model_key key;
	int err;

	err = node_check_dir(a->dir.node, false);
	if (err)
		return err;
	place_name(place_node_prefix(a->dir.node), a->name, &key);
	err = kv_txn_lock(txn, key.keyspace, model_key_slice(&key));
	if (!err)
		err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), NULL);
	if (err != -KV_E_NOTFOUND)
		return err ? err : -EEXIST;
	err = edit_load(fs, txn, &a->file);
	if (!err)
		err = inode_check_fixed(&a->file.rec.r);
	if (err)
		return err;
	if (a->file.rec.r.nlink >= KVFS_LINK_MAX)
		return -EMLINK;
	a->file.rec.r.nlink++;
	a->file.rec.r.ctime = a->dir.now;
	if (a->file.node->state == NODE_ORPHAN) {
		err = kv_txn_delete(txn, a->file.key.keyspace, model_key_slice(&a->file.key));
		a->file.key = key;
		if (!err)
			err = edit_store(txn, &a->file);
	} else {
		err = link_put_links(txn, a, &key);
	}
	return err ? err : edit_dir(fs, txn, &a->dir, 0);
}

static void link_done(struct kvfs *fs, void *arg)
{
	struct link_args *a = arg;
	struct kvfs_node *node = a->file.node;

	edit_done(fs, &a->file);
	edit_dir_done(fs, &a->dir);
	if (node->state == NODE_NAMED) {
		node->state = NODE_LINKED;
	} else if (node->state == NODE_ORPHAN) {
		node->state = NODE_NAMED;
		atomic_store(&node->unborn, false);
		a->former = node_move(fs, node, a->dir.node, a->node_name);
		a->node_name = NULL;
	}
	node_ref(fs, node);
	a->linked = true;
	a->staged = atomic_load(&node->stages) != 0;
}

static int link_node(struct kvfs *fs, struct kvfs_node *node, struct kvfs_node *dir,
		     const char *name, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct link_args a = {
		.file = {.node = node},
		.dir = {.node = dir, .now = inode_time(kvfs_now())},
		.name = kv_slice_of(name, strlen(name)),
	};
	struct retry_op op = {.run = link_run, .done = link_done, .arg = &a, .exclusive = true};
	int err;

	a.node_name = strdup(name);
	if (!a.node_name)
		return -ENOMEM;
	err = retry_write(fs, &op);
	if (!err && attr) {
		inode_attr(&a.file.rec.r, attr);
		attr->staged = a.staged;
	}
	if (!err && out)
		*out = node;
	else if (a.linked)
		node_unref(fs, node, 1);
	node_release(fs, a.former);
	free(a.node_name);
	edit_free(&a.file);
	edit_free(&a.dir);
	return err;
}

int link_unborn(struct kvfs *fs, struct kvfs_node *node, const char *name)
{
	return link_node(fs, node, node->parent, name, NULL, NULL);
}

int kvfs_link(struct kvfs *fs, struct kvfs_node *node, struct kvfs_node *dir, const char *name,
	      struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct kv_slice n = kv_slice_of(name, strlen(name));
	int err;

	if (node_is_dir(node))
		return -EPERM;
	err = place_check_name(n);
	if (!err)
		err = stage_settle(fs, dir, n, true);
	if (!err)
		err = stage_settle_node(fs, node);
	return err ? err : link_node(fs, node, dir, name, out, attr);
}
