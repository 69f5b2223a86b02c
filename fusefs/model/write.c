/* SPDX-License-Identifier: MIT */
/*
 * write, fallocate and copy_file_range. With KVFS_LAZYTIME a write over bytes
 * that are there already puts only them: the record's times wait in the node.
 * fallocate reserves nothing, since space is taken by what is stored: it checks
 * that the volume has the room now, and sets the size.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fusefs/model/content.h"
#include "fusefs/model/edit.h"
#include "fusefs/model/read.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"

#define WRITE_COPY_MAX (4U * 1024 * 1024) /* bytes of one copy_range */

struct write_args {
	struct edit e;
	uint64_t off;
	struct kv_slice data;
	int mode;
	uint64_t len;
	uint64_t room; /* free bytes of the volume */
	bool deferred; /* only times changed */
	struct content_edit content;
};

static int write_check(const struct kvfs_node *node)
{
	if (node_is_dir(node))
		return -EISDIR;
	return node->type == S_IFREG ? 0 : -EINVAL;
}

/* An append-only file takes bytes at its end, wherever the descriptor is. */
static int write_check_flags(const struct inode *r, uint64_t off)
{
	return off < r->size ? inode_check_fixed(r) : inode_check_immutable(r);
}

/* Of contents in chunks only bytes have changed. */
static bool write_keeps_record(const struct inode *before, const struct inode *r)
{
	return (before->flags & MODEL_FLAG_CHUNKS) && r->size == before->size &&
	       r->chunks == before->chunks && r->content == before->content &&
	       r->sharing == before->sharing;
}

static int write_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct write_args *a = arg;
	struct inode *r = &a->e.rec.r;
	struct inode before;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (!err)
		err = write_check_flags(r, a->off);
	if (err)
		return err;
	r->tail = atomic_load_explicit(&a->e.node->tail, memory_order_relaxed);
	before = *r;
	err = content_write(fs, txn, r, a->off, a->data, &a->content);
	if (err)
		return err;
	a->deferred = fs->lazytime && write_keeps_record(&before, r);
	if (a->deferred)
		return 0;
	r->mtime = a->e.now;
	r->ctime = a->e.now;
	return edit_store(txn, &a->e);
}

static void write_done(struct kvfs *fs, void *arg)
{
	struct write_args *a = arg;

	atomic_store_explicit(&a->e.node->tail, a->e.rec.r.tail, memory_order_relaxed);
	if (a->deferred)
		times_defer_write(fs, a->e.node, a->e.now);
	else
		edit_done(fs, &a->e);
}

int kvfs_write(struct kvfs *fs, struct kvfs_node *node, uint64_t off, struct kv_slice data,
	       bool sync)
{
	struct write_args a = {
		.e = {.node = node, .now = inode_time(kvfs_now())}, .off = off, .data = data};
	struct retry_op op = {.run = write_run, .done = write_done, .arg = &a, .sync = sync};
	int err;

	err = write_check(node);
	if (!err && data.len > KVFS_WRITE_MAX)
		err = -EINVAL;
	if (err || !data.len)
		return err;
	err = retry_write(fs, &op);
	edit_free(&a.e);
	content_edit_free(&a.content);
	return err;
}

/* Whether what the range lacks would fit in now. Counted exactly only where it matters. */
static int write_check_room(struct kv_txn *txn, const struct write_args *a)
{
	const struct inode *r = &a->e.rec.r;
	bool chunked = r->flags & MODEL_FLAG_CHUNKS;
	uint64_t from = chunked ? a->off : max_u64(a->off, r->size), end = a->off + a->len;
	uint64_t lacking = 0;
	int err = 0;

	if (end <= from || end - from <= a->room)
		return 0;
	if (chunked)
		err = chunk_lacking(txn, r, from, end, &lacking);
	if (err)
		return err;
	return !chunked || lacking > a->room / MODEL_CHUNK ? -KV_E_NOSPACE : 0;
}

