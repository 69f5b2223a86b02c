/* SPDX-License-Identifier: MIT */
/*
 * The simulated host: opening, crashes, faults and the clock. I/O is in
 * sim_volume.c, the bytes are in sim_disk.c. One mutex covers everything, and
 * all choices are drawn from one generator, so that a single-threaded test
 * repeats exactly.
 */
#include "tests/support/sim_env.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/sim_internal.h"

_Thread_local unsigned sim_env_inside;

void sim_lock(struct sim_env *e)
{
	sim_env_inside++;
	os_mutex_lock(&e->mu);
}

void sim_unlock(struct sim_env *e)
{
	os_mutex_unlock(&e->mu);
	sim_env_inside--;
}

static struct sim_env *env_of(struct os_env *os)
{
	return KV_CONTAINER_OF(os, struct sim_env, os);
}

static struct sim_disk *find(struct sim_env *e, const char *name)
{
	for (struct sim_disk *d = e->disks; d; d = d->next)
		if (strcmp(d->name, name) == 0)
			return d;
	return NULL;
}

static struct sim_disk *add_disk(struct sim_env *e, const char *name)
{
	struct sim_disk *d = sim_disk_new(name);

	d->next = e->disks;
	e->disks = d;
	return d;
}

static bool is_locked(const struct sim_env *e, const struct sim_disk *d, bool shared)
{
	for (const struct sim_handle *h = e->handles; h; h = h->next)
		if (h->disk == d && h->life == e->life && (h->exclusive || (h->shared && !shared)))
			return true;
	return false;
}

static int open_locked(struct sim_env *e, const char *path, unsigned flags, struct sim_handle *h,
		       bool *made)
{
	struct sim_disk *d = find(e, path);
	int err = 0;

	*made = false;
	if (e->power_off)
		return -EIO;
	if (sim_volume_strike(e, SIM_OP_OPEN, &err) == FAIL_IT)
		return err;
	if (!d && !(flags & OS_OPEN_CREATE))
		return -ENOENT;
	if (d && !(flags & OS_OPEN_NOLOCK) && is_locked(e, d, (flags & OS_OPEN_RDONLY) != 0))
		return -KV_E_IN_USE;
	if (!d) {
		d = add_disk(e, path);
		*made = true;
	}
	h->volume.ops = &sim_volume_ops;
	h->env = e;
	h->disk = d;
	h->life = e->life;
	h->exclusive = !(flags & OS_OPEN_RDONLY);
	h->shared = !h->exclusive && !(flags & OS_OPEN_NOLOCK);
	h->next = e->handles;
	e->handles = h;
	d->handles++;
	return 0;
}

static int sim_volume_open(struct os_env *os, const char *path, unsigned flags, unsigned wait_ms,
			   struct os_volume **out, bool *created)
{
	struct sim_env *e = env_of(os);
	struct sim_handle *h = calloc(1, sizeof(*h));
	bool made;
	int err;

	(void)wait_ms;
	if (!h)
		return -ENOMEM;
	sim_lock(e);
	err = open_locked(e, path, flags, h, &made);
	sim_unlock(e);
	if (err) {
		free(h);
		return err;
	}
	*out = &h->volume;
	if (created)
		*created = made;
	return 0;
}

static int sim_volume_remove(struct os_env *os, const char *path)
{
	struct sim_env *e = env_of(os);
	struct sim_disk **link = &e->disks;
	struct sim_disk *d;
	int err = -ENOENT;

	sim_lock(e);
	while (*link && strcmp((*link)->name, path) != 0)
		link = &(*link)->next;
	d = *link;
	if (d) {
		*link = d->next;
		d->removed = true;
		if (d->handles == 0)
			sim_disk_free(d);
		err = 0;
	}
	sim_unlock(e);
	return err;
}

static uint64_t host_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint64_t sim_monotonic_ns(struct os_env *os)
{
	struct sim_env *e = env_of(os);
	uint64_t ns;

	sim_lock(e);
	ns = e->clock_stopped ? e->clock_ns : host_ns(CLOCK_MONOTONIC);
	sim_unlock(e);
	return ns;
}

