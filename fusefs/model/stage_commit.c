/* SPDX-License-Identifier: MIT */
/*
 * What was gathered for an open file becomes the file's, in one transaction: it is
 * written once more, into the file as it is then. Large transactions are the engine's
 * affair. A file that has no name yet gets it afterwards.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/link.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/stage.h"

struct stage_args {
	struct kvfs_stage *s;
	struct edit e;
	struct model_key shadow_key;
	struct inode_buf shadow; /* the record */
	struct content_edit content;
};

static int stage_load_shadow(struct kvfs *fs, struct kv_txn *txn, struct stage_args *a)
{
	int err;

	if (!a->s->shadow)
		return 0;
	place_node(a->s->shadow, &a->shadow_key);
	err = inode_get(fs, txn, &a->shadow_key, true, &a->shadow);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* A piece of the shadow that is data, up to the end of its chunk, or a hole. */
static int stage_piece(struct kv_txn *txn, const struct inode *from, uint64_t off, uint64_t *end,
		       bool *hole)
{
	uint64_t data = off;
	int err = 0;

	*hole = off >= from->size;
	if (*hole)
		return 0;
	if (from->flags & MODEL_FLAG_CHUNKS)
		err = chunk_next(txn, from, off, &data);
	if (err)
		return err;
	*hole = data > off;
	*end = min_u64(*end,
		       *hole ? data : min_u64(from->size, (off / MODEL_CHUNK + 1) * MODEL_CHUNK));
	return 0;
}

static int stage_write_range(struct kv_txn *txn, struct stage_args *a, uint64_t off, uint64_t end,
			     uint64_t shift)
{
	const struct inode *from = &a->shadow.r;
	struct kv_buf data = {0};
	uint64_t to;
	bool hole;
	int err = 0;

	for (; off < end && !err; off = to) {
		to = end;
		err = stage_piece(txn, from, off, &to, &hole);
		if (!err && hole) {
			err = content_zero(a->s->fs, txn, &a->e.rec.r, off + shift, to + shift,
					   &a->content);
			continue;
		}
		if (!err)
			err = content_read(txn, from, off, to - off, &data);
		if (!err)
			err = content_write(a->s->fs, txn, &a->e.rec.r, off + shift,
					    kv_buf_slice(&data), &a->content);
	}
	kv_buf_free(&data);
	return err;
}

/* What was written, over what the file has now. */
static int stage_rewrite(struct kv_txn *txn, struct stage_args *a)
{
	struct kvfs_stage *s = a->s;
	struct inode *r = &a->e.rec.r;
	uint64_t shift = 0, size;
	int err = 0;

	if (s->cut < r->size)
		err = content_set_size(s->fs, txn, r, s->cut, &a->content);
	/* Modulo 2^64: the end may have come nearer. */
	if (s->appends)
		shift = r->size - s->ranges[0].off;
	size = s->cut == STAGE_WHOLE ? max_u64(r->size, s->size + shift) : s->size;
	for (size_t i = 0; i < s->count && !err; i++)
		err = stage_write_range(txn, a, s->ranges[i].off, s->ranges[i].end, shift);
	if (!err && r->size != size)
		err = content_set_size(s->fs, txn, r, size, &a->content);
	return err;
}

static int stage_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct stage_args *a = arg;
	struct inode *r = &a->e.rec.r;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (!err)
		err = stage_load_shadow(fs, txn, a);
	if (err)
		return err;
	err = stage_rewrite(txn, a);
	if (err)
		return err;
	/* A time that was set since then stays. */
	if (atomic_load(&a->e.node->times_set) == a->s->times_set)
		r->mtime = a->s->mtime;
	r->ctime = a->e.now;
	return edit_store(txn, &a->e);
}

static void stage_done(struct kvfs *fs, void *arg)
{
	struct stage_args *a = arg;

	edit_done(fs, &a->e);
}

/* s->mu is held. */
static int stage_apply(struct kvfs_stage *s)
{
	struct stage_args a = {.s = s, .e = {.node = s->node, .now = inode_time(kvfs_now())}};
	struct retry_op op = {.run = stage_run, .done = stage_done, .arg = &a};
	int err = retry_write(s->fs, &op);

	edit_free(&a.e);
	inode_buf_free(&a.shadow);
	content_edit_free(&a.content);
	return err;
}

/* The name that it was made under. */
static int stage_bear(struct kvfs_stage *s)
{
	char *name = NULL;
	int err;

	os_rwlock_rdlock(&s->fs->ns);
	if (atomic_load(&s->node->unborn))
		name = strdup(s->node->name);
	os_rwlock_rdunlock(&s->fs->ns);
	if (!name)
		return atomic_load(&s->node->unborn) ? -ENOMEM : 0;
	err = link_unborn(s->fs, s->node, name);
	free(name);
	return err;
}

int stage_commit(struct kvfs_stage *s, bool settle)
{
	int err;

	os_mutex_lock(&s->mu);
	err = s->failed;
	if (err && settle)
		err = 0;
	else if (!err && s->changed)
		err = stage_apply(s);
	if (!err && !s->failed) {
		if (s->changed)
			stage_reset(s);
		err = stage_bear(s);
	}
	os_mutex_unlock(&s->mu);
	return err;
}

int kvfs_stage_commit(struct kvfs_stage *s, bool sync)
{
	int err = stage_commit(s, false);

	if (!err && (sync || s->fs->sync) && !kvfs_writable(s->fs))
		err = kv_sync(s->fs->db);
	return err;
}
