/* SPDX-License-Identifier: MIT */
/*
 * A volume is a table of pages; a page that differs from the disk carries a
 * copy of what the disk holds, with a bit for each sector: dirty (the next sync
 * writes it) or lost (a sync failed for it, and no later one will try again).
 */
#include "tests/support/sim_disk.h"

#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"

#define PAGE_SECTORS (SIM_PAGE / SIM_SECTOR)

struct sim_page {
	uint8_t data[SIM_PAGE];
	uint8_t *durable; /* what the disk holds; NULL: the same */
	uint8_t dirty;	  /* bit for each sector */
	uint8_t lost;
};

static void *must(void *p)
{
	KV_ASSERT(p);
	return p;
}

struct sim_disk *sim_disk_new(const char *name)
{
	struct sim_disk *d = must(calloc(1, sizeof(*d)));

	d->name = must(strdup(name));
	return d;
}

static void page_free(struct sim_page *p)
{
	if (p)
		free(p->durable);
	free(p);
}

void sim_disk_free(struct sim_disk *d)
{
	for (size_t i = 0; i < d->page_count; i++)
		page_free(d->pages[i]);
	free(d->pages);
	free(d->touched);
	free(d->name);
	free(d);
}

void sim_disk_copy(const struct sim_disk *from, struct sim_disk *to)
{
	to->device = from->device;
	to->size = from->size;
	to->durable_size = from->durable_size;
	to->page_count = from->page_count;
	to->pages = must(calloc(from->page_count + 1, sizeof(struct sim_page *)));
	for (size_t i = 0; i < from->page_count; i++) {
		if (!from->pages[i])
			continue;
		to->pages[i] = must(malloc(sizeof(struct sim_page)));
		memcpy(to->pages[i], from->pages[i], sizeof(struct sim_page));
		if (!from->pages[i]->durable)
			continue;
		to->pages[i]->durable = must(malloc(SIM_PAGE));
		memcpy(to->pages[i]->durable, from->pages[i]->durable, SIM_PAGE);
	}
	to->touched_count = to->touched_cap = from->touched_count;
	to->touched = must(calloc(from->touched_count + 1, sizeof(uint64_t)));
	if (from->touched_count)
		memcpy(to->touched, from->touched, from->touched_count * sizeof(uint64_t));
}

/* The page, made if it is not there. */
static struct sim_page *page_at(struct sim_disk *d, uint64_t no)
{
	if (!d->pages[no])
		d->pages[no] = must(calloc(1, sizeof(struct sim_page)));
	return d->pages[no];
}

static void room_for(struct sim_disk *d, uint64_t bytes)
{
	size_t count = (size_t)((bytes + SIM_PAGE - 1) / SIM_PAGE);

	if (count <= d->page_count)
		return;
	d->pages = must(realloc(d->pages, count * sizeof(struct sim_page *)));
	memset(d->pages + d->page_count, 0, (count - d->page_count) * sizeof(struct sim_page *));
	d->page_count = count;
}

/* Call @fn for each page that the range touches. @buf may be NULL. */
static void split(uint64_t off, uint64_t len, const uint8_t *buf,
		  void (*fn)(void *ctx, uint64_t page, size_t in, size_t n, const uint8_t *buf),
		  void *ctx)
{
	while (len != 0) {
		size_t in = (size_t)(off % SIM_PAGE);
		size_t n = (size_t)min_u64(len, SIM_PAGE - in);

		fn(ctx, off / SIM_PAGE, in, n, buf);
		off += n;
		len -= n;
		if (buf)
			buf += n;
	}
}

/* Keep what the disk holds, before the page is changed. */
static void keep_copy(struct sim_disk *d, uint64_t no)
{
	struct sim_page *p = page_at(d, no);

	if (p->durable)
		return;
	p->durable = must(malloc(SIM_PAGE));
	memcpy(p->durable, p->data, SIM_PAGE);
	if (d->touched_count == d->touched_cap) {
		d->touched_cap = d->touched_cap ? 2 * d->touched_cap : 64;
		d->touched = must(realloc(d->touched, d->touched_cap * sizeof(uint64_t)));
	}
	d->touched[d->touched_count++] = no;
}

