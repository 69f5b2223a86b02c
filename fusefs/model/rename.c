/* SPDX-License-Identifier: MIT */
/*
 * rename. A file's record moves to its new key. So does a directory's, and
 * keeps its prefix, so nothing below it is touched; if the prefix is not the
 * natural one of the new place, the directory is "displaced" and its prefix is
 * noted in MODEL_PREFIXES until it comes back or goes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/edit.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"
#include "fusefs/model/times.h"

/* One of the two entries. */
struct rename_end {
	struct edit dir;
	struct kv_slice name;
	struct model_key key;
	struct inode_buf rec;	  /* what stands there before */
	struct kvfs_node *node;	  /* of what moves away from here, if somebody looks at it */
	struct kvfs_node *former; /* its former parent, to be released */
	char *moved_name;	  /* for the node, its name at the other end */
	uint32_t seq;
};

struct rename_args {
	struct rename_end from, to;
	unsigned flags;
	bool replaces; /* something stands at the new name */
	bool same;     /* two names of one file: nothing happens */
	struct remove_name gone;
	struct inode whiteout;
};

static bool rename_is_below(const struct kvfs_node *dir, uint64_t ino)
{
	for (; dir; dir = dir->parent)
		if (dir->ino == ino)
			return true;
	return false;
}

static int rename_check_empty(struct kv_txn *txn, const struct rename_end *end)
{
	struct model_key prefix;
	bool has_child;
	int err;

	place_prefix(&end->rec.r, place_node_prefix(end->dir.node), end->name, &prefix);
	err = place_has_child(txn, model_key_slice(&prefix), &has_child);
	if (err)
		return err;
	return has_child ? -ENOTEMPTY : 0;
}

static int rename_check(struct kv_txn *txn, struct rename_args *a)
{
	const struct inode *src = &a->from.rec.r, *dst = &a->to.rec.r;

	if (inode_is_dir(src) && rename_is_below(a->to.dir.node, src->id))
		return -EINVAL;
	if (!a->replaces)
		return a->flags & KVFS_RENAME_EXCHANGE ? -ENOENT : 0;
	if (a->flags & KVFS_RENAME_NOREPLACE)
		return -EEXIST;
	if (src->id == dst->id) {
		a->same = true;
		return 0;
	}
	if (a->flags & KVFS_RENAME_EXCHANGE)
		return inode_is_dir(dst) && rename_is_below(a->from.dir.node, dst->id) ? -EINVAL
										       : 0;
	if (inode_is_dir(src) && !inode_is_dir(dst))
		return -ENOTDIR;
	if (!inode_is_dir(src) && inode_is_dir(dst))
		return -EISDIR;
	return inode_is_dir(dst) ? rename_check_empty(txn, &a->to) : 0;
}

/* Lock both names, then read them. */
static int rename_load(struct kvfs *fs, struct kv_txn *txn, struct rename_args *a)
{
	struct rename_end *ends[2] = {&a->from, &a->to};
	int err;

	for (unsigned i = 0; i < 2; i++) {
		struct rename_end *e = ends[i];

		err = node_check_dir(e->dir.node, i == 0 || a->flags & KVFS_RENAME_EXCHANGE);
		if (err)
			return err;
		place_name(place_node_prefix(e->dir.node), e->name, &e->key);
		err = kv_txn_lock(txn, MODEL_NAMES, model_key_slice(&e->key));
		if (err)
			return err;
	}
	err = inode_get(fs, txn, &a->from.key, true, &a->from.rec);
	if (err)
		return err == -KV_E_NOTFOUND ? -ENOENT : err;
	err = inode_get(fs, txn, &a->to.key, true, &a->to.rec);
	if (err && err != -KV_E_NOTFOUND)
		return err;
	a->replaces = !err;
	a->same = false;
	return a->replaces ? node_check_dir(a->to.dir.node, true) : 0;
}

