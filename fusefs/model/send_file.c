/* SPDX-License-Identifier: MIT */
/*
 * One file: an item with all its attributes, then its chunks, those that differ or all.
 * With each the root hash goes from the old state to the new: where a path has the same
 * file in both, by what differs, else by all of the file. Paths at and below
 * directories that were moved are left to the end, where whole trees are exchanged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/send.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"

struct send_link {
	uint64_t id; /* 0: free */
	size_t path, len;
};

/* ---- files with several names ---- */

static struct send_link *send_link_slot(const struct kv_buf *links, uint64_t id)
{
	struct send_link *list = (struct send_link *)(void *)links->data;
	size_t cap = links->len / sizeof(*list), i = hash_u64(id) & (cap - 1);

	while (list[i].id && list[i].id != id)
		i = (i + 1) & (cap - 1);
	return &list[i];
}

/* At most half full. */
static int send_link_reserve(struct kvfs_send *s)
{
	size_t cap = s->links.len / sizeof(struct send_link);
	const struct send_link *list = (const void *)s->links.data;
	struct kv_buf more = {0};
	int err;

	if (s->link_count * 2 < cap)
		return 0;
	err = buf_append_zeros(&more, (cap ? cap * 2 : 256) * sizeof(*list));
	if (err)
		return err;
	for (size_t i = 0; i < cap; i++)
		if (list[i].id)
			*send_link_slot(&more, list[i].id) = list[i];
	kv_buf_free(&s->links);
	s->links = more;
	return 0;
}

/* Where the file was sent, empty: it is from now on at @path. */
static int send_link_find(struct kvfs_send *s, uint64_t id, struct kv_slice path,
			  struct kv_slice *sent)
{
	struct send_link *l;
	int err = send_link_reserve(s);

	if (err)
		return err;
	l = send_link_slot(&s->links, id);
	*sent = kv_slice_of(s->text.data + l->path, l->id ? l->len : 0);
	if (l->id)
		return 0;
	l->path = s->text.len;
	l->len = path.len;
	l->id = id;
	s->link_count++;
	return buf_append_slice(&s->text, path);
}

/* ---- the hash ---- */

/*
 * The terms of a path, old and new. Contents are left to the chunks that follow if s->file.delta
 * stays set: of a fresh file all of them, else those that differ.
 */
static int send_hash(struct kvfs_send *s, const struct diff_entry *e, bool in_place,
		     const struct inode *old, const struct inode *new, struct kv_slice path)
{
	struct kv_slice before = in_place ? diff_path(&s->diff, &e->at[DIFF_OLD]) : path;
	bool leave_old = !in_place || tops_contain(&s->moved[DIFF_OLD], before);
	bool leave_new = e && tops_contain(&s->moved[DIFF_NEW], path);
	int err = 0;

	s->file.delta = s->file.delta && !leave_new && (!s->file.listed || !leave_old);
	if (!leave_old)
		err = roothash_file(&s->hash, s->old.txn, before, old, !s->file.delta, false);
	if (!err && !leave_new)
		err = roothash_file(&s->hash, s->new.txn, path, new, !s->file.delta, true);
	return err;
}

/* ---- entries ---- */

static int send_compare_chunk(struct kvfs_send *s, const struct inode *new, uint64_t chunk)
{
	const struct diff_chunk listed = {inode_content(new), chunk};
	uint64_t off = chunk * MODEL_CHUNK;
	struct kv_buf old = {0};
	int err;

	err = content_read(s->old.txn, &s->file.old.r, off, MODEL_CHUNK, &old);
	if (!err)
		err = content_read(s->new.txn, new, off, MODEL_CHUNK, &s->piece);
	if (!err && !slice_equal(kv_buf_slice(&old), kv_buf_slice(&s->piece)))
		err = buf_append(&s->file.compared, &listed, sizeof(listed));
	kv_buf_free(&old);
	return err;
}

/*
 * Chunks that differ from those of the file's old record, in s->file.old. If they stand under
 * another id now, since the contents were shared, no key tells, and they are compared.
 */
static int send_list_chunks(struct kvfs_send *s, const struct inode *new)
{
	struct send_file *f = &s->file;
	uint64_t span = chunk_span(max_u64(f->old.r.size, new->size));
	int err = 0;

	if (diff_same_keys(&f->old.r, new)) {
		f->chunks = diff_chunks(&s->diff, inode_content(new), &f->chunk_count);
		return 0;
	}
	buf_clear(&f->compared);
	for (uint64_t chunk = 0; !err && chunk < span; chunk++)
		err = send_compare_chunk(s, new, chunk);
	f->chunks = (const void *)f->compared.data;
	f->chunk_count = f->compared.len / sizeof(struct diff_chunk);
	return err;
}

/* What of the contents is sent. @listed: s->file.old is the file's old record */
static int send_body(struct kvfs_send *s, bool listed, const struct inode *new,
		     struct stream_item *item)
{
	struct send_file *f = &s->file;
	const struct inode *old = &f->old.r;
	bool chunked = new->flags &MODEL_FLAG_CHUNKS, same = false;
	int err = 0;

	f->listed = listed;
	f->chunk_count = 0;
	f->delta = false;
	item->body = STREAM_BODY_KEPT;
	if ((new->mode &S_IFMT) == S_IFLNK || ((new->mode &S_IFMT) == S_IFREG && !chunked)) {
		item->body = STREAM_BODY_INLINE;
		item->bytes = new->contents;
	} else if (chunked) {
		if (listed)
			err = send_list_chunks(s, new);
		same = listed && (old->flags & MODEL_FLAG_CHUNKS) && !f->chunk_count &&
		       old->size == new->size;
		item->body = same ? STREAM_BODY_KEPT : STREAM_BODY_CHUNKS;
		f->delta = !listed || (old->flags & MODEL_FLAG_CHUNKS);
	}
	return err;
}

