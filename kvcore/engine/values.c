/* SPDX-License-Identifier: MIT */
/*
 * Segments of large values: finding a place for a value, writing it, sealing,
 * and the two counts that say when a segment is dead.
 *
 * There are two open segments, one for what users write and one for what
 * compaction moves: values that have lived long enough to be moved die together
 * with each other rather than with fresh ones, and the reserve of the volume
 * that compaction may use never fills up with user data.
 *
 * Sealing has to do with writes in flight: a value that has its place but is
 * not written yet may share a block with one that is about to become durable.
 * So values_seal() moves the next place to a fresh block and then waits for the
 * writes whose places were taken before.
 */
#include "kvcore/engine/values.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/values_internal.h"

#define SEGMENT_MIN	 (1024U * 1024)
#define SEGMENT_MAX	 (64U * 1024 * 1024)
#define SEGMENT_FIRST	 (16U * 1024 * 1024) /* the least of a volume that grows on demand */
#define SEGMENT_GROWN	 8U		     /* part of the size that it has grown to */
#define SEGMENT_FRACTION 64U		     /* part of a volume of fixed size */
#define SEGMENT_TIGHT	 (128U * 1024)	     /* when compaction writes on a nearly full volume */
#define REAP_BATCH	 64U
#define WORTH_EMPTYING	 8U /* where room is short: when this part of a segment is dead */

int segment_new(const struct segment_meta *meta, bool sealed, struct segment **out)
{
	struct segment *seg = calloc(1, sizeof(*seg));

	if (!seg)
		return -ENOMEM;
	seg->id = meta->id;
	seg->extent = meta->extent;
	atomic_init(&seg->used_bytes, meta->used_bytes);
	atomic_init(&seg->live_bytes, meta->live_bytes);
	atomic_init(&seg->pending, 0);
	atomic_init(&seg->sweep_before, 0);
	atomic_init(&seg->sealed, sealed);
	atomic_init(&seg->empty_it, false);
	atomic_init(&seg->refs, 0);
	*out = seg;
	return 0;
}

int values_new(const struct values_options *options, struct values **out)
{
	struct values *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	v->options = *options;
	err = os_mutex_init(&v->mu, OS_RANK_SEGMENT);
	if (err)
		goto out;
	err = os_cond_init(&v->changed);
	if (err) {
		os_mutex_fini(&v->mu);
		goto out;
	}
	*out = v;
	v = NULL;
out:
	free(v);
	return err;
}

void values_free(struct values *v)
{
	if (!v)
		return;
	for (unsigned i = 0; i < OPEN_SEGMENTS; i++) {
		if (v->open[i])
			atomic_store_explicit(&v->open[i]->sealed, true, memory_order_release);
	}
	os_cond_fini(&v->changed);
	os_mutex_fini(&v->mu);
	free(v);
}

/* ---- places ------------------------------------------------------------------- */

static uint64_t segment_size(struct values *v, enum space_class class)
{
	struct space_stat st;
	uint64_t size;

	/* What compaction takes of the reserve, the next flush may need. */
	if (class == SPACE_MOVE && !space_has_room(v->options.space, SEGMENT_MIN))
		return SEGMENT_TIGHT;
	space_get_stat(v->options.space, &st);
	if (st.size_max == UINT64_MAX)
		size = max_u64(st.size / SEGMENT_GROWN, SEGMENT_FIRST);
	else
		size = max_u64(st.size_max / SEGMENT_FRACTION, SEGMENT_MIN);
	/* Compaction fills its segment slowly, and what is not used of it is missed elsewhere. */
	return align_down_u64(min_u64(size, class == SPACE_MOVE ? SEGMENT_FIRST : SEGMENT_MAX),
			      FORMAT_BLOCK);
}

/*
 * A new segment, made durable by an edit of its own. Without v->mu.
 * @want, @need: bytes it should have, and must have
 */
static int open_segment(struct values *v, enum space_class class, uint64_t want, uint64_t need,
			struct segment **out)
{
	struct segment_meta meta = {.id = versions_new_segment_id(v->options.versions)};
	struct version_edit edit = {.add_segment_count = 1};
	struct segment *seg = NULL;
	int err;

