/* SPDX-License-Identifier: MIT */
/*
 * The page of a table that holds all its range deletes (docs/format.md, section 6).
 * Thread safety: any thread.
 */
#ifndef KVCORE_TABLE_RANGE_PAGE_H
#define KVCORE_TABLE_RANGE_PAGE_H

#include "kvcore/table/range_del.h"

struct range_page_header_disk {
	uint8_t type; /* PAGE_RANGES */
	uint8_t zero0[3];
	struct le32 count; /* of fragments, at least 1 */
};
static_assert(sizeof(struct range_page_header_disk) == 8, "on-disk size");

/* Replaces @out. The set is not empty. Return: 0, -ENOMEM. */
int range_page_encode(const struct range_set *set, struct kv_buf *out) KV_MUST_CHECK;
/* @out: released by the caller. Return: 0, -KV_E_CORRUPT, -ENOMEM. */
int range_page_decode(struct kv_slice in, struct range_set **out) KV_MUST_CHECK;

#endif
