/* SPDX-License-Identifier: MIT */
/*
 * The stream, made as it is read: first the names that are gone, by their old paths, then what is
 * new or changed, by new paths, so that a directory comes before what is in it. Without an old
 * state it is a walk that stops whenever enough has been made. A stream that is
 * resumed is made from the beginning, and what the other side has is not handed out.
 */
#include "fusefs/model/send.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"

#define SEND_ENOUGH ((size_t)256 * 1024) /* bytes of one read, about */

int send_item(struct kvfs_send *s, const struct stream_item *item)
{
	struct kv_buf *out = s->chain.next < s->resume ? &s->scratch : s->out;
	int err;

	buf_clear(&s->scratch);
	err = stream_put(&s->chain, item, out);
	if (!err && s->resume && s->chain.next == s->resume &&
	    memcmp(s->chain.sum, s->resume_sum, sizeof(s->chain.sum)) != 0)
		return -EINVAL; /* the token is of another stream */
	return err;
}

/* ---- opening ---- */

struct send_sort {
	const struct diff *d;
	enum diff_side_id side;
};

static int send_compare(const void *a, const void *b, void *ctx)
{
	const struct send_sort *c = ctx;
	const uint32_t *x = a, *y = b;

	return slice_compare(diff_path(c->d, &diff_at(c->d, *x)->at[c->side]),
			     diff_path(c->d, &diff_at(c->d, *y)->at[c->side]));
}

/* The directory of a place. */
static int send_find_dir(const struct diff *d, enum diff_side_id side, const struct diff_entry *e,
			 uint64_t *id)
{
	struct kv_slice path = diff_path(d, &e->at[side]);
	struct inode_buf rec = {0};
	int err;

	while (path.len && path.data[path.len - 1])
		path.len--;
	if (path.len)
		path.len--;
	err = state_find(d->side[side].txn, path, &rec);
	*id = rec.r.id;
	inode_buf_free(&rec);
	return err;
}

/*
 * A directory that was removed leaves its prefix to the next one of its path. If that was
 * moved then, a name in it has its former key, but does not stand at a path that follows from what
 * is told of directories.
 */
static int send_find_elsewhere(struct kvfs_send *s)
{
	int err = 0;

	for (size_t i = 0; !err && i < diff_count(&s->diff); i++) {
		struct diff_entry *e = diff_at(&s->diff, i);
		uint64_t id[DIFF_SIDES] = {0};

		if (!diff_same_file(e) || slice_equal(diff_path(&s->diff, &e->at[DIFF_OLD]),
						      diff_path(&s->diff, &e->at[DIFF_NEW])))
			continue;
		for (int side = 0; !err && side < DIFF_SIDES; side++)
			err = send_find_dir(&s->diff, (enum diff_side_id)side, e, &id[side]);
		e->elsewhere = id[DIFF_OLD] != id[DIFF_NEW];
	}
	return err;
}

/* Entries in the order of their paths, of the old state only those that are not in place. */
static int send_sort_side(struct kvfs_send *s, enum diff_side_id side)
{
	struct send_sort ctx = {&s->diff, side};
	struct kv_buf *order = &s->order[side];
	const uint32_t *list;
	int err = 0;

	for (uint32_t i = 0; !err && i < diff_count(&s->diff); i++) {
		const struct diff_entry *e = diff_at(&s->diff, i);

		if (e->at[side].id && (side == DIFF_NEW || !send_in_place(e)))
			err = buf_append(order, &i, sizeof(i));
	}
	if (!err && order->len)
		qsort_r(order->data, order->len / sizeof(uint32_t), sizeof(uint32_t), send_compare,
			&ctx);
	list = (const void *)order->data;
	for (size_t i = 0; !err && i < order->len / sizeof(uint32_t); i++) {
		const struct diff_entry *e = diff_at(&s->diff, list[i]);

		if ((e->at[side].mode & S_IFMT) == S_IFDIR &&
		    (e->elsewhere || (!diff_same_file(e) && diff_partner(&s->diff, side, e))))
			err = tops_add(&s->moved[side], diff_path(&s->diff, &e->at[side]));
	}
	return err;
}

