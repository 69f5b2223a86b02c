/* SPDX-License-Identifier: MIT */
/*
 * mknod, mkdir, symlink and tmpfile. The node is made before the transaction with the
 * id that the file will have, so that after the commit nothing can fail. A
 * directory gets its natural prefix, unless a directory that was moved away
 * still uses it or it would be too long: then one made from its id.
 */
#include "fusefs/model/create.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/acl.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"

/* With room for a directory's fresh prefix. */
struct create_args {
	struct edit dir;
	struct kv_slice name;
	const struct kvfs_owner *owner;
	struct inode r; /* mode and contents are set by the caller */
	uint32_t mode;	/* as asked for */
	struct kv_buf xattrs;
	bool want_node, published;
	bool unnamed; /* for kvfs_tmpfile() */
	bool unborn;  /* unnamed until its first contents are complete */
	struct kvfs_node *node;
	uint8_t prefix[MODEL_FRESH_LEN];
};

int create_choose_prefix(struct kvfs *fs, struct kv_txn *txn, struct kv_slice parent,
			 struct kv_slice name, struct inode *r, uint8_t *fresh)
{
	struct model_key key;
	uint8_t id[8];
	int err = -KV_E_NOTFOUND;

	place_natural(parent, name, &key);
	if (key.len <= MODEL_PREFIX_MAX) {
		if (atomic_load(&fs->displaced))
			err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), NULL);
		if (err == -KV_E_NOTFOUND)
			return 0;
		if (err)
			return err;
	}
	place_fresh(r->id, &key);
	memcpy(fresh, key.b, MODEL_FRESH_LEN);
	r->prefix = kv_slice_of(fresh, MODEL_FRESH_LEN);
	r->flags |= MODEL_FLAG_PREFIX;
	be64_put(id, r->id);
	atomic_store(&fs->displaced, true);
	return kv_txn_put(txn, key.keyspace, r->prefix, kv_slice_of(id, sizeof(id)));
}

int create_inherit(struct kv_txn *txn, struct inode *r, const struct inode *dir,
		   const struct kvfs_owner *owner, struct kv_buf *xattrs)
{
	r->uid = owner->uid;
	r->gid = owner->gid;
	if (dir->mode & S_ISGID) {
		r->gid = dir->gid;
		if (inode_is_dir(r))
			r->mode |= S_ISGID;
	}
	return acl_inherit(txn, r, dir, owner->umask, xattrs);
}

/* Before a run, which may not be the first. */
static void create_reset(struct create_args *a)
{
	a->r.prefix.len = 0;
	a->r.flags = 0;
	a->r.mode = a->mode;
	a->r.xattrs.len = 0;
}

static int create_make_node(struct kvfs *fs, struct create_args *a)
{
	int err;

	if (!a->want_node)
		return 0;
	node_discard(fs, a->node);
	a->node = NULL;
	err = node_new(fs, &a->r, a->unnamed ? NODE_ORPHAN : NODE_NAMED, a->dir.node, a->name,
		       &a->node);
	if (!err)
		atomic_store(&a->node->unborn, a->unborn);
	return err;
}

/* The directory's record, which stays as it is. */
static int create_read_dir(struct kvfs *fs, struct kv_txn *txn, struct edit *dir)
{
	struct model_key key;
	int err;

	dir->stored = false;
	place_node(dir->node, &key);
	err = inode_get(fs, txn, &key, false, &dir->rec);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

static int create_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct create_args *a = arg;
	int nlink = inode_is_dir(&a->r) ? 1 : 0;
	bool dir_writes = edit_dir_writes(fs, nlink);
	struct model_key key;
	int err;

	err = node_check_dir(a->dir.node, false);
	if (err)
		return err;
	create_reset(a);
	place_name(place_node_prefix(a->dir.node), a->name, &key);
	err = kv_txn_lock(txn, key.keyspace, model_key_slice(&key));
	if (!err)
		err = dir_writes ? edit_load(fs, txn, &a->dir) : create_read_dir(fs, txn, &a->dir);
	if (err)
		return err;
	err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), NULL);
	if (err != -KV_E_NOTFOUND)
		return err ? err : -EEXIST;
	err = create_inherit(txn, &a->r, &a->dir.rec.r, a->owner, &a->xattrs);
	if (!err && inode_is_dir(&a->r))
		err = create_choose_prefix(fs, txn, place_node_prefix(a->dir.node), a->name, &a->r,
					   a->prefix);
	if (!err)
		err = create_make_node(fs, a);
	if (!err)
		err = inode_put(txn, &key, &a->r);
	if (!err && dir_writes)
		err = edit_dir_loaded(txn, &a->dir, nlink);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

static void create_done(struct kvfs *fs, void *arg)
{
	struct create_args *a = arg;

	edit_dir_done(fs, &a->dir);
	if (a->node)
		a->node = node_publish(fs, a->node);
	a->published = true;
}