/* The file of a link gets a new ctime. */
static int rename_put_link(struct kvfs *fs, struct kv_txn *txn, struct rename_end *from,
			   uint64_t now)
{
	struct inode_buf file = {0};
	struct model_key key;
	int err;

	place_id(MODEL_INODES, from->rec.r.id, &key);
	err = inode_get(fs, txn, &key, true, &file);
	if (!err && file.r.kind != MODEL_RECORD_FULL)
		err = -KV_E_CORRUPT;
	if (!err)
		err = inode_check_fixed(&file.r);
	if (!err) {
		if (from->node)
			from->seq = times_apply(fs, from->node, &file.r);
		file.r.ctime = now;
		err = inode_put(txn, &key, &file.r);
	}
	inode_buf_free(&file);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* A directory at a new place: note or forget that its prefix is not the natural one. */
static int rename_displace(struct kvfs *fs, struct kv_txn *txn, struct inode *r,
			   const struct model_key *prefix, const struct rename_end *to)
{
	struct kv_slice mine = model_key_slice(prefix);
	struct model_key natural;
	uint8_t id[8];

	place_natural(place_node_prefix(to->dir.node), to->name, &natural);
	if (slice_equal(mine, model_key_slice(&natural))) {
		r->flags &= (uint8_t)~MODEL_FLAG_PREFIX;
		r->prefix.len = 0;
		return kv_txn_delete(txn, MODEL_PREFIXES, mine);
	}
	r->flags |= MODEL_FLAG_PREFIX;
	r->prefix = mine;
	be64_put(id, r->id);
	atomic_store(&fs->displaced, true);
	return kv_txn_put(txn, MODEL_PREFIXES, mine, kv_slice_of(id, sizeof(id)));
}

/* What stands at @from is written at @to. */
static int rename_put(struct kvfs *fs, struct kv_txn *txn, struct rename_end *from,
		      struct rename_end *to, uint64_t now)
{
	struct inode r = from->rec.r;
	struct model_key prefix;
	int err;

	from->node = node_find(fs, r.id);
	err = inode_check_fixed(&r);
	if (err)
		return err;
	if (r.kind == MODEL_RECORD_LINK) {
		err = rename_put_link(fs, txn, from, now);
	} else {
		if (from->node)
			from->seq = times_apply(fs, from->node, &r);
		r.ctime = now;
		if (inode_is_dir(&r)) {
			place_prefix(&r, place_node_prefix(from->dir.node), from->name, &prefix);
			err = rename_displace(fs, txn, &r, &prefix, to);
		}
	}
	return err ? err : inode_put(txn, &to->key, &r);
}

static int rename_edit_dirs(struct kvfs *fs, struct kv_txn *txn, struct rename_args *a)
{
	bool exchange = a->flags & KVFS_RENAME_EXCHANGE;
	int src = inode_is_dir(&a->from.rec.r);
	int dst = a->replaces && inode_is_dir(&a->to.rec.r);
	int err;

	if (a->from.dir.node == a->to.dir.node)
		return edit_dir(fs, txn, &a->from.dir, exchange ? 0 : -dst);
	err = edit_dir(fs, txn, &a->from.dir, exchange ? dst - src : -src);
	return err ? err : edit_dir(fs, txn, &a->to.dir, src - dst);
}

static int rename_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct rename_args *a = arg;
	uint64_t now = a->from.dir.now;
	int err;

	err = rename_load(fs, txn, a);
	if (!err)
		err = rename_check(txn, a);
	if (err || a->same)
		return err;
	if (a->flags & KVFS_RENAME_EXCHANGE) {
		err = rename_put(fs, txn, &a->to, &a->from, now);
	} else {
		err = a->flags & KVFS_RENAME_WHITEOUT
			      ? inode_put(txn, &a->from.key, &a->whiteout)
			      : kv_txn_delete(txn, MODEL_NAMES, model_key_slice(&a->from.key));
		if (!err && a->replaces)
			err = remove_name(fs, txn, &a->to.rec.r, now, &a->gone);
	}
	if (!err)
		err = rename_put(fs, txn, &a->from, &a->to, now);
	return err ? err : rename_edit_dirs(fs, txn, a);
}

/* The node of what stood at @from now stands at @to. */
static void rename_move_node(struct kvfs *fs, struct rename_end *from, struct rename_end *to)
{
	struct kvfs_node *node = from->node;

	if (!node)
		return;
	times_settled(fs, node, from->seq);
	if (!node_is_at(node, from->dir.node, from->name))
		return; /* it goes by another of its names */
	from->former = node_move(fs, node, to->dir.node, from->moved_name);
	from->moved_name = NULL;
}