static int send_base(struct kvfs_send *s)
{
	struct kv_slice none = {0};
	int err = roothash_remembered(s->fs, s->from, s->hash.sum);

	if (err == -KV_E_NOTFOUND) {
		err = roothash_tree(&s->hash, s->old.txn, none, none, true);
		if (!err)
			err = roothash_remember(s->fs, s->from, s->hash.sum);
	}
	return err ? err : roothash_final(&s->hash, s->base);
}

static int send_start(struct kvfs_send *s)
{
	int err = state_open(s->fs, s->name, &s->new);

	if (!err && s->from)
		err = state_open(s->fs, s->from, &s->old);
	if (!err && s->from)
		err = send_base(s);
	if (!err && s->from)
		err = diff_init(&s->diff, s->fs, s->old.txn, s->new.txn);
	if (!err && s->from)
		err = send_find_elsewhere(s);
	for (int side = 0; !err && s->from && side < DIFF_SIDES; side++)
		err = send_sort_side(s, (enum diff_side_id)side);
	return err;
}

int kvfs_send_open(struct kvfs *fs, const char *from, const char *name, const char *token,
		   struct kvfs_send **out)
{
	struct kvfs_send *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	s->name = strdup(name);
	s->from = from ? strdup(from) : NULL;
	err = s->name && (s->from || !from) ? kvfs_snapshot_check_name(name) : -ENOMEM;
	if (!err && from)
		err = kvfs_snapshot_check_name(from);
	if (!err)
		err = roothash_init(&s->hash);
	if (!err)
		err = stream_chain_init(&s->chain);
	if (!err && token)
		err = stream_token_parse(token, &s->resume, s->resume_sum);
	if (!err)
		err = send_start(s);
	if (err) {
		kvfs_send_close(s);
		return err;
	}
	*out = s;
	return 0;
}

void kvfs_send_close(struct kvfs_send *s)
{
	if (!s)
		return;
	diff_fini(&s->diff);
	state_close(&s->old);
	state_close(&s->new);
	roothash_fini(&s->hash);
	stream_chain_fini(&s->chain);
	for (int side = 0; side < DIFF_SIDES; side++) {
		kv_buf_free(&s->order[side]);
		tops_fini(&s->moved[side]);
	}
	inode_buf_free(&s->file.old);
	inode_buf_free(&s->file.new);
	kv_buf_free(&s->file.path);
	kv_buf_free(&s->file.compared);
	kv_buf_free(&s->links);
	kv_buf_free(&s->text);
	kv_buf_free(&s->lower);
	kv_buf_free(&s->xattrs);
	kv_buf_free(&s->piece);
	kv_buf_free(&s->scratch);
	free(s->name);
	free(s->from);
	free(s);
}

/* ---- the parts of a stream ---- */

static int send_header(struct kvfs_send *s)
{
	uint8_t header[STREAM_HEADER];

	stream_header(header);
	s->phase = SEND_BEGIN;
	return buf_append(s->out, header, sizeof(header));
}

/* Which stream it is: of these snapshots of this volume. */
static int send_id(struct kvfs_send *s, uint8_t out[KV_DIGEST_LEN])
{
	struct kv_snapshot_info *list = NULL;
	struct kv_db_info info;
	struct le64 seq[2] = {{{0}}};
	size_t count = 0;
	int err = kv_snapshot_list(s->fs->db, &list, &count);

	if (!err)
		err = kv_get_info(s->fs->db, &info);
	for (size_t i = 0; !err && i < count; i++) {
		if (!strcmp(list[i].name, s->name))
			seq[0] = le64_of(list[i].seq);
		if (s->from && !strcmp(list[i].name, s->from))
			seq[1] = le64_of(list[i].seq);
	}
	free(list);
	if (!err) {
		const struct kv_slice parts[] = {
			kv_slice_of(info.uuid, sizeof(info.uuid)),
			kv_slice_of(seq, sizeof(seq)),
			kv_slice_of(s->name, strlen(s->name) + 1),
		};

		err = kv_digest_sha256(s->hash.digest, parts, KV_ARRAY_COUNT(parts), out);
	}
	return err;
}

