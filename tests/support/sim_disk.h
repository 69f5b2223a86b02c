/* SPDX-License-Identifier: MIT */
/*
 * The bytes of one simulated volume: what a reader sees, and beneath it what
 * the disk would hold after a power loss. Private to sim_env.c, whose mutex
 * covers every call.
 */
#ifndef TESTS_SUPPORT_SIM_DISK_H
#define TESTS_SUPPORT_SIM_DISK_H

#include "tests/support/sim_env.h"

#define SIM_PAGE 4096U

struct sim_page;

struct sim_disk {
	char *name;
	bool device;
	bool removed;	  /* the name is gone; freed with the last handle */
	unsigned handles; /* open ones */
	uint64_t size;
	uint64_t durable_size;
	struct sim_page **pages; /* NULL: zeros, durably */
	size_t page_count;
	uint64_t *touched; /* pages with unsynced sectors, in no order */
	size_t touched_count, touched_cap;
	struct sim_disk *next;
};

/* splitmix64 */
static inline uint64_t sim_rng_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15U);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
	z = (z ^ z >> 27) * 0x94d049bb133111ebU;
	return z ^ z >> 31;
}

struct sim_disk *sim_disk_new(const char *name);
void sim_disk_free(struct sim_disk *d);
/* Deep copy into a new, empty disk. */
void sim_disk_copy(const struct sim_disk *from, struct sim_disk *to);

void sim_disk_resize(struct sim_disk *d, uint64_t bytes);
void sim_disk_read(const struct sim_disk *d, uint64_t off, void *buf, size_t len);
/* Whole pages. What is dirty is seen, what a failed sync lost is not. */
void sim_disk_read_direct(const struct sim_disk *d, uint64_t off, void *buf, size_t len);
void sim_disk_write(struct sim_disk *d, uint64_t off, const void *buf, size_t len);
/* Some sectors of it only. */
void sim_disk_write_torn(struct sim_disk *d, uint64_t off, const void *buf, size_t len,
			 uint64_t *rng);
/* Change both what is seen and what is durable. */
void sim_disk_poke(struct sim_disk *d, uint64_t off, const void *buf, size_t len);
void sim_disk_discard(struct sim_disk *d, uint64_t off, uint64_t len, uint64_t *rng);
void sim_disk_sync(struct sim_disk *d);
void sim_disk_sync_failed(struct sim_disk *d, uint64_t *rng);
void sim_disk_crash(struct sim_disk *d,
		    enum sim_fate (*choose)(void *ctx, const char *name, uint64_t sector),
		    void *ctx, uint64_t *rng);
uint64_t sim_disk_unsynced(const struct sim_disk *d);

#endif
