/* SPDX-License-Identifier: MIT */
/*
 * The past of a database: states between commits, and the commits themselves in
 * order. Nothing of it is kept unless somebody asks: kv_history_begin() keeps every
 * version from then on, kv_history_trim() lets the older ones go. Keeping costs no time of
 * writers, and space, all of which is given up before a writer hears that the volume is full. No
 * reader of it holds up anybody: it is told that what it wants has gone.
 */
#ifndef KVCORE_KV_HISTORY_H
#define KVCORE_KV_HISTORY_H

#include "kvcore/kvcore.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * kv_history_begin() - from now on every state can be read
 * @lasting: recorded on the volume, so that it holds across openings, until kv_history_end()
 *
 * If it has begun already, this only may make it lasting. Nothing is dropped while a volume is open
 * read-only, so there it begins with the state that was opened.
 *
 * Thread safety: of all functions here but those of a feed: any thread.
 * Return: 0, of kv_txn_commit() (@lasting).
 */
KV_API int kv_history_begin(struct kv_db *db, bool lasting) KV_MUST_CHECK;

/**
 * kv_history_trim() - states before a commit may go
 * @from: the oldest one that is still wanted; an earlier one than now, or a later one than the
 * newest, changes nothing
 *
 * Return: 0, of kv_txn_commit() if it is lasting.
 */
KV_API int kv_history_trim(struct kv_db *db, kv_seq from) KV_MUST_CHECK;

/* kv_history_end() - keep nothing any more. Return: as kv_history_trim(). */
KV_API int kv_history_end(struct kv_db *db) KV_MUST_CHECK;

struct kv_history_info {
	bool begun, lasting;
	kv_seq from;	/* oldest state that can be read, if it has begun */
	kv_seq durable; /* all commits up to it survive the loss of power */
	kv_seq newest;
};
KV_API void kv_history_get(struct kv_db *db, struct kv_history_info *out);

/**
 * kv_history_open() - the state right after a commit, or between it and the next one
 * @out: released with kv_snapshot_release(); stays readable, whatever is trimmed
 *
 * Return: 0, -KV_E_GONE (before kv_history_info.from, or nothing is kept), -KV_E_INVALID (there is
 * no such commit yet), -ENOMEM.
 */
KV_API int kv_history_open(struct kv_db *db, kv_seq seq, struct kv_snapshot **out) KV_MUST_CHECK;

/* ---- commits in order ---- */

struct kv_feed;

/**
 * kv_feed_open() - go over the commits after a position, as they become durable
 * @after: number of the last commit that is not wanted
 *
 * It holds nothing: if history is trimmed beyond its position, it says so and goes no further.
 * Each look for new commits costs by what was written since the last flush and, if the position is
 * further behind, in tables since; 65536 commit numbers are looked for at a time.
 *
 * Thread safety: one thread per feed.
 * Return: 0, -KV_E_GONE, -KV_E_INVALID (there is no such commit yet), -ENOMEM.
 */
KV_API int kv_feed_open(struct kv_db *db, kv_seq after, struct kv_feed **out) KV_MUST_CHECK;
KV_API void kv_feed_close(struct kv_feed *feed); /* NULL is allowed */

/**
 * kv_feed_next() - go to the next commit that is durable
 * @seq: its number
 *
 * Return: 0, -KV_E_NOTFOUND (there is none yet: ask again later), -KV_E_GONE, errors of reading.
 */
KV_API int kv_feed_next(struct kv_feed *feed, kv_seq *seq) KV_MUST_CHECK;

enum kv_feed_kind { KV_FEED_PUT, KV_FEED_DELETE, KV_FEED_DELETE_RANGE };
struct kv_feed_op {
	enum kv_feed_kind kind;
	unsigned keyspace;
	struct kv_slice key; /* borrowed until kv_feed_next() */
	struct kv_slice to;  /* of a range: the first key behind it; empty: the keyspace's end */
};
/*
 * kv_feed_op() - the commit's next operation: each key that it wrote once, in order, then its range
 * deletes, in pieces if others overlap them. What the key held and holds is found with
 * kv_history_open() of the number before and of the commit's. false: that were all.
 */
KV_API bool kv_feed_op(struct kv_feed *feed, struct kv_feed_op *out);

/* kv_feed_position() - all commits up to it have been returned */
KV_API kv_seq kv_feed_position(const struct kv_feed *feed);

/* ---- versions of keys ---- */

struct kv_past;

/**
 * kv_past_open() - which commits wrote the keys of a range, as far as it is stored
 * @range: NULL for the whole keyspace; copied
 * @out:   before the first version; closed with kv_past_close()
 *
 * Every version that a state needs which can be read now, a snapshot or one that history keeps, is
 * found. Others may be found too, and a delete may be missing if no such state lies behind it. It
 * holds nothing: see afterwards whether the states are still there. Commits that end meanwhile may
 * be found.
 *
 * Cost: that of what is stored in the range, without values that are stored apart.
 *
 * Thread safety: one thread per iterator.
 * Return: 0, -KV_E_INVALID (keyspace), -ENOMEM, errors of reading.
 */
KV_API int kv_past_open(struct kv_db *db, unsigned keyspace, const struct kv_range *range,
			struct kv_past **out) KV_MUST_CHECK;
KV_API void kv_past_close(struct kv_past *past); /* NULL is allowed */

struct kv_past_version {
	struct kv_slice key;   /* borrowed until the next call */
	kv_seq seq;	       /* of the commit */
	bool deleted;	       /* the key itself, or a range that it is in */
	bool has_value;	       /* else it was deleted, or is large and stored apart */
	struct kv_slice value; /* borrowed until the next call */
};
/*
 * kv_past_next() - go to the next version: keys rise, versions of one fall. A key of which only
 * deletes of ranges are stored is not told. Return: 0, -KV_E_NOTFOUND at the end, errors of
 * reading.
 */
KV_API int kv_past_next(struct kv_past *past, struct kv_past_version *out) KV_MUST_CHECK;
/* kv_past_seek() - the next version is the newest of the first key at or after @key. */
KV_API int kv_past_seek(struct kv_past *past, struct kv_slice key) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