	if (versions_poisoned(v->options.versions))
		return -KV_E_POISONED;
	need = align_up_u64(need, FORMAT_BLOCK);
	err = space_alloc(v->options.space, class, max_u64(want, need), need, &meta.extent);
	if (err)
		return err;
	err = segment_new(&meta, false, &seg);
	if (err) {
		space_release(v->options.space, meta.extent);
		return err;
	}
	edit.add_segments = &seg;
	err = versions_apply(v->options.versions, &edit);
	if (err) {
		/* Poisoned: the volume may name the segment already. */
		if (err != -KV_E_POISONED)
			space_release(v->options.space, meta.extent);
		free(seg);
		return err;
	}
	*out = seg;
	return 0;
}

/*
 * False: the segment has no room for it. @apart: in blocks of its own, so that no seal has
 * to wait for it.
 */
static bool take_place(struct values *v, struct segment *seg, uint64_t len, bool apart,
		       struct value_place *out) KV_REQUIRES(v->mu)
{
	uint64_t used = atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);

	if (apart) {
		used = align_up_u64(used, FORMAT_BLOCK);
		len = align_up_u64(len, FORMAT_BLOCK);
	}
	if (len > seg->extent.len || used > seg->extent.len - len)
		return false;
	atomic_fetch_add_explicit(&seg->pending, 1, memory_order_relaxed);
	atomic_store_explicit(&seg->used_bytes, used + len, memory_order_relaxed);
	out->seg = seg;
	out->off = used;
	out->parity = v->epoch % 2;
	v->writing[out->parity] += !apart;
	return true;
}

/* After the last place was taken: once nothing is pending it may be found dead. */
static void seal_segment(struct segment *seg)
{
	atomic_store_explicit(&seg->sealed, true, memory_order_release);
}

/* A place in a segment that holds this value alone. */
static int find_own_place(struct values *v, enum space_class class, uint64_t len, bool apart,
			  struct value_place *out)
{
	struct segment *seg;
	bool ok;
	int err;

	err = open_segment(v, class, len, len, &seg);
	if (err)
		return err;
	os_mutex_lock(&v->mu);
	ok = take_place(v, seg, len, apart, out);
	os_mutex_unlock(&v->mu);
	KV_ASSERT(ok);
	seal_segment(seg);
	return 0;
}

int values_find_place(struct values *v, enum space_class class, uint64_t len, bool apart,
		      struct value_place *out)
{
	unsigned which = class == SPACE_MOVE ? FOR_COMPACTION : FOR_USER;
	uint64_t size = segment_size(v, class);
	int err = 0;

	if (len > size / 2)
		return find_own_place(v, class, len, apart, out);
	os_mutex_lock(&v->mu);
	while (!v->open[which] || !take_place(v, v->open[which], len, apart, out)) {
		struct segment *seg = NULL;

		if (v->opening[which]) {
			os_cond_wait(&v->changed, &v->mu);
			continue;
		}
		v->opening[which] = true;
		if (v->open[which])
			seal_segment(v->open[which]);
		v->open[which] = NULL;
		os_mutex_unlock(&v->mu);
		err = open_segment(v, class, size, len, &seg);
		os_mutex_lock(&v->mu);
		v->opening[which] = false;
		v->open[which] = seg;
		os_cond_broadcast(&v->changed);
		if (err)
			break;
	}
	os_mutex_unlock(&v->mu);
	return err;
}

static void written(struct values *v, const struct value_place *p)
{
	os_mutex_lock(&v->mu);
	if (--v->writing[p->parity] == 0)
		os_cond_broadcast(&v->changed);
	os_mutex_unlock(&v->mu);
}

void values_trim_place(struct values *v, const struct value_place *p, uint64_t reserved,
		       uint64_t used)
{
	uint64_t end = p->off + align_up_u64(reserved, FORMAT_BLOCK);

	os_mutex_lock(&v->mu);
	if (atomic_load_explicit(&p->seg->used_bytes, memory_order_relaxed) == end)
		atomic_store_explicit(&p->seg->used_bytes,
				      p->off + align_up_u64(used, FORMAT_BLOCK),
				      memory_order_relaxed);
	os_mutex_unlock(&v->mu);
	atomic_fetch_add_explicit(&v->bytes_written, used, memory_order_relaxed);
}

/* ---- writing --------------------------------------------------------------------- */

