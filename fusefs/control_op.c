/* SPDX-License-Identifier: MIT */
/*
 * Operations on the control directory's own nodes. What is found below
 * snapshots/NAME are files of a tree and none of this; the names in between are
 * looked up, made and removed here.
 *
 * Who may change something: root and the daemon's user, who is the one that mounted.
 * The modes say so too, but the kernel looks at them only with default_permissions.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/reply.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define FOREVER_S (365.0 * 24 * 3600)

static bool may_change(fuse_req_t req)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	return uid == 0 || uid == geteuid();
}

/* @size: of a file */
static void fill_stat(struct kvfsd *d, enum control_kind kind, uint64_t size, struct stat *out)
{
	const struct control_entry *e = control_entry_of_kind(kind);

	*out = (struct stat){
		.st_ino = (ino_t)kind,
		.st_mode = e ? e->mode : S_IFDIR | 0755,
		.st_nlink = 1, /* of a directory: nobody counts its subdirectories */
		.st_uid = geteuid(),
		.st_gid = getegid(),
		.st_size = (off_t)size,
		.st_blksize = 4096,
	};
	if (e && e->print) {
		clock_gettime(CLOCK_REALTIME, &out->st_mtim);
	} else {
		pthread_mutex_lock(&d->control.mu);
		out->st_mtim = d->control.changed;
		pthread_mutex_unlock(&d->control.mu);
	}
	out->st_atim = out->st_mtim;
	out->st_ctim = out->st_mtim;
}

void control_note_change(struct kvfsd *d)
{
	pthread_mutex_lock(&d->control.mu);
	clock_gettime(CLOCK_REALTIME, &d->control.changed);
	pthread_mutex_unlock(&d->control.mu);
}

/* ---- names ---- */

static void reply_directory(fuse_req_t req, enum control_kind kind)
{
	struct fuse_entry_param entry = {.ino = TREE_BIT | (uint64_t)kind,
					 .entry_timeout = FOREVER_S};

	fill_stat(op_daemon(req), kind, 0, &entry.attr);
	fuse_reply_entry(req, &entry);
}

/* A text of its own for each lookup, so the name is asked for each time. */
static void reply_text(fuse_req_t req, const struct control_entry *e)
{
	struct kvfsd *d = op_daemon(req);
	struct fuse_entry_param entry = {.attr_timeout = e->begin ? 0 : FOREVER_S};
	uint64_t id, size;
	int err = control_text_make(d, e, fuse_req_ctx(req)->uid, &id, &size);

	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	entry.ino = id;
	fill_stat(d, e->kind, size, &entry.attr);
	if (fuse_reply_entry(req, &entry))
		control_text_unref(&d->control, id, 1);
}

/* The root directory of a tree, of which the caller has a reference, which it takes. */
static void reply_root(fuse_req_t req, struct tree *v, double timeout_s)
{
	struct kvfsd *d = op_daemon(req);
	struct fuse_entry_param entry;
	struct kvfs_attr attr;
	int err = kvfs_getattr(v->fs, kvfs_root(v->fs), &attr);

	if (err) {
		tree_unref(&d->trees, v->id, 1);
		reply_result(req, NULL, err);
		return;
	}
	reply_fill_entry(req, v->id, kvfs_root(v->fs), &attr, &entry);
	entry.entry_timeout = timeout_s;
	if (fuse_reply_entry(req, &entry))
		tree_unref(&d->trees, v->id, 1);
}

/* A transaction's name is asked for each time, since a commit or its expiry ends it. */
static void reply_txn(fuse_req_t req, const char *name)
{
	struct kvfsd *d = op_daemon(req);
	char key[sizeof("txn/") + KVFS_NAME_MAX];
	struct tree *v = NULL;

	if (strlen(name) <= KVFS_NAME_MAX) {
		(void)snprintf(key, sizeof(key), "txn/%s", name);
		v = tree_find(&d->trees, key);
	}
	if (v)
		reply_root(req, v, 0);
	else
		fuse_reply_err(req, ENOENT);
}

/* The root directory of a snapshot. A miss is not remembered: the daemon takes snapshots too. */
static void reply_snapshot(fuse_req_t req, const char *name)
{
	struct kvfsd *d = op_daemon(req);
	struct tree *v;
	int err = tree_open(&d->trees, d->fs, name, &v);

	if (err == -KV_E_NOTFOUND || err == -KV_E_NOT_A_VOLUME)
		fuse_reply_err(req, ENOENT);
	else if (err)
		reply_result(req, NULL, err);
	else
		reply_root(req, v, REPLY_TIMEOUT_S);
}

/* The tree of a time. The name is asked for each time, since history moves on. */
static void reply_at(fuse_req_t req, const char *name)
{
	struct tree *v;
	int err = control_at_open(op_daemon(req), name, &v);

	if (err == -KV_E_NOTFOUND || err == -KV_E_NOT_A_VOLUME)
		fuse_reply_err(req, ENOENT);
	else if (err)
		reply_result(req, NULL, err);
	else
		reply_root(req, v, 0);
}

