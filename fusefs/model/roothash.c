/* SPDX-License-Identifier: MIT */
/*
 * Terms and their sum. Access times are no part of it, because reading changes them, nor
 * is where a record or its contents are stored: inline or in chunks, in the record
 * or beside it, zeros or a hole are the same.
 */
#include "fusefs/model/roothash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "fusefs/model/content.h"
#include "fusefs/model/place.h"
#include "fusefs/model/state.h"
#include "fusefs/model/walk.h"
#include "fusefs/model/xattr.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/cursor.h"

#define ROOTHASH_ENTRY "e"
#define ROOTHASH_CHUNK "c"

/* The fixed part of an entry's term. */
struct roothash_head {
	struct le32 mode, uid, gid, nlink, rdev;
	struct le64 size, mtime, ctime, btime;
	uint8_t flags;
};
static_assert(sizeof(struct roothash_head) == 53, "part of the hash");

int roothash_init(struct roothash *h)
{
	*h = (struct roothash){0};
	return kv_digest_new(&h->digest);
}

void roothash_fini(struct roothash *h)
{
	kv_digest_free(h->digest);
	kv_buf_free(&h->bytes);
	kv_buf_free(&h->xattrs);
	h->digest = NULL;
}

/* sum +- term mod 2^2048 */
static void roothash_sum(uint8_t *sum, const uint8_t *term, bool add)
{
	int carry = 0;

	for (size_t i = 0; i < ROOTHASH_SUM; i++) {
		int v = add ? sum[i] + term[i] + carry : sum[i] - term[i] - carry;

		sum[i] = (uint8_t)v;
		carry = v < 0 || v > 255;
	}
}

static int roothash_term(struct roothash *h, const struct kv_slice *parts, size_t count, bool add)
{
	uint8_t term[ROOTHASH_SUM];
	int err = kv_digest_expand(h->digest, parts, count, term, sizeof(term));

	if (!err)
		roothash_sum(h->sum, term, add);
	return err;
}

int roothash_entry(struct roothash *h, struct kv_slice path, const struct inode *r,
		   struct kv_slice xattrs, bool add)
{
	struct roothash_head head = {
		.mode = le32_of(r->mode),
		.uid = le32_of(r->uid),
		.gid = le32_of(r->gid),
		.nlink = le32_of(r->nlink),
		.rdev = le32_of(r->rdev),
		.size = le64_of(r->size),
		.mtime = le64_of(r->mtime),
		.ctime = le64_of(r->ctime),
		.btime = le64_of(r->btime),
		.flags = r->flags & MODEL_FLAGS_USER,
	};
	bool target = (r->mode & S_IFMT) == S_IFLNK;
	struct le32 lens[2] = {le32_of((uint32_t)path.len), le32_of((uint32_t)xattrs.len)};
	const struct kv_slice parts[] = {
		kv_slice_of(ROOTHASH_ENTRY, 1),
		kv_slice_of(lens, sizeof(lens)),
		kv_slice_of(&head, sizeof(head)),
		path,
		xattrs,
		target ? r->contents : kv_slice_of(NULL, 0),
	};

	return roothash_term(h, parts, KV_ARRAY_COUNT(parts), add);
}

int roothash_chunk(struct roothash *h, struct kv_slice path, uint64_t chunk, struct kv_slice bytes,
		   bool add)
{
	struct le32 len = le32_of((uint32_t)path.len);
	struct le64 no = le64_of(chunk);
	struct kv_slice parts[] = {
		kv_slice_of(ROOTHASH_CHUNK, 1),
		kv_slice_of(&len, sizeof(len)),
		kv_slice_of(&no, sizeof(no)),
		path,
		{0},
	};

	while (bytes.len && !bytes.data[bytes.len - 1])
		bytes.len--;
	if (!bytes.len)
		return 0;
	parts[4] = bytes;
	return roothash_term(h, parts, KV_ARRAY_COUNT(parts), add);
}

int roothash_read_chunk(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
			const struct inode *r, uint64_t chunk, bool add)
{
	int err = content_read(txn, r, chunk * MODEL_CHUNK, MODEL_CHUNK, &h->bytes);

	return err ? err : roothash_chunk(h, path, chunk, kv_buf_slice(&h->bytes), add);
}

int roothash_contents(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
		      const struct inode *r, bool add)
{
	uint64_t off = 0;
	int err = 0;

	if ((r->mode & S_IFMT) != S_IFREG)
		return 0;
	if (!(r->flags & MODEL_FLAG_CHUNKS))
		return roothash_chunk(h, path, 0, r->contents, add);
	while (!err) {
		err = chunk_next(txn, r, off, &off);
		if (err || off >= r->size)
			break;
		err = roothash_read_chunk(h, txn, path, r, off / MODEL_CHUNK, add);
		off = (off / MODEL_CHUNK + 1) * MODEL_CHUNK;
	}
	return err;
}

