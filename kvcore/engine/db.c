/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing. Opening for writing ends with a version edit that records
 * a new log epoch and that the volume is in use (clean = false), after a sync of
 * everything the log's replay found: what a killed predecessor left in the host's
 * page cache is durable before anything builds on it. Closing flushes, and
 * records clean = true, so that the next open neither replays nor searches.
 *
 *   volume -> superblock, manifest -> space, cache, versions, values -> log replay -> threads
 */
#include "kvcore/engine/db.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/engine/prepared.h"

#define CACHE_DEFAULT	   (128U * 1024 * 1024)
#define CACHE_MIN	   (8U * 1024 * 1024)
#define MEMTABLE_MAX	   (64U * 1024 * 1024)
#define MEMTABLE_MIN	   (64U * 1024)
#define LARGE_DEFAULT	   4096U
#define BLOOM_BITS	   10U
#define LOCK_TIMEOUT_MS	   10000U
#define COMMIT_INTERVAL	   1000U
#define COMPACTION_THREADS 1U
#define FRESH_VALUES_MAX   (256U * 1024 * 1024)

static int fill_options(const struct kv_options *in, struct kv_options *o)
{
	*o = in ? *in : (struct kv_options){0};
	if (o->flags & ~(unsigned)KV_OPEN_RDONLY)
		return -KV_E_INVALID;
	if (!o->env)
		o->env = os_env_host();
	if (!o->cache_bytes)
		o->cache_bytes = CACHE_DEFAULT;
	if (o->cache_bytes < CACHE_MIN)
		return -KV_E_INVALID;
	if (!o->memtable_bytes)
		o->memtable_bytes = (size_t)min_u64(o->cache_bytes / 8, MEMTABLE_MAX);
	if (o->memtable_bytes < MEMTABLE_MIN || o->memtable_bytes > o->cache_bytes / 2)
		return -KV_E_INVALID;
	if (!o->commit_interval_ms)
		o->commit_interval_ms = COMMIT_INTERVAL;
	if (!o->compaction_threads)
		o->compaction_threads = COMPACTION_THREADS;
	if (o->compaction_threads > BACKGROUND_COMPACTORS_MAX)
		return -KV_E_INVALID;
	if (!o->lock_timeout_ms)
		o->lock_timeout_ms = LOCK_TIMEOUT_MS;
	if (!o->large_value_bytes)
		o->large_value_bytes = LARGE_DEFAULT;
	if (o->large_value_bytes < 64 || o->large_value_bytes > VALUE_INLINE_MAX)
		return -KV_E_INVALID;
	return 0;
}

/* ---- parts ----------------------------------------------------------------------- */

static void report_damage(void *ctx, uint64_t table_id, const struct page_ref *ref, int err)
{
	struct kv_db *db = ctx;

	COUNT(db, damage_found, 1);
	logmsg(db->log, KV_LOG_ERROR, "table: %s table=%llu off=%llu len=%u", kv_strerror(err),
	       (unsigned long long)table_id, (unsigned long long)ref->off, ref->stored_len);
}

static void open_trace(struct kv_db *db)
{
	trace_init(&db->trace, db->options.trace, db->env, &db->stats);
	for (unsigned area = 0; area < KV_TRACE_AREA_COUNT; area++)
		trace_volume_init(&db->io[area], db->volume, &db->trace, (enum kv_trace_area)area);
}

static int open_storage(struct kv_db *db, const struct superblock *sb)
{
	const struct space_options so = {
		.volume = db->volume,
		.size_max = sb->size_max,
		.data_off = FORMAT_LOG_OFF + sb->log_size,
		.readonly = db->readonly,
	};
	int err;

	err = cache_new(db->options.cache_bytes, &db->cache);
	if (!err)
		err = space_new(&so, &db->space);
	db->tables = (struct table_env){
		.volume = &db->io[KV_TRACE_TABLE].base,
		.space = db->space,
		.cache = db->cache,
		.checksum = db->checksum,
		.compress = (enum compress_algo)sb->compress_algo,
		.page_size = sb->page_size,
		.bloom_bits_per_key = BLOOM_BITS,
		.prefixes = &db->prefixes,
		.log = db->log,
		.stats = &db->stats,
		.damage = report_damage,
		.damage_ctx = db,
	};
	return err;
}

static bool reclaim_for_spill(void *ctx, unsigned *tries)
{
	return reclaim_space(ctx, true, tries);
}

