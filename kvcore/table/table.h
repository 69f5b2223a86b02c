/* SPDX-License-Identifier: MIT */
/*
 * Immutable B+-trees. Pages are variable in length, compressed one by one,
 * packed without gaps into the table's extents, and addressed by {offset,
 * length, checksum} from their parent; the root is addressed by the manifest.
 * Pages are read through the cache.
 *
 * Page layout: docs/format.md, section 6. Keys within a page share a common
 * prefix stored once; separators in inner pages are truncated to the shortest
 * that separate (Bayer and Unterauer, Prefix B-Trees, 1977).
 */
#ifndef KVCORE_TABLE_TABLE_H
#define KVCORE_TABLE_TABLE_H

#include "kvcore/cache/cache.h"
#include "kvcore/format/compress.h"
#include "kvcore/format/manifest.h"
#include "kvcore/os/os_stats.h"
#include "kvcore/space/space.h"
#include "kvcore/table/iter.h"
#include "kvcore/table/range_del.h"

/* What tables share; one per database. All borrowed, constant after open. */
struct table_env {
	struct os_volume *volume;
	struct space *space;
	struct cache *cache;
	struct checksum *checksum;
	enum compress_algo compress;
	uint32_t page_size;		     /* target of a page before compression */
	unsigned bloom_bits_per_key;	     /* 0: no filters */
	const struct prefix_rules *prefixes; /* that filters know, too; NULL: none */
	const struct kv_log_sink *log;
	struct os_stats *stats; /* counts filters' work; may be NULL */
	/* Called for each damaged page met in reading; may be NULL. Any thread. */
	void (*damage)(void *ctx, uint64_t table_id, const struct page_ref *ref, int err);
	void *damage_ctx;
};

/* ---- building ----------------------------------------------------------- */

struct table_builder;

/*
 * @id:    of the new table
 * @class: whose space is used
 * @warm:  put the inner pages and the filter into the cache as they are made
 */
int table_builder_new(const struct table_env *env, uint64_t id, enum space_class class, bool warm,
		      struct table_builder **out) KV_MUST_CHECK;

/*
 * Entries in order (entry_compare). Any key is copied.
 * Return: 0, -KV_E_NOSPACE, -ENOMEM, -errno of a write; then the builder can only be abandoned.
 */
int table_builder_add(struct table_builder *b, const struct entry *e) KV_MUST_CHECK;

/* Stored bytes so far, with what is not yet written estimated. */
uint64_t table_builder_size(const struct table_builder *b);
uint64_t table_builder_entries(const struct table_builder *b);

/*
 * Write what is left, with the range deletes (may be NULL) already clipped to
 * the table's bounds, and describe the table. Syncs nothing. The builder is released
 * whatever the result; on error its extents are given back.
 * @level: recorded in the description
 * @out:   owned by the caller (table_meta_fini)
 */
int table_builder_finish(struct table_builder *b, const struct range_set *ranges, uint32_t level,
			 struct table_meta *out) KV_MUST_CHECK;
/* Release the builder and give its extents back. NULL is allowed. */
void table_builder_abandon(struct table_builder *b);

/* ---- reading ------------------------------------------------------------ */

/*
 * A table open for reading. Thread safety: any thread, concurrently. Counted: the
 * versions that contain it hold references.
 */
struct table;

/* Copies @meta; reads nothing yet. */
int table_open(const struct table_env *env, const struct table_meta *meta, struct table **out)
	KV_MUST_CHECK;
/* Forgets its pages in the cache if @dropped (the table is no longer part of the database). */
void table_close(struct table *t, bool dropped);
const struct table_meta *table_get_meta(const struct table *t);

/* Does the table's key range (entries and range deletes) contain the ikey? */
bool table_covers(const struct table *t, struct kv_slice ikey);

/*
 * Newest version of @ikey with seq <= @max_seq.
 * @hash:  hash_bytes(ikey, 0), computed once for all tables
 * @value: receives a copy of the entry's value
 * Return: 0, -KV_E_NOTFOUND, error.
 */
int table_get(struct table *t, struct kv_slice ikey, uint64_t hash, kv_seq max_seq, kv_seq *seq,
	      enum entry_kind *kind, struct kv_buf *value) KV_MUST_CHECK;

/*
 * The table's range deletes, loaded at first use and kept. NULL in @out if there are none.
 * Valid as long as the table.
 */
int table_ranges(struct table *t, const struct range_set **out) KV_MUST_CHECK;

enum table_iter_flags {
	TABLE_ITER_ONCE = 1U << 0,	/* pages are not kept in the cache: compaction, verify */
	TABLE_ITER_READAHEAD = 1U << 1, /* read large spans ahead of a forward scan */
};
int table_iter_new(struct table *t, unsigned flags, struct iter **out) KV_MUST_CHECK;

/*
 * May there be a key that begins with the prefix whose hash (hash_bytes, seed 0) this is? The
 * prefix is one by the rules of the table_env.
 */
bool table_admits_prefix(struct table *t, uint64_t hash);

/* For verify: does the filter admit the key and all prefixes of it that it should know? True if
 * there is no filter. */
int table_filter_admits(struct table *t, struct kv_slice ikey, bool *out) KV_MUST_CHECK;

/* ---- verifying (kvcore_check) ------------------------------------------- */

/*
 * Visit every page of a table from the root down, bypassing the cache. @page is
 * called for each with err = 0 or what is wrong with it and the bounds of the keys
 * it is responsible for (empty: unbounded); damaged pages' children are not visited.
 * @entry (may be NULL) is called for each entry of whole leaves in order. Either may
 * return nonzero to stop; that value is returned.
 */
struct table_walk {
	int (*page)(void *ctx, const struct page_ref *ref, int err, struct kv_slice from,
		    struct kv_slice to);
	int (*entry)(void *ctx, const struct entry *e);
	void *ctx;
};
int table_walk(const struct table_env *env, const struct table_meta *meta,
	       const struct table_walk *walk) KV_MUST_CHECK;

#endif
