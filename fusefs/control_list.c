/* SPDX-License-Identifier: MIT */
/*
 * Listing the control directory. All names are collected when it is opened, so that each reader
 * sees one state; they come without nodes, so that a listing opens no snapshot.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/reply.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define NAMES_VERSION 0xffU /* of a file; what kind of one shows only when it is looked up */

/* All names at the moment of opendir: a length byte and the name, each. */
struct names {
	struct kv_buf names;
	struct kv_buf kinds;  /* a byte each: of the entry, 0: a snapshot or transaction,
				 NAMES_VERSION */
	size_t last, last_at; /* an index and where its name is, not beyond what was listed */
};

static int add_name(struct names *n, const char *name, unsigned kind)
{
	struct kv_slice s = kv_slice_of(name, strlen(name));
	int err = buf_append_byte(&n->kinds, (uint8_t)kind);

	if (!err)
		err = buf_append_byte(&n->names, (uint8_t)s.len);
	return err ? err : buf_append_slice(&n->names, s);
}

static int add_txn(void *ctx, const char *name)
{
	return add_name(ctx, name, 0);
}

static int add_past(void *ctx, const char *name, bool version)
{
	return add_name(ctx, name, version ? NAMES_VERSION : CONTROL_HISTORY);
}

static int collect(fuse_req_t req, fuse_ino_t ino, struct names *n)
{
	struct kvfsd *d = op_daemon(req);
	enum control_kind kind = control_kind(ino);
	struct kv_snapshot_info *list = NULL;
	size_t count = 0;
	int err = add_name(n, ".", kind);

	if (!err)
		err = add_name(n, "..", CONTROL_DIR);
	if (kind == CONTROL_DIR) {
		for (size_t i = 0; !err && i < control_entry_count; i++)
			err = add_name(n, control_entries[i].name, control_entries[i].kind);
		return err;
	}
	if (!err && kind == CONTROL_HISTORY)
		err = control_history_list(req, ino, add_past, n);
	if (!err && kind == CONTROL_TXN)
		err = txn_each(d, add_txn, n);
	if (!err && kind == CONTROL_SNAPSHOTS)
		err = kv_snapshot_list(kvfs_db(d->fs), &list, &count);
	for (size_t i = 0; !err && i < count; i++)
		if (!kvfs_snapshot_check_name(list[i].name))
			err = add_name(n, list[i].name, 0);
	free(list);
	return err;
}

static void free_names(struct names *n)
{
	kv_buf_free(&n->names);
	kv_buf_free(&n->kinds);
	free(n);
}

static void drop_names(void *ctx, void *object)
{
	(void)ctx;
	free_names(object);
}

void control_close_directories(struct kvfsd *d)
{
	handle_drain(&d->handles, &control_table, drop_names, NULL);
}

void control_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct names *n = calloc(1, sizeof(*n));
	int err = n ? collect(req, ino, n) : -ENOMEM;

	if (!err)
		err = handle_add(&op_daemon(req)->handles, &control_table, n, &fi->fh);
	if (err) {
		if (n)
			free_names(n);
		reply_result(req, NULL, err);
		return;
	}
	if (fuse_reply_open(req, fi)) {
		n = handle_remove(&op_daemon(req)->handles, &control_table, fi->fh);
		if (n)
			free_names(n);
	}
}

void control_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct names *n = handle_remove(&op_daemon(req)->handles, &control_table, fi->fh);

	(void)ino;
	if (n)
		free_names(n);
	fuse_reply_err(req, n ? 0 : EBADF);
}

/* Names only: entries without a node, in readdirplus too, so that a listing opens no snapshot. */
static size_t add_entry(fuse_req_t req, char *buf, size_t room, bool plus, const char *name,
			uint8_t kind, off_t position)
{
	const struct control_entry *e = control_entry_of_kind(kind);
	struct fuse_entry_param entry = {0};

	entry.attr.st_ino = kind ? kind : KVFS_ROOT_INO;
	entry.attr.st_mode = e ? e->mode : kind == NAMES_VERSION ? 0 : S_IFDIR;
	return plus ? fuse_add_direntry_plus(req, buf, room, name, &entry, position)
		    : fuse_add_direntry(req, buf, room, name, &entry.attr, position);
}

/* Whoever lists all goes on where he was; from another place the names are counted again. */
static size_t fill_names(fuse_req_t req, char *buf, size_t size, off_t off, struct names *n,
			 bool plus)
{
	char name[KVFS_NAME_MAX + 1];
	size_t used = 0, need;

	if (off < (off_t)n->last)
		n->last = n->last_at = 0;
	for (size_t i = n->last, at = n->last_at; i < n->kinds.len; i++) {
		size_t len = n->names.data[at];

		n->last = i;
		n->last_at = at;
		memcpy(name, n->names.data + at + 1, len);
		name[len] = '\0';
		at += 1 + len;
		if ((off_t)i < off)
			continue;
		need = add_entry(req, buf + used, size - used, plus, name, n->kinds.data[i],
				 (off_t)i + 1);
		if (need > size - used)
			break;
		used += need;
	}
	return used;
}

static void list(fuse_req_t req, size_t size, off_t off, const struct fuse_file_info *fi, bool plus)
{
	struct handles *handles = &op_daemon(req)->handles;
	struct names *n = handle_take(handles, &control_table, fi->fh);
	char *buf;

	if (!n) {
		fuse_reply_err(req, EBADF);
		return;
	}
	size = min_u64(size, LIST_BYTES_MAX);
	buf = malloc(size ? size : 1);
	if (buf)
		size = fill_names(req, buf, size, off, n, plus);
	handle_put(handles, fi->fh); /* the next request may come with the answer */
	if (buf)
		fuse_reply_buf(req, buf, size);
	else
		fuse_reply_err(req, ENOMEM);
	free(buf);
}

void control_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, false);
}

void control_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, true);
}
