/* SPDX-License-Identifier: MIT */
/*
 * One file of a stream becomes a record. A file that was there keeps its id, and its contents
 * but for the chunks that come; the record is stored when the last of them is there. The root
 * hash is brought along as the sender does it (send_file.c), from what is stored here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/create.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/receive.h"
#include "fusefs/model/share.h"
#include "fusefs/model/xattr.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/cursor.h"

/* Where an item of the new state goes. */
struct receive_place {
	struct model_key key;	 /* of the name */
	struct model_key parent; /* prefix of its directory */
	struct kv_slice name;	 /* in a->path */
	bool there;		 /* something stands at the key */
	bool in_place;		 /* it is the file that is meant */
	uint64_t id;		 /* of what stands there */
};

/* ---- places ---- */

static int receive_find(struct receive_apply *a, struct kv_slice path, struct receive_place *p)
{
	struct inode_buf rec = {0};
	struct kv_slice full, dir;
	size_t len;
	int err = receive_path(a, path, &full);

	if (err)
		return err;
	for (len = full.len; len && full.data[len - 1]; len--)
		;
	p->name = kv_slice_of(full.data + len, full.len - len);
	dir = kv_slice_of(full.data, len ? len - 1 : 0);
	p->parent.len = 0;
	if (full.len)
		err = state_find_place(a->txn, dir, &rec, NULL, &p->parent);
	if (!err)
		err = state_find_place(a->txn, full, &rec, &p->key, NULL);
	p->there = !err;
	p->id = err ? 0 : rec.r.id;
	inode_buf_free(&rec);
	return err == -ENOENT && p->parent.len + p->name.len ? 0 : err;
}

/* The file of the old state at @from, in a->was. */
static int receive_origin(struct receive_apply *a, struct kv_slice from, struct model_key *key,
			  struct model_key *prefix)
{
	struct kv_slice full;
	int err = receive_path(a, from, &full);

	return err ? err : state_find_place(a->pre, full, &a->was, key, prefix);
}

/* ---- attributes ---- */

static void receive_attributes(struct inode *r, const struct inode *attr)
{
	r->kind = MODEL_RECORD_FULL;
	r->flags = (uint8_t)((r->flags & ~MODEL_FLAGS_USER) | attr->flags);
	r->mode = attr->mode;
	r->uid = attr->uid;
	r->gid = attr->gid;
	r->nlink = attr->nlink;
	r->rdev = attr->rdev;
	r->atime = attr->atime;
	r->mtime = attr->mtime;
	r->ctime = attr->ctime;
	r->btime = attr->btime;
}

static int receive_xattrs(struct receive_apply *a, struct inode *r, struct kv_slice xattrs)
{
	struct cursor c = cursor_of(xattrs);
	struct model_key from, to;
	struct kv_buf now = {0};
	bool same;
	int err = roothash_xattrs(a->txn, r, &now);

	same = !err && slice_equal(kv_buf_slice(&now), xattrs);
	kv_buf_free(&now);
	if (err || same)
		return err;
	if (r->flags & MODEL_FLAG_XATTRS) {
		place_id(MODEL_XATTRS, r->id, &from);
		place_id(MODEL_XATTRS, r->id + 1, &to);
		err = kv_txn_delete_range(a->txn, MODEL_XATTRS, model_key_slice(&from),
					  model_key_slice(&to));
		r->flags &= (uint8_t)~MODEL_FLAG_XATTRS;
	}
	r->xattrs = kv_slice_of(NULL, 0);
	while (!err && cursor_left(&c)) {
		uint16_t name_len = cursor_le16(&c);
		uint32_t value_len = cursor_le32(&c);
		struct kv_slice name = cursor_bytes(&c, name_len);
		struct kv_slice value = cursor_bytes(&c, value_len);

		err = c.bad ? -EPROTO : xattr_add(a->txn, r, name, value, &a->xattrs);
	}
	return err;
}

/* A directory that came from elsewhere keeps its prefix, which may be the natural one here. */
static int receive_displace(struct receive_apply *a, struct inode *r,
			    const struct model_key *prefix, const struct receive_place *p)
{
	struct model_key natural;
	uint8_t id[8];

	place_natural(model_key_slice(&p->parent), p->name, &natural);
	if (slice_equal(model_key_slice(prefix), model_key_slice(&natural))) {
		r->flags &= (uint8_t)~MODEL_FLAG_PREFIX;
		r->prefix.len = 0;
		return kv_txn_delete(a->txn, MODEL_PREFIXES, model_key_slice(prefix));
	}
	r->flags |= MODEL_FLAG_PREFIX;
	r->prefix = model_key_slice(prefix);
	be64_put(id, r->id);
	return kv_txn_put(a->txn, MODEL_PREFIXES, r->prefix, kv_slice_of(id, sizeof(id)));
}

/* ---- the record to begin with ---- */

