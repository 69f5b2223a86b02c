/* SPDX-License-Identifier: MIT */
/*
 * Names and directories. The first scan collects the directories with their
 * prefixes; which keys belong to which is then a matter of splitting a key into
 * prefix and name. Directories are followed up to the root: what does not get
 * there, for want of a directory or in a circle, is reported and reconnected.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/check_state.h"
#include "fusefs/model/open.h"

int check_dir_add(struct check *c, const struct check_dir *dir, size_t *index)
{
	bool inserted;
	void **slot;
	int err;

	if (c->dir_count == c->dir_cap) {
		size_t cap = c->dir_cap ? c->dir_cap * 2 : 64;
		struct check_dir *dirs = realloc(c->dirs, cap * sizeof(*dirs));

		if (!dirs)
			return -ENOMEM;
		c->dirs = dirs;
		c->dir_cap = cap;
	}
	err = btree_insert(&c->by_prefix, dir->prefix, &slot, &inserted);
	if (err)
		return err;
	if (!inserted)
		return -KV_E_EXISTS;
	*slot = (void *)(uintptr_t)(c->dir_count + 1);
	c->dirs[c->dir_count] = *dir;
	*index = c->dir_count++;
	return 0;
}

static size_t check_dir_find(struct check *c, struct kv_slice prefix)
{
	void **slot = btree_find(&c->by_prefix, prefix);

	return slot ? (size_t)(uintptr_t)*slot - 1 : CHECK_NONE;
}

/* Another directory has the prefix: this one, whose children they are not, gets a fresh one. */
static int check_prefix_twice(struct check *c, struct check_dir *dir, struct inode r)
{
	struct model_key key, fresh;
	size_t index;
	int err;

	err = check_report(c, KVFS_PROBLEM_PREFIX_TWICE, true, "%s", check_path(c, dir->key));
	if (err)
		return err;
	place_fresh(r.id, &fresh);
	if (check_dir_find(c, model_key_slice(&fresh)) != CHECK_NONE)
		place_fresh(check_new_id(c), &fresh);
	dir->prefix = kv_slice_of(arena_copy(&c->arena, model_key_slice(&fresh)), fresh.len);
	if (!dir->prefix.data)
		return -ENOMEM;
	dir->displaced = dir->noted = true;
	r.prefix = dir->prefix;
	r.flags |= MODEL_FLAG_PREFIX;
	place_name(kv_slice_of(NULL, 0), kv_slice_of(NULL, 0), &key);
	memcpy(key.b, dir->key.data, dir->key.len);
	key.len = dir->key.len;
	err = check_fix_put(c, &key, &r);
	if (!err)
		err = check_fix_put_id(c, dir->prefix, r.id);
	return err ? err : check_dir_add(c, dir, &index);
}

static int check_name_dir(struct check *c, struct kv_slice key, const struct inode *r,
			  struct kv_slice prefix, struct kv_slice name)
{
	struct check_dir dir = {.id = r->id, .parent = CHECK_NONE, .nlink = r->nlink};
	struct model_key own;
	size_t index;
	int err;

	place_prefix(r, prefix, name, &own);
	dir.displaced = r->prefix.len != 0;
	dir.prefix = kv_slice_of(arena_copy(&c->arena, model_key_slice(&own)), own.len);
	dir.key = kv_slice_of(arena_copy(&c->arena, key), key.len);
	if (!dir.prefix.data || !dir.key.data)
		return -ENOMEM;
	/* Too long for the keys of children: there can be none. */
	if (own.len > MODEL_PREFIX_MAX)
		return check_prefix_twice(c, &dir, *r);
	err = check_dir_add(c, &dir, &index);
	return err == -KV_E_EXISTS ? check_prefix_twice(c, &dir, *r) : err;
}

static int check_name_link(struct check *c, struct kv_slice key, const struct inode *r)
{
	struct check_file *f = check_file_linked(c, r->id);
	int err;

	c->result->links++;
	if (f) {
		f->names++;
		return 0;
	}
	err = check_report(c, KVFS_PROBLEM_DANGLING_LINK, true, "%s: id %" PRIu64,
			   check_path(c, key), r->id);
	return err ? err : check_fix_delete(c, MODEL_NAMES, key);
}