static int open_versions(struct kv_db *db, const struct manifest_loaded *ml)
{
	const struct versions_options vo = {
		.volume = &db->io[KV_TRACE_MANIFEST].base,
		.space = db->space,
		.checksum = db->checksum,
		.sha256 = db->sha256,
		.tables = &db->tables,
		.log = db->log,
		.install = view_install,
		.ready = view_ready,
		.install_ctx = db,
	};
	struct values_options uo = {
		.volume = &db->io[KV_TRACE_VALUE].base,
		.space = db->space,
		.checksum = db->checksum,
		.compress = (enum compress_algo)ml->sb.compress_algo,
		.log = db->log,
		.stats = &db->stats,
	};
	int err = versions_open(&vo, &ml->sb, &ml->manifest, &db->versions);

	if (err)
		return err;
	uo.versions = db->versions;
	err = values_new(&uo, &db->values);
	db->spill = (struct spill_env){
		.tables = &db->tables,
		.versions = db->versions,
		.values = db->values,
		.reclaim = reclaim_for_spill,
		.reclaim_ctx = db,
	};
	db->spill_bytes = db->options.memtable_bytes;
	return err;
}

static int first_view(struct kv_db *db)
{
	struct view *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	atomic_init(&v->refs, 1);
	err = memtable_new(db->cache, &v->active);
	if (err) {
		free(v);
		return err;
	}
	v->version = versions_current(db->versions);
	db->view = v;
	return 0;
}

static int open_parts(struct kv_db *db, const struct manifest_loaded *ml)
{
	int err = open_storage(db, &ml->sb);

	if (!err)
		err = open_versions(db, ml);
	if (!err)
		err = lock_manager_new(&db->locks);
	if (!err)
		err = snapshots_new(&db->snapshots);
	if (!err)
		err = first_view(db);
	return err;
}

/* ---- the log --------------------------------------------------------------------------- */

/* Make what was found durable, and record that the volume is in use under a new epoch. */
static int start_epoch(struct kv_db *db, const struct recovery *r)
{
	struct version_edit edit = {.log_epoch = r->epoch + 1, .log_fence = r->end.lsn};
	struct view *v;
	int err;

	v = view_get(db);
	edit.set_log = memtable_empty(v->active) && !v->frozen_count;
	view_unref(v);
	wal_get_position(db->wal, &edit.log);
	edit.last_seq = edit.set_log ? r->last_seq : 0;
	err = versions_apply(db->versions, &edit);
	return err;
}

static void seal_values(void *ctx)
{
	struct kv_db *db = ctx;

	values_seal(db->values);
}

static int open_log(struct kv_db *db, const struct manifest_loaded *ml)
{
	struct wal_options wo = {
		.volume = &db->io[KV_TRACE_LOG].base,
		.checksum = db->checksum,
		.log = db->log,
		.log_off = FORMAT_LOG_OFF,
		.log_size = ml->sb.log_size,
		.before_sync = seal_values,
		.before_sync_ctx = db,
	};
	struct recovery r;
	int err;

	memcpy(wo.uuid, ml->sb.uuid, sizeof(wo.uuid));
	snapshots_keep_all(db->snapshots, true);
	err = recover_log(db, &wo, &ml->manifest, &r);
	if (err)
		return err;
	snapshots_publish(db->snapshots, r.last_seq);
	db->wal_size = ml->sb.log_size;
	db->fixed_size = ml->sb.size_max != 0;
	db->fresh_value_max = ml->sb.size_max ? min_u64(ml->sb.size_max / 16, FRESH_VALUES_MAX)
					      : FRESH_VALUES_MAX;
	err = commit_queue_new(r.last_seq, &db->commits);
	if (err || db->readonly)
		return err;
	err = wal_open(&wo, &r.end, ml->manifest.log_lsn, r.epoch + 1, &db->wal);
	if (err)
		return err;
	versions_set_wal(db->versions, db->wal);
	err = values_recovered(db->values);
	return err ? err : start_epoch(db, &r);
}

static int open_all(struct kv_db *db, const char *path)
{
	struct manifest_loaded ml = {0};
	int err;

	err = checksum_new(CHECKSUM_SHA256, &db->sha256);
	if (!err)
		err = db->env->ops->volume_open(db->env, path, db->readonly ? OS_OPEN_RDONLY : 0,
						db->options.wait_ms, &db->volume, NULL);
	if (!err && db->options.opened)
		err = db->options.opened(db->options.opened_ctx);
	if (!err)
		err = manifest_store_load(db->volume, db->sha256, &ml);
	if (err)
		return err;
	open_trace(db);
	if ((ml.sb.ro_compat & ~FORMAT_RO_COMPAT_KNOWN) && !db->readonly) {
		logmsg(db->log, KV_LOG_ERROR, "volume: has features this build can only read");
		err = -KV_E_FEATURE;
		goto out;
	}
	db->checksum = ml.checksum;
	ml.checksum = NULL;
	memcpy(db->uuid, ml.sb.uuid, sizeof(db->uuid));
	err = open_parts(db, &ml);
	if (!err)
		err = open_log(db, &ml);
	if (!err)
		err = named_load(db);
	if (!err)
		err = history_load(db);
	if (!err)
		err = prepared_load(db);
	if (err)
		goto out;
	if (ml.manifest_err) /* it does serve */
		logmsg(db->log, KV_LOG_ERROR,
		       "volume: the manifest is damaged, its copy serves: %s",
		       kv_strerror(ml.manifest_err));
	snapshots_keep_all(db->snapshots, false);
	if (!db->readonly)
		err = background_start(db);
out:
	manifest_loaded_fini(&ml);
	return err;
}

