/* SPDX-License-Identifier: MIT */
/*
 * The maps are B+-trees whose keys and values are one block of memory each. Memory grows with
 * the displaced directories and the names of files that have several, not with the volume.
 */
#include "fusefs/model/watch_index.h"

#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"

/* Deeper means a cycle. */
#define WATCH_DEPTH_MAX 16384U
#define WATCH_NAME_MAX	(8U + MODEL_KEY_MAX)

struct watch_text {
	size_t len;  /* of the value */
	uint8_t b[]; /* value, key */
};

static void watch_drop(struct btree *t, struct kv_slice key)
{
	free(btree_remove(t, key, NULL));
}

static int watch_set(struct btree *t, struct kv_slice key, struct kv_slice value)
{
	struct watch_text *text = malloc(sizeof(*text) + key.len + value.len);
	bool inserted;
	void **slot;
	int err;

	if (!text)
		return -ENOMEM;
	text->len = value.len;
	if (value.len)
		memcpy(text->b, value.data, value.len);
	memcpy(text->b + value.len, key.data, key.len);
	watch_drop(t, key);
	err = btree_insert(t, kv_slice_of(text->b + value.len, key.len), &slot, &inserted);
	if (err)
		free(text);
	else
		*slot = text;
	return err;
}

static void watch_clear(struct btree *t)
{
	struct btree_pos p;

	while (btree_valid(p = btree_first(t)))
		watch_drop(t, btree_key(p));
	btree_fini(t);
	btree_init(t);
}

static struct kv_slice watch_id(uint64_t id, uint8_t buf[8])
{
	be64_put(buf, id);
	return kv_slice_of(buf, 8);
}

/* ---- life ------------------------------------------------------------------------------- */

static int watch_is_empty(struct kv_txn *txn, unsigned keyspace, bool *empty)
{
	struct kv_iter *it;
	int err = kv_iter_open(txn, keyspace, NULL, &it);

	if (err)
		return err;
	err = kv_iter_first(it);
	*empty = err == -KV_E_NOTFOUND;
	kv_iter_close(it);
	return *empty ? 0 : err;
}

int watch_index_init(struct watch_index *x, struct kv_txn *txn)
{
	bool no_dirs = false, no_links = false;
	int err;

	btree_init(&x->dirs);
	btree_init(&x->names);
	btree_init(&x->tracked);
	err = watch_is_empty(txn, MODEL_PREFIXES, &no_dirs);
	if (!err)
		err = watch_is_empty(txn, MODEL_INODES, &no_links);
	x->complete = no_dirs && no_links;
	return err;
}

void watch_index_fini(struct watch_index *x)
{
	watch_clear(&x->dirs);
	watch_clear(&x->names);
	watch_clear(&x->tracked);
}

/* ---- following changes -------------------------------------------------------------------- */

static struct kv_slice watch_name(uint64_t id, struct kv_slice key, uint8_t buf[WATCH_NAME_MAX])
{
	be64_put(buf, id);
	memcpy(buf + 8, key.data, key.len);
	return kv_slice_of(buf, 8 + key.len);
}

/* What the names of a file are kept under: links say whose they are, records whose contents. */
static uint64_t watch_id_of(const struct inode *r)
{
	return r->kind == MODEL_RECORD_LINK ? r->id : inode_content(r);
}

static bool watch_wants(const struct watch_index *x, const struct inode *r)
{
	uint8_t be[8];

	return r->kind == MODEL_RECORD_LINK
		       ? x->complete
		       : btree_find(&x->tracked, watch_id(inode_content(r), be)) != NULL;
}

int watch_index_add(struct watch_index *x, struct kv_slice key, const struct inode *r)
{
	uint8_t buf[WATCH_NAME_MAX];

	if (key.len > MODEL_KEY_MAX)
		return -KV_E_CORRUPT;
	if (x->complete && r->prefix.len)
		return watch_set(&x->dirs, r->prefix, key);
	if (!watch_wants(x, r))
		return 0;
	return watch_set(&x->names, watch_name(watch_id_of(r), key, buf), kv_slice_of(NULL, 0));
}

