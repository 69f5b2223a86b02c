/* SPDX-License-Identifier: MIT */
/*
 * The key API's single operations. While no directory was ever moved, a key is
 * found by one read at the path itself; otherwise directory by directory. A
 * key that is there keeps its file, with its id and attributes; missing parents
 * are made in the same transaction.
 */
#include "fusefs/model/key.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/model/content.h"
#include "fusefs/model/key_change.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/buf.h"

int key_check(struct kv_slice key)
{
	const uint8_t *slash;
	struct kv_slice part;
	int err;

	do {
		slash = key.len ? memchr(key.data, '/', key.len) : NULL;
		part = kv_slice_of(key.data, slash ? (size_t)(slash - key.data) : key.len);
		err = place_check_name(part);
		if (err)
			return err;
		if (slash)
			key = kv_slice_of(slash + 1, key.len - part.len - 1);
	} while (slash);
	return 0;
}

/* What a record that stands where a directory should be means. */
static int key_not_dir(const struct inode *r)
{
	return (r->mode & S_IFMT) == S_IFLNK ? -ELOOP : -ENOTDIR;
}

/* The next component of @rest that is not its last; false if there is none. */
static bool key_next_dir(struct kv_slice *rest, struct kv_slice *name)
{
	const uint8_t *slash = memchr(rest->data, '/', rest->len);

	if (!slash)
		return false;
	*name = kv_slice_of(rest->data, (size_t)(slash - rest->data));
	*rest = kv_slice_of(slash + 1, rest->len - name->len - 1);
	return true;
}

/* All directories are at their natural places: the parent is at the path itself. */
static int key_find_natural(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key,
			    struct key_place *out)
{
	const uint8_t *slash = memrchr(key.data, '/', key.len);
	struct inode_buf rec = {0};
	struct model_key dir;
	size_t len;
	int err;

	if (!slash)
		return -KV_E_NOTFOUND;
	len = (size_t)(slash - key.data);
	if (len + 1 > MODEL_PREFIX_MAX)
		return -KV_E_NOTFOUND;
	dir.keyspace = MODEL_NAMES;
	dir.len = len;
	for (size_t i = 0; i < len; i++)
		dir.b[i] = key.data[i] == '/' ? 0 : key.data[i];
	err = inode_get(fs, txn, &dir, false, &rec);
	if (!err && (!inode_is_dir(&rec.r) || rec.r.prefix.len))
		err = -KV_E_NOTFOUND; /* the walk finds out */
	inode_buf_free(&rec);
	if (err)
		return err;
	out->name = kv_slice_of(slash + 1, key.len - len - 1);
	out->dir = dir;
	out->prefix = dir;
	out->prefix.b[out->prefix.len++] = 0;
	out->missing = kv_slice_of(NULL, 0);
	return 0;
}

int key_find(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct key_place *out)
{
	struct inode_buf rec = {0};
	struct kv_slice rest = key, before = key, name;
	struct model_key child;
	int err = -KV_E_NOTFOUND;

	if (!atomic_load(&fs->displaced))
		err = key_find_natural(fs, txn, key, out);
	if (err != -KV_E_NOTFOUND)
		return err;
	place_meta("root", &out->dir);
	place_name(kv_slice_of(NULL, 0), kv_slice_of(NULL, 0), &out->prefix);
	out->missing = kv_slice_of(NULL, 0);
	err = 0;
	while (key_next_dir(&rest, &name)) {
		place_name(model_key_slice(&out->prefix), name, &child);
		err = inode_get(fs, txn, &child, false, &rec);
		if (err)
			break;
		if (!inode_is_dir(&rec.r)) {
			err = key_not_dir(&rec.r);
			break;
		}
		out->dir = child;
		place_prefix(&rec.r, model_key_slice(&out->prefix), name, &child);
		if (child.len > MODEL_PREFIX_MAX) {
			err = -KV_E_CORRUPT;
			break;
		}
		out->prefix = child;
		before = rest;
	}
	inode_buf_free(&rec);
	if (err && err != -KV_E_NOTFOUND)
		return err;
	while (key_next_dir(&rest, &name))
		continue;
	out->name = rest;
	if (err == -KV_E_NOTFOUND)
		out->missing = kv_slice_of(before.data, before.len - rest.len);
	return 0;
}

int key_lookup(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct inode_buf *out)
{
	struct key_place place;
	enum node_state state;
	struct model_key at;
	int err;

	err = key_find(fs, txn, key, &place);
	if (err)
		return err;
	if (place.missing.len)
		return -KV_E_NOTFOUND;
	place_name(model_key_slice(&place.prefix), place.name, &at);
	err = inode_get(fs, txn, &at, false, out);
	if (err)
		return err;
	if (inode_is_dir(&out->r))
		return -EISDIR;
	if ((out->r.mode & S_IFMT) != S_IFREG)
		return -EINVAL;
	return lookup_follow(fs, txn, out, &state);
}

