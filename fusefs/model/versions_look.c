/* SPDX-License-Identifier: MIT */
/*
 * One state of a path, and the marks that its keys leave. A directory's record changes with every
 * entry that is made in it; only changes of what a way through it depends on are marked: its
 * rights and its prefix. They show in the stored versions themselves, so nothing is read for the
 * others.
 */
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/acl.h"
#include "fusefs/model/place.h"
#include "fusefs/model/versions.h"
#include "fusefs/model/xattr.h"
#include "kvcore/base/buf.h"

/* ---- marks ----------------------------------------------------------------------------------- */

static int versions_mark(struct kvfs_versions *v, kv_seq seq, uint64_t content)
{
	struct versions_mark mark = {versions_kept(v, seq), content}, *last;

	if (mark.state == KV_SEQ_MAX)
		return 0;
	last = (struct versions_mark *)(void *)(v->marks.data + v->marks.len);
	if (v->marks.len && last[-1].state == mark.state && last[-1].content == content)
		return 0;
	return buf_append(&v->marks, &mark, sizeof(mark));
}

/* Before each key that was met. */
struct versions_key {
	unsigned keyspace;
	size_t len;
};

/* Whether the key is met for the first time. */
static int versions_is_new(struct kvfs_versions *v, const struct model_key *key, bool *is_new)
{
	const struct versions_key own = {key->keyspace, key->len};
	struct versions_key head;
	int err;

	*is_new = false;
	for (size_t at = 0; at < v->keys.len; at += sizeof(head) + head.len) {
		memcpy(&head, v->keys.data + at, sizeof(head));
		if (head.keyspace == own.keyspace && head.len == own.len &&
		    !memcmp(v->keys.data + at + sizeof(head), key->b, own.len))
			return 0;
	}
	*is_new = true;
	err = buf_append(&v->keys, &own, sizeof(own));
	return err ? err : buf_append(&v->keys, key->b, own.len);
}

/* Two versions of a record are of a directory that is passed, and searched, in the same way. */
static bool versions_is_same_way(struct kv_slice a, struct kv_slice b)
{
	struct inode x, y;

	if (inode_decode(a, &x) || inode_decode(b, &y))
		return false;
	return x.kind == MODEL_RECORD_FULL && y.kind == MODEL_RECORD_FULL && inode_is_dir(&x) &&
	       inode_is_dir(&y) && !((x.flags | y.flags) & MODEL_FLAG_XATTRS) && x.mode == y.mode &&
	       x.uid == y.uid && x.gid == y.gid && slice_equal(x.prefix, y.prefix) &&
	       slice_equal(x.xattrs, y.xattrs);
}

/* The versions of one key come from the newest on; each is marked, unless the one before it in time
 * was the same way. */
static int versions_mark_record(struct kvfs_versions *v, struct kv_past *past)
{
	struct kv_past_version one;
	struct kv_buf newer = {0};
	kv_seq seq = 0; /* of the newer one; 0: there is none */
	int err;

	while (!(err = kv_past_next(past, &one))) {
		if (seq && !(one.has_value && newer.len &&
			     versions_is_same_way(one.value, kv_buf_slice(&newer))))
			err = versions_mark(v, seq, 0);
		if (!err)
			err = buf_assign(&newer, one.value);
		if (err)
			break;
		seq = one.seq;
	}
	if (err == -KV_E_NOTFOUND)
		err = seq ? versions_mark(v, seq, 0) : 0;
	kv_buf_free(&newer);
	return err;
}

