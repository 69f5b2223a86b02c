/* SPDX-License-Identifier: MIT */
/*
 * Gathers a table's pages in one aligned buffer and writes it when it is full
 * or the extent is. An extent is a whole number of blocks, so every write but
 * the last is aligned as direct I/O wants it, and the last is padded.
 */
#include "kvcore/cache/writeback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/prefault.h"

struct writeback {
	struct os_volume *volume; /* [const] */
	struct cache *cache;	  /* [const] may be NULL */
	uint8_t *run;		  /* [self] WRITEBACK_RUN bytes, aligned */
	size_t len;		  /* [self] bytes in it */
	struct extent extent;	  /* [self] */
	uint64_t pos;		  /* [self] bytes of the extent appended, in the run or written */
	int err;		  /* [self] of the first write that failed */
	bool finished;		  /* [self] */
};

int writeback_new(struct os_volume *volume, struct cache *cache, struct writeback **out)
{
	struct writeback *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->run = aligned_alloc(OS_IO_ALIGN, WRITEBACK_RUN);
	if (!w->run) {
		free(w);
		return -ENOMEM;
	}
	prefault(w->run, WRITEBACK_RUN);
	w->volume = volume;
	w->cache = cache;
	if (cache)
		cache_charge(cache, WRITEBACK_RUN);
	*out = w;
	return 0;
}

void writeback_free(struct writeback *w)
{
	if (!w)
		return;
	if (w->cache)
		cache_uncharge(w->cache, WRITEBACK_RUN);
	free(w->run);
	free(w);
}

uint64_t writeback_room(const struct writeback *w)
{
	return w->extent.len - w->pos;
}

void writeback_set_extent(struct writeback *w, struct extent e)
{
	KV_ASSERT(writeback_room(w) == 0 && !w->finished);
	KV_ASSERT(e.off % FORMAT_BLOCK == 0 && e.len % FORMAT_BLOCK == 0);
	w->extent = e;
	w->pos = 0;
}

/* Write what has been gathered, a whole number of blocks, that ends at pos. */
static int flush(struct writeback *w)
{
	if (w->len == 0)
		return 0;
	w->err = os_volume_write(w->volume, w->extent.off + w->pos - w->len, w->run, w->len,
				 OS_IO_DIRECT);
	w->len = 0;
	return w->err;
}

int writeback_append(struct writeback *w, struct kv_slice bytes)
{
	KV_ASSERT(bytes.len <= writeback_room(w) && !w->finished);
	while (bytes.len != 0 && !w->err) {
		size_t n = (size_t)min_u64(bytes.len, WRITEBACK_RUN - w->len);

		memcpy(w->run + w->len, bytes.data, n);
		w->len += n;
		w->pos += n;
		bytes.data += n;
		bytes.len -= n;
		if (w->len == WRITEBACK_RUN || writeback_room(w) == 0)
			w->err = flush(w);
	}
	return w->err;
}

int writeback_finish(struct writeback *w, uint64_t *used)
{
	size_t pad = (size_t)(align_up_u64(w->len, FORMAT_BLOCK) - w->len);

	KV_ASSERT(!w->finished);
	w->finished = true;
	if (w->err)
		return w->err;
	memset(w->run + w->len, 0, pad);
	w->len += pad;
	w->pos += pad;
	if (flush(w))
		return w->err;
	*used = w->pos;
	return 0;
}