/* As it is now, in the transaction: beside the names, at its place, or where it was. */
static int receive_load(struct receive_apply *a, const struct receive_place *p, bool *linked)
{
	struct model_key key;
	int err;

	place_id(MODEL_INODES, a->was.r.id, &key);
	err = inode_get(a->fs, a->txn, &key, true, &a->rec);
	*linked = !err;
	if (err != -KV_E_NOTFOUND)
		return err;
	if (p->in_place)
		return inode_get(a->fs, a->txn, &p->key, true, &a->rec);
	err = buf_assign(&a->rec.raw, kv_buf_slice(&a->was.raw));
	return err ? err : inode_decode(kv_buf_slice(&a->rec.raw), &a->rec.r);
}

/*
 * Names that stay where they are although another directory has their prefix now: they are
 * written again, so that those who look at them are told of it.
 */
static int receive_adopt(struct receive_apply *a, struct kv_slice prefix)
{
	struct kv_range range = {.prefix = prefix};
	struct kv_buf key = {0}, value = {0};
	struct kv_slice name;
	struct kv_iter *it;
	int err = kv_iter_open(a->pre, MODEL_NAMES, &range, &it);

	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = place_next_child(it, prefix, &name);
		if (!err)
			err = buf_assign(&key, kv_iter_key(it));
		if (err)
			break;
		err = kv_txn_get(a->txn, MODEL_NAMES, kv_buf_slice(&key), &value);
		if (!err)
			err = kv_txn_put(a->txn, MODEL_NAMES, kv_buf_slice(&key),
					 kv_buf_slice(&value));
		if (err && err != -KV_E_NOTFOUND)
			break;
	}
	kv_iter_close(it);
	kv_buf_free(&key);
	kv_buf_free(&value);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int receive_make(struct receive_apply *a, const struct stream_item *item,
			const struct receive_place *p, uint8_t *fresh)
{
	struct inode *r = &a->rec.r;
	struct model_key prefix;
	int err;

	if (p->there)
		return -EPROTO;
	*r = (struct inode){.kind = MODEL_RECORD_FULL, .mode = item->attr.mode};
	err = kvfs_new_id(a->fs, &r->id);
	if (err || !inode_is_dir(r))
		return err;
	err = create_choose_prefix(a->fs, a->txn, model_key_slice(&p->parent), p->name, r, fresh);
	place_prefix(r, model_key_slice(&p->parent), p->name, &prefix);
	return err ? err : receive_adopt(a, model_key_slice(&prefix));
}

static int receive_contents(struct receive_apply *a, const struct stream_item *item)
{
	struct kvfs *fs = a->fs;
	struct inode *r = &a->rec.r;
	uint64_t size = item->attr.size;
	int err = 0;

	if (item->body == STREAM_BODY_KEPT)
		return r->size == size ? 0 : -EPROTO;
	if (item->body == STREAM_BODY_INLINE) {
		err = content_clear(fs, a->txn, r);
		r->size = item->bytes.len;
		r->contents = item->bytes;
		return err;
	}
	if (!(r->flags & MODEL_FLAG_CHUNKS)) {
		r->flags |= MODEL_FLAG_CHUNKS;
		r->contents.len = 0;
		r->size = 0;
		return 0;
	}
	err = share_own(fs, a->txn, r, size);
	if (!err && size < r->size) {
		err = chunk_truncate(a->txn, r, size);
		r->size = size;
	}
	return err;
}

/* ---- storing ---- */

static int receive_put_name(struct receive_apply *a, const struct model_key *key,
			    const struct inode *r)
{
	const struct inode link = {.kind = MODEL_RECORD_LINK, .mode = r->mode, .id = r->id};

	return inode_put(a->txn, key, &link);
}

int receive_close_file(struct receive_apply *a)
{
	struct kv_slice path = kv_buf_slice(&a->file);
	int err;

	if (!a->open)
		return 0;
	a->open = false;
	a->rec.r.size = a->size;
	err = inode_put(a->txn, &a->key, &a->rec.r);
	if (!err && !a->delta && !tops_contain(&a->new, path))
		err = roothash_contents(&a->hash, a->txn, path, &a->rec.r, true);
	return err;
}

/* The terms of a path, as send_hash() has them; contents in chunks are added when they are there.
 */
static int receive_hash(struct receive_apply *a, const struct stream_item *item,
			const struct receive_place *p, bool chunked)
{
	bool leave_old = a->full || !p->in_place || tops_contain(&a->old, item->from);
	bool leave_new = tops_contain(&a->new, item->path);
	struct inode now = a->rec.r;
	int err = 0;

	a->listed = item->origin != STREAM_FRESH;
	a->delta = chunked && !leave_new &&
		   (!a->listed || (!leave_old && (a->was.r.flags & MODEL_FLAG_CHUNKS)));
	now.size = item->attr.size;
	if (!leave_old)
		err = roothash_file(&a->hash, a->pre, item->from, &a->was.r, !a->delta, false);
	if (!err && !leave_new)
		err = roothash_file(&a->hash, a->txn, item->path, &now, !chunked, true);
	return err;
}

