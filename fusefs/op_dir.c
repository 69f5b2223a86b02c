/* SPDX-License-Identifier: MIT */
/*
 * Listing directories. A handle is libkvfs's open directory: its cookies are
 * valid while it is open. The kernel keeps what it has listed (CACHE_DIR) and
 * drops it when it changes the directory itself, so a warm listing costs the
 * opendir and no readdir.
 *
 * readdirplus hands out a reference with each entry, for which the kernel will
 * send forgets, unless the reply does not arrive.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/reply.h"
#include "kvcore/base/buf.h"

static struct kvfs_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct kvfs_dir *)(uintptr_t)fi->fh;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfs_node *node = op_node(req, ino);
	struct kvfs_dir *dir;
	int err;

	if (!node)
		return;
	err = kvfs_dir_open(op_daemon(req)->fs, node, &dir);
	if (err) {
		reply_result(req, node, err);
		return;
	}
	fi->fh = (uintptr_t)dir;
	fi->cache_readdir = 1;
	fi->keep_cache = 1;
	if (fuse_reply_open(req, fi))
		kvfs_dir_close(dir); /* no releasedir will come */
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	kvfs_dir_close(dir_of(fi));
	fuse_reply_err(req, 0);
}

struct listing {
	fuse_req_t req;
	char *buf;
	size_t size, used;
	struct kv_buf nodes; /* struct kvfs_node *: handed out so far */
};

static int emit_name(void *ctx, const struct kvfs_dirent *e)
{
	struct listing *l = ctx;
	struct stat st = {.st_ino = e->ino, .st_mode = e->type};
	size_t room = l->size - l->used;
	size_t need =
		fuse_add_direntry(l->req, l->buf + l->used, room, e->name, &st, (off_t)e->cookie);

	if (need > room)
		return 1;
	l->used += need;
	return 0;
}

static int emit_plus(void *ctx, const struct kvfs_dirent *e)
{
	struct listing *l = ctx;
	struct fuse_entry_param entry = {.attr = {.st_ino = e->ino, .st_mode = e->type}};
	size_t room = l->size - l->used;
	size_t need;

	if (e->node) {
		reply_fill_entry(e->node, e->attr, &entry);
		if (buf_append(&l->nodes, &e->node, sizeof(e->node)))
			return 1;
	}
	need = fuse_add_direntry_plus(l->req, l->buf + l->used, room, e->name, &entry,
				      (off_t)e->cookie);
	if (need > room) {
		if (e->node)
			l->nodes.len -= sizeof(e->node);
		return 1;
	}
	l->used += need;
	return 0;
}

static void forget_all(struct kvfs *fs, const struct kv_buf *nodes)
{
	struct kvfs_node *node;

	for (size_t at = 0; at < nodes->len; at += sizeof(node)) {
		memcpy(&node, nodes->data + at, sizeof(node));
		kvfs_node_forget(fs, node, 1);
	}
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct kvfs_dir *dir,
		 bool plus)
{
	struct listing l = {.req = req, .size = size};
	int err;

	l.buf = malloc(size ? size : 1);
	if (!l.buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	err = kvfs_dir_read(dir, (uint64_t)off, plus, plus ? emit_plus : emit_name, &l);
	/* What came before a damaged entry is answered; the error is for the next call. */
	if (err && l.used == 0)
		reply_result(req, kvfs_node_by_ino(op_daemon(req)->fs, ino), err);
	else if (fuse_reply_buf(req, l.buf, l.used))
		forget_all(op_daemon(req)->fs, &l.nodes);
	kv_buf_free(&l.nodes);
	free(l.buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	list(req, ino, size, off, dir_of(fi), false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	list(req, ino, size, off, dir_of(fi), true);
}