static int send_begin(struct kvfs_send *s)
{
	struct stream_item item = {.kind = STREAM_BEGIN,
				   .full = !s->from,
				   .path = kv_slice_of(s->name, strlen(s->name)),
				   .from = kv_slice_of(s->from, s->from ? strlen(s->from) : 0)};
	int err = send_id(s, item.id);

	memcpy(item.base, s->base, sizeof(item.base));
	s->phase = SEND_REMOVE;
	return err ? err : send_item(s, &item);
}

/* Does the file have a name in the new state? */
static int send_is_gone(struct kvfs_send *s, const struct diff_place *p, bool *gone)
{
	struct model_key key;
	int err;

	*gone = !diff_find(&s->diff, DIFF_NEW, p->id);
	if (!*gone || !p->linked)
		return 0;
	place_id(MODEL_INODES, p->id, &key);
	err = kv_txn_get(s->new.txn, MODEL_INODES, model_key_slice(&key), NULL);
	*gone = err == -KV_E_NOTFOUND;
	return *gone ? 0 : err;
}

static int send_remove(struct kvfs_send *s)
{
	const uint32_t *list = (const void *)s->order[DIFF_OLD].data;
	struct stream_item item = {.kind = STREAM_REMOVE};
	const struct diff_entry *e;
	int err;

	if (s->at == s->order[DIFF_OLD].len / sizeof(*list)) {
		s->phase = SEND_ENTRY;
		s->at = 0;
		return 0;
	}
	e = diff_at(&s->diff, list[s->at++]);
	item.path = diff_path(&s->diff, &e->at[DIFF_OLD]);
	err = send_is_gone(s, &e->at[DIFF_OLD], &item.gone);
	if (!err && !tops_contain(&s->moved[DIFF_OLD], item.path)) {
		err = diff_load(&s->diff, DIFF_OLD, e, &s->file.old);
		if (!err)
			err = roothash_file(&s->hash, s->old.txn, item.path, &s->file.old.r, true,
					    false);
	}
	return err ? err : send_item(s, &item);
}

static int send_root(struct kvfs_send *s)
{
	struct inode_buf rec = {0};
	int err = state_find(s->new.txn, kv_slice_of(NULL, 0), &rec);

	if (!err)
		err = send_entry(s, kv_slice_of(NULL, 0), NULL, &rec, false);
	inode_buf_free(&rec);
	return err;
}

static int send_changed(struct kvfs_send *s)
{
	const uint32_t *list = (const void *)s->order[DIFF_NEW].data;
	size_t count = s->order[DIFF_NEW].len / sizeof(*list);
	const struct diff_entry *e;
	struct inode_buf rec = {0};
	int err;

	/* The root directory comes first. */
	if (!s->at && !s->walked) {
		s->walked = true;
		return s->diff.root ? send_root(s) : 0;
	}
	if (s->at == count) {
		s->phase = SEND_END;
		return 0;
	}
	e = diff_at(&s->diff, list[s->at++]);
	err = diff_load(&s->diff, DIFF_NEW, e, &rec);
	if (!err)
		err = send_entry(s, diff_path(&s->diff, &e->at[DIFF_NEW]), e, &rec,
				 e->at[DIFF_NEW].linked);
	inode_buf_free(&rec);
	return err;
}

