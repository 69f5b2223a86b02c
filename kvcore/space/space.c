/* SPDX-License-Identifier: MIT */
/*
 * Who gets which part of the free space. The set itself is space_map.c.
 *
 * A reserve of free bytes is kept for those who make room: an allocation of a
 * class must leave that class's floor. The reserve is within the file, so it is
 * there when the host has no more: while the file may grow, it is grown before
 * the floor is touched, and before a request is cut into small pieces.
 *
 * One thread grows at a time, without the mutex; others that need growth wait
 * for it and look again. Space is discarded before it becomes allocatable, so a
 * discard never hits data of the next owner.
 */
#include "kvcore/space/space.h"

#include <errno.h>
#include <stdlib.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"
#include "kvcore/space/space_map.h"

#define MIB		  ((uint64_t)1024 * 1024)
#define RESERVE_MIN	  (2 * MIB)
#define RESERVE_MAX	  (256 * MIB)
#define RESERVE_FRACTION  16U /* of the size */
#define RESERVE_SHARE_MAX 4U  /* never more than 1/4 of a small volume */
#define STEP_MIN	  MIB
#define STEP_MAX	  (256 * MIB)
#define STEP_FRACTION	  8U /* a step is at most 1/8 of the size, so little is grown in vain */

struct space {
	struct space_options options; /* [const] */
	uint64_t limit;		      /* [const] the size may grow to this */
	struct os_mutex mu;
	struct os_cond grown; /* growing became false */
	struct space_map map; /* [mu] free extents */
	uint64_t size;	      /* [mu] changed by the growing thread only */
	bool growing;	      /* [mu] */
};

int space_new(const struct space_options *options, struct space **out)
{
	struct os_volume *v = options->volume;
	struct space *s;
	uint64_t size;
	int err;

	KV_ASSERT(options->data_off % FORMAT_BLOCK == 0);
	err = v->ops->size(v, &size);
	if (err)
		return err;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->limit = options->size_max ? options->size_max : UINT64_MAX;
	if (v->ops->is_device(v))
		s->limit = min_u64(s->limit, size);
	/* A volume cut short of its data has no room; what is missing shows at the claims. */
	s->limit = max_u64(align_down_u64(s->limit, FORMAT_BLOCK), options->data_off);
	s->size = min_u64(align_down_u64(size, FORMAT_BLOCK), s->limit);
	s->size = max_u64(s->size, options->data_off);
	if (s->size > options->data_off) {
		struct extent all = {options->data_off, s->size - options->data_off};

		err = space_map_add(&s->map, all);
	}
	if (err)
		goto free_space;
	err = os_mutex_init(&s->mu, OS_RANK_SPACE);
	if (err)
		goto free_space;
	err = os_cond_init(&s->grown);
	if (err)
		goto fini_mu;
	*out = s;
	return 0;

fini_mu:
	os_mutex_fini(&s->mu);
free_space:
	space_map_fini(&s->map);
	free(s);
	return err;
}

void space_free(struct space *s)
{
	if (!s)
		return;
	KV_ASSERT(!s->growing);
	space_map_fini(&s->map);
	os_cond_fini(&s->grown);
	os_mutex_fini(&s->mu);
	free(s);
}

int space_claim(struct space *s, struct extent e)
{
	int err;

	if (e.off % FORMAT_BLOCK != 0 || e.len % FORMAT_BLOCK != 0)
		return -KV_E_CORRUPT;
	os_mutex_lock(&s->mu);
	err = space_map_remove(&s->map, e);
	os_mutex_unlock(&s->mu);
	return err == -KV_E_NOTFOUND ? -KV_E_CORRUPT : err;
}

/* ---- the reserve ---------------------------------------------------------- */

