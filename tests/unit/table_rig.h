/* SPDX-License-Identifier: MIT */
/*
 * Tables on a simulated volume, and a sorted array of the same entries to hold
 * them against.
 */
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
#include "tests/support/test_suite.h"

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

/* ---- entries ------------------------------------------------------------ */

struct rig_model {
	struct entry *entries; /* sorted; what they point to is in bytes */
	size_t count;
	uint8_t *bytes;
	size_t len;
};

static inline int rig_compare(const void *a, const void *b)
{
	return entry_compare((const struct entry *)a, (const struct entry *)b);
}

static inline struct kv_slice rig_random_key(struct test_rng *rng, uint8_t *out)
{
	static const char *const prefixes[] = {"",	     "a",      "usr/share/doc/",
					       "usr/share/", "\0\0\0", "\xff\xff"};
	static const size_t lens[] = {0, 1, 14, 10, 3, 2};
	size_t which = test_rng_below(rng, KV_ARRAY_COUNT(prefixes)), len;

	be16_put(out, (uint16_t)(1 + test_rng_below(rng, 3)));
	memcpy(out + 2, prefixes[which], lens[which]);
	len = 2 + lens[which];
	if (test_rng_below(rng, 40) == 0) { /* long and the same for long */
		size_t longer = IKEY_MAX - 8 - test_rng_below(rng, 200);

		memset(out + len, 'x', longer - len);
		len = longer;
	}
	for (size_t i = 1 + test_rng_below(rng, 6); i > 0; i--)
		out[len++] = (uint8_t)(test_rng_below(rng, 2) ? test_rng_below(rng, 3)
							      : test_rng_next(rng));
	return kv_slice_of(out, len);
}

static inline size_t rig_random_value_len(struct test_rng *rng)
{
	switch (test_rng_below(rng, 60)) {
	case 0:
		return test_rng_below(rng, VALUE_INLINE_MAX + 1);
	case 1:
		return VALUE_INLINE_MAX;
	case 2:
	case 3:
		return test_rng_below(rng, 5000);
	default:
		return test_rng_below(rng, 120);
	}
}

static inline void rig_fill_value(struct test_rng *rng, struct entry *e, uint8_t *out)
{
	size_t len = 0;

	if (e->kind == ENTRY_PUT_REF) {
		struct value_ref ref = {1 + test_rng_below(rng, 9),
					test_rng_below(rng, 1000),
					1 + test_rng_below(rng, 500),
					500,
					{1, 2}};

		len = value_ref_encode(&ref, out);
	} else if (e->kind == ENTRY_PUT) {
		len = rig_random_value_len(rng);
		if (test_rng_below(rng, 2))
			memset(out, (int)test_rng_below(rng, 256), len);
		else
			test_rng_fill(rng, out, len);
	}
	e->value = kv_slice_of(out, len);
}

/* About @keys keys; many have several versions, one in a hundred some hundred of them. */
static inline void rig_model_init(struct rig_model *m, struct test_rng *rng, size_t keys)
{
	size_t cap = keys * 16 + 400, room = IKEY_MAX + VALUE_INLINE_MAX, kept = 0;
	uint8_t *out;

	m->entries = calloc(cap, sizeof(*m->entries));
	m->bytes = malloc(64U * 1024 * 1024);
	m->len = 0;
	m->count = 0;
	for (size_t k = 0; k < keys; k++) {
		size_t versions = test_rng_below(rng, 3) ? 1 : 1 + test_rng_below(rng, 5);
		struct kv_slice key;

		if (test_rng_below(rng, 100) == 0)
			versions = 300;
		out = m->bytes + m->len;
		key = rig_random_key(rng, out);
		m->len += key.len;
		for (size_t v = 0; v < versions && m->count < cap; v++) {
			struct entry *e = &m->entries[m->count++];

			ck_assert_uint_lt(m->len + room, 64U * 1024 * 1024);
			e->key = key;
			e->seq = 1 + test_rng_below(rng, versions > 5 ? 5000 : 50);
			e->kind = (enum entry_kind)test_rng_below(rng, 3);
			rig_fill_value(rng, e, m->bytes + m->len);
			if (versions > 5 && e->value.len > 100)
				e->value.len = e->kind == ENTRY_PUT ? 100 : e->value.len;
			m->len += e->value.len;
		}
	}
	qsort(m->entries, m->count, sizeof(*m->entries), rig_compare);
	for (size_t i = 0; i < m->count; i++)
		if (kept == 0 || entry_compare(&m->entries[kept - 1], &m->entries[i]) != 0)
			m->entries[kept++] = m->entries[i];
	m->count = kept;
}

static inline void rig_model_fini(struct rig_model *m)
{
	free(m->entries);
	free(m->bytes);
}

/* Index of the first entry not before (key, seq). */
static inline size_t rig_model_find(const struct rig_model *m, struct kv_slice key, kv_seq seq)
{
	struct entry target = {.key = key, .seq = seq};
	size_t lo = 0, hi = m->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (entry_compare(&m->entries[mid], &target) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
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

static inline void rig_check_entry(const struct entry *got, const struct entry *want)
{
	ck_assert_int_eq(entry_compare(got, want), 0);
	ck_assert_int_eq(got->kind, want->kind);
	ck_assert_uint_eq(got->value.len, want->value.len);
	if (got->value.len > 0)
		ck_assert(memcmp(got->value.data, want->value.data, got->value.len) == 0);
}

/* A key that is there, nearly there, or not. */
static inline struct kv_slice rig_some_key(const struct rig_model *m, struct test_rng *rng,
					   uint8_t *out)
{
	const struct entry *e = &m->entries[test_rng_below(rng, m->count)];
	size_t len = e->key.len;

	if (test_rng_below(rng, 4) == 0)
		return rig_random_key(rng, out);
	memcpy(out, e->key.data, len);
	switch (test_rng_below(rng, 5)) {
	case 0:
		out[len - 1] = (uint8_t)test_rng_next(rng);
		break;
	case 1:
		if (len < IKEY_MAX)
			out[len++] = 0;
		break;
	case 2:
		if (len > IKEY_PREFIX_LEN)
			len--;
		break;
	default:
		break;
	}
	return kv_slice_of(out, len);
}

#endif
