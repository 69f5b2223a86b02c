/* SPDX-License-Identifier: MIT */
/*
 * A change of many files at one instant: a draft that libkvfs writes itself, record by record, and
 * that is committed like those of users. So open files, names that are looked at and the caches of
 * others are brought along by what commits do anyway.
 *
 * Making it may take long, and nobody waits for it, as long as nobody changes what it is made
 * from. Who does makes it begin again, so that the last time everybody waits.
 */
#include <stdlib.h>

#include "fusefs/model/draft.h"

#define APPLY_TRIES 3U

int draft_write(struct kvfs *draft, const struct draft_change *change)
{
	const struct kv_txn_options o = {.flags = KV_TXN_RDONLY, .snapshot = draft->snapshot};
	struct kv_txn *then;
	int err = kv_txn_begin(draft->db, &o, &then);

	if (err)
		return err;
	err = change->run(change->ctx, draft, then);
	kv_txn_abort(then);
	return err;
}

static int apply_once(struct kvfs *fs, const struct draft_change *change, bool alone,
		      const struct kvfs_draft_hooks *hooks)
{
	struct kvfs *draft;
	int err = kvfs_draft_begin(fs, 0, &draft);

	if (err)
		return err;
	if (!alone) {
		os_mutex_lock(&draft->txn_mu);
		err = draft_write(draft, change);
		os_mutex_unlock(&draft->txn_mu);
	}
	if (!err)
		err = draft_commit_change(draft, change, alone, hooks);
	(void)!kvfs_close(draft); /* what was not committed is dropped */
	return err;
}

int draft_apply(struct kvfs *fs, const struct draft_change *change,
		const struct kvfs_draft_hooks *hooks)
{
	struct kvfs_draft_hooks told = {0};
	int err = -KV_E_CONFLICT;

	if (hooks) {
		told.stale = hooks->stale;
		told.ctx = hooks->ctx;
	}
	for (unsigned i = 1; err == -KV_E_CONFLICT && i <= APPLY_TRIES; i++)
		err = apply_once(fs, change, i == APPLY_TRIES, &told);
	return err;
}