static void control_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct control_entry *e;

	if (parent == FUSE_ROOT_ID) {
		reply_directory(req, CONTROL_DIR);
	} else if (control_kind(parent) == CONTROL_SNAPSHOTS) {
		reply_snapshot(req, name);
	} else if (control_kind(parent) == CONTROL_TXN) {
		reply_txn(req, name);
	} else if (control_kind(parent) == CONTROL_AT) {
		reply_at(req, name);
	} else if (control_kind(parent) == CONTROL_HISTORY) {
		control_history_lookup(req, parent, name);
	} else if (control_kind(parent) != CONTROL_DIR || !(e = control_entry_of(name))) {
		fuse_reply_err(req, ENOENT);
	} else if (e->print) {
		reply_text(req, e);
	} else {
		reply_directory(req, e->kind);
	}
}

void control_forget_node(struct kvfsd *d, fuse_ino_t ino, uint64_t nlookup)
{
	if (control_kind(ino) == CONTROL_HISTORY)
		control_history_unref(&d->control, ino, nlookup);
	else
		control_text_unref(&d->control, ino, nlookup);
}

static void control_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	control_forget_node(op_daemon(req), ino, nlookup);
	fuse_reply_none(req);
}

/* EEXIST for the control directory itself, EPERM for anything in it. */
static void refuse_name(fuse_req_t req, fuse_ino_t parent)
{
	fuse_reply_err(req, parent == FUSE_ROOT_ID ? EEXIST : EPERM);
}

static bool is_in(fuse_ino_t parent, enum control_kind kind)
{
	return parent != FUSE_ROOT_ID && tree_is_control(parent) && control_kind(parent) == kind;
}

/* The sticky bit, which mkdir(2) passes on, asks for a serializable one. */
static void make_txn(fuse_req_t req, const char *name, mode_t mode)
{
	struct kvfsd *d = op_daemon(req);
	struct tree *v;
	int err = txn_begin(d, name, fuse_req_ctx(req)->uid, (mode & S_ISVTX) != 0, &v);

	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	control_note_change(d);
	reply_root(req, v, 0);
}

static void control_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct kvfsd *d = op_daemon(req);
	int err;

	if (is_in(parent, CONTROL_TXN)) {
		make_txn(req, name, mode);
		return;
	}
	if (parent == FUSE_ROOT_ID || control_kind(parent) != CONTROL_SNAPSHOTS) {
		refuse_name(req, parent);
		return;
	}
	err = may_change(req) ? kvfs_snapshot_create(d->fs, name) : -EPERM;
	if (err) {
		reply_result(req, NULL, err);
		return;
	}
	control_note_change(d);
	reply_snapshot(req, name);
}

static void control_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct kvfsd *d = op_daemon(req);
	int err = -EPERM;

	if (is_in(parent, CONTROL_TXN)) {
		err = txn_abort(d, name, fuse_req_ctx(req)->uid);
		control_note_change(d);
		reply_result(req, NULL, err);
		return;
	}
	if (is_in(parent, CONTROL_SNAPSHOTS) && may_change(req))
		err = kvfs_snapshot_drop(d->fs, name);
	if (!err) {
		tree_drop_name(&d->trees, name);
		control_note_change(d);
	}
	reply_result(req, NULL, err == -KV_E_NOTFOUND ? -ENOENT : err);
}

static void control_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			  dev_t rdev)
{
	(void)name;
	(void)mode;
	(void)rdev;
	refuse_name(req, parent);
}

static void control_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	(void)target;
	(void)name;
	refuse_name(req, parent);
}

static void control_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	(void)ino;
	(void)newname;
	refuse_name(req, newparent);
}

static void control_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			   struct fuse_file_info *fi)
{
	(void)name;
	(void)mode;
	(void)fi;
	refuse_name(req, parent);
}

static void control_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

/* Of all that could be moved only a transaction is, into commit/. */
static void control_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
			   fuse_ino_t newparent, const char *newname, unsigned flags)
{
	(void)newname;
	if (!is_in(parent, CONTROL_TXN) || !is_in(newparent, CONTROL_COMMIT))
		fuse_reply_err(req, EPERM);
	else if (flags & ~(unsigned)RENAME_NOREPLACE)
		fuse_reply_err(req, EINVAL);
	else
		txn_commit(req, name, 0, false);
}

/* ---- nodes ---- */

int control_stat(struct kvfsd *d, fuse_ino_t ino, struct stat *out)
{
	const struct control_entry *e = control_entry_of_kind(control_kind(ino));
	uint64_t size = 0;
	int err = 0;

	if (e && e->print)
		err = control_text_size(&d->control, ino, &size);
	if (control_kind(ino) == CONTROL_HISTORY && !control_history_has(&d->control, ino))
		err = -ESTALE;
	if (err)
		return err;
	fill_stat(d, control_kind(ino), size, out);
	/* Directories in each other need numbers of their own. */
	if (control_kind(ino) == CONTROL_HISTORY && ino != (TREE_BIT | CONTROL_HISTORY))
		out->st_ino = ino;
	return 0;
}

