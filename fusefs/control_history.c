/* SPDX-License-Identifier: MIT */
/*
 * .kvfs/history: below it every path that is or was is a directory, with the versions of what was
 * a file there, each by its time, and the names of what was in a directory there. A version is a
 * file of the tree of its state; the kernel checks its own rights, and here is looked whether the
 * directories of that state would have let the caller pass. So no name is cached: each
 * lookup is the caller's own.
 *
 * A directory that the kernel knows has one node, by its path, so that whoever is in it stays in
 * it. The node keeps what a search for its path has found; it is searched again for a
 * listing, and when a lookup finds nothing in it that can still be read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/model/kvfs_versions.h"
#include "fusefs/reply.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

struct control_past {
	uint64_t id;			/* [const] */
	struct kv_buf path;		/* [const] from the root, without slashes at its ends */
	uint64_t refs;			/* [control.mu] the kernel's */
	unsigned users;			/* [control.mu] requests */
	struct control_past *next_id;	/* [control.mu] */
	struct control_past *next_path; /* [control.mu] */
	pthread_mutex_t mu;		/* held during a search; feeds.mu comes below it */
	struct kvfs_versions *found;	/* [mu] NULL: not searched for yet */
};

/* ---- nodes ----------------------------------------------------------------------------------- */

static bool is_top(uint64_t id)
{
	return id == (TREE_BIT | (uint64_t)CONTROL_HISTORY);
}

static struct control_past **by_id_locked(struct control *c, uint64_t id)
{
	struct control_past **at = &c->pasts_by_id[(id >> CONTROL_KIND_BITS) % CONTROL_PASTS];

	while (*at && (*at)->id != id)
		at = &(*at)->next_id;
	return at;
}

static struct control_past **by_path_locked(struct control *c, struct kv_slice path)
{
	struct control_past **at = &c->pasts_by_path[hash_bytes(path, 0) % CONTROL_PASTS];

	while (*at && !slice_equal(kv_buf_slice(&(*at)->path), path))
		at = &(*at)->next_path;
	return at;
}

static void free_past(struct control_past *p)
{
	kvfs_versions_close(p->found);
	kv_buf_free(&p->path);
	(void)pthread_mutex_destroy(&p->mu);
	free(p);
}

/* Give back what one has of a node; the last frees it. */
static void release(struct control *c, struct control_past *p, uint64_t refs, unsigned users)
{
	bool last;

	pthread_mutex_lock(&c->mu);
	p->refs -= min_u64(refs, p->refs);
	p->users -= users;
	last = !p->refs && !p->users;
	if (last) {
		*by_id_locked(c, p->id) = p->next_id;
		*by_path_locked(c, kv_buf_slice(&p->path)) = p->next_path;
	}
	pthread_mutex_unlock(&c->mu);
	if (last)
		free_past(p);
}

static struct control_past *new_past(struct kv_slice path)
{
	struct control_past *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	if (pthread_mutex_init(&p->mu, NULL)) {
		free(p);
		return NULL;
	}
	p->users = 1;
	if (buf_assign(&p->path, path)) {
		free_past(p);
		return NULL;
	}
	return p;
}

/* The node of a path, made if there is none, used by the caller. NULL: no memory. */
static struct control_past *use_path(struct control *c, struct kv_slice path)
{
	struct control_past *fresh = new_past(path), *p, **at;

	if (!fresh)
		return NULL;
	pthread_mutex_lock(&c->mu);
	p = *by_path_locked(c, path);
	if (p) {
		p->users++;
	} else {
		p = fresh;
		fresh = NULL;
		p->id = control_next_id_locked(c, CONTROL_HISTORY);
		at = by_path_locked(c, path);
		*at = p;
		at = by_id_locked(c, p->id);
		*at = p;
	}
	pthread_mutex_unlock(&c->mu);
	if (fresh)
		free_past(fresh);
	return p;
}

/* The node of an id, used by the caller. -ESTALE, -ENOMEM. */
static int use_id(struct control *c, uint64_t id, struct control_past **out)
{
	struct control_past *p;

	if (is_top(id)) {
		*out = use_path(c, kv_slice_of(NULL, 0));
		return *out ? 0 : -ENOMEM;
	}
	pthread_mutex_lock(&c->mu);
	p = *by_id_locked(c, id);
	if (p)
		p->users++;
	pthread_mutex_unlock(&c->mu);
	*out = p;
	return p ? 0 : -ESTALE;
}

bool control_history_has(struct control *c, uint64_t id)
{
	bool there;

	if (is_top(id))
		return true;
	pthread_mutex_lock(&c->mu);
	there = *by_id_locked(c, id);
	pthread_mutex_unlock(&c->mu);
	return there;
}

void control_history_unref(struct control *c, uint64_t id, uint64_t refs)
{
	struct control_past *p;

	if (!is_top(id) && !use_id(c, id, &p))
		release(c, p, refs, 1);
}

