/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes. Small ones are in the record, so that they cost no read
 * of their own; a value too large for it, or one that comes when the record is
 * full, gets a key under the file's id, and a flag in the record says that
 * there are such.
 */
#include "fusefs/model/xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "fusefs/model/acl.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/cursor.h"

struct xattr_args;
/* What is asked of a record that was read: @txn may be NULL if the record holds all attributes. */
typedef int (*xattr_question)(struct kv_txn *txn, struct xattr_args *a);

struct xattr_args {
	struct edit e;
	struct kv_slice name;
	struct kv_slice value;
	bool removes;
	bool acl;
	int flags;
	xattr_question question;
	struct kv_buf inside; /* what the record's attributes become */
	struct kv_buf out;
};

/* The next attribute of a record, which was checked when it was decoded. */
static bool xattr_next(struct cursor *c, struct kv_slice *name, struct kv_slice *value)
{
	uint8_t name_len;
	uint16_t value_len;

	if (!cursor_left(c))
		return false;
	name_len = cursor_u8(c);
	value_len = cursor_le16(c);
	*name = cursor_bytes(c, name_len);
	*value = cursor_bytes(c, value_len);
	return !c->bad;
}

bool xattr_find(struct kv_slice xattrs, struct kv_slice name, struct kv_slice *value)
{
	struct cursor c = cursor_of(xattrs);
	struct kv_slice n, v;

	while (xattr_next(&c, &n, &v))
		if (slice_equal(n, name)) {
			*value = v;
			return true;
		}
	return false;
}

static int xattr_append(struct kv_buf *out, struct kv_slice name, struct kv_slice value)
{
	struct model_xattr head = {(uint8_t)name.len, le16_of((uint16_t)value.len)};
	int err;

	err = buf_append(out, &head, sizeof(head));
	if (!err)
		err = buf_append_slice(out, name);
	return err ? err : buf_append_slice(out, value);
}

int xattr_rebuild(struct kv_slice xattrs, struct kv_slice name, const struct kv_slice *value,
		  struct kv_buf *out)
{
	struct cursor c = cursor_of(xattrs);
	struct kv_slice n, v;
	bool due = value != NULL;
	int err = 0, order;

	while (!err && xattr_next(&c, &n, &v)) {
		order = slice_compare(n, name);
		if (due && order > 0) {
			err = xattr_append(out, name, *value);
			due = false;
		}
		if (!err && order)
			err = xattr_append(out, n, v);
	}
	if (!err && due)
		err = xattr_append(out, name, *value);
	return err;
}

void xattr_key(uint64_t id, struct kv_slice name, struct model_key *out)
{
	place_id(MODEL_XATTRS, id, out);
	memcpy(out->b + out->len, name.data, name.len);
	out->len += name.len;
}

int xattr_add(struct kv_txn *txn, struct inode *r, struct kv_slice name, struct kv_slice value,
	      struct kv_buf *buf)
{
	struct model_key key;
	struct kv_buf fresh = {0};
	int err;

	if (value.len <= MODEL_XATTR_VALUE_MAX &&
	    r->xattrs.len + sizeof(struct model_xattr) + name.len + value.len <= MODEL_XATTRS_MAX) {
		err = xattr_rebuild(r->xattrs, name, &value, &fresh);
		if (err) {
			kv_buf_free(&fresh);
			return err;
		}
		kv_buf_free(buf);
		*buf = fresh;
		r->xattrs = kv_buf_slice(buf);
		return 0;
	}
	r->flags |= MODEL_FLAG_XATTRS;
	xattr_key(r->id, name, &key);
	return kv_txn_put(txn, key.keyspace, model_key_slice(&key), value);
}

/* Take @name out of the record. */
static int xattr_drop_inside(struct inode *r, struct kv_slice name, struct kv_buf *buf)
{
	struct kv_buf fresh = {0};
	int err = xattr_rebuild(r->xattrs, name, NULL, &fresh);

	if (err) {
		kv_buf_free(&fresh);
		return err;
	}
	kv_buf_free(buf);
	*buf = fresh;
	r->xattrs = kv_buf_slice(buf);
	return 0;
}

