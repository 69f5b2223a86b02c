/* SPDX-License-Identifier: MIT */
/*
 * Copies of the superblock and of the manifest, for the day when both superblocks or the manifest
 * are gone (docs/format.md, section 5.1). They are written with each manifest, before its sync, and
 * read when the first ones are damaged. One place is between the superblock copies, alternating by
 * generation; another is behind the manifest, where only a search finds it.
 *
 * Thread safety: any thread; writers are serialised by the caller.
 */
#ifndef KVCORE_ENGINE_MANIFEST_COPY_H
#define KVCORE_ENGINE_MANIFEST_COPY_H

#include "kvcore/format/superblock.h"
#include "kvcore/os/os_env.h"

/* Bytes of extents for a manifest of @len bytes, with what is copied behind it. */
uint64_t manifest_copy_room(uint64_t len);

/*
 * Write the copies of a manifest and of the superblock that will point to it; syncs nothing.
 * @blob: the manifest, padded to whole blocks
 * @sb:   complete; what does not fit into its extents is left out
 * Return: 0, or an error: some of the copies of this generation and of the one before the last are
 * gone.
 */
int manifest_copy_write(struct os_volume *volume, struct checksum *sha256, struct kv_slice blob,
			const struct superblock *sb) KV_MUST_CHECK;

/*
 * The bytes of the manifest's copy, sb->manifest_len of them, unverified.
 * Return: 0, -KV_E_NOTFOUND (this volume has no copies), -KV_E_CORRUPT, -errno.
 */
int manifest_copy_read(struct os_volume *volume, const struct superblock *sb, uint8_t *out)
	KV_MUST_CHECK;

/* Are all copies of the superblock that belong to @sb whole? Return: 0, -KV_E_CHECKSUM (not all),
 * -errno. */
int manifest_copy_check(struct os_volume *volume, struct checksum *sha256,
			const struct superblock *sb) KV_MUST_CHECK;

/*
 * Find the superblock of the newest volume, and of its newest generation whose manifest can be
 * read.
 * @search: read the whole volume, not only the places between the superblock copies
 * @off:    where it was found, bytes
 * Return: 0, -KV_E_NOTFOUND, -ENOMEM, -errno; what cannot be read because of damage is passed over.
 */
int manifest_copy_find(struct os_volume *volume, struct checksum *sha256, bool search,
		       struct superblock *out, uint64_t *off) KV_MUST_CHECK;

#endif
