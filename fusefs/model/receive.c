/* SPDX-License-Identifier: MIT */
/*
 * Frames come in, are checked and staged as they are, in a keyspace of their own: so what has come
 * survives a break, and nothing of the tree is touched before the last one is there. The
 * price is that contents are written twice. A stream whose first frame is not number 0
 * goes on with what is staged, and its checksum tells whether it belongs to it.
 *
 * The last frame is not staged: whoever is interrupted when all is there, while it is applied, is
 * asked for that frame again, and so can go on as after any other break.
 */
#include "fusefs/model/receive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/buf.h"
#include "kvcore/base/cursor.h"

#define RECEIVE_BATCH ((size_t)1024 * 1024) /* bytes staged at a time */

void receive_stage_key(struct model_key *out)
{
	place_meta("stage", out);
}

/* ---- what is staged ---- */

struct receive_stage {
	struct le64 base_id, next;
	uint8_t sum[KV_DIGEST_LEN];
};
static_assert(sizeof(struct receive_stage) == 48, "on-disk size");

static int receive_stage_get(struct kvfs *fs, struct receive_stage *out)
{
	struct kv_buf value = {0};
	struct model_key key;
	int err;

	receive_stage_key(&key);
	err = kv_get(fs->db, MODEL_META, model_key_slice(&key), &value);
	if (!err && value.len != sizeof(*out))
		err = -KV_E_CORRUPT;
	if (!err)
		memcpy(out, value.data, sizeof(*out));
	kv_buf_free(&value);
	return err;
}

static int receive_flush(struct kvfs_receive *r)
{
	struct receive_stage stage = {le64_of(r->base_id), le64_of(r->staged), {0}};
	struct model_key key;
	int err;

	if (!r->batched)
		return 0;
	memcpy(stage.sum, r->staged_sum, sizeof(stage.sum));
	receive_stage_key(&key);
	err = kv_batch_put(r->batch, MODEL_META, model_key_slice(&key),
			   kv_slice_of(&stage, sizeof(stage)));
	if (!err)
		err = kv_batch_write(r->batch, 0, NULL);
	if (!err)
		r->batched = 0;
	return err;
}

static int receive_stage(struct kvfs_receive *r, uint8_t kind, struct kv_slice payload)
{
	struct kv_buf value = {0};
	struct model_key key;
	int err = buf_append_byte(&value, kind);

	if (!err)
		err = buf_append_slice(&value, payload);
	place_id(MODEL_STAGE, r->chain.next - 1, &key);
	if (!err)
		err = kv_batch_put(r->batch, MODEL_STAGE, model_key_slice(&key),
				   kv_buf_slice(&value));
	r->batched += value.len;
	r->staged = r->chain.next;
	memcpy(r->staged_sum, r->chain.sum, sizeof(r->staged_sum));
	kv_buf_free(&value);
	return err || r->batched < RECEIVE_BATCH ? err : receive_flush(r);
}

int kvfs_receive_discard(struct kvfs *fs)
{
	struct kv_batch *batch;
	struct model_key key;
	int err = kvfs_writable(fs);

	if (err)
		return err;
	err = kv_batch_new(fs->db, &batch);
	if (err)
		return err;
	receive_stage_key(&key);
	err = kv_batch_delete(batch, MODEL_META, model_key_slice(&key));
	if (!err)
		err = kv_batch_delete_range(batch, MODEL_STAGE, kv_slice_of(NULL, 0),
					    kv_slice_of(NULL, 0));
	if (!err)
		err = kv_batch_write(batch, KV_COMMIT_RESERVE, NULL);
	kv_batch_free(batch);
	return err;
}

int kvfs_receive_token(struct kvfs *fs, struct kv_buf *out)
{
	struct receive_stage stage;
	struct stream_chain chain = {0};
	int err = receive_stage_get(fs, &stage);

	if (err)
		return err;
	chain.next = le64_get(stage.next);
	memcpy(chain.sum, stage.sum, sizeof(chain.sum));
	return stream_token_format(&chain, out);
}

/* ---- frames ---- */

static int receive_begin(struct kvfs_receive *r, const struct stream_item *item)
{
	int err;

	memcpy(r->id, item->id, sizeof(r->id));
	memcpy(r->base_hash, item->base, sizeof(r->base_hash));
	r->full = item->full;
	r->began = true;
	err = buf_assign(&r->name, item->path);
	if (!err)
		err = buf_append_byte(&r->name, 0);
	return err ? err : receive_check(r);
}

/* The frames before @number are staged; go on with them. */
static int receive_resume(struct kvfs_receive *r, uint64_t number)
{
	struct receive_stage stage;
	struct stream_item item;
	struct kv_buf value = {0};
	struct model_key key;
	int err = receive_stage_get(r->fs, &stage);

	if (err == -KV_E_NOTFOUND)
		return -ESRCH;
	if (err)
		return err;
	if (le64_get(stage.base_id) != r->base_id)
		return -ESRCH;
	if (le64_get(stage.next) != number)
		return -EILSEQ;
	place_id(MODEL_STAGE, 0, &key);
	err = kv_get(r->fs->db, MODEL_STAGE, model_key_slice(&key), &value);
	if (!err)
		err = value.len ? stream_decode(value.data[0],
						kv_slice_of(value.data + 1, value.len - 1), &item)
				: -KV_E_CORRUPT;
	if (!err && item.kind != STREAM_BEGIN)
		err = -KV_E_CORRUPT;
	if (!err)
		err = receive_begin(r, &item);
	r->chain.next = number;
	memcpy(r->chain.sum, stage.sum, sizeof(stage.sum));
	kv_buf_free(&value);
	return err;
}

