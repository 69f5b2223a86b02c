/* SPDX-License-Identifier: MIT */
/*
 * A writable copy of a subtree. Every record is copied, with what it holds itself; contents in
 * chunks get one more user (share.h), so the cost is that of the files and not of their bytes. All
 * of it is one transaction, whose writes wait on the volume if there are many, under fs->ns: the
 * source cannot change meanwhile, and a crash leaves all of the copy or nothing.
 *
 * What a snapshot holds can be shared only as long as the present has it, too, since what is not
 * in the present is gone with the snapshot. So a file of a snapshot is looked for where
 * it was, and its contents are copied if they are not there or were changed since.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/create.h"
#include "fusefs/model/diff.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/share.h"
#include "fusefs/model/snapshot.h"
#include "fusefs/model/stage.h"
#include "fusefs/model/state.h"
#include "fusefs/model/times.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"
#include "kvcore/kv_diff.h"

#define CLONE_MEMORY (4U << 20) /* bytes of writes; more wait on the volume */
#define CLONE_STEP   256U	/* files between two reports */

/* A file with several names. */
struct clone_link {
	uint64_t from; /* 0: free */
	uint64_t to;
};

struct clone {
	struct kvfs *fs;
	struct kv_txn *from;   /* the source's state, read-only */
	struct kv_txn *txn;    /* what is written */
	const char *snapshot;  /* the source is of this; NULL: of the present */
	struct kv_buf changed; /* uint64_t, rising: contents that have changed since */
	size_t base;	       /* bytes of a path down to the source, with a separator */
	struct model_key key;  /* in the source, of what is visited */
	struct kv_buf dirs;    /* struct model_key: prefixes of copies, by depth */
	struct kv_buf links;   /* struct clone_link: open hash by from */
	size_t link_count;
	uint64_t now; /* as encoded */
	uint64_t count;
	const struct kv_progress *progress;
	/* Where the copy goes. */
	struct edit dir;
	struct kv_slice name;
};

static int clone_step(struct clone *c)
{
	const struct kv_progress *p = c->progress;

	if (p && c->count++ % CLONE_STEP == 0 && p->report(p->ctx, c->count, 0))
		return -KV_E_INTERRUPTED;
	return 0;
}

/* ---- contents ---- */

static int clone_note_changed(struct clone *c)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_txn *now = NULL;
	struct kv_diff *d = NULL;
	uint64_t last = 0, id;
	int err = kv_txn_begin(c->fs->db, &ro, &now);

	if (!err)
		err = kv_diff_open(c->from, now, MODEL_DATA, NULL, &d);
	while (!err && !(err = kv_diff_next(d))) {
		if (kv_diff_key(d).len < sizeof(id))
			continue; /* of no contents that a record could have */
		id = be64_at(kv_diff_key(d).data);
		if (id != last)
			err = buf_append(&c->changed, &id, sizeof(id));
		last = id;
	}
	kv_diff_close(d);
	kv_txn_abort(now);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The present record of a file of the source, if its contents are those of @r. @key: of @r, and
 * then of that */
static int clone_find_now(struct clone *c, struct model_key *key, const struct inode *r,
			  struct inode_buf *now, bool *same)
{
	int err = inode_get(c->fs, c->txn, key, true, now);

	/* It may have got a further name since. */
	if (!err && now->r.kind == MODEL_RECORD_LINK && now->r.id == r->id) {
		place_id(MODEL_INODES, r->id, key);
		err = inode_get(c->fs, c->txn, key, true, now);
	}

	*same = !err && now->r.kind == MODEL_RECORD_FULL && now->r.id == r->id &&
		(now->r.flags & MODEL_FLAG_CHUNKS) && inode_content(&now->r) == inode_content(r) &&
		!diff_has_id(&c->changed, inode_content(r));
	if (err == -KV_E_NOTFOUND)
		err = c->snapshot ? 0 : -KV_E_CORRUPT;
	return err;
}

/* @key: of @r; @out: the copy's record */
static int clone_contents(struct clone *c, const struct model_key *key, const struct inode *r,
			  struct inode *out)
{
	struct model_key at = *key;
	struct inode_buf now = {0};
	uint8_t mark;
	bool same;
	int err;

