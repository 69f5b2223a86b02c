/* SPDX-License-Identifier: MIT */
/*
 * What a database tells about itself: kv_get_info(), the statistics and the histograms.
 * Cheap enough to be asked at any time; nothing here waits for I/O.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
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
	if (db->wal)
		info.log_used = wal_used(db->wal);
	/* Above a quarter of the log it is written twice, as runs and as tables. */
	info.txn_max_bytes = max_u64(info.log_size / 4, info.free / 2);
	*out = info;
	return 0;
}

static void stats_of_memory(struct kv_db *db, struct kv_stats *out)
{
	struct cache_stat cache;
	struct view *v = view_get(db);

	out->memtable_bytes = memtable_bytes(v->active);
	for (unsigned i = 0; i < v->frozen_count; i++)
		out->memtable_bytes += memtable_bytes(v->frozen[i]);
	for (unsigned n = 0; n < KV_LEVELS; n++) {
		out->tables += v->version->level[n].count;
		out->table_bytes += v->version->level[n].bytes;
		for (size_t i = 0; i < v->version->level[n].count; i++)
			out->old_version_bytes +=
				table_get_meta(v->version->level[n].tables[i])->old_bytes;
	}
	view_unref(v);
	cache_get_stat(db->cache, &cache);
	out->cache_hits = cache.hits;
	out->cache_misses = cache.misses;
	out->cache_evictions = cache.evictions;
	out->cache_bytes = cache.page_bytes + cache.charged_bytes;
	out->cache_budget_bytes = cache.budget;
}

/* The past states that somebody reads, but for those that have a name. */
static void stats_of_readers(struct kv_db *db, struct kv_stats *out)
{
	kv_seq visible = snapshots_visible(db->snapshots);
	uint64_t now = os_monotonic_ns(db->env);
	kv_seq *live = NULL;
	size_t count = 0;
	bool keep_all;

	ages_note(&db->ages, visible, now);
	if (snapshots_live(db->snapshots, &live, &count, &keep_all))
		return; /* no memory for the list: none of these figures */
	for (size_t i = 0; i < count; i++) {
		if (live[i] >= visible || named_has(db, live[i]))
			continue;
		if (!out->old_states)
			out->oldest_reader_ms = ages_of(&db->ages, live[i], now) / 1000000;
		out->old_states++;
	}
	free(live);
}

void kv_get_stats(struct kv_db *db, struct kv_stats *out)
{
	struct lock_stat locks;
	struct wal_stat log;

	*out = (struct kv_stats){0};
#define READ_COUNTER(name) out->name = os_stats_sum(&db->stats, OS_STAT_##name);
	KV_COUNTERS(READ_COUNTER)
#undef READ_COUNTER
	stats_of_memory(db, out);
	stats_of_readers(db, out);
	lock_manager_get_stat(db->locks, &locks);
	out->lock_waits = locks.waits;
	out->deadlocks = locks.deadlocks;
	if (db->wal) {
		wal_get_stat(db->wal, &log);
		out->log_frames = log.frames;
		out->log_bytes = log.bytes;
		out->log_syncs = log.syncs;
		out->log_used_bytes = wal_used(db->wal);
	}
	out->manifest_writes = versions_manifest_writes(db->versions);
	out->compaction_debt = background_debt(db);
	out->handles = atomic_load_explicit(&db->handles, memory_order_relaxed);
}

void kv_stats_each(const struct kv_stats *stats,
		   void (*each)(void *ctx, const char *name, bool gauge, uint64_t value), void *ctx)
{
#define EACH_COUNTER(name) each(ctx, #name, false, stats->name);
#define EACH_GAUGE(name)   each(ctx, #name, true, stats->name);
	KV_COUNTERS(EACH_COUNTER)
	KV_GAUGES(EACH_GAUGE)
#undef EACH_COUNTER
#undef EACH_GAUGE
}

void kv_get_histogram(struct kv_db *db, enum kv_histogram_id id, struct kv_histogram *out)
{
	os_stats_get_histogram(&db->stats, id, out);
}

/* ---- text ------------------------------------------------------------------------------- */

struct text {
	struct kv_buf *out;
	int err;
};

static void text_line(void *ctx, const char *name, bool gauge, uint64_t value)
{
	struct text *t = ctx;

	(void)gauge;
	if (!t->err)
		t->err = buf_printf(t->out, "%s %" PRIu64 "\n", name, value);
}

static double us(uint64_t ns)
{
	return (double)ns / 1000.0;
}

static int text_histogram(struct kv_buf *out, const struct kv_histogram *h)
{
	uint64_t mean = h->samples ? h->sum_ns / h->samples : 0;

	return buf_printf(out,
			  "latency_%s samples=%" PRIu64 " every=%" PRIu64
			  " mean=%.1f p50=%.1f p90=%.1f p99=%.1f p99.9=%.1f max=%.1f\n",
			  h->name, h->samples, h->every, us(mean),
			  us(kv_histogram_percentile(h, 50)), us(kv_histogram_percentile(h, 90)),
			  us(kv_histogram_percentile(h, 99)), us(kv_histogram_percentile(h, 99.9)),
			  us(h->max_ns));
}

int kv_stats_text(struct kv_db *db, struct kv_buf *out)
{
	struct text t = {.out = out};
	struct kv_histogram h;
	struct kv_stats stats;

	buf_clear(out);
	kv_get_stats(db, &stats);
	kv_stats_each(&stats, text_line, &t);
	for (unsigned i = 0; !t.err && i < KV_HISTOGRAM_COUNT; i++) {
		kv_get_histogram(db, (enum kv_histogram_id)i, &h);
		t.err = text_histogram(out, &h);
	}
	return t.err;
}
