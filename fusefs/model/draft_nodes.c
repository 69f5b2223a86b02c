/* SPDX-License-Identifier: MIT */
/*
 * What a commit means for those who look at the live tree. Before it, everything that the
 * transaction wrote is looked at once, in order: for conflicts that no key shows, for nodes of the
 * live tree whose files have moved, got a second name or lost the last, and for what the caches of
 * others hold. Whatever can fail is done then; after the commit the nodes are only set.
 *
 * Conflicts without a common key: names made below a directory that the transaction removed; a
 * directory that was moved away and keeps the prefix which the transaction gave to a
 * new one; contents written with their times still waiting (KVFS_LAZYTIME).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/lookup.h"
#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/times.h"
#include "fusefs/model/draft.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"

struct draft_node {
	struct kvfs_node *node;	  /* referenced */
	struct kvfs_node *parent; /* referenced; NULL: it stays where it is */
	struct kvfs_node *former; /* held; where it was, to be given back without a lock */
	char *name;
	uint32_t times; /* of a directory: what waited is in its record now */
	uint8_t state;
	uint8_t guard;
	bool settle;
};

static struct draft_node *node_at(struct draft_commit *c, size_t at)
{
	return (struct draft_node *)(void *)(c->nodes.data + at);
}

/*
 * The last reference to a file without a name, or to one whose times wait, runs a transaction,
 * which would wait for the lock that is held here. The kernel may forget a node at any moment, so
 * any reference may become the last.
 */
void draft_let_go(struct draft_commit *c, struct kvfs_node *node)
{
	if (!node || node_unref_unless_last(c->live, node))
		return;
	if (buf_append(&c->last, &node, sizeof(node)))
		logmsg(&c->live->log, KV_LOG_ERROR,
		       "model: out of memory, file stays in memory until the next mount id=%llu",
		       (unsigned long long)node->ino);
}

/* What is known of a key that was written. */
struct written {
	struct kv_slice key, prefix, name;
	struct inode_buf then, mine;
	bool had, have;
};

/* ---- conflicts ---- */

/* The directory @r with @prefix is somewhere in the transaction's tree. */
static int is_in_use(struct draft_commit *c, const struct inode *r, struct kv_slice prefix,
		     bool *out)
{
	struct draft_paths p = c->paths;
	uint64_t id = 0;
	int err;

	p.then = p.txn; /* not where it was */
	err = draft_dir_id(&p, prefix, &id);
	*out = id == r->id;
	return err;
}

