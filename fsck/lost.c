/* SPDX-License-Identifier: MIT */
/*
 * Names the files whose contents a finding of the engine concerns. Directories
 * are visited breadth first through libkvfs, read-only; one that cannot be read
 * is left out, because it is reported as damaged itself.
 */
#include "fsck/lost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvcore/base/buf.h"

void lost_fini(struct lost *l)
{
	free(l->ranges);
}

void lost_note(struct lost *l, const struct kv_problem *p)
{
	struct lost_range range = {0, UINT64_MAX, false};
	enum kvfs_damage_kind kind = kvfs_damage_id(p->keyspace, p->from, &range.from);

	if (kind == KVFS_DAMAGE_OTHER)
		return;
	range.contents = kind == KVFS_DAMAGE_CONTENTS;
	if (p->to.len)
		(void)kvfs_damage_id(p->keyspace, p->to, &range.to);
	if (p->id != KV_PROBLEM_TABLE_PAGE && p->id != KV_PROBLEM_VALUE &&
	    p->id != KV_PROBLEM_VALUE_DANGLING && p->id != KV_PROBLEM_LOG_HOLE)
		return;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct lost_range *r = realloc(l->ranges, cap * sizeof(*r));

		if (!r) {
			l->incomplete = true;
			return;
		}
		l->ranges = r;
		l->cap = cap;
	}
	l->ranges[l->count++] = range;
}

static bool is_lost(const struct lost *l, uint64_t ino, uint64_t contents)
{
	for (size_t i = 0; i < l->count; i++) {
		uint64_t id = l->ranges[i].contents ? contents : ino;

		if (id >= l->ranges[i].from && id <= l->ranges[i].to)
			return true;
	}
	return false;
}

void lost_print_key(unsigned keyspace, struct kv_slice key)
{
	struct kv_buf text = {0};

	if (!kvfs_damage_text(keyspace, key, &text))
		printf("%.*s", (int)text.len, (const char *)text.data);
	kv_buf_free(&text);
}

/* ---- the walk ------------------------------------------------------------------ */

/* A directory to be visited. */
struct stop {
	struct kvfs_node *node;
	char *path; /* heap; "" is the root */
};

/* An entry of the directory at hand. */
struct entry {
	struct kvfs_node *node;
	char *name; /* heap */
};

struct walk {
	const struct lost *lost;
	struct kvfs *fs;
	struct stop *stops; /* a queue that only grows */
	size_t count, cap;
	const char *path; /* of the directory at hand */
	struct entry *entries;
	size_t entry_count, entry_cap;
};

static bool push(struct walk *w, struct kvfs_node *node, char *path)
{
	if (w->count == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct stop *s = realloc(w->stops, cap * sizeof(*s));

		if (!s)
			return false;
		w->stops = s;
		w->cap = cap;
	}
	w->stops[w->count++] = (struct stop){node, path};
	return true;
}

static void print_file(const char *path, const char *name)
{
	struct kv_buf text = {0};

	if (!buf_append_escaped(&text, kv_slice_of(path, strlen(path))) &&
	    !buf_append_byte(&text, '/') &&
	    !buf_append_escaped(&text, kv_slice_of(name, strlen(name))))
		printf("file %.*s: some of it is lost or older than it was\n", (int)text.len,
		       (const char *)text.data);
	kv_buf_free(&text);
}

/* Takes the node over; false: without memory. */
static bool keep_entry(struct walk *w, struct kvfs_node *node, const char *name)
{
	char *copy = strdup(name);

	if (copy && w->entry_count == w->entry_cap) {
		size_t cap = w->entry_cap ? 2 * w->entry_cap : 64;
		struct entry *e = realloc(w->entries, cap * sizeof(*e));

		if (e) {
			w->entries = e;
			w->entry_cap = cap;
		}
	}
	if (!copy || w->entry_count == w->entry_cap) {
		free(copy);
		return false;
	}
	w->entries[w->entry_count++] = (struct entry){node, copy};
	return true;
}

/* The directory is being read meanwhile: nothing can be asked about what is found. */
static int visit(void *ctx, const struct kvfs_dirent *e)
{
	struct walk *w = ctx;
	char *path = NULL;

	if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return 0;
	if (S_ISDIR(e->type) && e->node && asprintf(&path, "%s/%s", w->path, e->name) >= 0) {
		if (push(w, e->node, path))
			return 0;
		free(path);
	}
	if (!S_ISDIR(e->type) && e->node && keep_entry(w, e->node, e->name))
		return 0;
	if (!S_ISDIR(e->type) && is_lost(w->lost, e->ino, e->ino))
		print_file(w->path, e->name);
	if (e->node)
		kvfs_node_forget(w->fs, e->node, 1);
	return 0;
}

static void judge_entries(struct walk *w)
{
	for (size_t i = 0; i < w->entry_count; i++) {
		struct entry *e = &w->entries[i];
		uint64_t ino = kvfs_node_ino(e->node), contents;

		if (kvfs_node_contents(w->fs, e->node, &contents))
			contents = ino;
		if (is_lost(w->lost, ino, contents))
			print_file(w->path, e->name);
		kvfs_node_forget(w->fs, e->node, 1);
		free(e->name);
	}
	w->entry_count = 0;
}

static void visit_directory(struct walk *w, const struct stop *stop)
{
	struct kvfs_dir *dir;

	w->path = stop->path;
	if (kvfs_dir_open(w->fs, stop->node, &dir))
		return;
	(void)!kvfs_dir_read(dir, 0, true, visit, w);
	kvfs_dir_close(dir);
	judge_entries(w);
}

int lost_print(const struct lost *l, const char *volume)
{
	struct kvfs_options options = {.flags = KVFS_RDONLY};
	struct walk w = {.lost = l};
	char *root;
	int err;

	if (!l->count)
		return 0;
	err = kvfs_open(volume, &options, &w.fs);
	if (err)
		return err;
	root = strdup("");
	if (root && !push(&w, kvfs_root(w.fs), root))
		free(root);
	for (size_t i = 0; i < w.count; i++) {
		struct stop stop = w.stops[i];

		visit_directory(&w, &stop);
		if (i)
			kvfs_node_forget(w.fs, stop.node, 1);
		free(stop.path);
	}
	free(w.stops);
	free(w.entries);
	if (l->incomplete)
		puts("there are more such files than could be remembered");
	return kvfs_close(w.fs);
}
