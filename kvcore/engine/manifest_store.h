/* SPDX-License-Identifier: MIT */
/*
 * The superblock copies and the manifest on the volume: reading both, and the
 * order of writes that makes a new manifest current (docs/crash-consistency.md,
 * rule 4). Used by version.c, recovery, and the tools.
 *
 * Thread safety: any thread; writers are serialised by the caller.
 */
#ifndef KVCORE_ENGINE_MANIFEST_STORE_H
#define KVCORE_ENGINE_MANIFEST_STORE_H

#include "kvcore/base/buf.h"
#include "kvcore/format/manifest.h"
#include "kvcore/format/superblock.h"
#include "kvcore/space/space.h"

struct manifest_loaded {
	struct superblock sb;	   /* of the chosen copy */
	struct checksum *checksum; /* of the volume's algorithm */
	struct manifest manifest;
	int copy_err[SUPERBLOCK_COPIES];  /* 0: whole, else why it cannot be read */
	bool copy_old[SUPERBLOCK_COPIES]; /* whole, but of an earlier generation */
	unsigned copy_used;
	int manifest_err; /* 0: the manifest is whole, else why its copy was taken */
};

/*
 * Read both superblock copies, choose the newest whole one and read its manifest. A copy
 * of a format or with features unknown to this build is never passed over.
 * @sha256: an object of CHECKSUM_SHA256
 * @out:    released with manifest_loaded_fini()
 * Return: 0, -KV_E_NOT_A_VOLUME, -KV_E_CHECKSUM, -KV_E_CORRUPT, -KV_E_VERSION,
 * -KV_E_FEATURE, -ENOMEM, -errno.
 */
int manifest_store_load(struct os_volume *volume, struct checksum *sha256,
			struct manifest_loaded *out) KV_MUST_CHECK;
void manifest_loaded_fini(struct manifest_loaded *m);

/* One copy, @copy < SUPERBLOCK_COPIES. Return: as superblock_decode(), -errno of the read;
 * -KV_E_NOT_A_VOLUME if the volume is too short to hold it. */
int manifest_store_read_superblock(struct os_volume *volume, struct checksum *sha256, unsigned copy,
				   struct superblock *out) KV_MUST_CHECK;
/*
 * The manifest that a superblock points to, verified, and matched with it; if it is damaged, its
 * copy. Return: 0, -ENOMEM, or what is wrong with the first one.
 */
int manifest_store_read(struct os_volume *volume, struct checksum *checksum,
			const struct superblock *sb, struct manifest *out) KV_MUST_CHECK;
/* The same of one of them, @copy 0 or 1. Return: also -KV_E_NOTFOUND, this volume has no copies. */
int manifest_store_read_copy(struct os_volume *volume, struct checksum *checksum,
			     const struct superblock *sb, unsigned copy, struct manifest *out)
	KV_MUST_CHECK;
/*
 * Write what a manifest or superblock consists of. Callers take -ENOMEM for "nothing was written";
 * it does not come from here, the host's is told as -EIO.
 */
int manifest_store_write_at(struct os_volume *volume, uint64_t off, const void *data, size_t len)
	KV_MUST_CHECK;
/*
 * Move @len bytes between memory and the extents of the manifest taken as one, from @off on: out of
 * @from, or if @to is not NULL into it. Return: 0, -KV_E_CORRUPT (the extents end before), -errno.
 */
int manifest_store_transfer(struct os_volume *volume, const struct superblock *sb, uint64_t off,
			    struct kv_slice from, uint8_t *to, size_t len) KV_MUST_CHECK;

/*
 * Allocate room for a manifest of @len bytes and its copies, as SPACE_MANIFEST, into the extents of
 * @sb. Return: 0, -KV_E_NOSPACE (nothing is allocated).
 */
int manifest_store_alloc(struct space *space, uint64_t len, struct superblock *sb) KV_MUST_CHECK;
/* Give the extents of @sb back. */
void manifest_store_release(struct space *space, const struct superblock *sb);

/*
 * Write the manifest into the extents of @sb, and the copies of both; sync (which also makes
 * durable whatever it refers to), and write the superblock. Fills in the length and sum of @sb.
 * @blob: the encoded manifest; padded to whole blocks by the call
 * Return: 0, or an error: what is on the volume is then the old state or the new one, or
 * -ENOMEM: nothing was written.
 */
int manifest_store_write(struct os_volume *volume, struct checksum *checksum,
			 struct checksum *sha256, struct kv_buf *blob, struct superblock *sb)
	KV_MUST_CHECK;

/*
 * Make @sb current: write one copy, sync, write the other copy, not synced. The
 * first one written is never the only whole copy of the state before.
 */
int manifest_store_write_superblock(struct os_volume *volume, struct checksum *sha256,
				    const struct superblock *sb) KV_MUST_CHECK;

#endif
