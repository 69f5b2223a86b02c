/* SPDX-License-Identifier: MIT */
/* Tables on a simulated volume. */
#ifndef TESTS_UNIT_TABLE_RIG_H
#define TESTS_UNIT_TABLE_RIG_H

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/hash.h"
#include "kvcore/table/table_read.h"
#include "tests/support/sim_env.h"
#include "tests/unit/table_model.h"

#define RIG_VOLUME   "vol"
#define RIG_DATA_OFF 65536U
#define RIG_TABLE_ID 7U

struct rig_options {
	uint32_t page_size;
	enum compress_algo compress;
	size_t cache_bytes;
	unsigned bloom_bits;
	uint64_t size_max; /* of the volume; 0: 256 MiB */
	bool crumbs;	   /* free space is in small pieces */
};

struct rig {
	struct sim_env *sim;
	struct os_volume *volume;
	struct space *space;
	struct cache *cache;
	struct checksum *checksum;
	struct table_env env;
	enum space_class class;	  /* of builds */
	_Atomic unsigned damaged; /* calls of env.damage */
};

static inline void rig_damage(void *ctx, uint64_t table_id, const struct page_ref *ref, int err)
{
	struct rig *r = (struct rig *)ctx;

	ck_assert_uint_eq(table_id, RIG_TABLE_ID);
	ck_assert_ptr_nonnull(ref);
	ck_assert_int_lt(err, 0);
	atomic_fetch_add(&r->damaged, 1);
}

/* Leave free holes of one to four blocks only: nothing is left of the reserve. */
static inline void rig_crumble(struct rig *r)
{
	struct extent holes[24], kept;

	for (size_t i = 0; i < KV_ARRAY_COUNT(holes); i++) {
		uint64_t len = FORMAT_BLOCK * (1 + i % 4);

		ck_assert_int_eq(space_alloc(r->space, SPACE_MANIFEST, len, len, &holes[i]), 0);
		ck_assert_int_eq(
			space_alloc(r->space, SPACE_MANIFEST, FORMAT_BLOCK, FORMAT_BLOCK, &kept),
			0);
	}
	while (space_alloc(r->space, SPACE_MANIFEST, 1ULL << 40, FORMAT_BLOCK, &kept) == 0)
		;
	for (size_t i = 0; i < KV_ARRAY_COUNT(holes); i++)
		space_release(r->space, holes[i]);
}

static inline void rig_init(struct rig *r, uint64_t seed, const struct rig_options *o)
{
	struct space_options space = {.size_max = o->size_max, .data_off = RIG_DATA_OFF};
	bool created;

	memset(r, 0, sizeof(*r));
	if (!space.size_max)
		space.size_max = 256U * 1024 * 1024;
	r->sim = sim_env_new(seed);
	ck_assert_int_eq(sim_env_os(r->sim)->ops->volume_open(sim_env_os(r->sim), RIG_VOLUME,
							      OS_OPEN_CREATE, 0, &r->volume,
							      &created),
			 0);
	ck_assert_int_eq(r->volume->ops->grow(r->volume, space.size_max), 0);
	space.volume = r->volume;
	ck_assert_int_eq(space_new(&space, &r->space), 0);
	ck_assert_int_eq(cache_new(o->cache_bytes ? o->cache_bytes : 8U * 1024 * 1024, &r->cache),
			 0);
	ck_assert_int_eq(checksum_new(CHECKSUM_SHA256, &r->checksum), 0);
	r->env = (struct table_env){
		.volume = r->volume,
		.space = r->space,
		.cache = r->cache,
		.checksum = r->checksum,
		.compress = o->compress,
		.page_size = o->page_size ? o->page_size : 4096,
		.bloom_bits_per_key = o->bloom_bits,
		.damage = rig_damage,
		.damage_ctx = r,
	};
	r->class = o->crumbs ? SPACE_MANIFEST : SPACE_FLUSH;
	if (o->crumbs)
		rig_crumble(r);
}

static inline void rig_fini(struct rig *r)
{
	cache_free(r->cache);
	space_free(r->space);
	checksum_free(r->checksum);
	r->volume->ops->close(r->volume);
	sim_env_free(r->sim);
}

static inline uint64_t rig_free_bytes(struct rig *r)
{
	struct space_stat stat;

	space_get_stat(r->space, &stat);
	return stat.free;
}

static inline int rig_build(struct rig *r, const struct rig_model *m,
			    const struct range_set *ranges, bool warm, struct table_meta *out)
{
	struct table_builder *b;
	int err;

	err = table_builder_new(&r->env, RIG_TABLE_ID, r->class, warm, &b);
	if (err)
		return err;
	for (size_t i = 0; m && i < m->count; i++) {
		err = table_builder_add(b, &m->entries[i]);
		if (err) {
			table_builder_abandon(b);
			return err;
		}
	}
	return table_builder_finish(b, ranges, 2, out);
}

#endif
