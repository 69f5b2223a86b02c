/* SPDX-License-Identifier: MIT */
/*
 * The chunk store. A small write into a chunk that exists is a patch under the
 * next stamp, put without reading the base; when patches are many or large they
 * are folded into a new base. Which stamp is next, and how many bytes the
 * patches have, is in the last patch, which the handle remembers or one seek finds.
 */
#include "fusefs/model/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/place.h"
#include "fusefs/model/share.h"
#include "kvcore/base/buf.h"

#define CHUNK_GAP_MAX	 4096U /* zeros that a new base may begin with */
#define CHUNK_FEW	 64U   /* chunks that are deleted one by one */
#define CHUNK_HINT_STAMP 255U  /* the last one that inode.tail can say */

void chunk_key(uint64_t id, uint64_t chunk, uint32_t stamp, struct model_key *out)
{
	out->keyspace = MODEL_DATA;
	out->len = MODEL_DATA_KEY_LEN;
	be64_put(out->b, id);
	be64_put(out->b + 8, chunk);
	be32_put(out->b + 16, stamp);
}

int chunk_key_decode(struct kv_slice key, uint64_t *id, uint64_t *chunk, uint32_t *stamp)
{
	if (key.len != MODEL_DATA_KEY_LEN)
		return -KV_E_CORRUPT;
	*id = be64_at(key.data);
	*chunk = be64_at(key.data + 8);
	*stamp = be32_at(key.data + 16);
	if (*chunk > KVFS_FILE_MAX / MODEL_CHUNK)
		return -KV_E_CORRUPT;
	return 0;
}

int chunk_part_decode(struct kv_slice value, uint32_t stamp, uint32_t *off, struct kv_slice *bytes)
{
	struct model_patch head;
	uint32_t at;

	if (!stamp) {
		if (value.len > MODEL_CHUNK)
			return -KV_E_CORRUPT;
		*off = 0;
		*bytes = value;
		return 0;
	}
	if (value.len <= sizeof(head))
		return -KV_E_CORRUPT;
	memcpy(&head, value.data, sizeof(head));
	at = le32_get(head.off);
	if (at >= MODEL_CHUNK || value.len - sizeof(head) > MODEL_CHUNK - at)
		return -KV_E_CORRUPT;
	*off = at;
	*bytes = kv_slice_of(value.data + sizeof(head), value.len - sizeof(head));
	return 0;
}

int chunk_iter_open(struct kv_txn *txn, uint64_t id, uint64_t from, uint64_t to,
		    struct kv_iter **out)
{
	struct model_key lower, upper;
	struct kv_range range;

	chunk_key(id, from, 0, &lower);
	chunk_key(id, to, 0, &upper);
	range = (struct kv_range){.lower = model_key_slice(&lower),
				  .upper = model_key_slice(&upper)};
	/* Without the stamp the engine sees that the range of one chunk has its key as a prefix. */
	range.upper.len = MODEL_CHUNK_KEY_LEN;
	return kv_iter_open(txn, MODEL_DATA, &range, out);
}

/* The part under the iterator, copied where it meets [off, off + len). */
static int chunk_copy_part(struct kv_iter *it, uint64_t off, size_t len, uint8_t *out)
{
	struct kv_slice value, bytes;
	uint64_t id, chunk, begin, end;
	uint32_t stamp, at;
	int err;

	err = chunk_key_decode(kv_iter_key(it), &id, &chunk, &stamp);
	if (!err)
		err = kv_iter_value(it, &value);
	if (!err)
		err = chunk_part_decode(value, stamp, &at, &bytes);
	if (err)
		return err;
	begin = chunk * MODEL_CHUNK + at;
	end = min_u64(begin + bytes.len, off + len);
	if (begin < off) {
		if (end <= off)
			return 0;
		bytes.data += off - begin;
		begin = off;
	}
	if (begin < end)
		memcpy(out + (begin - off), bytes.data, end - begin);
	return 0;
}

