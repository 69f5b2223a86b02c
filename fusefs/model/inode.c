/* SPDX-License-Identifier: MIT */
/*
 * Decoding checks everything that later code relies on: the kind, known flags,
 * the type, and that the lengths of the three variable parts add up to the
 * value's length and agree with size and flags. What a record means together
 * with others (link counts, reachability) is for kvfs_check().
 */
#include "fusefs/model/inode.h"

#include <string.h>

#include "fusefs/model/remove.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/cursor.h"

uint64_t inode_time(struct kvfs_time t)
{
	int64_t sec = t.sec;

	if (sec < MODEL_TIME_SEC_MIN)
		sec = MODEL_TIME_SEC_MIN;
	if (sec > MODEL_TIME_SEC_MAX)
		sec = MODEL_TIME_SEC_MAX;
	return (uint64_t)(sec - MODEL_TIME_SEC_MIN) << 30 | (t.nsec < 1000000000U ? t.nsec : 0);
}

struct kvfs_time inode_time_get(uint64_t v)
{
	return (struct kvfs_time){(int64_t)(v >> 30) + MODEL_TIME_SEC_MIN,
				  (uint32_t)(v & ((1U << 30) - 1))};
}

static bool inode_type_known(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

static bool inode_time_valid(uint64_t v)
{
	return (v & ((1U << 30) - 1)) < 1000000000U;
}

static int inode_decode_link(struct kv_slice in, struct inode *out)
{
	struct inode r = {.kind = MODEL_RECORD_LINK};
	struct model_link raw;

	if (in.len != sizeof(raw))
		return -KV_E_CORRUPT;
	memcpy(&raw, in.data, sizeof(raw));
	r.mode = le16_get(raw.type);
	r.id = le64_get(raw.id);
	if (raw.zero || (r.mode & ~(uint32_t)S_IFMT) || !inode_type_known(r.mode) ||
	    inode_is_dir(&r) || r.id < MODEL_ID_FIRST)
		return -KV_E_CORRUPT;
	*out = r;
	return 0;
}

/* Whether size, flags and type agree. */
static bool inode_contents_valid(const struct inode *r)
{
	bool chunks = r->flags & MODEL_FLAG_CHUNKS;

	if ((r->content && (r->mode & S_IFMT) != S_IFREG) || (r->sharing && !chunks))
		return false;
	switch (r->mode & S_IFMT) {
	case S_IFREG:
		if (r->size > KVFS_FILE_MAX || (r->flags & MODEL_FLAG_PREFIX))
			return false;
		if (chunks)
			return r->contents.len == 0;
		return r->chunks == 0 && r->contents.len == r->size &&
		       r->contents.len <= MODEL_INLINE_MAX;
	case S_IFLNK:
		return r->chunks == 0 && !(r->flags & ~MODEL_FLAG_XATTRS) && r->size &&
		       r->contents.len == r->size && r->size <= KVFS_SYMLINK_MAX;
	case S_IFDIR:
		return !chunks && r->chunks == 0 && r->size == 0 && r->contents.len == 0;
	default:
		return !r->flags || r->flags == MODEL_FLAG_XATTRS
			       ? r->chunks == 0 && r->size == 0 && r->contents.len == 0
			       : false;
	}
}

/* The attributes kept inline: well formed, in strict order of their names. */
static bool inode_xattrs_valid(struct kv_slice xattrs)
{
	struct cursor c = cursor_of(xattrs);
	struct kv_slice last = {0}, name;
	uint16_t value_len;

	while (cursor_left(&c)) {
		uint8_t name_len = cursor_u8(&c);

		value_len = cursor_le16(&c);
		name = cursor_bytes(&c, name_len);
		(void)cursor_bytes(&c, value_len);
		if (c.bad || !name.len || value_len > MODEL_XATTR_VALUE_MAX ||
		    memchr(name.data, 0, name.len) || (last.len && slice_compare(last, name) >= 0))
			return false;
		last = name;
	}
	return true;
}

/* Which other contents the chunks are; checked with size and flags. */
static int inode_decode_content(struct cursor *c, struct inode *r)
{
	struct kv_slice bytes = cursor_bytes(c, sizeof(struct model_content));
	struct model_content raw;
	uint32_t flags;

	if (c->bad)
		return -KV_E_CORRUPT;
	memcpy(&raw, bytes.data, sizeof(raw));
	r->content = le64_get(raw.id);
	flags = le32_get(raw.flags);
	if (r->content < MODEL_ID_FIRST || (flags & ~(uint32_t)MODEL_CONTENT_FLAGS_KNOWN) ||
	    (r->content == r->id && !flags))
		return -KV_E_CORRUPT;
	inode_set_content(r, r->content, (uint8_t)flags);
	r->flags &= (uint8_t)~MODEL_FLAG_CONTENT;
	return 0;
}

int inode_decode(struct kv_slice in, struct inode *out)
{
	struct model_record raw;
	struct inode r = {0};
	struct cursor c;

	if (in.len && in.data[0] == MODEL_RECORD_LINK)
		return inode_decode_link(in, out);
	if (in.len < sizeof(raw) || in.data[0] != MODEL_RECORD_FULL)
		return -KV_E_CORRUPT;
	memcpy(&raw, in.data, sizeof(raw));
	r.kind = raw.kind;
	r.flags = raw.flags;
	r.mode = le16_get(raw.mode);
	r.uid = le32_get(raw.uid);
	r.gid = le32_get(raw.gid);
	r.nlink = le32_get(raw.nlink);
	r.rdev = le32_get(raw.rdev);
	r.id = le64_get(raw.id);
	r.size = le64_get(raw.size);
	r.chunks = le64_get(raw.chunks);
	r.atime = le64_get(raw.atime);
	r.mtime = le64_get(raw.mtime);
	r.ctime = le64_get(raw.ctime);
	r.btime = le64_get(raw.btime);
	c = cursor_of(kv_slice_of(in.data + sizeof(raw), in.len - sizeof(raw)));
	if ((r.flags & MODEL_FLAG_CONTENT) && inode_decode_content(&c, &r))
		return -KV_E_CORRUPT;
	r.prefix = cursor_bytes(&c, le16_get(raw.prefix_len));
	r.xattrs = cursor_bytes(&c, le16_get(raw.xattrs_len));
	r.contents = cursor_bytes(&c, le16_get(raw.contents_len));
	if (cursor_finish(&c))
		return -KV_E_CORRUPT;
	if ((r.flags & ~MODEL_FLAGS_KNOWN) || !inode_type_known(r.mode) || !r.id ||
	    r.prefix.len > MODEL_PREFIX_MAX ||
	    (r.prefix.len != 0) != ((r.flags & MODEL_FLAG_PREFIX) != 0) ||
	    r.xattrs.len > MODEL_XATTRS_MAX || !inode_contents_valid(&r) ||
	    !inode_xattrs_valid(r.xattrs))
		return -KV_E_CORRUPT;
	if (!inode_time_valid(r.atime) || !inode_time_valid(r.mtime) ||
	    !inode_time_valid(r.ctime) || !inode_time_valid(r.btime))
		return -KV_E_CORRUPT;
	*out = r;
	return 0;
}

static uint8_t *inode_append(uint8_t *pos, struct kv_slice s)
{
	if (s.len)
		memcpy(pos, s.data, s.len);
	return pos + s.len;
}

size_t inode_encode(const struct inode *r, uint8_t *out)
{
	struct model_record raw = {
		.kind = MODEL_RECORD_FULL,
		.flags = r->flags,
		.mode = le16_of((uint16_t)r->mode),
		.uid = le32_of(r->uid),
		.gid = le32_of(r->gid),
		.nlink = le32_of(r->nlink),
		.rdev = le32_of(r->rdev),
		.id = le64_of(r->id),
		.size = le64_of(r->size),
		.chunks = le64_of(r->chunks),
		.atime = le64_of(r->atime),
		.mtime = le64_of(r->mtime),
		.ctime = le64_of(r->ctime),
		.btime = le64_of(r->btime),
		.prefix_len = le16_of((uint16_t)r->prefix.len),
		.xattrs_len = le16_of((uint16_t)r->xattrs.len),
		.contents_len = le16_of((uint16_t)r->contents.len),
	};
	uint8_t *pos = out;

	if (r->kind == MODEL_RECORD_LINK) {
		struct model_link link = {
			.kind = MODEL_RECORD_LINK,
			.type = le16_of((uint16_t)(r->mode & S_IFMT)),
			.id = le64_of(r->id),
		};

		memcpy(out, &link, sizeof(link));
		return sizeof(link);
	}
	/* The same invariants that decoding demands. */
	KV_ASSERT(inode_contents_valid(r) && !(r->flags & MODEL_FLAG_CONTENT));
	if (r->content || r->sharing)
		raw.flags |= MODEL_FLAG_CONTENT;
	KV_ASSERT((r->prefix.len != 0) == ((r->flags & MODEL_FLAG_PREFIX) != 0));
	KV_ASSERT(r->prefix.len <= MODEL_PREFIX_MAX && r->xattrs.len <= MODEL_XATTRS_MAX);
	memcpy(pos, &raw, sizeof(raw));
	pos += sizeof(raw);
	if (r->content || r->sharing) {
		struct model_content content = {.id = le64_of(inode_content(r)),
						.flags = le32_of(r->sharing)};

		pos = inode_append(pos, kv_slice_of(&content, sizeof(content)));
	}
	pos = inode_append(pos, r->prefix);
	pos = inode_append(pos, r->xattrs);
	pos = inode_append(pos, r->contents);
	return (size_t)(pos - out);
}

void inode_attr(const struct inode *r, struct kvfs_attr *out)
{
	uint64_t whole = r->size / 512 + (r->size % 512 != 0);

	*out = (struct kvfs_attr){
		.ino = r->id,
		.size = r->size,
		.mode = r->mode,
		.nlink = r->nlink,
		.uid = r->uid,
		.gid = r->gid,
		.rdev = r->rdev,
		.flags = (r->flags & MODEL_FLAGS_USER) / MODEL_FLAG_IMMUTABLE,
		.atime = inode_time_get(r->atime),
		.mtime = inode_time_get(r->mtime),
		.ctime = inode_time_get(r->ctime),
		.btime = inode_time_get(r->btime),
	};
	/* Chunks are counted whole, but a file never holds more than its size. */
	if (r->flags & MODEL_FLAG_CHUNKS)
		out->blocks = r->chunks > whole / (MODEL_CHUNK / 512)
				      ? whole
				      : r->chunks * (MODEL_CHUNK / 512);
	else if ((r->mode & S_IFMT) == S_IFREG)
		out->blocks = whole;
}

int inode_read(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key,
	       struct kv_buf *value)
{
	struct kv_txn *view;
	int err;

	if (txn)
		return kv_txn_get(txn, key->keyspace, model_key_slice(key), value);
	if (!fs->view)
		return kv_get(fs->db, key->keyspace, model_key_slice(key), value);
	err = retry_begin_read(fs, &view);
	if (err)
		return err;
	err = kv_txn_get(view, key->keyspace, model_key_slice(key), value);
	retry_end_read(fs, view);
	return err;
}

int inode_get(struct kvfs *fs, struct kv_txn *txn, const struct model_key *key, bool update,
	      struct inode_buf *out)
{
	int err;

	if (update)
		err = kv_txn_get_for_update(txn, key->keyspace, model_key_slice(key), &out->raw);
	else
		err = inode_read(fs, txn, key, &out->raw);
	if (err == -KV_E_NOTFOUND && key->keyspace == MODEL_ORPHANS)
		err = remove_get_orphan(fs, be64_at(key->b), &out->raw);
	if (err)
		return err;
	return inode_decode(kv_buf_slice(&out->raw), &out->r);
}

int inode_put(struct kv_txn *txn, const struct model_key *key, const struct inode *r)
{
	uint8_t raw[MODEL_RECORD_MAX];
	size_t len = inode_encode(r, raw);

	return kv_txn_put(txn, key->keyspace, model_key_slice(key), kv_slice_of(raw, len));
}

void inode_buf_free(struct inode_buf *b)
{
	kv_buf_free(&b->raw);
	b->r = (struct inode){0};
}
