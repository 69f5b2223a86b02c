/* SPDX-License-Identifier: MIT */
/*
 * A prepared transaction as bytes: its locks and its writes one after the other,
 * cut into parts that are stored as ordinary values (docs/format.md, section 4.3).
 * Large values are in it whole, not by reference: a reference in a value would not keep its segment
 * alive.
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_ENGINE_PREPARED_STREAM_H
#define KVCORE_ENGINE_PREPARED_STREAM_H

#include "kvcore/engine/lock_manager.h"
#include "kvcore/format/entry.h"

#define PREPARED_PART_BYTES (1U << 20) /* of every part but the last */

enum prepared_tag {
	PREPARED_PUT = 1,
	PREPARED_DELETE,
	PREPARED_RANGE_DELETE,
	PREPARED_LOCK_SHARED,
	PREPARED_LOCK_EXCLUSIVE,
	PREPARED_RANGE_SHARED,
	PREPARED_RANGE_EXCLUSIVE,
};

struct prepared_item {
	enum prepared_tag tag;
	struct kv_slice key;   /* ikey, or a range's first */
	struct kv_slice value; /* of a put; of a range the ikey behind it */
};

/* Encodes items; full parts go to @part, which numbers them itself. */
struct prepared_writer {
	int (*part)(void *ctx, struct kv_slice bytes);
	void *ctx;
	struct kv_buf buf;
	uint64_t bytes; /* handed out so far */
};

int prepared_writer_add(struct prepared_writer *w, const struct prepared_item *item) KV_MUST_CHECK;
/* Hand out what is left. */
int prepared_writer_finish(struct prepared_writer *w) KV_MUST_CHECK;
void prepared_writer_fini(struct prepared_writer *w);

/* Decodes parts, which may be anything. Whole items go to @item. */
struct prepared_reader {
	int (*item)(void *ctx, const struct prepared_item *item);
	void *ctx;
	struct kv_buf buf; /* what is not yet a whole item */
};

/* Return: 0, -KV_E_CORRUPT, -ENOMEM, or what @item returned. */
int prepared_reader_feed(struct prepared_reader *r, struct kv_slice part) KV_MUST_CHECK;
/* 0 if nothing is left over, else -KV_E_CORRUPT. */
int prepared_reader_finish(const struct prepared_reader *r) KV_MUST_CHECK;
void prepared_reader_fini(struct prepared_reader *r);

#endif
