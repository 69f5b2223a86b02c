/* SPDX-License-Identifier: MIT */
/*
 * The log's reader. It looks at the ring through a window that slides with the
 * replay. A frame is only believed when everything that its header says agrees
 * with where it stands and with the frame before, and its sum with its bytes;
 * lengths are checked against the ring before anything is allocated for them.
 *
 * Reads bypass the host's cache: after a failed sync the cache holds, as clean,
 * what never reached the disk. A process that replayed it and went on from
 * there would acknowledge syncs of frames that stand on nothing.
 *
 * The search for a hole hashes whatever looks like a frame. Hostile bytes could
 * look like a frame everywhere, so the bytes hashed are bounded; true frames do
 * not overlap and cannot exceed the bound.
 */
#include "kvcore/wal/wal_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/base/prefault.h"
#include "kvcore/wal/wal_frame.h"

#define WINDOW (1024U * 1024)

/* A run of the ring in memory, whole blocks at an aligned address. */
struct window {
	uint8_t *data; /* heap */
	uint64_t cap;
	uint64_t len;
	uint64_t lsn; /* of the first byte */
};

struct wal_reader {
	struct wal_options options;
	uint64_t limit;		 /* one lap on from the start: no frame ends behind it */
	struct wal_position pos; /* after the last frame returned */
	struct wal_fence fence;
	uint64_t epoch; /* of the last frame */
	bool clean;
	int ended;		    /* what to return from now on; 0: go on */
	struct wal_position beyond; /* of the frame that proved a hole; 0: of none */
	struct window window;
	struct window probe; /* of the search for a hole */
};

/* Fill the window from the block of @lsn on with at least @len bytes from @lsn. */
static int load(const struct wal_options *o, struct window *w, uint64_t lsn, uint64_t len)
{
	uint64_t from = align_down_u64(lsn, FORMAT_BLOCK);
	uint64_t need = align_up_u64(lsn - from + len, FORMAT_BLOCK);
	uint64_t want = min_u64(max_u64(need, WINDOW), o->log_size);
	int err;

	w->len = 0;
	if (w->cap < want) {
		free(w->data);
		w->cap = 0;
		w->data = aligned_alloc(OS_IO_ALIGN, (size_t)want);
		if (!w->data)
			return -ENOMEM;
		prefault(w->data, (size_t)want);
		w->cap = want;
	}
	err = wal_frame_read(o, from, w->data, want);
	if (err)
		return err;
	w->lsn = from;
	w->len = want;
	return 0;
}

/* Bytes [lsn, lsn + len) of the ring, less than log_size. */
static int look(const struct wal_options *o, struct window *w, uint64_t lsn, uint64_t len,
		const uint8_t **out)
{
	int err;

	if (lsn < w->lsn || lsn - w->lsn > w->len || len > w->len - (lsn - w->lsn)) {
		err = load(o, w, lsn, len);
		if (err)
			return err;
	}
	*out = w->data + (lsn - w->lsn);
	return 0;
}

int wal_reader_open(const struct wal_options *options, const struct wal_position *start,
		    const struct wal_fence *fence, bool clean, struct wal_reader **out)
{
	struct wal_reader *r;
	uint64_t size;
	int err;

	err = options->volume->ops->size(options->volume, &size);
	if (err)
		return err;
	if (options->log_size < WAL_SIZE_MIN || options->log_size % FORMAT_BLOCK != 0 ||
	    options->log_off > size || options->log_size > size - options->log_off ||
	    start->lsn % LOG_FRAME_ALIGN != 0 || start->lsn > WAL_LSN_MAX)
		return -KV_E_CORRUPT;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->options = *options;
	r->limit =
		min_u64(align_down_u64(start->lsn, FORMAT_BLOCK) + options->log_size, WAL_LSN_MAX);
	r->pos = *start;
	r->fence = *fence;
	r->clean = clean;
	*out = r;
	return 0;
}

void wal_reader_close(struct wal_reader *r)
{
	if (!r)
		return;
	free(r->window.data);
	free(r->probe.data);
	free(r);
}

