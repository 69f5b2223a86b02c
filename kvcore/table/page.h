/* SPDX-License-Identifier: MIT */
/*
 * Leaf and inner pages of a table (docs/format.md, section 6): encoding,
 * validation, search. A page is validated once, when it comes from the disk;
 * everything else here may then trust it.
 *
 * Both kinds are the same sorted array of cells. A cell's key is split in three:
 * the prefix that all keys of the page share, stored once; the next four bytes,
 * its head, in an array of big-endian integers in which a search stays until only
 * equal heads are left; the rest, in the cell.
 *
 * The arrays stand behind the cells: Snappy takes longer steps the longer it finds
 * nothing to save, and numbers in front made it miss the repetitions in short values.
 *
 * Thread safety: a page is constant; any thread.
 */
#ifndef KVCORE_TABLE_PAGE_H
#define KVCORE_TABLE_PAGE_H

#include <stdbool.h>

#include "kvcore/format/manifest.h"

struct page_header_disk {
	uint8_t type;		/* PAGE_LEAF, PAGE_INNER */
	uint8_t flags;		/* PAGE_WIDE_SLOTS or 0 */
	struct le16 prefix_len; /* bytes */
	struct le32 count;	/* of cells, at least 1 */
	struct le64 base_seq;	/* lowest seq of a leaf; 0 in an inner page */
};
static_assert(sizeof(struct page_header_disk) == 16, "on-disk size");

#define PAGE_WIDE_SLOTS	  1U	 /* slots of 4 bytes, not 2: set if the page is over 65535 bytes */
#define PAGE_NARROW_MAX	  65535U /* bytes of a page with narrow slots */
#define PAGE_HEAD_LEN	  4U
#define PAGE_SEP_HAS_SEQ  1U /* tag of an inner cell: the key goes on from the page before */
#define PAGE_REF_DISK_MAX (10U + 5U + 5U + CHECKSUM_LEN)

/* A page in memory, taken apart. Borrows the bytes. */
struct page {
	const uint8_t *data;
	size_t len;
	uint32_t count;
	uint32_t prefix_len;
	bool wide;
	kv_seq base_seq;
	const uint8_t *prefix;
	size_t cells_end; /* offset behind the last cell, where the heads begin */
	const uint8_t *heads;
	const uint8_t *slots;
};

/* One cell. Of a leaf: tag is an enum entry_kind, payload the value. Of an inner
 * page: tag is PAGE_SEP_HAS_SEQ or 0, payload an encoded page_ref. */
struct page_cell {
	uint8_t tag;
	uint32_t suffix_len;  /* key bytes after the prefix */
	kv_seq seq;	      /* KV_SEQ_MAX in an inner cell without PAGE_SEP_HAS_SEQ */
	struct kv_slice rest; /* key bytes after prefix and head */
	struct kv_slice payload;
};

/* ---- encoding ----------------------------------------------------------- */

struct page_item {
	struct kv_slice key;
	uint8_t tag;
	kv_seq seq; /* of an inner page: 0 without PAGE_SEP_HAS_SEQ */
	struct kv_slice payload;
};

/* Bytes that an item takes about, apart from the key bytes in the page's prefix. */
#define PAGE_ITEM_OVERHEAD 11U

/*
 * Items in order, at least one; keys at most IKEY_MAX. The caller sees to it that the
 * page is not longer than PAGE_RAW_MAX. Return: 0, -ENOMEM.
 */
int page_encode(enum page_type type, const struct page_item *items, size_t count,
		struct kv_buf *out) KV_MUST_CHECK;
/* Encode into @out, which has room for PAGE_REF_DISK_MAX; return the length. */
size_t page_ref_encode(const struct page_ref *ref, uint8_t *out);

/* ---- reading ------------------------------------------------------------ */

/* What a page is held to beyond its own form. */
struct page_limits {
	enum page_type type;
	uint64_t children_end; /* children lie before this offset of the table */
	/* Keys of a leaf lie in [smallest, largest]; NULL: not judged. */
	const struct table_meta *bounds;
};

/* Check every byte on which reading relies. Return: 0, -KV_E_CORRUPT. */
int page_validate(const uint8_t *data, size_t len, const struct page_limits *limits) KV_MUST_CHECK;

/* The rest takes validated pages only, and indices below count. */
struct page page_view(const uint8_t *data, size_t len);

/* First cell that is not before (ikey, seq) in entry order; count: none. */
uint32_t page_lower_bound(const struct page *p, struct kv_slice ikey, kv_seq seq);
/* The child responsible for (ikey, seq): the last whose separator is not behind it, or the first.
 */
uint32_t page_find_child(const struct page *p, struct kv_slice ikey, kv_seq seq);

/* Ask the processor for a cell and those behind it, which a scan reads next. */
void page_prefetch_cells(const struct page *p, uint32_t i);
void page_get_cell(const struct page *p, uint32_t i, struct page_cell *out);
void page_get_child(const struct page *p, uint32_t i, struct page_ref *out);
/* Write the key of a cell to @out, which has room for PAGE_KEY_ROOM; return its length. */
#define PAGE_KEY_ROOM (IKEY_MAX + PAGE_HEAD_LEN)
size_t page_get_key(const struct page *p, uint32_t i, const struct page_cell *cell, uint8_t *out);
/* The same without the prefix of the page. */
size_t page_get_suffix(const struct page *p, uint32_t i, const struct page_cell *cell,
		       uint8_t *out);
bool page_key_equals(const struct page *p, uint32_t i, const struct page_cell *cell,
		     struct kv_slice ikey);

#endif