int chunk_read(struct kv_txn *txn, uint64_t id, uint64_t off, size_t len, uint8_t *out)
{
	struct kv_iter *it;
	int err;

	if (!len)
		return 0;
	err = chunk_iter_open(txn, id, off / MODEL_CHUNK, (off + len - 1) / MODEL_CHUNK + 1, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = chunk_copy_part(it, off, len, out);
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* What is known of a chunk without reading its contents. */
struct chunk_tail {
	bool exists;
	uint32_t stamp; /* of the last patch, 0 if there is none */
	uint32_t sum;	/* bytes of all patches */
};

static int chunk_sum_of(struct kv_slice value, uint32_t *sum)
{
	struct model_patch head;

	if (value.len <= sizeof(head))
		return -KV_E_CORRUPT;
	memcpy(&head, value.data, sizeof(head));
	*sum = le32_get(head.sum);
	return 0;
}

/* For inode.tail. */
static uint64_t chunk_tail_hint(uint64_t chunk, uint32_t stamp)
{
	return stamp <= CHUNK_HINT_STAMP ? (chunk << 8 | stamp) + 1 : 0;
}

/*
 * Is what the handle wrote last still the end of the chunk? Since then patches were only put behind
 * it, each under the next stamp, or folded together with all others; so it is if it is there and
 * none is behind it. Two reads instead of a search from the end, which passes the deletes that
 * the last fold left.
 */
static int chunk_tail_guess(struct kv_txn *txn, const struct inode *r, uint64_t chunk,
			    struct chunk_tail *out, bool *right)
{
	struct kv_buf value = {0};
	struct model_key key;
	uint32_t stamp = (uint32_t)((r->tail - 1) & CHUNK_HINT_STAMP);
	int err;

	*right = false;
	if (!r->tail || r->tail != chunk_tail_hint(chunk, stamp))
		return 0;
	chunk_key(inode_content(r), chunk, stamp + 1, &key);
	err = kv_txn_get(txn, MODEL_DATA, model_key_slice(&key), NULL);
	if (err != -KV_E_NOTFOUND)
		return err;
	chunk_key(inode_content(r), chunk, stamp, &key);
	err = kv_txn_get(txn, MODEL_DATA, model_key_slice(&key), stamp ? &value : NULL);
	if (!err && stamp)
		err = chunk_sum_of(kv_buf_slice(&value), &out->sum);
	*right = !err;
	out->exists = !err;
	out->stamp = stamp;
	kv_buf_free(&value);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int chunk_tail_get(struct kv_txn *txn, const struct inode *r, uint64_t chunk,
			  struct chunk_tail *out)
{
	struct kv_slice value;
	struct kv_iter *it;
	uint64_t id = inode_content(r);
	bool right;
	int err;

	*out = (struct chunk_tail){0};
	err = chunk_tail_guess(txn, r, chunk, out, &right);
	if (err || right)
		return err;
	*out = (struct chunk_tail){0};
	err = chunk_iter_open(txn, id, chunk, chunk + 1, &it);
	if (err)
		return err;
	err = kv_iter_last(it);
	if (err)
		goto out;
	err = chunk_key_decode(kv_iter_key(it), &id, &chunk, &out->stamp);
	if (err)
		goto out;
	out->exists = true;
	if (!out->stamp)
		goto out;
	err = kv_iter_value(it, &value);
	if (!err)
		err = chunk_sum_of(value, &out->sum);
out:
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

static int chunk_delete_patches(struct kv_txn *txn, uint64_t id, uint64_t chunk, uint32_t last)
{
	struct model_key from, to;
	int err = 0;

	if (last > 2 * MODEL_PATCHES_MAX) { /* not by this code: a later one may allow more */
		chunk_key(id, chunk, 1, &from);
		chunk_key(id, chunk + 1, 0, &to);
		return kv_txn_delete_range(txn, MODEL_DATA, model_key_slice(&from),
					   model_key_slice(&to));
	}
	for (uint32_t stamp = 1; stamp <= last && !err; stamp++) {
		chunk_key(id, chunk, stamp, &from);
		err = kv_txn_delete(txn, MODEL_DATA, model_key_slice(&from));
	}
	return err;
}

/* A new base; patches before it are gone. */
static int chunk_put_base(struct kv_txn *txn, uint64_t id, uint64_t chunk,
			  const struct chunk_tail *tail, struct kv_slice data)
{
	struct model_key key;
	int err;

	chunk_key(id, chunk, 0, &key);
	err = kv_txn_put(txn, MODEL_DATA, model_key_slice(&key), data);
	return err ? err : chunk_delete_patches(txn, id, chunk, tail->stamp);
}

static int chunk_put_patch(struct kv_txn *txn, uint64_t id, uint64_t chunk,
			   const struct chunk_tail *tail, uint32_t off, struct kv_slice data)
{
	uint8_t value[sizeof(struct model_patch) + MODEL_PATCH_MAX];
	struct model_patch head = {le32_of(off), le32_of(tail->sum + (uint32_t)data.len)};
	struct model_key key;

	memcpy(value, &head, sizeof(head));
	memcpy(value + sizeof(head), data.data, data.len);
	chunk_key(id, chunk, tail->stamp + 1, &key);
	return kv_txn_put(txn, MODEL_DATA, model_key_slice(&key),
			  kv_slice_of(value, sizeof(head) + data.len));
}

/* The first @stored bytes of a chunk with @data over them become its base. */
static int chunk_fold(struct kv_txn *txn, uint64_t id, uint64_t chunk,
		      const struct chunk_tail *tail, uint32_t stored, uint32_t off,
		      struct kv_slice data)
{
	uint32_t len = (uint32_t)max_u64(stored, data.len ? off + data.len : 0);
	uint8_t *buf = calloc(1, len + 1U);
	int err = 0;

	if (!buf)
		return -ENOMEM;
	if (tail->exists && stored)
		err = chunk_read(txn, id, chunk * MODEL_CHUNK, stored, buf);
	if (!err) {
		if (data.len)
			memcpy(buf + off, data.data, data.len);
		err = chunk_put_base(txn, id, chunk, tail, kv_slice_of(buf, len));
	}
	free(buf);
	return err;
}

/* Bytes of a chunk that may be stored: up to the file's size. */
static uint32_t chunk_stored(const struct inode *r, uint64_t chunk)
{
	uint64_t begin = chunk * MODEL_CHUNK;

	return r->size > begin ? (uint32_t)min_u64(r->size - begin, MODEL_CHUNK) : 0;
}

/* Write @data into one chunk at @off. */
static int chunk_write_one(struct kv_txn *txn, struct inode *r, uint64_t chunk, uint32_t off,
			   struct kv_slice data)
{
	struct chunk_tail tail = {0};
	uint32_t stored = chunk_stored(r, chunk), stamp = 0;
	int err;

	if (stored) {
		err = chunk_tail_get(txn, r, chunk, &tail);
		if (err)
			return err;
	}
	if (!tail.exists)
		r->chunks++;
	if (!off && data.len >= stored) {
		err = chunk_put_base(txn, inode_content(r), chunk, &tail, data);
	} else if (!tail.exists && off <= CHUNK_GAP_MAX) {
		err = chunk_fold(txn, inode_content(r), chunk, &tail, 0, off, data);
	} else if (data.len < MODEL_PATCH_MAX && tail.stamp < MODEL_PATCHES_MAX &&
		   tail.sum + data.len <= MODEL_PATCH_SUM_MAX) {
		err = chunk_put_patch(txn, inode_content(r), chunk, &tail, off, data);
		stamp = tail.stamp + 1;
	} else {
		err = chunk_fold(txn, inode_content(r), chunk, &tail, tail.exists ? stored : 0, off,
				 data);
	}
	r->tail = chunk_tail_hint(chunk, stamp);
	return err;
}

int chunk_write(struct kv_txn *txn, struct inode *r, uint64_t off, struct kv_slice data)
{
	int err = 0;

	while (data.len && !err) {
		uint32_t at = (uint32_t)(off % MODEL_CHUNK);
		size_t len = min_u64(data.len, MODEL_CHUNK - at);

		err = chunk_write_one(txn, r, off / MODEL_CHUNK, at, kv_slice_of(data.data, len));
		off += len;
		data.data += len;
		data.len -= len;
	}
	return err;
}

/* How many of the chunks [from, to) exist. */
static int chunk_count(struct kv_txn *txn, uint64_t id, uint64_t from, uint64_t to, uint64_t *out)
{
	uint64_t count = 0, last = UINT64_MAX, chunk;
	struct kv_iter *it;
	uint32_t stamp;
	int err;

	*out = 0;
	if (from >= to)
		return 0;
	err = chunk_iter_open(txn, id, from, to, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		err = chunk_key_decode(kv_iter_key(it), &id, &chunk, &stamp);
		if (err)
			break;
		count += chunk != last;
		last = chunk;
		err = kv_iter_next(it);
	}
	kv_iter_close(it);
	if (err != -KV_E_NOTFOUND)
		return err;
	*out = count;
	return 0;
}

int chunk_lacking(struct kv_txn *txn, const struct inode *r, uint64_t from, uint64_t to,
		  uint64_t *out)
{
	uint64_t first = from / MODEL_CHUNK, end = chunk_span(to), span = chunk_span(r->size);
	uint64_t there = 0;
	int err = 0;

	if (r->chunks == span)
		there = first < span ? min_u64(end, span) - first : 0;
	else if (r->chunks)
		err = chunk_count(txn, inode_content(r), first, min_u64(end, span), &there);
	if (!err)
		*out = end - first - there;
	return err;
}

/*
 * Delete the keys of the chunks [from, to), of which @count exist. A range delete is one key, but
 * every later read near it pays, so few are deleted one by one.
 */
static int chunk_delete(struct kv_txn *txn, uint64_t id, uint64_t from, uint64_t to, uint64_t count)
{
	struct model_key key, upper;
	struct kv_iter *it;
	int err;

	if (!count)
		return 0;
	if (count > CHUNK_FEW) {
		chunk_key(id, from, 0, &key);
		chunk_key(id, to, 0, &upper);
		return kv_txn_delete_range(txn, MODEL_DATA, model_key_slice(&key),
					   model_key_slice(&upper));
	}
	err = chunk_iter_open(txn, id, from, to, &it);
	if (err)
		return err;
	err = kv_iter_first(it);
	while (!err) {
		/* A copy: the key moves with the iterator, and the delete may touch it. */
		key.len = kv_iter_key(it).len;
		if (key.len > sizeof(key.b)) {
			err = -KV_E_CORRUPT;
			break;
		}
		memcpy(key.b, kv_iter_key(it).data, key.len);
		err = kv_txn_delete(txn, MODEL_DATA, model_key_slice(&key));
		if (!err)
			err = kv_iter_next(it);
	}
	kv_iter_close(it);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* Take the chunks [from, to) away, keeping r->chunks right at the least cost. */
static int chunk_drop(struct kv_txn *txn, struct inode *r, uint64_t from, uint64_t to)
{
	uint64_t span = chunk_span(r->size), before = 0, after = 0, inside;
	int err;

	to = min_u64(to, span);
	if (from >= to || !r->chunks)
		return 0;
	if (r->chunks == span) {
		inside = to - from; /* no holes */
	} else if (to - from <= span / 2) {
		err = chunk_count(txn, inode_content(r), from, to, &inside);
		if (err)
			return err;
	} else {
		err = chunk_count(txn, inode_content(r), 0, from, &before);
		if (!err)
			err = chunk_count(txn, inode_content(r), to, span, &after);
		if (err)
			return err;
		if (before + after > r->chunks)
			return -KV_E_CORRUPT;
		inside = r->chunks - before - after;
	}
	if (inside > r->chunks)
		return -KV_E_CORRUPT;
	r->chunks -= inside;
	return chunk_delete(txn, inode_content(r), from, to, inside);
}

/* Bytes of one chunk from @from to @to become zeros, if it exists. */
static int chunk_zero_part(struct kv_txn *txn, struct inode *r, uint64_t chunk, uint32_t from,
			   uint32_t to)
{
	static const uint8_t zeros[MODEL_CHUNK];
	struct kv_slice data = kv_slice_of(zeros, to - from);
	struct chunk_tail tail;
	int err;

	err = chunk_tail_get(txn, r, chunk, &tail);
	if (err || !tail.exists)
		return err;
	return chunk_write_one(txn, r, chunk, from, data);
}

int chunk_truncate(struct kv_txn *txn, struct inode *r, uint64_t size)
{
	uint64_t chunk = size / MODEL_CHUNK;
	uint32_t keep = (uint32_t)(size % MODEL_CHUNK);
	struct chunk_tail tail;
	int err;

	err = chunk_drop(txn, r, chunk_span(size), chunk_span(r->size));
	if (err || !keep)
		return err;
	err = chunk_tail_get(txn, r, chunk, &tail);
	if (err || !tail.exists)
		return err;
	return chunk_fold(txn, inode_content(r), chunk, &tail, keep, 0, kv_slice_of(NULL, 0));
}

int chunk_zero(struct kv_txn *txn, struct inode *r, uint64_t from, uint64_t to)
{
	uint64_t first = chunk_span(from), last;
	uint32_t at = (uint32_t)(from % MODEL_CHUNK);
	int err = 0;

	if (from >= to)
		return 0;
	/* The last chunk of the file is whole, although nothing of it lies beyond @to. */
	last = to == r->size ? chunk_span(to) : to / MODEL_CHUNK;
	if (first > last)
		return chunk_zero_part(txn, r, last, at, at + (uint32_t)(to - from));
	if (at)
		err = chunk_zero_part(txn, r, first - 1, at, chunk_stored(r, first - 1));
	if (!err)
		err = chunk_drop(txn, r, first, last);
	if (!err && to > last * MODEL_CHUNK)
		err = chunk_zero_part(txn, r, last, 0, (uint32_t)(to % MODEL_CHUNK));
	return err;
}

int chunk_remove_all(struct kv_txn *txn, const struct inode *r)
{
	bool last;
	int err = share_drop(txn, r, &last);

	if (err || !last)
		return err;
	return chunk_delete(txn, inode_content(r), 0, chunk_span(KVFS_FILE_MAX) + 1, r->chunks);
}