/* ---- attributes ---- */

static int roothash_put_xattr(struct kv_buf *out, struct kv_slice name, struct kv_slice value)
{
	struct le16 name_len = le16_of((uint16_t)name.len);
	struct le32 value_len = le32_of((uint32_t)value.len);
	int err = buf_append(out, &name_len, sizeof(name_len));

	if (!err)
		err = buf_append(out, &value_len, sizeof(value_len));
	if (!err)
		err = buf_append_slice(out, name);
	return err ? err : buf_append_slice(out, value);
}

/* Those of the record whose name is below @bound (empty: all that are left). */
static int roothash_inside(struct cursor *c, struct kv_slice bound, struct kv_buf *out)
{
	struct cursor ahead = *c;
	int err = 0;

	while (!err && cursor_left(c)) {
		uint8_t name_len = cursor_u8(&ahead);
		uint16_t value_len = cursor_le16(&ahead);
		struct kv_slice name = cursor_bytes(&ahead, name_len);
		struct kv_slice value = cursor_bytes(&ahead, value_len);

		if (ahead.bad || (bound.len && slice_compare(name, bound) > 0))
			break;
		err = roothash_put_xattr(out, name, value);
		*c = ahead;
	}
	return err;
}

int roothash_xattrs(struct kv_txn *txn, const struct inode *r, struct kv_buf *out)
{
	struct cursor inside = cursor_of(r->xattrs);
	struct model_key prefix;
	struct kv_range range;
	struct kv_iter *it;
	struct kv_slice name, value;
	int err;

	buf_clear(out);
	if (!(r->flags & MODEL_FLAG_XATTRS))
		return roothash_inside(&inside, kv_slice_of(NULL, 0), out);
	place_id(MODEL_XATTRS, r->id, &prefix);
	range = (struct kv_range){.prefix = model_key_slice(&prefix)};
	err = kv_iter_open(txn, MODEL_XATTRS, &range, &it);
	if (err)
		return err;
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it)) {
		name = kv_iter_key(it);
		name = kv_slice_of(name.data + prefix.len, name.len - prefix.len);
		err = name.len && name.len <= KVFS_XATTR_NAME_MAX
			      ? roothash_inside(&inside, name, out)
			      : -KV_E_CORRUPT;
		if (!err)
			err = kv_iter_value(it, &value);
		if (!err)
			err = roothash_put_xattr(out, name, value);
		if (err)
			break;
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? roothash_inside(&inside, kv_slice_of(NULL, 0), out) : err;
}

/* ---- trees ---- */

int roothash_file(struct roothash *h, struct kv_txn *txn, struct kv_slice path,
		  const struct inode *r, bool contents, bool add)
{
	int err = roothash_xattrs(txn, r, &h->xattrs);

	if (!err)
		err = roothash_entry(h, path, r, kv_buf_slice(&h->xattrs), add);
	return err || !contents ? err : roothash_contents(h, txn, path, r, add);
}

struct roothash_walk {
	struct roothash *h;
	size_t base; /* bytes of a path that are not the tree's */
	bool add;
};

static int roothash_visit(void *ctx, struct kv_txn *txn, struct kv_slice path,
			  const struct inode *r)
{
	struct roothash_walk *w = ctx;
	struct inode_buf file = {0};
	struct model_key key;
	int err = 0;

	if (r->kind == MODEL_RECORD_LINK) {
		place_id(MODEL_INODES, r->id, &key);
		err = kv_txn_get(txn, MODEL_INODES, model_key_slice(&key), &file.raw);
		if (!err)
			err = inode_decode(kv_buf_slice(&file.raw), &file.r);
		if (err == -KV_E_NOTFOUND)
			err = -KV_E_CORRUPT;
		r = &file.r;
	}
	path = kv_slice_of(path.data + w->base, path.len - w->base);
	if (!err)
		err = roothash_file(w->h, txn, path, r, true, w->add);
	inode_buf_free(&file);
	return err;
}

int roothash_tree(struct roothash *h, struct kv_txn *txn, struct kv_slice base, struct kv_slice dir,
		  bool add)
{
	struct roothash_walk ctx = {.h = h, .base = base.len ? base.len + 1 : 0, .add = add};
	struct walk w = {.visit = roothash_visit, .ctx = &ctx};
	struct kv_buf prefix = {0};
	struct inode_buf rec = {0};
	struct kv_slice path = {0};
	int err;

	err = state_find(txn, dir, &rec);
	if (!err && dir.len > base.len)
		path = kv_slice_of(dir.data + ctx.base, dir.len - ctx.base);
	if (!err)
		err = roothash_file(h, txn, path, &rec.r, true, add);
	if (!err && inode_is_dir(&rec.r)) {
		err = buf_append_slice(&prefix, dir);
		if (!err && dir.len)
			err = buf_append_byte(&prefix, 0);
		w.prefix = kv_buf_slice(&prefix);
		if (!err)
			err = walk_run(txn, &w);
	}
	inode_buf_free(&rec);
	kv_buf_free(&prefix);
	return err;
}

