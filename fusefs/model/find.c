/* SPDX-License-Identifier: MIT */
/*
 * A file by its number alone, as file handles name it. There is no index from numbers
 * to names, because every file made would pay for it: who asks for a file that nobody
 * looks at pays with a search through all names instead. The path found is then looked
 * up name by name, so that the nodes on the way are those that everybody else has; if
 * something was renamed meanwhile, the search begins again.
 */
#include <errno.h>
#include <string.h>

#include "fusefs/model/node.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"

#define FIND_TRIES 8U

struct find {
	uint64_t ino;
	struct kv_buf path; /* components end in byte 0 */
};

static int find_visit(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct find *f = ctx;
	int err;

	(void)txn;
	if (r->id != f->ino)
		return 0;
	err = buf_assign(&f->path, path);
	if (!err)
		err = buf_append_byte(&f->path, 0);
	return err ? err : 1;
}

static int find_path(struct kvfs *fs, struct find *f)
{
	struct walk w = {.visit = find_visit, .ctx = f, .prefix = kv_buf_slice(&fs->top_path)};
	struct kv_txn *txn;
	int err = retry_begin_read(fs, &txn);

	if (err)
		return err;
	err = walk_run(txn, &w);
	retry_end_read(fs, txn);
	return err < 0 ? err : err ? 0 : -ESTALE;
}

/* -ENOENT, -ENOTDIR: something has moved. */
static int find_follow(struct kvfs *fs, const struct find *f, struct kvfs_node **out,
		       struct kvfs_attr *attr)
{
	const char *name = (const char *)f->path.data + fs->top_path.len;
	const char *end = (const char *)f->path.data + f->path.len;
	struct kvfs_node *node = &fs->root, *next;
	int err;

	while (name < end) {
		err = kvfs_lookup(fs, node, name, &next, attr);
		kvfs_node_forget(fs, node, 1);
		if (err)
			return err;
		node = next;
		name += strlen(name) + 1;
	}
	if (node->ino != f->ino) {
		kvfs_node_forget(fs, node, 1);
		return -ENOENT;
	}
	*out = node;
	return 0;
}

int kvfs_node_find(struct kvfs *fs, uint64_t ino, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct kvfs_node *node = node_find(fs, ino);
	struct find f = {.ino = ino};
	int err;

	if (node) {
		err = kvfs_getattr(fs, node, attr);
		if (err)
			node_unref(fs, node, 1);
		else
			*out = node;
		return err;
	}
	if (ino < MODEL_ID_FIRST)
		return -ESTALE;
	for (unsigned i = 0; i < FIND_TRIES; i++) {
		err = find_path(fs, &f);
		if (!err)
			err = find_follow(fs, &f, out, attr);
		if (err != -ENOENT && err != -ENOTDIR)
			break;
	}
	kv_buf_free(&f.path);
	return err == -ENOENT || err == -ENOTDIR ? -ESTALE : err;
}