static int receive_item(struct kvfs_receive *r, uint8_t kind, struct kv_slice payload)
{
	struct stream_item item;
	int err = stream_decode(kind, payload, &item);

	if (!err && (r->ended || (item.kind == STREAM_BEGIN) != !r->began))
		err = -EPROTO;
	if (!err && item.kind == STREAM_BEGIN) {
		err = receive_begin(r, &item);
		if (!err && !r->already)
			err = kvfs_receive_discard(r->fs);
	}
	if (!err && item.kind == STREAM_END) {
		r->ended = true;
		memcpy(r->end, item.id, sizeof(r->end));
		return 0;
	}
	return err || r->already ? err : receive_stage(r, kind, payload);
}

/* Before the first frame: does it begin a stream? */
static int receive_first(struct kvfs_receive *r, struct kv_slice in)
{
	struct cursor c = cursor_of(in);
	uint64_t number;

	(void)cursor_le32(&c);
	number = cursor_le64(&c);
	if (c.bad)
		return -EAGAIN;
	return number ? receive_resume(r, number) : 0;
}

static int receive_frames(struct kvfs_receive *r, size_t *off)
{
	struct kv_slice payload, in;
	uint8_t kind;
	size_t len;
	int err = 0;

	for (;;) {
		in = kv_slice_of(r->in.data + *off, r->in.len - *off);
		if (!in.len)
			return 0;
		if (!r->began && !r->chain.next)
			err = receive_first(r, in);
		if (!err)
			err = stream_get(&r->chain, in, &kind, &payload, &len);
		if (!err)
			err = receive_item(r, kind, payload);
		if (err)
			return err == -EAGAIN ? 0 : err;
		*off += len;
	}
}

int kvfs_receive_put(struct kvfs_receive *r, struct kv_slice data)
{
	size_t off = 0;
	int err = buf_append_slice(&r->in, data);

	if (err)
		return err;
	if (!r->header) {
		if (r->in.len < STREAM_HEADER)
			return 0;
		err = stream_check_header(kv_buf_slice(&r->in));
		if (err)
			return err;
		r->header = true;
		off = STREAM_HEADER;
	}
	err = receive_frames(r, &off);
	/* What was whole is staged, so that the stream can go on from there. */
	if ((err == -EBADMSG || err == -EILSEQ) && r->began && !r->already && receive_flush(r))
		err = -KV_E_NOSPACE;
	if (off) {
		memmove(r->in.data, r->in.data + off, r->in.len - off);
		r->in.len -= off;
	}
	return err;
}

/* ---- life ---- */

static int receive_find_base(struct kvfs_receive *r, struct kv_slice below)
{
	struct inode_buf rec = {0};
	struct state now = {0};
	int err = buf_assign(&r->base, below);

	for (size_t i = 0; i < r->base.len; i++)
		if (r->base.data[i] == '/')
			r->base.data[i] = 0;
	if (!err)
		err = state_open(r->fs, NULL, &now);
	if (!err)
		err = state_find(now.txn, kv_buf_slice(&r->base), &rec);
	if (!err && !inode_is_dir(&rec.r))
		err = -ENOTDIR;
	r->base_id = rec.r.id;
	state_close(&now);
	inode_buf_free(&rec);
	return err;
}

int kvfs_receive_open(struct kvfs *fs, struct kv_slice below, struct kvfs_receive **out)
{
	struct kvfs_receive *r;
	int err = kvfs_writable(fs);

	if (err)
		return err;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fs = fs;
	err = stream_chain_init(&r->chain);
	if (!err)
		err = kv_batch_new(fs->db, &r->batch);
	if (!err)
		err = receive_find_base(r, below);
	if (err) {
		kvfs_receive_close(r);
		return err;
	}
	*out = r;
	return 0;
}

void kvfs_receive_close(struct kvfs_receive *r)
{
	if (!r)
		return;
	state_close(&r->checked);
	kv_batch_free(r->batch);
	stream_chain_fini(&r->chain);
	kv_buf_free(&r->base);
	kv_buf_free(&r->in);
	kv_buf_free(&r->name);
	free(r);
}

int kvfs_receive_finish(struct kvfs_receive *r, const struct kv_progress *progress,
			const struct kvfs_draft_hooks *hooks, struct kvfs_received *out)
{
	struct kvfs_received done = {.already = r->already};
	int err;

	if (!r->ended) {
		err = r->began && !r->already ? receive_flush(r) : 0;
		return err ? err : r->header ? -ENODATA : -EPROTO;
	}
	if (r->in.len)
		return -EPROTO;
	memcpy(done.hash, r->end, sizeof(done.hash));
	memcpy(done.name, r->name.data, r->name.len);
	if (!r->already) {
		err = receive_flush(r);
		if (!err)
			err = receive_apply(r, progress, hooks);
		if (err)
			return err;
	}
	*out = done;
	return 0;
}
