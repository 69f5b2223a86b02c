/* SPDX-License-Identifier: MIT */
/*
 * The switch: all staged frames are applied in one transaction, which also forgets them. Names
 * of the old state are looked up in a transaction that reads it, so that it does not
 * matter in what order things move; those of the new one in the transaction that writes. At the
 * end the root hash tells whether the outcome is what was sent; if not, nothing was done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/receive.h"
#include "fusefs/model/remove.h"
#include "kvcore/base/buf.h"

int receive_path(struct receive_apply *a, struct kv_slice path, struct kv_slice *out)
{
	int err = buf_assign(&a->path, kv_buf_slice(&a->r->base));

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
	atomic_store(&a->r->fs->displaced, true);
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
	err = inode_get(a->r->fs, a->txn, &key, true, &file);
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
		err = remove_name(a->r->fs, a->txn, &name.r, name.r.ctime, &gone);
	remove_name_free(a->r->fs, &gone);
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

static int receive_item(struct receive_apply *a, const struct stream_item *item)
{
	int err;

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
			err = receive_item(a, &item);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? receive_close_file(a) : err;
}

/* Directories that moved: out with the old paths, in with the new. */
static int receive_hash_moved(struct receive_apply *a)
{
	struct kv_slice base = kv_buf_slice(&a->r->base), path;
	int err = 0;

	for (size_t i = 0; !err && i < tops_count(&a->old); i++) {
		err = receive_path(a, tops_at(&a->old, i), &path);
		if (!err)
			err = roothash_tree(&a->hash, a->pre, base, path, false);
	}
	for (size_t i = 0; !err && i < tops_count(&a->new); i++) {
		err = receive_path(a, tops_at(&a->new, i), &path);
		if (!err)
			err = roothash_tree(&a->hash, a->txn, base, path, true);
	}
	return err;
}

static int receive_finish(struct receive_apply *a)
{
	uint8_t hash[KV_DIGEST_LEN];
	struct model_key stage;
	int err = receive_hash_moved(a);

	if (!err)
		err = roothash_final(&a->hash, hash);
	if (!err && memcmp(hash, a->r->end, sizeof(hash)) != 0)
		err = -EUCLEAN;
	receive_stage_key(&stage);
	if (!err)
		err = kv_txn_delete(a->txn, MODEL_META, model_key_slice(&stage));
	if (!err)
		err = kv_txn_delete_range(a->txn, MODEL_STAGE, kv_slice_of(NULL, 0),
					  kv_slice_of(NULL, 0));
	return err ? err : receive_record_put(a->txn, a->r, a->hash.sum);
}

static int receive_run(struct receive_apply *a)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	int err = kv_txn_begin(a->r->fs->db, &ro, &a->pre);

	if (!err)
		err = kv_txn_begin(a->r->fs->db, NULL, &a->txn);
	if (!err)
		err = roothash_init(&a->hash);
	memcpy(a->hash.sum, a->r->sum, sizeof(a->hash.sum));
	if (!err && a->r->full)
		memset(a->hash.sum, 0, sizeof(a->hash.sum));
	if (!err)
		err = receive_all(a);
	if (!err)
		err = receive_finish(a);
	if (!err) {
		err = kv_txn_commit(a->txn, KV_COMMIT_SYNC, NULL);
		a->txn = NULL;
	}
	/* What the tree does not have, although its hash was right, the stream is wrong about. */
	return err == -ENOENT || err == -ENOTDIR ? -EPROTO : err;
}

int receive_apply(struct kvfs_receive *r)
{
	struct receive_apply a = {.r = r};
	const char *name = (const char *)r->name.data;
	int err;

	os_rwlock_wrlock(&r->fs->ns);
	err = receive_run(&a);
	kv_txn_abort(a.txn);
	kv_txn_abort(a.pre);
	os_rwlock_wrunlock(&r->fs->ns);
	if (!err)
		err = kvfs_snapshot_create(r->fs, name);
	if (!err && !r->base.len)
		err = roothash_remember(r->fs, name, a.hash.sum);
	roothash_fini(&a.hash);
	tops_fini(&a.old);
	tops_fini(&a.new);
	inode_buf_free(&a.was);
	inode_buf_free(&a.rec);
	kv_buf_free(&a.xattrs);
	kv_buf_free(&a.path);
	kv_buf_free(&a.file);
	return err;
}