static void write_part(void *ctx, uint64_t no, size_t in, size_t n, const uint8_t *buf)
{
	struct sim_page *p = page_at(ctx, no);

	keep_copy(ctx, no);
	for (size_t s = in / SIM_SECTOR; s <= (in + n - 1) / SIM_SECTOR; s++) {
		p->dirty |= (uint8_t)(1U << s);
		p->lost &= (uint8_t) ~(1U << s);
	}
	memcpy(p->data + in, buf, n);
}

void sim_disk_write(struct sim_disk *d, uint64_t off, const void *buf, size_t len)
{
	split(off, len, buf, write_part, d);
}

void sim_disk_write_torn(struct sim_disk *d, uint64_t off, const void *buf, size_t len,
			 uint64_t *rng)
{
	const uint8_t *p = buf;

	while (len != 0) {
		size_t n = (size_t)min_u64(len, SIM_SECTOR - off % SIM_SECTOR);

		if (sim_rng_next(rng) % 2)
			sim_disk_write(d, off, p, n);
		off += n;
		p += n;
		len -= n;
	}
}

static void poke_part(void *ctx, uint64_t no, size_t in, size_t n, const uint8_t *buf)
{
	struct sim_page *p = page_at(ctx, no);

	memcpy(p->data + in, buf, n);
	if (p->durable)
		memcpy(p->durable + in, buf, n);
}

void sim_disk_poke(struct sim_disk *d, uint64_t off, const void *buf, size_t len)
{
	split(off, len, buf, poke_part, d);
}

/* Replace the lost sectors of a page's copy by what the disk holds. */
static void see_through(const struct sim_page *p, uint8_t *copy)
{
	for (unsigned s = 0; s < PAGE_SECTORS; s++)
		if (p->lost & 1U << s)
			memcpy(copy + s * SIM_SECTOR, p->durable + s * SIM_SECTOR, SIM_SECTOR);
}

void sim_disk_read_direct(const struct sim_disk *d, uint64_t off, void *buf, size_t len)
{
	uint8_t *out = buf;

	sim_disk_read(d, off, buf, len);
	for (; len != 0; len -= SIM_PAGE, off += SIM_PAGE, out += SIM_PAGE)
		if (d->pages[off / SIM_PAGE])
			see_through(d->pages[off / SIM_PAGE], out);
}

void sim_disk_read(const struct sim_disk *d, uint64_t off, void *buf, size_t len)
{
	uint8_t *out = buf;

	while (len != 0) {
		const struct sim_page *p = d->pages[off / SIM_PAGE];
		size_t in = (size_t)(off % SIM_PAGE);
		size_t n = (size_t)min_u64(len, SIM_PAGE - in);

		if (p)
			memcpy(out, p->data + in, n);
		else
			memset(out, 0, n);
		off += n;
		out += n;
		len -= n;
	}
}

static void zero_part(void *ctx, uint64_t no, size_t in, size_t n, const uint8_t *buf)
{
	static const uint8_t zeros[SIM_PAGE];
	struct sim_disk *d = ctx;

	(void)buf;
	if (d->pages[no])
		write_part(ctx, no, in, n, zeros);
}

void sim_disk_resize(struct sim_disk *d, uint64_t bytes)
{
	room_for(d, bytes);
	if (bytes < d->size)
		split(bytes, d->size - bytes, NULL, zero_part, d);
	d->size = bytes;
}

struct discard {
	struct sim_disk *disk;
	uint64_t *rng;
};

static void discard_part(void *ctx, uint64_t no, size_t in, size_t n, const uint8_t *buf)
{
	struct discard *dis = ctx;
	uint8_t fill[SIM_PAGE];

	(void)buf;
	if (!dis->disk->pages[no])
		return;
	memset(fill, sim_rng_next(dis->rng) % 2 ? 0 : 0xdd, sizeof(fill));
	write_part(dis->disk, no, in, n, fill);
}

void sim_disk_discard(struct sim_disk *d, uint64_t off, uint64_t len, uint64_t *rng)
{
	struct discard dis = {d, rng};

	split(off, len, NULL, discard_part, &dis);
}