/* Append the names beside the record. @out NULL: only whether there is one. */
static int xattr_names_beside(struct kv_txn *txn, uint64_t id, struct kv_buf *out, bool *any)
{
	struct model_key key;
	struct kv_range range;
	struct kv_iter *it;
	struct kv_slice k;
	int err;

	*any = false;
	place_id(MODEL_XATTRS, id, &key);
	range = (struct kv_range){.prefix = model_key_slice(&key)};
	err = kv_iter_open(txn, MODEL_XATTRS, &range, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		*any = true;
		if (!out)
			break;
		k = kv_iter_key(it);
		err = buf_append(out, k.data + key.len, k.len - key.len);
		if (!err)
			err = buf_append_byte(out, 0);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int xattr_list(struct kv_txn *txn, const struct inode *r, struct kv_buf *out)
{
	struct cursor c = cursor_of(r->xattrs);
	struct kv_slice name, value;
	bool any;
	int err = 0;

	while (!err && xattr_next(&c, &name, &value)) {
		err = buf_append_slice(out, name);
		if (!err)
			err = buf_append_byte(out, 0);
	}
	if (err || !(r->flags & MODEL_FLAG_XATTRS))
		return err;
	return xattr_names_beside(txn, r->id, out, &any);
}

/* A new name must leave the list within KVFS_XATTR_LIST_MAX. */
static int xattr_check_list(struct kv_txn *txn, const struct inode *r, struct kv_slice name)
{
	struct kv_buf names = {0};
	int err;

	if (!(r->flags & MODEL_FLAG_XATTRS))
		return 0; /* what fits into a record is far below */
	err = xattr_list(txn, r, &names);
	if (!err && names.len + name.len + 1 > KVFS_XATTR_LIST_MAX)
		err = -ENOSPC;
	kv_buf_free(&names);
	return err;
}

int xattr_load(struct kv_txn *txn, const struct inode *r, struct kv_slice name, struct kv_buf *out)
{
	struct model_key key;
	struct kv_slice value;
	int err;

	if (xattr_find(r->xattrs, name, &value))
		return buf_assign(out, value);
	if (!(r->flags & MODEL_FLAG_XATTRS))
		return -ENODATA;
	xattr_key(r->id, name, &key);
	err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), out);
	return err == -KV_E_NOTFOUND ? -ENODATA : err;
}

int xattr_drop(struct kv_txn *txn, struct inode *r, struct kv_slice name, struct kv_buf *buf,
	       bool *found)
{
	struct model_key key;
	struct kv_slice value;
	bool any;
	int err;

	*found = xattr_find(r->xattrs, name, &value);
	if (*found)
		return xattr_drop_inside(r, name, buf);
	if (!(r->flags & MODEL_FLAG_XATTRS))
		return 0;
	xattr_key(r->id, name, &key);
	err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), NULL);
	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	*found = true;
	err = kv_txn_delete(txn, key.keyspace, model_key_slice(&key));
	if (!err)
		err = xattr_names_beside(txn, r->id, NULL, &any);
	if (!err && !any)
		r->flags &= (uint8_t)~MODEL_FLAG_XATTRS;
	return err;
}

/* The value goes in, unless it is an access list that the mode can tell. */
static int xattr_put(struct kv_txn *txn, struct inode *r, struct xattr_args *a)
{
	int err;

	if (acl_is_access(a->name) && acl_to_mode(a->value, &r->mode))
		return 0;
	err = xattr_check_list(txn, r, a->name);
	return err ? err : xattr_add(txn, r, a->name, a->value, &a->inside);
}

static int xattr_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct xattr_args *a = arg;
	struct inode *r = &a->e.rec.r;
	bool found;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (!err)
		err = inode_check_fixed(r);
	if (!err)
		err = xattr_drop(txn, r, a->name, &a->inside, &found);
	if (err)
		return err;
	if (found && (a->flags & XATTR_CREATE))
		return -EEXIST;
	if (!found && (a->flags & XATTR_REPLACE))
		return -ENODATA;
	if (!found && a->removes)
		return a->acl ? 0 : -ENODATA;
	if (!a->removes)
		err = xattr_put(txn, r, a);
	if (err)
		return err;
	if (a->flags & KVFS_XATTR_KILL_SGID)
		r->mode &= ~(uint32_t)S_ISGID;
	r->ctime = a->e.now;
	return edit_store(txn, &a->e);
}