static void control_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	int err = control_stat(op_daemon(req), ino, &st);

	(void)fi;
	if (err)
		reply_result(req, NULL, err);
	else
		fuse_reply_attr(req, &st, 0);
}

static void control_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
			    struct fuse_file_info *fi)
{
	const struct control_entry *e = control_entry_of_kind(control_kind(ino));

	(void)attr;
	/* Opening with O_TRUNC; there is nothing to cut. */
	if (e && e->store &&
	    !(to_set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME |
			 FUSE_SET_ATTR_MTIME_NOW)))
		control_getattr(req, ino, fi);
	else
		fuse_reply_err(req, EPERM);
}

static void control_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	const struct control_entry *e = control_entry_of_kind(control_kind(ino));
	unsigned allowed = e ? e->mode : 0755;

	if (may_change(req))
		allowed >>= 6;
	fuse_reply_err(req, (unsigned)mask & ~allowed & 7U ? EACCES : 0);
}

static void control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			 struct fuse_file_info *fi)
{
	struct kv_buf data = {0};
	int err;

	(void)fi;
	err = off < 0 ? -EINVAL
	      : control_kind(ino) == CONTROL_FEED && !may_change(req)
		      ? -EACCES
		      : control_text_read(&op_daemon(req)->control, ino, (uint64_t)off, size,
					  &data);
	if (err)
		reply_result(req, NULL, err);
	else
		fuse_reply_buf(req, (const char *)data.data, data.len);
	kv_buf_free(&data);
}

static void control_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
			  struct fuse_file_info *fi)
{
	const struct control_entry *e = control_entry_of_kind(control_kind(ino));
	int err = -EPERM;

	(void)fi;
	if (e && e->store && may_change(req))
		err = off ? -EINVAL : e->store(op_daemon(req), kv_slice_of(buf, size));
	if (err)
		reply_result(req, NULL, err);
	else
		fuse_reply_write(req, size);
}

static void control_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	reply_result(req, NULL, kvfs_sync(op_daemon(req)->fs));
}

static void control_readlink(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	fuse_reply_err(req, EINVAL);
}

static void control_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			      struct fuse_file_info *fi)
{
	(void)ino;
	(void)mode;
	(void)offset;
	(void)length;
	(void)fi;
	fuse_reply_err(req, EOPNOTSUPP);
}

static void control_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
			  struct fuse_file_info *fi)
{
	uint64_t size = 0;
	int err = control_text_size(&op_daemon(req)->control, ino, &size);

	(void)fi;
	if (!err && (off < 0 || (uint64_t)off >= size))
		err = -ENXIO;
	if (err)
		fuse_reply_err(req, -err);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : (off_t)size);
}

/* The parameters are libfuse's. NOLINTNEXTLINE(readability-function-size) */
static void control_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
				    struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
				    struct fuse_file_info *fi_out, size_t len, int flags)
{
	(void)ino_in;
	(void)off_in;
	(void)fi_in;
	(void)ino_out;
	(void)off_out;
	(void)fi_out;
	(void)len;
	(void)flags;
	fuse_reply_err(req, EXDEV); /* the kernel copies by itself */
}

/* ---- extended attributes: none ---- */

static void control_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
			     size_t size, int flags)
{
	(void)ino;
	(void)name;
	(void)value;
	(void)size;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

static void control_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino;
	(void)name;
	(void)size;
	fuse_reply_err(req, ENODATA);
}

static void control_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	const struct kv_buf none = {0};

	(void)ino;
	reply_xattr(req, &none, size);
}

static void control_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino;
	(void)name;
	fuse_reply_err(req, EPERM);
}

const struct fuse_lowlevel_ops control_table = {
	.lookup = control_lookup,
	.forget = control_forget,
	.getattr = control_getattr,
	.setattr = control_setattr,
	.readlink = control_readlink,
	.mknod = control_mknod,
	.mkdir = control_mkdir,
	.unlink = control_unlink,
	.rmdir = control_rmdir,
	.symlink = control_symlink,
	.rename = control_rename,
	.link = control_link,
	.create = control_create,
	.read = control_read,
	.write = control_write,
	.fsync = control_fsync,
	.opendir = control_opendir,
	.readdir = control_readdir,
	.readdirplus = control_readdirplus,
	.releasedir = control_releasedir,
	.fsyncdir = control_fsync,
	.setxattr = control_setxattr,
	.getxattr = control_getxattr,
	.listxattr = control_listxattr,
	.removexattr = control_removexattr,
	.access = control_access,
	.fallocate = control_fallocate,
	.lseek = control_lseek,
	.copy_file_range = control_copy_file_range,
};
