/* SPDX-License-Identifier: MIT */
/*
 * lookup and getattr. A name costs one read, a name of a file with several
 * links two; that both see one state follows from fs->ns, under which no link
 * record changes.
 */
#include "fusefs/model/lookup.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

int lookup_follow(struct kvfs *fs, struct kv_txn *txn, struct inode_buf *b, enum node_state *state)
{
	struct model_key key;
	uint64_t id = b->r.id;
	uint32_t type = b->r.mode & S_IFMT;
	int err;

	*state = NODE_NAMED;
	if (b->r.kind == MODEL_RECORD_FULL)
		return 0;
	*state = NODE_LINKED;
	place_id(MODEL_INODES, id, &key);
	err = inode_get(fs, txn, &key, false, b);
	if (err == -KV_E_NOTFOUND)
		return -KV_E_CORRUPT;
	if (err)
		return err;
	if (b->r.kind != MODEL_RECORD_FULL || b->r.id != id || (b->r.mode & S_IFMT) != type)
		return -KV_E_CORRUPT;
	return 0;
}

int lookup_record(struct kvfs *fs, struct kv_txn *txn, struct kv_slice prefix, struct kv_slice name,
		  struct inode_buf *out, enum node_state *state)
{
	struct model_key key;
	int err;

	place_name(prefix, name, &key);
	err = inode_get(fs, txn, &key, false, out);
	if (err == -KV_E_NOTFOUND)
		return -ENOENT;
	return err ? err : lookup_follow(fs, txn, out, state);
}

int lookup_at(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, uint64_t id,
	      struct inode_buf *out)
{
	int err = inode_get(fs, txn, key, false, out);

	if (err == -KV_E_NOTFOUND)
		return -KV_E_CORRUPT;
	if (err)
		return err;
	if (out->r.kind != MODEL_RECORD_FULL || out->r.id != id)
		return -KV_E_CORRUPT;
	return 0;
}

int lookup_node(struct kvfs *fs, struct kv_txn *txn, const struct kvfs_node *node,
		struct inode_buf *out)
{
	struct model_key key;

	place_node(node, &key);
	return lookup_at(fs, txn, &key, node->ino, out);
}

static int lookup_attr(struct kvfs *fs, struct kvfs_node *node, struct kvfs_attr *attr)
{
	struct inode_buf rec = {0};
	int err;

	err = lookup_node(fs, NULL, node, &rec);
	if (!err) {
		(void)times_apply(fs, node, &rec.r);
		node_attr(node, &rec.r, attr);
	}
	inode_buf_free(&rec);
	return err;
}

int kvfs_getattr(struct kvfs *fs, struct kvfs_node *node, struct kvfs_attr *out)
{
	int err;

	os_rwlock_rdlock(&fs->ns);
	err = lookup_attr(fs, node, out);
	os_rwlock_rdunlock(&fs->ns);
	return err;
}

/* "." and "..": the node is there already. */
static int lookup_dots(struct kvfs *fs, struct kvfs_node *dir, bool up, struct kvfs_node **out,
		       struct kvfs_attr *attr)
{
	struct kvfs_node *node = up && dir->parent ? dir->parent : dir;
	struct kvfs_attr a;
	int err;

	err = lookup_attr(fs, node, &a);
	if (err)
		return err;
	node_ref(fs, node);
	*out = node;
	if (attr)
		*attr = a;
	return 0;
}

/* A file that has the name only for those who make it. */
static int lookup_unborn(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name,
			 struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct kvfs_node *node = stage_find_unborn(fs, dir, name);
	int err;

	if (!node)
		return -ENOENT;
	err = attr ? lookup_attr(fs, node, attr) : 0;
	/* The stage that it was found by keeps the node: this is not the last reference. */
	if (err)
		node_unref(fs, node, 1);
	else
		*out = node;
	return err;
}

static int lookup_name(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name,
		       struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct inode_buf rec = {0};
	enum node_state state;
	struct kvfs_node *node;
	int err;

	err = lookup_record(fs, NULL, place_node_prefix(dir), name, &rec, &state);
	if (!err)
		err = node_make(fs, &rec.r, state, dir, name, &node);
	if (err)
		goto out;
	if (attr) {
		(void)times_apply(fs, node, &rec.r);
		node_attr(node, &rec.r, attr);
	}
	*out = node;
out:
	inode_buf_free(&rec);
	return err;
}

static int lookup_entry(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name,
			struct kvfs_node **out, struct kvfs_attr *attr)
{
	int err = lookup_name(fs, dir, name, out, attr);

	return err == -ENOENT && stage_any(fs) ? lookup_unborn(fs, dir, name, out, attr) : err;
}

int kvfs_lookup(struct kvfs *fs, struct kvfs_node *dir, const char *name, struct kvfs_node **out,
		struct kvfs_attr *attr)
{
	struct kv_slice n = kv_slice_of(name, strlen(name));
	int err;

	if (n.len > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	os_rwlock_rdlock(&fs->ns);
	if (!node_is_dir(dir))
		err = -ENOTDIR;
	else if (!strcmp(name, ".") || !strcmp(name, ".."))
		err = lookup_dots(fs, dir, n.len == 2, out, attr);
	else if (place_check_name(n) || dir->state == NODE_ORPHAN)
		err = -ENOENT;
	else
		err = lookup_entry(fs, dir, n, out, attr);
	os_rwlock_rdunlock(&fs->ns);
	return err;
}

int kvfs_readlink(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *target)
{
	struct inode_buf rec = {0};
	int err;

	os_rwlock_rdlock(&fs->ns);
	err = lookup_node(fs, NULL, node, &rec);
	os_rwlock_rdunlock(&fs->ns);
	if (!err && (rec.r.mode & S_IFMT) != S_IFLNK)
		err = -EINVAL;
	if (!err)
		err = buf_assign(target, rec.r.contents);
	if (!err)
		times_accessed(fs, node, &rec.r);
	inode_buf_free(&rec);
	return err;
}