int values_put(struct values *v, struct kv_slice raw, enum space_class class, struct value_ref *out)
{
	struct value_ref ref = {.raw_len = raw.len};
	struct kv_buf packed = {0};
	struct kv_slice stored;
	struct value_place p;
	int err;

	if (!raw.len || raw.len > KV_VALUE_MAX)
		return -KV_E_INVALID;
	err = values_pack(&v->options, raw, &packed, ref.sum);
	if (err)
		goto out;
	stored = packed.len ? kv_buf_slice(&packed) : raw;
	ref.stored_len = stored.len;
	err = values_find_place(v, class, stored.len, false, &p);
	if (err)
		goto out;
	ref.segment_id = p.seg->id;
	ref.off = p.off;
	err = os_volume_write(v->options.volume, p.seg->extent.off + p.off, stored.data, stored.len,
			      0);
	written(v, &p);
	if (err) {
		/* Nothing refers to the place, so it is only lost. */
		values_settle(v, ref.segment_id);
		goto out;
	}
	atomic_fetch_add_explicit(&v->bytes_written, stored.len, memory_order_relaxed);
	*out = ref;
out:
	kv_buf_free(&packed);
	return err == -ENOSPC ? -KV_E_NOSPACE : err;
}

void values_seal(struct values *v)
{
	unsigned parity;

	os_mutex_lock(&v->mu);
	/* One at a time: a second one would let places of two ages share a count. */
	while (v->sealing)
		os_cond_wait(&v->changed, &v->mu);
	v->sealing = true;
	parity = v->epoch++ % 2;
	for (unsigned i = 0; i < OPEN_SEGMENTS; i++) {
		struct segment *seg = v->open[i];
		uint64_t used;

		if (!seg)
			continue;
		used = atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
		atomic_store_explicit(&seg->used_bytes, align_up_u64(used, FORMAT_BLOCK),
				      memory_order_relaxed);
	}
	while (v->writing[parity])
		os_cond_wait(&v->changed, &v->mu);
	v->sealing = false;
	os_cond_broadcast(&v->changed);
	os_mutex_unlock(&v->mu);
}

/* ---- counting ----------------------------------------------------------------------- */

int values_replayed(struct values *v, const struct value_ref *ref)
{
	struct version *current = versions_current(v->options.versions);
	struct segment *seg = version_segment(current, ref->segment_id);
	int err = 0;

	if (!seg || ref->off > seg->extent.len || ref->stored_len > seg->extent.len - ref->off) {
		err = -KV_E_CORRUPT;
		goto out;
	}
	atomic_fetch_add_explicit(&seg->pending, 1, memory_order_relaxed);
	if (atomic_load_explicit(&seg->used_bytes, memory_order_relaxed) <
	    ref->off + ref->stored_len)
		atomic_store_explicit(&seg->used_bytes, ref->off + ref->stored_len,
				      memory_order_relaxed);
out:
	version_unref(current);
	return err;
}

void values_hold_many(struct values *v, uint64_t segment_id, uint64_t count)
{
	struct version *current = versions_current(v->options.versions);
	struct segment *seg = version_segment(current, segment_id);

	KV_ASSERT(seg);
	atomic_fetch_add_explicit(&seg->pending, count, memory_order_relaxed);
	version_unref(current);
}

void values_settle_many(struct values *v, uint64_t segment_id, uint64_t count)
{
	struct version *current = versions_current(v->options.versions);
	/* It is there: a segment with pending values is not dead. */
	struct segment *seg = version_segment(current, segment_id);
	uint64_t before;

	KV_ASSERT(seg);
	/* Release: the live bytes that came in its place are seen by who sees it gone. */
	before = atomic_fetch_sub_explicit(&seg->pending, count, memory_order_acq_rel);
	KV_ASSERT(before >= count);
	version_unref(current);
}

void values_settle(struct values *v, uint64_t segment_id)
{
	values_settle_many(v, segment_id, 1);
}

/* Pending is read first: a reference goes from pending to live, never back. */
static bool segment_dead(const struct segment *seg)
{
	return atomic_load_explicit(&seg->sealed, memory_order_acquire) &&
	       atomic_load_explicit(&seg->pending, memory_order_acquire) == 0 &&
	       atomic_load_explicit(&seg->live_bytes, memory_order_acquire) == 0;
}

