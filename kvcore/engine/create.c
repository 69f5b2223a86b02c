/* SPDX-License-Identifier: MIT */
/*
 * kv_create(): an empty volume. What was there before is made unrecognisable
 * first and durably, the superblock is written last: at any moment the volume
 * is what it was, nothing at all, or the finished new one, never a mix.
 *
 * The log ring is zeroed by real writes, not by allocation alone: a host file
 * system converts an unwritten extent at the first write into it, and that
 * would add a journal commit to each early fdatasync. Stale frames of a former
 * volume at the same place carry its uuid and can never be taken for ours.
 */
#include "kvcore/kvcore_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/manifest_copy.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/format/compress.h"
#include "kvcore/os/os_env.h"

#define CREATE_HEAD (1024U * 1024) /* bytes wiped of a device's head and tail */
/*
 * Bytes of one zeroing write. The host's page cache keeps them in units of about this size, and
 * each later write into one walks all of its blocks: large units made each commit slower.
 */
#define CREATE_PIECE	  (16U * 1024)
#define CREATE_LOG_MIN	  (1024U * 1024)
#define CREATE_LOG_MAX	  (1024U * 1024 * 1024)
#define CREATE_LOG_CHOSEN (256U * 1024 * 1024) /* the largest log chosen from the size */
#define CREATE_LOG_GROWS  (64U * 1024 * 1024)  /* of a volume that grows on demand */
#define CREATE_DATA_MIN	  (4U * 1024 * 1024)   /* of a volume, behind the log */
#define CREATE_DATA_FIRST (2U * FORMAT_BLOCK)  /* of the first manifest and its copy */
#define CREATE_PAGE_SIZE  (16U * 1024)

struct creation {
	const struct kv_create_options *options;
	struct os_env *env;
	struct os_volume *volume;
	struct checksum *sha256;
	struct checksum *checksum;
	uint8_t *zeros; /* CREATE_PIECE bytes */
	struct superblock sb;
	uint64_t old_size; /* of the volume before, bytes */
	uint64_t data_off;
};

/* Zero a range in pieces. The progress covers the log only: it is what takes time. */
static int create_zero(struct creation *c, uint64_t off, uint64_t len, bool report)
{
	const struct kv_progress *progress = report ? c->options->progress : NULL;

	for (uint64_t done = 0; done < len;) {
		uint64_t piece = min_u64(len - done, CREATE_PIECE);
		int err = os_volume_write(c->volume, off + done, c->zeros, (size_t)piece, 0);

		if (err)
			return err;
		done += piece;
		if (progress && progress->report(progress->ctx, done, len))
			return -KV_E_INTERRUPTED;
	}
	return 0;
}

/*
 * The superblocks of an old volume of ours go first and durably: if its log went with them, a power
 * loss could bring back a superblock without the log that belongs to it.
 */
static int create_wipe_superblocks(struct os_volume *volume)
{
	static const uint8_t zeros[FORMAT_BLOCK];
	uint64_t size = 0;
	int err = volume->ops->size(volume, &size);

	for (unsigned i = 0; !err && i < 2 * SUPERBLOCK_COPIES; i++) {
		uint64_t off = i / 2 * SUPERBLOCK_STRIDE + i % 2 * MANIFEST_COPY_OFF;

		if (size >= FORMAT_BLOCK && off <= size - FORMAT_BLOCK)
			err = os_volume_write(volume, off, zeros, sizeof(zeros), 0);
	}
	return err ? err : os_volume_sync(volume);
}

/*
 * Make whatever was there unrecognisable: its head, where the superblocks of
 * nearly all formats are, and on a device the tail too, where partition tables
 * and arrays keep a copy.
 */
