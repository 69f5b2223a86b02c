/* SPDX-License-Identifier: MIT */
/*
 * The superblock in memory, and its copies on the volume.
 *
 * Writing a new generation: write copy (generation % 2), sync, write the other
 * copy. Between the two a crash leaves one whole copy of either generation;
 * afterwards both copies are the same, so that rot in one of them is harmless
 * (docs/crash-consistency.md, rule 4).
 */
#ifndef KVCORE_FORMAT_SUPERBLOCK_H
#define KVCORE_FORMAT_SUPERBLOCK_H

#include "kvcore/format/entry.h"

struct superblock {
	uint64_t compat, ro_compat, incompat;
	uint8_t uuid[KV_UUID_LEN];
	char label[KV_LABEL_MAX + 1];
	int64_t created_ns;
	uint64_t generation;
	uint64_t size_max; /* bytes; 0: grows on demand */
	uint64_t log_size;
	enum checksum_algo checksum_algo;
	unsigned compress_algo; /* enum compress_algo */
	uint32_t page_size;
	uint64_t manifest_len;
	uint8_t manifest_sum[CHECKSUM_LEN];
	uint32_t manifest_extent_count;
	struct extent manifest_extents[MANIFEST_EXTENTS_MAX];
};

/*
 * @sha256: an object of CHECKSUM_SHA256, whatever the volume's own algorithm.
 * Return: 0, -KV_E_INVALID (superblock_decode() would refuse it), or as checksum_compute().
 */
int superblock_encode(const struct superblock *sb, struct checksum *sha256,
		      struct superblock_disk *out) KV_MUST_CHECK;

/*
 * Validates everything that can be judged from the bytes alone, including that
 * extents are aligned and lie behind the log.
 * Return: 0, -KV_E_NOT_A_VOLUME (no magic), -KV_E_CHECKSUM, -KV_E_VERSION,
 * -KV_E_FEATURE (unknown incompat bit, algorithm), -KV_E_CORRUPT.
 */
int superblock_decode(const struct superblock_disk *in, struct checksum *sha256,
		      struct superblock *out) KV_MUST_CHECK;

#endif
