/* SPDX-License-Identifier: MIT */
/* Digests of bytes, for those above the engine that must tell whether two things are equal. */
#ifndef KVCORE_KV_DIGEST_H
#define KVCORE_KV_DIGEST_H

#include "kvcore/kv_types.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KV_DIGEST_LEN 32U

struct kv_digest;

/**
 * kv_digest_new() - what is needed to compute digests
 * @out: freed with kv_digest_free()
 *
 * Thread safety: one thread per object.
 * Return: 0, -KV_E_FEATURE (OpenSSL lacks an algorithm), -ENOMEM.
 */
KV_API int kv_digest_new(struct kv_digest **out) KV_MUST_CHECK;
KV_API void kv_digest_free(struct kv_digest *digest); /* NULL is allowed */

/* kv_digest_sha256() - SHA-256 (FIPS 180-4) of the parts in order. Return: 0, -ENOMEM. */
KV_API int kv_digest_sha256(struct kv_digest *digest, const struct kv_slice *parts, size_t count,
			    uint8_t out[KV_DIGEST_LEN]) KV_MUST_CHECK;
/* kv_digest_expand() - the first @len bytes of SHAKE256 (FIPS 202) of the parts in order. */
KV_API int kv_digest_expand(struct kv_digest *digest, const struct kv_slice *parts, size_t count,
			    uint8_t *out, size_t len) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif
#endif