static int create_wipe(struct creation *c)
{
	uint64_t head = min_u64(c->old_size, CREATE_HEAD);
	uint64_t tail = min_u64(c->old_size - head, CREATE_HEAD);
	bool device = c->volume->ops->is_device(c->volume);
	int err;

	if (!c->old_size)
		return 0;
	err = create_wipe_superblocks(c->volume);
	if (err)
		return err;
	if (!device) {
		err = c->volume->ops->shrink(c->volume, 0);
		return err ? err : os_volume_sync(c->volume);
	}
	err = create_zero(c, 0, head, false);
	if (!err)
		err = create_zero(c, c->old_size - tail, tail, false);
	if (!err)
		err = os_volume_sync(c->volume);
	if (!err)
		c->volume->ops->discard(c->volume, 0, c->old_size);
	return err;
}

static int create_log_size(const struct kv_create_options *o, uint64_t size, uint64_t *out)
{
	uint64_t log = o->log_size_bytes;

	if (log && (log < CREATE_LOG_MIN || log > CREATE_LOG_MAX))
		return -KV_E_INVALID;
	if (!log && !size)
		log = CREATE_LOG_GROWS;
	else if (!log)
		log = min_u64(max_u64(size / 16, CREATE_LOG_MIN), CREATE_LOG_CHOSEN);
	log = align_down_u64(log, FORMAT_BLOCK);
	if (size && size < FORMAT_LOG_OFF + log + CREATE_DATA_MIN)
		return -KV_E_TOO_SMALL;
	*out = log;
	return 0;
}

/* Decide size and layout. Writes nothing. */
static int create_layout(struct creation *c)
{
	const struct kv_create_options *o = c->options;
	bool device = c->volume->ops->is_device(c->volume);
	uint64_t size = o->size_bytes;
	int err;

	err = c->volume->ops->size(c->volume, &c->old_size);
	if (err)
		return err;
	if (device) {
		if (size > c->old_size)
			return -KV_E_INVALID;
		if (!size)
			size = c->old_size;
	}
	if ((device || size) && size < KV_VOLUME_MIN_BYTES)
		return -KV_E_TOO_SMALL;
	c->sb.size_max = align_down_u64(size, FORMAT_BLOCK);
	err = create_log_size(o, c->sb.size_max, &c->sb.log_size);
	if (err)
		return err;
	c->data_off = FORMAT_LOG_OFF + c->sb.log_size;
	return 0;
}

