/* SPDX-License-Identifier: MIT */
/*
 * What users are told of a difference: a line for each path, in order, with what happened
 * to it. A file that is at another path now was renamed, whatever else it is; what is
 * below a directory that was renamed goes with it. A file that took the place of another
 * is compared with it. Of a directory that came from outside of what is asked for, or
 * went there, everything below it is told.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/diff.h"
#include "fusefs/model/draft.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/node.h"
#include "fusefs/model/place.h"
#include "fusefs/model/state.h"
#include "fusefs/model/times.h"
#include "fusefs/model/walk.h"
#include "kvcore/base/buf.h"

/* Marks, beside the letters of enum kvfs_change_kind: something else is told of the path. */
enum { LIST_OLD = 'o', LIST_NEW = 'n', LIST_CAME = 'c', LIST_WENT = 'w' };

struct list_line {
	size_t path, path_len; /* in diff->text */
	size_t from, from_len; /* of KVFS_RENAMED */
	char kind;	       /* of enum kvfs_change_kind, or a mark */
};

struct list {
	struct diff *d;
	struct kv_buf base; /* below this; a path with a separator at its end, or empty */
	struct kv_buf lines;
	enum diff_side_id side; /* that is walked */
};

static int list_add(struct list *l, char kind, const struct diff_place *p,
		    const struct diff_place *from)
{
	struct list_line line = {.path = p->path, .path_len = p->path_len, .kind = kind};

	if (from) {
		line.from = from->path;
		line.from_len = from->path_len;
	}
	return buf_append(&l->lines, &line, sizeof(line));
}

static bool list_inside(const struct list *l, const struct diff_place *p)
{
	return p->id && slice_has_prefix(diff_path(l->d, p), kv_buf_slice(&l->base));
}

/* ---- comparing ---- */

static bool list_same_attributes(const struct list *l, const struct inode *a, const struct inode *b)
{
	return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
	       !((a->flags ^ b->flags) & MODEL_FLAGS_USER) && slice_equal(a->xattrs, b->xattrs) &&
	       !(a->id == b->id && diff_xattrs_differ(l->d, a->id));
}

/* 0 or the letter for what became of a file, whose type is the same. */
static int list_compare(struct list *l, const struct inode *a, const struct inode *b, char *kind)
{
	const struct diff_chunk *chunks = NULL;
	bool same = true;
	size_t count = 0;
	int err = 0;

	*kind = 0;
	if (a->id == b->id && diff_same_keys(a, b))
		chunks = diff_chunks(l->d, inode_content(a), &count);
	if ((a->mode & S_IFMT) == S_IFREG)
		err = diff_same_contents(l->d, a, b, chunks, count, &same);
	else if ((a->mode & S_IFMT) == S_IFLNK)
		same = slice_equal(a->contents, b->contents);
	else
		same = a->rdev == b->rdev;
	if (err)
		return err;
	if (!same)
		*kind = KVFS_MODIFIED;
	else if (!list_same_attributes(l, a, b) || (!inode_is_dir(a) && a->ctime != b->ctime))
		*kind = KVFS_ATTRIBUTES;
	return 0;
}

/* One file, at the places of two entries. */
static int list_same_file(struct list *l, const struct diff_entry *old,
			  const struct diff_entry *new)
{
	struct inode_buf a = {0}, b = {0};
	char kind = 0;
	int err;

	err = diff_load(l->d, DIFF_OLD, old, &a);
	if (!err)
		err = diff_load(l->d, DIFF_NEW, new, &b);
	if (!err)
		err = list_compare(l, &a.r, &b.r, &kind);
	/* A rename changes ctime by itself. */
	if (!err && kind == KVFS_ATTRIBUTES && old != new &&list_same_attributes(l, &a.r, &b.r))
		kind = 0;
	if (!err && kind)
		err = list_add(l, kind, &new->at[DIFF_NEW], NULL);
	inode_buf_free(&a);
	inode_buf_free(&b);
	return err;
}

/* One path, two files. */
static int list_replaced(struct list *l, const struct list_line *line, char *kind)
{
	struct kv_slice path = kv_slice_of(l->d->text.data + line->path, line->path_len);
	struct inode_buf a = {0}, b = {0};
	int err;

	err = state_find(l->d->side[DIFF_OLD].txn, path, &a);
	if (!err)
		err = state_find(l->d->side[DIFF_NEW].txn, path, &b);
	if (!err && (a.r.mode & S_IFMT) != (b.r.mode & S_IFMT))
		*kind = KVFS_OTHER_TYPE;
	else if (!err)
		err = list_compare(l, &a.r, &b.r, kind);
	inode_buf_free(&a);
	inode_buf_free(&b);
	return err;
}

/* ---- what there is to tell ---- */

static int list_visit(void *ctx, struct kv_txn *txn, struct kv_slice path, const struct inode *r)
{
	struct list *l = ctx;
	struct diff_place p = {.id = r->id, .path = l->d->text.len, .path_len = path.len};
	int err = buf_append_slice(&l->d->text, path);

	(void)txn;
	return err ? err : list_add(l, l->side == DIFF_OLD ? LIST_OLD : LIST_NEW, &p, NULL);
}