static void check_count_type(struct check *c, const struct inode *r)
{
	switch (r->mode & S_IFMT) {
	case S_IFREG:
		c->result->files++;
		c->result->bytes += r->size;
		break;
	case S_IFDIR:
		c->result->directories++;
		break;
	case S_IFLNK:
		c->result->symlinks++;
		break;
	default:
		c->result->others++;
		break;
	}
}

/* A file's record at its only name. */
static int check_name_file(struct check *c, struct kv_slice key, struct inode *r)
{
	struct model_key at;
	int err = 0;

	if (!inode_is_dir(r) && r->nlink != 1) {
		err = check_report(c, KVFS_PROBLEM_LINK_COUNT, true, "%s: %u, found 1",
				   check_path(c, key), r->nlink);
		r->nlink = 1;
		at.keyspace = MODEL_NAMES;
		at.len = key.len;
		memcpy(at.b, key.data, key.len);
		if (!err)
			err = check_fix_put(c, &at, r);
	}
	return err ? err : check_file_add(c, r, CHECK_NAMED);
}

static int check_name(struct check *c, struct kv_slice key, struct kv_slice value)
{
	struct kv_slice prefix, name;
	struct inode r;
	int err;

	err = place_split(key, &prefix, &name);
	if (!err)
		err = inode_decode(value, &r);
	if (err) {
		err = check_report(c, KVFS_PROBLEM_RECORD, true, "%s", check_path(c, key));
		return err ? err : check_fix_delete(c, MODEL_NAMES, key);
	}
	if (r.kind == MODEL_RECORD_LINK)
		return check_name_link(c, key, &r);
	check_count_type(c, &r);
	err = check_name_file(c, key, &r);
	if (!err && inode_is_dir(&r))
		err = check_name_dir(c, key, &r, prefix, name);
	return err;
}

int check_names(struct check *c)
{
	return check_scan(c, MODEL_NAMES, check_name);
}

/* ---- reachability ---- */

/* The directory of the keys that begin with @prefix; one is made if there is none. */
static int check_parent(struct check *c, struct kv_slice prefix, size_t *out)
{
	struct kvfs_owner owner = {0};
	struct check_dir dir = {.parent = CHECK_NONE, .reach = CHECK_REACHED, .made = true};
	struct model_key at = {0};
	struct inode r;
	int err;

	*out = check_dir_find(c, prefix);
	if (*out != CHECK_NONE)
		return 0;
	err = check_report(c, KVFS_PROBLEM_NO_PARENT, true, "%s", check_path(c, prefix));
	if (err)
		return err;
	dir.id = check_new_id(c);
	dir.nlink = 2;
	dir.prefix = kv_slice_of(arena_copy(&c->arena, prefix), prefix.len);
	dir.displaced = dir.noted = true;
	if (!dir.prefix.data)
		return -ENOMEM;
	open_root_record(&owner, &r);
	r.mode = S_IFDIR | 0700;
	r.id = dir.id;
	r.prefix = dir.prefix;
	r.flags = MODEL_FLAG_PREFIX;
	err = check_reconnect(c, &r, &at);
	if (err)
		return err;
	dir.key = kv_slice_of(arena_copy(&c->arena, model_key_slice(&at)), at.len);
	return dir.key.data ? check_dir_add(c, &dir, out) : -ENOMEM;
}

/* A circle of directories that reaches nothing: cut it at this one. */
static int check_cut_circle(struct check *c, size_t i)
{
	struct check_dir *d = &c->dirs[i];
	struct inode_buf rec = {0};
	struct model_key key = {.keyspace = MODEL_NAMES, .len = d->key.len};
	int err;

	memcpy(key.b, d->key.data, d->key.len);
	d->displaced = d->noted = true;
	err = check_report(c, KVFS_PROBLEM_NO_PARENT, true, "%s", check_path(c, d->key));
	if (!err)
		err = check_fix_record(c, &key, &rec);
	if (!err) {
		rec.r.prefix = d->prefix;
		rec.r.flags |= MODEL_FLAG_PREFIX;
		err = check_fix_delete(c, MODEL_NAMES, d->key);
	}
	if (!err) {
		err = check_reconnect(c, &rec.r, &key);
		d = &c->dirs[i]; /* the table may have grown */
		d->key = kv_slice_of(arena_copy(&c->arena, model_key_slice(&key)), key.len);
		if (!err && !d->key.data)
			err = -ENOMEM;
	}
	inode_buf_free(&rec);
	return err;
}

