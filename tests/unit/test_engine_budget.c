/* SPDX-License-Identifier: MIT */
/*
 * The memory budget, on this machine's own files: the resident size of a process that
 * works on ten times as much data as its budget, and the hot set under a full scan.
 */
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore_check.h"
#include "tests/support/test_suite.h"

#define MIB    (1024ULL * 1024)
#define BUDGET (16 * MIB)
#define VALUE  500U
#define BATCH  100U
#define HOT    1500U

/* What a process needs beside the budget: docs/design.md, Memory. */
#define RSS_BESIDE (32 * MIB)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Ten times the budget; sanitizers, whose memory says nothing of ours, get less to do. */
#define KEYS ((SANITIZED ? 2 : 10) * BUDGET / VALUE)

static char path[64];

static void setup(void)
{
	const struct kv_create_options o = {.log_size_bytes = 8 * MIB};

	snprintf(path, sizeof(path), "/tmp/kvfs-budget.%ld", (long)getpid());
	ck_assert_int_eq(kv_create(path, &o), 0);
}

static void teardown(void)
{
	unlink(path);
}

static struct kv_db *open_db(void)
{
	const struct kv_options o = {.cache_bytes = BUDGET, .compaction_threads = 2};
	struct kv_db *db;

	ck_assert_int_eq(kv_open(path, &o, &db), 0);
	return db;
}

static struct kv_slice key_of(uint64_t i, char buf[24])
{
	int len = snprintf(buf, 24, "key%010llu", (unsigned long long)i);

	return kv_slice_of(buf, (size_t)len);
}

/* All keys, once each, in random order. */
static void load(struct kv_db *db, uint64_t keys, struct test_rng *rng)
{
	struct kv_batch *b;
	uint8_t value[VALUE];
	char buf[24];

	ck_assert_int_eq(kv_batch_new(db, &b), 0);
	for (uint64_t i = 0; i < keys; i++) {
		test_rng_fill(rng, value, sizeof(value));
		/* The multiplier is prime to every number of keys used here. */
		ck_assert_int_eq(kv_batch_put(b, 1, key_of(i * 7919 % keys, buf),
					      kv_slice_of(value, sizeof(value))),
				 0);
		if (i % BATCH == BATCH - 1 || i + 1 == keys)
			ck_assert_int_eq(kv_batch_write(b, 0, NULL), 0);
	}
	kv_batch_free(b);
}

static void read_random(struct kv_db *db, uint64_t keys, unsigned count, struct test_rng *rng)
{
	struct kv_buf value = {0};
	char buf[24];

	for (unsigned i = 0; i < count; i++) {
		ck_assert_int_eq(kv_get(db, 1, key_of(test_rng_below(rng, keys), buf), &value), 0);
		ck_assert_uint_eq(value.len, VALUE);
	}
	kv_buf_free(&value);
}

static uint64_t scan(struct kv_db *db)
{
	const struct kv_txn_options ro = {.flags = KV_TXN_RDONLY};
	struct kv_txn *txn;
	struct kv_iter *it;
	uint64_t n = 0;
	int err;

	ck_assert_int_eq(kv_txn_begin(db, &ro, &txn), 0);
	ck_assert_int_eq(kv_iter_open(txn, 1, NULL, &it), 0);
	for (err = kv_iter_first(it); !err; err = kv_iter_next(it))
		n++;
	ck_assert_int_eq(err, -KV_E_NOTFOUND);
	kv_iter_close(it);
	kv_txn_abort(txn);
	return n;
}

static void check_charged(struct kv_db *db)
{
	struct kv_stats st;

	kv_get_stats(db, &st);
	ck_assert_uint_eq(st.cache_budget_bytes, BUDGET);
	ck_assert_uint_le(st.cache_bytes, BUDGET);
}

START_TEST(test_the_resident_size_stays_near_the_budget)
{
	struct test_rng rng = test_rng_seeded("budget");
	struct rusage before, after;
	struct kv_db *db;
	uint64_t grown;

	if (!SANITIZED) { /* a sanitizer has an allocator of its own */
		ck_assert_int_eq(mallopt(M_ARENA_MAX, 2), 1);
		ck_assert_int_eq(mallopt(M_TRIM_THRESHOLD, 1 << 20), 1);
	}
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &before), 0);
	db = open_db();
	load(db, KEYS, &rng);
	check_charged(db);
	read_random(db, KEYS, 20000, &rng);
	check_charged(db);
	ck_assert_uint_eq(scan(db), KEYS);
	check_charged(db);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	read_random(db, KEYS, 20000, &rng);
	check_charged(db);
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &after), 0);
	grown = (uint64_t)(after.ru_maxrss - before.ru_maxrss) * 1024;
	printf("budget %llu MiB, data %llu MiB, resident at most %llu MiB more\n",
	       (unsigned long long)(BUDGET / MIB), (unsigned long long)(KEYS * VALUE / MIB),
	       (unsigned long long)(grown / MIB));
	if (!SANITIZED)
		ck_assert_uint_le(grown, BUDGET + RSS_BESIDE);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

static uint64_t misses_of_hot_set(struct kv_db *db)
{
	struct kv_stats before, after;
	struct kv_buf value = {0};
	char buf[24];

	kv_get_stats(db, &before);
	for (uint64_t i = 0; i < HOT; i++)
		ck_assert_int_eq(kv_get(db, 1, key_of(i * 7, buf), &value), 0);
	kv_get_stats(db, &after);
	kv_buf_free(&value);
	return after.cache_misses - before.cache_misses;
}

START_TEST(test_a_full_scan_does_not_evict_the_hot_set)
{
	struct test_rng rng = test_rng_seeded("hot set");
	struct kv_db *db = open_db();
	uint64_t cold;

	load(db, KEYS / 2, &rng);
	ck_assert_int_eq(kv_compact(db, NULL), 0);
	ck_assert_int_eq(kv_close(db), 0);
	db = open_db();
	cold = misses_of_hot_set(db);
	ck_assert_uint_gt(cold, 100);
	for (unsigned i = 0; i < 3; i++)
		misses_of_hot_set(db);
	ck_assert_uint_eq(misses_of_hot_set(db), 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_uint_eq(scan(db), KEYS / 2);
	ck_assert_uint_le(misses_of_hot_set(db), cold / 50);
	check_charged(db);
	ck_assert_int_eq(kv_close(db), 0);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_the_resident_size_stays_near_the_budget,
		test_a_full_scan_does_not_evict_the_hot_set,
	};

	return test_suite_run_with("budget", tests, KV_ARRAY_COUNT(tests), 250, setup, teardown);
}
