/* SPDX-License-Identifier: MIT */
/*
 * The search. What is at a path in a state is found by reading some keys, and stays the same as
 * long as these keys do. So the oldest state is looked at, and then every
 * state that begins with a new version of a key that was read in any of them; until there are no
 * more, every change has been met. States between need no look, and are never counted.
 *
 * It holds nothing, so states may go meanwhile: then it begins again.
 */
#include "fusefs/model/versions.h"

#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/snapshot.h"
#include "fusefs/model/state.h"
#include "kvcore/base/buf.h"

#define VERSIONS_TRIES 8U

static size_t versions_snapshot_count(const struct kvfs_versions *v)
{
	return v->snapshots.len / sizeof(struct versions_snapshot);
}

/* The first one at or after @seq, or their number. */
static size_t versions_find_snapshot(const struct kvfs_versions *v, kv_seq seq)
{
	const struct versions_snapshot *all = (const void *)v->snapshots.data;
	size_t low = 0, high = versions_snapshot_count(v), middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (all[middle].seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

kv_seq versions_kept(const struct kvfs_versions *v, kv_seq seq)
{
	const struct versions_snapshot *all = (const void *)v->snapshots.data;
	size_t i = versions_find_snapshot(v, seq);
	kv_seq best = i < versions_snapshot_count(v) ? all[i].seq : KV_SEQ_MAX;

	if (v->history && seq <= v->newest)
		best = min_u64(best, max_u64(seq, v->from));
	return best;
}

const struct versions_snapshot *versions_snapshot(const struct kvfs_versions *v, kv_seq state)
{
	const struct versions_snapshot *all = (const void *)v->snapshots.data;
	size_t i = versions_find_snapshot(v, state);

	return i < versions_snapshot_count(v) && all[i].seq == state ? &all[i] : NULL;
}

/* ---- which states there are ------------------------------------------------------------------ */

/* What the snapshot is of is the path or above it. */
static bool versions_is_below(const struct kvfs_versions *v, struct kv_slice top, size_t *skip)
{
	struct kv_slice path = kv_buf_slice(&v->path);

	*skip = 0;
	if (!top.len)
		return true;
	*skip = top.len + (path.len > top.len);
	return slice_has_prefix(path, top) && (path.len == top.len || !path.data[top.len]);
}

static int versions_add_snapshot(struct kvfs_versions *v, const struct kv_snapshot_info *info)
{
	struct versions_snapshot one = {.seq = info->seq};
	struct kv_txn_options options = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *snapshot = NULL;
	struct kv_txn *txn = NULL;
	struct kv_buf top = {0};
	int err;

	if (kvfs_snapshot_check_name(info->name))
		return 0; /* made by no mount */
	memcpy(one.name, info->name, strlen(info->name));
	err = kv_snapshot_open(v->fs->db, info->name, &snapshot);
	options.snapshot = snapshot;
	if (!err)
		err = kv_txn_begin(v->fs->db, &options, &txn);
	if (!err)
		err = snapshot_top(txn, info->name, &top);
	if (!err && versions_is_below(v, kv_buf_slice(&top), &one.skip))
		err = buf_append(&v->snapshots, &one, sizeof(one));
	kv_txn_abort(txn);
	kv_snapshot_release(snapshot);
	kv_buf_free(&top);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int versions_compare_snapshots(const void *a, const void *b)
{
	const struct versions_snapshot *x = a, *y = b;

	return x->seq != y->seq ? (x->seq < y->seq ? -1 : 1) : strcmp(x->name, y->name);
}

static int versions_find_states(struct kvfs_versions *v)
{
	struct kv_snapshot_info *list = NULL;
	struct kv_history_info info;
	size_t count = 0;
	int err = kv_snapshot_list(v->fs->db, &list, &count);

	for (size_t i = 0; !err && i < count; i++)
		err = versions_add_snapshot(v, &list[i]);
	free(list);
	if (v->snapshots.len)
		qsort(v->snapshots.data, versions_snapshot_count(v),
		      sizeof(struct versions_snapshot), versions_compare_snapshots);
	kv_history_get(v->fs->db, &info);
	v->history = info.begun;
	v->from = info.from;
	v->newest = info.newest;
	return err;
}

/* ---- the search ------------------------------------------------------------------------------ */

static int versions_compare_marks(const void *a, const void *b)
{
	const struct versions_mark *x = a, *y = b;

	if (x->state != y->state)
		return x->state < y->state ? -1 : 1;
	return (x->content > y->content) - (x->content < y->content);
}

static int versions_compare_states(const void *a, const void *b)
{
	const struct versions_seen *x = a, *y = b;

	return (x->state > y->state) - (x->state < y->state);
}

/* In order, each once. */
static size_t versions_sort_marks(struct kvfs_versions *v)
{
	struct versions_mark *marks = (void *)v->marks.data;
	size_t count = v->marks.len / sizeof(*marks), kept = 0;

	if (count)
		qsort(marks, count, sizeof(*marks), versions_compare_marks);
	for (size_t i = 0; i < count; i++)
		if (!kept || versions_compare_marks(&marks[kept - 1], &marks[i]) != 0)
			marks[kept++] = marks[i];
	v->marks.len = kept * sizeof(*marks);
	return kept;
}

/* The states that are marked and were not looked at, rising. */
static int versions_list_new(struct kvfs_versions *v, struct kv_buf *out)
{
	size_t count = versions_sort_marks(v), seen = versions_count(&v->seen), at = 0;
	kv_seq last = KV_SEQ_MAX;
	int err = 0;

	if (seen)
		qsort(v->seen.data, seen, sizeof(struct versions_seen), versions_compare_states);
	buf_clear(out);
	for (size_t i = 0; !err && i < count; i++) {
		kv_seq state = ((const struct versions_mark *)(const void *)v->marks.data)[i].state;

		while (at < seen && versions_at(&v->seen, at)->state < state)
			at++;
		if (state == last || (at < seen && versions_at(&v->seen, at)->state == state))
			continue;
		last = state;
		err = buf_append(out, &state, sizeof(state));
	}
	return err;
}

static int versions_search(struct kvfs_versions *v)
{
	struct versions_mark oldest;
	struct kv_buf found = {0};
	int err = versions_find_states(v);

	oldest = (struct versions_mark){.state = versions_kept(v, 0)};
	if (!err && oldest.state != KV_SEQ_MAX)
		err = buf_append(&v->marks, &oldest, sizeof(oldest));
	while (!err) {
		err = versions_list_new(v, &found);
		if (err || !found.len)
			break;
		for (size_t i = 0; !err && i < found.len / sizeof(kv_seq); i++)
			err = versions_look(v, ((const kv_seq *)(const void *)found.data)[i]);
	}
	kv_buf_free(&found);
	return err;
}

/* ---- versions of a file ---------------------------------------------------------------------- */

static bool versions_is_marked(const struct kvfs_versions *v, kv_seq state, uint64_t content)
{
	const struct versions_mark mark = {state, content};

	return content && v->marks.len &&
	       bsearch(&mark, v->marks.data, v->marks.len / sizeof(mark), sizeof(mark),
		       versions_compare_marks);
}

static int versions_compare_times(struct kvfs_time a, struct kvfs_time b)
{
	if (a.sec != b.sec)
		return a.sec < b.sec ? -1 : 1;
	return (a.nsec > b.nsec) - (a.nsec < b.nsec);
}

static bool versions_is_same(const struct versions_seen *a, const struct versions_seen *b)
{
	return !versions_compare_times(a->attr.ctime, b->attr.ctime) &&
	       !versions_compare_times(a->attr.mtime, b->attr.mtime) &&
	       a->attr.size == b->attr.size && a->attr.mode == b->attr.mode;
}

static int versions_compare_files(const void *a, const void *b)
{
	const struct versions_seen *x = a, *y = b;
	int c = versions_compare_times(x->attr.ctime, y->attr.ctime);

	return c ? c : versions_compare_states(a, b);
}

static int versions_name(struct kvfs_versions *v, struct versions_seen *f, unsigned twin)
{
	time_t seconds = (time_t)f->attr.ctime.sec;
	char when[32] = "";
	struct tm tm;
	int err;

	if (gmtime_r(&seconds, &tm))
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	f->name = v->text.len;
	err = buf_printf(&v->text, "%s.%09uZ", when, (unsigned)f->attr.ctime.nsec);
	if (!err && twin > 1)
		err = buf_printf(&v->text, ".%u", twin);
	return err ? err : buf_append_byte(&v->text, 0);
}

static int versions_list_files(struct kvfs_versions *v)
{
	const struct versions_seen *before = NULL;
	unsigned twin = 0;
	int err = 0;

	for (size_t i = 0; !err && i < versions_count(&v->seen); i++) {
		struct versions_seen *f = versions_at(&v->seen, i);

		if (f->kind != VERSIONS_FILE)
			continue;
		f->first = i;
		if (!before || !versions_is_same(before, f) ||
		    versions_is_marked(v, f->state, f->content))
			err = buf_append(&v->files, f, sizeof(*f));
		if (!err)
			versions_at(&v->files, versions_count(&v->files) - 1)->last = i;
		before = f;
	}
	if (v->files.len)
		qsort(v->files.data, versions_count(&v->files), sizeof(struct versions_seen),
		      versions_compare_files);
	for (size_t i = 0; !err && i < versions_count(&v->files); i++) {
		struct versions_seen *f = versions_at(&v->files, i);

		twin = i && !versions_compare_times(f[-1].attr.ctime, f->attr.ctime) ? twin + 1 : 1;
		err = versions_name(v, f, twin);
	}
	return err;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int versions_set_path(struct kvfs_versions *v, struct kv_slice path)
{
	size_t start = 0;
	int err = buf_assign(&v->path, path);

	for (size_t i = 0; !err && path.len && i <= path.len; i++) {
		if (i < path.len && path.data[i] != '/')
			continue;
		err = place_check_name(kv_slice_of(path.data + start, i - start));
		if (!err && i < path.len)
			v->path.data[i] = 0;
		start = i + 1;
	}
	return err;
}

static void versions_clear(struct kvfs_versions *v)
{
	buf_clear(&v->snapshots);
	buf_clear(&v->marks);
	buf_clear(&v->keys);
	buf_clear(&v->seen);
	buf_clear(&v->gates);
	buf_clear(&v->text);
}

int kvfs_versions_open(struct kvfs *fs, struct kv_slice path, struct kvfs_versions **out)
{
	struct kvfs_versions *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	v->fs = fs;
	err = versions_set_path(v, path);
	if (!err)
		err = state_flush_times(fs);
	for (unsigned i = 0; !err && i < VERSIONS_TRIES; i++) {
		versions_clear(v);
		err = versions_search(v);
		if (err != -KV_E_GONE)
			break;
		if (i + 1 < VERSIONS_TRIES)
			err = 0;
	}
	if (!err)
		err = versions_list_files(v);
	if (err)
		kvfs_versions_close(v);
	else
		*out = v;
	return err;
}

void kvfs_versions_close(struct kvfs_versions *v)
{
	if (!v)
		return;
	kv_buf_free(&v->path);
	kv_buf_free(&v->snapshots);
	kv_buf_free(&v->marks);
	kv_buf_free(&v->keys);
	kv_buf_free(&v->seen);
	kv_buf_free(&v->files);
	kv_buf_free(&v->gates);
	kv_buf_free(&v->text);
	free(v);
}