int values_reap(struct values *v)
{
	struct version *current = versions_current(v->options.versions);
	uint64_t dead[REAP_BATCH];
	struct version_edit edit = {.remove_segments = dead};
	int err = 0;

	for (size_t i = 0; !err && i < current->segment_count; i++) {
		if (segment_dead(current->segments[i]))
			dead[edit.remove_segment_count++] = current->segments[i]->id;
		if (edit.remove_segment_count == REAP_BATCH) {
			err = versions_apply(v->options.versions, &edit);
			edit.remove_segment_count = 0;
		}
	}
	if (!err && edit.remove_segment_count)
		err = versions_apply(v->options.versions, &edit);
	version_unref(current);
	return err;
}

int values_recovered(struct values *v)
{
	struct version *current = versions_current(v->options.versions);
	int err = 0;

	os_mutex_lock(&v->mu);
	for (unsigned i = 0; i < OPEN_SEGMENTS; i++)
		v->open[i] = NULL;
	os_mutex_unlock(&v->mu);
	for (size_t i = 0; !err && i < current->segment_count; i++) {
		struct segment *seg = current->segments[i];
		uint64_t used = align_up_u64(
			atomic_load_explicit(&seg->used_bytes, memory_order_relaxed), FORMAT_BLOCK);

		seal_segment(seg);
		/* Without any value it goes as a whole at the next reaping. */
		if (used && used < seg->extent.len)
			err = versions_cut_segment(v->options.versions, seg, used);
	}
	version_unref(current);
	return err;
}

static uint64_t live_of(const struct segment *seg)
{
	return atomic_load_explicit(&seg->live_bytes, memory_order_relaxed);
}

static uint64_t used_of(const struct segment *seg)
{
	return atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
}

/* With values pending the live bytes do not tell yet how much is dead. */
static bool is_settled(const struct segment *seg)
{
	return atomic_load_explicit(&seg->sealed, memory_order_acquire) &&
	       !atomic_load_explicit(&seg->pending, memory_order_acquire);
}

bool values_mostly_dead(const struct segment *seg)
{
	return is_settled(seg) && (live_of(seg) < used_of(seg) / 2 ||
				   atomic_load_explicit(&seg->empty_it, memory_order_relaxed));
}

struct candidate {
	struct segment *seg;
	uint64_t live, used; /* as they were when it was found */
};

static int compare_live_parts(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	uint64_t p = x->live * y->used, q = y->live * x->used;

	return p < q ? -1 : p > q;
}

int values_choose_to_empty(struct values *v, uint64_t room, unsigned *count)
{
	struct version *current = versions_current(v->options.versions);
	struct candidate *some = calloc(current->segment_count + 1, sizeof(*some));
	int err = some ? 0 : -ENOMEM;
	size_t n = 0;

	*count = 0;
	for (size_t i = 0; !err && i < current->segment_count; i++) {
		struct segment *seg = current->segments[i];
		struct candidate c = {seg, live_of(seg), used_of(seg)};

		atomic_store_explicit(&seg->empty_it, false, memory_order_relaxed);
		if (is_settled(seg) && c.live < c.used - c.used / WORTH_EMPTYING)
			some[n++] = c;
	}
	if (!err)
		qsort(some, n, sizeof(*some), compare_live_parts);
	for (; *count < n && some[*count].live <= room; ++*count) {
		room -= some[*count].live;
		atomic_store_explicit(&some[*count].seg->empty_it, true, memory_order_relaxed);
	}
	free(some);
	version_unref(current);
	return err;
}

bool values_should_move(struct values *v, const struct version *version,
			const struct value_ref *ref)
{
	const struct segment *seg = version_segment(version, ref->segment_id);

	(void)v;
	return seg && values_mostly_dead(seg);
}

void values_get_stat(struct values *v, struct values_stat *out)
{
	struct version *current = versions_current(v->options.versions);
	struct values_stat st = {0};

	st.segments = current->segment_count;
	for (size_t i = 0; i < current->segment_count; i++) {
		const struct segment *seg = current->segments[i];

		st.bytes += seg->extent.len;
		st.live_bytes += atomic_load_explicit(&seg->live_bytes, memory_order_relaxed);
	}
	st.bytes_written = atomic_load_explicit(&v->bytes_written, memory_order_relaxed);
	version_unref(current);
	*out = st;
}
