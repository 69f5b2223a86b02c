/* SPDX-License-Identifier: MIT */
/*
 * The superblock between memory and disk. Both directions run the same check of
 * every field, so that nothing is written that would be refused when read. The
 * checksum is looked at before the version: a flipped bit must read as damage,
 * not as "made by a newer kvfs". Reserved bytes must be zero unless a feature
 * bit unknown to this build says that a newer one gave them a meaning.
 */
#include "kvcore/format/superblock.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/format/compress.h"

#define SUPERBLOCK_LOG_MIN	(1024U * 1024)
#define SUPERBLOCK_LOG_MAX	(1024U * 1024 * 1024)
#define SUPERBLOCK_PAGE_MIN	1024U
#define SUPERBLOCK_PAGE_MAX	65536U
#define SUPERBLOCK_MANIFEST_MAX (1024U * 1024 * 1024)

static_assert(sizeof(SUPERBLOCK_MAGIC) - 1 == sizeof(((struct superblock_disk *)0)->magic),
	      "the magic fills its field");

static bool all_zero(const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++) {
		if (p[i])
			return false;
	}
	return true;
}

/* @from, @limit: where extents may lie, bytes. */
static bool extent_ok(struct extent e, uint64_t from, uint64_t limit)
{
	return e.off % FORMAT_BLOCK == 0 && e.len % FORMAT_BLOCK == 0 && e.len && e.off >= from &&
	       e.len <= limit && e.off <= limit - e.len;
}

static bool extents_overlap(struct extent a, struct extent b)
{
	return a.off < b.off + b.len && b.off < a.off + a.len;
}

static bool superblock_extents_ok(const struct superblock *sb)
{
	const struct extent *e = sb->manifest_extents;
	uint64_t limit = sb->size_max ? sb->size_max : INT64_MAX;
	uint64_t data = FORMAT_LOG_OFF + sb->log_size;
	uint64_t total = 0;

	if (!sb->manifest_extent_count || sb->manifest_extent_count > MANIFEST_EXTENTS_MAX)
		return false;
	for (uint32_t i = 0; i < sb->manifest_extent_count; i++) {
		if (!extent_ok(e[i], data, limit))
			return false;
		for (uint32_t j = 0; j < i; j++) {
			if (extents_overlap(e[i], e[j]))
				return false;
		}
		total += e[i].len; /* no overflow: disjoint and below INT64_MAX */
	}
	return sb->manifest_len && sb->manifest_len <= total &&
	       sb->manifest_len <= SUPERBLOCK_MANIFEST_MAX;
}

/* 0, -KV_E_FEATURE, -KV_E_CORRUPT. */
static int superblock_check(const struct superblock *sb)
{
	if (sb->incompat & ~FORMAT_INCOMPAT_KNOWN)
		return -KV_E_FEATURE;
	if (!checksum_algo_name((unsigned)sb->checksum_algo) ||
	    !compress_algo_name(sb->compress_algo))
		return -KV_E_FEATURE;
	if (sb->log_size < SUPERBLOCK_LOG_MIN || sb->log_size > SUPERBLOCK_LOG_MAX ||
	    sb->log_size % FORMAT_BLOCK)
		return -KV_E_CORRUPT;
	if (sb->page_size < SUPERBLOCK_PAGE_MIN || sb->page_size > SUPERBLOCK_PAGE_MAX)
		return -KV_E_CORRUPT;
	if (!sb->generation || sb->size_max > INT64_MAX)
		return -KV_E_CORRUPT;
	return superblock_extents_ok(sb) ? 0 : -KV_E_CORRUPT;
}

static int superblock_sum(const struct superblock_disk *raw, struct checksum *sha256,
			  uint8_t sum[CHECKSUM_LEN])
{
	struct kv_slice part = kv_slice_of(raw, offsetof(struct superblock_disk, sum));

	return checksum_compute(sha256, &part, 1, sum);
}

int superblock_encode(const struct superblock *sb, struct checksum *sha256,
		      struct superblock_disk *out)
{
	struct superblock_disk raw;
	int err;

