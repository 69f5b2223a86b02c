/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files of this layer that read tables: pages from the disk,
 * verified and validated, and pages through the cache.
 */
#ifndef KVCORE_TABLE_TABLE_READ_H
#define KVCORE_TABLE_TABLE_READ_H

#include <stdatomic.h>

#include "kvcore/table/page.h"
#include "kvcore/table/table.h"

/* What to read from. */
struct table_source {
	const struct table_env *env;
	const struct table_meta *meta;
	bool bounds; /* hold leaves to the bounds of the meta */
};

struct table {
	struct table_source source; /* [const] of meta below */
	struct table_meta meta;	    /* [const] */
	/* [atomic] NULL until the first use, then constant. Set once by compare-and-swap (release),
	 * read with acquire; who loses the race drops his copy. */
	struct range_set *_Atomic ranges;
	_Atomic bool filter_lost; /* [atomic] unreadable: do without it */
	/* [atomic] What every lookup begins with, held in the cache until the table is closed; NULL
	 * until the first use, and as long as too much is held. Set as ranges is. */
	struct cache_page *_Atomic filter;
	struct cache_page *_Atomic root;
};

/* Bytes of a table in memory that is aligned for direct I/O. Zero-initialised is empty. */
struct table_span {
	uint8_t *buf;
	size_t cap;
	uint64_t off; /* of buf[0] in the table */
	size_t len;   /* valid bytes of buf */
};
void table_span_fini(struct table_span *span);
bool table_span_holds(const struct table_span *span, uint64_t off, size_t len);

/* Check a description before anything relies on it. Return: 0, -KV_E_CORRUPT. */
int table_check_meta(const struct table_meta *meta) KV_MUST_CHECK;

/*
 * Read (off, len) of the table, with what alignment adds, into @span, unless it is
 * there already. Return: 0, -ENOMEM, -KV_E_CORRUPT (beyond stored_bytes), -errno.
 */
int table_read_span(const struct table_source *src, uint64_t off, size_t len,
		    struct table_span *span) KV_MUST_CHECK;

/* What a page is, told by its height in the tree: a leaf is 1. */
#define TABLE_HEIGHT_FILTER 0U
#define TABLE_HEIGHT_RANGES (TABLE_HEIGHT_MAX + 1U)

/*
 * Read, verify, decompress and validate a page. Not through the cache. (A page of
 * range deletes is validated by range_page_decode().)
 * @span: where its bytes are, or are read to
 * @out:  raw_len bytes, freed by the caller with free() or given to the cache
 * Return: 0, -ENOMEM, -KV_E_CORRUPT, -KV_E_CHECKSUM, -errno of the read.
 */
int table_read_page(const struct table_source *src, const struct page_ref *ref, uint32_t height,
		    struct table_span *span, uint8_t **out) KV_MUST_CHECK;

/* Memory for a page before compression: from malloc() as far as free() is concerned. */
uint8_t *table_raw_alloc(size_t len, uint32_t height);

/* A page in use: pinned, looked at, private, or held by the table. Zero-initialised is none. */
struct table_page {
	struct page view; /* of leaf and inner pages */
	const uint8_t *data;
	uint64_t off;		     /* in the table */
	struct cache_page *cached;   /* or */
	uint8_t *own;		     /* or */
	struct cache_glance *glance; /* or none of them: the table holds it */
};

/*
 * Get a page for use, through the cache; damage is reported.
 * @once: do not keep it there
 * @out:  empty before
 * Return: as table_read_page().
 */
int table_use_page(struct table *t, const struct page_ref *ref, uint32_t height, bool once,
		   struct table_span *span, struct table_page *out) KV_MUST_CHECK;
/* The page if it is in the cache. Return: 0, -KV_E_NOTFOUND, -KV_E_CORRUPT. */
int table_use_cached_page(struct table *t, const struct page_ref *ref, uint32_t height, bool once,
			  struct table_page *out) KV_MUST_CHECK;
/* As table_use_page(), for a moment in which nothing is waited for, no other page used so, and the
 * table not closed. */
int table_glance_at_page(struct table *t, const struct page_ref *ref, uint32_t height,
			 struct table_span *span, struct table_page *out) KV_MUST_CHECK;
/* Leaves it empty; nothing happens if it is. */
void table_drop_page(struct table *t, struct table_page *page);
/* Tell env->damage of it, if @err is damage. */
void table_report(const struct table *t, const struct page_ref *ref, int err);

#endif
