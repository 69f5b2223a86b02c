/* SPDX-License-Identifier: MIT */
/*
 * read and lseek. A small file is answered from its record, with one read of
 * the engine and no transaction; contents in chunks are read under one
 * snapshot together with the record, so that a read sees no half of a write.
 */
#include <errno.h>
#include <unistd.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"

struct read_args {
	struct kvfs_node *node;
	uint64_t off;
	size_t len;
	struct inode_buf rec;
	struct kv_buf out;
	int whence;
	uint64_t found;
};

static int read_run(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, void *arg)
{
	struct read_args *a = arg;
	int err;

	err = lookup_at(fs, txn, key, a->node->ino, &a->rec);
	return err ? err : content_read(txn, &a->rec.r, a->off, a->len, &a->out);
}

/* The record alone; *done tells that it held all contents. */
static int read_inline(struct kvfs *fs, struct read_args *a, bool *done)
{
	int err;

	os_rwlock_rdlock(&fs->ns);
	err = lookup_node(fs, NULL, a->node, &a->rec);
	os_rwlock_rdunlock(&fs->ns);
	if (err)
		return err;
	*done = !(a->rec.r.flags & MODEL_FLAG_CHUNKS);
	atomic_store_explicit(&a->node->chunked, !*done, memory_order_relaxed);
	return *done ? content_read(NULL, &a->rec.r, a->off, a->len, &a->out) : 0;
}

static int read_check(const struct kvfs_node *node)
{
	if (node_is_dir(node))
		return -EISDIR;
	return node->type == S_IFREG ? 0 : -EINVAL;
}

int kvfs_read(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len, struct kv_buf *out)
{
	struct read_args a = {.node = node, .off = off, .len = len};
	bool done = false;
	int err;

	err = read_check(node);
	if (!err && !atomic_load_explicit(&node->chunked, memory_order_relaxed))
		err = read_inline(fs, &a, &done);
	if (!err && !done)
		err = retry_read_node(fs, node, read_run, &a);
	if (!err) {
		times_accessed(fs, node, &a.rec.r);
		kv_buf_free(out);
		*out = a.out;
		a.out = (struct kv_buf){0};
	}
	kv_buf_free(&a.out);
	inode_buf_free(&a.rec);
	return err;
}

static int read_seek_run(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
			 void *arg)
{
	struct read_args *a = arg;
	const struct inode *r = &a->rec.r;
	bool data = a->whence == SEEK_DATA;
	int err;

	err = lookup_at(fs, txn, key, a->node->ino, &a->rec);
	if (err)
		return err;
	if (a->off >= r->size)
		return -ENXIO;
	if (!(r->flags & MODEL_FLAG_CHUNKS)) {
		a->found = data ? a->off : r->size;
		return 0;
	}
	err = chunk_seek(txn, r, a->off, data, &a->found);
	if (err)
		return err;
	if (data)
		return a->found < r->size ? 0 : -ENXIO;
	a->found = min_u64(a->found, r->size);
	return 0;
}

int kvfs_lseek(struct kvfs *fs, struct kvfs_node *node, uint64_t off, int whence, uint64_t *out)
{
	struct read_args a = {.node = node, .off = off, .whence = whence};
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	err = read_check(node);
	if (!err)
		err = retry_read_node(fs, node, read_seek_run, &a);
	if (!err)
		*out = a.found;
	inode_buf_free(&a.rec);
	return err;
}
