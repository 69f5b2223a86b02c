/* SPDX-License-Identifier: MIT */
/*
 * Frame sums and ring I/O. A frame is one run of LSNs; only here is it known
 * that the ring's end may lie within it, in which case the transfer is done in
 * two parts. Since the ring is a whole number of blocks, so are the parts of a
 * transfer of whole blocks.
 */
#include "kvcore/wal/wal_frame.h"

#include <stdint.h>

uint64_t wal_frame_payload_max(uint64_t log_size)
{
	return min_u64(log_size / 4, UINT32_MAX);
}

int wal_frame_sum(struct checksum *c, const struct log_frame_header *h, struct kv_slice payload,
		  uint8_t sum[CHECKSUM_LEN])
{
	struct kv_slice parts[2] = {
		kv_slice_of(h, offsetof(struct log_frame_header, sum)),
		payload,
	};

	return checksum_compute(c, parts, 2, sum);
}

int wal_frame_read(const struct wal_options *o, uint64_t lsn, void *buf, uint64_t len)
{
	uint64_t place = lsn % o->log_size;
	uint64_t first = min_u64(len, o->log_size - place);
	int err;

	KV_ASSERT(len <= o->log_size);
	err = os_volume_read(o->volume, o->log_off + place, buf, (size_t)first, OS_IO_DIRECT);
	if (err || first == len)
		return err;
	return os_volume_read(o->volume, o->log_off, (uint8_t *)buf + first, (size_t)(len - first),
			      OS_IO_DIRECT);
}

int wal_frame_write(const struct wal_options *o, uint64_t lsn, const void *buf, uint64_t len)
{
	uint64_t place = lsn % o->log_size;
	uint64_t first = min_u64(len, o->log_size - place);
	int err;

	KV_ASSERT(len <= o->log_size);
	err = os_volume_write(o->volume, o->log_off + place, buf, (size_t)first, 0);
	if (err || first == len)
		return err;
	return os_volume_write(o->volume, o->log_off, (const uint8_t *)buf + first,
			       (size_t)(len - first), 0);
}
