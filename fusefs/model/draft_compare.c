/* SPDX-License-Identifier: MIT */
/*
 * What two may change at once. The engine tells of each key that a transaction wrote and somebody
 * else changed after its beginning; here is decided whether that is a conflict. It is, but for
 *
 *   access times, which say nothing of what was done;
 *   directories in which both made or removed different names: times, the later ones, and
 *   link counts are put together. What else is in the record may have been
 *   changed by one of the two.
 *
 * A directory that the transaction removed or moved may have got new times meanwhile, but no
 * new names; for names nobody writes its record for certain, so draft_nodes.c looks for them.
 */
#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/times.h"
#include "fusefs/model/draft.h"
#include "kvcore/base/buf.h"

#define CONFLICTS_MAX 1000U /* that are told */

int draft_conflict(struct draft_commit *c, unsigned keyspace, struct kv_slice key)
{
	struct draft_key head = {(uint16_t)keyspace, (uint16_t)key.len};
	int err;

	if (c->conflict_count++ >= CONFLICTS_MAX)
		return 1;
	err = buf_append(&c->conflicts, &head, sizeof(head));
	if (!err)
		err = buf_append_slice(&c->conflicts, key);
	return err ? err : 1;
}

/* ---- records ---- */

enum ignore { IGNORE_ATIME = 1, IGNORE_TIMES = 2, IGNORE_NLINK = 4 };

static bool same_record(const struct inode *a, const struct inode *b, unsigned ignore)
{
	uint8_t raw_a[MODEL_RECORD_MAX], raw_b[MODEL_RECORD_MAX];
	struct inode copy = *b;
	size_t len;

	if (ignore & (IGNORE_ATIME | IGNORE_TIMES))
		copy.atime = a->atime;
	if (ignore & IGNORE_TIMES) {
		copy.mtime = a->mtime;
		copy.ctime = a->ctime;
	}
	if (ignore & IGNORE_NLINK)
		copy.nlink = a->nlink;
	len = inode_encode(a, raw_a);
	return len == inode_encode(&copy, raw_b) && !memcmp(raw_a, raw_b, len);
}

static bool is_full(const struct inode *r, uint64_t id)
{
	return r->kind == MODEL_RECORD_FULL && r->id == id;
}

/* What one side has changed counts; if both did, the later. */
static uint64_t merge_time(uint64_t then, uint64_t now, uint64_t mine)
{
	return mine == then ? now : now == then ? mine : max_u64(now, mine);
}

static int put_merged(struct draft_commit *c, unsigned keyspace, struct kv_slice key,
		      const struct inode *r)
{
	uint8_t raw[MODEL_RECORD_MAX];
	struct draft_key head = {(uint16_t)keyspace, (uint16_t)key.len};
	uint32_t len = (uint32_t)inode_encode(r, raw);
	int err;

	err = buf_append(&c->merged, &head, sizeof(head));
	if (!err)
		err = buf_append_slice(&c->merged, key);
	if (!err)
		err = buf_append(&c->merged, &len, sizeof(len));
	return err ? err : buf_append(&c->merged, raw, len);
}

int draft_merge_dir(struct draft_commit *c, unsigned keyspace, struct kv_slice key,
		    const struct inode *then, const struct inode *now, const struct inode *mine)
{
	const unsigned summed = IGNORE_TIMES | IGNORE_NLINK;
	struct kvfs_node *node = node_find(c->live, mine->id);
	struct inode theirs = *now, r;
	int64_t nlink;

	if (node) {
		(void)times_apply(c->live, node, &theirs);
		draft_let_go(c, node);
	}
	if (same_record(mine, then, summed))
		r = theirs;
	else if (same_record(&theirs, then, summed))
		r = *mine;
	else
		return draft_conflict(c, keyspace, key);
	nlink = (int64_t)theirs.nlink + mine->nlink - then->nlink;
	if (nlink < 2 || nlink > UINT32_MAX)
		return -KV_E_CORRUPT;
	r.nlink = (uint32_t)nlink;
	r.atime = merge_time(then->atime, theirs.atime, mine->atime);
	r.mtime = merge_time(then->mtime, theirs.mtime, mine->mtime);
	r.ctime = merge_time(then->ctime, theirs.ctime, mine->ctime);
	return put_merged(c, keyspace, key, &r);
}

/* The same record in three states, each of which may have none. */
struct states {
	struct inode_buf then, now, mine;
	bool had, has, have;
};

static int load_state(struct kv_txn *txn, unsigned keyspace, struct kv_slice key,
		      struct inode_buf *out, bool *there)
{
	int err = draft_record(txn, keyspace, key, out);

	*there = !err;
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int judge(struct draft_commit *c, bool written, unsigned keyspace, struct kv_slice key,
		 const struct states *s)
{
	const struct inode *then = &s->then.r, *now = &s->now.r;

	if (!s->had && !s->has)
		return 0;
	if (!s->had || !s->has)
		return draft_conflict(c, keyspace, key);
	if (slice_equal(kv_buf_slice(&s->then.raw), kv_buf_slice(&s->now.raw)))
		return 0;
	if (!is_full(then, now->id) || !is_full(now, then->id))
		return draft_conflict(c, keyspace, key);
	if (same_record(then, now, IGNORE_ATIME))
		return 0;
	if (!written || !inode_is_dir(now))
		return draft_conflict(c, keyspace, key);
	if (s->have && is_full(&s->mine.r, now->id))
		return draft_merge_dir(c, keyspace, key, then, now, &s->mine.r);
	return same_record(then, now, IGNORE_TIMES) ? 0 : draft_conflict(c, keyspace, key);
}

static int compare_record(struct draft_commit *c, bool written, unsigned keyspace,
			  struct kv_slice key)
{
	struct states s = {0};
	int err;

	err = load_state(c->paths.then, keyspace, key, &s.then, &s.had);
	if (!err)
		err = load_state(c->now, keyspace, key, &s.now, &s.has);
	if (!err)
		err = load_state(c->paths.txn, keyspace, key, &s.mine, &s.have);
	if (!err)
		err = judge(c, written, keyspace, key, &s);
	inode_buf_free(&s.then);
	inode_buf_free(&s.now);
	inode_buf_free(&s.mine);
	return err;
}

int draft_compare(void *ctx, enum kv_rebase_kind kind, unsigned keyspace, struct kv_slice key)
{
	struct draft_commit *c = ctx;
	struct model_key root;

	if (kind == KV_REBASE_END) {
		int err = draft_survey(c);

		return err ? err : c->conflict_count != 0;
	}
	place_meta("root", &root);
	if (kind != KV_REBASE_READ_RANGE &&
	    (keyspace == MODEL_NAMES || keyspace == MODEL_INODES ||
	     (keyspace == MODEL_META && slice_equal(key, model_key_slice(&root)))))
		return compare_record(c, kind == KV_REBASE_WRITTEN, keyspace, key);
	return draft_conflict(c, keyspace, key);
}