/* The entry in the old state that has the file, and its record in s->file.old. */
static int send_origin(struct kvfs_send *s, const struct diff_entry *e, uint64_t id,
		       const struct diff_entry **origin)
{
	*origin = NULL;
	if (!e)
		return 0;
	*origin = diff_same_file(e) ? e : diff_find(&s->diff, DIFF_OLD, id);
	return *origin ? diff_load(&s->diff, DIFF_OLD, *origin, &s->file.old) : 0;
}

static int send_link(struct kvfs_send *s, struct kv_slice path, const struct diff_entry *e,
		     const struct inode *new, struct kv_slice sent)
{
	bool in_place = e && send_in_place(e);
	struct stream_item item = {.kind = STREAM_LINK,
				   .origin = in_place ? STREAM_OLD_PATH : STREAM_NEW_PATH,
				   .path = path,
				   .from = sent};
	int err = 0;

	s->file.delta = false;
	if (in_place) {
		item.from = diff_path(&s->diff, &e->at[DIFF_OLD]);
		err = diff_load(&s->diff, DIFF_OLD, e, &s->file.old);
	}
	if (!err)
		err = send_hash(s, e, in_place, &s->file.old.r, new, path);
	return err ? err : send_item(s, &item);
}

/* The chunks of an item that was sent follow. */
static int send_open_file(struct kvfs_send *s, struct kv_slice path, const struct inode_buf *rec)
{
	struct send_file *f = &s->file;
	int err = buf_assign(&f->path, path);

	if (!err)
		err = buf_assign(&f->new.raw, kv_buf_slice(&rec->raw));
	if (!err)
		err = inode_decode(kv_buf_slice(&f->new.raw), &f->new.r);
	f->open = !err;
	f->next = 0;
	f->off = 0;
	return err;
}

int send_entry(struct kvfs_send *s, struct kv_slice path, const struct diff_entry *e,
	       const struct inode_buf *rec, bool linked)
{
	struct stream_item item = {.kind = STREAM_ENTRY, .path = path, .attr = rec->r};
	const struct diff_entry *origin = NULL;
	struct kv_slice sent = {0};
	bool root = !path.len;
	int err = 0;

	if (linked)
		err = send_link_find(s, rec->r.id, path, &sent);
	if (err || sent.len)
		return err ? err : send_link(s, path, e, &rec->r, sent);
	err = send_origin(s, e, rec->r.id, &origin);
	if (!err && root && s->from)
		err = diff_load(&s->diff, DIFF_OLD, NULL, &s->file.old);
	if (!err)
		err = send_body(s, origin != NULL, &rec->r, &item);
	if (!err)
		err = roothash_xattrs(s->new.txn, &rec->r, &s->xattrs);
	if (err)
		return err;
	if (origin || (root && s->from)) {
		item.origin = STREAM_OLD_PATH;
		item.from =
			origin ? diff_path(&s->diff, &origin->at[DIFF_OLD]) : kv_slice_of(NULL, 0);
	}
	item.xattrs = kv_buf_slice(&s->xattrs);
	if (root && s->from) {
		err = roothash_file(&s->hash, s->old.txn, path, &s->file.old.r, false, false);
		if (!err)
			err = roothash_file(&s->hash, s->new.txn, path, &rec->r, false, true);
	} else {
		err = send_hash(s, e, e && send_in_place(e), &s->file.old.r, &rec->r, path);
	}
	if (!err)
		err = send_item(s, &item);
	if (!err && item.body == STREAM_BODY_CHUNKS)
		err = send_open_file(s, path, rec);
	return err;
}

/* ---- chunks ---- */

/* The number of the next chunk to send, and whether it is there. */
static int send_next_chunk(struct kvfs_send *s, uint64_t *chunk, bool *there)
{
	struct send_file *f = &s->file;
	uint64_t off = f->off;
	int err;

	if (f->listed) {
		if (f->next == f->chunk_count)
			return -KV_E_NOTFOUND;
		*chunk = f->chunks[f->next++].chunk;
		off = *chunk * MODEL_CHUNK;
		if (off >= f->new.r.size) {
			*there = false;
			return 0;
		}
	}
	err = chunk_next(s->new.txn, &f->new.r, off, &f->off);
	if (err)
		return err;
	if (f->listed) {
		*there = f->off == off;
		return 0;
	}
	if (f->off >= f->new.r.size)
		return -KV_E_NOTFOUND;
	*chunk = f->off / MODEL_CHUNK;
	*there = true;
	f->off = (*chunk + 1) * MODEL_CHUNK;
	return 0;
}

int send_chunk(struct kvfs_send *s)
{
	struct send_file *f = &s->file;
	struct stream_item item = {.kind = STREAM_HOLE};
	bool there;
	int err = send_next_chunk(s, &item.chunk, &there);

	if (err == -KV_E_NOTFOUND) {
		f->open = false;
		return 0;
	}
	if (!err && there)
		err = content_read(s->new.txn, &f->new.r, item.chunk * MODEL_CHUNK, MODEL_CHUNK,
				   &s->piece);
	if (!err && there) {
		item.kind = STREAM_DATA;
		item.bytes = kv_buf_slice(&s->piece);
	}
	if (!err && f->delta && f->listed)
		err = roothash_read_chunk(&s->hash, s->old.txn, kv_buf_slice(&f->path), &f->old.r,
					  item.chunk, false);
	if (!err && f->delta && there)
		err = roothash_chunk(&s->hash, kv_buf_slice(&f->path), item.chunk, item.bytes,
				     true);
	return err ? err : send_item(s, &item);
}
