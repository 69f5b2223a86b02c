/* SPDX-License-Identifier: MIT */
/*
 * The storage half of a database without its threads, log and transactions: for
 * tests of versions, values, flush and compaction. A struct kv_db is filled by
 * hand over a simulated host. Only functions in a header, because it needs
 * layer_engine, which not every test links.
 */
#ifndef TESTS_SUPPORT_ENGINE_FIXTURE_H
#define TESTS_SUPPORT_ENGINE_FIXTURE_H

#include <string.h>

#include "kvcore/base/buf.h"
#include "kvcore/base/hash.h"
#include "kvcore/engine/db.h"
#include "kvcore/engine/manifest_store.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define FIXTURE_NAME "volume"
#define FIXTURE_SIZE (32U * 1024 * 1024)

struct fixture {
	struct sim_env *env;
	struct manifest_loaded loaded;
	struct kv_db db;
	unsigned installs;
};

static inline void fixture_install(void *ctx, struct version *v, void *cookie)
{
	struct fixture *f = (struct fixture *)ctx;

	f->installs++;
	if (f->db.view)
		view_install(&f->db, v, cookie);
	else
		version_unref(v);
}

static inline int fixture_ready(void *ctx)
{
	struct fixture *f = (struct fixture *)ctx;

	return view_ready(&f->db);
}

static inline void fixture_make_sized(struct fixture *f, uint64_t seed, uint64_t size)
{
	struct kv_create_options o = {.size_bytes = size, .log_size_bytes = 1024U * 1024};

	memset(f, 0, sizeof(*f));
	f->env = sim_env_new(seed);
	o.env = sim_env_os(f->env);
	ck_assert_int_eq(kv_create(FIXTURE_NAME, &o), 0);
}

static inline void fixture_make(struct fixture *f, uint64_t seed)
{
	fixture_make_sized(f, seed, FIXTURE_SIZE);
}

static inline int fixture_open_parts(struct fixture *f)
{
	struct kv_db *db = &f->db;
	struct space_options so = {.volume = db->volume,
				   .size_max = f->loaded.sb.size_max,
				   .data_off = FORMAT_LOG_OFF + f->loaded.sb.log_size};
	struct versions_options vo = {.volume = db->volume,
				      .checksum = f->loaded.checksum,
				      .sha256 = db->sha256,
				      .tables = &db->tables,
				      .install = fixture_install,
				      .ready = fixture_ready,
				      .install_ctx = f};
	struct values_options uo = {
		.volume = db->volume, .checksum = f->loaded.checksum, .compress = COMPRESS_SNAPPY};
	int err;

	err = space_new(&so, &db->space);
	if (err)
		return err;
	db->tables = (struct table_env){
		.volume = db->volume,
		.space = db->space,
		.cache = db->cache,
		.checksum = f->loaded.checksum,
		.compress = COMPRESS_SNAPPY,
		.page_size = f->loaded.sb.page_size,
		.bloom_bits_per_key = 10,
	};
	vo.space = db->space;
	err = versions_open(&vo, &f->loaded.sb, &f->loaded.manifest, &db->versions);
	if (err)
		return err;
	uo.space = db->space;
	uo.versions = db->versions;
	return values_new(&uo, &db->values);
}

/* Return: as manifest_store_load() and versions_open(). */
static inline int fixture_try_open(struct fixture *f)
{
	struct kv_db *db = &f->db;
	int err;

	db->env = sim_env_os(f->env);
	trace_init(&db->trace, NULL, db->env, &db->stats);
	ck_assert_int_eq(os_mutex_init(&db->mu, OS_RANK_DB), 0);
	ck_assert_int_eq(os_cond_init(&db->changed), 0);
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &db->sha256), 0);
	ck_assert_int_eq(snapshots_new(&db->snapshots), 0);
	ck_assert_int_eq(cache_new(8U << 20, &db->cache), 0);
	ck_assert_int_eq(db->env->ops->volume_open(db->env, FIXTURE_NAME, 0, 0, &db->volume, NULL),
			 0);
	err = manifest_store_load(db->volume, db->sha256, &f->loaded);
	return err ? err : fixture_open_parts(f);
}

