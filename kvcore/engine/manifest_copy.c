/* SPDX-License-Identifier: MIT */
/*
 * Where the copies are: the superblock of generation n stands a block behind superblock copy n % 2,
 * with the manifest behind it if that fits before the next superblock copy or the log. So the
 * copies of two generations are there, and a crash in the middle of writing one leaves the other. A
 * larger manifest stands twice in its extents instead. At the end of the extents stands the
 * superblock once more: should all of the volume's head be lost, a search finds it, as it is the
 * only thing that begins with that magic at a block's boundary and has its own sum.
 *
 * A search may meet what an earlier volume left on the device, so the newest volume by its time of
 * creation is what counts, and then the generation; and only if its manifest is whole. It may also
 * meet what a user has stored: a superblock counts only where it says itself that it is.
 */
#include "kvcore/engine/manifest_copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/manifest_store.h"

#define SEARCH_PIECE (1024U * 1024)

static uint64_t slot_off(uint64_t generation)
{
	return MANIFEST_COPY_OFF + generation % SUPERBLOCK_COPIES * SUPERBLOCK_STRIDE;
}

/* Of the second manifest in the extents; 0: it is in the slot. */
static uint64_t second_off(uint64_t len)
{
	return len > MANIFEST_COPY_MAX ? align_up_u64(len, FORMAT_BLOCK) : 0;
}

uint64_t manifest_copy_room(uint64_t len)
{
	return align_up_u64(len, FORMAT_BLOCK) + second_off(len) + FORMAT_BLOCK;
}

/* Did whoever allocated the extents leave room for copies? */
static bool has_room(const struct superblock *sb)
{
	uint64_t room = manifest_copy_room(sb->manifest_len);

	for (uint32_t i = 0; i < sb->manifest_extent_count; i++)
		room -= min_u64(room, sb->manifest_extents[i].len);
	return !room;
}

int manifest_copy_write(struct os_volume *volume, struct checksum *sha256, struct kv_slice blob,
			const struct superblock *sb)
{
	uint64_t slot = slot_off(sb->generation);
	uint64_t second = second_off(sb->manifest_len);
	struct superblock_disk disk;
	int err;

	err = superblock_encode(sb, sha256, &disk);
	if (err)
		return err;
	err = manifest_store_write_at(volume, slot, &disk, sizeof(disk));
	if (!err && !second)
		err = manifest_store_write_at(volume, slot + FORMAT_BLOCK, blob.data, blob.len);
	if (err || !has_room(sb))
		return err;
	if (second)
		err = manifest_store_transfer(volume, sb, second, blob, NULL, blob.len);
	if (err)
		return err;
	return manifest_store_transfer(volume, sb,
				       manifest_copy_room(sb->manifest_len) - FORMAT_BLOCK,
				       kv_slice_of(&disk, sizeof(disk)), NULL, sizeof(disk));
}

int manifest_copy_read(struct os_volume *volume, const struct superblock *sb, uint8_t *out)
{
	uint64_t second = second_off(sb->manifest_len);
	size_t len = (size_t)sb->manifest_len;

	if (!(sb->compat & FORMAT_COMPAT_COPIES))
		return -KV_E_NOTFOUND;
	if (!second)
		return os_volume_read(volume, slot_off(sb->generation) + FORMAT_BLOCK, out, len, 0);
	return manifest_store_transfer(volume, sb, second, kv_slice_of(NULL, 0), out, len);
}

/* Is it @sb that stands there? */
static int check_one(const struct superblock_disk *disk, struct checksum *sha256,
		     const struct superblock *sb)
{
	struct superblock_disk want;
	int err = superblock_encode(sb, sha256, &want);

	if (err)
		return err;
	return memcmp(disk, &want, sizeof(want)) == 0 ? 0 : -KV_E_CHECKSUM;
}