/* Is this a header of our volume that belongs to this place? Says nothing of the sum. */
static bool header_fits(const struct wal_options *o, const struct log_frame_header *h, uint64_t lsn)
{
	return le32_get(h->magic) == LOG_FRAME_MAGIC && le64_get(h->lsn) == lsn &&
	       le32_get(h->payload_len) <= wal_frame_payload_max(o->log_size) &&
	       le64_get(h->durable_lsn) <= lsn && memcmp(h->uuid, o->uuid, sizeof(h->uuid)) == 0;
}

/*
 * Read the payload of a fitting header through @w and compare the sum.
 * Return: 0 with @payload, -KV_E_NOTFOUND (wrong sum), -ENOMEM, -errno.
 */
static int check_sum(const struct wal_options *o, struct window *w,
		     const struct log_frame_header *h, struct kv_slice *payload)
{
	uint64_t payload_len = le32_get(h->payload_len);
	uint8_t sum[CHECKSUM_LEN];
	const uint8_t *p;
	int err;

	err = look(o, w, le64_get(h->lsn), WAL_HEADER_LEN + payload_len, &p);
	if (err)
		return err;
	*payload = kv_slice_of(p + WAL_HEADER_LEN, (size_t)payload_len);
	err = wal_frame_sum(o->checksum, h, *payload, sum);
	if (err)
		return err;
	return memcmp(sum, h->sum, CHECKSUM_LEN) == 0 ? 0 : -KV_E_NOTFOUND;
}

static bool epoch_fits(const struct wal_reader *r, uint64_t epoch, uint64_t lsn)
{
	return epoch >= r->epoch && (lsn >= r->fence.lsn) == (epoch >= r->fence.epoch);
}

/* Is the header at @lsn that of a frame which follows? Return: 0, -KV_E_NOTFOUND, -ENOMEM, -errno.
 */
static int header_at(struct wal_reader *r, uint64_t lsn, struct log_frame_header *h)
{
	const uint8_t *p;
	int err;

	err = look(&r->options, &r->window, lsn, WAL_HEADER_LEN, &p);
	if (err)
		return err;
	memcpy(h, p, sizeof(*h));
	if (!header_fits(&r->options, h, lsn) || !epoch_fits(r, le64_get(h->epoch), lsn) ||
	    memcmp(h->prev_sum, r->pos.prev_sum, CHECKSUM_LEN) != 0)
		return -KV_E_NOTFOUND;
	return 0;
}

/* The frame at @lsn, if it follows. Return: 0, -KV_E_NOTFOUND, -ENOMEM, -errno. */
static int frame_at(struct wal_reader *r, uint64_t lsn, struct wal_frame *out)
{
	struct log_frame_header h;
	int err = header_at(r, lsn, &h);

	if (err)
		return err;
	out->end = lsn + wal_frame_len(le32_get(h.payload_len));
	if (out->end > r->limit) /* only hostile bytes overlap the frame that they follow */
		return -KV_E_NOTFOUND;
	err = check_sum(&r->options, &r->window, &h, &out->payload);
	if (err)
		return err;
	out->lsn = lsn;
	out->epoch = le64_get(h.epoch);
	out->durable_lsn = le64_get(h.durable_lsn);
	memcpy(r->pos.prev_sum, h.sum, CHECKSUM_LEN);
	r->pos.lsn = out->end;
	r->epoch = out->epoch;
	return 0;
}

/*
 * Does a whole frame that begins at @p, the place of @lsn, prove that frames
 * behind the end were durable? @budget: bytes that may still be hashed.
 * Return: 0 (no), -KV_E_CORRUPT (yes), -ENOMEM, -errno.
 */