/* Follow directory @i up; all on the way are then reached. */
static int check_climb(struct check *c, size_t i)
{
	struct kv_slice prefix, name;
	size_t start = i, parent;
	int err = 0;

	while (!err && c->dirs[i].reach == CHECK_UNSEEN) {
		c->dirs[i].reach = CHECK_ON_PATH;
		err = place_split(c->dirs[i].key, &prefix, &name);
		if (!err)
			err = check_parent(c, prefix, &parent);
		if (err)
			return err;
		c->dirs[i].parent = parent;
		i = parent;
	}
	if (!err && c->dirs[i].reach == CHECK_ON_PATH)
		err = check_cut_circle(c, i);
	for (i = start; !err && i != CHECK_NONE && c->dirs[i].reach == CHECK_ON_PATH;
	     i = c->dirs[i].parent)
		c->dirs[i].reach = CHECK_REACHED;
	return err;
}

static int check_child(struct check *c, struct kv_slice key, struct kv_slice value)
{
	struct kv_slice prefix, name;
	struct inode r;
	size_t parent;
	int err;

	if (place_split(key, &prefix, &name) || inode_decode(value, &r))
		return 0; /* reported by the first scan */
	if (check_fix_deleted(c, MODEL_NAMES, key))
		return 0;
	err = check_parent(c, prefix, &parent);
	if (!err && inode_is_dir(&r))
		c->dirs[parent].found++;
	return err;
}

/* A note that a directory's prefix is not the natural one. */
static int check_prefix(struct check *c, struct kv_slice key, struct kv_slice value)
{
	size_t i = check_dir_find(c, key);
	struct check_dir *d = i == CHECK_NONE ? NULL : &c->dirs[i];
	int err;

	if (d && d->displaced && !d->made && value.len == 8 && be64_at(value.data) == d->id) {
		d->noted = true;
		return 0;
	}
	if (d && d->made)
		return 0; /* the repair has put its own */
	err = check_report(c, KVFS_PROBLEM_PREFIX_RECORD, true, "%s", check_path(c, key));
	if (!err && d && d->displaced) {
		d->noted = true;
		return check_fix_put_id(c, key, d->id);
	}
	return err ? err : check_fix_delete(c, MODEL_PREFIXES, key);
}

int check_dirs(struct check *c)
{
	int err = 0;

	/* Made ones are appended meanwhile, and are reached. */
	for (size_t i = 0; i < c->dir_count && !err; i++)
		if (c->dirs[i].reach == CHECK_UNSEEN)
			err = check_climb(c, i);
	if (!err)
		err = check_scan(c, MODEL_NAMES, check_child);
	if (!err)
		err = check_scan(c, MODEL_PREFIXES, check_prefix);
	for (size_t i = 0; i < c->dir_count && !err; i++) {
		struct check_dir *d = &c->dirs[i];

		if (!d->displaced || d->noted)
			continue;
		err = check_report(c, KVFS_PROBLEM_PREFIX_RECORD, true, "%s",
				   check_path(c, d->key));
		if (!err)
			err = check_fix_put_id(c, d->prefix, d->id);
	}
	return err;
}

static void check_dir_key(const struct check *c, size_t i, struct model_key *key)
{
	const struct check_dir *d = &c->dirs[i];

	if (!i) {
		place_meta("root", key);
		return;
	}
	key->keyspace = MODEL_NAMES;
	key->len = d->key.len;
	memcpy(key->b, d->key.data, d->key.len);
}

static int check_set_nlink(struct check *c, size_t i, uint32_t nlink)
{
	struct inode_buf rec = {0};
	struct model_key key;
	int err;

	check_dir_key(c, i, &key);
	err = check_fix_record(c, &key, &rec);
	if (!err) {
		rec.r.nlink = nlink;
		err = check_fix_put(c, &key, &rec.r);
	}
	inode_buf_free(&rec);
	return err;
}

int check_dir_counts(struct check *c)
{
	int err = 0;

	for (size_t i = 0; i < c->dir_count && !err; i++) {
		struct check_dir *d = &c->dirs[i];
		uint32_t nlink = 2 + d->found;

		if (d->nlink != nlink && !d->made)
			err = check_report(c, KVFS_PROBLEM_LINK_COUNT, true, "%s: %u, found %u",
					   check_path(c, d->key), d->nlink, nlink);
		nlink += d->added;
		if (!err && d->nlink != nlink)
			err = check_set_nlink(c, i, nlink);
	}
	return err;
}
