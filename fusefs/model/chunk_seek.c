/* SPDX-License-Identifier: MIT */
/*
 * Where data and holes are, for lseek(2) and copies. A chunk that is absent is a hole; within one
 * that exists, whoever asks for it gets blocks of zeros as holes too, which takes
 * reading it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/chunk.h"
#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"

#define CHUNK_SEEK_MAX 64U   /* chunks looked at by one chunk_seek() */
#define CHUNK_BLOCK    4096U /* of zeros, that counts as a hole */

static bool chunk_block_is_zero(const uint8_t *block)
{
	return !block[0] && !memcmp(block, block + 1, CHUNK_BLOCK - 1);
}

/* Go on within the chunk at s->off, which exists, to the answer or to the next chunk. */
static int chunk_seek_inside(struct kv_txn *txn, uint64_t id, struct chunk_seek *s, uint8_t *bytes)
{
	uint64_t begin = align_down_u64(s->off, MODEL_CHUNK), end = begin + MODEL_CHUNK;
	int err;

	if (!s->contents) {
		s->found = s->data;
		s->off = s->data ? s->off : end;
		return 0;
	}
	memset(bytes, 0, MODEL_CHUNK);
	err = chunk_read(txn, id, begin, MODEL_CHUNK, bytes);
	if (err)
		return err;
	while (s->off < end && !s->found) {
		uint64_t block = align_down_u64(s->off, CHUNK_BLOCK);

		s->found = chunk_block_is_zero(bytes + (block - begin)) != s->data;
		if (!s->found)
			s->off = block + CHUNK_BLOCK;
	}
	return 0;
}

/* Step from chunk to chunk; -KV_E_NOTFOUND: there is none at s->off or after it. */
static int chunk_seek_step(struct kv_txn *txn, struct kv_iter *it, struct chunk_seek *s,
			   uint8_t *bytes)
{
	struct model_key key;
	uint64_t id, chunk;
	uint32_t stamp;
	int err;

	err = chunk_key_decode(kv_iter_key(it), &id, &chunk, &stamp);
	if (err)
		return err;
	if (chunk > s->off / MODEL_CHUNK) {
		s->found = !s->data;
		if (s->found)
			return 0;
		s->off = chunk * MODEL_CHUNK;
	}
	err = chunk_seek_inside(txn, id, s, bytes);
	if (err || s->found)
		return err;
	chunk_key(id, chunk + 1, 0, &key);
	return kv_iter_seek(it, model_key_slice(&key));
}

int chunk_seek(struct kv_txn *txn, const struct inode *r, struct chunk_seek *s)
{
	uint64_t span = chunk_span(r->size);
	struct kv_iter *it = NULL;
	uint8_t *bytes = NULL;
	int err;

	s->found = r->chunks == span && span > CHUNK_SEEK_MAX;
	if (s->found) { /* as good as no holes */
		s->off = s->data ? s->off : r->size;
		return 0;
	}
	if (s->contents) {
		bytes = malloc(MODEL_CHUNK);
		if (!bytes)
			return -ENOMEM;
	}
	err = chunk_iter_open(txn, inode_content(r), s->off / MODEL_CHUNK, span, &it);
	if (!err)
		err = kv_iter_first(it);
	for (unsigned i = 0; i < CHUNK_SEEK_MAX && !err && !s->found; i++)
		err = chunk_seek_step(txn, it, s, bytes);
	if (err == -KV_E_NOTFOUND) {
		s->off = s->data ? span * MODEL_CHUNK : s->off;
		s->found = true;
		err = 0;
	}
	kv_iter_close(it);
	free(bytes);
	return err;
}

int chunk_next(struct kv_txn *txn, const struct inode *r, uint64_t off, uint64_t *out)
{
	struct chunk_seek s = {.off = off, .data = true};
	int err = chunk_seek(txn, r, &s); /* finds it in the first step: it reads no contents */

	if (!err)
		*out = s.off;
	return err;
}
