/* SPDX-License-Identifier: MIT */
/*
 * Make, open and close. A volume of kvcore becomes one of kvfs by three keys of
 * MODEL_META, written in one synced batch: before that kvfs_open() takes it for
 * no volume. Opening for writing sweeps the files that were left without a name.
 */
#include "fusefs/model/open.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/model/kvfs_history.h"
#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/snapshot.h"
#include "fusefs/model/stage.h"
#include "fusefs/model/state.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

void open_root_record(const struct kvfs_owner *owner, struct inode *out)
{
	uint64_t now = inode_time(kvfs_now());

	*out = (struct inode){
		.kind = MODEL_RECORD_FULL,
		.mode = S_IFDIR | (0755U & ~owner->umask),
		.uid = owner->uid,
		.gid = owner->gid,
		.nlink = 2,
		.id = MODEL_ID_ROOT,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.btime = now,
	};
}

static int open_mkfs_batch(struct kv_batch *batch, const struct kvfs_owner *owner)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct le64 next = le64_of(MODEL_ID_FIRST);
	struct le32 version = le32_of(MODEL_FORMAT_FIRST);
	struct model_key key;
	struct inode root;
	int err;

	open_root_record(owner, &root);
	place_meta("root", &key);
	err = kv_batch_put(batch, MODEL_META, model_key_slice(&key),
			   kv_slice_of(raw, inode_encode(&root, raw)));
	if (err)
		return err;
	place_meta("next_id", &key);
	err = kv_batch_put(batch, MODEL_META, model_key_slice(&key),
			   kv_slice_of(&next, sizeof(next)));
	if (err)
		return err;
	place_meta("format", &key);
	return kv_batch_put(batch, MODEL_META, model_key_slice(&key),
			    kv_slice_of(&version, sizeof(version)));
}

int kvfs_mkfs(const char *path, const struct kv_create_options *options,
	      const struct kvfs_owner *root)
{
	struct kv_options open_options = {0};
	struct kv_batch *batch = NULL;
	struct kv_db *db;
	struct stat st;
	bool fresh;
	int err, closed;

	if (options) {
		open_options.env = options->env;
		open_options.log = options->log;
	}
	fresh = stat(path, &st) != 0;
	err = kv_create(path, options);
	if (err)
		return err;
	err = kv_open(path, &open_options, &db);
	if (err)
		goto out;
	err = kv_batch_new(db, &batch);
	if (!err)
		err = open_mkfs_batch(batch, root);
	if (!err)
		err = kv_batch_write(batch, KV_COMMIT_SYNC, NULL);
	kv_batch_free(batch);
	closed = kv_close(db);
	if (!err)
		err = closed;
out:
	/* Without its three keys it is no volume; a file that was not there goes again. */
	if (err && fresh && !open_options.env)
		(void)!unlink(path);
	return err;
}

int open_need_format(struct kv_txn *txn, uint32_t version)
{
	struct le32 wanted = le32_of(version);
	struct kv_buf value = {0};
	struct le32 now = {0};
	struct model_key key;
	int err;

	place_meta("format", &key);
	err = kv_txn_get(txn, key.keyspace, model_key_slice(&key), &value);
	if (err == -KV_E_NOTFOUND || (!err && value.len != sizeof(now)))
		err = -KV_E_CORRUPT;
	if (!err)
		memcpy(&now, value.data, sizeof(now));
	kv_buf_free(&value);
	if (err || le32_get(now) >= version)
		return err;
	return kv_txn_put(txn, key.keyspace, model_key_slice(&key),
			  kv_slice_of(&wanted, sizeof(wanted)));
}

int open_check_format(struct kv_db *db)
{
	struct kv_buf value = {0};
	struct le32 version;
	struct model_key key;
	int err;

	place_meta("format", &key);
	err = kv_get(db, MODEL_META, model_key_slice(&key), &value);
	if (err == -KV_E_NOTFOUND)
		err = -KV_E_NOT_A_VOLUME;
	if (!err && value.len != sizeof(version))
		err = -KV_E_CORRUPT;
	if (!err) {
		memcpy(&version, value.data, sizeof(version));
		if (le32_get(version) > MODEL_FORMAT_NEWEST)
			err = -KV_E_VERSION;
		else if (!le32_get(version))
			err = -KV_E_CORRUPT;
	}
	kv_buf_free(&value);
	return err;
}

