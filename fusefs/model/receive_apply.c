/* SPDX-License-Identifier: MIT */
/*
 * The switch: all staged frames are applied in one transaction, which also forgets them. Names
 * of the old state are looked up in a transaction that reads it, so that it does not
 * matter in what order things move; those of the new one in the transaction that writes. At the
 * end the root hash tells whether the outcome is what was sent; if not, nothing was done.
 *
 * Others may look at the tree meanwhile, and change what is not below the directory
 * (draft_apply.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/draft.h"
#include "fusefs/model/receive.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/snapshot.h"
#include "kvcore/base/buf.h"

int receive_path(struct receive_apply *a, struct kv_slice path, struct kv_slice *out)
{
	int err = buf_assign(&a->path, a->base);

	if (!err && a->path.len && path.len)
		err = buf_append_byte(&a->path, 0);
	if (!err)
		err = buf_append_slice(&a->path, path);
	*out = kv_buf_slice(&a->path);
	return err;
}

/* A directory that moves: its prefix is taken, before it has its new place. */
static int receive_reserve(struct receive_apply *a, const struct model_key *prefix, uint64_t dir)
{
	uint8_t id[8];

	be64_put(id, dir);
	atomic_store(&a->fs->displaced, true);
	return kv_txn_put(a->txn, MODEL_PREFIXES, model_key_slice(prefix),
			  kv_slice_of(id, sizeof(id)));
}

