/* SPDX-License-Identifier: MIT */
/*
 * The manifest: one immutable blob that names every table and value segment and
 * says where the log's replay begins. A change writes a whole new one into
 * fresh extents and then a superblock that points to it, so a reader finds the
 * old state or the new. Which space is free follows from it and is stored nowhere.
 */
#ifndef KVCORE_FORMAT_MANIFEST_H
#define KVCORE_FORMAT_MANIFEST_H

#include <stdbool.h>

#include "kvcore/format/entry.h"

#define TABLE_EXTENTS_MAX 64U /* of one table */
#define TABLE_HEIGHT_MAX  16U

/* Where a page is and what it must hash to. Kept by the page's parent. */
struct page_ref {
	uint64_t off;	     /* bytes from the table's start (through its extents) */
	uint32_t stored_len; /* 0: there is no such page */
	uint32_t raw_len;    /* equal to stored_len: not compressed; at most PAGE_RAW_MAX,
			      * for a filter or range deletes at most FILTER_RAW_MAX */
	uint8_t sum[CHECKSUM_LEN];
};
#define FILTER_RAW_MAX (64U * 1024 * 1024)

struct table_meta {
	uint64_t id; /* from 1, never reused */
	uint32_t level;
	uint32_t height; /* pages from root to leaf, at least 1; 0: only range deletes */
	struct page_ref root;
	struct page_ref filter; /* stored_len 0: none */
	struct page_ref ranges; /* range deletes; stored_len 0: none */
	uint64_t stored_bytes;	/* used of the extents */
	uint64_t entry_count;
	uint64_t delete_count; /* of them deletes */
	uint64_t range_count;  /* range delete fragments */
	uint64_t raw_bytes;    /* keys and values before truncation and compression */
	uint64_t ref_bytes;    /* stored bytes of large values referred to */
	uint64_t old_bytes;    /* of them and of raw_bytes, versions that a newer one of the same
				* table supersedes: only snapshots read them. A statistic */
	kv_seq seq_min, seq_max;
	struct kv_buf smallest; /* first ikey covered, by an entry or a range delete */
	struct kv_buf largest; /* last ikey of an entry, or the (exclusive) end of a range delete */
	bool largest_exclusive; /* the latter */
	uint32_t extent_count;
	struct extent *extents; /* heap */
	/* Not stored. What it keeps was chosen when no table had this id or a greater one yet; 0:
	 * before the volume was opened, or nothing was chosen. */
	uint64_t gc_id;
};

void table_meta_fini(struct table_meta *m);
/* Deep copy into an uninitialised @out. */
int table_meta_copy(const struct table_meta *m, struct table_meta *out) KV_MUST_CHECK;

struct segment_meta {
	uint64_t id; /* from 1, never reused */
	struct extent extent;
	uint64_t used_bytes; /* from its start, at the time of the manifest; a segment that was
			      * open may hold values beyond it, which only the log refers to */
	uint64_t live_bytes; /* stored bytes referred to by tables */
};

struct manifest {
	uint8_t uuid[KV_UUID_LEN];
	uint64_t generation;		    /* equal to the superblock's */
	uint64_t log_lsn;		    /* replay begins here */
	uint8_t log_prev_sum[CHECKSUM_LEN]; /* chain value that the first frame must carry */
	/* Frames at or behind the fence have at least this epoch, those before it a lower one. The
	 * fence is where the log ended when the volume was last opened for writing: what stood
	 * behind it then was not replayed and must never be. */
	uint64_t log_epoch;
	uint64_t log_fence;
	bool clean; /* closed in order: the log holds nothing after log_lsn and is not searched */
	kv_seq last_seq; /* no table holds a higher one */
	uint64_t next_table_id;
	uint64_t next_segment_id;
	size_t table_count;
	struct table_meta *tables; /* heap; by level, then L0 newest first, others by smallest */
	size_t segment_count;
	struct segment_meta *segments; /* heap; by id */
};

void manifest_fini(struct manifest *m);
/*
 * Replaces the content of @out. Checks what manifest_decode() checks, so that no
 * manifest is written that could not be read.
 * Return: 0, -KV_E_INVALID, -ENOMEM; @out is unchanged on error.
 */
int manifest_encode(const struct manifest *m, struct kv_buf *out) KV_MUST_CHECK;
/*
 * Decode bytes whose checksum has been verified; still trusts nothing.
 * Return: 0, -KV_E_CORRUPT, -KV_E_VERSION (a newer manifest), -ENOMEM.
 */
int manifest_decode(struct kv_slice in, struct manifest *out) KV_MUST_CHECK;

#endif