/* The sector is as the reader sees it, durably. */
static void settle(struct sim_page *p, unsigned sector)
{
	memcpy(p->durable + sector * SIM_SECTOR, p->data + sector * SIM_SECTOR, SIM_SECTOR);
	p->dirty &= (uint8_t) ~(1U << sector);
	p->lost &= (uint8_t) ~(1U << sector);
}

/* Drop the copies of pages that no longer differ from the disk. */
static void forget_copies(struct sim_disk *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < d->touched_count; i++) {
		struct sim_page *p = d->pages[d->touched[i]];

		if (p->dirty || p->lost) {
			d->touched[kept++] = d->touched[i];
			continue;
		}
		free(p->durable);
		p->durable = NULL;
	}
	d->touched_count = kept;
}

void sim_disk_sync(struct sim_disk *d)
{
	for (size_t i = 0; i < d->touched_count; i++) {
		struct sim_page *p = d->pages[d->touched[i]];

		for (unsigned s = 0; s < PAGE_SECTORS; s++)
			if (p->dirty & 1U << s)
				settle(p, s);
	}
	forget_copies(d);
	d->durable_size = d->size;
}

void sim_disk_sync_failed(struct sim_disk *d, uint64_t *rng)
{
	for (size_t i = 0; i < d->touched_count; i++) {
		struct sim_page *p = d->pages[d->touched[i]];

		for (unsigned s = 0; s < PAGE_SECTORS; s++)
			if ((p->dirty & 1U << s) && sim_rng_next(rng) % 2)
				settle(p, s);
		p->lost |= p->dirty;
		p->dirty = 0;
	}
	forget_copies(d);
	if (sim_rng_next(rng) % 2)
		d->durable_size = d->size;
}

static void crash_sector(struct sim_page *p, unsigned sector, enum sim_fate fate, uint64_t *rng)
{
	uint8_t *data = p->data + sector * SIM_SECTOR;

	if (fate == SIM_DROP)
		memcpy(data, p->durable + sector * SIM_SECTOR, SIM_SECTOR);
	if (fate == SIM_GARBAGE) {
		/* A torn sector is mostly the old and the new in pieces, else noise. */
		size_t cut = (size_t)(sim_rng_next(rng) % SIM_SECTOR);

		if (sim_rng_next(rng) % 4)
			memcpy(data + cut, p->durable + sector * SIM_SECTOR + cut,
			       SIM_SECTOR - cut);
		else
			for (size_t i = 0; i < SIM_SECTOR; i++)
				data[i] = (uint8_t)sim_rng_next(rng);
	}
	settle(p, sector);
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

void sim_disk_crash(struct sim_disk *d,
		    enum sim_fate (*choose)(void *ctx, const char *name, uint64_t sector),
		    void *ctx, uint64_t *rng)
{
	uint64_t size = d->size;

	if (d->durable_size != size && choose(ctx, d->name, d->size / SIM_SECTOR) == SIM_DROP)
		size = d->durable_size;
	if (d->touched_count)
		qsort(d->touched, d->touched_count, sizeof(uint64_t), compare_u64);
	for (size_t i = 0; i < d->touched_count; i++) {
		uint64_t no = d->touched[i];
		struct sim_page *p = d->pages[no];

		for (unsigned s = 0; s < PAGE_SECTORS; s++) {
			if (p->lost & 1U << s)
				crash_sector(p, s, SIM_DROP, rng);
			else if (p->dirty & 1U << s)
				crash_sector(p, s, choose(ctx, d->name, no * PAGE_SECTORS + s),
					     rng);
		}
	}
	forget_copies(d);
	if (size < d->size) /* what was written behind the old end is gone */
		sim_disk_resize(d, size);
	d->size = size;
	sim_disk_sync(d);
}

uint64_t sim_disk_unsynced(const struct sim_disk *d)
{
	uint64_t n = 0;

	for (size_t i = 0; i < d->touched_count; i++)
		for (unsigned s = 0; s < PAGE_SECTORS; s++)
			n += (unsigned)(d->pages[d->touched[i]]->dirty |
					d->pages[d->touched[i]]->lost) >>
				     s &
			     1U;
	return n;
}
