/* SPDX-License-Identifier: MIT */
/*
 * Depth first through lookups by name, as a program would go. Times of access are left out: reading
 * changes them.
 */
#include "tests/support/tree_picture.h"

#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

#define PIECE 100000U /* bytes of a read: over the boundaries of chunks */

struct names {
	char **name;
	size_t count;
};

struct walk {
	struct kvfs *fs;
	struct tree_picture *out;
};

static bool is_damage(int err)
{
	return err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM || err == -EIO;
}

static void item_add(struct tree_picture *p, const char *path, const struct kv_buf *line,
		     uint64_t ino, bool lost)
{
	struct tree_item *i;

	if (p->count == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 64;
		p->items = realloc(p->items, p->cap * sizeof(*p->items));
		ck_assert_ptr_nonnull(p->items);
	}
	i = &p->items[p->count++];
	i->path = strdup(path);
	i->line = strndup((const char *)line->data, line->len);
	i->ino = ino;
	i->lost = lost;
	ck_assert(i->path && i->line);
}

/* Appends the hash of what was read. Return: whether all of it could be. */
static bool note(struct kv_buf *line, const char *what, int err, struct kv_slice bytes)
{
	ck_assert_msg(!err || is_damage(err), "%s: %s", what, kv_strerror(err));
	ck_assert_int_eq(buf_printf(line, " %s=", what), 0);
	if (err)
		ck_assert_int_eq(buf_printf(line, "?"), 0);
	else
		ck_assert_int_eq(buf_printf(line, "%zu:%016llx", bytes.len,
					    (unsigned long long)hash_bytes(bytes, 1)),
				 0);
	return !err;
}

static bool note_contents(struct walk *w, struct kvfs_node *n, const struct kvfs_attr *a,
			  struct kv_buf *line)
{
	struct kv_buf bytes = {0};
	bool whole = true;
	int err;

	if (S_ISLNK(a->mode)) {
		err = kvfs_readlink(w->fs, n, &bytes);
		whole = note(line, "target", err, kv_buf_slice(&bytes));
	}
	for (uint64_t off = 0; S_ISREG(a->mode) && off < a->size; off += PIECE) {
		err = kvfs_read(w->fs, n, off, PIECE, &bytes);
		whole = note(line, "data", err, kv_buf_slice(&bytes)) && whole;
	}
	kv_buf_free(&bytes);
	return whole;
}

static bool note_xattrs(struct walk *w, struct kvfs_node *n, struct kv_buf *line)
{
	struct kv_buf names = {0};
	struct kv_buf value = {0};
	bool whole = true;
	int err = kvfs_listxattr(w->fs, n, &names);

	whole = note(line, "xattrs", err, kv_buf_slice(&names));
	for (size_t at = 0; !err && at < names.len;) {
		const char *name = (const char *)names.data + at;
		int got = kvfs_getxattr(w->fs, n, name, &value);

		whole = note(line, name, got, kv_buf_slice(&value)) && whole;
		at += strlen(name) + 1;
	}
	kv_buf_free(&names);
	kv_buf_free(&value);
	return whole;
}

static int list_name(void *ctx, const struct kvfs_dirent *e)
{
	struct names *n = ctx;

	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return 0;
	n->name = realloc(n->name, (n->count + 1) * sizeof(*n->name));
	ck_assert_ptr_nonnull(n->name);
	n->name[n->count] = strdup(e->name);
	ck_assert_ptr_nonnull(n->name[n->count]);
	n->count++;
	return 0;
}

static bool list(struct walk *w, struct kvfs_node *n, struct names *out)
{
	struct kvfs_dir *dir;
	int err = kvfs_dir_open(w->fs, n, &dir);

	if (!err) {
		err = kvfs_dir_read(dir, 0, false, list_name, out);
		kvfs_dir_close(dir);
	}
	ck_assert_msg(!err || is_damage(err), "readdir: %s", kv_strerror(err));
	return !err;
}

static void visit(struct walk *w, struct kvfs_node *n, const char *path);

static void visit_name(struct walk *w, struct kvfs_node *dir, const char *path, const char *name)
{
	const struct kv_buf none = {0};
	struct kvfs_node *n;
	char below[4096];
	int err;

	snprintf(below, sizeof(below), "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
		 name);
	err = kvfs_lookup(w->fs, dir, name, &n, NULL);
	if (err) {
		/* It was listed, so only damage can hide it. */
		ck_assert_msg(is_damage(err), "%s: %s", below, kv_strerror(err));
		item_add(w->out, below, &none, 0, true);
		return;
	}
	visit(w, n, below);
	kvfs_node_forget(w->fs, n, 1);
}