int manifest_copy_check(struct os_volume *volume, struct checksum *sha256,
			const struct superblock *sb)
{
	struct superblock_disk disk;
	int err;

	if (!(sb->compat & FORMAT_COMPAT_COPIES))
		return 0;
	err = os_volume_read(volume, slot_off(sb->generation), &disk, sizeof(disk), 0);
	if (!err)
		err = check_one(&disk, sha256, sb);
	if (err || !has_room(sb))
		return err;
	err = manifest_store_transfer(volume, sb,
				      manifest_copy_room(sb->manifest_len) - FORMAT_BLOCK,
				      kv_slice_of(NULL, 0), (uint8_t *)&disk, sizeof(disk));
	return err ? err : check_one(&disk, sha256, sb);
}

/* ---- finding one ------------------------------------------------------------------ */

struct finder {
	struct os_volume *volume;
	struct checksum *sha256;
	struct superblock best; /* generation 0: none */
	uint64_t off;
};

static bool is_newer(const struct superblock *a, const struct superblock *b)
{
	if (!b->generation || a->created_ns != b->created_ns)
		return !b->generation || a->created_ns > b->created_ns;
	return a->generation > b->generation;
}

/* Does a superblock that was found by a search stand where it would have been put? */
static bool is_in_place(const struct superblock *sb, uint64_t off)
{
	uint64_t at = manifest_copy_room(sb->manifest_len) - FORMAT_BLOCK;

	for (uint32_t i = 0; i < sb->manifest_extent_count; i++) {
		struct extent e = sb->manifest_extents[i];

		if (at < e.len)
			return off == e.off + at;
		at -= e.len;
	}
	return false;
}

/* Return: 0, -ENOMEM: whatever else is wrong with it, it is not what is looked for. */
static int consider(struct finder *f, const struct superblock_disk *disk, uint64_t off)
{
	bool in_slot = off < FORMAT_LOG_OFF;
	struct checksum *checksum = NULL;
	struct manifest manifest;
	struct superblock sb;
	int err = superblock_decode(disk, f->sha256, &sb);

	if (err || !is_newer(&sb, &f->best) || !(in_slot || is_in_place(&sb, off)))
		return err == -ENOMEM ? err : 0;
	err = checksum_new(sb.checksum_algo, &checksum);
	if (!err)
		err = manifest_store_read(f->volume, checksum, &sb, &manifest);
	checksum_free(checksum);
	if (err)
		return err == -ENOMEM ? err : 0;
	manifest_fini(&manifest);
	f->best = sb;
	f->off = off;
	return 0;
}

static int consider_slots(struct finder *f, uint64_t size)
{
	struct superblock_disk disk;
	int err = 0;

	for (unsigned i = 0; !err && i < SUPERBLOCK_COPIES; i++) {
		uint64_t off = slot_off(i);

		if (size < off + sizeof(disk))
			break;
		err = os_volume_read(f->volume, off, &disk, sizeof(disk), 0);
		err = err == -EIO ? 0 : err ? err : consider(f, &disk, off);
	}
	return err;
}

static int search_all(struct finder *f, uint64_t size)
{
	uint8_t *piece = malloc(SEARCH_PIECE);
	int err = 0;

	if (!piece)
		return -ENOMEM;
	for (uint64_t off = 0; !err && off + FORMAT_BLOCK <= size; off += SEARCH_PIECE) {
		size_t len =
			(size_t)min_u64(SEARCH_PIECE, align_down_u64(size - off, FORMAT_BLOCK));

		err = os_volume_read(f->volume, off, piece, len, 0);
		if (err == -EIO) { /* the superblock that is looked for may be elsewhere */
			err = 0;
			continue;
		}
		for (size_t at = 0; !err && at < len; at += FORMAT_BLOCK)
			err = consider(f, (const struct superblock_disk *)(piece + at), off + at);
	}
	free(piece);
	return err;
}

int manifest_copy_find(struct os_volume *volume, struct checksum *sha256, bool search,
		       struct superblock *out, uint64_t *off)
{
	struct finder f = {.volume = volume, .sha256 = sha256};
	uint64_t size;
	int err;

	err = volume->ops->size(volume, &size);
	if (!err)
		err = consider_slots(&f, size);
	if (!err && search) /* the other slot may only hold an older generation */
		err = search_all(&f, size);
	if (err)
		return err;
	if (!f.best.generation)
		return -KV_E_NOTFOUND;
	*out = f.best;
	*off = f.off;
	return 0;
}