/* An orphan from the start, which the next opening of the volume sweeps away after a crash. */
static int create_unnamed_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct create_args *a = arg;
	struct model_key key;
	int err;

	err = node_check_dir(a->dir.node, false);
	if (err)
		return err;
	create_reset(a);
	err = create_read_dir(fs, txn, &a->dir);
	if (!err)
		err = create_inherit(txn, &a->r, &a->dir.rec.r, a->owner, &a->xattrs);
	if (!err)
		err = create_make_node(fs, a);
	if (!err) {
		place_id(MODEL_ORPHANS, a->r.id, &key);
		err = inode_put(txn, &key, &a->r);
	}
	return err;
}

static void create_unnamed_done(struct kvfs *fs, void *arg)
{
	struct create_args *a = arg;

	if (a->node)
		a->node = node_publish(fs, a->node);
	a->published = true;
}

static int create_entry(struct kvfs *fs, struct create_args *a, struct kvfs_node **out,
			struct kvfs_attr *attr)
{
	struct retry_op op = {.run = a->unnamed ? create_unnamed_run : create_run,
			      .done = a->unnamed ? create_unnamed_done : create_done,
			      .arg = a};
	uint64_t now = inode_time(kvfs_now());
	int err;

	err = a->unnamed && !a->unborn ? 0 : place_check_name(a->name);
	if (!err && !node_is_dir(a->dir.node))
		err = -ENOTDIR; /* whether it still has a name is asked under the lock */
	if (!err && !a->unnamed)
		err = stage_settle(fs, a->dir.node, a->name, true);
	if (!err)
		err = kvfs_new_id(fs, &a->r.id);
	if (err)
		return err;
	a->dir.now = now;
	a->mode = a->r.mode;
	a->want_node = out != NULL;
	a->r.kind = MODEL_RECORD_FULL;
	a->r.nlink = a->unnamed ? 0 : inode_is_dir(&a->r) ? 2 : 1;
	a->r.atime = a->r.mtime = a->r.ctime = a->r.btime = now;
	err = retry_write(fs, &op);
	if (err) {
		/* A failed sync comes after the node was published. */
		if (a->published)
			node_unref(fs, a->node, 1);
		else
			node_discard(fs, a->node);
	} else {
		if (out)
			*out = a->node;
		if (attr)
			inode_attr(&a->r, attr);
	}
	kv_buf_free(&a->xattrs);
	edit_free(&a->dir);
	return err;
}

int kvfs_mknod(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
	       uint32_t rdev, const struct kvfs_owner *owner, struct kvfs_node **out,
	       struct kvfs_attr *attr)
{
	struct create_args a = {.dir = {.node = dir},
				.name = kv_slice_of(name, strlen(name)),
				.owner = owner,
				.r = {.mode = mode & (S_IFMT | 07777U)}};

	if (!(mode & S_IFMT))
		a.r.mode |= S_IFREG;
	switch (a.r.mode & S_IFMT) {
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		break;
	case S_IFCHR:
	case S_IFBLK:
		a.r.rdev = rdev;
		break;
	default:
		return -EINVAL;
	}
	return create_entry(fs, &a, out, attr);
}

int kvfs_tmpfile(struct kvfs *fs, struct kvfs_node *dir, uint32_t mode,
		 const struct kvfs_owner *owner, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct create_args a = {.dir = {.node = dir},
				.name = kv_slice_of("", 0),
				.owner = owner,
				.unnamed = true,
				.r = {.mode = S_IFREG | (mode & 07777U)}};

	return create_entry(fs, &a, out, attr);
}

int create_unborn(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
		  const struct kvfs_owner *owner, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct create_args a = {.dir = {.node = dir},
				.name = kv_slice_of(name, strlen(name)),
				.owner = owner,
				.unnamed = true,
				.unborn = true,
				.r = {.mode = S_IFREG | (mode & 07777U)}};
	int err = create_entry(fs, &a, out, attr);

	if (err)
		return err;
	attr->unborn = true;
	attr->nlink = 1; /* as it will be */
	return 0;
}

int kvfs_mkdir(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
	       const struct kvfs_owner *owner, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct create_args a = {.dir = {.node = dir},
				.name = kv_slice_of(name, strlen(name)),
				.owner = owner,
				.r = {.mode = S_IFDIR | (mode & 07777U)}};

	return create_entry(fs, &a, out, attr);
}

int kvfs_symlink(struct kvfs *fs, struct kvfs_node *dir, const char *name, const char *target,
		 const struct kvfs_owner *owner, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct kvfs_owner no_mask = {owner->uid, owner->gid, 0};
	struct create_args a = {.dir = {.node = dir},
				.name = kv_slice_of(name, strlen(name)),
				.owner = &no_mask,
				.r = {.mode = S_IFLNK | 0777U}};

	a.r.contents = kv_slice_of(target, strlen(target));
	a.r.size = a.r.contents.len;
	if (!a.r.size)
		return -ENOENT;
	if (a.r.size > KVFS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return create_entry(fs, &a, out, attr);
}
