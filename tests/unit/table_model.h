/* SPDX-License-Identifier: MIT */
/* A sorted array of random entries, to hold tables against. */
#ifndef TESTS_UNIT_TABLE_MODEL_H
#define TESTS_UNIT_TABLE_MODEL_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/format/entry.h"
#include "tests/support/test_suite.h"

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