int roothash_final(struct roothash *h, uint8_t out[KV_DIGEST_LEN])
{
	struct kv_slice sum = kv_slice_of(h->sum, sizeof(h->sum));

	return kv_digest_sha256(h->digest, &sum, 1, out);
}

/* ---- what is remembered ---- */

/* The number of a snapshot's commit, which tells it from others of its name. */
static int roothash_seq(struct kvfs *fs, const char *name, kv_seq *out)
{
	struct kv_snapshot_info *list = NULL;
	size_t count = 0;
	int err = kv_snapshot_list(fs->db, &list, &count);

	if (!err) {
		err = -KV_E_NOTFOUND;
		for (size_t i = 0; i < count; i++)
			if (!strcmp(list[i].name, name)) {
				*out = list[i].seq;
				err = 0;
			}
	}
	free(list);
	return err;
}

static int roothash_key(const char *name, struct model_key *out)
{
	if (strlen(name) > KVFS_NAME_MAX)
		return -ENAMETOOLONG;
	place_meta(ROOTHASH_META, out);
	memcpy(out->b + out->len, name, strlen(name));
	out->len += strlen(name);
	return 0;
}

int roothash_remembered(struct kvfs *fs, const char *name, uint8_t sum[ROOTHASH_SUM])
{
	struct kv_buf value = {0};
	struct model_key key;
	struct le64 stored;
	kv_seq seq;
	int err = roothash_key(name, &key);

	if (!err)
		err = roothash_seq(fs, name, &seq);
	if (!err)
		err = kv_get(fs->db, MODEL_META, model_key_slice(&key), &value);
	if (!err && value.len != sizeof(stored) + ROOTHASH_SUM)
		err = -KV_E_CORRUPT;
	if (!err) {
		memcpy(&stored, value.data, sizeof(stored));
		if (le64_get(stored) == seq)
			memcpy(sum, value.data + sizeof(stored), ROOTHASH_SUM);
		else
			err = -KV_E_NOTFOUND; /* of another snapshot that had this name */
	}
	kv_buf_free(&value);
	return err;
}

int roothash_remember(struct kvfs *fs, const char *name, const uint8_t sum[ROOTHASH_SUM])
{
	uint8_t value[8 + ROOTHASH_SUM];
	struct model_key key;
	struct le64 stored;
	kv_seq seq;
	int err;

	if (kvfs_writable(fs))
		return 0;
	err = roothash_key(name, &key);
	if (!err)
		err = roothash_seq(fs, name, &seq);
	if (err)
		return err;
	stored = le64_of(seq);
	memcpy(value, &stored, sizeof(stored));
	memcpy(value + sizeof(stored), sum, ROOTHASH_SUM);
	err = kv_put(fs->db, MODEL_META, model_key_slice(&key), kv_slice_of(value, sizeof(value)),
		     0);
	return err == -KV_E_NOSPACE || err == -KV_E_READONLY || err == -KV_E_POISONED ? 0 : err;
}

int roothash_forget(struct kvfs *fs, const char *name)
{
	struct model_key key;
	int err = roothash_key(name, &key);

	if (!err)
		err = kv_get(fs->db, MODEL_META, model_key_slice(&key), NULL);
	if (!err)
		err = kv_delete(fs->db, MODEL_META, model_key_slice(&key), KV_COMMIT_RESERVE);
	return err == -KV_E_NOTFOUND || err == -ENAMETOOLONG ? 0 : err;
}

int kvfs_snapshot_hash(struct kvfs *fs, const char *name, uint8_t out[KVFS_HASH_LEN])
{
	struct roothash h;
	struct state s = {0};
	int err = roothash_init(&h);

	if (!err)
		err = roothash_remembered(fs, name, h.sum);
	if (err == -KV_E_NOTFOUND) {
		err = state_open(fs, name, &s);
		if (!err)
			err = roothash_tree(&h, s.txn, kv_slice_of(NULL, 0), kv_slice_of(NULL, 0),
					    true);
		if (!err)
			err = roothash_remember(fs, name, h.sum);
	}
	if (!err)
		err = roothash_final(&h, out);
	state_close(&s);
	roothash_fini(&h);
	return err;
}
