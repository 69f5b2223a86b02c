/* SPDX-License-Identifier: MIT */
/* What differs between two states: random histories against arrays, range deletes, and the cost. */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kv_diff.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME	  "vol"
#define KEYS	  300U
#define STATES	  6U
#define ok(call)  ck_assert_int_eq((call), 0)
#define KEYSPACE  7U
#define OTHER	  6U
#define ROUNDS	  12U
#define MANY_KEYS 20000U

static struct sim_env *sim;
static struct kv_db *db;

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct kv_options o = {.cache_bytes = 8U << 20, .memtable_bytes = 1U << 20};

	sim = sim_env_new(1);
	c.env = o.env = sim_env_os(sim);
	ok(kv_create(VOLUME, &c));
	ok(kv_open(VOLUME, &o, &db));
}

static void teardown(void)
{
	ok(kv_close(db));
	sim_env_free(sim);
}

static struct kv_slice key_of(unsigned i, char out[16])
{
	return kv_slice_of(out, (size_t)snprintf(out, 16, "k%05u", i));
}

static void put(unsigned i, unsigned value)
{
	char key[16], text[16];
	int len = snprintf(text, sizeof(text), "%u", value);

	ok(kv_put(db, KEYSPACE, key_of(i, key), kv_slice_of(text, (size_t)len), 0));
}

static void delete_range(unsigned from, unsigned to)
{
	char a[16], b[16];
	struct kv_batch *batch;

	ok(kv_batch_new(db, &batch));
	ok(kv_batch_delete_range(batch, KEYSPACE, key_of(from, a), key_of(to, b)));
	ok(kv_batch_write(batch, 0, NULL));
	kv_batch_free(batch);
}

/* A read-only transaction at a named snapshot, or now. */
struct state {
	struct kv_snapshot *snapshot;
	struct kv_txn *txn;
};

static struct state state_open(const char *name)
{
	struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
	struct state s = {0};

	if (name)
		ok(kv_snapshot_open(db, name, &s.snapshot));
	o.snapshot = s.snapshot;
	ok(kv_txn_begin(db, &o, &s.txn));
	return s;
}

static void state_close(struct state *s)
{
	kv_txn_abort(s->txn);
	kv_snapshot_release(s->snapshot);
}

/* ---- random histories ---- */

struct model {
	unsigned value[KEYS]; /* 0: not there */
};

static void random_step(struct test_rng *rng, struct model *m)
{
	unsigned i = (unsigned)test_rng_below(rng, KEYS);
	unsigned to = i + 1 + (unsigned)test_rng_below(rng, KEYS / 4);
	unsigned v = 1 + (unsigned)test_rng_below(rng, 1000);
	char key[16];

	switch (test_rng_below(rng, 20)) {
	case 0:
		delete_range(i, to);
		for (; i < to && i < KEYS; i++)
			m->value[i] = 0;
		break;
	case 1:
	case 2:
	case 3:
		ok(kv_delete(db, KEYSPACE, key_of(i, key), 0));
		m->value[i] = 0;
		break;
	case 4:
		if (test_rng_below(rng, 4) == 0)
			ok(kv_flush(db));
		break;
	case 5:
		if (test_rng_below(rng, 8) == 0)
			ok(kv_compact(db, NULL));
		break;
	case 6: /* elsewhere: never found */
		ok(kv_put(db, OTHER, key_of(i, key), key_of(v, (char[16]){0}), 0));
		break;
	default:
		put(i, v);
		m->value[i] = v;
	}
}

static unsigned value_at(struct kv_diff *d, int (*get)(struct kv_diff *, struct kv_buf *))
{
	struct kv_buf value = {0};
	int err = get(d, &value);
	unsigned v = 0;

	if (err) {
		ck_assert_int_eq(err, -KV_E_NOTFOUND);
	} else {
		ok(buf_append_byte(&value, 0));
		v = (unsigned)strtoul((char *)value.data, NULL, 10);
	}
	kv_buf_free(&value);
	return v;
}

/* Everything that differs is found, in order, with the values of both sides. */
static void check_diff(const char *a, const char *b, const struct model *ma, const struct model *mb)
{
	struct state sa = state_open(a), sb = state_open(b);
	struct kv_diff *d;
	unsigned next = 0, i;
	char key[16] = "";
	int err;

	ok(kv_diff_open(sa.txn, sb.txn, KEYSPACE, NULL, &d));
	while (!(err = kv_diff_next(d))) {
		ck_assert_uint_eq(kv_diff_key(d).len, 6);
		memcpy(key, kv_diff_key(d).data, 6);
		i = (unsigned)strtoul(key + 1, NULL, 10);
		ck_assert_uint_ge(i, next);
		for (; next < i; next++)
			ck_assert_uint_eq(ma->value[next], mb->value[next]);
		next = i + 1;
		ck_assert(ma->value[i] || mb->value[i]);
		ck_assert_uint_eq(value_at(d, kv_diff_old), ma->value[i]);
		ck_assert_uint_eq(value_at(d, kv_diff_new), mb->value[i]);
	}
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	for (; next < KEYS; next++)
		ck_assert_uint_eq(ma->value[next], mb->value[next]);
	kv_diff_close(d);
	state_close(&sa);
	state_close(&sb);
}

