/* SPDX-License-Identifier: MIT */
/*
 * kvfs_key_scan: the walk over the tree, with regular files given as keys. The
 * bounds are compared with byte 0 in place of '/', which is the order of the
 * walk, so that everything below a prefix comes together.
 */
#include "fusefs/model/scan.h"

#include <string.h>

#include "fusefs/model/content.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"

struct scan_state {
	const struct scan_run *s;
	struct kv_buf key, value;
	struct inode_buf linked;
};

int scan_convert(struct kv_slice key, struct kv_buf *out)
{
	int err = buf_assign(out, key);

	for (size_t i = 0; !err && i < out->len; i++)
		if (out->data[i] == '/')
			out->data[i] = 0;
	return err;
}

/* The key and, if wanted, the value of a regular file. */
static int scan_load(struct scan_state *st, struct kv_txn *txn, struct kv_slice path,
		     const struct inode *r)
{
	enum node_state state;
	int err;

	err = buf_assign(&st->key, path);
	if (err)
		return err;
	for (size_t i = 0; i < st->key.len; i++)
		if (!st->key.data[i])
			st->key.data[i] = '/';
	buf_clear(&st->value);
	if (st->s->scan->keys_only)
		return 0;
	if (r->kind == MODEL_RECORD_LINK) {
		st->linked.r = *r;
		err = lookup_follow(st->s->fs, txn, &st->linked, &state);
		if (err)
			return err;
		r = &st->linked.r;
	}
	if (r->size > KV_VALUE_MAX)
		return -KV_E_TOO_BIG;
	return content_read(txn, r, 0, r->size, &st->value);
}

static int scan_visit(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct scan_state *st = ctx;
	bool skip = false;
	int err = 0;

	if ((r->mode & S_IFMT) != S_IFREG)
		return 0;
	if (st->s->merge)
		err = st->s->merge(st->s->merge_ctx, path, &skip);
	if (err || skip)
		return err;
	err = scan_load(st, txn, path, r);
	if (err)
		return err;
	return st->s->emit(st->s->ctx, kv_buf_slice(&st->key), kv_buf_slice(&st->value));
}

int scan_run(struct kv_txn *txn, const struct scan_run *s)
{
	struct scan_state st = {.s = s};
	struct kv_buf lower = {0}, upper = {0}, prefix = {0};
	struct walk w = {.visit = scan_visit, .ctx = &st};
	int err;

	err = scan_convert(s->scan->from, &lower);
	if (!err)
		err = scan_convert(s->scan->to, &upper);
	if (!err)
		err = scan_convert(s->scan->prefix, &prefix);
	if (err)
		goto out;
	w.lower = kv_buf_slice(&lower);
	w.upper = kv_buf_slice(&upper);
	w.prefix = kv_buf_slice(&prefix);
	err = walk_run(txn, &w);
out:
	kv_buf_free(&lower);
	kv_buf_free(&upper);
	kv_buf_free(&prefix);
	kv_buf_free(&st.key);
	kv_buf_free(&st.value);
	inode_buf_free(&st.linked);
	return err;
}

int kvfs_key_scan(struct kvfs *fs, const struct kvfs_scan *scan,
		  int (*emit)(void *ctx, struct kv_slice key, struct kv_slice value), void *ctx)
{
	struct scan_run s = {.fs = fs, .scan = scan, .emit = emit, .ctx = ctx};
	struct kv_txn *txn;
	int err;

	if (fs->top.len)
		return -EOPNOTSUPP;
	/* A snapshot needs no lock: the callback may take its time, and call libkvfs. */
	err = retry_begin_read(fs, &txn);
	if (err)
		return err;
	err = scan_run(txn, &s);
	retry_end_read(fs, txn);
	return err < 0 ? err : 0;
}
