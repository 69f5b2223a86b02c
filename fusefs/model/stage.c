/* SPDX-License-Identifier: MIT */
/*
 * Gathering the changes of one open file. What the writer sees is the file, cut
 * where it was cut, with the ranges of the shadow laid over it; everybody else
 * sees the file. A change that fails spoils the whole: there will be no commit, so
 * that nobody ever sees a part.
 */
#include "fusefs/model/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/model/create.h"
#include "fusefs/model/place.h"
#include "fusefs/model/retry.h"
#include "kvcore/base/buf.h"

/* ---- the shadow ---- */

struct stage_shadow_args {
	struct inode r;
	struct kvfs_node *node;
};

static int stage_shadow_run(struct kvfs *fs, struct kv_txn *txn, void *arg)
{
	struct stage_shadow_args *a = arg;
	struct model_key key;

	(void)fs;
	place_id(MODEL_ORPHANS, a->r.id, &key);
	return inode_put(txn, &key, &a->r);
}

static int stage_make_shadow(struct kvfs_stage *s)
{
	struct stage_shadow_args a = {
		.r = {.kind = MODEL_RECORD_FULL, .flags = MODEL_FLAG_NOATIME, .mode = S_IFREG}};
	struct retry_op op = {.run = stage_shadow_run, .arg = &a};
	int err;

	if (s->shadow)
		return 0;
	a.r.atime = a.r.mtime = a.r.ctime = a.r.btime = inode_time(kvfs_now());
	err = kvfs_new_id(s->fs, &a.r.id);
	if (!err)
		err = node_new(s->fs, &a.r, NODE_ORPHAN, &s->fs->root, kv_slice_of("", 0), &a.node);
	if (err)
		return err;
	err = retry_write(s->fs, &op);
	if (err) {
		node_discard(s->fs, a.node);
		return err;
	}
	s->shadow = node_publish(s->fs, a.node);
	return 0;
}

/* ---- ranges ---- */

