/* SPDX-License-Identifier: MIT */
/*
 * Superblock copies and manifest on the volume.
 *
 * Which copy is written first matters: after a crash while it is written it may
 * be garbage, and the other one must then hold the state before. Normally both
 * are equal and the generation's parity decides; but if one of them rotted or is
 * stale, that one has to go first. So the copies are read back before each
 * write, which costs two small reads. They are read from the disk itself: what the host's cache
 * shows of a copy whose sync failed, before this process perhaps, is not there.
 */
#include "kvcore/engine/manifest_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/manifest_copy.h"

void manifest_loaded_fini(struct manifest_loaded *m)
{
	manifest_fini(&m->manifest);
	checksum_free(m->checksum);
	m->checksum = NULL;
}

int manifest_store_read_superblock(struct os_volume *volume, struct checksum *sha256, unsigned copy,
				   struct superblock *out)
{
	uint64_t off = (uint64_t)copy * SUPERBLOCK_STRIDE;
	_Alignas(OS_IO_ALIGN) struct superblock_disk disk;
	uint64_t size;
	int err;

	err = volume->ops->size(volume, &size);
	if (err)
		return err;
	if (size < off + sizeof(disk))
		return -KV_E_NOT_A_VOLUME;
	err = os_volume_read(volume, off, &disk, sizeof(disk), OS_IO_DIRECT);
	if (err)
		return err;
	return superblock_decode(&disk, sha256, out);
}

int manifest_store_write_at(struct os_volume *volume, uint64_t off, const void *data, size_t len)
{
	int err = os_volume_write(volume, off, data, len, 0);

	return err == -ENOMEM ? -EIO : err;
}

int manifest_store_transfer(struct os_volume *volume, const struct superblock *sb, uint64_t off,
			    struct kv_slice from, uint8_t *to, size_t len)
{
	uint64_t at = 0; /* of the extent within all of them */
	size_t done = 0;

	for (uint32_t i = 0; done < len && i < sb->manifest_extent_count; i++) {
		struct extent e = sb->manifest_extents[i];
		uint64_t skip = off + done - at;
		size_t piece;
		int err;

		at += e.len;
		if (skip >= e.len)
			continue;
		piece = (size_t)min_u64(e.len - skip, len - done);
		err = to ? os_volume_read(volume, e.off + skip, to + done, piece, 0)
			 : manifest_store_write_at(volume, e.off + skip, from.data + done, piece);
		if (err)
			return err;
		done += piece;
	}
	return done == len ? 0 : -KV_E_CORRUPT;
}

/* The bytes of a copy, whose sum is not known to be right. */
static int read_blob(struct os_volume *volume, const struct superblock *sb, unsigned copy,
		     struct kv_buf *blob)
{
	uint64_t size;
	int err;

	err = volume->ops->size(volume, &size);
	if (err)
		return err;
	/* Before memory is taken for it. */
	if (sb->manifest_len > size)
		return -KV_E_CORRUPT;
	err = buf_resize(blob, (size_t)sb->manifest_len);
	if (err)
		return err;
	if (copy)
		return manifest_copy_read(volume, sb, blob->data);
	return manifest_store_transfer(volume, sb, 0, kv_slice_of(NULL, 0), blob->data, blob->len);
}

int manifest_store_read_copy(struct os_volume *volume, struct checksum *checksum,
			     const struct superblock *sb, unsigned copy, struct manifest *out)
{
	struct manifest m = {0};
	struct kv_buf blob = {0};
	int err;

	err = read_blob(volume, sb, copy, &blob);
	if (err)
		goto out;
	err = checksum_verify(checksum, kv_buf_slice(&blob), sb->manifest_sum);
	if (err)
		goto out;
	err = manifest_decode(kv_buf_slice(&blob), &m);
	if (err)
		goto out;
	if (m.generation != sb->generation || memcmp(m.uuid, sb->uuid, KV_UUID_LEN) != 0) {
		manifest_fini(&m);
		err = -KV_E_CORRUPT;
		goto out;
	}
	*out = m;
out:
	kv_buf_free(&blob);
	return err;
}

int manifest_store_read(struct os_volume *volume, struct checksum *checksum,
			const struct superblock *sb, struct manifest *out)
{
	int err = manifest_store_read_copy(volume, checksum, sb, 0, out);

	if (err != -KV_E_CHECKSUM && err != -KV_E_CORRUPT && err != -EIO)
		return err;
	return manifest_store_read_copy(volume, checksum, sb, 1, out) ? err : 0;
}

/* Of two reasons not to open, the one that says more. */
static int worse_error(int a, int b)
{
	if (!a || a == -KV_E_NOT_A_VOLUME)
		return b;
	return a;
}