	if (superblock_check(sb))
		return -KV_E_INVALID;
	memset(&raw, 0, sizeof(raw));
	memcpy(raw.magic, SUPERBLOCK_MAGIC, sizeof(raw.magic));
	raw.version = le32_of(FORMAT_VERSION);
	raw.block_size = le32_of(FORMAT_BLOCK);
	raw.compat = le64_of(sb->compat);
	raw.ro_compat = le64_of(sb->ro_compat);
	raw.incompat = le64_of(sb->incompat);
	memcpy(raw.uuid, sb->uuid, sizeof(raw.uuid));
	memcpy(raw.label, sb->label, strnlen(sb->label, KV_LABEL_MAX));
	raw.created_ns = le64_of((uint64_t)sb->created_ns);
	raw.generation = le64_of(sb->generation);
	raw.size_max = le64_of(sb->size_max);
	raw.log_off = le64_of(FORMAT_LOG_OFF);
	raw.log_size = le64_of(sb->log_size);
	raw.checksum_algo = le16_of((uint16_t)sb->checksum_algo);
	raw.compress_algo = le16_of((uint16_t)sb->compress_algo);
	raw.page_size = le32_of(sb->page_size);
	raw.manifest_len = le64_of(sb->manifest_len);
	memcpy(raw.manifest_sum, sb->manifest_sum, CHECKSUM_LEN);
	raw.manifest_extent_count = le32_of(sb->manifest_extent_count);
	for (uint32_t i = 0; i < sb->manifest_extent_count; i++) {
		raw.manifest_extents[i].off = le64_of(sb->manifest_extents[i].off);
		raw.manifest_extents[i].len = le64_of(sb->manifest_extents[i].len);
	}
	err = superblock_sum(&raw, sha256, raw.sum);
	if (err)
		return err;
	*out = raw;
	return 0;
}

/* Bytes to which this build gives no meaning. */
static bool superblock_reserved_ok(const struct superblock_disk *in, const struct superblock *sb)
{
	size_t label_len = strnlen((const char *)in->label, sizeof(in->label));
	size_t used = min_u64(sb->manifest_extent_count, MANIFEST_EXTENTS_MAX);

	if (!all_zero(in->label + label_len, sizeof(in->label) - label_len))
		return false;
	if (!all_zero(in->manifest_extents + used,
		      (MANIFEST_EXTENTS_MAX - used) * sizeof(in->manifest_extents[0])))
		return false;
	if (sb->compat & ~FORMAT_COMPAT_KNOWN || sb->ro_compat & ~FORMAT_RO_COMPAT_KNOWN)
		return true;
	return all_zero(in->zero0, sizeof(in->zero0)) && all_zero(in->zero1, sizeof(in->zero1));
}

/* Every field as it stands, nothing judged. */
static void superblock_unpack(const struct superblock_disk *in, struct superblock *sb)
{
	memset(sb, 0, sizeof(*sb));
	sb->compat = le64_get(in->compat);
	sb->ro_compat = le64_get(in->ro_compat);
	sb->incompat = le64_get(in->incompat);
	memcpy(sb->uuid, in->uuid, sizeof(in->uuid));
	memcpy(sb->label, in->label, sizeof(in->label));
	sb->created_ns = (int64_t)le64_get(in->created_ns);
	sb->generation = le64_get(in->generation);
	sb->size_max = le64_get(in->size_max);
	sb->log_size = le64_get(in->log_size);
	sb->checksum_algo = (enum checksum_algo)le16_get(in->checksum_algo);
	sb->compress_algo = le16_get(in->compress_algo);
	sb->page_size = le32_get(in->page_size);
	sb->manifest_len = le64_get(in->manifest_len);
	memcpy(sb->manifest_sum, in->manifest_sum, CHECKSUM_LEN);
	sb->manifest_extent_count = le32_get(in->manifest_extent_count);
	for (uint32_t i = 0; i < MANIFEST_EXTENTS_MAX && i < sb->manifest_extent_count; i++) {
		sb->manifest_extents[i].off = le64_get(in->manifest_extents[i].off);
		sb->manifest_extents[i].len = le64_get(in->manifest_extents[i].len);
	}
}

int superblock_decode(const struct superblock_disk *in, struct checksum *sha256,
		      struct superblock *out)
{
	uint8_t sum[CHECKSUM_LEN];
	struct superblock sb;
	int err;

	if (memcmp(in->magic, SUPERBLOCK_MAGIC, sizeof(in->magic)))
		return -KV_E_NOT_A_VOLUME;
	err = superblock_sum(in, sha256, sum);
	if (err)
		return err;
	if (memcmp(in->sum, sum, CHECKSUM_LEN))
		return -KV_E_CHECKSUM;
	if (le32_get(in->version) > FORMAT_VERSION)
		return -KV_E_VERSION;
	superblock_unpack(in, &sb);
	err = superblock_check(&sb);
	if (err)
		return err;
	if (!le32_get(in->version) || le32_get(in->block_size) != FORMAT_BLOCK ||
	    le64_get(in->log_off) != FORMAT_LOG_OFF || !superblock_reserved_ok(in, &sb))
		return -KV_E_CORRUPT;
	*out = sb;
	return 0;
}