static void random_history(uint64_t seed)
{
	struct test_rng rng = {seed};
	struct model now = {{0}}, then[STATES];
	char name[STATES][8];

	for (unsigned s = 0; s < STATES; s++) {
		for (unsigned n = (unsigned)test_rng_below(&rng, 400); n; n--)
			random_step(&rng, &now);
		(void)snprintf(name[s], sizeof(name[s]), "s%u", s);
		ok(kv_snapshot_create(db, name[s]));
		then[s] = now;
	}
	for (unsigned n = (unsigned)test_rng_below(&rng, 200); n; n--)
		random_step(&rng, &now);
	for (unsigned a = 0; a < STATES; a++) {
		for (unsigned b = 0; b < STATES; b++)
			check_diff(name[a], name[b], &then[a], &then[b]);
		check_diff(name[a], NULL, &then[a], &now);
	}
	for (unsigned s = 0; s < STATES; s++)
		ok(kv_snapshot_drop(db, name[s]));
}

START_TEST(test_all_that_differs_is_found)
{
	uint64_t seed = test_rng_seeded("diff").state;

	for (unsigned round = 0; round < ROUNDS; round++) {
		teardown();
		setup();
		random_history(seed + round);
	}
}
END_TEST

/* ---- the cost ---- */

static uint64_t pages_used(void)
{
	struct kv_stats s;

	kv_get_stats(db, &s);
	return s.cache_hits + s.cache_misses;
}

static uint64_t count_diff(struct state *a, struct state *b, unsigned *found)
{
	uint64_t before = pages_used();
	struct kv_diff *d;
	int err;

	*found = 0;
	ok(kv_diff_open(a->txn, b->txn, KEYSPACE, NULL, &d));
	while (!(err = kv_diff_next(d)))
		(*found)++;
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	kv_diff_close(d);
	return pages_used() - before;
}

START_TEST(test_tables_without_news_are_not_read)
{
	struct state a, b;
	uint64_t pages;
	unsigned found;

	for (unsigned i = 0; i < MANY_KEYS; i++)
		put(i, 1);
	ok(kv_compact(db, NULL));
	ok(kv_snapshot_create(db, "a"));
	for (unsigned i = 0; i < MANY_KEYS; i += MANY_KEYS / 4)
		put(i, 2);
	ok(kv_flush(db));
	a = state_open("a");
	b = state_open(NULL);
	pages = count_diff(&a, &b, &found);
	ck_assert_uint_eq(found, 4);
	/* Of about 20 leaves: what each of the keys is read from, twice, and the new table. */
	ck_assert_uint_le(pages, 30);
	ck_assert_uint_eq(count_diff(&a, &a, &found), 0);
	ck_assert_uint_eq(found, 0);
	state_close(&a);
	state_close(&b);
}
END_TEST

START_TEST(test_a_range_and_bad_arguments)
{
	struct kv_range range = {.prefix = kv_slice_of("k0000", 5)};
	struct kv_txn *writer;
	struct state a, b;
	struct kv_diff *d;

	for (unsigned i = 0; i < 20; i++)
		put(i, 1);
	ok(kv_snapshot_create(db, "a"));
	delete_range(5, 15);
	a = state_open("a");
	b = state_open(NULL);
	ok(kv_diff_open(a.txn, b.txn, KEYSPACE, &range, &d));
	for (unsigned i = 5; i < 10; i++)
		ok(kv_diff_next(d));
	ck_assert_mem_eq(kv_diff_key(d).data, "k00009", 6);
	ck_assert_int_eq(kv_diff_next(d), -KV_E_NOTFOUND);
	ck_assert_uint_eq(kv_diff_key(d).len, 0);
	ck_assert_int_eq(kv_diff_next(d), -KV_E_NOTFOUND);
	kv_diff_close(d);
	ok(kv_txn_begin(db, NULL, &writer));
	ck_assert_int_eq(kv_diff_open(a.txn, writer, KEYSPACE, NULL, &d), -KV_E_INVALID);
	ck_assert_int_eq(kv_diff_open(a.txn, b.txn, 0, NULL, &d), -KV_E_INVALID);
	kv_txn_abort(writer);
	state_close(&a);
	state_close(&b);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_all_that_differs_is_found,
		test_tables_without_news_are_not_read,
		test_a_range_and_bad_arguments,
	};

	return test_suite_run_with("diff", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
