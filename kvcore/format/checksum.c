/* SPDX-License-Identifier: MIT */
/*
 * Checksums through OpenSSL's EVP, the only file that includes its headers.
 * Fetching a digest and creating a context cost more than hashing a log frame,
 * so the digest is fetched once and contexts are reused. A slot holds a context
 * that nobody uses, or nothing; it is taken and given back with one atomic
 * exchange each, so no thread waits. Threads begin at different slots, and find
 * the context that they used last in their cache.
 */
#include "kvcore/format/checksum.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/kv_digest.h"

#define CHECKSUM_SLOTS 16U

struct checksum_slot {
	_Alignas(64) _Atomic(EVP_MD_CTX *) ctx; /* a cache line each */
};

struct checksum {
	EVP_MD *md; /* [const] */
	struct checksum_slot slots[CHECKSUM_SLOTS];
};

struct checksum_info {
	enum checksum_algo algo;
	const char *name;
	const char *evp_name;
};

static const struct checksum_info checksum_infos[] = {
	{CHECKSUM_SHA256, "sha256", "SHA256"},
	{CHECKSUM_SHA512_256, "sha512-256", "SHA512-256"},
	{CHECKSUM_BLAKE2B, "blake2b", "BLAKE2B-512"},
};

static const struct checksum_info *checksum_info_find(unsigned algo)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(checksum_infos); i++) {
		if ((unsigned)checksum_infos[i].algo == algo)
			return &checksum_infos[i];
	}
	return NULL;
}

int checksum_algo_by_name(const char *name, enum checksum_algo *out)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(checksum_infos); i++) {
		if (!strcmp(checksum_infos[i].name, name)) {
			*out = checksum_infos[i].algo;
			return 0;
		}
	}
	return -KV_E_INVALID;
}

const char *checksum_algo_name(unsigned algo)
{
	const struct checksum_info *info = checksum_info_find(algo);

	return info ? info->name : NULL;
}

/*
 * Why OpenSSL gave no object: it lacks the algorithm, or memory. Without memory it may not even
 * leave a reason. The queue is drained, or another user of OpenSSL in this thread would find our
 * error.
 */
static int checksum_fetch_error(void)
{
	int err = ERR_peek_error() ? -KV_E_FEATURE : -ENOMEM;
	unsigned long e;

	while ((e = ERR_get_error()) != 0)
		if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE)
			err = -ENOMEM;
	return err;
}

int checksum_new(enum checksum_algo algo, struct checksum **out)
{
	const struct checksum_info *info = checksum_info_find((unsigned)algo);
	struct checksum *c;
	int err;

	if (!info)
		return -KV_E_FEATURE;
	c = aligned_alloc(_Alignof(struct checksum), sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->md = EVP_MD_fetch(NULL, info->evp_name, NULL);
	for (size_t i = 0; i < CHECKSUM_SLOTS; i++)
		atomic_init(&c->slots[i].ctx, NULL);
	err = c->md ? 0 : checksum_fetch_error();
	if (!err && EVP_MD_get_size(c->md) < (int)CHECKSUM_LEN)
		err = -KV_E_FEATURE;
	if (err) {
		checksum_free(c);
		return err;
	}
	*out = c;
	return 0;
}

void checksum_free(struct checksum *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CHECKSUM_SLOTS; i++)
		EVP_MD_CTX_free(atomic_load(&c->slots[i].ctx));
	EVP_MD_free(c->md);
	free(c);
}

/* Thread-local memory has an address of its own in each thread. */
static size_t checksum_first_slot(void)
{
	static _Thread_local char here;

	return hash_u64((uintptr_t)&here) % CHECKSUM_SLOTS;
}

/* Acquire pairs with the release in checksum_put(): the context's last use comes before ours. */
static EVP_MD_CTX *checksum_take(struct checksum *c)
{
	size_t first = checksum_first_slot();

	for (size_t i = 0; i < CHECKSUM_SLOTS; i++) {
		struct checksum_slot *slot = &c->slots[(first + i) % CHECKSUM_SLOTS];
		EVP_MD_CTX *ctx;

		if (!atomic_load_explicit(&slot->ctx, memory_order_relaxed))
			continue;
		ctx = atomic_exchange_explicit(&slot->ctx, NULL, memory_order_acquire);
		if (ctx)
			return ctx;
	}
	return EVP_MD_CTX_new();
}

