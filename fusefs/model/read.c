/* SPDX-License-Identifier: MIT */
/*
 * read and lseek. A small file is answered from its record, with one read of
 * the engine and no transaction; contents in chunks are read under one
 * snapshot together with the record, so that a read sees no half of a write.
 */
#include "fusefs/model/read.h"

#include <errno.h>
#include <unistd.h>

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
	struct chunk_seek *seek;
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

static int read_contents(struct kvfs *fs, const struct read_args *args, bool noatime,
			 struct kv_buf *out)
{
	struct kvfs_node *node = args->node;
	struct read_args a = *args;
	bool done = false;
	int err;

	err = read_check(node);
	if (!err && !atomic_load_explicit(&node->chunked, memory_order_relaxed))
		err = read_inline(fs, &a, &done);
	if (!err && !done)
		err = retry_read_node(fs, node, read_run, &a);
	if (!err) {
		if (!noatime)
			times_accessed(fs, node, &a.rec.r);
		kv_buf_free(out);
		*out = a.out;
		a.out = (struct kv_buf){0};
	}
	kv_buf_free(&a.out);
	inode_buf_free(&a.rec);
	return err;
}

int kvfs_read(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len, struct kv_buf *out)
{
	struct read_args a = {.node = node, .off = off, .len = len};

	return read_contents(fs, &a, false, out);
}

int kvfs_read_noatime(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len,
		      struct kv_buf *out)
{
	struct read_args a = {.node = node, .off = off, .len = len};

	return read_contents(fs, &a, true, out);
}

static int read_seek_run(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
			 void *arg)
{
	struct read_args *a = arg;
	const struct inode *r = &a->rec.r;
	struct chunk_seek *s = a->seek;
	int err;

	err = lookup_at(fs, txn, key, a->node->ino, &a->rec);
	if (err)
		return err;
	if (s->off >= r->size)
		return -ENXIO; /* also if it was cut during a long search */
	if (!(r->flags & MODEL_FLAG_CHUNKS)) {
		s->off = s->data ? s->off : r->size;
		s->found = true;
		return 0;
	}
	err = chunk_seek(txn, r, s);
	if (err || s->off < r->size)
		return err;
	if (s->data)
		return -ENXIO;
	s->off = r->size;
	s->found = true;
	return 0;
}

int read_seek(struct kvfs *fs, struct kvfs_node *node, struct chunk_seek *s)
{
	struct read_args a = {.node = node, .seek = s};
	int err;

	err = read_check(node);
	if (!err)
		err = retry_read_node(fs, node, read_seek_run, &a);
	inode_buf_free(&a.rec);
	return err;
}

int kvfs_lseek(struct kvfs *fs, struct kvfs_node *node, uint64_t off, int whence, uint64_t *out)
{
	struct chunk_seek s = {.off = off, .data = whence == SEEK_DATA, .contents = true};
	int err;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	do {
		err = read_seek(fs, node, &s);
		/* Who wants to know how far data reaches will read it all: it is not read twice. */
		s.contents = s.data;
	} while (!err && !s.found);
	if (!err)
		*out = s.off;
	return err;
}