/* Everything below a directory, whose path has a separator at its end. */
static int list_walk(struct list *l, enum diff_side_id side, struct kv_slice dir)
{
	struct kv_buf copy = {0};
	struct walk w = {.visit = list_visit, .ctx = l};
	int err = buf_append_slice(&copy, dir);

	l->side = side;
	w.prefix = kv_buf_slice(&copy);
	if (!err)
		err = walk_run(l->d->side[side].txn, &w);
	kv_buf_free(&copy);
	return err;
}

/* A place that has no counterpart; @deep: what is below it has none either. */
static int list_lone(struct list *l, enum diff_side_id side, const struct diff_place *p, bool deep)
{
	struct kv_buf dir = {0};
	int err = list_add(l, side == DIFF_OLD ? LIST_OLD : LIST_NEW, p, NULL);

	if (!err && deep && (p->mode & S_IFMT) == S_IFDIR) {
		err = buf_append_slice(&dir, diff_path(l->d, p));
		if (!err)
			err = buf_append_byte(&dir, 0);
		if (!err)
			err = list_walk(l, side, kv_buf_slice(&dir));
		kv_buf_free(&dir);
	}
	return err;
}

/* What stood at an entry and does not any more. */
static int list_old(struct list *l, const struct diff_entry *e)
{
	const struct diff_place *p = &e->at[DIFF_OLD];
	const struct diff_entry *to = diff_partner(l->d, DIFF_OLD, e);

	if (!list_inside(l, p))
		return 0;
	if (!to || !list_inside(l, &to->at[DIFF_NEW]))
		return list_lone(l, DIFF_OLD, p, to != NULL);
	return list_add(l, LIST_WENT, p, NULL);
}

static int list_new(struct list *l, const struct diff_entry *e)
{
	const struct diff_place *p = &e->at[DIFF_NEW];
	const struct diff_entry *from = diff_partner(l->d, DIFF_NEW, e);
	int err;

	if (!list_inside(l, p))
		return 0;
	if (!from || !list_inside(l, &from->at[DIFF_OLD]))
		return list_lone(l, DIFF_NEW, p, from != NULL);
	err = list_add(l, LIST_CAME, p, NULL);
	if (!err)
		err = list_add(l, KVFS_RENAMED, p, &from->at[DIFF_OLD]);
	return err ? err : list_same_file(l, from, e);
}

static int list_entry(struct list *l, const struct diff_entry *e)
{
	int err = 0;

	if (diff_same_file(e))
		return list_inside(l, &e->at[DIFF_OLD]) && list_inside(l, &e->at[DIFF_NEW])
			       ? list_same_file(l, e, e)
			       : 0;
	if (e->at[DIFF_OLD].id)
		err = list_old(l, e);
	if (!err && e->at[DIFF_NEW].id)
		err = list_new(l, e);
	return err;
}

/* ---- telling ---- */

static int list_compare_lines(const void *a, const void *b, void *ctx)
{
	const struct list_line *x = a, *y = b;
	const uint8_t *text = ctx;
	int order = slice_compare(kv_slice_of(text + x->path, x->path_len),
				  kv_slice_of(text + y->path, y->path_len));

	return order ? order : x->kind < y->kind ? -1 : x->kind > y->kind;
}

static int list_emit(struct list *l, const struct list_line *line, char kind,
		     int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	struct kvfs_change change = {.kind = (enum kvfs_change_kind)kind};
	size_t skip = l->base.len;
	struct kv_buf copy = {0};
	int err;

	err = buf_append(&copy, l->d->text.data + line->path + skip, line->path_len - skip);
	if (!err && kind == KVFS_RENAMED)
		err = buf_append(&copy, l->d->text.data + line->from + skip, line->from_len - skip);
	for (size_t i = 0; i < copy.len; i++)
		if (!copy.data[i])
			copy.data[i] = '/';
	if (!err) {
		change.path = kv_slice_of(copy.data, line->path_len - skip);
		if (kind == KVFS_RENAMED)
			change.from =
				kv_slice_of(copy.data + change.path.len, line->from_len - skip);
		err = emit(ctx, &change);
	}
	kv_buf_free(&copy);
	return err;
}

/* All lines of one path. */
static int list_tell_path(struct list *l, const struct list_line *line, size_t count,
			  int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	bool has[256] = {false};
	char kind = 0;
	int err = 0;

	for (size_t i = 0; i < count; i++)
		has[(uint8_t)line[i].kind] = true;
	if (has[LIST_OLD] && has[LIST_NEW] && !has[LIST_CAME] && !has[LIST_WENT])
		err = list_replaced(l, line, &kind);
	else if (has[LIST_OLD] && !has[LIST_CAME] && !has[LIST_WENT])
		kind = KVFS_REMOVED;
	else if (has[LIST_NEW] && !has[LIST_CAME])
		kind = KVFS_ADDED;
	if (!err && kind)
		err = list_emit(l, line, kind, emit, ctx);
	for (size_t i = 0; !err && i < count; i++)
		if (line[i].kind == KVFS_RENAMED)
			err = list_emit(l, &line[i], KVFS_RENAMED, emit, ctx);
	if (!err && (has[KVFS_MODIFIED] || has[KVFS_ATTRIBUTES]))
		err = list_emit(l, line, has[KVFS_MODIFIED] ? KVFS_MODIFIED : KVFS_ATTRIBUTES, emit,
				ctx);
	return err;
}