static uint64_t reserve(const struct space *s) KV_REQUIRES(s->mu)
{
	uint64_t size = s->options.size_max != 0 ? s->limit : s->size;
	uint64_t r = min_u64(max_u64(size / RESERVE_FRACTION, RESERVE_MIN), RESERVE_MAX);

	if (s->options.reserve != 0)
		return s->options.reserve;
	r = min_u64(r, (size - s->options.data_off) / RESERVE_SHARE_MAX);
	return align_down_u64(r, FORMAT_BLOCK);
}

/* Free bytes that an allocation of this class leaves alone. An eighth is the manifest's. */
static uint64_t floor_of(const struct space *s, enum space_class class) KV_REQUIRES(s->mu)
{
	uint64_t all = reserve(s);
	uint64_t floor = 0;

	switch (class) {
	case SPACE_VALUE:
		floor = all;
		break;
	case SPACE_MOVE:
		floor = all / 2;
		break;
	case SPACE_FLUSH:
		floor = all / 8 * 3;
		break;
	case SPACE_COMPACT:
		floor = all / 8;
		break;
	case SPACE_MANIFEST:
		break;
	}
	return align_up_u64(floor, FORMAT_BLOCK);
}

/* ---- growth --------------------------------------------------------------- */

static uint64_t step_of(uint64_t size)
{
	uint64_t step = STEP_MIN;

	while (step < STEP_MAX && step * 2 <= size / STEP_FRACTION)
		step *= 2;
	return step;
}

/*
 * Lengthen the volume: by a step, or by @need bytes where the host has no more,
 * or by halves of that down to @least. Drops the mutex meanwhile.
 * Return: 0, -KV_E_NOSPACE, -ENOMEM.
 */
static int grow(struct space *s, uint64_t need, uint64_t least) KV_REQUIRES(s->mu)
{
	struct os_volume *v = s->options.volume;
	uint64_t size = s->size;
	uint64_t room = s->limit - size;
	uint64_t more = min_u64(room, max_u64(need, step_of(size)));
	int err;

	if (room == 0 || s->options.readonly)
		return -KV_E_NOSPACE;
	need = min_u64(need, room);
	least = min_u64(least, room);
	s->growing = true;
	os_mutex_unlock(&s->mu);
	err = v->ops->grow(v, size + more);
	if (err && more > need) {
		more = need;
		err = v->ops->grow(v, size + more);
	}
	while (err && more > least) {
		more = max_u64(align_down_u64(more / 2, FORMAT_BLOCK), least);
		err = v->ops->grow(v, size + more);
	}
	os_mutex_lock(&s->mu);
	s->growing = false;
	os_cond_broadcast(&s->grown);
	if (err)
		return -KV_E_NOSPACE;
	/* Without memory for it the new part is just not used until the next opening. */
	err = space_map_add(&s->map, (struct extent){size, more});
	s->size = size + more;
	return err;
}

/* Bytes by which the free space falls short of leaving @floor after giving @bytes. */
static uint64_t shortage(const struct space *s, uint64_t bytes, uint64_t floor) KV_REQUIRES(s->mu)
{
	uint64_t total = bytes + floor;

	return total - min_u64(total, s->map.bytes);
}

/* ---- allocation ----------------------------------------------------------- */

/*
 * Find room in what there is. Unless @settle, only what is as good as growing:
 * the whole of @want, or a large part of it in one piece.
 */
static bool find(struct space *s, uint64_t floor, uint64_t want, uint64_t min, bool settle,
		 struct extent *out) KV_REQUIRES(s->mu)
{
	uint64_t usable = s->map.bytes - min_u64(s->map.bytes, floor);
	struct extent e;

	if (usable < (settle ? min : want))
		return false;
	want = min_u64(want, usable);
	if (!settle)
		min = max_u64(min, want / 4);
	if (!space_map_fit(&s->map, want, &e) && !(space_map_largest(&s->map, &e) && e.len >= min))
		return false;
	*out = (struct extent){e.off, min_u64(e.len, want)};
	return true;
}

