/* SPDX-License-Identifier: MIT */
/*
 * kv_scrub(): the verification of verify*.c on an open database, table by table in the order of
 * their ids, each within a version that is held only as long as its table is read, so that no space
 * is kept for the duration of the whole. Tables that appear meanwhile were just written from what
 * was read and verified; the scrub ends with those that were there when it began, and goes on
 * behind any id.
 *
 * Superblocks and manifest change under it: what is found in them counts only if no new manifest
 * became current meanwhile. The log is followed from its start to what was durable before, which
 * nobody overwrites as long as that is so.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/logmsg.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/engine/values.h"
#include "kvcore/engine/verify.h"
#include "kvcore/wal/wal_reader.h"

#define SCRUB_CACHE_BYTES (8U * 1024 * 1024) /* for the filter and range deletes of a table */
#define ROOT_TRIES	  8U

struct scrub {
	struct kv_db *db;
	const struct kv_scrub_options *options;
	struct kv_scrub_result result;
	struct kv_progress progress; /* verify's, turned into the caller's */
	struct kv_verify_options verify_options;
	struct kv_verify_result verified;
	struct cache *cache;
	uint64_t done, total; /* bytes; @done of the tables before the one at hand */
	uint64_t counted;     /* of the bytes in the counter */
};

static int scrub_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct scrub *s = ctx;
	const struct kv_scrub_options *o = s->options;
	struct kv_scrub_progress p = {.done = s->done + done, .after = s->result.after};

	(void)total;
	COUNT(s->db, scrub_bytes, p.done - s->counted);
	s->counted = p.done;
	p.total = max_u64(s->total, p.done);
	return o->progress ? o->progress(o->ctx, &p) : 0;
}

static void scrub_found(void *ctx, const struct kv_problem *p)
{
	struct scrub *s = ctx;

	s->result.problems++;
	COUNT(s->db, scrub_problems, 1);
	logmsg(s->db->log, KV_LOG_ERROR, "scrub: %s", p->text);
	if (s->options->found)
		s->options->found(s->options->ctx, p);
}

/* What verify_open() does, on the volume that is open. */
static int scrub_begin(struct scrub *s, struct verify *v)
{
	memset(v, 0, sizeof(*v));
	memset(&s->verified, 0, sizeof(s->verified));
	v->options = &s->verify_options;
	v->result = &s->verified;
	v->env = s->db->env;
	v->volume = s->db->volume;
	v->sha256 = s->db->sha256;
	v->checksum = s->db->checksum;
	v->tables = s->db->tables;
	v->tables.cache = s->cache;
	v->tables.space = NULL;
	v->tables.damage = NULL;
	versions_get_superblock(s->db->versions, &v->sb);
	return v->volume->ops->size(v->volume, &v->volume_size);
}

/* The database's own parts stay. */
static void scrub_end(struct scrub *s, struct verify *v)
{
	s->result.pages += s->verified.pages;
	s->result.entries += s->verified.entries;
	s->result.values += s->verified.values;
	s->done += v->done;
	v->volume = NULL;
	v->sha256 = NULL;
	v->checksum = NULL;
	v->cache = NULL;
	(void)!verify_close(v);
}

/* ---- superblocks, manifest, log ---------------------------------------------------- */

static uint64_t generation(struct scrub *s)
{
	struct superblock sb;

	versions_get_superblock(s->db->versions, &sb);
	return sb.generation;
}

/* Does the log go as far as what is durable? */
static int scrub_log(struct verify *v, uint64_t durable)
{
	const struct wal_fence fence = {v->manifest.log_fence, v->manifest.log_epoch};
	struct wal_position pos = {.lsn = v->manifest.log_lsn};
	const struct kv_slice no_key = {NULL, 0};
	struct wal_reader *reader = NULL;
	struct wal_options options;
	struct wal_frame frame;
	int err;

	memcpy(pos.prev_sum, v->manifest.log_prev_sum, CHECKSUM_LEN);
	verify_log_options(v, &options);
	err = wal_reader_open(&options, &pos, &fence, true, &reader);
	while (!err && pos.lsn < durable) {
		err = wal_reader_next(reader, &frame);
		wal_reader_position(reader, &pos);
		if (!err)
			v->result->log_frames++;
	}
	wal_reader_close(reader);
	if (err != -KV_E_NOTFOUND && !verify_is_damage(err))
		return err;
	return verify_report(v, KV_PROBLEM_LOG_HOLE, VERIFY_NO_TABLE, no_key, no_key,
			     "log: a durable frame is damaged lsn=%" PRIu64, pos.lsn);
}

static int scrub_roots_once(struct scrub *s, bool *stable)
{
	struct verify v;
	uint64_t durable = s->db->wal ? wal_durable_lsn(s->db->wal) : 0;
	int err = scrub_begin(s, &v);

	v.collect = true;
	for (unsigned i = 0; !err && i < SUPERBLOCK_COPIES; i++) {
		v.copy_err[i] = manifest_store_read_superblock(v.volume, v.sha256, i, &v.copy[i]);
		err = v.copy_err[i] == -ENOMEM ? -ENOMEM : 0; /* which is not damage */
	}
	if (!err)
		err = verify_roots(&v);
	if (!err && v.have_manifest && durable > v.manifest.log_lsn)
		err = scrub_log(&v, durable);
	*stable = generation(s) == v.sb.generation;
	for (size_t i = 0; !err && *stable && i < v.finding_count; i++) {
		const struct verify_finding *f = &v.findings[i];
		struct kv_problem p = {.id = f->id, .text = (const char *)f->text.data};

		scrub_found(s, &p);
	}
	s->result.log_frames = s->verified.log_frames;
	scrub_end(s, &v);
	return err;
}