/* What users set against changes is no reason not to receive one. */
static int receive_unfix(struct receive_apply *a, const struct inode *name)
{
	struct inode_buf file = {0};
	struct model_key key;
	int err;

	if (name->kind != MODEL_RECORD_LINK)
		return 0;
	place_id(MODEL_INODES, name->id, &key);
	err = inode_get(a->fs, a->txn, &key, true, &file);
	if (!err && inode_check_fixed(&file.r)) {
		file.r.flags &= (uint8_t)~MODEL_FLAGS_USER;
		err = inode_put(a->txn, &key, &file.r);
	}
	inode_buf_free(&file);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

static int receive_remove_file(struct receive_apply *a, const struct model_key *key)
{
	struct remove_name gone = {0};
	struct inode_buf name = {0};
	int err = kv_txn_get(a->pre, MODEL_NAMES, model_key_slice(key), &name.raw);

	if (!err)
		err = inode_decode(kv_buf_slice(&name.raw), &name.r);
	if (!err)
		err = receive_unfix(a, &name.r);
	name.r.flags &= (uint8_t) ~(MODEL_FLAG_IMMUTABLE | MODEL_FLAG_APPEND);
	if (!err)
		err = remove_name(a->fs, a->txn, &name.r, name.r.ctime, &gone);
	remove_name_free(a->fs, &gone);
	inode_buf_free(&name);
	return err;
}

static int receive_remove(struct receive_apply *a, const struct stream_item *item)
{
	struct model_key key, prefix;
	struct kv_slice path;
	bool moves;
	int err = receive_path(a, item->path, &path);

	if (!err)
		err = state_find_place(a->pre, path, &a->was, &key, &prefix);
	if (err)
		return err;
	moves = inode_is_dir(&a->was.r) && !item->gone;
	if (moves)
		err = tops_add(&a->old, item->path);
	if (!err && !tops_contain(&a->old, item->path))
		err = roothash_file(&a->hash, a->pre, item->path, &a->was.r, true, false);
	if (!err && moves)
		err = receive_reserve(a, &prefix, a->was.r.id);
	if (!err)
		err = kv_txn_delete(a->txn, MODEL_NAMES, model_key_slice(&key));
	return err || !item->gone ? err : receive_remove_file(a, &key);
}

static int receive_apply_item(struct receive_apply *a, const struct stream_item *item)
{
	int err;

	a->items++;
	if (a->progress && a->progress->report(a->progress->ctx, a->items, 0))
		return -KV_E_INTERRUPTED;
	if (item->kind == STREAM_DATA || item->kind == STREAM_HOLE)
		return receive_chunk(a, item);
	err = receive_close_file(a);
	if (err)
		return err;
	switch (item->kind) {
	case STREAM_REMOVE:
		return receive_remove(a, item);
	case STREAM_ENTRY:
		return receive_entry(a, item);
	case STREAM_LINK:
		return receive_link(a, item);
	default: /* BEGIN and END were looked at when they came */
		return 0;
	}
}

static int receive_all(struct receive_apply *a)
{
	struct stream_item item;
	struct kv_slice value;
	struct kv_iter *it;
	int err = kv_iter_open(a->pre, MODEL_STAGE, NULL, &it);

	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		err = kv_iter_value(it, &value);
		if (!err)
			err = value.len ? stream_decode(value.data[0],
							kv_slice_of(value.data + 1, value.len - 1),
							&item)
					: -KV_E_CORRUPT;
		if (!err)
			err = receive_apply_item(a, &item);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? receive_close_file(a) : err;
}

/* Directories that moved: out with the old paths, in with the new. */
static int receive_hash_moved(struct receive_apply *a)
{
	struct kv_slice path;
	int err = 0;

	for (size_t i = 0; !err && i < tops_count(&a->old); i++) {
		err = receive_path(a, tops_at(&a->old, i), &path);
		if (!err)
			err = roothash_tree(&a->hash, a->pre, a->base, path, false);
	}
	for (size_t i = 0; !err && i < tops_count(&a->new); i++) {
		err = receive_path(a, tops_at(&a->new, i), &path);
		if (!err)
			err = roothash_tree(&a->hash, a->txn, a->base, path, true);
	}
	return err;
}

static int receive_finish(struct receive_apply *a, const struct kvfs_receive *r)
{
	uint8_t hash[KV_DIGEST_LEN];
	struct model_key stage;
	int err = receive_hash_moved(a);

	if (!err)
		err = roothash_final(&a->hash, hash);
	if (!err && memcmp(hash, r->end, sizeof(hash)) != 0)
		err = -EUCLEAN;
	receive_stage_key(&stage);
	if (!err)
		err = kv_txn_delete(a->txn, MODEL_META, model_key_slice(&stage));
	if (!err)
		err = kv_txn_delete_range(a->txn, MODEL_STAGE, kv_slice_of(NULL, 0),
					  kv_slice_of(NULL, 0));
	return err ? err : receive_record_put(a->txn, r, a->hash.sum);
}

static void receive_apply_fini(struct receive_apply *a)
{
	roothash_fini(&a->hash);
	tops_fini(&a->old);
	tops_fini(&a->new);
	inode_buf_free(&a->was);
	inode_buf_free(&a->rec);
	kv_buf_free(&a->xattrs);
	kv_buf_free(&a->path);
	kv_buf_free(&a->file);
}

/* ---- the transaction ---- */

struct receive_switch {
	struct kvfs_receive *r;
	const struct kv_progress *progress;
	uint8_t sum[ROOTHASH_SUM]; /* of the outcome */
};

static int receive_run(void *ctx, struct kvfs *draft, struct kv_txn *then)
{
	struct receive_switch *s = ctx;
	struct receive_apply a = {.fs = draft,
				  .base = kv_buf_slice(&s->r->base),
				  .full = s->r->full,
				  .progress = s->progress,
				  .pre = then,
				  .txn = draft->txn};
	int err = receive_check_still(s->r, then);

	if (!err)
		err = roothash_init(&a.hash);
	if (!err && !s->r->full)
		memcpy(a.hash.sum, s->r->sum, sizeof(a.hash.sum));
	if (!err)
		err = receive_all(&a);
	if (!err)
		err = receive_finish(&a, s->r);
	memcpy(s->sum, a.hash.sum, sizeof(s->sum));
	receive_apply_fini(&a);
	/* What the tree does not have, although its hash was right, the stream is wrong about. */
	return err == -ENOENT || err == -ENOTDIR ? -EPROTO : err;
}

static int receive_may_commit(void *ctx, struct kv_txn *then, struct kv_txn *now)
{
	struct receive_switch *s = ctx;
	int err = receive_check_still(s->r, now);

	(void)then;
	return err ? err : receive_check_name(s->r);
}

/* The snapshot is of this and nothing later. */
static int receive_committed(void *ctx)
{
	struct receive_switch *s = ctx;

	return snapshot_create_now(s->r->fs, (const char *)s->r->name.data);
}

int receive_apply(struct kvfs_receive *r, const struct kv_progress *progress,
		  const struct kvfs_draft_hooks *hooks)
{
	struct receive_switch s = {.r = r, .progress = progress};
	const struct draft_change change = {.run = receive_run,
					    .check = receive_may_commit,
					    .committed = receive_committed,
					    .ctx = &s};
	int err = draft_apply(r->fs, &change, hooks);

	if (!err && !r->base.len)
		err = roothash_remember(r->fs, (const char *)r->name.data, s.sum);
	return err;
}
