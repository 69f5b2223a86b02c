/* SPDX-License-Identifier: MIT */
/*
 * From keys back to paths, for who is told of them. A key of a name says its path unless a
 * directory above it was moved; then the directory's id is in MODEL_PREFIXES, and where it is now
 * the draft's nodes know, or else a walk over the volume finds: that is for reports of
 * conflicts, which are few.
 */
#include <string.h>

#include "fusefs/model/kvfs_damage.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/draft.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"

int draft_record(struct kv_txn *txn, unsigned keyspace, struct kv_slice key, struct inode_buf *out)
{
	int err = kv_txn_get(txn, keyspace, key, &out->raw);

	return err ? err : inode_decode(kv_buf_slice(&out->raw), &out->r);
}

/* ---- by id ---- */

struct search {
	uint64_t id;
	struct kv_buf *out;
};

static int on_entry(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct search *s = ctx;
	int err;

	(void)txn;
	if (r->id != s->id && r->content != s->id) /* chunks are under a content id */
		return 0;
	err = buf_append_byte(s->out, 0);
	if (!err)
		err = buf_append_slice(s->out, path);
	return err ? err : 1;
}

/* From the root down; NODE_LINKED knows one of its names, which may be gone. */
static int path_of_node(const struct kvfs_node *node, void *ctx)
{
	struct kv_buf *out = ctx;
	size_t len = out->len, at;
	int err;

	if (node->state == NODE_ORPHAN)
		return -KV_E_NOTFOUND;
	for (const struct kvfs_node *n = node; n->parent; n = n->parent)
		len += strlen(n->name) + 1;
	at = len;
	err = buf_resize(out, len);
	if (err)
		return err;
	for (const struct kvfs_node *n = node; n->parent; n = n->parent) {
		size_t name_len = strlen(n->name);

		at -= name_len + 1;
		out->data[at] = 0;
		memcpy(out->data + at + 1, n->name, name_len);
	}
	return 0;
}

int draft_path_by_id(const struct draft_paths *p, uint64_t id, struct kv_buf *out)
{
	struct search s = {id, out};
	struct walk w = {.visit = on_entry, .ctx = &s};
	int err;

	if (id == MODEL_ID_ROOT)
		return 0;
	err = node_look(p->draft, id, path_of_node, out);
	if (err != -KV_E_NOTFOUND)
		return err;
	err = walk_run(p->txn, &w);
	if (!err)
		err = walk_run(p->then, &w);
	return err == 1 ? 0 : err ? err : -KV_E_NOTFOUND;
}

/* ---- by prefix ---- */

/* The id in MODEL_PREFIXES, in one of the two states; 0: the prefix is not noted there. */
static int noted_id(struct kv_txn *txn, struct kv_slice prefix, uint64_t *id)
{
	struct kv_buf value = {0};
	int err = kv_txn_get(txn, MODEL_PREFIXES, prefix, &value);

	*id = !err && value.len == 8 ? be64_at(value.data) : 0;
	kv_buf_free(&value);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The directory that has @prefix because of its place. */
static int natural_id(struct kv_txn *txn, struct kv_slice prefix, uint64_t *id)
{
	struct inode_buf b = {0};
	int err = draft_record(txn, MODEL_NAMES, kv_slice_of(prefix.data, prefix.len - 1), &b);

	*id = !err && b.r.kind == MODEL_RECORD_FULL && inode_is_dir(&b.r) && !b.r.prefix.len
		      ? b.r.id
		      : 0;
	inode_buf_free(&b);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int dir_id_in(const struct draft_paths *p, struct kv_txn *txn, struct kv_slice prefix,
		     uint64_t *id)
{
	int err = 0;

	*id = 0;
	if (atomic_load(&p->draft->displaced))
		err = noted_id(txn, prefix, id);
	if (!err && !*id && prefix.data[prefix.len - 1] == 0 && prefix.len > 1)
		err = natural_id(txn, prefix, id);
	return err;
}

int draft_dir_id(const struct draft_paths *p, struct kv_slice prefix, uint64_t *id)
{
	int err;

	if (!prefix.len) {
		*id = MODEL_ID_ROOT;
		return 0;
	}
	err = dir_id_in(p, p->txn, prefix, id);
	if (!err && !*id) /* the transaction has removed it */
		err = dir_id_in(p, p->then, prefix, id);
	return err;
}

/* With byte 0 before each component. */
static int path_of_prefix(const struct draft_paths *p, struct kv_slice prefix, struct kv_buf *out)
{
	struct kv_slice above, name;
	uint64_t id = 0;
	int err = 0;

	if (!prefix.len)
		return 0;
	if (atomic_load(&p->draft->displaced)) {
		err = noted_id(p->txn, prefix, &id);
		if (!err && !id)
			err = noted_id(p->then, prefix, &id);
	}
	if (err)
		return err;
	if (id)
		return draft_path_by_id(p, id, out);
	if (place_split(kv_slice_of(prefix.data, prefix.len - 1), &above, &name))
		return -KV_E_NOTFOUND;
	err = path_of_prefix(p, above, out);
	if (!err)
		err = buf_append_byte(out, 0);
	return err ? err : buf_append_slice(out, name);
}

/* ---- by key ---- */

static int path_of_name(const struct draft_paths *p, struct kv_slice key, struct kv_buf *out)
{
	struct kv_slice prefix, name;
	int err = place_split(key, &prefix, &name);

	if (!err)
		err = path_of_prefix(p, prefix, out);
	if (!err)
		err = buf_append_byte(out, 0);
	return err ? err : buf_append_slice(out, name);
}

int draft_path(const struct draft_paths *p, unsigned keyspace, struct kv_slice key,
	       struct kv_buf *out)
{
	size_t begin = out->len;
	uint64_t id = key.len >= 8 ? be64_at(key.data) : 0;
	int err;

	if (keyspace == MODEL_NAMES)
		err = path_of_name(p, key, out);
	else if (keyspace == MODEL_PREFIXES)
		err = path_of_prefix(p, key, out);
	else if (keyspace == MODEL_META)
		err = 0; /* the root */
	else
		err = draft_path_by_id(p, id, out);
	if (err == -KV_E_NOTFOUND) {
		out->len = begin;
		return kvfs_damage_text(keyspace, key, out);
	}
	if (!err && out->len == begin)
		return buf_append_byte(out, '/');
	for (size_t i = begin; !err && i < out->len; i++)
		if (!out->data[i])
			out->data[i] = '/';
	return err;
}