static int list_tell(struct list *l, int (*emit)(void *ctx, const struct kvfs_change *change),
		     void *ctx)
{
	struct list_line *lines = (struct list_line *)(void *)l->lines.data;
	size_t count = l->lines.len / sizeof(*lines), end;
	const uint8_t *text = l->d->text.data;
	int err = 0;

	if (count)
		qsort_r(lines, count, sizeof(*lines), list_compare_lines, l->d->text.data);
	for (size_t i = 0; !err && i < count; i = end) {
		for (end = i + 1; end < count; end++)
			if (!slice_equal(kv_slice_of(text + lines[i].path, lines[i].path_len),
					 kv_slice_of(text + lines[end].path, lines[end].path_len)))
				break;
		err = list_tell_path(l, lines + i, end - i, emit, ctx);
	}
	return err > 0 ? 0 : err;
}

/* ---- the whole ---- */

/* Whether the base is one directory in both states. */
static int list_base(struct list *l, struct kv_slice below, bool *same)
{
	struct inode_buf rec = {0};
	uint64_t id[DIFF_SIDES] = {0};
	int err = 0;

	*same = true;
	if (!below.len)
		return 0;
	err = buf_append_slice(&l->base, below);
	for (size_t i = 0; i < l->base.len; i++)
		if (l->base.data[i] == '/')
			l->base.data[i] = 0;
	for (int side = 0; !err && side < DIFF_SIDES; side++) {
		err = state_find(l->d->side[side].txn, kv_buf_slice(&l->base), &rec);
		if (!err && !inode_is_dir(&rec.r))
			err = -ENOTDIR;
		id[side] = rec.r.id;
	}
	inode_buf_free(&rec);
	*same = id[DIFF_OLD] == id[DIFF_NEW];
	return err ? err : buf_append_byte(&l->base, 0);
}

static int list_run(struct list *l, struct kv_slice below,
		    int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	bool same;
	int err = list_base(l, below, &same);

	for (size_t i = 0; !err && same && i < diff_count(l->d); i++)
		err = list_entry(l, diff_at(l->d, i));
	for (int side = 0; !err && !same && side < DIFF_SIDES; side++)
		err = list_walk(l, (enum diff_side_id)side, kv_buf_slice(&l->base));
	return err ? err : list_tell(l, emit, ctx);
}

static int list_and_free(struct diff *d, struct kv_slice below,
			 int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	struct list l = {.d = d};
	int err = list_run(&l, below, emit, ctx);

	kv_buf_free(&l.base);
	kv_buf_free(&l.lines);
	return err;
}

int kvfs_diff(struct kvfs *fs, const char *before, const char *after, struct kv_slice below,
	      int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	struct state a = {0}, b = {0};
	struct diff d = {0};
	int err;

	err = state_open(fs, before, &a);
	if (!err)
		err = state_open(fs, after, &b);
	if (!err)
		err = diff_init(&d, fs, a.txn, b.txn);
	if (!err)
		err = list_and_free(&d, below, emit, ctx);
	diff_fini(&d);
	state_close(&a);
	state_close(&b);
	return err;
}

/* The draft's transaction is the caller's. */
static int list_draft(struct kvfs *draft, struct kv_txn *txn, struct kv_slice below,
		      int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	const struct kv_txn_options options = {.flags = KV_TXN_RDONLY, .snapshot = draft->snapshot};
	struct diff d = {0};
	struct kv_txn *then;
	int err = kv_txn_begin(draft->db, &options, &then);

	if (err)
		return err;
	err = kv_txn_watch_reads(txn, false);
	if (!err) {
		err = diff_init_writes(&d, draft, then, txn);
		if (!err)
			err = list_and_free(&d, below, emit, ctx);
		(void)!kv_txn_watch_reads(txn, true); /* it was possible before */
	}
	diff_fini(&d);
	kv_txn_abort(then);
	return err;
}

int kvfs_draft_diff(struct kvfs *draft, struct kv_slice below,
		    int (*emit)(void *ctx, const struct kvfs_change *change), void *ctx)
{
	struct kv_txn *txn;
	int err;

	os_rwlock_rdlock(&draft->ns);
	err = draft_begin_read(draft, &txn);
	if (!err) {
		err = list_draft(draft, txn, below, emit, ctx);
		draft_end_read(draft);
	}
	os_rwlock_rdunlock(&draft->ns);
	return err;
}