void control_history_fini(struct control *c)
{
	struct control_past *p, *next;

	for (size_t i = 0; i < CONTROL_PASTS; i++)
		for (p = c->pasts_by_id[i]; p; p = next) {
			next = p->next_id;
			free_past(p);
		}
}

/* ---- searching ------------------------------------------------------------------------------- */

static bool in_group(void *req, uint32_t gid)
{
	return op_in_group(req, gid);
}

static struct kvfs_caller caller_of(fuse_req_t req)
{
	const struct kvfsd *d = op_daemon(req);
	uid_t uid = fuse_req_ctx(req)->uid;

	return (struct kvfs_caller){
		.all = uid == 0 || !options_kernel_checks(d->opt),
		.acl = d->acl,
		.uid = uid,
		.in_group = in_group,
		.ctx = req,
	};
}

static int search_locked(struct kvfsd *d, struct control_past *p)
{
	struct kvfs_versions *found;
	bool busy = feed_busy(&d->control.feeds);
	int err = feed_versions(&d->control.feeds, kv_buf_slice(&p->path), &found);

	if (!busy)
		keeper_wake(&d->keeper); /* looking back begins a history, which has to move on */
	if (err)
		return err;
	kvfs_versions_close(p->found);
	p->found = found;
	return 0;
}

/* Whether the caller may know of the path. */
static int look_locked(fuse_req_t req, struct control_past *p)
{
	struct kvfs_caller who = caller_of(req);
	int err = p->found ? kvfs_versions_look(p->found, &who) : -ENOENT;

	if (err != -ENOENT && err != -EACCES)
		return err;
	err = search_locked(op_daemon(req), p);
	return err ? err : kvfs_versions_look(p->found, &who);
}

/* ---- versions -------------------------------------------------------------------------------- */

static bool is_time(const char *name)
{
	return strlen(name) >= KVFS_VERSION_TIME_LEN && name[4] == '-' && name[10] == 'T' &&
	       name[KVFS_VERSION_TIME_LEN - 1] == 'Z';
}

/* The tree of a version, with a reference for the caller. -KV_E_GONE: its state is no more. */
static int open_tree(struct kvfsd *d, const struct kvfs_version *version, struct tree **out)
{
	char key[sizeof(TREE_AT) + 20];
	int err;

	if (version->snapshot) {
		err = tree_open(&d->trees, d->fs, version->snapshot, out);
		return err == -KV_E_NOTFOUND ? -KV_E_GONE : err;
	}
	(void)snprintf(key, sizeof(key), TREE_AT "%llu", (unsigned long long)version->commit);
	return tree_open(&d->trees, d->fs, key, out);
}

/* The node at @path in a tree, referenced. */
static int walk(struct kvfs *fs, struct kv_slice path, struct kvfs_node **out,
		struct kvfs_attr *attr)
{
	struct kvfs_node *node = kvfs_root(fs), *next;
	char name[KVFS_NAME_MAX + 1];
	int err = kvfs_getattr(fs, node, attr);

	while (!err && path.len) {
		const uint8_t *slash = memchr(path.data, '/', path.len);
		size_t len = slash ? (size_t)(slash - path.data) : path.len;

		if (len > KVFS_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path.data, len);
		name[len] = '\0';
		path = kv_slice_of(path.data + len + (slash != NULL),
				   path.len - len - (slash != NULL));
		err = kvfs_lookup(fs, node, name, &next, attr);
		kvfs_node_forget(fs, node, 1);
		node = next;
	}
	if (!err)
		*out = node;
	return err;
}

/* One version, found now or before. -ENOENT. */
static int find_locked(fuse_req_t req, struct control_past *p, const char *name, struct tree **tree,
		       size_t *skip)
{
	struct kvfs_caller who = caller_of(req);
	struct kvfs_version version;
	int err = p->found ? kvfs_versions_find(p->found, &who, name, &version) : -ENOENT;

	if (!err)
		err = open_tree(op_daemon(req), &version, tree);
	if (err == -ENOENT || err == -KV_E_GONE) {
		err = search_locked(op_daemon(req), p);
		if (!err)
			err = kvfs_versions_find(p->found, &who, name, &version);
		if (!err)
			err = open_tree(op_daemon(req), &version, tree);
	}
	if (!err)
		*skip = version.skip;
	return err == -KV_E_GONE ? -ENOENT : err;
}

/* The reference of @tree goes to the kernel. */
static void reply_version(fuse_req_t req, const struct control_past *p, struct tree *tree,
			  size_t skip)
{
	struct kv_slice path = kv_slice_of(p->path.data + skip, p->path.len - skip);
	struct kvfsd *d = op_daemon(req);
	struct fuse_entry_param entry;
	struct kvfs_node *node;
	struct kvfs_attr attr;
	int err = walk(tree->fs, path, &node, &attr);

	if (err) {
		tree_unref(&d->trees, tree->id, 1);
		reply_result(req, NULL, err);
		return;
	}
	reply_fill_entry(req, tree->id, node, &attr, &entry);
	entry.entry_timeout = 0;
	if (fuse_reply_entry(req, &entry))
		op_forget_node(d, entry.ino, 1);
}

