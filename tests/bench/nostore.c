/* SPDX-License-Identifier: MIT */
/*
 * A file system in memory behind FUSE: no disk, no transactions, no locks, one
 * thread, and the same agreement with the kernel as mount.kvfs of root has (no open,
 * no create, no flush, endless timeouts). What it needs for an operation is what the transport
 * costs, so it bounds what any daemon can reach. tests/bench/fsbench runs it as a contestant.
 *
 * A node's number is its address. Files are removed with their last name and their
 * last reference, as a daemon for real work would. Only for measuring: no hard links,
 * no extended attributes, and memory is never limited.
 */
#define FUSE_USE_VERSION 312

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_S (365.0 * 24 * 3600)
#define DOTS	  2 /* entries before the first child */

struct node {
	struct node *parent;
	struct node *hash_next;
	char *name;
	struct stat st;
	uint64_t lookups;
	char *data; /* of a file, or a symlink's target */
	size_t cap;
	struct node **children; /* of a directory, in the order of making; NULL: removed */
	size_t child_count, child_cap;
	size_t slot; /* in the parent's array */
};

static struct node root;
static struct node **buckets;
static size_t bucket_count = 1024, node_count;

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static fuse_ino_t ino_of(const struct node *n)
{
	return n == &root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)n;
}

/* ---- names ---- */

static size_t hash_of(const struct node *parent, const char *name)
{
	uint64_t h = (uintptr_t)parent;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
	return (size_t)(h ^ h >> 29);
}

static struct node **slot_of(const struct node *parent, const char *name)
{
	struct node **at = &buckets[hash_of(parent, name) & (bucket_count - 1)];

	while (*at && ((*at)->parent != parent || strcmp((*at)->name, name) != 0))
		at = &(*at)->hash_next;
	return at;
}

static void grow(void)
{
	size_t count = bucket_count * 2;
	struct node **fresh = calloc(count, sizeof(struct node *));

	if (!fresh)
		return;
	for (size_t i = 0; i < bucket_count; i++) {
		struct node *n = buckets[i], *next;

		for (; n; n = next) {
			size_t to = hash_of(n->parent, n->name) & (count - 1);

			next = n->hash_next;
			n->hash_next = fresh[to];
			fresh[to] = n;
		}
	}
	free(buckets);
	buckets = fresh;
	bucket_count = count;
}

static void touch(struct node *n)
{
	clock_gettime(CLOCK_REALTIME, &n->st.st_mtim);
	n->st.st_ctim = n->st.st_mtim;
}

static bool attach(struct node *n, struct node *parent, const char *name)
{
	struct node **at;

	if (parent->child_count == parent->child_cap) {
		size_t cap = parent->child_cap ? parent->child_cap * 2 : 8;
		struct node **more = realloc(parent->children, cap * sizeof(*more));

		if (!more)
			return false;
		parent->children = more;
		parent->child_cap = cap;
	}
	n->name = strdup(name);
	if (!n->name)
		return false;
	if (node_count++ >= bucket_count)
		grow();
	at = slot_of(parent, name);
	n->parent = parent;
	n->hash_next = NULL;
	*at = n;
	n->slot = parent->child_count;
	parent->children[parent->child_count++] = n;
	touch(parent);
	return true;
}

static void detach(struct node *n)
{
	*slot_of(n->parent, n->name) = n->hash_next;
	n->parent->children[n->slot] = NULL;
	while (n->parent->child_count && !n->parent->children[n->parent->child_count - 1])
		n->parent->child_count--;
	touch(n->parent);
	free(n->name);
	n->name = NULL;
	n->parent = NULL;
	node_count--;
}

static void free_if_unused(struct node *n)
{
	if (n == &root || n->name || n->lookups)
		return;
	free(n->data);
	free(n->children);
	free(n);
}

/* ---- replies ---- */

static struct fuse_entry_param entry_of(struct node *n)
{
	struct fuse_entry_param e = {.ino = ino_of(n), .attr = n->st};

	e.attr_timeout = e.entry_timeout = TIMEOUT_S;
	return e;
}

static void reply_entry(fuse_req_t req, struct node *n)
{
	struct fuse_entry_param e = entry_of(n);

	n->lookups++;
	fuse_reply_entry(req, &e);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want = conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS |
				      FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
				      FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA);
	conn->max_write = 1U << 20;
	conn->max_background = 64;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param none = {.entry_timeout = TIMEOUT_S};
	struct node *n = *slot_of(node_of(parent), name);

	if (n)
		reply_entry(req, n);
	else
		fuse_reply_entry(req, &none);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct node *n = node_of(ino);

	n->lookups -= nlookup;
	free_if_unused(n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++) {
		struct node *n = node_of(forgets[i].ino);

		n->lookups -= forgets[i].nlookup;
		free_if_unused(n);
	}
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	fuse_reply_attr(req, &node_of(ino)->st, TIMEOUT_S);
}

static int resize(struct node *n, size_t size)
{
	if (size > n->cap) {
		size_t cap = size > 65536 ? size + size / 2 : size;
		char *more = realloc(n->data, cap);

		if (!more)
			return ENOMEM;
		memset(more + n->cap, 0, cap - n->cap);
		n->data = more;
		n->cap = cap;
	} else if ((off_t)size < n->st.st_size) {
		memset(n->data + size, 0, (size_t)n->st.st_size - size);
	}
	n->st.st_size = (off_t)size;
	n->st.st_blocks = (blkcnt_t)((size + 511) / 512);
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);
	int err = 0;

	(void)fi;
	if (to_set & FUSE_SET_ATTR_SIZE) {
		err = resize(n, (size_t)attr->st_size);
		touch(n);
	}
	if (to_set & FUSE_SET_ATTR_MODE)
		n->st.st_mode = (n->st.st_mode & S_IFMT) | (attr->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_UID)
		n->st.st_uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		n->st.st_gid = attr->st_gid;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		n->st.st_atim = attr->st_atim;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		n->st.st_mtim = attr->st_mtim;
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_attr(req, &n->st, TIMEOUT_S);
}