/* The first range that ends at @off or behind it. */
static size_t stage_range_at(const struct kvfs_stage *s, uint64_t off)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->ranges[mid].end < off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Room for one more, so that adding one cannot fail. */
static int stage_range_reserve(struct kvfs_stage *s)
{
	size_t cap = s->cap ? s->cap * 2 : 4;
	struct stage_range *more;

	if (s->count < s->cap)
		return 0;
	more = realloc(s->ranges, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->ranges = more;
	s->cap = cap;
	return 0;
}

static void stage_range_add(struct kvfs_stage *s, uint64_t off, uint64_t end)
{
	size_t first = stage_range_at(s, off), last = first;

	while (last < s->count && s->ranges[last].off <= end)
		last++;
	if (first < last) {
		off = min_u64(off, s->ranges[first].off);
		end = max_u64(end, s->ranges[last - 1].end);
	}
	memmove(s->ranges + first + 1, s->ranges + last, (s->count - last) * sizeof(*s->ranges));
	s->ranges[first] = (struct stage_range){off, end};
	s->count = s->count - (last - first) + 1;
}

/* Nothing at @size or beyond. */
static void stage_range_cut(struct kvfs_stage *s, uint64_t size)
{
	while (s->count && s->ranges[s->count - 1].off >= size)
		s->count--;
	if (s->count)
		s->ranges[s->count - 1].end = min_u64(s->ranges[s->count - 1].end, size);
}

/* ---- open and close ---- */

int kvfs_stage_open(struct kvfs *fs, struct kvfs_node *node, struct kvfs_stage **out)
{
	struct kvfs_stage *s;
	int err;

	if (node_is_dir(node))
		return -EISDIR;
	if (node->type != S_IFREG)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	err = os_mutex_init(&s->mu, OS_RANK_MODEL_STAGE);
	if (err) {
		free(s);
		return err;
	}
	s->fs = fs;
	s->node = node;
	s->refs = 1;
	s->cut = STAGE_WHOLE;
	node_ref(fs, node);
	os_mutex_lock(&fs->stage_mu);
	s->next = fs->stages;
	if (s->next)
		s->next->prev = s;
	fs->stages = s;
	atomic_fetch_add(&fs->stage_count, 1);
	atomic_fetch_add(&node->stages, 1);
	os_mutex_unlock(&fs->stage_mu);
	*out = s;
	return 0;
}

int kvfs_stage_create(struct kvfs *fs, struct kvfs_node *dir, const char *name, uint32_t mode,
		      const struct kvfs_owner *owner, struct kvfs_node **out,
		      struct kvfs_attr *attr, struct kvfs_stage **stage)
{
	struct kvfs_node *node;
	int err = create_unborn(fs, dir, name, mode, owner, &node, attr);

	if (err)
		return err;
	err = kvfs_stage_open(fs, node, stage);
	if (err) {
		node_unref(fs, node, 1);
		return err;
	}
	(*stage)->cut = 0;
	attr->staged = true;
	*out = node;
	return 0;
}

void stage_reset(struct kvfs_stage *s)
{
	s->count = 0;
	s->cut = STAGE_WHOLE;
	s->size = 0;
	s->changed = false;
	s->appends = false;
	node_unref(s->fs, s->shadow, 1);
	s->shadow = NULL;
}

void kvfs_stage_ref(struct kvfs_stage *s)
{
	os_mutex_lock(&s->fs->stage_mu);
	s->refs++;
	os_mutex_unlock(&s->fs->stage_mu);
}

void kvfs_stage_unref(struct kvfs_stage *s)
{
	struct kvfs *fs;
	bool last;

	if (!s)
		return;
	fs = s->fs;
	os_mutex_lock(&fs->stage_mu);
	last = --s->refs == 0;
	os_mutex_unlock(&fs->stage_mu);
	if (!last)
		return;
	os_mutex_fini(&s->mu);
	node_unref(fs, s->node, 1);
	free(s->ranges);
	free(s);
}

void kvfs_stage_close(struct kvfs_stage *s)
{
	struct kvfs *fs;

	if (!s)
		return;
	fs = s->fs;
	os_mutex_lock(&s->mu);
	stage_reset(s);
	s->failed = -EBADF;
	os_mutex_unlock(&s->mu);
	os_mutex_lock(&fs->stage_mu);
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		fs->stages = s->next;
	atomic_fetch_sub(&fs->stage_count, 1);
	os_mutex_unlock(&fs->stage_mu);
	/* Who has read the record before the commit has told by now that it may change. */
	os_rwlock_wrlock(&fs->ns);
	atomic_fetch_sub(&s->node->stages, 1);
	os_rwlock_wrunlock(&fs->ns);
	kvfs_stage_unref(s);
}

/* ---- reading ---- */

int stage_view_size(struct kvfs_stage *s, uint64_t *out)
{
	struct kvfs_attr attr;
	int err;

	*out = s->size;
	if (s->cut != STAGE_WHOLE)
		return 0;
	err = kvfs_getattr(s->fs, s->node, &attr);
	if (!err)
		*out = max_u64(s->size, attr.size);
	return err;
}

int kvfs_stage_attr(struct kvfs_stage *s, struct kvfs_attr *out)
{
	uint64_t size;
	int err;

	os_mutex_lock(&s->mu);
	err = kvfs_getattr(s->fs, s->node, out);
	if (!err && s->changed) {
		err = stage_view_size(s, &size);
		out->size = size;
		out->blocks = size / 512 + (size % 512 != 0);
		out->mtime = inode_time_get(s->mtime);
		out->ctime = out->mtime;
	}
	out->staged = true;
	os_mutex_unlock(&s->mu);
	return err;
}

static int stage_copy(struct kvfs *fs, struct kvfs_node *node, uint64_t off, size_t len,
		      uint8_t *out)
{
	struct kv_buf data = {0};
	int err = kvfs_read(fs, node, off, len, &data);

	if (!err && data.len)
		memcpy(out, data.data, data.len);
	kv_buf_free(&data);
	return err;
}

/* The ranges that meet [off, off + len) over what @out holds. */
static int stage_overlay(struct kvfs_stage *s, uint64_t off, size_t len, uint8_t *out)
{
	uint64_t from, to, end = off + len;
	int err = 0;

	for (size_t i = stage_range_at(s, off); i < s->count && s->ranges[i].off < end; i++) {
		from = max_u64(off, s->ranges[i].off);
		to = min_u64(end, s->ranges[i].end);
		if (from >= to)
			continue;
		memset(out + (from - off), 0, to - from);
		if (s->shadow)
			err = stage_copy(s->fs, s->shadow, from, to - from, out + (from - off));
		if (err)
			break;
	}
	return err;
}

int kvfs_stage_read(struct kvfs_stage *s, uint64_t off, size_t len, struct kv_buf *out)
{
	struct kv_buf data = {0};
	uint64_t size;
	int err;

	os_mutex_lock(&s->mu);
	err = stage_view_size(s, &size);
	if (!err) {
		len = off < size ? (size_t)min_u64(len, size - off) : 0;
		err = buf_append_zeros(&data, len);
	}
	if (!err && len && off < s->cut)
		err = stage_copy(s->fs, s->node, off, min_u64(len, s->cut - off), data.data);
	if (!err && len)
		err = stage_overlay(s, off, len, data.data);
	os_mutex_unlock(&s->mu);
	if (err) {
		kv_buf_free(&data);
		return err;
	}
	kv_buf_free(out);
	*out = data;
	return 0;
}

/* ---- changing; s->mu is held ---- */

/* What the flags of chattr(1) allow: anything, or only what leaves the present bytes alone. */
static int stage_check(struct kvfs_stage *s, bool adds)
{
	unsigned forbids = MODEL_FLAG_IMMUTABLE | (adds ? 0U : (unsigned)MODEL_FLAG_APPEND);
	int err = s->failed ? s->failed : kvfs_writable(s->fs);

	if (!err) {
		os_rwlock_rdlock(&s->fs->ns);
		err = s->node->guard & forbids ? -EPERM : 0;
		os_rwlock_rdunlock(&s->fs->ns);
	}
	return err;
}

static void stage_note(struct kvfs_stage *s)
{
	s->changed = true;
	s->mtime = inode_time(kvfs_now());
	s->times_set = atomic_load(&s->node->times_set);
}

static int stage_write_locked(struct kvfs_stage *s, uint64_t off, struct kv_slice data, bool append)
{
	bool alone = !s->count && s->cut == STAGE_WHOLE && !s->size;
	uint64_t view;
	int err;

	err = stage_view_size(s, &view);
	if (!err)
		off = append ? view : off;
	if (!err)
		err = stage_check(s, off >= view);
	if (!err && (off > KVFS_FILE_MAX || data.len > KVFS_FILE_MAX - off))
		err = -EFBIG;
	if (err)
		return err;
	err = stage_range_reserve(s);
	if (!err)
		err = stage_make_shadow(s);
	if (!err)
		err = kvfs_write(s->fs, s->shadow, off, data, false);
	if (err) {
		s->failed = err;
		return err;
	}
	s->appends = append && (alone || (s->appends && off == s->ranges[0].end));
	stage_range_add(s, off, off + data.len);
	s->size = max_u64(s->size, off + data.len);
	stage_note(s);
	return 0;
}

int kvfs_stage_write(struct kvfs_stage *s, uint64_t off, struct kv_slice data, bool append)
{
	int err;

	if (data.len > KVFS_WRITE_MAX)
		return -EINVAL;
	if (!data.len)
		return 0;
	os_mutex_lock(&s->mu);
	err = stage_write_locked(s, off, data, append);
	os_mutex_unlock(&s->mu);
	return err;
}

/* The shadow keeps nothing that a later, longer range could bring back. */
static int stage_cut_shadow(struct kvfs_stage *s, uint64_t size)
{
	struct kvfs_attr attr;
	int err;

	if (!s->shadow)
		return 0;
	err = kvfs_getattr(s->fs, s->shadow, &attr);
	if (err || attr.size <= size)
		return err;
	attr.size = size;
	return kvfs_setattr(s->fs, s->shadow, KVFS_SET_SIZE, &attr, NULL);
}

static int stage_set_size_locked(struct kvfs_stage *s, uint64_t size)
{
	uint64_t view;
	int err;

	if (!size && s->failed != -EBADF)
		s->failed = 0; /* nothing of what went wrong is left */
	err = stage_view_size(s, &view);
	if (!err)
		err = stage_check(s, size >= view);
	if (err)
		return err;
	if (size < view || !size) {
		err = stage_cut_shadow(s, size);
		if (err) {
			s->failed = err;
			return err;
		}
		stage_range_cut(s, size);
		s->cut = min_u64(s->cut, size);
	}
	s->size = size < view ? size : max_u64(s->size, size);
	s->appends = false;
	stage_note(s);
	return 0;
}

int kvfs_stage_set_size(struct kvfs_stage *s, uint64_t size)
{
	int err;

	if (size > KVFS_FILE_MAX)
		return -EFBIG;
	os_mutex_lock(&s->mu);
	err = stage_set_size_locked(s, size);
	os_mutex_unlock(&s->mu);
	return err;
}

/* Bytes up to @end, which is within the size, become zeros. */
static int stage_zero(struct kvfs_stage *s, uint64_t off, uint64_t end)
{
	int err;

	if (off >= end)
		return 0;
	err = stage_range_reserve(s);
	if (!err && s->shadow)
		err = kvfs_fallocate(s->fs, s->shadow, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     off, end - off);
	if (err) {
		s->failed = err;
		return err;
	}
	stage_range_add(s, off, end);
	s->appends = false;
	stage_note(s);
	return 0;
}

static int stage_allocate_locked(struct kvfs_stage *s, int mode, uint64_t off, uint64_t end,
				 uint64_t room)
{
	bool zeros = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	uint64_t view;
	int err;

	err = stage_view_size(s, &view);
	if (!err)
		err = stage_check(s, !zeros);
	if (err)
		return err;
	if (zeros)
		err = stage_zero(s, off, min_u64(end, view));
	else if (end > view && end - max_u64(off, view) > room)
		err = -KV_E_NOSPACE;
	if (!err && end > view && !(mode & FALLOC_FL_KEEP_SIZE))
		err = stage_set_size_locked(s, end);
	return err;
}

int kvfs_stage_fallocate(struct kvfs_stage *s, int mode, uint64_t off, uint64_t len)
{
	struct kv_db_info info;
	int err;

	if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
	    mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) && mode != FALLOC_FL_ZERO_RANGE &&
	    mode != (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	if (off > KVFS_FILE_MAX || len > KVFS_FILE_MAX - off)
		return -EFBIG;
	err = kv_get_info(s->fs->db, &info);
	if (err)
		return err;
	os_mutex_lock(&s->mu);
	err = stage_allocate_locked(s, mode, off, off + len, info.free);
	os_mutex_unlock(&s->mu);
	return err;
}

int kvfs_stage_copy_range(struct kvfs_stage *s, struct kvfs_node *from, uint64_t from_off,
			  uint64_t to_off, uint64_t len, uint64_t *copied)
{
	struct kv_buf data = {0};
	int err = kvfs_read(s->fs, from, from_off, min_u64(len, KVFS_WRITE_MAX), &data);

	if (!err)
		err = kvfs_stage_write(s, to_off, kv_buf_slice(&data), false);
	if (!err)
		*copied = data.len;
	kv_buf_free(&data);
	return err;
}