/* The record is complete but for chunks. */
static int receive_store(struct receive_apply *a, const struct stream_item *item,
			 const struct receive_place *p, bool linked)
{
	struct inode *r = &a->rec.r;
	bool chunked = r->flags & MODEL_FLAG_CHUNKS;
	int err = 0;

	linked = linked || (!inode_is_dir(r) && r->nlink > 1);
	a->key = p->key;
	if (linked) {
		place_id(MODEL_INODES, r->id, &a->key);
		err = receive_put_name(a, &p->key, r);
	}
	if (!err && inode_is_dir(r) && item->origin == STREAM_OLD_PATH && !p->in_place)
		err = tops_add(&a->new, item->path);
	if (!err)
		err = receive_hash(a, item, p, chunked);
	if (!err)
		err = buf_assign(&a->file, item->path);
	a->size = item->attr.size;
	if (!err && chunked) {
		a->open = true;
		return 0;
	}
	return err ? err : inode_put(a->txn, &a->key, r);
}

int receive_entry(struct receive_apply *a, const struct stream_item *item)
{
	struct receive_place p = {0};
	struct model_key key, prefix = {.len = 0};
	uint8_t fresh[MODEL_FRESH_LEN];
	bool linked = false, old = item->origin == STREAM_OLD_PATH;
	int err = 0;

	buf_clear(&a->xattrs);
	if (!item->path.len && !old) {
		/* The directory that a whole tree is received into. */
		struct stream_item into = *item;

		into.origin = STREAM_OLD_PATH;
		err = receive_entry(a, &into);
		return err;
	}
	if (old)
		err = receive_origin(a, item->from, &key, &prefix);
	if (!err && old && ((a->was.r.mode ^ item->attr.mode) & S_IFMT))
		err = -EPROTO;
	if (!err)
		err = receive_find(a, item->path, &p);
	p.in_place = old && p.there && p.id == a->was.r.id && key.keyspace == p.key.keyspace &&
		     slice_equal(model_key_slice(&key), model_key_slice(&p.key));
	if (!err && p.there && !p.in_place)
		err = -EPROTO;
	if (!err)
		err = old ? receive_load(a, &p, &linked) : receive_make(a, item, &p, fresh);
	if (!err && old && inode_is_dir(&a->rec.r) && !p.in_place)
		err = receive_displace(a, &a->rec.r, &prefix, &p);
	if (err)
		return err;
	receive_attributes(&a->rec.r, &item->attr);
	err = receive_contents(a, item);
	if (!err)
		err = receive_xattrs(a, &a->rec.r, item->xattrs);
	return err ? err : receive_store(a, item, &p, linked);
}

int receive_chunk(struct receive_apply *a, const struct stream_item *item)
{
	uint64_t off = item->chunk * MODEL_CHUNK;
	struct kv_slice path = kv_buf_slice(&a->file);
	struct inode *r = &a->rec.r;
	int err = 0;

	if (!a->open || !(r->flags & MODEL_FLAG_CHUNKS) ||
	    (item->bytes.len &&
	     (off >= a->size || item->bytes.len != min_u64(MODEL_CHUNK, a->size - off))))
		return -EPROTO;
	if (item->bytes.len)
		err = chunk_write(a->txn, r, off, item->bytes);
	else if (off < r->size)
		err = chunk_zero(a->txn, r, off, min_u64(off + MODEL_CHUNK, r->size));
	if (!err && a->delta && a->listed)
		err = roothash_read_chunk(&a->hash, a->pre, path, &a->was.r, item->chunk, false);
	if (!err && a->delta && item->bytes.len)
		err = roothash_chunk(&a->hash, path, item->chunk, item->bytes, true);
	return err;
}

/* ---- further names ---- */

int receive_link(struct receive_apply *a, const struct stream_item *item)
{
	struct receive_place p = {0};
	struct model_key key, inode;
	struct kv_slice full;
	bool old = item->origin == STREAM_OLD_PATH;
	int err;

	if (old) {
		err = receive_origin(a, item->from, &key, NULL);
	} else {
		err = receive_path(a, item->from, &full);
		if (!err)
			err = state_find(a->txn, full, &a->was);
	}
	if (!err)
		err = receive_find(a, item->path, &p);
	if (err)
		return err;
	place_id(MODEL_INODES, a->was.r.id, &inode);
	err = inode_get(a->fs, a->txn, &inode, false, &a->rec);
	if (err)
		return err == -KV_E_NOTFOUND ? -EPROTO : err;
	p.in_place = old && p.there && p.id == a->was.r.id &&
		     slice_equal(model_key_slice(&key), model_key_slice(&p.key));
	if (p.there && !p.in_place)
		return -EPROTO;
	err = receive_put_name(a, &p.key, &a->rec.r);
	if (!err && p.in_place && !tops_contain(&a->old, item->from))
		err = roothash_file(&a->hash, a->pre, item->from, &a->was.r, true, false);
	if (!err && !tops_contain(&a->new, item->path))
		err = roothash_file(&a->hash, a->txn, item->path, &a->rec.r, true, true);
	return err;
}
