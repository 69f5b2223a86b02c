/* SPDX-License-Identifier: MIT */
/*
 * Reads the log's frames in order from a position, until one does not follow
 * from the one before. That is the log's end: whatever stands there is stale,
 * torn, or was never acknowledged as durable.
 *
 * Damage within the durable part looks the same as an end; it is found by
 * searching the rest of the ring: a whole frame of this volume that begins at an
 * LSN behind the end (its place in the ring agrees with its LSN) and whose
 * durable_lsn lies behind the end too proves that frames after the end were
 * once durable. Then the log has a hole, which is -KV_E_CORRUPT and never taken
 * for an end. A frame that the fence leaves out proves nothing.
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_WAL_WAL_READER_H
#define KVCORE_WAL_WAL_READER_H

#include "kvcore/wal/wal.h"

struct wal_reader;

struct wal_frame {
	uint64_t lsn;
	uint64_t end; /* LSN after it */
	uint64_t epoch;
	uint64_t durable_lsn;
	struct kv_slice payload; /* borrowed until the next call */
};

struct wal_fence {
	uint64_t lsn;
	uint64_t epoch;
};

/*
 * @fence:     frames at or behind it have at least its epoch, those before it a lower one; so
 *             frames that an earlier recovery left out cannot come back. No frame has a lower
 *             epoch than the one before it
 * @clean:     the volume was closed in order: do not search for a hole at the end
 */
int wal_reader_open(const struct wal_options *options, const struct wal_position *start,
		    const struct wal_fence *fence, bool clean, struct wal_reader **out)
	KV_MUST_CHECK;
void wal_reader_close(struct wal_reader *r);

/*
 * Return: 0, -KV_E_NOTFOUND (the end), -KV_E_CORRUPT (a hole), -ENOMEM, -errno of a read.
 */
int wal_reader_next(struct wal_reader *r, struct wal_frame *out) KV_MUST_CHECK;

/*
 * After -KV_E_CORRUPT: go on with the frame that proved the hole. For reports of what is lost only:
 * no replay may go over a hole. Return: 0, -KV_E_NOTFOUND (it is not known).
 */
int wal_reader_resume(struct wal_reader *r) KV_MUST_CHECK;

/* Where the writer goes on: after the last frame that wal_reader_next() returned. */
void wal_reader_position(const struct wal_reader *r, struct wal_position *out);
/* The highest epoch seen, at least the fence's. */
uint64_t wal_reader_epoch(const struct wal_reader *r);

#endif
