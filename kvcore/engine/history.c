/* SPDX-License-Identifier: MIT */
/*
 * Which of the past is kept, and reading it. What is kept is everything from one number on (the
 * floor of snapshots.h), so flush and compaction need no list of states. If it is to last, the
 * number is a record of the engine's own keyspace, "h" -> number; it is durable before
 * anything that it lets go is dropped, so it never promises too much.
 *
 * Which commits are durable: the log knows an LSN only. A visible number and the log's end, seen in
 * this order, are a pair whose number is durable as soon as the LSN is; there is always one such
 * pair that is waited for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/txn.h"
#include "kvcore/kv_history.h"

#define HISTORY_TAG 'h'

struct history {
	struct os_mutex mu; /* OS_RANK_NAMED: held across commits */
	bool begun;	    /* [mu] */
	bool lasting;	    /* [mu] */
	kv_seq from;	    /* [mu] */
	kv_seq durable;	    /* [mu] */
	kv_seq seen;	    /* [mu] durable as soon as ... */
	uint64_t seen_lsn;  /* [mu] ... this is */
};

/* ---- the record ------------------------------------------------------------------------- */

static int history_load_record(struct kv_db *db, struct history *h)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_iter *it = NULL;
	struct kv_txn *txn = NULL;
	struct kv_slice value;
	int err = kv_txn_begin(db, &ro, &txn);

	if (!err)
		err = db_iter_open_system(txn, HISTORY_TAG, &it);
	if (!err)
		err = kv_iter_first(it);
	if (!err)
		err = kv_iter_value(it, &value);
	if (!err && (value.len != sizeof(struct le64) || kv_iter_key(it).len != 1))
		err = -KV_E_CORRUPT;
	if (!err) {
		struct le64 from;

		memcpy(&from, value.data, sizeof(from));
		h->from = le64_get(from);
		h->begun = h->lasting = true;
		if (!h->from || h->from > snapshots_visible(db->snapshots))
			err = -KV_E_CORRUPT;
	}
	kv_iter_close(it);
	kv_txn_abort(txn);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* @from 0: remove it. Durable on return. */
static int history_store(struct kv_db *db, kv_seq from)
{
	const uint8_t tag = HISTORY_TAG;
	const struct le64 value = le64_of(from);
	uint8_t buf[IKEY_MAX];
	struct kv_slice ikey = ikey_make(buf, KEYSPACE_SYSTEM, kv_slice_of(&tag, 1));
	struct writeset *w = NULL;
	int err = txn_writeset_new(db, &w);

	if (!err)
		err = writeset_put(w, ikey, from ? ENTRY_PUT : ENTRY_DELETE,
				   kv_slice_of(&value, from ? sizeof(value) : 0));
	if (!err)
		err = txn_write_commit(db, w, KV_COMMIT_SYNC | KV_COMMIT_RESERVE, NULL, NULL);
	writeset_free(w);
	return err;
}

/* ---- life --------------------------------------------------------------------------------- */

int history_load(struct kv_db *db)
{
	struct history *h = calloc(1, sizeof(*h));
	int err;

	if (!h)
		return -ENOMEM;
	err = os_mutex_init(&h->mu, OS_RANK_NAMED);
	if (err) {
		free(h);
		return err;
	}
	db->history = h;
	err = history_load_record(db, h);
	if (!err && h->begun)
		snapshots_keep_from(db->snapshots, h->from);
	return err;
}

void history_free(struct kv_db *db)
{
	if (!db->history)
		return;
	os_mutex_fini(&db->history->mu);
	free(db->history);
	db->history = NULL;
}

/* ---- what is kept --------------------------------------------------------------------------- */