static void checksum_put(struct checksum *c, EVP_MD_CTX *ctx)
{
	size_t first = checksum_first_slot();

	for (size_t i = 0; i < CHECKSUM_SLOTS; i++) {
		struct checksum_slot *slot = &c->slots[(first + i) % CHECKSUM_SLOTS];
		EVP_MD_CTX *none = NULL;

		if (atomic_compare_exchange_strong_explicit(
			    &slot->ctx, &none, ctx, memory_order_release, memory_order_relaxed))
			return;
	}
	EVP_MD_CTX_free(ctx);
}

int checksum_compute(struct checksum *c, const struct kv_slice *parts, size_t part_count,
		     uint8_t sum[CHECKSUM_LEN])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = checksum_take(c);
	int ok;

	if (!ctx) {
		ERR_clear_error();
		return -ENOMEM;
	}
	ok = EVP_DigestInit_ex2(ctx, c->md, NULL);
	for (size_t i = 0; ok && i < part_count; i++)
		ok = EVP_DigestUpdate(ctx, parts[i].data, parts[i].len);
	if (ok)
		ok = EVP_DigestFinal_ex(ctx, digest, NULL);
	if (!ok) {
		/* Not -EIO, which would be taken for damage on the disk. */
		ERR_clear_error();
		EVP_MD_CTX_free(ctx);
		return -ENOMEM;
	}
	checksum_put(c, ctx);
	memcpy(sum, digest, CHECKSUM_LEN);
	return 0;
}

int checksum_verify(struct checksum *c, struct kv_slice data, const uint8_t sum[CHECKSUM_LEN])
{
	uint8_t want[CHECKSUM_LEN];
	int err = checksum_compute(c, &data, 1, want);

	if (err)
		return err;
	return memcmp(want, sum, CHECKSUM_LEN) ? -KV_E_CHECKSUM : 0;
}

/* ---- digests for callers ---- */

struct kv_digest {
	EVP_MD *sha256, *shake256;
	EVP_MD_CTX *ctx;
};

int kv_digest_new(struct kv_digest **out)
{
	struct kv_digest *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	d->sha256 = EVP_MD_fetch(NULL, "SHA2-256", NULL);
	d->shake256 = EVP_MD_fetch(NULL, "SHAKE-256", NULL);
	d->ctx = EVP_MD_CTX_new();
	if (!d->sha256 || !d->shake256 || !d->ctx) {
		err = checksum_fetch_error();
		kv_digest_free(d);
		return err;
	}
	*out = d;
	return 0;
}

void kv_digest_free(struct kv_digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	EVP_MD_free(d->sha256);
	EVP_MD_free(d->shake256);
	free(d);
}

static int kv_digest_update(struct kv_digest *d, const EVP_MD *md, const struct kv_slice *parts,
			    size_t count)
{
	int ok = EVP_DigestInit_ex2(d->ctx, md, NULL);

	for (size_t i = 0; ok && i < count; i++)
		ok = EVP_DigestUpdate(d->ctx, parts[i].data, parts[i].len);
	return ok;
}

int kv_digest_sha256(struct kv_digest *d, const struct kv_slice *parts, size_t count,
		     uint8_t out[KV_DIGEST_LEN])
{
	if (kv_digest_update(d, d->sha256, parts, count) && EVP_DigestFinal_ex(d->ctx, out, NULL))
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}

int kv_digest_expand(struct kv_digest *d, const struct kv_slice *parts, size_t count, uint8_t *out,
		     size_t len)
{
	if (kv_digest_update(d, d->shake256, parts, count) && EVP_DigestFinalXOF(d->ctx, out, len))
		return 0;
	ERR_clear_error();
	return -ENOMEM;
}
