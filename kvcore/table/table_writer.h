/* SPDX-License-Identifier: MIT */
/*
 * Where a table under construction goes: extents taken from the space map as
 * they are needed, and pages compressed, hashed and handed to the write-back.
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_TABLE_TABLE_WRITER_H
#define KVCORE_TABLE_TABLE_WRITER_H

#include "kvcore/cache/writeback.h"
#include "kvcore/table/table.h"

struct table_writer {
	const struct table_env *env; /* borrowed */
	uint64_t id;
	enum space_class class;
	bool warm;
	struct writeback *writeback;
	struct extent extents[TABLE_EXTENTS_MAX]; /* neighbours merged */
	uint32_t extent_count;
	struct extent present; /* as allocated; its end is the end of the last of extents */
	uint64_t off;	       /* stored bytes so far */
	struct kv_buf compressed;
};

/* @w: zeroed, with env, id, class and warm set. Return: 0, -ENOMEM. */
int table_writer_init(struct table_writer *w) KV_MUST_CHECK;
/* Gives nothing back; @w may have failed to init. */
void table_writer_fini(struct table_writer *w);

/*
 * Append a page. @height: as for table_read_page(). @compress: if the volume does.
 * Return: 0, -KV_E_NOSPACE, -ENOMEM, -errno of the write.
 */
int table_writer_put(struct table_writer *w, struct kv_slice raw, uint32_t height, bool compress,
		     struct page_ref *ref) KV_MUST_CHECK;
/* Write all that is left and give back the unused end of the last extent. */
int table_writer_finish(struct table_writer *w) KV_MUST_CHECK;
/* Give all extents back and forget the pages put into the cache. */
void table_writer_discard(struct table_writer *w);

#endif