/* ---- making and removing ---- */

static struct node *make(fuse_req_t req, struct node *parent, const char *name, mode_t mode)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->st.st_ino = (ino_t)(uintptr_t)n;
	n->st.st_mode = mode;
	n->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	n->st.st_uid = fuse_req_ctx(req)->uid;
	n->st.st_gid = fuse_req_ctx(req)->gid;
	n->st.st_blksize = 4096;
	touch(n);
	n->st.st_atim = n->st.st_mtim;
	if (attach(n, parent, name))
		return n;
	free(n);
	return NULL;
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct node *n = make(req, node_of(parent), name, mode);

	(void)rdev;
	if (n)
		reply_entry(req, n);
	else
		fuse_reply_err(req, ENOMEM);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, S_IFDIR | mode, 0);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct node *n = make(req, node_of(parent), name, S_IFLNK | 0777);

	if (!n || resize(n, strlen(target))) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	memcpy(n->data, target, strlen(target));
	reply_entry(req, n);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	const struct node *n = node_of(ino);

	fuse_reply_buf(req, n->data, (size_t)n->st.st_size);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = *slot_of(node_of(parent), name);

	if (!n) {
		fuse_reply_err(req, ENOENT);
	} else if (S_ISDIR(n->st.st_mode) && n->child_count) {
		fuse_reply_err(req, ENOTEMPTY);
	} else {
		detach(n);
		n->st.st_nlink = 0;
		free_if_unused(n);
		fuse_reply_err(req, 0);
	}
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned flags)
{
	struct node *n = *slot_of(node_of(parent), name);
	struct node *old = *slot_of(node_of(newparent), newname);

	if (!n || flags) {
		fuse_reply_err(req, n ? EINVAL : ENOENT);
		return;
	}
	if (old && old != n) {
		detach(old);
		old->st.st_nlink = 0;
		free_if_unused(old);
	}
	detach(n);
	fuse_reply_err(req, attach(n, node_of(newparent), newname) ? 0 : ENOMEM);
}

/* ---- contents ---- */

static void op_unneeded(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	const struct node *n = node_of(ino);
	size_t left = off < n->st.st_size ? (size_t)(n->st.st_size - off) : 0;

	(void)fi;
	fuse_reply_buf(req, left ? n->data + off : NULL, size < left ? size : left);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct node *n = node_of(ino);

	(void)fi;
	if (off + (off_t)size > n->st.st_size && resize(n, (size_t)off + size)) {
		fuse_reply_err(req, ENOSPC);
		return;
	}
	memcpy(n->data + off, buf, size);
	touch(n);
	fuse_reply_write(req, size);
}

/* ---- directories ---- */

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	static char buf[1U << 20];
	const struct node *d = node_of(ino);
	size_t used = 0, need;

	if (size > sizeof(buf))
		size = sizeof(buf);
	for (size_t i = (size_t)off; i < DOTS + d->child_count; i++) {
		struct node *n = i < DOTS ? NULL : d->children[i - DOTS];
		const char *name = n ? n->name : i ? ".." : ".";
		struct fuse_entry_param e = {.attr = {.st_mode = S_IFDIR, .st_ino = 1}};

		if (i >= DOTS && !n)
			continue;
		if (n)
			e = entry_of(n);
		need = plus ? fuse_add_direntry_plus(req, buf + used, size - used, name, &e,
						     (off_t)i + 1)
			    : fuse_add_direntry(req, buf + used, size - used, name, &e.attr,
						(off_t)i + 1);
		if (need > size - used)
			break;
		used += need;
		if (n && plus)
			n->lookups++;
	}
	fuse_reply_buf(req, buf, used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct statvfs st = {.f_bsize = 4096,
				   .f_frsize = 4096,
				   .f_blocks = 1U << 24,
				   .f_bfree = 1U << 24,
				   .f_bavail = 1U << 24,
				   .f_namemax = 255};

	(void)ino;
	fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops op_table = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.open = op_unneeded,
	.read = op_read,
	.write = op_write,
	.flush = op_unneeded,
	.release = op_release,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.opendir = op_unneeded,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_release,
	.statfs = op_statfs,
};

int main(int argc, char **argv)
{
	char option[] = "-ofsname=nostore,subtype=nostore", no_name[] = "";
	char *args[] = {argv[0], option, NULL};
	struct fuse_args fuse_args = FUSE_ARGS_INIT(2, args);
	struct fuse_session *session;
	int err = 1;

	if (argc != 2)
		return 2;
	buckets = calloc(bucket_count, sizeof(struct node *));
	root.name = no_name;
	root.st = (struct stat){.st_ino = 1, .st_mode = S_IFDIR | 0755, .st_nlink = 2};
	session = buckets ? fuse_session_new(&fuse_args, &op_table, sizeof(op_table), NULL) : NULL;
	if (!session)
		return 1;
	if (fuse_set_signal_handlers(session) == 0 && fuse_session_mount(session, argv[1]) == 0) {
		err = fuse_session_loop(session);
		fuse_session_unmount(session);
	}
	fuse_session_destroy(session);
	return err != 0;
}
