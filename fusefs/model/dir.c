/* SPDX-License-Identifier: MIT */
/*
 * Open directories. Entries come in order of their names, and an open directory
 * keeps the names it has returned, one after the other in one buffer: a cookie
 * is the ordinal of a name, and continuing after it means seeking the first
 * name behind it. So a cookie outlives whatever is added or removed, and
 * nothing is read that is not returned.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/lookup.h"
#include "fusefs/model/place.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

#define DIR_DOTS  2U  /* cookies of "." and ".." */
#define DIR_EVERY 16U /* names between two marks */

struct kvfs_dir {
	struct kvfs *fs;
	struct kvfs_node *node;
	struct kv_buf names; /* a length byte and the name, each */
	struct kv_buf marks; /* size_t: where every DIR_EVERY-th name begins */
	uint64_t count;
	bool noatime; /* listing it leaves the access time */
};

struct dir_args {
	struct kvfs_dir *dir;
	uint64_t cookie;
	bool plus;
	int (*emit)(void *ctx, const struct kvfs_dirent *entry);
	void *ctx;
	bool stopped;
	struct inode_buf self;
	struct kvfs_node *refused; /* made for an entry that was not taken */
};

int kvfs_dir_open(struct kvfs *fs, struct kvfs_node *node, struct kvfs_dir **out)
{
	struct kvfs_dir *dir;

	if (!node_is_dir(node))
		return -ENOTDIR;
	dir = calloc(1, sizeof(*dir));
	if (!dir)
		return -ENOMEM;
	dir->fs = fs;
	dir->node = node;
	node_hold(fs, node);
	*out = dir;
	return 0;
}

void kvfs_dir_noatime(struct kvfs_dir *dir)
{
	dir->noatime = true;
}

void kvfs_dir_close(struct kvfs_dir *dir)
{
	if (!dir)
		return;
	node_release(dir->fs, dir->node);
	kv_buf_free(&dir->names);
	kv_buf_free(&dir->marks);
	free(dir);
}

/* The name with ordinal @n, from 0. */
static struct kv_slice dir_name(const struct kvfs_dir *dir, uint64_t n)
{
	size_t off;

	memcpy(&off, dir->marks.data + n / DIR_EVERY * sizeof(off), sizeof(off));
	for (uint64_t i = n % DIR_EVERY; i; i--)
		off += 1U + dir->names.data[off];
	return kv_slice_of(dir->names.data + off + 1, dir->names.data[off]);
}

/* Room for one more name, so that remembering it cannot fail. */
static int dir_reserve(struct kvfs_dir *dir)
{
	int err = buf_reserve(&dir->names, 1 + KVFS_NAME_MAX);

	return err ? err : buf_reserve(&dir->marks, sizeof(size_t));
}

static int dir_remember(struct kvfs_dir *dir, struct kv_slice name)
{
	size_t off = dir->names.len;
	int err = 0;

	if (dir->count % DIR_EVERY == 0)
		err = buf_append(&dir->marks, &off, sizeof(off));
	if (!err)
		err = buf_append_byte(&dir->names, (uint8_t)name.len);
	if (!err)
		err = buf_append_slice(&dir->names, name);
	if (!err)
		dir->count++;
	return err;
}

static void dir_emit_dot(struct dir_args *a, const char *name, const struct kvfs_node *node,
			 uint64_t cookie)
{
	struct kvfs_dirent entry = {
		.name = name, .ino = node->ino, .type = S_IFDIR, .cookie = cookie};

	a->stopped = a->emit(a->ctx, &entry) != 0;
}

/* With attributes and the node; @value is that of the name. */
static int dir_emit_plus(struct dir_args *a, struct kv_txn *txn, struct kv_slice name,
			 struct kv_slice value, struct kvfs_dirent *entry)
{
	struct kvfs *fs = a->dir->fs;
	struct inode_buf rec = {0};
	struct kvfs_attr attr;
	enum node_state state;
	int err;

	err = inode_decode(value, &rec.r);
	if (!err)
		err = lookup_follow(fs, txn, &rec, &state);
	if (!err)
		err = node_make(fs, &rec.r, state, a->dir->node, name, &entry->node);
	if (!err) {
		(void)times_apply(fs, entry->node, &rec.r);
		node_attr(entry->node, &rec.r, &attr);
		entry->attr = &attr;
		a->stopped = a->emit(a->ctx, entry) != 0;
		if (a->stopped)
			a->refused = entry->node;
	}
	inode_buf_free(&rec);
	return err;
}