/* Let go of everything in memory; nothing is written. */
static inline void fixture_close(struct fixture *f)
{
	struct kv_db *db = &f->db;

	if (db->view)
		view_unref(db->view);
	free(db->view_spare);
	values_free(db->values);
	versions_close(db->versions);
	space_free(db->space);
	if (db->volume)
		ck_assert_int_le(db->volume->ops->close(db->volume), 0);
	cache_free(db->cache);
	snapshots_free(db->snapshots);
	manifest_loaded_fini(&f->loaded);
	checksum_free(db->sha256);
	os_cond_fini(&db->changed);
	os_mutex_fini(&db->mu);
	memset(db, 0, sizeof(*db));
	memset(&f->loaded, 0, sizeof(f->loaded));
}

static inline void fixture_open(struct fixture *f)
{
	ck_assert_int_eq(fixture_try_open(f), 0);
}

static inline void fixture_free(struct fixture *f)
{
	sim_env_free(f->env);
}

/* Power loss and a new open. */
static inline void fixture_crash(struct fixture *f, enum sim_crash mode)
{
	sim_env_crash(f->env, mode);
	fixture_close(f);
	fixture_open(f);
}

/* ---- tables ---------------------------------------------------------------- */

/* Key @i as an ikey of keyspace 1, in @out. */
static inline struct kv_slice fixture_key(unsigned i, uint8_t out[IKEY_MAX])
{
	char text[16];
	int len = snprintf(text, sizeof(text), "key%06u", i);

	return ikey_make(out, 1, kv_slice_of(text, (size_t)len));
}

/* A table of puts of the keys from @from to @to - 1, each with the value "seq". */
static inline void fixture_table(struct fixture *f, unsigned level, unsigned from, unsigned to,
				 kv_seq seq, struct table_meta *out)
{
	struct table_builder *b;
	uint8_t key[IKEY_MAX];
	char value[24];

	ck_assert_int_eq(table_builder_new(&f->db.tables, versions_new_table_id(f->db.versions),
					   SPACE_FLUSH, false, &b),
			 0);
	for (unsigned i = from; i < to; i++) {
		int len = snprintf(value, sizeof(value), "%llu", (unsigned long long)seq);
		struct entry e = {fixture_key(i, key), seq, ENTRY_PUT,
				  kv_slice_of(value, (size_t)len)};

		ck_assert_int_eq(table_builder_add(b, &e), 0);
	}
	ck_assert_int_eq(table_builder_finish(b, NULL, level, out), 0);
}

/* Apply an edit that adds one such table. */
static inline int fixture_add_table(struct fixture *f, unsigned level, unsigned from, unsigned to,
				    kv_seq seq)
{
	struct table_meta meta;
	struct version_edit edit = {.add = &meta, .add_count = 1, .last_seq = seq};
	int err;

	fixture_table(f, level, from, to, seq, &meta);
	err = versions_apply(f->db.versions, &edit);
	if (err)
		versions_discard_table(f->db.versions, &meta, err);
	return err;
}

/* Read every entry of every table; returns their number. */
static inline uint64_t fixture_read_all(struct fixture *f)
{
	struct version *v = versions_current(f->db.versions);
	uint64_t n = 0;

	for (unsigned level = 0; level < KV_LEVELS; level++) {
		for (size_t i = 0; i < v->level[level].count; i++) {
			struct iter *it;
			int err;

			ck_assert_int_eq(
				table_iter_new(v->level[level].tables[i], TABLE_ITER_ONCE, &it), 0);
			for (err = iter_first(it); !err; err = iter_next(it))
				n++;
			ck_assert_int_eq(err, -KV_E_NOTFOUND);
			iter_close(it);
		}
	}
	version_unref(v);
	return n;
}

static inline uint64_t fixture_free_bytes(struct fixture *f)
{
	struct space_stat st;

	space_get_stat(f->db.space, &st);
	return st.free;
}

static inline uint64_t fixture_generation(struct fixture *f)
{
	struct superblock sb;

	versions_get_superblock(f->db.versions, &sb);
	return sb.generation;
}

#endif