	out->content = 0;
	out->sharing = 0;
	if (!(r->flags & MODEL_FLAG_CHUNKS))
		return 0;
	err = clone_find_now(c, &at, r, &now, &same);
	if (!err && !same) {
		err = share_copy(c->from, inode_content(r), c->txn, out->id, chunk_span(r->size),
				 &out->chunks);
		inode_buf_free(&now);
		return err;
	}
	mark = now.r.sharing;
	if (!err)
		err = share_add(c->txn, &now.r);
	if (!err && now.r.sharing != mark)
		err = inode_put(c->txn, &at, &now.r);
	if (!err)
		inode_set_content(out, inode_content(&now.r), now.r.sharing);
	inode_buf_free(&now);
	return err;
}

/* ---- attributes beside the record ---- */

static int clone_xattrs(struct clone *c, uint64_t from, uint64_t to)
{
	struct model_key prefix, key;
	struct kv_range range;
	struct kv_slice value, name;
	struct kv_iter *it;
	int err;

	place_id(MODEL_XATTRS, from, &prefix);
	range = (struct kv_range){.prefix = model_key_slice(&prefix)};
	err = kv_iter_open(c->from, MODEL_XATTRS, &range, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		name = kv_iter_key(it);
		name = kv_slice_of(name.data + prefix.len, name.len - prefix.len);
		if (!name.len || name.len > KVFS_XATTR_NAME_MAX) {
			err = -KV_E_CORRUPT;
			break;
		}
		place_id(MODEL_XATTRS, to, &key);
		memcpy(key.b + key.len, name.data, name.len);
		key.len += name.len;
		err = kv_iter_value(it, &value);
		if (!err)
			err = kv_txn_put(c->txn, MODEL_XATTRS, model_key_slice(&key), value);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The record of the copy of @r, but for a directory's prefix. */
static int clone_record(struct clone *c, const struct model_key *key, const struct inode *r,
			struct inode *out)
{
	int err;

	*out = *r;
	out->flags &= (uint8_t) ~(MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND | MODEL_FLAG_PREFIX);
	out->prefix.len = 0;
	out->ctime = c->now;
	out->btime = c->now;
	if (!inode_is_dir(r))
		out->nlink = 1;
	err = kvfs_new_id(c->fs, &out->id);
	if (!err)
		err = clone_contents(c, key, r, out);
	if (!err && (r->flags & MODEL_FLAG_XATTRS))
		err = clone_xattrs(c, r->id, out->id);
	return err ? err : clone_step(c);
}

/* ---- directories ---- */

/* The copy of @r at @name below @parent; its prefix becomes that of @depth. */
static int clone_dir(struct clone *c, const struct inode *r, struct kv_slice parent,
		     struct kv_slice name, size_t depth)
{
	uint8_t fresh[MODEL_FRESH_LEN];
	struct model_key key, prefix;
	struct inode copy;
	int err;

	place_name(parent, name, &key);
	err = clone_record(c, &c->key, r, &copy);
	if (!err)
		err = create_choose_prefix(c->fs, c->txn, parent, name, &copy, fresh);
	if (!err)
		err = inode_put(c->txn, &key, &copy);
	if (err)
		return err;
	place_prefix(&copy, parent, name, &prefix);
	c->dirs.len = depth * sizeof(prefix);
	return buf_append(&c->dirs, &prefix, sizeof(prefix));
}

/* ---- files with several names ---- */

static struct clone_link *clone_link_slot(const struct kv_buf *links, uint64_t from)
{
	struct clone_link *list = (struct clone_link *)(void *)links->data;
	size_t cap = links->len / sizeof(*list), i = hash_u64(from) & (cap - 1);

	while (list[i].from && list[i].from != from)
		i = (i + 1) & (cap - 1);
	return &list[i];
}

/* At most half full. */
static int clone_link_reserve(struct clone *c)
{
	size_t cap = c->links.len / sizeof(struct clone_link);
	const struct clone_link *list = (const void *)c->links.data;
	struct kv_buf more = {0};
	int err;

	if (c->link_count * 2 < cap)
		return 0;
	err = buf_append_zeros(&more, (cap ? cap * 2 : 256) * sizeof(*list));
	if (err)
		return err;
	for (size_t i = 0; i < cap; i++)
		if (list[i].from)
			*clone_link_slot(&more, list[i].from) = list[i];
	kv_buf_free(&c->links);
	c->links = more;
	return 0;
}

/* The first name of a file in the source: its record is copied; a further one is counted. */
static int clone_linked(struct clone *c, uint64_t from, uint64_t *to)
{
	struct inode_buf rec = {0};
	struct model_key key;
	struct clone_link *l;
	struct inode copy;
	int err = clone_link_reserve(c);

	if (err)
		return err;
	l = clone_link_slot(&c->links, from);
	place_id(MODEL_INODES, l->from ? l->to : from, &key);
	err = inode_get(c->fs, l->from ? c->txn : c->from, &key, false, &rec);
	if (err == -KV_E_NOTFOUND ||
	    (!err && (rec.r.kind != MODEL_RECORD_FULL || inode_is_dir(&rec.r))))
		err = -KV_E_CORRUPT;
	if (!err && l->from) {
		rec.r.nlink++;
		*to = l->to;
		err = inode_put(c->txn, &key, &rec.r);
	} else if (!err) {
		err = clone_record(c, &key, &rec.r, &copy);
		if (!err) {
			*l = (struct clone_link){from, copy.id};
			c->link_count++;
			*to = copy.id;
			place_id(MODEL_INODES, copy.id, &key);
			err = inode_put(c->txn, &key, &copy);
		}
	}
	inode_buf_free(&rec);
	return err;
}

/* ---- the walk ---- */

static int clone_visit(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct clone *c = ctx;
	const struct model_key *parent = (const void *)c->dirs.data;
	struct kv_slice name = kv_slice_of(path.data + c->base, path.len - c->base);
	struct model_key key;
	struct inode copy;
	size_t depth = 0;
	const uint8_t *zero;
	int err;

	(void)txn;
	while ((zero = memchr(name.data, 0, name.len))) {
		name.len -= (size_t)(zero + 1 - name.data);
		name.data = zero + 1;
		depth++;
	}
	parent += depth;
	if (inode_is_dir(r) && r->kind == MODEL_RECORD_FULL) {
		key = *parent; /* which moves */
		return clone_dir(c, r, model_key_slice(&key), name, depth + 1);
	}
	place_name(model_key_slice(parent), name, &key);
	copy = *r;
	err = r->kind == MODEL_RECORD_LINK ? clone_linked(c, r->id, &copy.id)
					   : clone_record(c, &c->key, r, &copy);
	return err ? err : inode_put(c->txn, &key, &copy);
}

/* @path: of the source, byte 0 for '/' */
static int clone_tree(struct clone *c, struct kv_slice path)
{
	struct walk w = {.visit = clone_visit, .ctx = c, .key = &c->key};
	struct kv_buf prefix = {0};
	struct inode_buf rec = {0};
	int err;

	err = state_find_place(c->from, path, &rec, &c->key, NULL);
	if (!err && !inode_is_dir(&rec.r))
		err = -ENOTDIR;
	if (!err)
		err = clone_dir(c, &rec.r, place_node_prefix(c->dir.node), c->name, 0);
	if (!err)
		err = buf_append_slice(&prefix, path);
	if (!err && path.len)
		err = buf_append_byte(&prefix, 0);
	w.prefix = kv_buf_slice(&prefix);
	c->base = prefix.len;
	if (!err)
		err = walk_run(c->from, &w);
	inode_buf_free(&rec);
	kv_buf_free(&prefix);
	return err;
}

/* ---- the transaction ---- */

/* Nobody changes what is written or read, since fs->ns is held. */
static int clone_unchanged(void *ctx, enum kv_rebase_kind kind, unsigned keyspace,
			   struct kv_slice key)
{
	(void)ctx;
	(void)keyspace;
	(void)key;
	return kind == KV_REBASE_END ? 0 : -KV_E_CONFLICT;
}

static int clone_check_name(struct clone *c)
{
	struct model_key key;
	int err = node_check_dir(c->dir.node, false);

	if (err)
		return err;
	place_name(place_node_prefix(c->dir.node), c->name, &key);
	err = kv_txn_get(c->txn, key.keyspace, model_key_slice(&key), NULL);
	return !err ? -EEXIST : err == -KV_E_NOTFOUND ? 0 : err;
}

/* @path is below what the snapshot is of. */
static int clone_of_top(struct clone *c, struct kv_slice path)
{
	struct kv_buf full = {0};
	int err = c->snapshot ? snapshot_top(c->from, c->snapshot, &full) : 0;

	if (!err && full.len && path.len)
		err = buf_append_byte(&full, 0);
	if (!err)
		err = buf_append_slice(&full, path);
	if (!err)
		err = clone_tree(c, kv_buf_slice(&full));
	kv_buf_free(&full);
	return err;
}

/* fs->ns is held for writing. @then: the snapshot, or NULL */
static int clone_run(struct clone *c, struct kv_snapshot *then, struct kv_slice path)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY, .snapshot = then};
	const struct kv_txn_options rw = {.flags = KV_TXN_REBASE, .memory_bytes = CLONE_MEMORY};
	struct kv_txn *txn;
	int err;

	err = kv_txn_begin(c->fs->db, &ro, &c->from);
	if (!err)
		err = kv_txn_begin(c->fs->db, &rw, &c->txn);
	if (!err)
		err = clone_check_name(c);
	if (!err && c->snapshot)
		err = clone_note_changed(c);
	if (!err)
		err = clone_of_top(c, path);
	if (!err)
		err = edit_load(c->fs, c->txn, &c->dir);
	if (!err)
		err = edit_dir_loaded(c->txn, &c->dir, 1);
	if (!err)
		err = kv_txn_rebase(c->txn, clone_unchanged, c);
	if (err)
		return err;
	txn = c->txn;
	c->txn = NULL;
	err = kv_txn_commit(txn, 0, NULL);
	if (!err)
		edit_dir_done(c->fs, &c->dir);
	return err;
}