int space_alloc(struct space *s, enum space_class class, uint64_t want, uint64_t min,
		struct extent *out)
{
	bool settle = false;
	struct extent e;
	int err = -KV_E_NOSPACE;
	int grown;

	KV_ASSERT(want % FORMAT_BLOCK == 0 && min % FORMAT_BLOCK == 0 && min != 0 && min <= want);
	if (s->options.readonly)
		return -KV_E_NOSPACE;
	os_mutex_lock(&s->mu);
	while (err) {
		uint64_t floor = floor_of(s, class);

		if (find(s, floor, want, min, settle, &e)) {
			err = space_map_remove(&s->map, e);
			break;
		}
		if (settle)
			break;
		if (s->growing) {
			os_cond_wait(&s->grown, &s->mu);
			continue;
		}
		grown = grow(s, max_u64(want, shortage(s, want, floor)),
			     max_u64(min, shortage(s, min, floor)));
		settle = grown;
		if (grown == -ENOMEM) {
			err = grown;
			break;
		}
	}
	os_mutex_unlock(&s->mu);
	if (!err)
		*out = e;
	return err;
}

void space_release(struct space *s, struct extent e)
{
	struct os_volume *v = s->options.volume;
	int err;

	KV_ASSERT(e.off % FORMAT_BLOCK == 0 && e.len % FORMAT_BLOCK == 0 && e.len != 0);
	if (!s->options.readonly)
		v->ops->discard(v, e.off, e.len);
	os_mutex_lock(&s->mu);
	KV_ASSERT(e.off >= s->options.data_off && e.len <= s->size && e.off <= s->size - e.len);
	err = space_map_add(&s->map, e);
	(void)err; /* without memory it is found free again at the next opening */
	os_mutex_unlock(&s->mu);
}

void space_trim(struct space *s)
{
	struct os_volume *v = s->options.volume;
	struct extent last;
	uint64_t more;

	if (s->options.size_max != 0 || s->options.readonly || v->ops->is_device(v))
		return;
	os_mutex_lock(&s->mu);
	KV_ASSERT(!s->growing);
	more = align_down_u64(s->map.bytes - min_u64(s->map.bytes, reserve(s)), FORMAT_BLOCK);
	if (space_map_last(&s->map, &last) && last.off + last.len == s->size) {
		more = min_u64(more, last.len);
		last = (struct extent){s->size - more, more};
		if (more >= STEP_MIN && !space_map_remove(&s->map, last)) {
			s->size = last.off;
			/* If it fails the file is longer than the space in use: found at the next
			 * opening. */
			(void)!v->ops->shrink(v, s->size);
		}
	}
	os_mutex_unlock(&s->mu);
}

/* ---- state ---------------------------------------------------------------- */

void space_get_stat(struct space *s, struct space_stat *out)
{
	struct extent largest = {0, 0};

	os_mutex_lock(&s->mu);
	space_map_largest(&s->map, &largest);
	out->size = s->size;
	out->size_max = s->options.size_max || s->options.volume->ops->is_device(s->options.volume)
				? s->limit
				: UINT64_MAX;
	out->free = s->map.bytes;
	out->reserve = reserve(s);
	out->free_extents = s->map.count;
	out->largest_free = largest.len;
	os_mutex_unlock(&s->mu);
}

/* The host's answer is part of the truth, so it is asked: growth is tried. */
bool space_has_room(struct space *s, uint64_t bytes)
{
	bool more = !s->options.readonly;
	bool room = false;

	if (bytes > UINT64_MAX / 4)
		return false;
	os_mutex_lock(&s->mu);
	while (!room) {
		uint64_t need = align_up_u64(bytes, FORMAT_BLOCK) + reserve(s);

		room = s->map.bytes >= need;
		if (room || !more)
			break;
		if (s->growing)
			os_cond_wait(&s->grown, &s->mu);
		else
			more = !grow(s, need - s->map.bytes, need - s->map.bytes);
	}
	os_mutex_unlock(&s->mu);
	return room;
}