static int64_t sim_realtime_ns(struct os_env *os)
{
	struct sim_env *e = env_of(os);
	int64_t ns;

	sim_lock(e);
	ns = e->clock_stopped ? (int64_t)e->clock_ns + e->realtime_delta
			      : (int64_t)host_ns(CLOCK_REALTIME);
	sim_unlock(e);
	return ns;
}

static int sim_random(struct os_env *os, void *buf, size_t len)
{
	struct sim_env *e = env_of(os);
	uint8_t *p = buf;

	sim_lock(e);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)sim_rng_next(&e->rng);
	sim_unlock(e);
	return 0;
}

static const struct os_env_ops sim_env_ops = {
	.volume_open = sim_volume_open,
	.volume_remove = sim_volume_remove,
	.monotonic_ns = sim_monotonic_ns,
	.realtime_ns = sim_realtime_ns,
	.random = sim_random,
};

struct sim_env *sim_env_new(uint64_t seed)
{
	struct sim_env *e = calloc(1, sizeof(*e));

	KV_ASSERT(e);
	KV_ASSERT(os_mutex_init(&e->mu, OS_RANK_LEAF) == 0);
	e->os.ops = &sim_env_ops;
	e->rng = seed;
	return e;
}

struct sim_env *sim_env_clone(struct sim_env *e, uint64_t seed)
{
	struct sim_env *copy = sim_env_new(seed);

	sim_lock(e);
	for (struct sim_disk *d = e->disks; d; d = d->next)
		sim_disk_copy(d, add_disk(copy, d->name));
	copy->limit = e->limit;
	copy->clock_stopped = e->clock_stopped;
	copy->clock_ns = e->clock_ns;
	copy->realtime_delta = e->realtime_delta;
	sim_unlock(e);
	return copy;
}

void sim_env_free(struct sim_env *e)
{
	if (!e)
		return;
	while (e->handles) {
		struct sim_handle *h = e->handles;

		sim_volume_detach(e, h);
		free(h);
	}
	while (e->disks) {
		struct sim_disk *d = e->disks;

		e->disks = d->next;
		sim_disk_free(d);
	}
	os_mutex_fini(&e->mu);
	free(e);
}

struct os_env *sim_env_os(struct sim_env *e)
{
	return &e->os;
}

/* ---- crashes ----------------------------------------------------------- */

struct dice {
	uint64_t *rng;
	unsigned keep; /* chances in 1000 */
	unsigned garbage;
};

static enum sim_fate throw_dice(void *ctx, const char *name, uint64_t sector)
{
	struct dice *dice = ctx;
	unsigned r = (unsigned)(sim_rng_next(dice->rng) % 1000);

	(void)name;
	(void)sector;
	if (r < dice->garbage)
		return SIM_GARBAGE;
	return r - dice->garbage < dice->keep ? SIM_KEEP : SIM_DROP;
}

/* The handles die, and with them what was planned for them. */
static void end_life(struct sim_env *e)
{
	e->life++;
	e->power_off = false;
	e->cut_at = 0;
	memset(e->faults, 0, sizeof(e->faults));
}

static void lose_power(struct sim_env *e,
		       enum sim_fate (*choose)(void *ctx, const char *name, uint64_t sector),
		       void *ctx)
{
	for (struct sim_disk *d = e->disks; d; d = d->next)
		sim_disk_crash(d, choose, ctx, &e->rng);
}

void sim_env_crash(struct sim_env *e, enum sim_crash mode)
{
	static const unsigned chances[] = {20, 300, 500, 800, 950, 990};
	struct dice dice = {.rng = &e->rng};

	sim_lock(e);
	if (mode == SIM_CRASH_GARBAGE)
		dice.garbage = 1 + (unsigned)(sim_rng_next(&e->rng) % 200);
	if (mode == SIM_CRASH_MIX || mode == SIM_CRASH_GARBAGE)
		dice.keep = chances[sim_rng_next(&e->rng) % KV_ARRAY_COUNT(chances)];
	if (mode != SIM_CRASH_KILL)
		lose_power(e, throw_dice, &dice);
	end_life(e);
	sim_unlock(e);
}