/* Names below a removed directory that were not there at the beginning. */
static int check_removed(struct draft_commit *c, const struct written *w)
{
	struct kv_iter *it = NULL;
	struct model_key prefix;
	struct kv_range range;
	struct kv_slice name;
	bool used;
	int err;

	place_prefix(&w->then.r, w->prefix, w->name, &prefix);
	range = (struct kv_range){.prefix = model_key_slice(&prefix)};
	err = is_in_use(c, &w->then.r, range.prefix, &used);
	if (err || used)
		return err;
	err = kv_iter_open(c->now, MODEL_NAMES, &range, &it);
	if (!err)
		err = kv_iter_first(it);
	while (!err) {
		err = place_next_child(it, range.prefix, &name);
		if (err)
			break;
		err = kv_txn_get(c->paths.then, MODEL_NAMES, kv_iter_key(it), NULL);
		if (err == -KV_E_NOTFOUND)
			err = draft_conflict(c, MODEL_NAMES, kv_iter_key(it));
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* A new directory's natural prefix, which somebody may have taken elsewhere meanwhile. */
static int check_made(struct draft_commit *c, const struct written *w)
{
	struct model_key natural;
	int err;

	if (!atomic_load(&c->live->displaced))
		return 0;
	place_natural(w->prefix, w->name, &natural);
	err = kv_txn_get(c->now, natural.keyspace, model_key_slice(&natural), NULL);
	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	err = kv_txn_get(c->paths.then, natural.keyspace, model_key_slice(&natural), NULL);
	return err == -KV_E_NOTFOUND ? draft_conflict(c, MODEL_NAMES, w->key) : err;
}

static int check_contents(struct draft_commit *c, unsigned keyspace, const struct written *w)
{
	struct kvfs_node *node = node_find(c->live, w->then.r.id);
	bool written;

	if (!node)
		return 0;
	written = times_written_since(c->live, node, c->draft->write_seq_begun);
	draft_let_go(c, node);
	return written ? draft_conflict(c, keyspace, w->key) : 0;
}

static int check_written(struct draft_commit *c, unsigned keyspace, const struct written *w)
{
	const struct inode *then = &w->then.r, *mine = &w->mine.r;
	bool was_dir = w->had && inode_is_dir(then);
	bool is_dir = w->have && inode_is_dir(mine);
	bool same = w->had && w->have && then->id == mine->id;
	int err = 0;

	if (was_dir && !same)
		err = check_removed(c, w);
	if (!err && is_dir && !same && !mine->prefix.len)
		err = check_made(c, w);
	if (!err && w->had && (then->mode & S_IFMT) == S_IFREG)
		err = check_contents(c, keyspace, w);
	return err < 0 ? err : 0;
}

/* ---- nodes ---- */

/* A directory of the live tree, or one that will be; referenced, NULL if there is none. */
static struct kvfs_node *find_dir(struct draft_commit *c, uint64_t id)
{
	struct kvfs_node *node = node_find(c->live, id);

	for (size_t at = 0; !node && at < c->fresh.len; at += sizeof(node)) {
		struct kvfs_node *fresh;

		memcpy(&fresh, c->fresh.data + at, sizeof(fresh));
		if (fresh->ino == id) {
			node = fresh;
			node_ref(c->live, node);
		}
	}
	return node;
}

/* A node that is published after the commit; the list has a reference of its own. */
static int make_dir(struct draft_commit *c, const struct inode *r, struct kvfs_node *parent,
		    struct kv_slice name, struct kvfs_node **out)
{
	struct kvfs_node *node;
	int err;

	if (!inode_is_dir(r))
		return -KV_E_CORRUPT;
	err = node_new(c->live, r, NODE_NAMED, parent, name, &node);
	if (err)
		return err;
	err = buf_append(&c->fresh, &node, sizeof(node));
	if (err) {
		node_discard(c->live, node);
		return err;
	}
	node_ref(c->live, node);
	*out = node;
	return 0;
}

/* From @dir, whose reference goes away, to its directory @name. */
static int descend_one(struct draft_commit *c, struct kvfs_node **dir, struct kv_slice name)
{
	struct inode_buf rec = {0};
	struct kvfs_node *node = NULL;
	enum node_state state;
	int err;

	err = lookup_record(c->draft, c->paths.txn, place_node_prefix(*dir), name, &rec, &state);
	if (!err)
		node = find_dir(c, rec.r.id);
	if (!err && !node)
		err = make_dir(c, &rec.r, *dir, name, &node);
	inode_buf_free(&rec);
	if (err)
		return err == -ENOENT ? -KV_E_CORRUPT : err;
	draft_let_go(c, *dir);
	*dir = node;
	return 0;
}

/* The node of the directory at @path (byte 0 before each component), from the root down. */
static int descend(struct draft_commit *c, struct kv_slice path, struct kvfs_node **out)
{
	struct kvfs_node *dir = &c->live->root;
	int err = 0;

	while (!err && path.len) {
		const uint8_t *end = memchr(path.data + 1, 0, path.len - 1);
		size_t len = end ? (size_t)(end - path.data) : path.len;

		err = descend_one(c, &dir, kv_slice_of(path.data + 1, len - 1));
		path = kv_slice_of(path.data + len, path.len - len);
	}
	if (err)
		draft_let_go(c, dir);
	else
		*out = dir;
	return err;
}

/* The live tree's node of the directory with @prefix, as the transaction has it; referenced. */
static int dir_node(struct draft_commit *c, struct kv_slice prefix, struct kvfs_node **out)
{
	struct kv_buf path = {0};
	uint64_t id;
	int err = draft_dir_id(&c->paths, prefix, &id);

	if (err)
		return err;
	*out = find_dir(c, id);
	if (*out)
		return 0;
	err = id ? draft_path_by_id(&c->paths, id, &path) : -KV_E_CORRUPT;
	if (!err)
		err = descend(c, kv_buf_slice(&path), out);
	kv_buf_free(&path);
	return err;
}

static int add_node(struct draft_commit *c, struct draft_node *n)
{
	return buf_append(&c->nodes, n, sizeof(*n));
}

/*
 * A record or link of a file that somebody looks at was written. That its key is the same does not
 * say that its directory is: another may have got the prefix of one that was removed.
 */
static int place_live(struct draft_commit *c, unsigned keyspace, const struct written *w,
		      struct kvfs_node *node)
{
	struct draft_node n = {.node = node, .state = NODE_NAMED, .guard = node->guard};
	const struct inode *r = &w->mine.r;
	int err = 0;

	if (r->kind == MODEL_RECORD_LINK) {
		n.state = NODE_LINKED;
		return add_node(c, &n);
	}
	n.guard = r->flags & (MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND);
	if (keyspace == MODEL_INODES)
		n.state = NODE_LINKED;
	else if (node->state != NODE_NAMED || node->parent->ino != c->last_dir ||
		 !slice_equal(kv_slice_of(node->name, strlen(node->name)), w->name)) {
		n.name = strndup((const char *)w->name.data, w->name.len);
		err = n.name ? dir_node(c, w->prefix, &n.parent) : -ENOMEM;
	}
	if (!err)
		err = add_node(c, &n);
	if (err) {
		draft_let_go(c, n.parent);
		free(n.name);
	}
	return err;
}

/* Times that wait in a directory's node are put together with those of its record. */
static int settle_dir(struct draft_commit *c, unsigned keyspace, const struct written *w,
		      struct kvfs_node *node)
{
	struct draft_node n = {
		.node = node, .state = node->state, .guard = node->guard, .settle = true};
	struct inode copy = w->mine.r;
	struct inode_buf now = {0};
	int err;

	n.times = times_apply(c->live, node, &copy);
	if (copy.mtime == w->mine.r.mtime && copy.ctime == w->mine.r.ctime &&
	    copy.atime == w->mine.r.atime)
		return 0;
	err = draft_record(c->now, keyspace, w->key, &now);
	if (!err && now.r.id == w->mine.r.id)
		err = draft_merge_dir(c, keyspace, w->key, &w->then.r, &now.r, &w->mine.r);
	inode_buf_free(&now);
	if (err == -KV_E_NOTFOUND || err > 0)
		return 0; /* a conflict, which was told */
	if (!err) {
		node_ref(c->live, node);
		err = add_node(c, &n);
		if (err)
			draft_let_go(c, node);
	}
	return err;
}

/* ---- what others' caches hold ---- */

static int add_stale(struct draft_commit *c, uint64_t id, struct kv_slice name)
{
	uint8_t head[9];
	int err;

	be64_put(head, id);
	head[8] = (uint8_t)name.len;
	err = buf_append(&c->stale, head, sizeof(head));
	return err ? err : buf_append_slice(&c->stale, name);
}

/* Only names of directories that somebody looks at are in a cache. Neighbours come together. */
static int stale_name(struct draft_commit *c, const struct written *w)
{
	struct kvfs_node *dir;
	uint64_t id;
	int err;

	if (!c->last_dir || !slice_equal(kv_buf_slice(&c->last_prefix), w->prefix)) {
		err = draft_dir_id(&c->paths, w->prefix, &id);
		if (!err)
			err = buf_assign(&c->last_prefix, w->prefix);
		if (err)
			return err;
		c->last_dir = id;
	}
	if (!c->last_dir)
		return 0;
	dir = node_find(c->live, c->last_dir);
	if (!dir)
		return 0;
	draft_let_go(c, dir);
	return add_stale(c, c->last_dir, w->name);
}

/* ---- the survey ---- */

/* The file whose record or name was put, if somebody looks at it. */
static int look_at_live(struct draft_commit *c, unsigned keyspace, const struct written *w)
{
	struct kvfs_node *node = node_find(c->live, w->mine.r.id);
	int err;

	if (!node)
		return 0;
	err = add_stale(c, node->ino, kv_slice_of(NULL, 0));
	if (!err && node_is_dir(node) && w->had && w->then.r.id == node->ino)
		err = settle_dir(c, keyspace, w, node);
	if (!err && keyspace != MODEL_META) {
		err = place_live(c, keyspace, w, node);
		if (!err)
			return 0; /* the list has the reference */
	}
	draft_let_go(c, node);
	return err;
}

static int load(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct inode_buf *out,
		bool *there)
{
	int err = draft_record(txn, keyspace, key, out);

	*there = !err;
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int on_record(struct draft_commit *c, unsigned keyspace, struct kv_slice key, bool deleted)
{
	struct written w = {.key = key};
	int err = 0;

	if (keyspace == MODEL_NAMES)
		err = place_split(key, &w.prefix, &w.name);
	if (!err)
		err = load(c->paths.then, keyspace, key, &w.then, &w.had);
	if (!err && !deleted)
		err = load(c->paths.txn, keyspace, key, &w.mine, &w.have);
	if (!err)
		err = check_written(c, keyspace, &w);
	if (!err && keyspace == MODEL_NAMES && (w.had || w.have))
		err = stale_name(c, &w);
	if (!err && w.have)
		err = look_at_live(c, keyspace, &w);
	inode_buf_free(&w.then);
	inode_buf_free(&w.mine);
	return err;
}

static int on_name(void *ctx, struct kv_slice key, bool deleted)
{
	return on_record(ctx, MODEL_NAMES, key, deleted);
}

static int on_inode(void *ctx, struct kv_slice key, bool deleted)
{
	return on_record(ctx, MODEL_INODES, key, deleted);
}

/* Of what is kept there only the root directory is a file. */
static int on_meta(void *ctx, struct kv_slice key, bool deleted)
{
	struct model_key root;

	place_meta("root", &root);
	if (!slice_equal(key, model_key_slice(&root)))
		return 0;
	return on_record(ctx, MODEL_META, key, deleted);
}

/* A file that has no name in the transaction's tree. */
static int on_orphan(void *ctx, struct kv_slice key, bool deleted)
{
	struct draft_commit *c = ctx;
	uint64_t id = key.len == 8 ? be64_at(key.data) : 0;
	struct draft_node n = {.state = NODE_ORPHAN};
	int err;

	if (deleted || !id)
		return 0;
	n.node = node_find(c->live, id);
	if (!n.node)
		return buf_append(&c->sweep, &id, sizeof(id));
	err = add_stale(c, id, kv_slice_of(NULL, 0));
	if (!err)
		err = add_node(c, &n);
	if (err)
		draft_let_go(c, n.node);
	return err;
}

int draft_survey(struct draft_commit *c)
{
	static const struct {
		unsigned keyspace;
		int (*emit)(void *ctx, struct kv_slice key, bool deleted);
	} all[] = {
		{MODEL_NAMES, on_name},
		{MODEL_INODES, on_inode},
		{MODEL_META, on_meta},
		{MODEL_ORPHANS, on_orphan}, /* last: it says where a node is in the end */
	};
	int err = 0;

	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(all); i++)
		err = kv_txn_scan_writes(c->paths.txn, all[i].keyspace, kv_slice_of(NULL, 0),
					 all[i].emit, c);
	return err;
}

/* ---- after the commit ---- */

void draft_nodes_settle(struct draft_commit *c)
{
	struct kvfs_node *former;

	for (size_t at = 0; at < c->fresh.len; at += sizeof(former)) {
		memcpy(&former, c->fresh.data + at, sizeof(former));
		former = node_publish(c->live, former);
		memcpy(c->fresh.data + at, &former, sizeof(former));
	}
	c->settled = true;
	for (size_t at = 0; at < c->nodes.len; at += sizeof(struct draft_node)) {
		struct draft_node *n = node_at(c, at);

		if (n->settle) {
			times_settled(c->live, n->node, n->times);
			continue;
		}
		if (n->node->state != NODE_ROOT)
			n->node->state = n->state;
		n->node->guard = n->guard;
		if (!n->parent)
			continue;
		n->former = node_move(c->live, n->node, n->parent, n->name);
		node_unref(c->live, n->parent, 1); /* the child holds it */
		n->name = NULL;
		n->parent = NULL;
	}
}

void draft_nodes_free(struct draft_commit *c)
{
	for (size_t at = 0; at < c->nodes.len; at += sizeof(struct draft_node)) {
		struct draft_node *n = node_at(c, at);

		node_unref(c->live, n->node, 1);
		node_unref(c->live, n->parent, 1);
		node_release(c->live, n->former);
		free(n->name);
	}
	for (size_t at = c->fresh.len; at; at -= sizeof(struct kvfs_node *)) {
		struct kvfs_node *fresh;

		memcpy(&fresh, c->fresh.data + at - sizeof(fresh), sizeof(fresh));
		if (c->settled)
			node_unref(c->live, fresh, 1);
		else
			node_discard(c->live, fresh); /* children come before their parents */
	}
	for (size_t at = 0; at < c->last.len; at += sizeof(struct kvfs_node *)) {
		struct kvfs_node *node;

		memcpy(&node, c->last.data + at, sizeof(node));
		node_unref(c->live, node, 1);
	}
	kv_buf_free(&c->last);
	kv_buf_free(&c->nodes);
	kv_buf_free(&c->fresh);
}