static void xattr_done(struct kvfs *fs, void *arg)
{
	struct xattr_args *a = arg;

	edit_done(fs, &a->e);
}

static int xattr_change(struct kvfs *fs, struct xattr_args *a)
{
	struct retry_op op = {.run = xattr_run, .done = xattr_done, .arg = a};
	int err;

	a->e.now = inode_time(kvfs_now());
	err = retry_write(fs, &op);
	edit_free(&a->e);
	kv_buf_free(&a->inside);
	return err;
}

static int xattr_check_acl(const struct kvfs_node *node, struct xattr_args *a)
{
	int err = acl_check(a->value);

	if (err)
		return err;
	if (node->type == (uint16_t)S_IFLNK)
		return -EOPNOTSUPP;
	a->acl = true;
	a->removes = acl_is_empty(a->value);
	if (acl_is_default(a->name) && !node_is_dir(node) && !a->removes)
		return -EACCES;
	return 0;
}

int kvfs_setxattr(struct kvfs *fs, struct kvfs_node *node, const char *name, struct kv_slice value,
		  int flags)
{
	struct xattr_args a = {.e = {.node = node},
			       .name = kv_slice_of(name, strlen(name)),
			       .value = value,
			       .flags = flags};

	int err;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE | KVFS_XATTR_KILL_SGID))
		return -EINVAL;
	if (acl_is_access(a.name) || acl_is_default(a.name)) {
		err = xattr_check_acl(node, &a);
		if (err)
			return err;
	}
	if (!a.name.len || a.name.len > KVFS_XATTR_NAME_MAX)
		return -ERANGE;
	if (value.len > KVFS_XATTR_VALUE_MAX)
		return -E2BIG;
	return xattr_change(fs, &a);
}

int kvfs_removexattr(struct kvfs *fs, struct kvfs_node *node, const char *name)
{
	struct xattr_args a = {
		.e = {.node = node}, .name = kv_slice_of(name, strlen(name)), .removes = true};

	a.acl = acl_is_access(a.name) || acl_is_default(a.name);
	if (!a.name.len || a.name.len > KVFS_XATTR_NAME_MAX)
		return -ERANGE;
	return xattr_change(fs, &a);
}

static int xattr_ask_value(struct kv_txn *txn, struct xattr_args *a)
{
	return xattr_load(txn, &a->e.rec.r, a->name, &a->out);
}

static int xattr_ask_names(struct kv_txn *txn, struct xattr_args *a)
{
	return xattr_list(txn, &a->e.rec.r, &a->out);
}

static int xattr_read_run(struct kvfs *fs, struct kv_txn *txn, const struct model_key *at,
			  void *arg)
{
	struct xattr_args *a = arg;
	int err = lookup_at(fs, txn, at, a->e.node->ino, &a->e.rec);

	return err ? err : a->question(txn, a);
}

/*
 * Mostly the record tells it all and is all that is read, with no transaction: the kernel asks for
 * an attribute before the first write to each file.
 */
static int xattr_read(struct kvfs *fs, struct xattr_args *a, struct kv_buf *out)
{
	int err;

	os_rwlock_rdlock(&fs->ns);
	err = lookup_node(fs, NULL, a->e.node, &a->e.rec);
	os_rwlock_rdunlock(&fs->ns);
	if (!err)
		err = a->e.rec.r.flags & MODEL_FLAG_XATTRS
			      ? retry_read_node(fs, a->e.node, xattr_read_run, a)
			      : a->question(NULL, a);
	if (!err) {
		kv_buf_free(out);
		*out = a->out;
	} else {
		kv_buf_free(&a->out);
	}
	edit_free(&a->e);
	return err;
}

int kvfs_getxattr(struct kvfs *fs, struct kvfs_node *node, const char *name, struct kv_buf *value)
{
	struct xattr_args a = {.e = {.node = node},
			       .name = kv_slice_of(name, strlen(name)),
			       .question = xattr_ask_value};

	if (!a.name.len || a.name.len > KVFS_XATTR_NAME_MAX)
		return -ERANGE;
	return xattr_read(fs, &a, value);
}

int kvfs_listxattr(struct kvfs *fs, struct kvfs_node *node, struct kv_buf *names)
{
	struct xattr_args a = {.e = {.node = node}, .question = xattr_ask_names};

	return xattr_read(fs, &a, names);
}
