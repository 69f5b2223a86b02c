/* SPDX-License-Identifier: MIT */
/*
 * Frames and items of the stream. Every length is checked before it is used, and what is
 * decoded makes a record that could be stored, so that whoever applies items has to ask
 * only whether they fit the tree.
 */
#include "fusefs/model/stream.h"

#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/cursor.h"

#define STREAM_PATH_MAX (1024U * 1024)

static const uint8_t stream_magic[8] = {0x89, 'K', 'V', 'S', 'N', 'D', 0x0d, 0x0a};

/* ---- encoding ---- */

static int stream_put_le(struct kv_buf *out, uint64_t v, size_t len)
{
	struct le64 raw = le64_of(v);

	return buf_append(out, raw.b, len);
}

static int stream_encode_entry(const struct stream_item *i, struct kv_buf *out)
{
	const struct inode *r = &i->attr;
	const uint64_t words[] = {r->mode, r->uid, r->gid, r->nlink, r->rdev};
	const uint64_t longs[] = {r->size, r->atime, r->mtime, r->ctime, r->btime};
	int err = buf_append_byte(out, (uint8_t)i->origin);

	if (!err)
		err = buf_append_byte(out, (uint8_t)i->body);
	if (!err)
		err = buf_append_byte(out, r->flags & MODEL_FLAGS_USER);
	for (size_t n = 0; !err && n < KV_ARRAY_COUNT(words); n++)
		err = stream_put_le(out, words[n], 4);
	for (size_t n = 0; !err && n < KV_ARRAY_COUNT(longs); n++)
		err = stream_put_le(out, longs[n], 8);
	if (!err)
		err = buf_append_lenslice(out, i->path);
	if (!err)
		err = buf_append_lenslice(out, i->from);
	if (!err)
		err = buf_append_lenslice(out, i->xattrs);
	return err ? err : buf_append_slice(out, i->bytes);
}

int stream_encode(const struct stream_item *i, struct kv_buf *out)
{
	int err;

	switch (i->kind) {
	case STREAM_BEGIN:
		err = buf_append(out, i->id, sizeof(i->id));
		if (!err)
			err = buf_append(out, i->base, sizeof(i->base));
		if (!err)
			err = buf_append_byte(out, i->full);
		if (!err)
			err = buf_append_lenslice(out, i->from);
		return err ? err : buf_append_lenslice(out, i->path);
	case STREAM_REMOVE:
		err = buf_append_byte(out, i->gone);
		return err ? err : buf_append_slice(out, i->path);
	case STREAM_ENTRY:
		return stream_encode_entry(i, out);
	case STREAM_DATA:
		err = stream_put_le(out, i->chunk, 8);
		return err ? err : buf_append_slice(out, i->bytes);
	case STREAM_HOLE:
		return stream_put_le(out, i->chunk, 8);
	case STREAM_LINK:
		err = buf_append_byte(out, (uint8_t)i->origin);
		if (!err)
			err = buf_append_lenslice(out, i->path);
		return err ? err : buf_append_lenslice(out, i->from);
	default:
		return buf_append(out, i->id, sizeof(i->id));
	}
}

/* ---- decoding ---- */

/* Components that can be names, with a byte 0 between two; nothing for the top directory. */
static bool stream_path_valid(struct kv_slice path)
{
	if (path.len > STREAM_PATH_MAX)
		return false;
	while (path.len) {
		const uint8_t *zero = memchr(path.data, 0, path.len);
		size_t len = zero ? (size_t)(zero - path.data) : path.len;

		if (place_check_name(kv_slice_of(path.data, len)) || (zero && len + 1 == path.len))
			return false;
		path = kv_slice_of(path.data + len + (zero != NULL),
				   path.len - len - (zero != NULL));
	}
	return true;
}

static bool stream_xattrs_valid(struct kv_slice in)
{
	struct cursor c = cursor_of(in);
	struct kv_slice last = {0}, name;

	while (cursor_left(&c) && !c.bad) {
		uint16_t name_len = cursor_le16(&c);
		uint32_t value_len = cursor_le32(&c);

		name = cursor_bytes(&c, name_len);
		(void)cursor_bytes(&c, value_len);
		if (c.bad || !name.len || name.len > KVFS_XATTR_NAME_MAX ||
		    value_len > KVFS_XATTR_VALUE_MAX || memchr(name.data, 0, name.len) ||
		    (last.len && slice_compare(last, name) >= 0))
			return false;
		last = name;
	}
	return !c.bad;
}

/* Do body, size and type agree? As inode_decode() demands of a record. */
static bool stream_body_valid(const struct stream_item *i)
{
	const struct inode *r = &i->attr;

	switch (r->mode & S_IFMT) {
	case S_IFREG:
		if (r->size > KVFS_FILE_MAX)
			return false;
		if (i->body == STREAM_BODY_INLINE)
			return i->bytes.len == r->size && r->size <= MODEL_INLINE_MAX;
		return !i->bytes.len &&
		       (i->body == STREAM_BODY_CHUNKS || i->origin != STREAM_FRESH);
	case S_IFLNK:
		return i->body == STREAM_BODY_INLINE && r->size && i->bytes.len == r->size &&
		       r->size <= KVFS_SYMLINK_MAX && !memchr(i->bytes.data, 0, i->bytes.len) &&
		       !r->flags;
	case S_IFDIR:
		return i->body == STREAM_BODY_KEPT && !r->size && !i->bytes.len;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return i->body == STREAM_BODY_KEPT && !r->size && !i->bytes.len && !r->flags;
	default:
		return false;
	}
}