/* ---- lookups --------------------------------------------------------------------------------- */

static int child_path(const struct control_past *parent, const char *name, struct kv_buf *out)
{
	int err = buf_append_slice(out, kv_buf_slice(&parent->path));

	if (!err && out->len)
		err = buf_append_byte(out, '/');
	return err ? err : buf_append(out, name, strlen(name));
}

static void reply_past(fuse_req_t req, struct control_past *p)
{
	struct fuse_entry_param entry = {.ino = p->id};
	struct control *c = &op_daemon(req)->control;
	int err = control_stat(op_daemon(req), p->id, &entry.attr);

	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	pthread_mutex_lock(&c->mu);
	p->refs++;
	pthread_mutex_unlock(&c->mu);
	if (fuse_reply_entry(req, &entry))
		control_history_unref(c, p->id, 1);
}

static void lookup_path(fuse_req_t req, const struct control_past *parent, const char *name)
{
	struct control *c = &op_daemon(req)->control;
	struct control_past *p = NULL;
	struct kv_buf path = {0};
	int err = child_path(parent, name, &path);

	if (!err) {
		p = use_path(c, kv_buf_slice(&path));
		err = p ? 0 : -ENOMEM;
	}
	if (!err) {
		pthread_mutex_lock(&p->mu);
		err = look_locked(req, p);
		pthread_mutex_unlock(&p->mu);
	}
	if (err)
		reply_result(req, NULL, err == -EINVAL ? -ENOENT : err);
	else
		reply_past(req, p);
	if (p)
		release(c, p, 0, 1);
	kv_buf_free(&path);
}

void control_history_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct control *c = &op_daemon(req)->control;
	struct control_past *p;
	struct tree *tree;
	size_t skip;
	int err = use_id(c, parent, &p);

	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	err = -ENOENT;
	if (is_time(name)) {
		pthread_mutex_lock(&p->mu);
		err = find_locked(req, p, name, &tree, &skip);
		pthread_mutex_unlock(&p->mu);
	}
	if (!err)
		reply_version(req, p, tree, skip);
	else if (err == -ENOENT)
		lookup_path(req, p, name);
	else
		reply_result(req, NULL, err);
	release(c, p, 0, 1);
}

/* ---- listing --------------------------------------------------------------------------------- */

struct listed {
	int (*emit)(void *ctx, const char *name, bool version);
	void *ctx;
	const struct kvfs_versions *found;
	struct kv_buf text;  /* names, each with byte 0 */
	struct kv_buf names; /* size_t: where they are in it */
};

static int list_version(void *ctx, const struct kvfs_version *version)
{
	const struct listed *l = ctx;

	return l->emit(l->ctx, version->name, true);
}

/* A version hides a name that is the same. */
static int gather_name(void *ctx, const char *name)
{
	const struct kvfs_caller all = {.all = true};
	struct kvfs_version version;
	struct listed *l = ctx;
	size_t at = l->text.len;
	int err;

	if (is_time(name) && !kvfs_versions_find(l->found, &all, name, &version))
		return 0;
	err = buf_append(&l->text, name, strlen(name) + 1);
	return err ? err : buf_append(&l->names, &at, sizeof(at));
}

static int compare_names(const void *a, const void *b, void *text)
{
	return strcmp((const char *)text + *(const size_t *)a,
		      (const char *)text + *(const size_t *)b);
}

/* In order, each once, though it may have been in several directories. */
static int list_names(struct listed *l)
{
	size_t *at = (void *)l->names.data, count = l->names.len / sizeof(*at);
	const char *name, *last = NULL;
	int err = 0;

	if (count)
		qsort_r(at, count, sizeof(*at), compare_names, l->text.data);
	for (size_t i = 0; !err && i < count; i++) {
		name = (const char *)l->text.data + at[i];
		if (!last || strcmp(last, name) != 0)
			err = l->emit(l->ctx, name, false);
		last = name;
	}
	return err;
}

int control_history_list(fuse_req_t req, fuse_ino_t id,
			 int (*emit)(void *ctx, const char *name, bool version), void *ctx)
{
	struct kvfs_caller who = caller_of(req);
	struct listed l = {.emit = emit, .ctx = ctx};
	struct control *c = &op_daemon(req)->control;
	struct control_past *p;
	int err = use_id(c, id, &p);

	if (err)
		return err;
	pthread_mutex_lock(&p->mu);
	err = search_locked(op_daemon(req), p);
	l.found = p->found;
	if (!err)
		err = kvfs_versions_each(l.found, &who, list_version, &l);
	if (!err)
		err = kvfs_versions_names(l.found, &who, gather_name, &l);
	pthread_mutex_unlock(&p->mu);
	if (!err)
		err = list_names(&l);
	kv_buf_free(&l.text);
	kv_buf_free(&l.names);
	release(c, p, 0, 1);
	return err;
}