static int judge(struct wal_reader *r, uint64_t lsn, const uint8_t *p, uint64_t *budget)
{
	struct log_frame_header h;
	struct kv_slice payload;
	uint64_t cost;
	int err;

	memcpy(&h, p, sizeof(h));
	if (!header_fits(&r->options, &h, lsn) || le64_get(h.durable_lsn) <= r->pos.lsn ||
	    (lsn >= r->fence.lsn && le64_get(h.epoch) < r->fence.epoch))
		return 0;
	cost = wal_frame_len(le32_get(h.payload_len));
	if (cost > *budget) {
		logmsg(r->options.log, KV_LOG_ERROR, "wal: too many broken frames after lsn=%llu",
		       (unsigned long long)r->pos.lsn);
		return -KV_E_CORRUPT;
	}
	*budget -= cost;
	err = check_sum(&r->options, &r->probe, &h, &payload);
	if (err)
		return err == -KV_E_NOTFOUND ? 0 : err;
	logmsg(r->options.log, KV_LOG_ERROR,
	       "wal: hole at lsn=%llu, frame lsn=%llu says durable_lsn=%llu",
	       (unsigned long long)r->pos.lsn, (unsigned long long)lsn,
	       (unsigned long long)le64_get(h.durable_lsn));
	r->beyond.lsn = lsn;
	memcpy(r->beyond.prev_sum, h.prev_sum, CHECKSUM_LEN);
	return -KV_E_CORRUPT;
}

/* Search one lap from the end on. Return: 0 (no hole), -KV_E_CORRUPT, -ENOMEM, -errno. */
static int find_hole(struct wal_reader *r)
{
	const struct le32 magic = le32_of(LOG_FRAME_MAGIC);
	uint64_t lsn = r->pos.lsn;
	uint64_t last = lsn + r->options.log_size - WAL_HEADER_LEN;
	uint64_t budget = 2 * r->options.log_size;
	const uint8_t *p;
	int err;

	while (lsn <= last) {
		uint64_t left;

		err = look(&r->options, &r->window, lsn, WAL_HEADER_LEN, &p);
		if (err)
			return err;
		left = min_u64(r->window.len - (lsn - r->window.lsn), last + WAL_HEADER_LEN - lsn);
		for (; left >= WAL_HEADER_LEN; left -= LOG_FRAME_ALIGN) {
			if (memcmp(p, &magic, sizeof(magic)) == 0) {
				err = judge(r, lsn, p, &budget);
				if (err)
					return err;
			}
			p += LOG_FRAME_ALIGN;
			lsn += LOG_FRAME_ALIGN;
		}
	}
	return 0;
}

/*
 * Does the next frame begin at the boundary of a block, though one at the present position seems to
 * follow? That one was left out by a recovery then, which went on at the boundary in a
 * higher epoch. The fence tells so much only until a later opening moves it on.
 */
static int is_left_out(struct wal_reader *r, uint64_t boundary, bool *out)
{
	struct log_frame_header here;
	struct log_frame_header there;
	int err = header_at(r, r->pos.lsn, &here);

	if (!err)
		err = header_at(r, boundary, &there);
	if (!err)
		*out = le64_get(there.epoch) > le64_get(here.epoch);
	return err == -KV_E_NOTFOUND ? 0 : err;
}

/* The frame that follows, here or at the next boundary. */
static int follower(struct wal_reader *r, struct wal_frame *out)
{
	uint64_t here = r->pos.lsn;
	uint64_t boundary = align_up_u64(here, FORMAT_BLOCK);
	bool left_out = false;
	int err;

	if (boundary == here)
		return frame_at(r, here, out);
	err = is_left_out(r, boundary, &left_out);
	if (err)
		return err;
	err = frame_at(r, left_out ? boundary : here, out);
	if (err == -KV_E_NOTFOUND)
		err = frame_at(r, left_out ? here : boundary, out);
	return err;
}

int wal_reader_next(struct wal_reader *r, struct wal_frame *out)
{
	struct wal_frame frame;
	int err;

	if (r->ended)
		return r->ended;
	err = follower(r, &frame);
	if (!err)
		*out = frame;
	if (err != -KV_E_NOTFOUND)
		return err;
	if (!r->clean) {
		err = find_hole(r);
		if (err && err != -KV_E_CORRUPT)
			return err;
	}
	r->ended = err ? err : -KV_E_NOTFOUND;
	return r->ended;
}

int wal_reader_resume(struct wal_reader *r)
{
	if (!r->beyond.lsn)
		return -KV_E_NOTFOUND;
	r->pos = r->beyond;
	r->ended = 0;
	r->beyond.lsn = 0;
	return 0;
}

void wal_reader_position(const struct wal_reader *r, struct wal_position *out)
{
	*out = r->pos;
}

uint64_t wal_reader_epoch(const struct wal_reader *r)
{
	return max_u64(r->epoch, r->fence.epoch);
}
