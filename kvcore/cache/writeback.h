/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages on their way to the disk. A table's builder appends stored page
 * images; they are gathered into runs of up to WRITEBACK_RUN bytes, written in
 * order of their place with direct I/O, and charged to the cache's budget until
 * they are. Nothing written here is reachable before the caller has synced the
 * volume and pointed to it (docs/crash-consistency.md, rule 2).
 *
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_CACHE_WRITEBACK_H
#define KVCORE_CACHE_WRITEBACK_H

#include "kvcore/cache/cache.h"
#include "kvcore/format/entry.h"
#include "kvcore/os/os_env.h"

#define WRITEBACK_RUN (1024U * 1024)

struct writeback;

/* @cache may be NULL (nothing is charged). */
int writeback_new(struct os_volume *volume, struct cache *cache, struct writeback **out)
	KV_MUST_CHECK;
/* Drops what was not written. */
void writeback_free(struct writeback *w);

/*
 * Bytes go to consecutive places. Before the first byte, and whenever the
 * present extent is full, the caller gives the next extent.
 */
/* Room left in the present extent. */
uint64_t writeback_room(const struct writeback *w);
/* The present extent must be full (room 0) or unset. */
void writeback_set_extent(struct writeback *w, struct extent e);
/* At most writeback_room() bytes. Return: 0, -ENOMEM, -errno of the write. */
int writeback_append(struct writeback *w, struct kv_slice bytes) KV_MUST_CHECK;
/*
 * Write all that is left, padded with zeros to a block. After it writeback_append()
 * may not be called. @used: bytes of the present extent that hold data, rounded up to a block.
 */
int writeback_finish(struct writeback *w, uint64_t *used) KV_MUST_CHECK;

#endif