int open_look(struct kvfs *fs)
{
	struct inode_buf root = {0};
	struct model_key key;
	struct kv_iter *it = NULL;
	struct kv_txn *txn;
	int err;

	err = retry_begin_read(fs, &txn);
	if (err)
		return err;
	place_meta("root", &key);
	err = inode_get(fs, txn, &key, false, &root);
	if (err == -KV_E_NOTFOUND)
		err = -KV_E_NOT_A_VOLUME;
	if (err)
		goto out;
	if (root.r.kind != MODEL_RECORD_FULL || root.r.id != MODEL_ID_ROOT ||
	    !inode_is_dir(&root.r) || root.r.prefix.len) {
		err = -KV_E_CORRUPT;
		goto out;
	}
	err = kv_iter_open(txn, MODEL_PREFIXES, NULL, &it);
	if (err)
		goto out;
	err = kv_iter_first(it);
	atomic_store(&fs->displaced, !err);
	if (err == -KV_E_NOTFOUND)
		err = 0;
	kv_iter_close(it);
out:
	retry_end_read(fs, txn);
	inode_buf_free(&root);
	return err;
}

static void open_init_root(struct kvfs *fs)
{
	fs->root.ino = MODEL_ID_ROOT;
	fs->root.refs = 1;
	fs->root.type = (uint16_t)S_IFDIR;
	fs->root.state = NODE_ROOT;
}

/* Locks and tables; nothing to undo after a failure. */
static int open_init(struct kvfs *fs)
{
	int err;

	open_init_root(fs);
	err = os_rwlock_init(&fs->ns, fs->live ? OS_RANK_MODEL_DRAFT : OS_RANK_MODEL_NODE);
	if (err)
		return err;
	err = os_mutex_init(&fs->txn_mu, OS_RANK_MODEL_TXN);
	if (err)
		goto no_txn_mutex;
	err = os_mutex_init(&fs->id_mu, OS_RANK_MODEL_TABLE);
	if (err)
		goto no_mutex;
	err = os_mutex_init(&fs->stage_mu, OS_RANK_MODEL_STAGES);
	if (err)
		goto no_stages;
	err = node_table_init(fs);
	if (!err)
		return 0;
	os_mutex_fini(&fs->stage_mu);
no_stages:
	os_mutex_fini(&fs->id_mu);
no_mutex:
	os_mutex_fini(&fs->txn_mu);
no_txn_mutex:
	os_rwlock_fini(&fs->ns);
	return err;
}

static void open_fini(struct kvfs *fs)
{
	node_table_fini(fs);
	kv_buf_free(&fs->top_path);
	os_mutex_fini(&fs->stage_mu);
	os_mutex_fini(&fs->id_mu);
	os_mutex_fini(&fs->txn_mu);
	os_rwlock_fini(&fs->ns);
	free(fs);
}

int kvfs_open(const char *path, const struct kvfs_options *options, struct kvfs **out)
{
	struct kvfs_options o = options ? *options : (struct kvfs_options){0};
	struct kvfs *fs = calloc(1, sizeof(*fs));
	int err;

	if (!fs)
		return -ENOMEM;
	if (o.flags & KVFS_RDONLY)
		o.kv.flags |= KV_OPEN_RDONLY;
	place_set_prefixes(&o.kv);
	fs->opened_readonly = o.kv.flags & KV_OPEN_RDONLY;
	fs->sync = o.flags & KVFS_SYNC;
	fs->lazytime = o.flags & KVFS_LAZYTIME;
	fs->atime = o.atime;
	fs->nodiratime = o.nodiratime;
	if (o.kv.log)
		fs->log = *o.kv.log;
	atomic_store(&fs->readonly, fs->opened_readonly);
	err = open_init(fs);
	if (err) {
		free(fs);
		return err;
	}
	err = kv_open(path, &o.kv, &fs->db);
	if (err)
		goto out;
	err = open_check_format(fs->db);
	if (!err)
		err = open_look(fs);
	if (!err && !fs->opened_readonly)
		err = remove_all_orphans(fs);
	if (err) {
		(void)!kv_close(fs->db);
		goto out;
	}
	*out = fs;
	return 0;
out:
	open_fini(fs);
	return err;
}

