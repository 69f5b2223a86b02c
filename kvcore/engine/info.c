/* SPDX-License-Identifier: MIT */
/*
 * What a database tells about itself: kv_get_info() and kv_get_stats(). Cheap
 * enough to be asked at any time; nothing here waits for I/O.
 */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/engine/db.h"

static void info_from_superblock(const struct superblock *sb, struct kv_db_info *out)
{
	memcpy(out->uuid, sb->uuid, sizeof(out->uuid));
	memcpy(out->label, sb->label, sizeof(out->label));
	out->format_version = FORMAT_VERSION;
	out->compat = sb->compat;
	out->ro_compat = sb->ro_compat;
	out->incompat = sb->incompat;
	out->checksum_name = checksum_algo_name(sb->checksum_algo);
	out->compress_name = compress_algo_name(sb->compress_algo);
	out->generation = sb->generation;
	out->log_size = sb->log_size;
}

static void info_from_version(const struct version *v, struct kv_db_info *out)
{
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		const struct version_level *l = &v->level[n];

		out->level[n].tables = l->count;
		out->level[n].bytes = l->bytes;
		for (size_t i = 0; i < l->count; i++)
			out->level[n].entries += table_get_meta(l->tables[i])->entry_count;
	}
}

/* What may still be taken, the reserve left out; a growing file is bounded by its host. */
static int free_space(struct kv_db *db, const struct space_stat *s, uint64_t *out)
{
	uint64_t host = 0;
	uint64_t all = s->free;
	int err;

	if (s->size_max > s->size) {
		err = db->volume->ops->host_free(db->volume, &host);
		if (err)
			return err;
		all += min_u64(host, s->size_max - s->size);
	}
	*out = all > s->reserve ? all - s->reserve : 0;
	return 0;
}

int kv_get_info(struct kv_db *db, struct kv_db_info *out)
{
	struct kv_db_info info = {0};
	struct superblock sb;
	struct space_stat space;
	struct values_stat values;
	struct view *v;
	int err;

	versions_get_superblock(db->versions, &sb);
	info_from_superblock(&sb, &info);
	space_get_stat(db->space, &space);
	info.size = space.size;
	info.size_max = space.size_max;
	info.used = space.size - space.free;
	err = free_space(db, &space, &info.free);
	if (err)
		return err;
	values_get_stat(db->values, &values);
	info.value_segments = values.segments;
	info.value_bytes = values.bytes;
	info.value_live_bytes = values.live_bytes;
	v = view_get(db);
	info_from_version(v->version, &info);
	view_unref(v);
	info.last_seq = snapshots_visible(db->snapshots);
	info.named_snapshots = named_count(db);
	if (db->wal) {
		info.log_used = wal_used(db->wal);
		info.txn_max_bytes = wal_payload_max(db->wal) - 64;
	}
	*out = info;
	return 0;
}

void kv_get_stats(struct kv_db *db, struct kv_stats *out)
{
	struct cache_stat cache;
	struct lock_stat locks;
	struct wal_stat log;
	struct view *v;

#define READ_COUNTER(name)                                                                         \
	out->name = atomic_load_explicit(&db->counters.name, memory_order_relaxed);
	KV_COUNTERS(READ_COUNTER)
#undef READ_COUNTER
	cache_get_stat(db->cache, &cache);
	out->cache_hits = cache.hits;
	out->cache_misses = cache.misses;
	out->cache_evictions = cache.evictions;
	out->cache_bytes = cache.page_bytes + cache.charged_bytes;
	lock_manager_get_stat(db->locks, &locks);
	out->lock_waits = locks.waits;
	out->deadlocks = locks.deadlocks;
	if (db->wal) {
		wal_get_stat(db->wal, &log);
		out->log_frames = log.frames;
		out->log_bytes = log.bytes;
		out->log_syncs = log.syncs;
	}
	out->manifest_writes = versions_manifest_writes(db->versions);
	v = view_get(db);
	out->memtable_bytes = memtable_bytes(v->active);
	for (unsigned i = 0; i < v->frozen_count; i++)
		out->memtable_bytes += memtable_bytes(v->frozen[i]);
	view_unref(v);
}