int key_read(struct kvfs *fs, struct kv_txn *txn, struct kv_slice key, struct kv_buf *value)
{
	struct inode_buf rec = {0};
	int err;

	err = key_lookup(fs, txn, key, &rec);
	if (!err && rec.r.size > KEY_VALUE_MAX)
		err = -KV_E_TOO_BIG;
	if (!err)
		err = content_read(txn, &rec.r, 0, rec.r.size, value);
	inode_buf_free(&rec);
	return err;
}

struct key_args {
	struct kv_slice key, value;
	struct key_op op;
	struct key_nodes nodes;
};

/* One read, if the path is natural and the contents are in the record. */
static int key_get_fast(struct kvfs *fs, struct kv_slice key, struct kv_buf *value)
{
	struct inode_buf rec = {0};
	struct model_key at;
	int err;

	if (fs->snapshot || atomic_load(&fs->displaced) || key.len > MODEL_PREFIX_MAX)
		return -KV_E_NOTFOUND;
	at.keyspace = MODEL_NAMES;
	at.len = key.len;
	for (size_t i = 0; i < key.len; i++)
		at.b[i] = key.data[i] == '/' ? 0 : key.data[i];
	os_rwlock_rdlock(&fs->ns);
	err = atomic_load(&fs->displaced) ? -KV_E_NOTFOUND : inode_get(fs, NULL, &at, false, &rec);
	os_rwlock_rdunlock(&fs->ns);
	if (!err && (rec.r.kind != MODEL_RECORD_FULL || (rec.r.mode & S_IFMT) != S_IFREG ||
		     (rec.r.flags & MODEL_FLAG_CHUNKS)))
		err = -KV_E_NOTFOUND;
	if (!err)
		err = buf_assign(value, rec.r.contents);
	inode_buf_free(&rec);
	return err;
}

int kvfs_key_get(struct kvfs *fs, struct kv_slice key, struct kv_buf *value)
{
	struct kv_buf out = {0};
	struct kv_txn *txn;
	int err;

	err = fs->top.len ? -EOPNOTSUPP : key_check(key);
	if (err)
		return err;
	err = key_get_fast(fs, key, value);
	if (err != -KV_E_NOTFOUND)
		return err;
	/* One snapshot holds directories and file: no lock is needed. */
	err = retry_begin_read(fs, &txn);
	if (err)
		return err;
	err = key_read(fs, txn, key, &out);
	retry_end_read(fs, txn);
	if (!err) {
		kv_buf_free(value);
		*value = out;
	} else {
		kv_buf_free(&out);
	}
	return err;
}

static int key_put_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct key_args *a = arg;

	a->op.fs = fs;
	a->op.txn = txn;
	a->op.reader = fs->live ? txn : NULL; /* nobody else reads a draft meanwhile */
	return key_put(&a->op, a->key, a->value);
}

static int key_delete_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct key_args *a = arg;

	a->op.fs = fs;
	a->op.txn = txn;
	a->op.reader = fs->live ? txn : NULL; /* nobody else reads a draft meanwhile */
	return key_delete(&a->op, a->key);
}

static void key_done(struct kvfs *fs, void *arg)
{
	struct key_args *a = arg;

	key_nodes_settle(fs, &a->nodes);
}

static void key_again(struct kvfs *fs, void *arg)
{
	struct key_args *a = arg;

	key_nodes_free(fs, &a->nodes);
}

static int key_change(struct kvfs *fs, struct key_args *a,
		      int (*run)(struct kvfs *fs, struct kv_txn *txn, void *arg), bool exclusive)
{
	struct retry_op op = {
		.run = run, .done = key_done, .again = key_again, .arg = a, .exclusive = exclusive};
	int err = key_check(a->key);

	if (err)
		return err;
	a->op.now = inode_time(kvfs_now());
	a->op.nodes = &a->nodes;
	err = retry_write(fs, &op);
	key_nodes_free(fs, &a->nodes);
	return err;
}

int kvfs_key_put(struct kvfs *fs, struct kv_slice key, struct kv_slice value,
		 const struct kvfs_owner *owner)
{
	struct kvfs_owner process = {getuid(), getgid(), 0};
	struct key_args a = {.key = key, .value = value};

	if (value.len > KEY_VALUE_MAX)
		return -KV_E_TOO_BIG;
	a.op.owner = owner ? owner : &process;
	return key_change(fs, &a, key_put_run, false);
}

int kvfs_key_delete(struct kvfs *fs, struct kv_slice key)
{
	struct key_args a = {.key = key};

	return key_change(fs, &a, key_delete_run, true);
}