static int begin_locked(struct kv_db *db, bool lasting)
{
	struct history *h = db->history;
	bool was = h->begun;
	int err = 0;

	if (!was) {
		snapshots_keep_from(db->snapshots, 0);
		/* 0 is the state of an empty database, which no list keeps apart from 1. */
		h->from = max_u64(snapshots_visible(db->snapshots), 1);
		snapshots_keep_from(db->snapshots, h->from);
		h->begun = true;
	}
	if (lasting && !h->lasting)
		err = db->readonly ? -KV_E_READONLY : history_store(db, h->from);
	if (!err && lasting)
		h->lasting = true;
	if (err && !was) {
		h->begun = false;
		snapshots_keep_from(db->snapshots, KV_SEQ_MAX);
	}
	return err;
}

int kv_history_begin(struct kv_db *db, bool lasting)
{
	int err;

	os_mutex_lock(&db->history->mu);
	err = begin_locked(db, lasting);
	os_mutex_unlock(&db->history->mu);
	return err;
}

int kv_history_trim(struct kv_db *db, kv_seq from)
{
	struct history *h = db->history;
	int err = 0;

	os_mutex_lock(&h->mu);
	if (h->begun && from > h->from && from <= snapshots_visible(db->snapshots)) {
		if (h->lasting)
			err = db->readonly ? -KV_E_READONLY : history_store(db, from);
		if (!err) {
			h->from = from; /* nobody begins to read what is before from now on, */
			snapshots_keep_from(db->snapshots, from); /* and then it may go */
		}
	}
	os_mutex_unlock(&h->mu);
	return err;
}

bool history_give_up(struct kv_db *db)
{
	struct kv_history_info info;

	kv_history_get(db, &info);
	return info.begun && info.from < info.newest && !kv_history_trim(db, info.newest);
}

int kv_history_end(struct kv_db *db)
{
	struct history *h = db->history;
	int err = 0;

	os_mutex_lock(&h->mu);
	if (h->lasting)
		err = db->readonly ? -KV_E_READONLY : history_store(db, 0);
	if (!err) {
		h->begun = h->lasting = false;
		snapshots_keep_from(db->snapshots, KV_SEQ_MAX);
	}
	os_mutex_unlock(&h->mu);
	return err;
}

/* ---- reading it ------------------------------------------------------------------------------ */

static kv_seq durable_locked(struct kv_db *db)
{
	struct history *h = db->history;
	kv_seq visible = snapshots_visible(db->snapshots);
	uint64_t end, durable;

	if (!db->wal)
		return visible;
	end = wal_end_lsn(db->wal);
	durable = wal_durable_lsn(db->wal);
	if (end <= durable) {
		h->durable = visible;
	} else if (h->seen_lsn <= durable) {
		h->durable = max_u64(h->durable, h->seen);
		h->seen = visible;
		h->seen_lsn = end;
	}
	return h->durable;
}

void kv_history_get(struct kv_db *db, struct kv_history_info *out)
{
	struct history *h = db->history;

	os_mutex_lock(&h->mu);
	*out = (struct kv_history_info){
		.begun = h->begun,
		.lasting = h->lasting,
		.durable = durable_locked(db),
		.newest = snapshots_visible(db->snapshots),
	};
	if (h->begun) /* of an empty database 0, though what is kept begins with 1 */
		out->from = min_u64(h->from, out->newest);
	os_mutex_unlock(&h->mu);
}

int kv_history_open(struct kv_db *db, kv_seq seq, struct kv_snapshot **out)
{
	struct history *h = db->history;
	struct kv_snapshot *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct kv_snapshot){.db = db, .seq = seq};
	os_mutex_lock(&h->mu);
	if (!h->begun || seq < h->from)
		err = -KV_E_GONE;
	else if (seq > snapshots_visible(db->snapshots))
		err = -KV_E_INVALID;
	else
		err = snapshots_hold(db->snapshots, seq);
	os_mutex_unlock(&h->mu);
	if (err) {
		free(s);
		return err;
	}
	atomic_fetch_add(&db->handles, 1);
	*out = s;
	return 0;
}
