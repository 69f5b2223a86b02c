/* SPDX-License-Identifier: MIT */
/*
 * Blocked Bloom filter (Putze, Sanders and Singler, Cache-, Hash- and Space-
 * Efficient Bloom Filters, 2007): all probes of a key fall into one block of 512
 * bits, a cache line, and are derived from one 64-bit hash of the key, which a
 * reader computes once for all tables.
 *
 * Thread safety: a filter is constant; any thread.
 */
#ifndef KVCORE_TABLE_FILTER_H
#define KVCORE_TABLE_FILTER_H

#include <stdbool.h>

#include "kvcore/format/format.h"
#include "kvcore/table/prefix_rules.h"

#define FILTER_BLOCK 64U /* bytes */

struct filter_header_disk {
	uint8_t type;	/* PAGE_FILTER */
	uint8_t probes; /* bits a key sets, 1 to FILTER_PROBES_MAX */
	uint8_t zero0[2];
	struct le32 blocks; /* at least 1; they follow this header */
	uint8_t prefixes[PREFIX_RULES_DISK];
};
static_assert(sizeof(struct filter_header_disk) == FILTER_BLOCK, "blocks stay aligned");
#define FILTER_PROBES_MAX 16U

/*
 * A page of at most @raw_max bytes for the hashes of @count > 0 keys and prefixes (hash_bytes with
 * seed 0). @rules: of the prefixes; NULL: none. Replaces @out. Return: 0, -ENOMEM.
 */
int filter_build(const uint64_t *hashes, size_t count, unsigned bits_per_key,
		 const struct prefix_rules *rules, size_t raw_max, struct kv_buf *out)
	KV_MUST_CHECK;
/* Bytes that filter_build() would need. */
uint64_t filter_size(uint64_t count, unsigned bits_per_key);
/* Return: 0, -KV_E_CORRUPT. */
int filter_validate(const uint8_t *data, size_t len) KV_MUST_CHECK;
/* May the key or prefix be there? Of a validated page. */
bool filter_admits(const uint8_t *data, uint64_t hash);
/* For verify: the key, and all its prefixes by the filter's own rules? Of a validated page. */
bool filter_admits_key(const uint8_t *data, struct kv_slice ikey);
/* Does it know prefixes by these rules? Of a validated page. */
bool filter_has_rules(const uint8_t *data, const struct prefix_rules *rules);

#endif