/* A volume that is written so fast that no try is undisturbed is verified by its writers. */
static int scrub_roots(struct scrub *s)
{
	bool stable = false;
	int err = 0;

	for (unsigned i = 0; !err && !stable && i < ROOT_TRIES; i++) {
		err = scrub_roots_once(s, &stable);
		if (!stable && err != -ENOMEM)
			err = 0;
	}
	return err;
}

/* ---- tables -------------------------------------------------------------------------- */

/* The table of the smallest id from @from on, and its level; NULL: there is none below @limit. */
static const struct table_meta *next_table(const struct version *version, uint64_t from,
					   uint64_t limit, uint32_t *level)
{
	const struct table_meta *best = NULL;

	for (unsigned l = 0; l < KV_LEVELS; l++) {
		for (size_t i = 0; i < version->level[l].count; i++) {
			const struct table_meta *m = table_get_meta(version->level[l].tables[i]);

			if (m->id < from || m->id >= limit || (best && best->id < m->id))
				continue;
			best = m;
			*level = l;
		}
	}
	return best;
}

/* The part of a manifest that the verification of a table needs, as the version has it. */
static int fill_manifest(struct verify *v, const struct version *version,
			 const struct table_meta *table, uint32_t level)
{
	struct manifest *m = &v->manifest;

	m->segments = calloc(version->segment_count + 1, sizeof(*m->segments));
	m->tables = calloc(1, sizeof(*m->tables));
	v->have_manifest = m->segments || m->tables; /* is released */
	if (!m->segments || !m->tables)
		return -ENOMEM;
	for (size_t i = 0; i < version->segment_count; i++) {
		struct segment *seg = version->segments[i];

		m->segments[i].id = seg->id;
		m->segments[i].extent = seg->extent;
		m->segments[i].used_bytes =
			atomic_load_explicit(&seg->used_bytes, memory_order_relaxed);
	}
	m->segment_count = version->segment_count;
	if (table_meta_copy(table, &m->tables[0]))
		return -ENOMEM;
	m->tables[0].level = level;
	m->table_count = 1;
	return 0;
}

/* Return: 0, -KV_E_NOTFOUND: there are no more. */
static int scrub_table(struct scrub *s, uint64_t limit)
{
	struct version *version = versions_current(s->db->versions);
	const struct table_meta *table;
	struct verify v;
	uint32_t level = 0;
	uint64_t id = 0;
	int err;

	table = next_table(version, s->result.after + 1, limit, &level);
	if (!table) {
		version_unref(version);
		return -KV_E_NOTFOUND;
	}
	id = table->id;
	err = scrub_begin(s, &v);
	if (!err)
		err = fill_manifest(&v, version, table, level);
	if (!err)
		err = verify_tables_prepare(&v);
	if (!err)
		err = verify_table(&v, 0);
	scrub_end(s, &v);
	version_unref(version);
	if (err)
		return err;
	s->result.tables++;
	s->result.after = id;
	return scrub_progress(s, 0, 0) ? -KV_E_INTERRUPTED : 0;
}

/* Bytes of the tables that are to be read, and of the values, which may be more or fewer. */
static uint64_t scrub_total(struct scrub *s, uint64_t limit)
{
	struct version *version = versions_current(s->db->versions);
	uint64_t total = 0;

	for (unsigned l = 0; l < KV_LEVELS; l++) {
		for (size_t i = 0; i < version->level[l].count; i++) {
			const struct table_meta *m = table_get_meta(version->level[l].tables[i]);

			if (m->id > s->result.after && m->id < limit)
				total += m->stored_bytes + m->ref_bytes;
		}
	}
	version_unref(version);
	return total;
}

int kv_scrub(struct kv_db *db, const struct kv_scrub_options *options,
	     struct kv_scrub_result *result)
{
	static const struct kv_scrub_options defaults;
	struct scrub s = {.db = db, .options = options ? options : &defaults};
	uint64_t limit;
	int err;

	s.result.after = s.options->after;
	s.progress = (struct kv_progress){scrub_progress, &s};
	s.verify_options = (struct kv_verify_options){
		.found = scrub_found,
		.ctx = &s,
		.progress = &s.progress,
		.log = db->log,
	};
	err = cache_new(SCRUB_CACHE_BYTES, &s.cache);
	if (err)
		return err;
	limit = versions_next_table_id(db->versions);
	s.total = scrub_total(&s, limit);
	err = scrub_roots(&s);
	while (!err)
		err = scrub_table(&s, limit);
	cache_free(s.cache);
	*result = s.result;
	if (err != -KV_E_NOTFOUND)
		return err;
	result->after = 0;
	return 0;
}
