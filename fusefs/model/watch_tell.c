/* SPDX-License-Identifier: MIT */
/*
 * From what stood at names, and stands, to events: first what is gone, the deepest
 * first, then what came and what changed, directories before what is in them.
 */
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/watch.h"
#include "kvcore/base/buf.h"

static bool watch_inside(const struct kvfs_watch *w, struct kv_slice path)
{
	struct kv_slice below = kv_buf_slice(&w->below);

	if (!below.len)
		return true;
	if (!path.data || !slice_has_prefix(path, below))
		return false;
	return path.len == below.len || path.data[below.len] == '/';
}

static int watch_emit(struct kvfs_watch *w, enum kvfs_event_kind kind, struct kv_slice path,
		      struct kv_slice from)
{
	if (!watch_inside(w, path) && !watch_inside(w, from))
		return 0;
	w->event.kind = kind;
	w->event.path = path;
	w->event.from = from;
	return w->emit(w->ctx, &w->event);
}

static int watch_emit_changes(struct kvfs_watch *w, unsigned changes, struct kv_slice path)
{
	static const struct {
		unsigned change;
		enum kvfs_event_kind kind;
	} kinds[] = {
		{WATCH_TRUNCATED, KVFS_EVENT_TRUNCATED},
		{WATCH_WRITTEN, KVFS_EVENT_WRITTEN},
		{WATCH_ATTRIBUTES, KVFS_EVENT_ATTRIBUTES},
		{WATCH_XATTR, KVFS_EVENT_XATTR},
	};
	int err = 0;

	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(kinds); i++)
		if (changes & kinds[i].change)
			err = watch_emit(w, kinds[i].kind, path, kv_slice_of(NULL, 0));
	return err;
}

/* The path of a key after the commit, in w->path. */
static int watch_path(struct kvfs_watch *w, struct kv_slice key)
{
	return watch_index_path(&w->index, w->txn[DIFF_NEW], key, &w->path);
}

/* ---- names ------------------------------------------------------------------------------- */

/* Did file @id go away from a name? */
static bool watch_went(const struct kvfs_watch *w, uint64_t id)
{
	size_t i = diff_search_refs(&w->went, id);

	return i < diff_ref_count(&w->went) && diff_ref_at(&w->went, i)->id == id;
}

/* A name from which file @id went away, and that is not yet taken for another. */
static struct watch_entry *watch_take_gone(struct kvfs_watch *w, uint64_t id)
{
	const struct kv_buf *went = &w->went;

	for (size_t i = diff_search_refs(went, id);
	     i < diff_ref_count(went) && diff_ref_at(went, i)->id == id; i++) {
		struct watch_entry *e = watch_at(w, diff_ref_at(went, i)->entry);

		if (!e->moved) {
			e->moved = true;
			return e;
		}
	}
	return NULL;
}

static int watch_tell_renamed(struct kvfs_watch *w, const struct watch_entry *from,
			      const struct watch_entry *e)
{
	struct kv_slice old = kv_slice_of(w->text.data + from->from, from->from_len);
	struct inode_buf a = {0}, b = {0};
	bool linked;
	int err;

	err = watch_load_name(w, DIFF_OLD, watch_key(w, from), &a, &linked);
	if (!err)
		err = watch_load_name(w, DIFF_NEW, watch_key(w, e), &b, &linked);
	if (!err)
		err = watch_path(w, watch_key(w, e));
	if (!err)
		err = watch_emit(w, KVFS_EVENT_RENAMED, kv_buf_slice(&w->path), old);
	if (!err)
		err = watch_emit_changes(w, watch_compare(w, &a.r, &b.r, true),
					 kv_buf_slice(&w->path));
	inode_buf_free(&a);
	inode_buf_free(&b);
	return err;
}

