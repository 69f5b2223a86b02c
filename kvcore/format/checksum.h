/* SPDX-License-Identifier: MIT */
/*
 * 128-bit checksums: a cryptographic digest cut to 16 bytes. The only file that
 * includes OpenSSL is checksum.c. The digest is fetched once; contexts are kept
 * in a pool inside the object, because creating one costs more than hashing a
 * small frame.
 *
 * Thread safety: checksum_compute() from any thread.
 */
#ifndef KVCORE_FORMAT_CHECKSUM_H
#define KVCORE_FORMAT_CHECKSUM_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

#define CHECKSUM_LEN 16U

enum checksum_algo {			      /* stored in the superblock; never renumbered */
		     CHECKSUM_SHA256 = 1,     /* FIPS 180-4; the default, fast with SHA-NI */
		     CHECKSUM_SHA512_256 = 2, /* FIPS 180-4 */
		     CHECKSUM_BLAKE2B =
			     3, /* RFC 7693, the 512-bit digest; for processors without SHA-NI */
};

struct checksum;

/* Return: 0, -KV_E_FEATURE (unknown algorithm or not in this OpenSSL), -ENOMEM. */
int checksum_new(enum checksum_algo algo, struct checksum **out) KV_MUST_CHECK;
void checksum_free(struct checksum *c);
/* Algorithm by name as given to mkfs; -KV_E_INVALID if there is none. */
int checksum_algo_by_name(const char *name, enum checksum_algo *out) KV_MUST_CHECK;
/* NULL for an unknown number. */
const char *checksum_algo_name(unsigned algo);

/* Digest of the parts in order. Return: 0, -ENOMEM (OpenSSL has no other reason to fail). */
int checksum_compute(struct checksum *c, const struct kv_slice *parts, size_t part_count,
		     uint8_t sum[CHECKSUM_LEN]) KV_MUST_CHECK;
/* Return: 0, -KV_E_CHECKSUM, or as checksum_compute(). */
int checksum_verify(struct checksum *c, struct kv_slice data, const uint8_t sum[CHECKSUM_LEN])
	KV_MUST_CHECK;

#endif
