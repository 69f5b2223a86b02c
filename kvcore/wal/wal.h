/* SPDX-License-Identifier: MIT */
/*
 * The log: a ring of frames, each chained to the one before by its checksum.
 * Layout: kvcore/format/format.h; rules: docs/crash-consistency.md.
 *
 * Writer. wal_append() writes one frame into the host's page cache, so that it
 * survives the death of this process. wal_sync() makes frames durable; callers
 * share a flush: whoever finds none in flight starts one for all frames written
 * so far, the others wait for it or the next. While several threads commit in a loop, it
 * waits a little for those that the last flush released, so that all share the next one.
 * Appends go on meanwhile, into blocks that the flush does not cover.
 *
 * Errors. A failed write or sync is final: the object is poisoned, remembers
 * the first error, and every later append or sync returns -KV_E_POISONED. The append whose
 * write failed returns -KV_E_UNKNOWN_OUTCOME: its frame may have arrived.
 *
 * Thread safety: wal_append() callers must be serialised by the engine's commit
 * queue; all other functions from any thread.
 */
#ifndef KVCORE_WAL_WAL_H
#define KVCORE_WAL_WAL_H

#include <stdbool.h>

#include "kvcore/format/format.h"
#include "kvcore/os/os_env.h"

/* A place in the log and the chain value there. */
struct wal_position {
	uint64_t lsn; /* multiple of LOG_FRAME_ALIGN */
	uint8_t prev_sum[CHECKSUM_LEN];
};

struct wal_options {
	struct os_volume *volume;  /* borrowed */
	struct checksum *checksum; /* borrowed */
	const struct kv_log_sink *log;
	uint64_t log_off;
	uint64_t log_size;
	uint8_t uuid[KV_UUID_LEN];
	/* Called before each flush, after it was decided which frames it covers, with no lock of
	 * the log held; may be NULL. */
	void (*before_sync)(void *ctx);
	void *before_sync_ctx;
};

struct wal;

/*
 * @start: where the next frame goes: the end that the reader found. Its block is
 *         sealed, so the first frame goes to the next multiple of FORMAT_BLOCK.
 * @tail:  LSN of the oldest frame that is still needed.
 * @epoch: written into every frame; higher than that of any frame there is.
 * Return: 0, -ENOMEM.
 */
int wal_open(const struct wal_options *options, const struct wal_position *start, uint64_t tail,
	     uint64_t epoch, struct wal **out) KV_MUST_CHECK;
/* Syncs nothing. */
void wal_free(struct wal *w);

/*
 * Write one frame around the payload, given in parts.
 * @end: receives the LSN after the frame.
 * Return: 0, -KV_E_NOSPACE (it would overwrite frames from the tail on; nothing was
 * written, make room with wal_set_tail() and try again), -KV_E_TOO_BIG (more than
 * wal_payload_max()), -KV_E_POISONED (nothing was written), -KV_E_UNKNOWN_OUTCOME, -ENOMEM.
 */
int wal_append(struct wal *w, const struct kv_slice *parts, size_t part_count, uint64_t *end)
	KV_MUST_CHECK;

/* Return when all frames that end at or before @lsn are durable. Return: 0, -KV_E_POISONED. */
int wal_sync(struct wal *w, uint64_t lsn) KV_MUST_CHECK;

/* LSN after the last frame written, and the one up to which all is durable. */
uint64_t wal_end_lsn(struct wal *w);
uint64_t wal_durable_lsn(struct wal *w);
/* Where a frame written next would begin at the earliest, and its chain value: what a
 * manifest records when all frames so far are in tables. */
void wal_get_position(struct wal *w, struct wal_position *out);

/* Frames before @lsn are no longer needed (the manifest that says so is durable). */
void wal_set_tail(struct wal *w, uint64_t lsn);
/* Bytes of frames that can be written before the ring is full. */
uint64_t wal_room(struct wal *w);
uint64_t wal_used(struct wal *w);
/* The largest payload that one frame can carry: a quarter of the ring. */
uint64_t wal_payload_max(const struct wal *w);

/* Poison from outside: another write of the engine failed. @err is the reason. */
void wal_poison(struct wal *w, int err);
/* 0, or the error that poisoned it. */
int wal_poisoned(struct wal *w);

struct wal_stat {
	uint64_t frames, bytes, syncs; /* bytes: handed to the host, with padding */
};
void wal_get_stat(struct wal *w, struct wal_stat *out);

#endif
