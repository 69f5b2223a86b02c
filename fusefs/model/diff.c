/* SPDX-License-Identifier: MIT */
/*
 * Collecting what differs: names first, then the records, attributes and chunks
 * that are keyed by file id. A file whose record stands beside its names differs without
 * a name that does; such names are looked for, once for all.
 */
#include "fusefs/model/diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/lookup.h"
#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"
#include "kvcore/kv_diff.h"

#define DIFF_PIECE ((size_t)256 * 1024) /* of contents compared at a time */

/* ---- records ---- */

static int diff_read(struct kv_txn *txn, struct kv_slice key, struct inode_buf *out, bool *linked)
{
	struct model_key inode;
	uint64_t id;
	int err;

	err = kv_txn_get(txn, MODEL_NAMES, key, &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	*linked = !err && out->r.kind == MODEL_RECORD_LINK;
	if (err || !*linked)
		return err;
	id = out->r.id;
	place_id(MODEL_INODES, id, &inode);
	err = kv_txn_get(txn, MODEL_INODES, model_key_slice(&inode), &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	return err == -KV_E_NOTFOUND || (!err && out->r.id != id) ? -KV_E_CORRUPT : err;
}

int diff_load(const struct diff *d, enum diff_side_id side, const struct diff_entry *e,
	      struct inode_buf *out)
{
	struct kv_txn *txn = d->side[side].txn;
	struct model_key root;
	bool linked;
	int err;

	if (e)
		return diff_read(txn, kv_slice_of(d->text.data + e->key, e->key_len), out, &linked);
	place_meta("root", &root);
	err = kv_txn_get(txn, MODEL_META, model_key_slice(&root), &out->raw);
	if (!err)
		err = inode_decode(kv_buf_slice(&out->raw), &out->r);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* An entry for a key, with its places. */
static int diff_add(struct diff *d, struct kv_slice key)
{
	struct diff_entry e = {.key = d->text.len, .key_len = key.len};
	struct inode_buf rec = {0};
	bool linked;
	int err = buf_append_slice(&d->text, key);

	for (int side = 0; !err && side < DIFF_SIDES; side++) {
		key = kv_slice_of(d->text.data + e.key, e.key_len);
		err = diff_read(d->side[side].txn, key, &rec, &linked);
		if (err == -KV_E_NOTFOUND) {
			err = 0;
			continue;
		}
		if (!err)
			err = diff_add_path(d, (enum diff_side_id)side, key, &e.at[side].path,
					    &e.at[side].path_len);
		e.at[side].id = rec.r.id;
		e.at[side].content = rec.r.flags & MODEL_FLAG_CHUNKS ? inode_content(&rec.r) : 0;
		e.at[side].mode = rec.r.mode;
		e.at[side].linked = linked;
	}
	inode_buf_free(&rec);
	return err ? err : buf_append(&d->entries, &e, sizeof(e));
}

/* ---- what differs in each keyspace ---- */

static int diff_take_name(struct diff *d, struct kv_slice key)
{
	struct model_key copy = {.len = key.len};

	if (copy.len > sizeof(copy.b))
		return -KV_E_CORRUPT;
	memcpy(copy.b, key.data, copy.len);
	return diff_add(d, model_key_slice(&copy));
}

static int diff_take_id(struct kv_buf *ids, struct kv_slice key)
{
	uint64_t id;

	if (key.len < 8)
		return -KV_E_CORRUPT;
	id = be64_at(key.data);
	if (ids->len && !memcmp(ids->data + ids->len - sizeof(id), &id, sizeof(id)))
		return 0;
	return buf_append(ids, &id, sizeof(id));
}

static int diff_take_inode(struct diff *d, struct kv_slice key)
{
	return diff_take_id(&d->inodes, key);
}

static int diff_take_xattr(struct diff *d, struct kv_slice key)
{
	return diff_take_id(&d->xattrs, key);
}

static int diff_take_chunk(struct diff *d, struct kv_slice key)
{
	struct diff_chunk c, *last;
	uint32_t stamp;
	int err = chunk_key_decode(key, &c.id, &c.chunk, &stamp);

	if (err)
		return err;
	if (d->chunks.len) {
		last = (struct diff_chunk *)(void *)(d->chunks.data + d->chunks.len) - 1;
		if (last->id == c.id && last->chunk == c.chunk)
			return 0;
	}
	return buf_append(&d->chunks, &c, sizeof(c));
}

static int diff_take_meta(struct diff *d, struct kv_slice key)
{
	struct model_key root;

	place_meta("root", &root);
	d->root = d->root || slice_equal(key, model_key_slice(&root));
	return 0;
}

typedef int diff_take(struct diff *d, struct kv_slice key);

struct diff_writes {
	struct diff *d;
	diff_take *take;
};

static int diff_on_write(void *ctx, struct kv_slice key, bool deleted)
{
	const struct diff_writes *w = ctx;

	(void)deleted;
	return w->take(w->d, key);
}

static int diff_keyspace(struct diff *d, unsigned keyspace, diff_take *take)
{
	struct diff_writes w = {d, take};
	struct kv_diff *k;
	int err;

	if (d->writes)
		return kv_txn_scan_writes(d->side[DIFF_NEW].txn, keyspace, kv_slice_of(NULL, 0),
					  diff_on_write, &w);
	err = kv_diff_open(d->side[DIFF_OLD].txn, d->side[DIFF_NEW].txn, keyspace, NULL, &k);
	if (err)
		return err;
	while (!(err = kv_diff_next(k))) {
		err = take(d, kv_diff_key(k));
		if (err)
			break;
	}
	kv_diff_close(k);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* ---- finding entries ---- */

static int diff_make_index(struct diff *d, enum diff_side_id side)
{
	struct kv_buf *index = &d->index[side];
	int err = 0;

	buf_clear(index);
	for (size_t i = 0; !err && i < diff_count(d); i++) {
		struct diff_ref ref = {diff_at(d, i)->at[side].id, i};

		if (ref.id)
			err = buf_append(index, &ref, sizeof(ref));
	}
	diff_sort_refs(index);
	return err;
}

static int diff_list_contents(struct diff *d)
{
	int err = 0;

	for (size_t i = 0; !err && i < diff_count(d); i++)
		for (int side = 0; !err && side < DIFF_SIDES; side++) {
			uint64_t content = diff_at(d, i)->at[side].content;

			if (content)
				err = buf_append(&d->contents, &content, sizeof(content));
		}
	diff_sort_ids(&d->contents);
	return err;
}

/* The entry with the number @i of the index, if it is of file @id. */
static struct diff_entry *diff_entry_of(const struct diff *d, enum diff_side_id side, size_t i,
					uint64_t id)
{
	const struct kv_buf *index = &d->index[side];

	if (i >= diff_ref_count(index) || diff_ref_at(index, i)->id != id)
		return NULL;
	return diff_at(d, diff_ref_at(index, i)->entry);
}

struct diff_entry *diff_find(const struct diff *d, enum diff_side_id side, uint64_t id)
{
	return diff_entry_of(d, side, diff_search_refs(&d->index[side], id), id);
}

struct diff_entry *diff_partner(const struct diff *d, enum diff_side_id side,
				const struct diff_entry *e)
{
	enum diff_side_id other = side == DIFF_OLD ? DIFF_NEW : DIFF_OLD;
	uint64_t id = e->at[side].id;
	struct diff_entry *at;
	size_t rank = 0, i;

	for (i = diff_search_refs(&d->index[side], id);
	     (at = diff_entry_of(d, side, i, id)) && at != e; i++)
		rank += !diff_same_file(at);
	for (i = diff_search_refs(&d->index[other], id); (at = diff_entry_of(d, other, i, id)); i++)
		if (!diff_same_file(at) && !rank--)
			return at;
	return NULL;
}

/* ---- names that do not differ, of files that do ---- */

/* Add @id if no entry tells of it, or if it may have names that no entry tells of. */
static int diff_miss(const struct diff *d, uint64_t id, bool linked, struct kv_buf *out)
{
	struct model_key key;
	int err;

	if (!linked && (diff_find(d, DIFF_OLD, id) || diff_find(d, DIFF_NEW, id)))
		return 0;
	/* It may be a file that has no name. */
	place_id(linked ? MODEL_INODES : MODEL_ORPHANS, id, &key);
	for (int side = 0; side < DIFF_SIDES; side++) {
		err = kv_txn_get(d->side[side].txn, key.keyspace, model_key_slice(&key), NULL);
		if ((!err && !linked) || (err == -KV_E_NOTFOUND && linked))
			return 0;
		if (err && err != -KV_E_NOTFOUND)
			return err;
	}
	return buf_append(out, &id, sizeof(id));
}

/* The same of contents, which entries tell of by all that they have or had. */
static int diff_miss_contents(const struct diff *d, uint64_t id, struct kv_buf *out)
{
	struct inode_buf orphan = {0};
	struct model_key key;
	bool alone = false;
	int err = 0;

	if (diff_has_id(&d->contents, id))
		return 0;
	place_id(MODEL_ORPHANS, id, &key);
	for (int side = 0; !err && !alone && side < DIFF_SIDES; side++) {
		err = kv_txn_get(d->side[side].txn, MODEL_ORPHANS, model_key_slice(&key),
				 &orphan.raw);
		if (!err)
			err = inode_decode(kv_buf_slice(&orphan.raw), &orphan.r);
		alone = !err && inode_content(&orphan.r) == id && !orphan.r.sharing;
		if (err == -KV_E_NOTFOUND)
			err = 0;
	}
	inode_buf_free(&orphan);
	return err || alone ? err : buf_append(out, &id, sizeof(id));
}

static int diff_missed(const struct diff *d, struct kv_buf *out)
{
	const uint64_t *ids = (const void *)d->inodes.data;
	const uint64_t *xattrs = (const void *)d->xattrs.data;
	const struct diff_chunk *chunks = (const void *)d->chunks.data;
	int err = 0;

	for (size_t i = 0; !err && i < d->inodes.len / sizeof(*ids); i++)
		err = diff_miss(d, ids[i], true, out);
	for (size_t i = 0; !err && i < d->xattrs.len / sizeof(*xattrs); i++)
		err = diff_miss(d, xattrs[i], false, out);
	for (size_t i = 0; !err && i < d->chunks.len / sizeof(*chunks); i++)
		if (!i || chunks[i].id != chunks[i - 1].id)
			err = diff_miss_contents(d, chunks[i].id, out);
	diff_sort_ids(out);
	return err;
}

static int diff_compare_keys(const struct diff *d, const struct diff_entry *e, struct kv_slice key)
{
	return slice_compare(kv_slice_of(d->text.data + e->key, e->key_len), key);
}

static bool diff_has_key(const struct diff *d, size_t count, struct kv_slice key)
{
	size_t lo = 0, hi = count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int order = diff_compare_keys(d, diff_at(d, mid), key);

		if (!order)
			return true;
		if (order < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

static int diff_add_missed(struct diff *d)
{
	size_t before = diff_count(d);
	struct kv_buf ids = {0};
	const struct diff_named *n;
	struct model_key copy;
	int err;

	err = diff_missed(d, &ids);
	if (!err)
		err = diff_find_names(d, &ids);
	n = (const void *)d->names.data;
	for (size_t i = 0; !err && i < d->names.len / sizeof(*n); i++) {
		struct kv_slice key = kv_slice_of(d->text.data + n[i].key, n[i].key_len);

		if (key.len > sizeof(copy.b) || diff_has_key(d, before, key))
			continue;
		copy.len = key.len;
		memcpy(copy.b, key.data, key.len);
		err = diff_add(d, model_key_slice(&copy));
	}
	kv_buf_free(&ids);
	return err;
}

/* ---- the whole ---- */

static int diff_look_for_displaced(struct diff_side *s)
{
	struct kv_iter *it;
	int err;

	err = kv_iter_open(s->txn, MODEL_PREFIXES, NULL, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	s->displaced = !err;
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int diff_collect(struct diff *d)
{
	int err = 0;

	for (int side = 0; !err && side < DIFF_SIDES; side++)
		err = diff_look_for_displaced(&d->side[side]);
	if (!err)
		err = diff_keyspace(d, MODEL_NAMES, diff_take_name);
	if (!err)
		err = diff_keyspace(d, MODEL_INODES, diff_take_inode);
	if (!err)
		err = diff_keyspace(d, MODEL_XATTRS, diff_take_xattr);
	if (!err)
		err = diff_keyspace(d, MODEL_DATA, diff_take_chunk);
	if (!err)
		err = diff_keyspace(d, MODEL_META, diff_take_meta);
	for (int side = 0; !err && side < DIFF_SIDES; side++)
		err = diff_make_index(d, (enum diff_side_id)side);
	if (!err)
		err = diff_list_contents(d);
	if (!err)
		err = diff_add_missed(d);
	for (int side = 0; !err && side < DIFF_SIDES; side++)
		err = diff_make_index(d, (enum diff_side_id)side);
	return err;
}

int diff_init(struct diff *d, struct kvfs *fs, struct kv_txn *old, struct kv_txn *new)
{
	*d = (struct diff){.fs = fs};
	d->side[DIFF_OLD].txn = old;
	d->side[DIFF_NEW].txn = new;
	return diff_collect(d);
}

int diff_init_writes(struct diff *d, struct kvfs *fs, struct kv_txn *old, struct kv_txn *txn)
{
	*d = (struct diff){.fs = fs, .writes = true};
	d->side[DIFF_OLD].txn = old;
	d->side[DIFF_NEW].txn = txn;
	return diff_collect(d);
}

void diff_fini(struct diff *d)
{
	for (int side = 0; side < DIFF_SIDES; side++) {
		kv_buf_free(&d->side[side].moved);
		kv_buf_free(&d->side[side].prefix);
		kv_buf_free(&d->side[side].resolved);
		kv_buf_free(&d->index[side]);
	}
	kv_buf_free(&d->text);
	kv_buf_free(&d->entries);
	kv_buf_free(&d->inodes);
	kv_buf_free(&d->xattrs);
	kv_buf_free(&d->chunks);
	kv_buf_free(&d->contents);
	kv_buf_free(&d->names);
}

/* ---- contents ---- */

const struct diff_chunk *diff_chunks(const struct diff *d, uint64_t id, size_t *count)
{
	static const struct diff_chunk none;
	const struct diff_chunk *list = (const void *)d->chunks.data;
	size_t all = d->chunks.len / sizeof(*list), lo = 0, hi = all, end;

	*count = 0;
	if (d->writes)
		return NULL;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (list[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (end = lo; end < all && list[end].id == id; end++)
		;
	*count = end - lo;
	return list ? list + lo : &none;
}

bool diff_xattrs_differ(const struct diff *d, uint64_t id)
{
	return diff_has_id(&d->xattrs, id);
}

static int diff_same_piece(const struct diff *d, const struct inode *old, const struct inode *new,
			   uint64_t off, size_t len, bool *same)
{
	struct kv_buf a = {0}, b = {0};
	int err;

	err = content_read(d->side[DIFF_OLD].txn, old, off, len, &a);
	if (!err)
		err = content_read(d->side[DIFF_NEW].txn, new, off, len, &b);
	*same = !err && slice_equal(kv_buf_slice(&a), kv_buf_slice(&b));
	kv_buf_free(&a);
	kv_buf_free(&b);
	return err;
}

int diff_same_contents(const struct diff *d, const struct inode *old, const struct inode *new,
		       const struct diff_chunk *changed, size_t count, bool *same)
{
	uint64_t off;
	int err = 0;

	*same = old->size == new->size;
	if (!*same)
		return 0;
	if (!((old->flags | new->flags) & MODEL_FLAG_CHUNKS)) {
		*same = slice_equal(old->contents, new->contents);
		return 0;
	}
	if (changed && (old->flags & new->flags &MODEL_FLAG_CHUNKS)) {
		for (size_t i = 0; !err && *same && i < count; i++)
			err = diff_same_piece(d, old, new, changed[i].chunk * MODEL_CHUNK,
					      MODEL_CHUNK, same);
		return err;
	}
	for (off = 0; !err && *same && off < new->size; off += DIFF_PIECE)
		err = diff_same_piece(d, old, new, off, DIFF_PIECE, same);
	return err;
}
