/* SPDX-License-Identifier: MIT */
/*
 * What the log's writer and reader share: a frame's size and checksum, and I/O
 * on the ring, where a position is an LSN and a transfer may wrap at the end.
 * Thread safety: no state; the volume's and checksum's own.
 */
#ifndef KVCORE_WAL_WAL_FRAME_H
#define KVCORE_WAL_WAL_FRAME_H

#include "kvcore/base/base.h"
#include "kvcore/wal/wal.h"

#define WAL_HEADER_LEN ((uint64_t)sizeof(struct log_frame_header))
/* Fewer blocks could not hold the largest frame beside the block of the tail. */
#define WAL_SIZE_MIN (8U * FORMAT_BLOCK)
/* Higher ones are refused, so that sums of an LSN and a size of the ring never overflow. */
#define WAL_LSN_MAX (UINT64_MAX / 4)

/* LSN after a frame of this payload, relative to its start. */
static inline uint64_t wal_frame_len(uint64_t payload_len)
{
	return align_up_u64(WAL_HEADER_LEN + payload_len, LOG_FRAME_ALIGN);
}

/* The largest payload: a quarter of the ring, as far as 32 bits tell it. */
uint64_t wal_frame_payload_max(uint64_t log_size);

/* Sum of everything in the header before its sum, and the payload. Return: 0, -ENOMEM, -EIO. */
int wal_frame_sum(struct checksum *c, const struct log_frame_header *h, struct kv_slice payload,
		  uint8_t sum[CHECKSUM_LEN]) KV_MUST_CHECK;

/*
 * At most log_size bytes. A read is direct: @lsn, @len and @buf are aligned to OS_IO_ALIGN.
 * Return: 0, -errno, -KV_E_CORRUPT (outside the volume).
 */
int wal_frame_read(const struct wal_options *o, uint64_t lsn, void *buf, uint64_t len)
	KV_MUST_CHECK;
int wal_frame_write(const struct wal_options *o, uint64_t lsn, const void *buf, uint64_t len)
	KV_MUST_CHECK;

#endif
