/* SPDX-License-Identifier: MIT */
/*
 * The records before and after a commit. A directory's times and link count change with what
 * is in it, so they tell nothing that is not told of the entry itself.
 */
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/watch.h"
#include "kvcore/base/buf.h"

/* ---- records ------------------------------------------------------------------------------ */

int watch_load_record(const struct kvfs_watch *w, enum diff_side_id side,
		      const struct model_key *key, struct inode_buf *out)
{
	int err = kv_txn_get(w->txn[side], key->keyspace, model_key_slice(key), &out->raw);

	return err ? err : inode_decode(kv_buf_slice(&out->raw), &out->r);
}

int watch_load_name(const struct kvfs_watch *w, enum diff_side_id side, struct kv_slice key,
		    struct inode_buf *out, bool *linked)
{
	struct model_key inode;
	uint64_t id;
	int err;

	err = kv_txn_get(w->txn[side], MODEL_NAMES, key, &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	*linked = !err && out->r.kind == MODEL_RECORD_LINK;
	if (err || !*linked)
		return err;
	id = out->r.id;
	place_id(MODEL_INODES, id, &inode);
	err = watch_load_record(w, side, &inode, out);
	return err == -KV_E_NOTFOUND || (!err && out->r.id != id) ? -KV_E_CORRUPT : err;
}

/* ---- comparing ------------------------------------------------------------------------------ */

static unsigned watch_compare_contents(const struct kvfs_watch *w, const struct inode *old,
				       const struct inode *new)
{
	bool inlined = !((old->flags | new->flags) & MODEL_FLAG_CHUNKS);

	if (new->size < old->size)
		return WATCH_TRUNCATED |
		       (inlined && !slice_has_prefix(old->contents, new->contents) ? WATCH_WRITTEN
										   : 0U);
	if (new->size > old->size)
		return WATCH_WRITTEN;
	if (inlined)
		return slice_equal(old->contents, new->contents) ? 0 : WATCH_WRITTEN;
	/* Who writes to shared contents gets others, of his own. */
	return inode_content(old) != inode_content(new) ||
			       diff_has_id(&w->written, inode_content(new))
		       ? WATCH_WRITTEN
		       : 0;
}

unsigned watch_compare(const struct kvfs_watch *w, const struct inode *old, const struct inode *new,
		       bool moved)
{
	unsigned changes = 0;

	if ((new->mode &S_IFMT) == S_IFREG)
		changes |= watch_compare_contents(w, old, new);
	if (old->mode != new->mode || old->uid != new->uid || old->gid != new->gid ||
	    ((old->flags ^ new->flags) & MODEL_FLAGS_USER))
		changes |= WATCH_ATTRIBUTES;
	if (!slice_equal(old->xattrs, new->xattrs) || diff_has_id(&w->xattrs, new->id))
		changes |= WATCH_XATTR;
	if (!changes && !moved && !inode_is_dir(new) && old->nlink == new->nlink &&
	    (old->mtime != new->mtime || old->ctime != new->ctime))
		changes |= WATCH_ATTRIBUTES;
	return changes;
}

/* ---- entries ----------------------------------------------------------------------------------
 */

/* Where the file was, in the state before. */
static int watch_note_from(struct kvfs_watch *w, struct watch_entry *e)
{
	int err = watch_index_path(&w->index, w->txn[DIFF_OLD], watch_key(w, e), &w->path);

	e->from = w->text.len;
	e->from_len = w->path.len;
	return err ? err : buf_append_slice(&w->text, kv_buf_slice(&w->path));
}

static int watch_look_at(struct kvfs_watch *w, size_t i)
{
	struct watch_entry *e = watch_at(w, i);
	struct inode_buf rec[DIFF_SIDES] = {0};
	struct diff_ref gone = {.entry = i};
	int err = 0;

	for (int side = 0; !err && side < DIFF_SIDES; side++) {
		err = watch_load_name(w, (enum diff_side_id)side, watch_key(w, e), &rec[side],
				      &e->at[side].linked);
		if (!err) {
			e->at[side].id = rec[side].r.id;
			if (rec[side].r.flags & MODEL_FLAG_CHUNKS)
				e->at[side].content = inode_content(&rec[side].r);
		}
		if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	gone.id = e->at[DIFF_OLD].id;
	if (!err && gone.id && gone.id == e->at[DIFF_NEW].id) {
		e->changes = watch_compare(w, &rec[DIFF_OLD].r, &rec[DIFF_NEW].r, false);
	} else if (!err && gone.id) {
		err = watch_note_from(w, e);
		if (!err)
			err = buf_append(&w->went, &gone, sizeof(gone));
	}
	inode_buf_free(&rec[DIFF_OLD]);
	inode_buf_free(&rec[DIFF_NEW]);
	return err;
}

/* Names of the side, as records or links stand there, leave the index or enter it. */
static int watch_move_index(struct kvfs_watch *w, enum diff_side_id side)
{
	struct kv_buf raw = {0};
	struct inode r;
	int err = 0;

	for (size_t i = 0; !err && i < watch_count(w); i++) {
		struct kv_slice key = watch_key(w, watch_at(w, i));

		if (!watch_at(w, i)->at[side].id)
			continue;
		err = kv_txn_get(w->txn[side], MODEL_NAMES, key, &raw);
		if (!err)
			err = inode_decode(kv_buf_slice(&raw), &r);
		if (!err && side == DIFF_OLD)
			watch_index_remove(&w->index, key, &r);
		else if (!err)
			err = watch_index_add(&w->index, key, &r);
	}
	kv_buf_free(&raw);
	return err;
}

static int watch_note_known(struct kvfs_watch *w)
{
	int err = 0;

	for (size_t i = 0; !err && i < watch_count(w); i++) {
		const struct watch_entry *e = watch_at(w, i);

		if (e->at[DIFF_OLD].id)
			err = buf_append(&w->before, &e->at[DIFF_OLD].id, sizeof(uint64_t));
		if (!err && e->at[DIFF_NEW].content)
			err = buf_append(&w->known, &e->at[DIFF_NEW].content, sizeof(uint64_t));
	}
	diff_sort_ids(&w->before);
	diff_sort_ids(&w->known);
	return err;
}

int watch_look(struct kvfs_watch *w)
{
	int err = 0;

	for (size_t i = 0; !err && i < watch_count(w); i++)
		err = watch_look_at(w, i);
	if (!err)
		err = watch_note_known(w);
	diff_sort_refs(&w->went);
	for (int side = 0; !err && side < DIFF_SIDES; side++)
		err = watch_move_index(w, (enum diff_side_id)side);
	return err;
}