static int create_identity(struct creation *c)
{
	const struct kv_create_options *o = c->options;
	static const uint8_t none[KV_UUID_LEN];
	enum compress_algo compress = COMPRESS_SNAPPY;
	int err;

	c->sb.checksum_algo = CHECKSUM_SHA256;
	c->sb.generation = 1;
	c->sb.page_size = CREATE_PAGE_SIZE;
	c->sb.created_ns = os_realtime_ns(c->env);
	if (o->label) {
		if (strlen(o->label) > KV_LABEL_MAX)
			return -KV_E_INVALID;
		memcpy(c->sb.label, o->label, strlen(o->label));
	}
	if (o->checksum) {
		err = checksum_algo_by_name(o->checksum, &c->sb.checksum_algo);
		if (err)
			return err;
	}
	if (o->compress) {
		err = compress_algo_by_name(o->compress, &compress);
		if (err)
			return err;
	}
	c->sb.compress_algo = compress;
	memcpy(c->sb.uuid, o->uuid, KV_UUID_LEN);
	if (memcmp(o->uuid, none, KV_UUID_LEN) != 0)
		return 0;
	err = c->env->ops->random(c->env, c->sb.uuid, KV_UUID_LEN);
	if (err)
		return err;
	c->sb.uuid[6] = (uint8_t)((c->sb.uuid[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
	c->sb.uuid[8] = (uint8_t)((c->sb.uuid[8] & 0x3f) | 0x80);
	return 0;
}

/* The manifest of an empty volume, right behind the log, and the superblock that makes it one. */
static int create_manifest(struct creation *c)
{
	struct manifest m = {
		.generation = c->sb.generation,
		.clean = true,
		.next_table_id = 1,
		.next_segment_id = 1,
	};
	struct kv_buf blob = {0};
	int err;

	memcpy(m.uuid, c->sb.uuid, KV_UUID_LEN);
	err = manifest_encode(&m, &blob);
	if (err)
		goto out;
	c->sb.manifest_extent_count = 1;
	c->sb.manifest_extents[0].off = c->data_off;
	c->sb.manifest_extents[0].len = manifest_copy_room(blob.len);
	err = manifest_store_write(c->volume, c->checksum, c->sha256, &blob, &c->sb);
	if (!err)
		err = os_volume_sync(c->volume);
out:
	kv_buf_free(&blob);
	return err;
}

static int create_write(struct creation *c)
{
	int err;

	err = create_wipe(c);
	if (err)
		return err;
	err = c->volume->ops->grow(c->volume, c->sb.size_max ? c->sb.size_max
							     : c->data_off + CREATE_DATA_FIRST);
	if (err)
		return err;
	err = create_zero(c, 0, FORMAT_LOG_OFF, false);
	if (err)
		return err;
	err = create_zero(c, FORMAT_LOG_OFF, c->sb.log_size, true);
	if (err)
		return err;
	/* Nothing may point to a log that is not there yet. */
	err = os_volume_sync(c->volume);
	if (err)
		return err;
	return create_manifest(c);
}

static int create_prepare(struct creation *c)
{
	int err;

	c->zeros = calloc(1, CREATE_PIECE);
	if (!c->zeros)
		return -ENOMEM;
	err = create_identity(c);
	if (err)
		return err;
	err = checksum_new(CHECKSUM_SHA256, &c->sha256);
	if (err)
		return err;
	return checksum_new(c->sb.checksum_algo, &c->checksum);
}

/* After a failure: no superblock may be left, not even one that was just written. */
static void create_undo(struct creation *c, const char *path, bool created, bool touched)
{
	if (created) {
		/* Still locked, so nobody else can have begun to use it. */
		if (c->env->ops->volume_remove(c->env, path))
			logmsg(c->options->log, KV_LOG_WARN, "create: cannot remove %s", path);
		return;
	}
	if (!touched)
		return;
	if (create_zero(c, 0, FORMAT_LOG_OFF, false) || os_volume_sync(c->volume))
		logmsg(c->options->log, KV_LOG_WARN, "create: cannot wipe %s", path);
	if (!c->volume->ops->is_device(c->volume) && c->volume->ops->shrink(c->volume, 0))
		logmsg(c->options->log, KV_LOG_WARN, "create: cannot cut %s", path);
}

int kv_create(const char *path, const struct kv_create_options *options)
{
	static const struct kv_create_options defaults;
	struct creation c = {.options = options ? options : &defaults};
	bool created = false;
	bool touched = false;
	int close_err;
	int err;

	c.env = c.options->env ? c.options->env : os_env_host();
	err = create_prepare(&c);
	if (err)
		goto out;
	err = c.env->ops->volume_open(c.env, path, OS_OPEN_CREATE, 0, &c.volume, &created);
	if (err)
		goto out;
	err = create_layout(&c);
	if (err)
		goto out;
	touched = true;
	err = create_write(&c);
	if (err)
		goto out;
	logmsg(c.options->log, KV_LOG_INFO,
	       "create: made a volume log_size=%" PRIu64 " size_max=%" PRIu64, c.sb.log_size,
	       c.sb.size_max);
out:
	if (err && c.volume)
		create_undo(&c, path, created, touched);
	if (c.volume) {
		close_err = c.volume->ops->close(c.volume);
		err = err ? err : close_err;
	}
	checksum_free(c.checksum);
	checksum_free(c.sha256);
	free(c.zeros);
	return err;
}

int kv_wipe(const char *path, struct os_env *env)
{
	struct os_volume *volume;
	int close_err;
	int err;

	env = env ? env : os_env_host();
	err = env->ops->volume_open(env, path, 0, 0, &volume, NULL);
	if (err)
		return err;
	err = create_wipe_superblocks(volume);
	close_err = volume->ops->close(volume);
	return err ? err : close_err;
}
