/* SPDX-License-Identifier: MIT */
/*
 * kv_probe(): what a volume is, from its superblock and manifest alone.
 *
 * It takes no lock, so a running database may replace the manifest while it is
 * being read and reuse its space. That looks like damage; it is told apart by
 * reading the superblock again: a new generation means another try.
 */
#include "kvcore/engine/verify.h"

#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/os/os_env.h"
#include "kvcore/wal/wal_reader.h"

#define PROBE_TRIES 8U

static void probe_fill(const struct verify *v, struct kv_db_info *out)
{
	const struct manifest *m = &v->manifest;
	const struct superblock *sb = &v->sb;

	memcpy(out->uuid, sb->uuid, KV_UUID_LEN);
	memcpy(out->label, sb->label, sizeof(out->label));
	out->format_version = FORMAT_VERSION;
	out->compat = sb->compat;
	out->ro_compat = sb->ro_compat;
	out->incompat = sb->incompat;
	out->checksum_name = checksum_algo_name((unsigned)sb->checksum_algo);
	out->compress_name = compress_algo_name(sb->compress_algo);
	out->generation = sb->generation;
	out->size = v->volume_size;
	out->size_max = sb->size_max ? sb->size_max : UINT64_MAX;
	out->log_size = sb->log_size;
	out->last_seq = m->last_seq;
	out->used = FORMAT_LOG_OFF + sb->log_size;
	for (uint32_t i = 0; i < sb->manifest_extent_count; i++)
		out->used += sb->manifest_extents[i].len;
	for (size_t t = 0; t < m->table_count; t++) {
		unsigned level = (unsigned)min_u64(m->tables[t].level, KV_LEVELS - 1);

		for (uint32_t e = 0; e < m->tables[t].extent_count; e++)
			out->used += m->tables[t].extents[e].len;
		out->level[level].tables++;
		out->level[level].bytes += m->tables[t].stored_bytes;
		out->level[level].entries += m->tables[t].entry_count;
	}
	for (size_t s = 0; s < m->segment_count; s++) {
		out->used += m->segments[s].extent.len;
		out->value_bytes += m->segments[s].extent.len;
		out->value_live_bytes += m->segments[s].live_bytes;
	}
	out->value_segments = m->segment_count;
	out->free = v->volume_size > out->used ? v->volume_size - out->used : 0;
	out->txn_max_bytes = max_u64(out->log_size / 4, out->free / 2);
}

/* Bytes of frames after the last checkpoint; not replayed, only followed. */
static int probe_log(const struct verify *v, uint64_t *used)
{
	const struct manifest *m = &v->manifest;
	const struct wal_fence fence = {m->log_fence, m->log_epoch};
	struct wal_position pos = {.lsn = m->log_lsn};
	struct wal_reader *reader = NULL;
	struct wal_options options;
	struct wal_frame frame;
	int err;

	*used = 0;
	if (m->clean)
		return 0;
	memcpy(pos.prev_sum, m->log_prev_sum, CHECKSUM_LEN);
	verify_log_options(v, &options);
	err = wal_reader_open(&options, &pos, &fence, m->clean, &reader);
	if (err)
		return err;
	while ((err = wal_reader_next(reader, &frame)) == 0)
		*used = frame.end - m->log_lsn;
	wal_reader_close(reader);
	/* A hole is for fsck to report; the log is certainly in use then. */
	if (verify_is_damage(err))
		*used = max_u64(*used, 1);
	return err == -KV_E_NOTFOUND || verify_is_damage(err) ? 0 : err;
}

static int probe_once(const char *path, struct os_env *env, struct kv_db_info *out,
		      uint64_t *generation)
{
	struct kv_verify_options options = {.env = env};
	struct kv_verify_result ignored;
	struct kv_db_info info = {0};
	struct verify v;
	int close_err;
	int err;

	err = verify_open(&v, path, &options, OS_OPEN_RDONLY | OS_OPEN_NOLOCK, &ignored);
	if (err)
		goto out;
	*generation = v.sb.generation;
	if (!v.sb.generation) {
		err = verify_no_superblock(&v);
		goto out;
	}
	err = manifest_store_read(v.volume, v.checksum, &v.sb, &v.manifest);
	if (err)
		goto out;
	v.have_manifest = true;
	probe_fill(&v, &info);
	err = probe_log(&v, &info.log_used);
out:
	close_err = verify_close(&v);
	err = err ? err : close_err;
	if (!err)
		*out = info;
	return err;
}

int kv_probe(const char *path, struct os_env *env, struct kv_db_info *out)
{
	uint64_t before = UINT64_MAX;
	int err = 0;

	for (unsigned i = 0; i < PROBE_TRIES; i++) {
		uint64_t generation = 0;

		err = probe_once(path, env, out, &generation);
		if (!verify_is_damage(err) || generation == before)
			break;
		before = generation;
	}
	return err;
}
