/* SPDX-License-Identifier: MIT */
/*
 * Listing directories. The kernel keeps what it has listed (CACHE_DIR) and drops it
 * when it changes the directory itself, so a warm listing costs the opendir and no
 * readdir. It goes on from what an earlier handle has listed, so positions are those
 * of listing.h and not the cookies of a handle's struct kvfs_dir; the handle
 * remembers which belong together in its last answer, and else looks for the name.
 *
 * readdirplus hands out a reference with each entry, for which the kernel will
 * send forgets, unless the reply does not arrive.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fusefs/reply.h"
#include "kvcore/base/buf.h"

struct handle {
	fuse_ino_t ino; /* with a reference to its tree */
	struct kvfs_dir *dir;
	struct listing *listing;
	struct kv_buf marks; /* struct mark: of the last answer */
	uint64_t next;	     /* position at the end of the last answer */
	bool used;	     /* something was asked for */
	bool whole;	     /* since the start, one answer after the other */
	bool ended;	     /* and up to the end */
};

struct mark {
	uint64_t position; /* the kernel's */
	uint64_t cookie;   /* of the struct kvfs_dir */
};

static void close_handle(struct kvfsd *d, struct handle *h)
{
	if (h->listing)
		listing_close(&d->listings, h->listing);
	kvfs_dir_close(h->dir);
	kv_buf_free(&h->marks);
	tree_unref(&d->trees, h->ino, 1);
	free(h);
}

static void drop_handle(void *ctx, void *object)
{
	close_handle(ctx, object);
}

void op_close_directories(struct kvfsd *d)
{
	handle_drain(&d->handles, &op_files, drop_handle, d);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct kvfs_node *node = op_node(req, ino);
	struct handle *h;
	bool known = false;
	int err;

	if (!node)
		return;
	h = calloc(1, sizeof(*h));
	if (!h) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	h->ino = ino;
	tree_ref(&d->trees, ino);
	err = kvfs_dir_open(op_fs(req, ino), node, &h->dir);
	if (!err && (fi->flags & O_NOATIME))
		kvfs_dir_noatime(h->dir);
	if (!err)
		err = listing_open(&d->listings, ino, &h->listing, &known);
	if (!err)
		err = handle_add(&d->handles, &op_files, h, &fi->fh);
	if (err) {
		close_handle(d, h);
		reply_result(req, node, err);
		return;
	}
	fi->cache_readdir = 1;
	fi->keep_cache = known;
	if (fuse_reply_open(req, fi)) { /* no releasedir will come */
		h = handle_remove(&d->handles, &op_files, fi->fh);
		if (h)
			close_handle(d, h);
	}
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct kvfsd *d = op_daemon(req);
	struct handle *h = handle_remove(&d->handles, &op_files, fi->fh);

	(void)ino;
	if (h)
		close_handle(d, h);
	fuse_reply_err(req, h ? 0 : EBADF);
}

/* ---- where to go on ---- */

struct search {
	unsigned dots;		      /* how many of "." and ".." to pass over */
	bool has_name;		      /* and then names */
	char name[KVFS_NAME_MAX + 1]; /* up to this one */
	uint64_t cookie;	      /* behind what was passed over */
};

static int is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int pass_over(void *ctx, const struct kvfs_dirent *e)
{
	struct search *s = ctx;

	if (is_dot(e->name)) {
		if (s->dots == 0)
			return 1;
		s->dots--;
	} else if (!s->has_name || strcmp(e->name, s->name) > 0) {
		return 1;
	}
	s->cookie = e->cookie;
	return 0;
}

/* The handle's cookie for a position that came from another handle, or from long ago. */
static int search_cookie(struct handle *h, uint64_t position, uint64_t *cookie)
{
	struct search s = {.dots = position == LISTING_DOT ? 1 : 2};
	int err;

	s.has_name = listing_name(h->listing, position, s.name);
	if (!s.has_name && position > LISTING_DOT_DOT)
		return -EINVAL;
	err = kvfs_dir_read(h->dir, 0, false, pass_over, &s);
	if (!err)
		*cookie = s.cookie;
	return err;
}

static int cookie_of(struct kvfsd *d, struct handle *h, uint64_t position, uint64_t *cookie)
{
	struct mark mark;

	if (position == LISTING_START) {
		/* Back at the start after a seek, somebody may go to an old position yet. */
		if (!h->used || (h->whole && h->ended))
			listing_restart(&d->listings, h->listing);
		h->used = true;
		h->whole = true;
		h->ended = false;
		*cookie = 0;
		return 0;
	}
	h->whole = h->whole && position == h->next;
	for (size_t at = h->marks.len; at > 0; at -= sizeof(mark)) {
		memcpy(&mark, h->marks.data + at - sizeof(mark), sizeof(mark));
		if (mark.position == position) {
			*cookie = mark.cookie;
			return 0;
		}
	}
	return search_cookie(h, position, cookie);
}

/* ---- answers ---- */

struct taken {
	struct kvfs_node *node;
};

