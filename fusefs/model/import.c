/* SPDX-License-Identifier: MIT */
/*
 * Bulk load of a host's tree: batches of blind writes of about a megabyte. A
 * directory's names are read and sorted first, so its record is written before
 * its children with the right link count, keys come in order, and every batch
 * leaves a tree that is whole as far as it got. Only in the root directory,
 * where something may stand already, names are looked up.
 */
#include "fusefs/model/import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/model/edit.h"
#include "fusefs/model/retry.h"
#include "fusefs/model/times.h"
#include "kvcore/base/buf.h"

#define IMPORT_DEPTH_MAX 4096U

/* Names of one directory. */
struct import_names {
	char **names;
	size_t count, cap;
};

/* A directory that is being copied. */
struct import_dir {
	int fd;
	struct import_names names;
	size_t next;
	struct model_key prefix;
	size_t path_len; /* in import.path */
	struct model_key key;
	struct inode rec;   /* without variable parts but the prefix */
	uint32_t dirs_left; /* subdirectories counted in nlink and not yet made */
	bool root;
};

static void import_names_free(struct import_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->names[i]);
	free(n->names);
	*n = (struct import_names){0};
}

static int import_names_add(struct import_names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 64;
		char **names = realloc(n->names, cap * sizeof(char *));

		if (!names)
			return -ENOMEM;
		n->names = names;
		n->cap = cap;
	}
	n->names[n->count] = strdup(name);
	if (!n->names[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int import_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names of the directory, in order, and how many are directories. */
static int import_list(struct import_dir *d)
{
	struct dirent *e;
	struct stat st;
	DIR *dir;
	int fd = dup(d->fd), err = 0;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	for (errno = 0; !err && (e = readdir(dir)); errno = 0) {
		unsigned char type = e->d_type;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		err = import_names_add(&d->names, e->d_name);
		if (!err && type == DT_UNKNOWN) {
			if (fstatat(d->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
				err = -errno;
			else if (S_ISDIR(st.st_mode))
				type = DT_DIR;
		}
		d->dirs_left += type == DT_DIR;
	}
	if (!err && errno)
		err = -errno;
	closedir(dir);
	if (!err && d->names.count)
		qsort(d->names.names, d->names.count, sizeof(char *), import_compare);
	return err;
}

int import_flush(struct import *im)
{
	int err;

	if (!im->bytes)
		return 0;
	err = kv_batch_write(im->batch, 0, NULL);
	if (err)
		return err;
	im->bytes = 0;
	if (im->progress && im->progress->report &&
	    im->progress->report(im->progress->ctx, im->done, 0))
		return -KV_E_INTERRUPTED;
	return 0;
}

int import_put(struct import *im, const struct model_key *key, struct kv_slice value)
{
	int err = kv_batch_put(im->batch, key->keyspace, model_key_slice(key), value);

	im->bytes += key->len + value.len;
	return err;
}

int import_put_record(struct import *im, const struct model_key *key, const struct inode *r)
{
	uint8_t raw[MODEL_RECORD_MAX];

	return import_put(im, key, kv_slice_of(raw, inode_encode(r, raw)));
}

/* The host path of the entry, for messages. */
static int import_path_add(struct import *im, size_t dir_len, const char *name)
{
	int err;

	im->path.len = dir_len;
	err = buf_append_byte(&im->path, '/');
	return err ? err : buf_append(&im->path, name, strlen(name));
}

static void import_dir_close(struct import_dir *d)
{
	import_names_free(&d->names);
	close(d->fd);
	free(d);
}

/* Record, prefix and place of a directory that is new here. */
static int import_dir_record(struct import *im, struct import_dir *d, const struct stat *st,
			     const struct model_key *parent, const char *name)
{
	struct kv_slice n = kv_slice_of(name, strlen(name));
	uint8_t id[8];
	int err;

	import_attr(st, &d->rec);
	err = kvfs_new_id(im->fs, &d->rec.id);
	if (err)
		return err;
	d->rec.nlink = 2 + d->dirs_left;
	place_name(model_key_slice(parent), n, &d->key);
	place_natural(model_key_slice(parent), n, &d->prefix);
	if (d->prefix.len <= MODEL_PREFIX_MAX && !im->displaced)
		return 0;
	place_fresh(d->rec.id, &d->prefix);
	d->rec.flags |= MODEL_FLAG_PREFIX;
	atomic_store(&im->fs->displaced, true);
	be64_put(id, d->rec.id);
	return import_put(im, &d->prefix, kv_slice_of(id, sizeof(id)));
}

/* The borrowed prefix moves with the structure, so it is set when it is needed. */
static int import_dir_put(struct import *im, struct import_dir *d)
{
	struct inode r = d->rec;

	if (r.flags & MODEL_FLAG_PREFIX)
		r.prefix = model_key_slice(&d->prefix);
	r.xattrs = kv_buf_slice(&im->xattrs);
	return import_put_record(im, &d->key, &r);
}

static int import_enter(struct import *im, int parent_fd, const char *name, const struct stat *st,
			const struct model_key *parent)
{
	struct import_dir *d;
	int err;

	if (im->depth == IMPORT_DEPTH_MAX)
		return -ELOOP;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->path_len = im->path.len;
	d->fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0) {
		err = -errno;
		free(d);
		return err;
	}
	err = import_list(d);
	if (!err)
		err = import_dir_record(im, d, st, parent, name);
	if (!err)
		err = import_xattrs(im, d->fd, NULL, &d->rec);
	if (!err)
		err = import_dir_put(im, d);
	if (err) {
		import_dir_close(d);
		return err;
	}
	im->stack[im->depth++] = d;
	return 0;
}

/* In the root directory: nothing stands at the name yet. */
static int import_check_free(struct import *im, const struct model_key *key)
{
	int err = kv_get(im->fs->db, key->keyspace, model_key_slice(key), NULL);

	if (err == -KV_E_NOTFOUND)
		return 0;
	return err ? err : -EEXIST;
}

static int import_entry(struct import *im, struct import_dir *d, const char *name)
{
	struct model_key key;
	struct stat st;
	int err;

	err = import_path_add(im, d->path_len, name);
	if (err)
		return err;
	if (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	im->done++;
	place_name(model_key_slice(&d->prefix), kv_slice_of(name, strlen(name)), &key);
	if (d->root)
		err = import_check_free(im, &key);
	if (err)
		return err;
	if (S_ISDIR(st.st_mode)) {
		err = import_enter(im, d->fd, name, &st, &d->prefix);
		if (!err && d->dirs_left)
			d->dirs_left--;
		im->root_dirs += !err && d->root;
		return err;
	}
	return import_file(im, d->fd, name, &st, &key);
}

/* The directory that everything goes into takes the attributes of the host's. */
static int import_root_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct import_root *a = arg;
	struct inode *r = &a->e.rec.r;
	int err;

	err = edit_load(fs, txn, &a->e);
	if (err)
		return err;
	r->nlink += a->dirs;
	r->mode = S_IFDIR | (a->attr.mode & 07777U);
	r->uid = a->attr.uid;
	r->gid = a->attr.gid;
	r->atime = a->attr.atime;
	r->mtime = a->attr.mtime;
	r->ctime = a->e.now;
	return edit_store(txn, &a->e);
}

static void import_root_done(struct kvfs *fs, void *arg)
{
	struct import_root *a = arg;

	edit_done(fs, &a->e);
}

static int import_root(struct import *im, const struct stat *st, uint32_t dirs)
{
	struct import_root a = {.e = {.node = &im->fs->root, .now = inode_time(kvfs_now())},
				.dirs = dirs};
	struct retry_op op = {.run = import_root_run, .done = import_root_done, .arg = &a};
	int err;

	import_attr(st, &a.attr);
	err = retry_write(im->fs, &op);
	edit_free(&a.e);
	return err;
}

/*
 * Stopped before the end: directories whose link count runs ahead get the right one, and a file
 * that was being copied goes.
 */
static int import_settle(struct import *im)
{
	struct model_key from, to;
	int err = 0;

	for (size_t i = 1; i < im->depth && !err; i++) {
		struct import_dir *d = im->stack[i];

		if (!d->dirs_left)
			continue;
		d->rec.nlink -= d->dirs_left;
		buf_clear(&im->xattrs);
		err = import_xattrs(im, d->fd, NULL, &d->rec);
		if (!err)
			err = import_dir_put(im, d);
	}
	if (!err && im->partial) {
		place_id(MODEL_DATA, im->partial, &from);
		place_id(MODEL_DATA, im->partial + 1, &to);
		err = kv_batch_delete_range(im->batch, MODEL_DATA, model_key_slice(&from),
					    model_key_slice(&to));
	}
	if (!err)
		err = kv_batch_write(im->batch, 0, NULL);
	return err;
}

static int import_tree(struct import *im, const char *from)
{
	struct import_dir *top = calloc(1, sizeof(*top));
	struct stat st;
	int err = 0, settled;

	if (!top)
		return -ENOMEM;
	top->root = true;
	top->path_len = im->path.len;
	top->fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top->fd < 0 || fstat(top->fd, &st)) {
		err = -errno;
		if (top->fd >= 0)
			close(top->fd);
		free(top);
		return err;
	}
	im->stack[im->depth++] = top;
	err = import_list(top);
	while (!err && im->depth) {
		struct import_dir *d = im->stack[im->depth - 1];

		if (d->next < d->names.count) {
			err = import_entry(im, d, d->names.names[d->next++]);
			if (!err && im->bytes >= im->bytes_max)
				err = import_flush(im);
		} else if (im->depth > 1) {
			import_dir_close(d);
			im->depth--;
		} else {
			break;
		}
	}
	if (!err)
		err = import_flush(im);
	if (err) {
		settled = import_settle(im);
		if (settled)
			err = settled;
	}
	settled = import_root(im, &st, im->root_dirs);
	if (!err)
		err = settled;
	while (im->depth)
		import_dir_close(im->stack[--im->depth]);
	return err;
}

int kvfs_import(struct kvfs *fs, const char *from, const struct kv_progress *progress,
		struct kv_buf *failed)
{
	struct kv_db_info info;
	struct import *im;
	int err;

	err = kvfs_writable(fs);
	if (!err)
		err = kv_get_info(fs->db, &info);
	if (err)
		return err;
	im = calloc(1, sizeof(*im));
	if (!im)
		return -ENOMEM;
	im->fs = fs;
	im->progress = progress;
	/* A batch that fits a quarter of the log is written once. The log adds some bytes to each
	 * key and value, fewer than they have. */
	im->bytes_max = min_u64(IMPORT_BATCH_BYTES, info.log_size / 12);
	/* A natural prefix might be taken: then every directory gets a fresh one. */
	im->displaced = atomic_load(&fs->displaced);
	im->stack = calloc(IMPORT_DEPTH_MAX, sizeof(struct import_dir *));
	if (!im->stack)
		err = -ENOMEM;
	if (!err)
		err = kv_batch_new(fs->db, &im->batch);
	if (!err)
		err = buf_append(&im->path, from, strlen(from));
	if (!err)
		err = import_tree(im, from);
	if (err && failed) {
		kv_buf_free(failed);
		*failed = im->path;
		im->path = (struct kv_buf){0};
	}
	import_free(im);
	return err;
}
