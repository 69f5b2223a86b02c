/* SPDX-License-Identifier: MIT */
/*
 * A log on a simulated volume and a list of what was appended to it. The
 * payload of a frame follows from its id, so that a frame can be recognised.
 */
#ifndef TESTS_UNIT_WAL_RIG_H
#define TESTS_UNIT_WAL_RIG_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/wal/wal_frame.h"
#include "kvcore/wal/wal_reader.h"
#include "tests/support/sim_env.h"

#define RIG_VOLUME    "vol"
#define RIG_LOG_OFF   8192U
#define RIG_LEN_MAX   (48U * 1024)
#define RIG_COUNT_MAX 4096U

struct rig_frame {
	uint64_t id;
	size_t len;
	struct wal_position after;
	uint64_t durable; /* LSN known durable when it was appended */
	uint64_t epoch;
};

struct rig {
	struct sim_env *sim;
	struct os_volume *volume;
	struct checksum *checksum;
	struct wal_options options;
	struct wal *wal;
	struct wal_position base; /* replay starts here */
	uint64_t base_epoch;
	uint64_t epoch;
	struct rig_frame frames[RIG_COUNT_MAX]; /* from base on */
	size_t count;
	size_t synced; /* of them known durable */
	bool torn;     /* the write of frames[count] failed: it may be there all the same */
	uint64_t next_id;
	uint64_t rng;
	uint8_t payload[RIG_LEN_MAX];
};

static inline uint64_t rig_random(struct rig *r, uint64_t below)
{
	r->rng ^= r->rng << 13;
	r->rng ^= r->rng >> 7;
	r->rng ^= r->rng << 17;
	return r->rng % below;
}

static inline struct kv_slice rig_payload(struct rig *r, uint64_t id, size_t len)
{
	ck_assert_uint_le(len, RIG_LEN_MAX);
	for (size_t i = 0; i < len; i++)
		r->payload[i] = (uint8_t)(id * 31 + i * (id % 7 + 1) + (i >> 8));
	return kv_slice_of(r->payload, len);
}

/* Open the volume and the writer. */
static inline void rig_start(struct rig *r, const struct wal_position *at)
{
	ck_assert_int_eq(sim_env_os(r->sim)->ops->volume_open(sim_env_os(r->sim), RIG_VOLUME,
							      OS_OPEN_CREATE, 0, &r->volume, NULL),
			 0);
	r->options.volume = r->volume;
	ck_assert_int_eq(r->volume->ops->grow(r->volume, RIG_LOG_OFF + r->options.log_size), 0);
	if (at)
		ck_assert_int_eq(wal_open(&r->options, at, r->base.lsn, r->epoch, &r->wal), 0);
}

/* Close both, as a dying process would. */
static inline void rig_stop(struct rig *r)
{
	wal_free(r->wal);
	r->wal = NULL;
	ck_assert_int_eq(r->volume->ops->close(r->volume), 0);
	r->volume = NULL;
}

static inline struct rig *rig_new(uint64_t seed, unsigned log_blocks)
{
	struct rig *r = calloc(1, sizeof(*r));

	ck_assert_ptr_nonnull(r);
	r->rng = seed * 2 + 1;
	r->sim = sim_env_new(seed);
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &r->checksum), 0);
	r->options.checksum = r->checksum;
	r->options.log_off = RIG_LOG_OFF;
	r->options.log_size = (uint64_t)log_blocks * FORMAT_BLOCK;
	memset(r->options.uuid, 0x5a, sizeof(r->options.uuid));
	r->epoch = 1;
	rig_start(r, &r->base);
	ck_assert_int_eq(os_volume_sync(r->volume), 0);
	return r;
}

static inline void rig_free(struct rig *r)
{
	if (r->volume)
		rig_stop(r);
	checksum_free(r->checksum);
	sim_env_free(r->sim);
	free(r);
}

/* Append one frame, its payload in three parts. Returns what wal_append() returned. */
static inline int rig_append(struct rig *r, size_t len)
{
	struct rig_frame *f = &r->frames[r->count];
	struct kv_slice p = rig_payload(r, r->next_id, len);
	struct kv_slice parts[3] = {
		kv_slice_of(p.data, len / 3),
		kv_slice_of(NULL, 0),
		kv_slice_of(p.data + len / 3, len - len / 3),
	};
	uint64_t end;
	int err;

	ck_assert_uint_lt(r->count + 1, RIG_COUNT_MAX);
	if (r->torn) /* f may still come back */
		return wal_append(r->wal, parts, 3, &end);
	f->durable = wal_durable_lsn(r->wal);
	f->epoch = r->epoch;
	f->id = r->next_id++;
	f->len = len;
	err = wal_append(r->wal, parts, 3, &end);
	r->torn = err == -KV_E_UNKNOWN_OUTCOME;
	if (err)
		return err;
	wal_get_position(r->wal, &f->after);
	ck_assert_uint_eq(f->after.lsn, end);
	r->count++;
	return 0;
}

static inline void rig_sync(struct rig *r)
{
	ck_assert_int_eq(wal_sync(r->wal, wal_end_lsn(r->wal)), 0);
	r->synced = r->count;
}

/* Forget the first @n frames: the manifest now begins after them. They are synced. */
static inline void rig_checkpoint(struct rig *r, size_t n)
{
	if (n == 0)
		return;
	r->base = r->frames[n - 1].after;
	r->base_epoch = r->frames[n - 1].epoch;
	wal_set_tail(r->wal, r->base.lsn);
	r->count -= n;
	r->synced -= n;
	memmove(r->frames, r->frames + n, r->count * sizeof(r->frames[0]));
}

/*
 * Read the log from the base; every frame must be the next of the list. Returns how many
 * there were; @err receives how it ended, @end where (may be NULL).
 */
static inline size_t rig_read(struct rig *r, bool clean, int *err, struct wal_position *end)
{
	const struct wal_fence fence = {r->base.lsn, r->base_epoch};
	struct wal_reader *reader;
	struct wal_frame f;
	size_t n = 0;

	ck_assert_int_eq(wal_reader_open(&r->options, &r->base, &fence, clean, &reader), 0);
	while ((*err = wal_reader_next(reader, &f)) == 0) {
		ck_assert_uint_lt(n, r->count + r->torn);
		ck_assert_uint_eq(f.payload.len, r->frames[n].len);
		ck_assert(
			slice_equal(f.payload, rig_payload(r, r->frames[n].id, r->frames[n].len)));
		if (n < r->count)
			ck_assert_uint_eq(f.end, r->frames[n].after.lsn);
		else /* goes on after a frame that was not acknowledged */
			wal_reader_position(reader, &r->frames[n].after);
		n++;
	}
	ck_assert_int_eq(wal_reader_next(reader, &f), *err); /* the end stays the end */
	if (end)
		wal_reader_position(reader, end);
	if (wal_reader_epoch(reader) > r->epoch)
		ck_abort_msg("epoch from nowhere");
	wal_reader_close(reader);
	return n;
}

#endif