int open_view(struct kvfs *fs, struct kvfs *live, struct kvfs **out)
{
	struct kvfs *view = calloc(1, sizeof(*view));
	int err;

	if (!view)
		return -ENOMEM;
	view->db = fs->db;
	view->view = true;
	view->live = live;
	view->opened_readonly = !live;
	view->log = fs->log;
	view->atime = KVFS_NOATIME;
	atomic_store(&view->readonly, !live);
	err = open_init(view);
	if (err)
		free(view);
	else
		*out = view;
	return err;
}

/* A snapshot of a subtree has its top as root. */
static int open_top(struct kvfs *view, struct kv_txn *txn, const char *name)
{
	struct inode_buf rec = {0};
	int err = snapshot_top(txn, name, &view->top_path);

	if (err || !view->top_path.len)
		return err;
	err = state_find_place(txn, kv_buf_slice(&view->top_path), &rec, &view->top,
			       &view->top_prefix);
	if (err == -ENOENT || err == -ENOTDIR || (!err && !inode_is_dir(&rec.r)))
		err = -KV_E_CORRUPT;
	view->root.ino = rec.r.id;
	view->root.prefix = view->top_prefix.b;
	view->root.prefix_len = (uint16_t)view->top_prefix.len;
	inode_buf_free(&rec);
	return err ? err : buf_append_byte(&view->top_path, 0);
}

/* A view of the state that @snapshot, taken over, is; @name: of the snapshot, if it has one. */
static int open_past(struct kvfs *fs, struct kv_snapshot *snapshot, const char *name,
		     struct kvfs **out)
{
	struct kv_txn *txn;
	struct kvfs *view;
	int err = open_view(fs, NULL, &view);

	if (err) {
		kv_snapshot_release(snapshot);
		return err;
	}
	view->snapshot = snapshot;
	err = open_look(view);
	if (!err)
		err = name ? retry_begin_read(view, &txn) : 0;
	if (!err && name) {
		err = open_top(view, txn, name);
		retry_end_read(view, txn);
	}
	if (err) {
		(void)!kvfs_close(view); /* it only reads */
		return err;
	}
	*out = view;
	return 0;
}

int kvfs_open_snapshot(struct kvfs *fs, const char *name, struct kvfs **out)
{
	struct kv_snapshot *snapshot;
	int err = kv_snapshot_open(fs->db, name, &snapshot);

	return err ? err : open_past(fs, snapshot, name, out);
}

int kvfs_open_at(struct kvfs *fs, kv_seq commit, struct kvfs **out)
{
	struct kv_snapshot *snapshot;
	int err = kv_history_open(fs->db, commit, &snapshot);

	return err ? err : open_past(fs, snapshot, NULL, out);
}

int kvfs_close(struct kvfs *fs)
{
	int err = 0, closed;

	if (!fs)
		return 0;
	err = stage_settle_all(fs);
	if (!kvfs_writable(fs) && !fs->live) {
		closed = node_table_each(fs, times_flush);
		if (!closed)
			closed = times_flush(fs, &fs->root);
		err = err ? err : closed;
		closed = remove_all_orphans(fs);
		if (!err)
			err = closed;
	}
	if (fs->live) {
		kvfs_draft_abort(fs);
	} else if (fs->view) {
		if (fs->snapshot)
			kv_snapshot_release(fs->snapshot);
	} else {
		closed = kv_close(fs->db);
		if (closed)
			err = closed;
	}
	open_fini(fs);
	return err;
}
