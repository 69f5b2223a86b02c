/* SPDX-License-Identifier: MIT */
/*
 * The paths of keys. As long as no directory was moved, the prefix of a key is the path of
 * its directory. A displaced directory's prefix says only where it once was; where it is
 * now stands in no index, so the names of that state are scanned once if such a
 * prefix is met. So they are for the names of a file that has several, whose
 * record has changed and names have not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/diff.h"
#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"

/* Deeper means a cycle. */
#define DIFF_DEPTH_MAX 16384U

static int diff_add_text(struct diff *d, struct kv_slice s, size_t *at, size_t *len)
{
	*at = d->text.len;
	*len = s.len;
	return buf_append_slice(&d->text, s);
}

static struct kv_slice diff_text(const struct diff *d, size_t at, size_t len)
{
	return kv_slice_of(d->text.data + at, len);
}

/* ---- scanning all names ---- */

static int diff_scan_entry(struct diff *d, enum diff_side_id side, struct kv_iter *it,
			   const struct kv_buf *ids)
{
	struct diff_side *s = &d->side[side];
	struct diff_named n = {0};
	struct kv_slice value;
	struct inode r;
	int err;

	err = kv_iter_value(it, &value);
	if (!err)
		err = inode_decode(value, &r);
	if (err)
		return err;
	n.id = r.id;
	if (r.prefix.len && !s->scanned) {
		err = diff_add_text(d, r.prefix, &n.prefix, &n.prefix_len);
		if (!err)
			err = diff_add_text(d, kv_iter_key(it), &n.key, &n.key_len);
		return err ? err : buf_append(&s->moved, &n, sizeof(n));
	}
	if (!ids || !(diff_has_id(ids, r.id) || (r.content && diff_has_id(ids, r.content))))
		return 0;
	err = diff_add_text(d, kv_iter_key(it), &n.key, &n.key_len);
	return err ? err : buf_append(&d->names, &n, sizeof(n));
}

/* All displaced directories of the side, and, with @ids, the names of those files. */
static int diff_scan(struct diff *d, enum diff_side_id side, const struct kv_buf *ids)
{
	struct kv_iter *it;
	int err;

	err = kv_iter_open(d->side[side].txn, MODEL_NAMES, NULL, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = diff_scan_entry(d, side, it, ids);
		if (err)
			break;
	}
	kv_iter_close(it);
	if (err != -KV_E_NOTFOUND)
		return err;
	d->side[side].scanned = true;
	return 0;
}

/* Of contents with an id of their own: add the files whose record stands beside their names. */
static int diff_add_owners(struct diff *d, struct kv_buf *ids)
{
	struct kv_buf owners = {0};
	struct kv_slice value;
	struct kv_iter *it;
	struct inode r;
	int err;

	err = kv_iter_open(d->side[DIFF_NEW].txn, MODEL_INODES, NULL, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = inode_decode(value, &r);
		if (!err && r.content && diff_has_id(ids, r.content))
			err = buf_append(&owners, &r.id, sizeof(r.id));
		if (err)
			break;
	}
	kv_iter_close(it);
	if (err == -KV_E_NOTFOUND)
		err = buf_append_slice(ids, kv_buf_slice(&owners));
	diff_sort_ids(ids);
	kv_buf_free(&owners);
	return err;
}

int diff_find_names(struct diff *d, struct kv_buf *ids)
{
	int err = ids->len ? diff_add_owners(d, ids) : 0;

	return err || !ids->len ? err : diff_scan(d, DIFF_NEW, ids);
}

/* ---- prefixes ---- */

/* Where the directory with a displaced prefix is. */
static int diff_find_moved(struct diff *d, enum diff_side_id side, struct kv_slice prefix,
			   struct kv_slice *key)
{
	struct diff_side *s = &d->side[side];
	const struct diff_named *n;
	int err = 0;

	if (!s->scanned)
		err = diff_scan(d, side, NULL);
	n = (const void *)s->moved.data;
	for (size_t i = 0; !err && i < s->moved.len / sizeof(*n); i++)
		if (slice_equal(diff_text(d, n[i].prefix, n[i].prefix_len), prefix)) {
			*key = diff_text(d, n[i].key, n[i].key_len);
			return 0;
		}
	return err ? err : -KV_E_CORRUPT;
}

/* The key of the record of the directory that has the prefix. */
static int diff_key_of_prefix(struct diff *d, enum diff_side_id side, struct kv_slice prefix,
			      struct kv_slice *key)
{
	int err = -KV_E_NOTFOUND;

	if (d->side[side].displaced)
		err = kv_txn_get(d->side[side].txn, MODEL_PREFIXES, prefix, NULL);
	if (!err)
		return diff_find_moved(d, side, prefix, key);
	if (err != -KV_E_NOTFOUND)
		return err;
	/* A fresh one is always displaced; below it stand natural ones. */
	if (!prefix.data[0] && prefix.len == MODEL_FRESH_LEN)
		return -KV_E_CORRUPT;
	*key = kv_slice_of(prefix.data, prefix.len - 1);
	return 0;
}

/* Put @name and a separator in front of what is in @path. */
static int diff_prepend(struct kv_buf *path, struct kv_slice name)
{
	size_t len = path->len;
	int err = buf_append_zeros(path, name.len + 1);

	if (err)
		return err;
	memmove(path->data + name.len + 1, path->data, len);
	memcpy(path->data, name.data, name.len);
	path->data[name.len] = 0;
	return 0;
}

/* side->resolved becomes the path of the directory, with a separator at its end. */
static int diff_resolve(struct diff *d, enum diff_side_id side, struct kv_slice prefix)
{
	struct diff_side *s = &d->side[side];
	struct kv_slice key, name, parent = prefix;
	unsigned depth = 0;
	int err;

	if (s->prefix.len && slice_equal(kv_buf_slice(&s->prefix), prefix))
		return 0;
	if (!s->displaced)
		return buf_assign(&s->resolved, prefix);
	buf_clear(&s->prefix);
	buf_clear(&s->resolved);
	err = buf_append_slice(&s->prefix, prefix);
	while (!err && parent.len) {
		err = depth++ > DIFF_DEPTH_MAX ? -KV_E_CORRUPT
					       : diff_key_of_prefix(d, side, parent, &key);
		if (!err)
			err = place_split(key, &parent, &name);
		if (!err)
			err = diff_prepend(&s->resolved, name);
	}
	if (err)
		buf_clear(&s->prefix);
	return err;
}

int diff_add_path(struct diff *d, enum diff_side_id side, struct kv_slice key, size_t *at,
		  size_t *len)
{
	struct diff_side *s = &d->side[side];
	struct model_key copy = {.len = key.len};
	struct kv_slice prefix, name;
	int err;

	/* Scanning may move the text that the key stands in. */
	if (key.len > sizeof(copy.b))
		return -KV_E_CORRUPT;
	memcpy(copy.b, key.data, key.len);
	err = place_split(model_key_slice(&copy), &prefix, &name);
	if (!err)
		err = diff_resolve(d, side, prefix);
	if (err)
		return err;
	*at = d->text.len;
	err = buf_append_slice(&d->text, kv_buf_slice(&s->resolved));
	if (!err)
		err = buf_append_slice(&d->text, name);
	*len = d->text.len - *at;
	return err;
}