static int dir_emit_name(struct dir_args *a, struct kv_txn *txn, struct kv_iter *it,
			 struct kv_slice name, uint64_t cookie)
{
	char text[KVFS_NAME_MAX + 1];
	struct kvfs_dirent entry = {.name = text, .cookie = cookie};
	struct kv_slice value;
	struct inode r;
	int err;

	memcpy(text, name.data, name.len);
	text[name.len] = 0;
	err = kv_iter_value(it, &value);
	if (!err)
		err = inode_decode(value, &r);
	if (err)
		return err;
	entry.ino = r.id;
	entry.type = r.mode & S_IFMT;
	if (a->plus)
		return dir_emit_plus(a, txn, kv_slice_of(text, name.len), value, &entry);
	a->stopped = a->emit(a->ctx, &entry) != 0;
	return 0;
}

/* Names from the one with ordinal @n on; those up to dir->count were returned before. */
static int dir_names(struct dir_args *a, struct kv_txn *txn, struct kv_iter *it, uint64_t n)
{
	struct kvfs_dir *dir = a->dir;
	struct kv_slice prefix = place_node_prefix(dir->node), name;
	uint8_t copy[KVFS_NAME_MAX];
	int err = 0;

	while (!err && !a->stopped) {
		err = place_next_child(it, prefix, &name);
		if (!err)
			err = dir_reserve(dir);
		if (err)
			break;
		while (n < dir->count && slice_compare(dir_name(dir, n), name) < 0)
			n++; /* returned before, and gone since */
		if (n == dir->count || slice_equal(dir_name(dir, n), name)) {
			memcpy(copy, name.data, name.len);
			name.data = copy;
			err = dir_emit_name(a, txn, it, name, n + 1 + DIR_DOTS);
			if (err || a->stopped)
				break;
			if (n == dir->count)
				err = dir_remember(dir, name);
			n++;
		}
		if (!err)
			err = kv_iter_next(it);
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int dir_seek(const struct kvfs_dir *dir, struct kv_iter *it, uint64_t n)
{
	struct model_key key;

	if (!n)
		return kv_iter_first(it);
	/* Behind the name and all that is below it. */
	place_name(place_node_prefix(dir->node), dir_name(dir, n - 1), &key);
	key.b[key.len++] = 1;
	return kv_iter_seek(it, model_key_slice(&key));
}

static int dir_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct dir_args *a = arg;
	struct kvfs_node *node = a->dir->node;
	struct kv_range range = {.prefix = place_node_prefix(node)};
	uint64_t n = a->cookie > DIR_DOTS ? a->cookie - DIR_DOTS : 0;
	struct kv_iter *it;
	int err;

	if (!a->cookie) {
		err = lookup_node(fs, txn, node, &a->self);
		if (err)
			return err;
		dir_emit_dot(a, ".", node, 1);
	}
	if (a->cookie < DIR_DOTS && !a->stopped)
		dir_emit_dot(a, "..", node->parent ? node->parent : node, DIR_DOTS);
	if (a->stopped || node->state == NODE_ORPHAN)
		return 0;
	err = kv_iter_open(txn, MODEL_NAMES, &range, &it);
	if (err)
		return err;
	err = dir_seek(a->dir, it, n);
	if (!err)
		err = dir_names(a, txn, it, n);
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

int kvfs_dir_read(struct kvfs_dir *dir, uint64_t cookie, bool plus,
		  int (*emit)(void *ctx, const struct kvfs_dirent *entry), void *ctx)
{
	struct dir_args a = {.dir = dir, .cookie = cookie, .plus = plus, .emit = emit, .ctx = ctx};
	int err;

	if (!cookie) {
		buf_clear(&dir->names);
		buf_clear(&dir->marks);
		dir->count = 0;
	}
	if (cookie > dir->count + DIR_DOTS)
		return -EINVAL;
	err = retry_read(dir->fs, dir_run, &a);
	if (!err && !cookie && !dir->noatime)
		times_accessed(dir->fs, dir->node, &a.self.r);
	node_unref(dir->fs, a.refused, 1);
	inode_buf_free(&a.self);
	return err;
}