/* ---- release ------------------------------------------------------------------------------ */

static int db_free(struct kv_db *db)
{
	int err = 0;

	prepared_free(db);
	history_free(db);
	named_free(db);
	while (db->frozen_count)
		memtable_unref(db->frozen[--db->frozen_count].memtable);
	view_reclaim(db);
	KV_ASSERT(!db->retired); /* nobody reads any more */
	view_unref(db->view);
	free(db->view_spare);
	values_free(db->values);
	if (db->versions)
		versions_close(db->versions);
	commit_queue_free(db->commits);
	wal_free(db->wal);
	snapshots_free(db->snapshots);
	lock_manager_free(db->locks);
	space_free(db->space);
	if (db->cache)
		cache_free(db->cache);
	if (db->volume)
		err = db->volume->ops->close(db->volume);
	checksum_free(db->checksum);
	checksum_free(db->sha256);
	ages_fini(&db->ages);
	os_cond_fini(&db->changed);
	os_mutex_fini(&db->ingest_mu);
	os_mutex_fini(&db->mu);
	free(db);
	return err;
}

static int init_locks(struct kv_db *db)
{
	int err = os_mutex_init(&db->mu, OS_RANK_DB);

	if (err)
		return err;
	err = os_mutex_init(&db->ingest_mu, OS_RANK_INGEST);
	if (err)
		goto no_ingest;
	err = os_cond_init(&db->changed);
	if (err)
		goto no_cond;
	err = ages_init(&db->ages);
	if (!err)
		return 0;
	os_cond_fini(&db->changed);
no_cond:
	os_mutex_fini(&db->ingest_mu);
no_ingest:
	os_mutex_fini(&db->mu);
	return err;
}

int kv_open(const char *path, const struct kv_options *options, struct kv_db **out)
{
	struct kv_db *db = calloc(1, sizeof(*db));
	int err;

	if (!db)
		return -ENOMEM;
	err = fill_options(options, &db->options);
	if (!err)
		err = prefix_rules_init(&db->prefixes, db->options.prefixes,
					db->options.prefix_count);
	if (!err)
		err = init_locks(db);
	if (err) {
		free(db);
		return err;
	}
	db->env = db->options.env;
	db->readonly = db->options.flags & KV_OPEN_RDONLY;
	if (db->options.log) {
		db->sink = *db->options.log;
		db->log = &db->sink;
	}
	err = open_all(db, path);
	if (err) {
		background_stop(db);
		db_free(db); /* nothing was written that its result could be about */
		return err;
	}
	*out = db;
	return 0;
}

/* Everything into tables, and the volume marked as closed in order. */
static int close_clean(struct kv_db *db)
{
	struct version_edit edit = {.set_log = true, .clean = true};
	int err = kv_flush(db);

	background_stop(db);
	if (err)
		return err;
	err = values_reap(db->values);
	if (!err)
		err = values_recovered(db->values); /* nobody writes any more: cut unused tails */
	if (err)
		return err;
	wal_get_position(db->wal, &edit.log);
	edit.last_seq = snapshots_visible(db->snapshots);
	err = versions_apply(db->versions, &edit);
	if (!err)
		err = os_volume_sync(db->volume);
	if (!err)
		space_trim(db->space); /* nothing that is durable is in what is cut */
	return err;
}

int kv_close(struct kv_db *db)
{
	int err = 0;
	int close_err;

	if (!db)
		return 0;
	KV_ASSERT(atomic_load(&db->handles) == 0);
	prepared_free(db); /* what they hold of large values is not the log's yet */
	if (!db->readonly) {
		err = close_clean(db);
		if (err && !wal_poisoned(db->wal)) {
			/* No room for tables, say: the log still has everything. */
			logmsg(db->log, KV_LOG_WARN, "close: left to the log: %s",
			       kv_strerror(err));
			err = commit_sync(db, wal_end_lsn(db->wal));
		}
		background_stop(db);
	}
	close_err = db_free(db);
	return err ? err : close_err;
}

/* ---- maintenance ----------------------------------------------------------------------------- */

int kv_sync(struct kv_db *db)
{
	return db->readonly ? 0 : commit_sync(db, wal_end_lsn(db->wal));
}

int kv_flush(struct kv_db *db)
{
	int err;

	if (db->readonly)
		return -KV_E_READONLY;
	err = commit_rotate(db);
	return err ? err : background_wait_flushed(db);
}

int kv_compact(struct kv_db *db, const struct kv_progress *progress)
{
	int err = kv_flush(db);

	if (!err)
		err = compaction_full(db, progress);
	if (!err)
		err = values_reap(db->values);
	return err;
}
