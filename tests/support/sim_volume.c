/* SPDX-License-Identifier: MIT */
/*
 * I/O of simulated volumes and the faults in it. A sync marks what it covers
 * when it begins and waits out its latency without the mutex, so that writes
 * made during a sync are not covered by it, as os_env.h says.
 */
#include "tests/support/sim_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct sim_handle *handle_of(struct os_volume *v)
{
	return KV_CONTAINER_OF(v, struct sim_handle, volume);
}

enum sim_verdict sim_volume_strike(struct sim_env *e, enum sim_op op, int *err)
{
	struct sim_fault *f = &e->faults[op];
	uint64_t n = ++e->calls[op];

	if (f->at == 0 || n < f->at || (n > f->at && !f->for_good))
		return DO_IT;
	*err = f->err;
	return f->err ? FAIL_IT : LOSE_IT;
}

static enum sim_verdict judge(struct sim_handle *h, enum sim_op op, bool change, int *err)
{
	struct sim_env *e = h->env;
	enum sim_verdict v = DO_IT;

	*err = -EIO;
	if (e->power_off || h->life != e->life)
		return FAIL_IT;
	if (op != SIM_OP_CHANGE)
		v = sim_volume_strike(e, op, err);
	if (!change)
		return v;
	if (v == DO_IT)
		v = sim_volume_strike(e, SIM_OP_CHANGE, err);
	else
		e->calls[SIM_OP_CHANGE]++;
	if (e->cut_at != 0 && e->calls[SIM_OP_CHANGE] >= e->cut_at) {
		e->power_off = true;
		*err = -EIO;
		v = FAIL_IT;
	}
	return v;
}

/* A dead handle may not even leave traces of a failed write. */
static bool dead(const struct sim_handle *h, bool was_off)
{
	return was_off || h->life != h->env->life;
}

static int sim_read(struct os_volume *v, uint64_t off, void *buf, size_t len, unsigned flags)
{
	struct sim_handle *h = handle_of(v);
	enum sim_verdict verdict;
	int err;

	if (flags & OS_IO_DIRECT)
		KV_ASSERT(off % OS_IO_ALIGN == 0 && len % OS_IO_ALIGN == 0 &&
			  (uintptr_t)buf % OS_IO_ALIGN == 0);
	sim_lock(h->env);
	verdict = judge(h, SIM_OP_READ, false, &err);
	if (verdict == LOSE_IT)
		memset(buf, 0, len);
	if (verdict != FAIL_IT)
		err = 0;
	if (verdict == DO_IT && !(off <= h->disk->size && len <= h->disk->size - off))
		err = -KV_E_CORRUPT;
	else if (verdict == DO_IT && (flags & OS_IO_DIRECT))
		sim_disk_read_direct(h->disk, off, buf, len);
	else if (verdict == DO_IT)
		sim_disk_read(h->disk, off, buf, len);
	sim_unlock(h->env);
	return err;
}

static uint64_t total_size(const struct sim_env *e)
{
	uint64_t sum = 0;

	for (const struct sim_disk *d = e->disks; d; d = d->next)
		sum += d->size;
	return sum;
}

/* Lengthen a file within the limit. */
static int extend(struct sim_env *e, struct sim_disk *d, uint64_t bytes)
{
	if (bytes <= d->size)
		return 0;
	if (d->device)
		return -KV_E_NOSPACE;
	if (e->limit != 0 && bytes - d->size > e->limit - min_u64(e->limit, total_size(e)))
		return -ENOSPC;
	sim_disk_resize(d, bytes);
	return 0;
}

static int sim_write(struct os_volume *v, uint64_t off, const void *buf, size_t len, unsigned flags)
{
	struct sim_handle *h = handle_of(v);
	struct sim_env *e = h->env;
	enum sim_verdict verdict;
	bool was_off;
	int err;

	if (flags & OS_IO_DIRECT)
		KV_ASSERT(off % OS_IO_ALIGN == 0 && len % OS_IO_ALIGN == 0 &&
			  (uintptr_t)buf % OS_IO_ALIGN == 0);
	sim_lock(e);
	was_off = e->power_off;
	verdict = judge(h, SIM_OP_WRITE, true, &err);
	if (verdict == DO_IT && (flags & OS_IO_DIRECT))
		verdict = sim_volume_strike(e, SIM_OP_WRITE_DIRECT, &err);
	if (verdict == FAIL_IT && !dead(h, was_off) && off <= h->disk->size &&
	    len <= h->disk->size - off)
		sim_disk_write_torn(h->disk, off, buf, len, &e->rng);
	if (verdict != FAIL_IT)
		err = 0;
	if (verdict == DO_IT) {
		KV_ASSERT(off <= UINT64_MAX - len);
		err = extend(e, h->disk, off + len);
		if (!err) {
			sim_disk_write(h->disk, off, buf, len);
			e->bytes_written += len;
		}
	}
	sim_unlock(e);
	return err;
}