static bool stream_time_valid(uint64_t v)
{
	return (v & ((1U << 30) - 1)) < 1000000000U;
}

static int stream_decode_entry(struct cursor *c, struct stream_item *i)
{
	struct inode *r = &i->attr;
	uint8_t origin = cursor_u8(c), body = cursor_u8(c);

	r->kind = MODEL_RECORD_FULL;
	r->flags = cursor_u8(c);
	r->mode = cursor_le32(c);
	r->uid = cursor_le32(c);
	r->gid = cursor_le32(c);
	r->nlink = cursor_le32(c);
	r->rdev = cursor_le32(c);
	r->size = cursor_le64(c);
	r->atime = cursor_le64(c);
	r->mtime = cursor_le64(c);
	r->ctime = cursor_le64(c);
	r->btime = cursor_le64(c);
	i->path = cursor_lenslice(c);
	i->from = cursor_lenslice(c);
	i->xattrs = cursor_lenslice(c);
	i->bytes = cursor_bytes(c, cursor_left(c));
	if (c->bad || origin > STREAM_OLD_PATH || body > STREAM_BODY_CHUNKS ||
	    (r->flags & ~MODEL_FLAGS_USER) || (r->mode & ~(S_IFMT | 07777U)) || !r->nlink ||
	    !stream_time_valid(r->atime) || !stream_time_valid(r->mtime) ||
	    !stream_time_valid(r->ctime) || !stream_time_valid(r->btime))
		return -EPROTO;
	i->origin = (enum stream_origin)origin;
	i->body = (enum stream_body)body;
	return stream_path_valid(i->path) && stream_path_valid(i->from) &&
			       stream_xattrs_valid(i->xattrs) && stream_body_valid(i)
		       ? 0
		       : -EPROTO;
}

static int stream_decode_begin(struct cursor *c, struct stream_item *i)
{
	struct kv_slice id = cursor_bytes(c, KV_DIGEST_LEN), base = cursor_bytes(c, KV_DIGEST_LEN);
	uint8_t full = cursor_u8(c);

	i->from = cursor_lenslice(c);
	i->path = cursor_lenslice(c);
	if (c->bad || full > 1 || place_check_name(i->path) ||
	    (full ? i->from.len != 0 : place_check_name(i->from) != 0))
		return -EPROTO;
	i->full = full;
	memcpy(i->id, id.data, sizeof(i->id));
	memcpy(i->base, base.data, sizeof(i->base));
	return 0;
}

static int stream_decode_link(struct cursor *c, struct stream_item *i)
{
	uint8_t origin = cursor_u8(c);

	i->path = cursor_lenslice(c);
	i->from = cursor_lenslice(c);
	i->origin = (enum stream_origin)origin;
	return !c->bad && (origin == STREAM_OLD_PATH || origin == STREAM_NEW_PATH) && i->path.len &&
			       i->from.len && stream_path_valid(i->path) &&
			       stream_path_valid(i->from)
		       ? 0
		       : -EPROTO;
}

static int stream_decode_chunk(struct cursor *c, struct stream_item *i)
{
	i->chunk = cursor_le64(c);
	i->bytes = cursor_bytes(c, cursor_left(c));
	if (c->bad || i->chunk > KVFS_FILE_MAX / MODEL_CHUNK || i->bytes.len > MODEL_CHUNK)
		return -EPROTO;
	return (i->bytes.len != 0) == (i->kind == STREAM_DATA) ? 0 : -EPROTO;
}

int stream_decode(uint8_t kind, struct kv_slice payload, struct stream_item *out)
{
	struct stream_item i = {.kind = (enum stream_kind)kind};
	struct cursor c = cursor_of(payload);
	struct kv_slice id;
	uint8_t gone;
	int err = -EPROTO;

	switch (kind) {
	case STREAM_BEGIN:
		err = stream_decode_begin(&c, &i);
		break;
	case STREAM_REMOVE:
		gone = cursor_u8(&c);
		i.gone = gone;
		i.path = cursor_bytes(&c, cursor_left(&c));
		err = !c.bad && gone <= 1 && i.path.len && stream_path_valid(i.path) ? 0 : -EPROTO;
		break;
	case STREAM_ENTRY:
		err = stream_decode_entry(&c, &i);
		break;
	case STREAM_DATA:
	case STREAM_HOLE:
		err = stream_decode_chunk(&c, &i);
		break;
	case STREAM_LINK:
		err = stream_decode_link(&c, &i);
		break;
	case STREAM_END:
		id = cursor_bytes(&c, sizeof(i.id));
		if (!c.bad) {
			memcpy(i.id, id.data, sizeof(i.id));
			err = 0;
		}
		break;
	default:
		break;
	}
	if (!err && cursor_finish(&c))
		err = -EPROTO;
	if (!err)
		*out = i;
	return err;
}

