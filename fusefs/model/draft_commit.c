/* SPDX-License-Identifier: MIT */
/*
 * The commit of a draft. Under both namespace locks, so that nobody changes anything:
 *
 *   compare what was written with the present (draft_compare.c), and look at all of it
 * (draft_nodes.c); with a conflict: nothing has changed, the draft goes on, the paths are told;
 *   else: put the merged directories, commit the engine's transaction, set the live nodes.
 *
 * Then, without locks: wait for the sync, tell what others' caches hold, say that it is done, and
 * delete the contents of files that lost their last name and that nobody looks at. That a
 * crash comes before the end of that is what the sweep at the next opening is for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/remove.h"
#include "fusefs/model/draft.h"
#include "kvcore/base/buf.h"

/* ---- begin and end --------------------------------------------------------- */

static int open_states(struct draft_commit *c)
{
	const struct kv_txn_options present = {.flags = KV_TXN_RDONLY};
	const struct kv_txn_options then = {.flags = KV_TXN_RDONLY, .snapshot = c->draft->snapshot};
	int err;

	if (!c->draft->txn)
		return -ESTALE;
	c->paths = (struct draft_paths){.draft = c->draft, .txn = c->draft->txn};
	err = kv_txn_begin(c->live->db, &present, &c->now);
	if (!err)
		err = kv_txn_begin(c->live->db, &then, &c->paths.then);
	return err;
}

static void free_all(struct draft_commit *c)
{
	draft_nodes_free(c);
	kv_buf_free(&c->conflicts);
	kv_buf_free(&c->merged);
	kv_buf_free(&c->stale);
	kv_buf_free(&c->sweep);
	kv_buf_free(&c->last_prefix);
}

/* ---- under the locks --------------------------------------------------------- */

static int put_merged(struct draft_commit *c)
{
	const uint8_t *pos = c->merged.data;
	const uint8_t *end = pos + c->merged.len;
	int err = 0;

	while (!err && pos < end) {
		struct draft_key head;
		struct kv_slice key;
		uint32_t len;

		memcpy(&head, pos, sizeof(head));
		key = kv_slice_of(pos + sizeof(head), head.len);
		memcpy(&len, key.data + key.len, sizeof(len));
		pos = key.data + key.len + sizeof(len);
		err = kv_txn_put(c->draft->txn, head.keyspace, key, kv_slice_of(pos, len));
		pos += len;
	}
	return err;
}

/* From here on the draft is over, whatever happens. */
static int finish(struct draft_commit *c)
{
	struct kv_txn *txn = c->draft->txn;
	int err = put_merged(c);

	if (!err) {
		c->draft->txn = NULL;
		err = kv_txn_commit(txn, 0, NULL);
	}
	if (!err) {
		draft_nodes_settle(c);
		if (atomic_load(&c->draft->displaced))
			atomic_store(&c->live->displaced, true);
	}
	return err;
}

static int compare_and_finish(struct draft_commit *c, bool *ended)
{
	int err = open_states(c);

	if (!err && c->change)
		err = c->change->check(c->change->ctx, c->paths.then, c->now);
	if (!err)
		err = kv_txn_rebase(c->draft->txn, draft_compare, c);
	*ended = !err;
	if (!err)
		err = finish(c);
	kv_txn_abort(c->now);
	c->now = NULL;
	return err > 0 ? -KV_E_CONFLICT : err;
}

/* ---- without --------------------------------------------------------------------- */

static int tell_conflict(struct draft_commit *c, unsigned keyspace, struct kv_slice key,
			 struct kv_buf *told, const struct kvfs_draft_hooks *hooks)
{
	struct kv_buf path = {0};
	int err = draft_path(&c->paths, keyspace, key, &path);
	bool known = false;
	uint32_t len;

	/* Several keys of one file are one path. There are few of them. */
	for (size_t at = 0; !err && at < told->len && !known; at += sizeof(len) + len) {
		memcpy(&len, told->data + at, sizeof(len));
		known = slice_equal(kv_slice_of(told->data + at + sizeof(len), len),
				    kv_buf_slice(&path));
	}
	len = (uint32_t)path.len;
	if (!err && !known) {
		hooks->conflict(hooks->ctx, kv_buf_slice(&path));
		err = buf_append(told, &len, sizeof(len));
		if (!err)
			err = buf_append_slice(told, kv_buf_slice(&path));
	}
	kv_buf_free(&path);
	return err;
}

/* The draft's locks are still held. */
static int tell_conflicts(struct draft_commit *c, const struct kvfs_draft_hooks *hooks)
{
	struct kv_buf told = {0};
	struct draft_key head;
	int err = 0;

	for (size_t at = 0; !err && at < c->conflicts.len; at += sizeof(head) + head.len) {
		memcpy(&head, c->conflicts.data + at, sizeof(head));
		err = tell_conflict(c, head.keyspace,
				    kv_slice_of(c->conflicts.data + at + sizeof(head), head.len),
				    &told, hooks);
	}
	kv_buf_free(&told);
	return err;
}

static void tell_stale(const struct draft_commit *c, const struct kvfs_draft_hooks *hooks)
{
	char name[KVFS_NAME_MAX + 1];
	size_t len;

	for (size_t at = 0; at < c->stale.len; at += 9 + len) {
		const uint8_t *p = c->stale.data + at;

		len = p[8];
		memcpy(name, p + 9, len);
		name[len] = 0;
		hooks->stale(hooks->ctx, be64_at(p), len ? name : NULL);
	}
}

static void sweep(struct draft_commit *c)
{
	uint64_t id;

	for (size_t at = 0; at < c->sweep.len; at += sizeof(id)) {
		memcpy(&id, c->sweep.data + at, sizeof(id));
		remove_orphan(c->live, id);
	}
}

/* The change from the present, which stays so; all locks are held. */
static int write_alone(struct kvfs *draft, const struct draft_change *change)
{
	int err;

	draft_end(draft);
	err = draft_take(draft, 0);
	return err ? err : draft_write(draft, change);
}

int draft_commit_change(struct kvfs *draft, const struct draft_change *change, bool alone,
			const struct kvfs_draft_hooks *hooks)
{
	struct draft_commit c = {.draft = draft, .live = draft->live, .change = change};
	bool ended = false;
	int err = kvfs_writable(c.live), after = 0;

	if (err)
		return err;
	os_rwlock_wrlock(&draft->ns);
	os_rwlock_wrlock(&c.live->ns);
	os_mutex_lock(&draft->txn_mu);
	err = alone ? write_alone(draft, change) : 0;
	if (!err)
		err = compare_and_finish(&c, &ended);
	if (!err && change && change->committed)
		after = change->committed(change->ctx);
	os_rwlock_wrunlock(&c.live->ns);
	if (err == -KV_E_CONFLICT && hooks->conflict && tell_conflicts(&c, hooks))
		err = -ENOMEM;
	kv_txn_abort(c.paths.then);
	if (ended)
		draft_end(draft);
	os_mutex_unlock(&draft->txn_mu);
	os_rwlock_wrunlock(&draft->ns);
	if (!err) {
		err = kv_sync(c.live->db);
		if (hooks->stale)
			tell_stale(&c, hooks);
	}
	draft_nodes_free(&c);
	if (hooks->done)
		hooks->done(hooks->ctx, err);
	if (c.settled)
		sweep(&c);
	free_all(&c);
	return err ? err : after;
}

int kvfs_draft_commit(struct kvfs *draft, const struct kvfs_draft_hooks *hooks)
{
	return draft_commit_change(draft, NULL, false, hooks);
}