/* Was the file of a link there before, under another name? */
static int watch_is_older(struct kvfs_watch *w, uint64_t id, bool *older)
{
	struct model_key key;
	int err;

	*older = diff_has_id(&w->before, id);
	if (*older)
		return 0;
	place_id(MODEL_INODES, id, &key);
	err = kv_txn_get(w->txn[DIFF_OLD], MODEL_INODES, model_key_slice(&key), NULL);
	*older = !err;
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* A file that was not at this name before. Moves take their former names, so they come first. */
static int watch_tell_came(struct kvfs_watch *w, const struct watch_entry *e)
{
	uint64_t id = e->at[DIFF_NEW].id;
	struct watch_entry *from = watch_take_gone(w, id);
	bool older = false;
	int err = 0;

	if (from)
		return watch_tell_renamed(w, from, e);
	if (e->at[DIFF_NEW].linked)
		err = watch_is_older(w, id, &older);
	if (!err)
		err = watch_path(w, watch_key(w, e));
	return err ? err
		   : watch_emit(w, older ? KVFS_EVENT_LINKED : KVFS_EVENT_CREATED,
				kv_buf_slice(&w->path), kv_slice_of(NULL, 0));
}

static bool watch_stayed(const struct watch_entry *e)
{
	return e->at[DIFF_OLD].id == e->at[DIFF_NEW].id;
}

/* Those that go away, but for those that will be found to have moved. */
static int watch_tell_gone(struct kvfs_watch *w)
{
	int err = 0;

	for (size_t i = 0; i < watch_count(w); i++)
		if (!watch_stayed(watch_at(w, i)) && watch_at(w, i)->at[DIFF_NEW].id)
			(void)watch_take_gone(w, watch_at(w, i)->at[DIFF_NEW].id);
	for (size_t i = watch_count(w); !err && i--;) {
		struct watch_entry *e = watch_at(w, i);

		if (!watch_stayed(e) && e->at[DIFF_OLD].id && !e->moved)
			err = watch_emit(w, KVFS_EVENT_UNLINKED,
					 kv_slice_of(w->text.data + e->from, e->from_len),
					 kv_slice_of(NULL, 0));
		e->moved = false;
	}
	return err;
}

static int watch_tell_entries(struct kvfs_watch *w)
{
	int err = watch_tell_gone(w);

	for (size_t i = 0; !err && i < watch_count(w); i++) {
		const struct watch_entry *e = watch_at(w, i);

		if (!e->at[DIFF_NEW].id)
			continue;
		if (!watch_stayed(e)) {
			err = watch_tell_came(w, e);
		} else if (e->changes) {
			err = watch_path(w, watch_key(w, e));
			if (!err)
				err = watch_emit_changes(w, e->changes, kv_buf_slice(&w->path));
		}
	}
	return err;
}

/* ---- files that are not known by a name -------------------------------------------------- */

static int watch_tell_names(struct kvfs_watch *w, uint64_t id, bool linked, unsigned changes)
{
	struct kv_buf names = {0};
	const struct model_key *list;
	int err = watch_index_names(&w->index, w->txn[DIFF_NEW], id, linked, &names);

	list = (const void *)names.data;
	for (size_t i = 0; !err && i < names.len / sizeof(*list); i++) {
		err = watch_path(w, model_key_slice(&list[i]));
		if (!err)
			err = watch_emit_changes(w, changes, kv_buf_slice(&w->path));
	}
	kv_buf_free(&names);
	return err;
}

/* Of a key outside MODEL_NAMES: what became of its record, if it is in both states. */
static int watch_compare_at(struct kvfs_watch *w, const struct model_key *key, bool moved,
			    unsigned *changes)
{
	struct inode_buf a = {0}, b = {0};
	int err = watch_load_record(w, DIFF_OLD, key, &a);

	*changes = 0;
	if (!err)
		err = watch_load_record(w, DIFF_NEW, key, &b);
	if (!err)
		*changes = watch_compare(w, &a.r, &b.r, moved);
	inode_buf_free(&a);
	inode_buf_free(&b);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int watch_tell_linked(struct kvfs_watch *w, uint64_t id)
{
	struct model_key key;
	unsigned changes;
	int err;

	place_id(MODEL_INODES, id, &key);
	err = watch_compare_at(w, &key, watch_went(w, id), &changes);
	return err || !changes ? err : watch_tell_names(w, id, true, changes);
}

/* Contents that were written without the record: with lazytime, or before it has a name. */
static int watch_tell_written(struct kvfs_watch *w, uint64_t id)
{
	struct model_key key;
	bool linked;
	int err;

	place_id(MODEL_ORPHANS, id, &key);
	err = kv_txn_get(w->txn[DIFF_NEW], MODEL_ORPHANS, model_key_slice(&key), NULL);
	if (err != -KV_E_NOTFOUND)
		return err;
	place_id(MODEL_INODES, id, &key);
	err = kv_txn_get(w->txn[DIFF_NEW], MODEL_INODES, model_key_slice(&key), NULL);
	linked = !err;
	if (err && err != -KV_E_NOTFOUND)
		return err;
	return watch_tell_names(w, id, linked, WATCH_WRITTEN);
}

int watch_tell(struct kvfs_watch *w)
{
	const uint64_t *inodes = (const void *)w->inodes.data;
	const uint64_t *written = (const void *)w->written.data;
	struct model_key root;
	unsigned changes = 0;
	int err = watch_tell_entries(w);

	for (size_t i = 0; !err && i < w->inodes.len / sizeof(*inodes); i++)
		err = watch_tell_linked(w, inodes[i]);
	for (size_t i = 0; !err && w->fs->lazytime && i < w->written.len / sizeof(*written); i++)
		if (!diff_has_id(&w->known, written[i]) && !diff_has_id(&w->inodes, written[i]))
			err = watch_tell_written(w, written[i]);
	if (err || !w->root)
		return err;
	place_meta("root", &root);
	err = watch_compare_at(w, &root, false, &changes);
	return err ? err : watch_emit_changes(w, changes, kv_slice_of(".", 1));
}