static void clone_fini(struct clone *c)
{
	kv_txn_abort(c->txn);
	kv_txn_abort(c->from);
	kv_buf_free(&c->changed);
	kv_buf_free(&c->dirs);
	kv_buf_free(&c->links);
	edit_free(&c->dir);
}

/* The times that wait are the source's, too. */
static int clone_prepare(struct clone *c, struct kv_snapshot **then)
{
	struct kvfs *fs = c->fs;
	int err = fs->view ? -EINVAL : kvfs_writable(fs);

	if (!err)
		err = place_check_name(c->name);
	if (!err && !node_is_dir(c->dir.node))
		err = -ENOTDIR;
	if (!err)
		err = stage_settle(fs, c->dir.node, c->name, true);
	if (!err && c->snapshot)
		return kv_snapshot_open(fs->db, c->snapshot, then);
	if (!err && fs->lazytime)
		err = node_table_each(fs, times_flush);
	return err || !fs->lazytime ? err : times_flush(fs, &fs->root);
}

/* The directory at @path, referenced. */
static int clone_find_dir(struct kvfs *fs, struct kv_slice path, struct kvfs_node **out)
{
	struct kvfs_node *dir = &fs->root, *next;
	char name[KVFS_NAME_MAX + 1];
	const uint8_t *slash;
	size_t len;
	int err = 0;

	node_ref(fs, dir);
	while (!err && path.len) {
		slash = memchr(path.data, '/', path.len);
		len = slash ? (size_t)(slash - path.data) : path.len;
		err = place_check_name(kv_slice_of(path.data, len));
		if (err)
			break;
		memcpy(name, path.data, len);
		name[len] = '\0';
		path = kv_slice_of(path.data + len + (slash != NULL),
				   path.len - len - (slash != NULL));
		err = kvfs_lookup(fs, dir, name, &next, NULL);
		if (err)
			break;
		node_unref(fs, dir, 1);
		dir = next;
	}
	if (err)
		node_unref(fs, dir, 1);
	else
		*out = dir;
	return err;
}