static int send_visit(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct kvfs_send *s = ctx;
	struct inode_buf rec = {0};
	bool linked = r->kind == MODEL_RECORD_LINK;
	struct model_key key;
	uint8_t raw[MODEL_RECORD_MAX];
	int err;

	if (linked) {
		place_id(MODEL_INODES, r->id, &key);
		err = kv_txn_get(txn, MODEL_INODES, model_key_slice(&key), &rec.raw);
		if (err == -KV_E_NOTFOUND)
			err = -KV_E_CORRUPT;
	} else {
		err = buf_append(&rec.raw, raw, inode_encode(r, raw));
	}
	if (!err)
		err = inode_decode(kv_buf_slice(&rec.raw), &rec.r);
	if (!err)
		err = buf_assign(&s->lower, path);
	/* The walk goes on behind it; nothing is below a file, and 0 stands before any name. */
	if (!err)
		err = buf_append_byte(&s->lower, 0);
	if (!err)
		err = send_entry(s, path, NULL, &rec, linked);
	inode_buf_free(&rec);
	return err ? err : s->file.open || s->out->len >= SEND_ENOUGH;
}

static int send_all(struct kvfs_send *s)
{
	struct walk w = {.lower = kv_buf_slice(&s->lower), .visit = send_visit, .ctx = s};
	struct kv_buf lower = s->lower;
	int err;

	if (!s->walked) {
		s->walked = true;
		return send_root(s);
	}
	s->lower = (struct kv_buf){0}; /* the walk borrows it */
	w.lower = kv_buf_slice(&lower);
	err = walk_run(s->new.txn, &w);
	kv_buf_free(&lower);
	if (!err)
		s->phase = SEND_END;
	return err > 0 ? 0 : err;
}

/* Directories that were moved: out with their old paths, in with the new. */
static int send_hash_moved(struct kvfs_send *s)
{
	struct kv_slice none = {0};
	int err = 0;

	for (int side = 0; !err && side < DIFF_SIDES; side++)
		for (size_t i = 0; !err && i < tops_count(&s->moved[side]); i++)
			err = roothash_tree(&s->hash, side == DIFF_OLD ? s->old.txn : s->new.txn,
					    none, tops_at(&s->moved[side], i), side == DIFF_NEW);
	return err;
}

static int send_end(struct kvfs_send *s)
{
	struct stream_item item = {.kind = STREAM_END};
	uint8_t known[ROOTHASH_SUM];
	int err = send_hash_moved(s);

	if (!err)
		err = roothash_remembered(s->fs, s->name, known);
	if (!err && memcmp(known, s->hash.sum, sizeof(known)) != 0)
		return -KV_E_CORRUPT;
	if (err == -KV_E_NOTFOUND)
		err = roothash_remember(s->fs, s->name, s->hash.sum);
	if (!err)
		err = roothash_final(&s->hash, s->root);
	memcpy(item.id, s->root, sizeof(item.id));
	s->phase = SEND_DONE;
	return err ? err : send_item(s, &item);
}

static int send_step(struct kvfs_send *s)
{
	if (s->file.open)
		return send_chunk(s);
	switch (s->phase) {
	case SEND_HEADER:
		return send_header(s);
	case SEND_BEGIN:
		return send_begin(s);
	case SEND_REMOVE:
		return send_remove(s);
	case SEND_ENTRY:
		return s->from ? send_changed(s) : send_all(s);
	default:
		return send_end(s);
	}
}

int kvfs_send_read(struct kvfs_send *s, struct kv_buf *out)
{
	int err = 0;

	s->out = out;
	while (!err && s->phase != SEND_DONE && out->len < SEND_ENOUGH)
		err = send_step(s);
	if (!err && s->phase == SEND_DONE && s->resume > s->chain.next)
		err = -EINVAL; /* a token beyond the end */
	s->out = NULL;
	return err ? err : out->len ? 0 : -KV_E_NOTFOUND;
}

int kvfs_send_hash(const struct kvfs_send *s, uint8_t out[KVFS_HASH_LEN])
{
	if (s->phase != SEND_DONE)
		return -KV_E_INVALID;
	memcpy(out, s->root, KVFS_HASH_LEN);
	return 0;
}