static int choose_copy(struct manifest_loaded *m, const struct superblock *copies)
{
	bool found = false;
	int err = 0;

	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++) {
		int e = m->copy_err[i];

		if (e == -KV_E_VERSION || e == -KV_E_FEATURE || e == -ENOMEM)
			return e;
		err = e ? worse_error(err, e) : err;
		if (e || (found && copies[i].generation <= copies[m->copy_used].generation))
			continue;
		found = true;
		m->copy_used = i;
	}
	if (!found)
		return err;
	m->sb = copies[m->copy_used];
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		m->copy_old[i] = !m->copy_err[i] && copies[i].generation < m->sb.generation;
	return 0;
}

int manifest_store_load(struct os_volume *volume, struct checksum *sha256,
			struct manifest_loaded *out)
{
	struct superblock copies[SUPERBLOCK_COPIES];
	struct manifest_loaded m = {0};
	int err;

	memset(copies, 0, sizeof(copies));
	for (unsigned i = 0; i < SUPERBLOCK_COPIES; i++)
		m.copy_err[i] = manifest_store_read_superblock(volume, sha256, i, &copies[i]);
	err = choose_copy(&m, copies);
	if (err)
		return err;
	err = checksum_new(m.sb.checksum_algo, &m.checksum);
	if (err)
		return err;
	err = manifest_store_read_copy(volume, m.checksum, &m.sb, 0, &m.manifest);
	if (err) {
		m.manifest_err = err;
		err = manifest_store_read(volume, m.checksum, &m.sb, &m.manifest);
	}
	if (err) {
		checksum_free(m.checksum);
		return err;
	}
	*out = m;
	return 0;
}

/* ---- writing ------------------------------------------------------------------ */

int manifest_store_alloc(struct space *space, uint64_t len, struct superblock *sb)
{
	uint64_t left = manifest_copy_room(len);
	int err = 0;

	sb->manifest_extent_count = 0;
	memset(sb->manifest_extents, 0, sizeof(sb->manifest_extents));
	while (left && !err) {
		struct extent *e = &sb->manifest_extents[sb->manifest_extent_count];

		if (sb->manifest_extent_count == MANIFEST_EXTENTS_MAX) {
			err = -KV_E_NOSPACE;
			break;
		}
		err = space_alloc(space, SPACE_MANIFEST, left, FORMAT_BLOCK, e);
		if (err)
			break;
		sb->manifest_extent_count++;
		left -= min_u64(left, e->len);
	}
	if (err) {
		manifest_store_release(space, sb);
		sb->manifest_extent_count = 0;
	}
	return err;
}

void manifest_store_release(struct space *space, const struct superblock *sb)
{
	for (uint32_t i = 0; i < sb->manifest_extent_count; i++)
		space_release(space, sb->manifest_extents[i]);
}

static int sync_volume(struct os_volume *volume)
{
	int err = os_volume_sync(volume);

	return err == -ENOMEM ? -EIO : err;
}

int manifest_store_write(struct os_volume *volume, struct checksum *checksum,
			 struct checksum *sha256, struct kv_buf *blob, struct superblock *sb)
{
	const struct kv_slice part = kv_buf_slice(blob);
	int err;

	err = checksum_compute(checksum, &part, 1, sb->manifest_sum);
	if (err)
		return err;
	sb->manifest_len = blob->len;
	sb->compat |= FORMAT_COMPAT_COPIES;
	err = buf_append_zeros(blob, (size_t)(align_up_u64(blob->len, FORMAT_BLOCK) - blob->len));
	if (err)
		return err;
	err = manifest_store_transfer(volume, sb, 0, kv_buf_slice(blob), NULL, blob->len);
	if (!err)
		err = manifest_copy_write(volume, sha256, kv_buf_slice(blob), sb);
	if (err)
		return err;
	err = sync_volume(volume);
	if (err)
		return err;
	return manifest_store_write_superblock(volume, sha256, sb);
}

/* Is this copy the state before @sb, or @sb itself, whole? */
static bool copy_is_whole(struct os_volume *volume, struct checksum *sha256, unsigned copy,
			  const struct superblock *sb)
{
	struct superblock have;

	if (manifest_store_read_superblock(volume, sha256, copy, &have))
		return false;
	return memcmp(have.uuid, sb->uuid, KV_UUID_LEN) == 0 &&
	       have.generation + 1 >= sb->generation;
}

int manifest_store_write_superblock(struct os_volume *volume, struct checksum *sha256,
				    const struct superblock *sb)
{
	unsigned first = (unsigned)(sb->generation % SUPERBLOCK_COPIES);
	struct superblock_disk disk;
	int err;

	static_assert(SUPERBLOCK_COPIES == 2, "the other copy is 1 - first");
	err = superblock_encode(sb, sha256, &disk);
	if (err)
		return err;
	if (copy_is_whole(volume, sha256, first, sb) &&
	    !copy_is_whole(volume, sha256, 1 - first, sb))
		first = 1 - first;
	err = manifest_store_write_at(volume, (uint64_t)first * SUPERBLOCK_STRIDE, &disk,
				      sizeof(disk));
	if (err)
		return err;
	err = sync_volume(volume);
	if (err)
		return err;
	return manifest_store_write_at(volume, (uint64_t)(1 - first) * SUPERBLOCK_STRIDE, &disk,
				       sizeof(disk));
}