struct answer {
	fuse_req_t req;
	struct handle *handle;
	uint64_t before; /* position of the last entry, which may not have fitted in */
	char *buf;
	size_t size, used;
	struct kv_buf nodes; /* struct taken: handed out so far */
	fuse_ino_t dir_id;
};

/* The entry's position, remembered for the next request. */
static int mark_entry(struct answer *a, const struct kvfs_dirent *e, uint64_t *position)
{
	struct mark mark = {.cookie = e->cookie};
	int err = 0;

	if (is_dot(e->name))
		mark.position = e->name[1] ? LISTING_DOT_DOT : LISTING_DOT;
	else
		err = listing_position(a->handle->listing, e->name, a->before, &mark.position);
	if (!err)
		err = buf_append(&a->handle->marks, &mark, sizeof(mark));
	if (!err) {
		a->before = mark.position;
		*position = mark.position;
	}
	return err;
}

/* The entry does not fit in: it was not returned, and its cookie means nothing yet. */
static int refuse_entry(struct answer *a)
{
	a->handle->marks.len -= sizeof(struct mark);
	return 1;
}

static int emit_name(void *ctx, const struct kvfs_dirent *e)
{
	struct answer *a = ctx;
	struct stat st = {.st_ino = reply_ino(op_daemon(a->req), a->dir_id, e->ino),
			  .st_mode = e->type};
	size_t room = a->size - a->used;
	uint64_t position;
	size_t need;

	if (mark_entry(a, e, &position))
		return 1;
	need = fuse_add_direntry(a->req, a->buf + a->used, room, e->name, &st, (off_t)position);
	if (need > room)
		return refuse_entry(a);
	a->used += need;
	a->handle->next = position;
	return 0;
}

static int emit_plus(void *ctx, const struct kvfs_dirent *e)
{
	struct answer *a = ctx;
	struct fuse_entry_param entry = {
		.attr = {.st_ino = reply_ino(op_daemon(a->req), a->dir_id, e->ino),
			 .st_mode = e->type}};
	size_t room = a->size - a->used;
	struct taken taken = {e->node};
	uint64_t position;
	size_t need;

	if (mark_entry(a, e, &position))
		return 1;
	if (e->node) {
		reply_fill_entry(a->req, a->dir_id, e->node, e->attr, &entry);
		if (buf_append(&a->nodes, &taken, sizeof(taken)))
			return refuse_entry(a);
	}
	need = fuse_add_direntry_plus(a->req, a->buf + a->used, room, e->name, &entry,
				      (off_t)position);
	if (need > room) {
		if (e->node)
			a->nodes.len -= sizeof(taken);
		return refuse_entry(a);
	}
	if (e->node)
		tree_ref(&op_daemon(a->req)->trees, entry.ino);
	a->used += need;
	a->handle->next = position;
	return 0;
}

static void forget_all(const struct answer *a)
{
	struct taken taken;

	for (size_t at = 0; at < a->nodes.len; at += sizeof(taken)) {
		memcpy(&taken, a->nodes.data + at, sizeof(taken));
		op_forget_node(op_daemon(a->req), tree_id(a->dir_id, kvfs_node_ino(taken.node)), 1);
	}
}

static int fill(struct answer *a, uint64_t position, bool plus)
{
	struct handle *h = a->handle;
	struct mark mark = {.position = position};
	int err;

	err = cookie_of(op_daemon(a->req), h, position, &mark.cookie);
	if (err)
		return err;
	a->before = position;
	buf_clear(&h->marks);
	err = buf_append(&h->marks, &mark, sizeof(mark)); /* the same may be asked for again */
	if (err)
		return err;
	h->next = position;
	err = kvfs_dir_read(h->dir, mark.cookie, plus, plus ? emit_plus : emit_name, a);
	h->ended = !err && !a->used;
	return err;
}

/* The handle says which directory is meant. */
static void list(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct kvfsd *d = op_daemon(req);
	struct handle *h = handle_take(&d->handles, &op_files, fi->fh);
	struct answer a = {.req = req, .handle = h, .size = min_u64(size, LIST_BYTES_MAX)};
	int err;

	if (!h) {
		fuse_reply_err(req, EBADF);
		return;
	}
	a.dir_id = h->ino;
	a.buf = malloc(a.size ? a.size : 1);
	err = a.buf ? fill(&a, (uint64_t)off, plus) : -ENOMEM;
	if (err)
		reply_damage(d, kvfs_node_by_ino(op_fs(req, h->ino), tree_ino(h->ino)), err);
	handle_put(&d->handles, fi->fh); /* the next request may come with the answer */
	/* What came before a damaged entry is answered; the error is for the next call. */
	if (err && a.used == 0)
		fuse_reply_err(req, reply_errno(err));
	else if (fuse_reply_buf(req, a.buf, a.used))
		forget_all(&a);
	kv_buf_free(&a.nodes);
	free(a.buf);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	(void)ino;
	list(req, size, off, fi, true);
}