static int versions_mark_contents(struct kvfs_versions *v, struct kv_past *past, uint64_t content)
{
	struct kv_past_version one;
	int err;

	while (!(err = kv_past_next(past, &one))) {
		err = versions_mark(v, one.seq, content);
		if (err)
			return err;
	}
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* @content: the key begins those of its chunks; 0: it is a record's. */
static int versions_mark_key(struct kvfs_versions *v, const struct model_key *key, uint64_t content)
{
	struct kv_range range = {.prefix = model_key_slice(key)};
	struct kv_past *past = NULL;
	struct model_key end;
	bool is_new;
	int err = versions_is_new(v, key, &is_new);

	if (err || !is_new)
		return err;
	if (!content) { /* this key and no other */
		end = *key;
		KV_ASSERT(end.len < sizeof(end.b));
		end.b[end.len++] = 0;
		range = (struct kv_range){.lower = model_key_slice(key),
					  .upper = model_key_slice(&end)};
	}
	err = kv_past_open(v->fs->db, key->keyspace, &range, &past);
	if (!err)
		err = content ? versions_mark_contents(v, past, content)
			      : versions_mark_record(v, past);
	kv_past_close(past);
	return err;
}

/* ---- one state ------------------------------------------------------------------------------- */

/* The record at a key; of a link that of the file. 1: there is none. */
static int versions_get(struct kvfs_versions *v, struct kv_txn *txn, const struct model_key *key,
			struct inode_buf *out)
{
	struct model_key inode;
	int err = versions_mark_key(v, key, 0);

	if (!err)
		err = kv_txn_get(txn, key->keyspace, model_key_slice(key), &out->raw);
	if (err == -KV_E_NOTFOUND)
		return 1;
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	if (err || out->r.kind == MODEL_RECORD_FULL)
		return err;
	place_id(MODEL_INODES, out->r.id, &inode);
	err = versions_mark_key(v, &inode, 0);
	if (!err)
		err = kv_txn_get(txn, inode.keyspace, model_key_slice(&inode), &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	if (err == -KV_E_NOTFOUND || (!err && out->r.kind != MODEL_RECORD_FULL))
		err = -KV_E_CORRUPT;
	return err;
}

/* The way leads through a directory. */
static int versions_add_gate(struct kvfs_versions *v, struct kv_txn *txn, const struct inode *r)
{
	struct acl_rights gate = {.mode = r->mode, .uid = r->uid, .gid = r->gid};
	struct kv_buf acl = {0};
	int err = xattr_load(txn, r, kv_slice_of(ACL_ACCESS, sizeof(ACL_ACCESS) - 1), &acl);

	if (err == -ENODATA) {
		buf_clear(&acl);
		err = 0;
	}
	gate.acl_len = (uint32_t)acl.len;
	if (!err)
		err = buf_append(&v->gates, &gate, sizeof(gate));
	if (!err)
		err = buf_append_slice(&v->gates, kv_buf_slice(&acl));
	kv_buf_free(&acl);
	return err;
}

/* The next name of a path whose separator is byte 0; false if there is none. */
static bool versions_next_name(struct kv_slice *path, struct kv_slice *name)
{
	const uint8_t *zero = path->len ? memchr(path->data, 0, path->len) : NULL;
	size_t len = zero ? (size_t)(zero - path->data) : path->len;

	*name = kv_slice_of(path->data, len);
	*path = kv_slice_of(path->data + len + (zero != NULL), path->len - len - (zero != NULL));
	return name->len != 0;
}

/* Down the path. @prefix: of what it leads to. 1: nothing is there. */
static int versions_walk(struct kvfs_versions *v, struct kv_txn *txn, struct inode_buf *rec,
			 struct model_key *prefix)
{
	struct kv_slice path = kv_buf_slice(&v->path), name;
	struct model_key at, parent;
	int err;

	place_meta("root", &at);
	prefix->len = 0;
	err = versions_get(v, txn, &at, rec);
	while (!err && inode_is_dir(&rec->r)) {
		err = versions_add_gate(v, txn, &rec->r);
		if (err || !versions_next_name(&path, &name))
			return err;
		place_name(model_key_slice(prefix), name, &at);
		err = versions_get(v, txn, &at, rec);
		if (err || !inode_is_dir(&rec->r))
			continue;
		parent = *prefix;
		place_prefix(&rec->r, model_key_slice(&parent), name, prefix);
		if (prefix->len > MODEL_PREFIX_MAX)
			err = -KV_E_CORRUPT;
	}
	return err ? err : path.len != 0;
}

/* The gates of this state are often those of the last one. */
static void versions_share_gates(struct kvfs_versions *v, struct versions_seen *s)
{
	const struct versions_seen *last =
		(const struct versions_seen *)(const void *)(v->seen.data + v->seen.len);

	s->gate_len = v->gates.len - s->gate;
	if (v->seen.len && s->gate_len && last[-1].gate_len == s->gate_len &&
	    !memcmp(v->gates.data + last[-1].gate, v->gates.data + s->gate, s->gate_len)) {
		v->gates.len = s->gate;
		s->gate = last[-1].gate;
	}
}

static int versions_read(struct kvfs_versions *v, struct kv_txn *txn, struct versions_seen *s)
{
	struct inode_buf rec = {0};
	struct model_key prefix, data;
	int err = versions_walk(v, txn, &rec, &prefix);

	if (err > 0) {
		s->kind = VERSIONS_ABSENT;
		err = 0;
	} else if (!err && inode_is_dir(&rec.r)) {
		s->kind = VERSIONS_DIR;
		s->prefix = v->text.len;
		s->prefix_len = prefix.len;
		err = buf_append_slice(&v->text, model_key_slice(&prefix));
	} else if (!err) {
		s->kind = VERSIONS_FILE;
		inode_attr(&rec.r, &s->attr);
		if (rec.r.flags & MODEL_FLAG_CHUNKS) {
			s->content = inode_content(&rec.r);
			place_id(MODEL_DATA, s->content, &data);
			err = versions_mark_key(v, &data, s->content);
		}
	}
	inode_buf_free(&rec);
	return err;
}

int versions_look(struct kvfs_versions *v, kv_seq state)
{
	const struct versions_snapshot *named = versions_snapshot(v, state);
	struct versions_seen s = {.state = state, .gate = v->gates.len};
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *txn = NULL;
	int err;

	err = named ? kv_snapshot_open(v->fs->db, named->name, &snapshot)
		    : kv_history_open(v->fs->db, state, &snapshot);
	if (err == -KV_E_NOTFOUND)
		err = -KV_E_GONE;
	options.snapshot = snapshot;
	if (!err)
		err = kv_txn_begin(v->fs->db, &options, &txn);
	if (!err)
		err = versions_read(v, txn, &s);
	if (!err) {
		versions_share_gates(v, &s);
		err = buf_append(&v->seen, &s, sizeof(s));
	}
	kv_txn_abort(txn);
	kv_snapshot_release(snapshot);
	return err;
}