void sim_env_crash_by(struct sim_env *e,
		      enum sim_fate (*choose)(void *ctx, const char *name, uint64_t sector),
		      void *ctx)
{
	sim_lock(e);
	lose_power(e, choose, ctx);
	end_life(e);
	sim_unlock(e);
}

uint64_t sim_env_unsynced(struct sim_env *e, const char *name)
{
	struct sim_disk *d;
	uint64_t n = 0;

	sim_lock(e);
	d = find(e, name);
	if (d)
		n = sim_disk_unsynced(d);
	sim_unlock(e);
	return n;
}

/* ---- faults ------------------------------------------------------------ */

void sim_env_fail(struct sim_env *e, enum sim_op op, uint64_t nth, bool for_good, int err)
{
	sim_lock(e);
	e->faults[op].at = nth ? e->calls[op] + nth : 0;
	e->faults[op].for_good = for_good;
	e->faults[op].err = err;
	sim_unlock(e);
}

void sim_env_cut(struct sim_env *e, uint64_t nth)
{
	sim_lock(e);
	e->cut_at = nth ? e->calls[SIM_OP_CHANGE] + nth : 0;
	sim_unlock(e);
}

void sim_env_heal(struct sim_env *e)
{
	sim_lock(e);
	memset(e->faults, 0, sizeof(e->faults));
	e->cut_at = 0;
	sim_unlock(e);
}

uint64_t sim_env_calls(struct sim_env *e, enum sim_op op)
{
	uint64_t n;

	sim_lock(e);
	n = e->calls[op];
	sim_unlock(e);
	return n;
}

uint64_t sim_env_bytes_written(struct sim_env *e)
{
	uint64_t n;

	sim_lock(e);
	n = e->bytes_written;
	sim_unlock(e);
	return n;
}

void sim_env_limit(struct sim_env *e, uint64_t bytes)
{
	sim_lock(e);
	e->limit = bytes;
	sim_unlock(e);
}

void sim_env_sync_latency(struct sim_env *e, unsigned us)
{
	sim_lock(e);
	e->sync_us = us;
	sim_unlock(e);
}

/* ---- content ----------------------------------------------------------- */

void sim_env_add_device(struct sim_env *e, const char *name, uint64_t bytes)
{
	struct sim_disk *d;

	sim_lock(e);
	KV_ASSERT(!find(e, name));
	d = add_disk(e, name);
	sim_disk_resize(d, bytes);
	sim_disk_sync(d);
	d->device = true;
	sim_unlock(e);
}

uint64_t sim_env_size(struct sim_env *e, const char *name)
{
	struct sim_disk *d;
	uint64_t size;

	sim_lock(e);
	d = find(e, name);
	size = d ? d->size : 0;
	sim_unlock(e);
	return size;
}

void sim_env_peek(struct sim_env *e, const char *name, uint64_t off, void *buf, size_t len)
{
	struct sim_disk *d;

	sim_lock(e);
	d = find(e, name);
	KV_ASSERT(d && off <= d->size && len <= d->size - off);
	sim_disk_read(d, off, buf, len);
	sim_unlock(e);
}

void sim_env_poke(struct sim_env *e, const char *name, uint64_t off, const void *buf, size_t len)
{
	struct sim_disk *d;

	sim_lock(e);
	d = find(e, name);
	KV_ASSERT(d && off <= d->size && len <= d->size - off);
	sim_disk_poke(d, off, buf, len);
	sim_unlock(e);
}

void sim_env_flip(struct sim_env *e, const char *name, uint64_t off, unsigned bit)
{
	uint8_t byte;

	sim_env_peek(e, name, off, &byte, 1);
	byte ^= (uint8_t)(1U << bit % 8);
	sim_env_poke(e, name, off, &byte, 1);
}

/* ---- clock ------------------------------------------------------------- */

void sim_env_stop_clock(struct sim_env *e)
{
	sim_lock(e);
	e->clock_stopped = true;
	e->clock_ns = host_ns(CLOCK_MONOTONIC);
	e->realtime_delta = (int64_t)host_ns(CLOCK_REALTIME) - (int64_t)e->clock_ns;
	sim_unlock(e);
}

void sim_env_advance(struct sim_env *e, uint64_t ns)
{
	sim_lock(e);
	e->clock_ns += ns;
	sim_unlock(e);
}