/* ---- frames ---- */

void stream_header(uint8_t out[STREAM_HEADER])
{
	struct le32 version = le32_of(STREAM_VERSION);

	memset(out, 0, STREAM_HEADER);
	memcpy(out, stream_magic, sizeof(stream_magic));
	memcpy(out + sizeof(stream_magic), &version, sizeof(version));
}

int stream_check_header(struct kv_slice in)
{
	uint8_t want[STREAM_HEADER];

	stream_header(want);
	if (in.len < STREAM_HEADER || memcmp(in.data, want, sizeof(stream_magic)) != 0)
		return -EPROTO;
	return memcmp(in.data, want, STREAM_HEADER) != 0 ? -EPROTONOSUPPORT : 0;
}

int stream_chain_init(struct stream_chain *c)
{
	uint8_t header[STREAM_HEADER];
	struct kv_slice part = kv_slice_of(header, sizeof(header));
	int err;

	*c = (struct stream_chain){0};
	stream_header(header);
	err = kv_digest_new(&c->digest);
	return err ? err : kv_digest_sha256(c->digest, &part, 1, c->sum);
}

void stream_chain_fini(struct stream_chain *c)
{
	kv_digest_free(c->digest);
	c->digest = NULL;
}

static int stream_sum(struct stream_chain *c, struct kv_slice frame, uint8_t out[KV_DIGEST_LEN])
{
	const struct kv_slice parts[] = {kv_slice_of(c->sum, sizeof(c->sum)), frame};

	return kv_digest_sha256(c->digest, parts, KV_ARRAY_COUNT(parts), out);
}

int stream_put(struct stream_chain *c, const struct stream_item *item, struct kv_buf *out)
{
	size_t at = out->len, len;
	struct le32 size;
	struct le64 number = le64_of(c->next);
	uint8_t sum[KV_DIGEST_LEN];
	int err = buf_append_zeros(out, STREAM_FRAME_HEAD);

	if (!err)
		err = stream_encode(item, out);
	len = out->len - at - STREAM_FRAME_HEAD;
	if (!err && len > STREAM_PAYLOAD_MAX)
		err = -ENAMETOOLONG;
	if (err)
		return err;
	size = le32_of((uint32_t)len);
	memcpy(out->data + at, &size, sizeof(size));
	memcpy(out->data + at + 4, &number, sizeof(number));
	out->data[at + 12] = (uint8_t)item->kind;
	err = stream_sum(c, kv_slice_of(out->data + at, out->len - at), sum);
	if (!err)
		err = buf_append(out, sum, sizeof(sum));
	if (err)
		return err;
	memcpy(c->sum, sum, sizeof(sum));
	c->next++;
	return 0;
}

int stream_get(struct stream_chain *c, struct kv_slice in, uint8_t *kind, struct kv_slice *payload,
	       size_t *len)
{
	struct cursor head = cursor_of(in);
	uint32_t size = cursor_le32(&head);
	uint64_t number = cursor_le64(&head);
	uint8_t type = cursor_u8(&head), sum[KV_DIGEST_LEN];
	size_t whole;
	int err;

	if (head.bad)
		return -EAGAIN;
	if (size > STREAM_PAYLOAD_MAX)
		return -EBADMSG;
	whole = STREAM_FRAME_HEAD + size;
	if (in.len < whole + sizeof(sum))
		return -EAGAIN;
	if (number != c->next)
		return -EILSEQ;
	err = stream_sum(c, kv_slice_of(in.data, whole), sum);
	if (err)
		return err;
	if (memcmp(sum, in.data + whole, sizeof(sum)) != 0)
		return -EBADMSG;
	memcpy(c->sum, sum, sizeof(sum));
	c->next++;
	*kind = type;
	*payload = kv_slice_of(in.data + STREAM_FRAME_HEAD, size);
	*len = whole + sizeof(sum);
	return 0;
}

/* ---- tokens ---- */

int stream_token_format(const struct stream_chain *c, struct kv_buf *out)
{
	int err = buf_printf(out, "%llu-", (unsigned long long)c->next);

	for (size_t i = 0; !err && i < sizeof(c->sum); i++)
		err = buf_printf(out, "%02x", c->sum[i]);
	return err;
}

static int stream_hex(char ch)
{
	return ch >= '0' && ch <= '9' ? ch - '0' : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

int stream_token_parse(const char *text, uint64_t *next, uint8_t sum[KV_DIGEST_LEN])
{
	char *end;

	errno = 0;
	*next = strtoull(text, &end, 10);
	if (errno || end == text || *end != '-' || strlen(end + 1) != 2 * (size_t)KV_DIGEST_LEN)
		return -EINVAL;
	for (size_t i = 0; i < KV_DIGEST_LEN; i++) {
		int high = stream_hex(end[1 + 2 * i]), low = stream_hex(end[2 + 2 * i]);

		if (high < 0 || low < 0)
			return -EINVAL;
		sum[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}