static int write_allocate_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct write_args *a = arg;
	struct inode *r = &a->e.rec.r;
	uint64_t end = a->off + a->len;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (!err)
		err = a->mode & ~FALLOC_FL_KEEP_SIZE ? inode_check_fixed(r)
						     : inode_check_immutable(r);
	if (err)
		return err;
	if (a->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		err = content_zero(fs, txn, r, a->off, end, &a->content);
	else
		err = write_check_room(txn, a);
	if (!err && end > r->size && !(a->mode & FALLOC_FL_KEEP_SIZE))
		err = content_set_size(fs, txn, r, end, &a->content);
	if (err)
		return err;
	r->mtime = a->e.now;
	r->ctime = a->e.now;
	return edit_store(txn, &a->e);
}

static void write_allocate_done(struct kvfs *fs, void *arg)
{
	struct write_args *a = arg;

	edit_done(fs, &a->e);
}

int kvfs_fallocate(struct kvfs *fs, struct kvfs_node *node, int mode, uint64_t off, uint64_t len)
{
	struct write_args a = {.e = {.node = node, .now = inode_time(kvfs_now())},
			       .off = off,
			       .len = len,
			       .mode = mode};
	struct retry_op op = {.run = write_allocate_run, .done = write_allocate_done, .arg = &a};
	struct kv_db_info info;
	int err;

	if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
	    mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && mode != FALLOC_FL_ZERO_RANGE &&
	    mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	err = write_check(node);
	if (err)
		return err == -EINVAL ? -ENODEV : err;
	if (!len)
		return -EINVAL;
	if (off > KVFS_FILE_MAX || len > KVFS_FILE_MAX - off)
		return -EFBIG;
	err = kv_get_info(fs->db, &info);
	if (err)
		return err;
	a.room = info.free;
	err = retry_write(fs, &op);
	edit_free(&a.e);
	content_edit_free(&a.content);
	return err;
}

/* Copy one piece: a hole of the source becomes one, data is read and written. */
static int write_copy_piece(struct kvfs *fs, struct kvfs_node *from, uint64_t from_off,
			    struct kvfs_node *to, uint64_t to_off, uint64_t *len)
{
	struct chunk_seek s = {.off = from_off, .data = true};
	struct kv_buf data = {0};
	int err;

	err = read_seek(fs, from, &s);
	if (err == -ENXIO)
		s.off = from_off + *len; /* a hole up to the end */
	else if (err)
		return err;
	if (s.off > from_off) {
		*len = min_u64(*len, s.off - from_off);
		return kvfs_fallocate(fs, to, FALLOC_FL_ZERO_RANGE, to_off, *len);
	}
	s.data = false;
	err = read_seek(fs, from, &s);
	if (err)
		return err;
	*len = min_u64(*len, s.off - from_off);
	err = kvfs_read(fs, from, from_off, min_u64(*len, KVFS_WRITE_MAX), &data);
	if (!err) {
		*len = data.len;
		err = kvfs_write(fs, to, to_off, kv_buf_slice(&data), false);
	}
	kv_buf_free(&data);
	return err;
}

int kvfs_copy_range(struct kvfs *fs, struct kvfs_node *from, uint64_t from_off,
		    struct kvfs_node *to, uint64_t to_off, uint64_t len, uint64_t *copied)
{
	struct kvfs_attr attr;
	uint64_t done = 0, piece;
	int err;

	err = write_check(from);
	if (!err)
		err = write_check(to);
	if (!err)
		err = kvfs_getattr(fs, from, &attr);
	if (err)
		return err;
	len = from_off < attr.size ? min_u64(len, attr.size - from_off) : 0;
	if (len && (to_off > KVFS_FILE_MAX || len > KVFS_FILE_MAX - to_off))
		return -EFBIG;
	if (from == to && from_off < to_off + len && to_off < from_off + len)
		return -EINVAL;
	len = min_u64(len, WRITE_COPY_MAX);
	while (done < len && !err) {
		piece = len - done;
		err = write_copy_piece(fs, from, from_off + done, to, to_off + done, &piece);
		if (err || !piece)
			break;
		done += piece;
	}
	if (err && !done)
		return err;
	*copied = done;
	return 0;
}