void watch_index_remove(struct watch_index *x, struct kv_slice key, const struct inode *r)
{
	uint8_t buf[WATCH_NAME_MAX];

	if (key.len > MODEL_KEY_MAX)
		return;
	if (r->prefix.len)
		watch_drop(&x->dirs, r->prefix);
	watch_drop(&x->names, watch_name(watch_id_of(r), key, buf));
}

static int watch_scan(struct watch_index *x, struct kv_txn *txn)
{
	struct kv_slice value;
	struct kv_iter *it;
	struct inode r;
	int err = kv_iter_open(txn, MODEL_NAMES, NULL, &it);

	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = inode_decode(value, &r);
		if (!err)
			err = watch_index_add(x, kv_iter_key(it), &r);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* @id: to be tracked from now on; 0: none */
static int watch_load(struct watch_index *x, struct kv_txn *txn, uint64_t id)
{
	bool before = x->complete;
	uint8_t be[8];
	int err = 0;

	if (id)
		err = watch_set(&x->tracked, watch_id(id, be), kv_slice_of(NULL, 0));
	if (err)
		return err;
	x->complete = true;
	err = watch_scan(x, txn);
	if (err) {
		x->complete = before;
		if (id)
			watch_drop(&x->tracked, watch_id(id, be));
	}
	return err;
}

/* ---- asking --------------------------------------------------------------------------------- */

/* The key of the record of the directory that has the prefix. */
static int watch_dir(struct watch_index *x, struct kv_txn *txn, const struct model_key *prefix,
		     struct model_key *out)
{
	struct kv_slice p = model_key_slice(prefix);
	const struct watch_text *text = NULL;
	void **slot;
	int err = 0;

	if (!x->complete) {
		err = kv_txn_get(txn, MODEL_PREFIXES, p, NULL);
		if (!err)
			err = watch_load(x, txn, 0);
		else if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	if (err)
		return err;
	slot = btree_find(&x->dirs, p);
	if (slot)
		text = *slot;
	else if (!p.data[0] && p.len == MODEL_FRESH_LEN)
		return -KV_E_CORRUPT; /* a fresh one is always displaced */
	out->len = text ? text->len : p.len - 1;
	memcpy(out->b, text ? text->b : p.data, out->len);
	return 0;
}

static int watch_prepend(struct kv_buf *path, struct kv_slice name)
{
	size_t len = path->len, more = name.len + (len != 0);
	int err = buf_append_zeros(path, more);

	if (err)
		return err;
	memmove(path->data + more, path->data, len);
	memcpy(path->data, name.data, name.len);
	if (len)
		path->data[name.len] = '/';
	return 0;
}

int watch_index_path(struct watch_index *x, struct kv_txn *txn, struct kv_slice key,
		     struct kv_buf *out)
{
	struct model_key at = {.len = key.len}, dir;
	struct kv_slice prefix, name;
	int err = 0;

	buf_clear(out);
	if (key.len > sizeof(at.b))
		return -KV_E_CORRUPT;
	memcpy(at.b, key.data, key.len);
	for (unsigned depth = 0; !err; depth++) {
		err = depth > WATCH_DEPTH_MAX ? -KV_E_CORRUPT
					      : place_split(model_key_slice(&at), &prefix, &name);
		if (!err)
			err = watch_prepend(out, name);
		if (err || !prefix.len)
			break;
		dir.len = prefix.len;
		memcpy(dir.b, prefix.data, prefix.len);
		err = watch_dir(x, txn, &dir, &at);
	}
	return err;
}

int watch_index_names(struct watch_index *x, struct kv_txn *txn, uint64_t id, bool linked,
		      struct kv_buf *out)
{
	uint8_t be[8];
	struct kv_slice want = watch_id(id, be);
	struct btree_pos p;
	int err = 0;

	if (linked && !x->complete)
		err = watch_load(x, txn, 0);
	else if (!linked && !btree_find(&x->tracked, want))
		err = watch_load(x, txn, id);
	for (p = btree_seek(&x->names, want); !err && btree_valid(p); p = btree_next(p)) {
		struct kv_slice key = btree_key(p);
		struct model_key name = {.keyspace = MODEL_NAMES};

		if (!slice_has_prefix(key, want))
			break;
		name.len = key.len - want.len;
		memcpy(name.b, key.data + want.len, name.len);
		err = buf_append(out, &name, sizeof(name));
	}
	return err;
}