static int sim_sync(struct os_volume *v)
{
	struct sim_handle *h = handle_of(v);
	struct sim_env *e = h->env;
	enum sim_verdict verdict;
	unsigned us;
	bool was_off;
	int err;

	sim_lock(e);
	was_off = e->power_off;
	verdict = judge(h, SIM_OP_SYNC, true, &err);
	if (verdict == FAIL_IT && !dead(h, was_off))
		sim_disk_sync_failed(h->disk, &e->rng);
	if (verdict == DO_IT)
		sim_disk_sync(h->disk);
	if (verdict != FAIL_IT)
		err = 0;
	us = e->sync_us;
	sim_unlock(e);
	if (us != 0) {
		struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (us % 1000000) * 1000L};

		nanosleep(&ts, NULL);
	}
	return err;
}

static int sim_size(struct os_volume *v, uint64_t *bytes)
{
	struct sim_handle *h = handle_of(v);
	int err = 0;

	sim_lock(h->env);
	if (dead(h, h->env->power_off))
		err = -EIO;
	else
		*bytes = h->disk->size;
	sim_unlock(h->env);
	return err;
}

static int sim_grow(struct os_volume *v, uint64_t bytes)
{
	struct sim_handle *h = handle_of(v);
	enum sim_verdict verdict;
	int err;

	sim_lock(h->env);
	verdict = judge(h, SIM_OP_GROW, true, &err);
	if (verdict != FAIL_IT)
		err = 0;
	if (verdict == DO_IT)
		err = extend(h->env, h->disk, bytes);
	sim_unlock(h->env);
	return err;
}

static int sim_shrink(struct os_volume *v, uint64_t bytes)
{
	struct sim_handle *h = handle_of(v);
	enum sim_verdict verdict;
	int err;

	sim_lock(h->env);
	verdict = judge(h, SIM_OP_CHANGE, true, &err);
	if (verdict != FAIL_IT)
		err = 0;
	if (verdict == DO_IT && !h->disk->device && bytes < h->disk->size)
		sim_disk_resize(h->disk, bytes);
	sim_unlock(h->env);
	return err;
}

static void sim_discard(struct os_volume *v, uint64_t off, uint64_t len)
{
	struct sim_handle *h = handle_of(v);
	int err;

	sim_lock(h->env);
	if (judge(h, SIM_OP_CHANGE, true, &err) == DO_IT && off <= h->disk->size)
		sim_disk_discard(h->disk, off, min_u64(len, h->disk->size - off), &h->env->rng);
	sim_unlock(h->env);
}

static bool sim_is_device(struct os_volume *v)
{
	return handle_of(v)->disk->device;
}

void sim_volume_detach(struct sim_env *e, struct sim_handle *h)
{
	struct sim_handle **link = &e->handles;

	while (*link != h)
		link = &(*link)->next;
	*link = h->next;
	if (--h->disk->handles == 0 && h->disk->removed)
		sim_disk_free(h->disk);
}

static int sim_close(struct os_volume *v)
{
	struct sim_handle *h = handle_of(v);
	struct sim_env *e = h->env;

	sim_lock(e);
	sim_volume_detach(e, h);
	sim_unlock(e);
	free(h);
	return 0;
}

static int sim_host_free(struct os_volume *v, uint64_t *bytes)
{
	(void)v;
	*bytes = UINT64_C(1) << 40;
	return 0;
}

const struct os_volume_ops sim_volume_ops = {
	.read = sim_read,
	.write = sim_write,
	.sync = sim_sync,
	.size = sim_size,
	.grow = sim_grow,
	.shrink = sim_shrink,
	.discard = sim_discard,
	.is_device = sim_is_device,
	.host_free = sim_host_free,
	.close = sim_close,
};