static void visit(struct walk *w, struct kvfs_node *n, const char *path)
{
	struct kv_buf line = {0};
	struct names names = {0};
	struct kvfs_attr a;
	bool whole;
	int err = kvfs_getattr(w->fs, n, &a);

	if (err) {
		ck_assert_msg(is_damage(err), "%s: %s", path, kv_strerror(err));
		item_add(w->out, path, &line, 0, true);
		return;
	}
	ck_assert_int_eq(buf_printf(&line, "%o %u %u:%u %llu %lld.%09u", a.mode, a.nlink, a.uid,
				    a.gid, (unsigned long long)a.size, (long long)a.mtime.sec,
				    a.mtime.nsec),
			 0);
	whole = note_contents(w, n, &a, &line);
	whole = note_xattrs(w, n, &line) && whole;
	if (S_ISDIR(a.mode))
		whole = list(w, n, &names) && whole;
	item_add(w->out, path, &line, a.ino, !whole);
	for (size_t i = 0; i < names.count; i++) {
		visit_name(w, n, path, names.name[i]);
		free(names.name[i]);
	}
	free(names.name);
	kv_buf_free(&line);
}

static int item_compare(const void *a, const void *b)
{
	const struct tree_item *x = a;
	const struct tree_item *y = b;

	return strcmp(x->path, y->path);
}

void tree_picture_take(struct kvfs *fs, const char *const *names, struct tree_picture *out)
{
	const struct kv_buf none = {0};
	struct walk w = {.fs = fs, .out = out};
	char path[300];

	memset(out, 0, sizeof(*out));
	visit(&w, kvfs_root(fs), "/");
	for (; *names; names++) {
		int err = kvfs_open_snapshot(fs, *names, &w.fs);

		snprintf(path, sizeof(path), "@%s", *names);
		if (is_damage(err)) {
			item_add(out, path, &none, 0, true);
		} else if (err != -KV_E_NOTFOUND) {
			ck_assert_int_eq(err, 0);
			visit(&w, kvfs_root(w.fs), path);
			ck_assert_int_eq(kvfs_close(w.fs), 0);
		}
	}
	qsort(out->items, out->count, sizeof(*out->items), item_compare);
}

void tree_picture_free(struct tree_picture *p)
{
	for (size_t i = 0; i < p->count; i++) {
		free(p->items[i].path);
		free(p->items[i].line);
	}
	free(p->items);
	memset(p, 0, sizeof(*p));
}

const struct tree_item *tree_picture_find(const struct tree_picture *p, const char *path)
{
	struct tree_item key = {.path = (char *)(uintptr_t)path};

	if (!p->count)
		return NULL;
	return bsearch(&key, p->items, p->count, sizeof(*p->items), item_compare);
}

/* Was a directory above @path unreadable? */
static bool below_lost(const struct tree_picture *p, const char *path)
{
	char above[4096];
	char *slash;

	snprintf(above, sizeof(above), "%s", path);
	while ((slash = strrchr(above, '/')) != NULL) {
		const struct tree_item *i;

		*slash = '\0';
		i = tree_picture_find(p, above[0] ? above : "/");
		if (i && i->lost)
			return true;
	}
	return false;
}

/* How an item of the tree that should be is found. */
static enum tree_match match(const struct tree_picture *have, const struct tree_item *want)
{
	const struct tree_item *h = tree_picture_find(have, want->path);

	if (!h)
		return below_lost(have, want->path) ? TREE_MARKED : TREE_OTHER;
	if (h->lost)
		return TREE_MARKED;
	return strcmp(h->line, want->line) == 0 ? TREE_EQUAL : TREE_OTHER;
}

enum tree_match tree_picture_compare(const struct tree_picture *have,
				     const struct tree_picture *want,
				     bool (*excused)(void *ctx, const struct tree_item *item),
				     void *ctx, const char **first)
{
	enum tree_match worst = TREE_EQUAL;

	for (size_t i = 0; i < want->count; i++) {
		enum tree_match m = match(have, &want->items[i]);

		if (m == TREE_OTHER && excused && excused(ctx, &want->items[i]))
			m = TREE_MARKED;
		if (m == TREE_OTHER && first && worst != TREE_OTHER)
			*first = want->items[i].path;
		worst = m > worst ? m : worst;
	}
	for (size_t i = 0; i < have->count; i++) {
		const struct tree_item *h = &have->items[i];

		if (tree_picture_find(want, h->path))
			continue;
		if (excused && excused(ctx, h)) {
			worst = worst > TREE_MARKED ? worst : TREE_MARKED;
			continue;
		}
		if (first && worst != TREE_OTHER)
			*first = h->path;
		worst = TREE_OTHER;
	}
	return worst;
}