/* c->dir and c->name; nothing is referenced after an error. */
static int clone_find_place(struct clone *c, struct kv_slice to)
{
	size_t len = to.len;

	while (len && to.data[len - 1] != '/')
		len--;
	c->name = kv_slice_of(to.data + len, to.len - len);
	c->dir.now = c->now;
	return clone_find_dir(c->fs, kv_slice_of(to.data, len ? len - 1 : 0), &c->dir.node);
}

int kvfs_clone(struct kvfs *fs, const char *snapshot, struct kv_slice from, struct kv_slice to,
	       const struct kv_progress *progress, uint64_t *dir)
{
	struct clone c = {.fs = fs,
			  .snapshot = snapshot,
			  .now = inode_time(kvfs_now()),
			  .progress = progress};
	struct kv_snapshot *then = NULL;
	struct kv_buf path = {0};
	int err;

	err = clone_find_place(&c, to);
	if (err)
		return err;
	err = buf_append_slice(&path, from);
	for (size_t i = 0; i < path.len; i++)
		if (path.data[i] == '/')
			path.data[i] = 0;
	if (!err)
		err = clone_prepare(&c, &then);
	if (!err) {
		os_rwlock_wrlock(&fs->ns);
		err = clone_run(&c, then, kv_buf_slice(&path));
		os_rwlock_wrunlock(&fs->ns);
	}
	if (!err)
		err = kv_sync(fs->db);
	if (!err && dir)
		*dir = c.dir.node->ino;
	clone_fini(&c);
	node_unref(fs, c.dir.node, 1);
	kv_snapshot_release(then);
	kv_buf_free(&path);
	return err;
}
