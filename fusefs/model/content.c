/* SPDX-License-Identifier: MIT */
/*
 * Contents of up to MODEL_INLINE_MAX bytes stay in the record, so that a small
 * file is one key. They move to chunks when the file grows beyond, and back when
 * it is cut to nothing or replaced by something small.
 */
#include "fusefs/model/content.h"

#include <errno.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/share.h"
#include "kvcore/base/buf.h"

/* Zeros between old contents and new that are worth storing; beyond, a hole is left. */
#define CONTENT_GAP_MAX 4096U

void content_edit_free(struct content_edit *c)
{
	kv_buf_free(&c->buf);
}

int content_read(struct kv_txn *txn, const struct inode *r, uint64_t off, size_t len,
		 struct kv_buf *out)
{
	int err;

	len = off < r->size ? (size_t)min_u64(len, r->size - off) : 0;
	if (!(r->flags & MODEL_FLAG_CHUNKS))
		return buf_assign(out, kv_slice_of(len ? r->contents.data + off : NULL, len));
	buf_clear(out);
	err = buf_append_zeros(out, len);
	return err ? err : chunk_read(txn, inode_content(r), off, len, out->data);
}

/* The record borrows the edit's buffer, which holds the contents. */
static void content_borrow(struct inode *r, struct content_edit *c)
{
	r->contents = kv_buf_slice(&c->buf);
	r->size = c->buf.len;
}

/* A buffer with the inline contents. */
static int content_take(struct inode *r, struct content_edit *c)
{
	if (r->contents.data == c->buf.data)
		return 0;
	return buf_assign(&c->buf, r->contents);
}

/* From the record into chunks, where @data will be written at @off. */
static int content_spill(struct kv_txn *txn, struct inode *r, uint64_t off, struct kv_slice data,
			 struct content_edit *c)
{
	uint64_t size = r->size;
	size_t len = 0;
	int err;

	err = content_take(r, c);
	if (err)
		return err;
	r->flags |= MODEL_FLAG_CHUNKS;
	r->contents.len = 0;
	/* What of @data falls into the first chunk is written at once with what was there. */
	if (off < MODEL_CHUNK && off <= c->buf.len + CONTENT_GAP_MAX && data.len) {
		len = min_u64(data.len, MODEL_CHUNK - off);
		if (c->buf.len < off + len)
			err = buf_resize(&c->buf, off + len);
		if (err)
			return err;
		memcpy(c->buf.data + off, data.data, len);
	}
	r->size = 0;
	err = chunk_write(txn, r, 0, kv_buf_slice(&c->buf));
	r->size = max_u64(size, c->buf.len);
	if (err || len == data.len)
		return err;
	return chunk_write(txn, r, off + len, kv_slice_of(data.data + len, data.len - len));
}

int content_write(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t off,
		  struct kv_slice data, struct content_edit *c)
{
	uint64_t end;
	int err;

	if (off > KVFS_FILE_MAX || data.len > KVFS_FILE_MAX - off)
		return -EFBIG;
	if (!data.len)
		return 0;
	end = off + data.len;
	if (r->flags & MODEL_FLAG_CHUNKS) {
		err = share_own(fs, txn, r, !off && end >= r->size ? 0 : r->size);
		if (!err)
			err = chunk_write(txn, r, off, data);
	} else if (end > MODEL_INLINE_MAX) {
		err = content_spill(txn, r, off, data, c);
	} else {
		err = content_take(r, c);
		if (!err && c->buf.len < end)
			err = buf_resize(&c->buf, end);
		if (err)
			return err;
		memcpy(c->buf.data + off, data.data, data.len);
		content_borrow(r, c);
	}
	if (!err)
		r->size = max_u64(r->size, end);
	return err;
}

int content_clear(struct kvfs *fs, struct kv_txn *txn, struct inode *r)
{
	int err = 0;

	/* The content id stays its own, for chunks that it may have again. */
	if (r->flags & MODEL_FLAG_CHUNKS)
		err = share_own(fs, txn, r, 0);
	if (!err && (r->flags & MODEL_FLAG_CHUNKS))
		err = chunk_remove_all(txn, r);
	r->flags &= (uint8_t)~MODEL_FLAG_CHUNKS;
	r->chunks = 0;
	r->size = 0;
	r->contents.len = 0;
	return err;
}

int content_set_size(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t size,
		     struct content_edit *c)
{
	int err = 0;

	if (size > KVFS_FILE_MAX)
		return -EFBIG;
	if (size == r->size)
		return 0;
	if (!size)
		return content_clear(fs, txn, r);
	if (r->flags & MODEL_FLAG_CHUNKS) {
		if (size < r->size) /* growing changes no chunk */
			err = share_own(fs, txn, r, size);
		if (!err && size < r->size)
			err = chunk_truncate(txn, r, size);
	} else if (size <= MODEL_INLINE_MAX) {
		err = content_take(r, c);
		if (!err)
			err = buf_resize(&c->buf, size);
		if (!err)
			content_borrow(r, c);
	} else {
		err = content_spill(txn, r, 0, kv_slice_of(NULL, 0), c);
	}
	if (!err)
		r->size = size;
	return err;
}

int content_replace(struct kvfs *fs, struct kv_txn *txn, struct inode *r, struct kv_slice data,
		    struct content_edit *c)
{
	int err;

	if (data.len <= MODEL_INLINE_MAX) {
		err = content_clear(fs, txn, r);
		if (!err)
			err = buf_assign(&c->buf, data);
		if (!err)
			content_borrow(r, c);
		return err;
	}
	/* Chunks are overwritten where they are; only what is beyond the new end goes. */
	err = r->flags & MODEL_FLAG_CHUNKS ? share_own(fs, txn, r, 0) : 0;
	if (!err && data.len < r->size)
		err = content_set_size(fs, txn, r, data.len, c);
	if (!(r->flags & MODEL_FLAG_CHUNKS)) {
		r->contents.len = 0;
		r->size = 0;
		buf_clear(&c->buf);
	}
	return err ? err : content_write(fs, txn, r, 0, data, c);
}

int content_zero(struct kvfs *fs, struct kv_txn *txn, struct inode *r, uint64_t from, uint64_t to,
		 struct content_edit *c)
{
	int err;

	to = min_u64(to, r->size);
	if (from >= to)
		return 0;
	if (r->flags & MODEL_FLAG_CHUNKS) {
		err = share_own(fs, txn, r, !from && to == r->size ? 0 : r->size);
		return err ? err : chunk_zero(txn, r, from, to);
	}
	err = content_take(r, c);
	if (err)
		return err;
	memset(c->buf.data + from, 0, to - from);
	content_borrow(r, c);
	return 0;
}
