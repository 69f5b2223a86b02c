/* SPDX-License-Identifier: MIT */
/*
 * The whole volume becomes what it was at a snapshot, in one transaction: record
 * by record, in every keyspace, what differs is written back. So files get back
 * their ids, links, times and holes, and a crash leaves the state before or after.
 * Only the counter of ids stays, because ids are never given twice, and the
 * retention policy, which is no content.
 *
 * Files that were open without a name at the snapshot come back as such, and are
 * swept like those that a crash leaves.
 */
#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/snapshot.h"

/* Both states of one keyspace, side by side. */
struct restore {
	struct kv_txn *out;
	unsigned keyspace;
	struct kv_iter *then, *now;
	bool have_then, have_now;
	uint64_t changes;
};

/* 0 and *have, or errors of reading. */
static int restore_move(struct kv_iter *it, bool first, bool *have)
{
	int err = first ? kv_iter_first(it) : kv_iter_next(it);

	*have = !err;
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static bool restore_wanted(const struct restore *r, struct kv_slice key)
{
	struct model_key root;

	place_meta("root", &root);
	return r->keyspace != MODEL_META || slice_equal(key, model_key_slice(&root));
}

static int restore_put(struct restore *r)
{
	struct kv_slice value;
	int err = kv_iter_value(r->then, &value);

	if (err || !restore_wanted(r, kv_iter_key(r->then)))
		return err;
	r->changes++;
	return kv_txn_put(r->out, r->keyspace, kv_iter_key(r->then), value);
}

static int restore_delete(struct restore *r)
{
	if (!restore_wanted(r, kv_iter_key(r->now)))
		return 0;
	r->changes++;
	return kv_txn_delete(r->out, r->keyspace, kv_iter_key(r->now));
}

static int restore_same_key(struct restore *r)
{
	struct kv_slice then, now;
	int err;

	if (kv_iter_value_len(r->then) != kv_iter_value_len(r->now))
		return restore_put(r);
	err = kv_iter_value(r->then, &then);
	if (!err)
		err = kv_iter_value(r->now, &now);
	return err ? err : slice_equal(then, now) ? 0 : restore_put(r);
}

static int restore_step(struct restore *r)
{
	int order = !r->have_then  ? 1
		    : !r->have_now ? -1
				   : slice_compare(kv_iter_key(r->then), kv_iter_key(r->now));
	int err;

	err = order < 0 ? restore_put(r) : order > 0 ? restore_delete(r) : restore_same_key(r);
	if (!err && order <= 0)
		err = restore_move(r->then, false, &r->have_then);
	if (!err && order >= 0)
		err = restore_move(r->now, false, &r->have_now);
	return err;
}

static int restore_keyspace(struct kv_txn *then, struct kv_txn *now, struct restore *r)
{
	int err;

	r->then = NULL;
	r->now = NULL;
	err = kv_iter_open(then, r->keyspace, NULL, &r->then);
	if (!err)
		err = kv_iter_open(now, r->keyspace, NULL, &r->now);
	if (!err)
		err = restore_move(r->then, true, &r->have_then);
	if (!err)
		err = restore_move(r->now, true, &r->have_now);
	while (!err && (r->have_then || r->have_now))
		err = restore_step(r);
	kv_iter_close(r->then);
	kv_iter_close(r->now);
	return err;
}

static int restore_all(struct kvfs *fs, struct kv_txn *then)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct restore r = {0};
	struct kv_txn *now = NULL;
	int err;

	err = kv_txn_begin(fs->db, &ro, &now);
	if (!err)
		err = kv_txn_begin(fs->db, NULL, &r.out);
	for (r.keyspace = MODEL_NAMES; !err && r.keyspace <= MODEL_KEYSPACE_LAST; r.keyspace++)
		err = restore_keyspace(then, now, &r);
	kv_txn_abort(now);
	if (err || !r.changes) {
		kv_txn_abort(r.out);
		return err;
	}
	return kv_txn_commit(r.out, KV_COMMIT_SYNC, NULL);
}

/* Whether it had a root directory then, and shows it. */
static int restore_check(struct kv_txn *then, const char *name)
{
	struct kv_buf top = {0};
	struct model_key root;
	int err = snapshot_top(then, name, &top);

	if (!err && top.len)
		err = -EOPNOTSUPP;
	kv_buf_free(&top);
	if (err)
		return err;

	place_meta("root", &root);
	err = kv_txn_get(then, MODEL_META, model_key_slice(&root), NULL);
	return err == -KV_E_NOTFOUND ? -KV_E_NOT_A_VOLUME : err;
}

int kvfs_snapshot_restore(struct kvfs *fs, const char *name)
{
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *then = NULL;
	int err;

	err = kvfs_writable(fs);
	if (err)
		return err;
	err = kv_snapshot_open(fs->db, name, &snapshot);
	if (err)
		return err;
	options.snapshot = snapshot;
	err = kv_txn_begin(fs->db, &options, &then);
	if (!err)
		err = restore_check(then, name);
	if (err)
		goto out;
	os_rwlock_wrlock(&fs->ns);
	err = node_any(fs) ? -KV_E_BUSY : restore_all(fs, then);
	if (!err)
		atomic_store(&fs->displaced, true); /* a hint: there may be such */
	os_rwlock_wrunlock(&fs->ns);
	if (!err)
		err = remove_all_orphans(fs);
out:
	kv_txn_abort(then);
	kv_snapshot_release(snapshot);
	return err;
}
