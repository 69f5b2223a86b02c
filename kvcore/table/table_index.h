/* SPDX-License-Identifier: MIT */
/*
 * The inner levels of a table under construction: a list of leaves that becomes
 * a list of inner pages, and so on up to a root.
 * Thread safety: one thread per object.
 */
#ifndef KVCORE_TABLE_TABLE_INDEX_H
#define KVCORE_TABLE_TABLE_INDEX_H

#include "kvcore/table/page.h"
#include "kvcore/table/table_writer.h"

/* What divides a page from the one before it. */
struct table_separator {
	struct kv_slice key;
	uint8_t tag; /* PAGE_SEP_HAS_SEQ or 0 */
	kv_seq seq;  /* 0 without PAGE_SEP_HAS_SEQ */
};

struct table_child;

/* Zero-initialised is empty. */
struct table_index {
	struct table_child *children; /* of the level to be built */
	size_t count;
	size_t cap;
	struct kv_buf keys; /* of separators */
	struct page_item *items;
	size_t item_cap;
	struct kv_buf refs;
	struct kv_buf raw;
};

void table_index_fini(struct table_index *x);
/* The next page, at first a leaf. Return: 0, -ENOMEM. */
int table_index_add(struct table_index *x, const struct table_separator *sep,
		    const struct page_ref *ref) KV_MUST_CHECK;
/* Bytes that the inner pages will take about. */
uint64_t table_index_size(const struct table_index *x);
/*
 * Write all levels. @height counts the leaves too.
 * Return: 0, -KV_E_TOO_BIG (higher than TABLE_HEIGHT_MAX), as table_writer_put().
 */
int table_index_build(struct table_index *x, struct table_writer *w, uint32_t page_size,
		      struct page_ref *root, uint32_t *height) KV_MUST_CHECK;

#endif