static void rename_done(struct kvfs *fs, void *arg)
{
	struct rename_args *a = arg;

	if (a->same)
		return;
	rename_move_node(fs, &a->from, &a->to);
	if (a->flags & KVFS_RENAME_EXCHANGE)
		rename_move_node(fs, &a->to, &a->from);
	else if (a->replaces)
		remove_name_done(fs, &a->gone);
	edit_dir_done(fs, &a->from.dir);
	if (a->from.dir.node != a->to.dir.node)
		edit_dir_done(fs, &a->to.dir);
}

static void rename_release(struct kvfs *fs, struct rename_end *e)
{
	node_unref(fs, e->node, 1);
	node_release(fs, e->former);
	e->node = NULL;
	e->former = NULL;
}

static void rename_again(struct kvfs *fs, void *arg)
{
	struct rename_args *a = arg;

	rename_release(fs, &a->from);
	rename_release(fs, &a->to);
	remove_name_free(fs, &a->gone);
}

static void rename_end_free(struct rename_end *e)
{
	inode_buf_free(&e->rec);
	edit_free(&e->dir);
	free(e->moved_name);
}

static int rename_make_whiteout(struct kvfs *fs, struct rename_args *a)
{
	uint64_t now = a->from.dir.now;

	a->whiteout = (struct inode){
		.kind = MODEL_RECORD_FULL,
		.mode = S_IFCHR,
		.nlink = 1,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};
	return kvfs_new_id(fs, &a->whiteout.id);
}

static int rename_start(struct kvfs *fs, struct rename_args *a)
{
	int err;

	if (a->flags &
	    ~(unsigned)(KVFS_RENAME_NOREPLACE | KVFS_RENAME_EXCHANGE | KVFS_RENAME_WHITEOUT))
		return -EINVAL;
	if ((a->flags & KVFS_RENAME_EXCHANGE) && a->flags != KVFS_RENAME_EXCHANGE)
		return -EINVAL;
	err = place_check_name(a->from.name);
	if (!err)
		err = place_check_name(a->to.name);
	if (err)
		return err;
	a->from.moved_name = strndup((const char *)a->to.name.data, a->to.name.len);
	a->to.moved_name = strndup((const char *)a->from.name.data, a->from.name.len);
	if (!a->from.moved_name || !a->to.moved_name)
		return -ENOMEM;
	return a->flags & KVFS_RENAME_WHITEOUT ? rename_make_whiteout(fs, a) : 0;
}

/* A rename comes after the writes of what it renames, committed or not (promise 4). */
static int rename_settle(struct kvfs *fs, const struct rename_args *a)
{
	bool exchange = a->flags & KVFS_RENAME_EXCHANGE;
	int err = stage_settle(fs, a->from.dir.node, a->from.name, false);

	if (!err)
		err = stage_settle(fs, a->to.dir.node, a->to.name, !exchange);
	return err ? err : stage_settle_below(fs, a->to.dir.node, a->to.name);
}

int kvfs_rename(struct kvfs *fs, struct kvfs_node *from_dir, const char *from,
		struct kvfs_node *to_dir, const char *to, unsigned flags)
{
	uint64_t now = inode_time(kvfs_now());
	struct rename_args a = {
		.gone = {.keep = true},
		.from = {.dir = {.node = from_dir, .now = now},
			 .name = kv_slice_of(from, strlen(from))},
		.to = {.dir = {.node = to_dir, .now = now}, .name = kv_slice_of(to, strlen(to))},
		.flags = flags,
	};
	struct retry_op op = {.run = rename_run,
			      .done = rename_done,
			      .again = rename_again,
			      .arg = &a,
			      .exclusive = true,
			      .frees = true};
	int err;

	err = rename_start(fs, &a);
	if (!err && stage_any(fs))
		err = rename_settle(fs, &a);
	if (!err)
		err = retry_write(fs, &op);
	rename_again(fs, &a);
	rename_end_free(&a.from);
	rename_end_free(&a.to);
	return err;
}
