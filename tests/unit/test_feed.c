/* SPDX-License-Identifier: MIT */
/* The past: commits in order and the states between them, what is kept of it, and power loss. */
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kv_history.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME		 "vol"
#define ok(call)	 ck_assert_int_eq((call), 0)
#define fails(call, err) ck_assert_int_eq((call), (err))
#define KEYSPACE	 7U
#define KEYS		 60U
#define COMMITS		 800U
#define ROUNDS		 3U

static struct sim_env *sim;
static struct kv_db *db;

static void open_db(void)
{
	struct kv_options o = {.cache_bytes = 8U << 20,
			       .memtable_bytes = 1U << 20,
			       .commit_interval_ms = 60000,
			       .env = sim_env_os(sim)};

	ok(kv_open(VOLUME, &o, &db));
}

static void setup(void)
{
	struct kv_create_options c = {.log_size_bytes = 4U << 20};

	sim = sim_env_new(1);
	c.env = sim_env_os(sim);
	ok(kv_create(VOLUME, &c));
	open_db();
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

static void put(unsigned i, const char *value)
{
	char key[16];

	ok(kv_put(db, KEYSPACE, key_of(i, key), test_str(value), 0));
}

static struct kv_history_info info(void)
{
	struct kv_history_info i;

	kv_history_get(db, &i);
	return i;
}

/* ---- random histories --------------------------------------------------------------------- */

/* What one commit did, and left. */
struct commit {
	kv_seq seq;
	bool wrote[KEYS], deleted[KEYS]; /* as point operations */
	unsigned range_from, range_to;	 /* 0, 0: none */
	unsigned value[KEYS];		 /* 0: not there */
};

static struct commit commits[COMMITS + 1]; /* the first one is what was there before */

static void random_op(struct test_rng *rng, struct kv_batch *b, struct commit *c)
{
	unsigned i = (unsigned)test_rng_below(rng, KEYS), v;
	char key[16], text[16];

	if (test_rng_below(rng, 4) == 0) {
		ok(kv_batch_delete(b, KEYSPACE, key_of(i, key)));
		c->wrote[i] = c->deleted[i] = true;
		c->value[i] = 0;
		return;
	}
	v = 1 + (unsigned)test_rng_below(rng, 1000);
	ok(kv_batch_put(b, KEYSPACE, key_of(i, key),
			kv_slice_of(text, (size_t)snprintf(text, sizeof(text), "%u", v))));
	c->wrote[i] = true;
	c->deleted[i] = false;
	c->value[i] = v;
}

static void random_commit(struct test_rng *rng, const struct commit *before, struct commit *c)
{
	struct kv_batch *b;
	char from[16], to[16];

	memset(c, 0, sizeof(*c));
	memcpy(c->value, before->value, sizeof(c->value));
	ok(kv_batch_new(db, &b));
	if (test_rng_below(rng, 10) == 0) { /* before the points, which it does not hide */
		c->range_from = (unsigned)test_rng_below(rng, KEYS);
		c->range_to = c->range_from + 1 + (unsigned)test_rng_below(rng, KEYS / 4);
		ok(kv_batch_delete_range(b, KEYSPACE, key_of(c->range_from, from),
					 key_of(c->range_to, to)));
		for (unsigned i = c->range_from; i < c->range_to && i < KEYS; i++)
			c->value[i] = 0;
	}
	for (unsigned n = 1 + (unsigned)test_rng_below(rng, 4); n; n--)
		random_op(rng, b, c);
	ok(kv_batch_write(b, 0, &c->seq));
	kv_batch_free(b);
	if (test_rng_below(rng, 60) == 0)
		ok(kv_flush(db));
	if (test_rng_below(rng, 200) == 0)
		ok(kv_compact(db, NULL));
}

static unsigned number_of(struct kv_slice key)
{
	char text[16] = "";

	ck_assert_uint_eq(key.len, 6);
	memcpy(text, key.data + 1, 5);
	return (unsigned)strtoul(text, NULL, 10);
}

static void check_ops(struct kv_feed *f, const struct commit *c)
{
	bool told[KEYS] = {false};
	struct kv_feed_op op;
	unsigned next = c->range_from;

	while (kv_feed_op(f, &op)) {
		unsigned i = number_of(op.key);

		ck_assert_uint_eq(op.keyspace, KEYSPACE);
		if (op.kind == KV_FEED_DELETE_RANGE) { /* in pieces, without a gap */
			ck_assert_uint_eq(i, next);
			next = number_of(op.to);
			continue;
		}
		ck_assert(c->wrote[i] && !told[i]);
		ck_assert_int_eq(op.kind == KV_FEED_DELETE, c->deleted[i]);
		told[i] = true;
	}
	ck_assert_uint_eq(next, c->range_to);
	ck_assert_mem_eq(told, c->wrote, sizeof(told));
}

static void check_state(const struct commit *c)
{
	struct kv_txn_options o = {.flags = KV_TXN_RDONLY};
	struct kv_snapshot *s;
	struct kv_buf value = {0};
	struct kv_txn *txn;
	char key[16];

	ok(kv_history_open(db, c->seq, &s));
	o.snapshot = s;
	ok(kv_txn_begin(db, &o, &txn));
	for (unsigned i = 0; i < KEYS; i++) {
		int err = kv_txn_get(txn, KEYSPACE, key_of(i, key), &value);

		ck_assert_int_eq(err, c->value[i] ? 0 : -KV_E_NOTFOUND);
		if (err)
			continue;
		ok(buf_append_byte(&value, 0));
		ck_assert_uint_eq(strtoul((char *)value.data, NULL, 10), c->value[i]);
	}
	kv_txn_abort(txn);
	kv_snapshot_release(s);
	kv_buf_free(&value);
}

static void check_absent(unsigned key, unsigned first, unsigned until)
{
	for (unsigned n = first; key < KEYS && n < until; n++)
		ck_assert_uint_eq(commits[n].value[key], 0);
}

/* The versions of a key say what it held after each commit from @first on. */
static void check_versions(unsigned first, unsigned count)
{
	struct kv_past_version v;
	unsigned key = KEYS, until = count, keys = 0; /* all below until is to be checked */
	struct kv_past *p;
	int err;

	ok(kv_past_open(db, KEYSPACE, NULL, &p));
	while (!(err = kv_past_next(p, &v))) {
		unsigned i = number_of(v.key), value = 0;

		if (i != key) {
			ck_assert(key == KEYS || i > key);
			check_absent(key, first, until);
			key = i;
			until = count;
			keys++;
		}
		if (!v.deleted) {
			char text[16] = "";

			ck_assert(v.has_value);
			memcpy(text, v.value.data, v.value.len);
			value = (unsigned)strtoul(text, NULL, 10);
		}
		for (; until > first && commits[until - 1].seq >= v.seq; until--)
			ck_assert_uint_eq(commits[until - 1].value[i], value);
	}
	fails(err, -KV_E_NOTFOUND);
	check_absent(key, first, until);
	ck_assert_uint_gt(keys, KEYS / 2);
	ok(kv_past_seek(p, test_str("k00030")));
	ok(kv_past_next(p, &v));
	ck_assert_uint_ge(number_of(v.key), 30);
	kv_past_close(p);
}

/* From commit @first on all are told, in order, and every state can be read. */
static void check_from(unsigned first, unsigned count)
{
	struct kv_feed *f;
	kv_seq seq;

	ok(kv_feed_open(db, commits[first].seq, &f));
	for (unsigned n = first + 1; n < count; n++) {
		ok(kv_feed_next(f, &seq));
		ck_assert_uint_eq(seq, commits[n].seq);
		ck_assert_uint_eq(kv_feed_position(f), seq);
		check_ops(f, &commits[n]);
		check_state(&commits[n]);
	}
	fails(kv_feed_next(f, &seq), -KV_E_NOTFOUND);
	kv_feed_close(f);
}

static void random_history(uint64_t seed)
{
	struct test_rng rng = {seed};
	unsigned first = 0;

	ok(kv_history_begin(db, false));
	memset(&commits[0], 0, sizeof(commits[0]));
	commits[0].seq = info().from;
	for (unsigned n = 1; n <= COMMITS; n++)
		random_commit(&rng, &commits[n - 1], &commits[n]);
	ok(kv_sync(db));
	check_from(0, COMMITS + 1);
	check_versions(0, COMMITS + 1);
	first = 1 + (unsigned)test_rng_below(&rng, COMMITS - 1);
	ok(kv_history_trim(db, commits[first].seq));
	ok(kv_compact(db, NULL));
	ok(kv_sync(db));
	check_from(first, COMMITS + 1);
	check_versions(first, COMMITS + 1);
	ok(kv_history_end(db));
}

START_TEST(test_every_commit_comes_in_order_and_every_state_is_there)
{
	uint64_t seed = test_rng_seeded("feed").state;

	for (unsigned round = 0; round < ROUNDS; round++) {
		teardown();
		setup();
		put(1, "1"); /* a state that history begins with */
		ok(kv_delete(db, KEYSPACE, test_str("k00001"), 0));
		random_history(seed + round);
	}
}
END_TEST

/* ---- what is kept -----------------------------------------------------------------------------
 */

static unsigned versions_in_tables(void)
{
	struct kv_db_info i;
	unsigned count = 0;

	ok(kv_compact(db, NULL));
	ok(kv_get_info(db, &i));
	for (unsigned n = 0; n < KV_LEVELS; n++)
		count += (unsigned)i.level[n].entries;
	return count;
}

START_TEST(test_nothing_is_kept_before_it_begins_and_after_it_ends)
{
	struct kv_snapshot *s;
	struct kv_feed *f;

	for (unsigned n = 0; n < 100; n++)
		put(1, "x");
	ck_assert_uint_eq(versions_in_tables(), 1);
	fails(kv_history_open(db, info().newest, &s), -KV_E_GONE);
	fails(kv_feed_open(db, info().newest, &f), -KV_E_GONE);
	ok(kv_history_begin(db, false));
	ok(kv_history_begin(db, false));
	for (unsigned n = 0; n < 99; n++)
		put(1, "y");
	ck_assert_uint_eq(versions_in_tables(), 100);
	fails(kv_history_open(db, info().from - 1, &s), -KV_E_GONE);
	fails(kv_history_open(db, info().newest + 1, &s), -KV_E_INVALID);
	fails(kv_feed_open(db, info().from - 1, &f), -KV_E_GONE);
	fails(kv_feed_open(db, info().newest + 1, &f), -KV_E_INVALID);
	ok(kv_history_trim(db, info().newest - 9));
	ck_assert_uint_eq(versions_in_tables(), 10);
	ok(kv_history_end(db));
	ck_assert_uint_eq(versions_in_tables(), 1);
}
END_TEST

START_TEST(test_a_feed_that_is_too_slow_is_told_so)
{
	struct kv_snapshot *held;
	struct kv_feed *f;
	kv_seq seq, first;

	put(1, "0");
	ok(kv_history_begin(db, false));
	first = info().from;
	ok(kv_feed_open(db, first, &f));
	ok(kv_history_open(db, first, &held));
	put(1, "1");
	put(1, "2");
	ok(kv_sync(db));
	ok(kv_history_trim(db, info().newest));
	ok(kv_compact(db, NULL));
	fails(kv_feed_next(f, &seq), -KV_E_GONE);
	fails(kv_feed_next(f, &seq), -KV_E_GONE);
	kv_feed_close(f);
	/* A state that somebody has open stays. */
	{
		struct kv_txn_options o = {.snapshot = held};
		struct kv_buf value = {0};
		struct kv_txn *txn;

		ok(kv_txn_begin(db, &o, &txn));
		ok(kv_txn_get(txn, KEYSPACE, test_str("k00001"), &value));
		ck_assert_mem_eq(value.data, "0", 1);
		kv_txn_abort(txn);
		kv_buf_free(&value);
	}
	kv_snapshot_release(held);
}
END_TEST

START_TEST(test_a_lasting_history_goes_on_after_opening)
{
	struct kv_feed *f;
	kv_seq seq, from;

	put(1, "0");
	ok(kv_history_begin(db, true));
	from = info().from;
	put(1, "1");
	put(1, "2");
	ok(kv_close(db));
	open_db();
	ck_assert(info().lasting);
	ck_assert_uint_eq(info().from, from);
	ok(kv_compact(db, NULL));
	ok(kv_feed_open(db, from, &f));
	ok(kv_feed_next(f, &seq));
	ok(kv_feed_next(f, &seq));
	fails(kv_feed_next(f, &seq), -KV_E_NOTFOUND);
	kv_feed_close(f);
	ok(kv_history_trim(db, seq));
	sim_env_crash(sim, SIM_CRASH_DROP);
	(void)!kv_close(db);
	open_db();
	ck_assert_uint_eq(info().from, seq);
	ok(kv_history_end(db));
	ok(kv_close(db));
	open_db();
	ck_assert(!info().begun);
}
END_TEST

/* ---- power loss ---------------------------------------------------------------------------------
 */

/* Whatever a feed has told is there after a crash; commits that could be lost are not told. */
START_TEST(test_what_is_told_outlives_a_power_cut)
{
	struct test_rng rng = test_rng_seeded("feed_crash");
	unsigned waited = 0;

	for (unsigned round = 0; round < 20; round++) {
		struct kv_buf value = {0};
		struct kv_feed *f;
		kv_seq seq = 0, told = 0, first;
		int err;

		teardown();
		setup();
		put(0, "0");
		ok(kv_history_begin(db, false));
		first = info().from;
		ok(kv_feed_open(db, first, &f));
		for (unsigned n = 1; n < 40; n++) {
			put(n, "x");
			if (test_rng_below(&rng, 12) == 0)
				ok(kv_sync(db));
			while (!(err = kv_feed_next(f, &seq)))
				told = seq;
			fails(err, -KV_E_NOTFOUND);
		}
		waited += told != info().newest;
		kv_feed_close(f);
		sim_env_crash(sim, SIM_CRASH_DROP);
		(void)!kv_close(db);
		open_db();
		for (unsigned n = 1; told && n <= told - first; n++) {
			char key[16];

			ok(kv_get(db, KEYSPACE, key_of(n, key), &value));
		}
		kv_buf_free(&value);
	}
	ck_assert_uint_gt(waited, 0); /* else nothing was tried */
}
END_TEST

START_TEST(test_the_first_commit_of_all_is_told)
{
	struct kv_feed *f;
	kv_seq seq;

	ck_assert_uint_eq(info().newest, 0);
	ok(kv_history_begin(db, false));
	ok(kv_feed_open(db, info().from, &f));
	put(1, "1");
	ok(kv_sync(db));
	ok(kv_feed_next(f, &seq));
	ck_assert_uint_eq(seq, 1);
	put(2, "2");
	put(2, "3");
	ok(kv_sync(db));
	ok(kv_feed_next(f, &seq));
	ck_assert_uint_eq(seq, 2);
	kv_feed_close(f);
	ok(kv_history_trim(db, 2)); /* which leaves nothing for who is at 0 */
	fails(kv_feed_open(db, 0, &f), -KV_E_GONE);
}
END_TEST

/* A commit larger than the log is told like any other. */
START_TEST(test_a_commit_larger_than_the_log_is_told)
{
	struct kv_batch *b;
	struct kv_feed *f;
	struct kv_feed_op op;
	static char value[3000];
	unsigned count = 0;
	kv_seq seq, big;
	char key[16];

	put(0, "0");
	ok(kv_history_begin(db, false));
	ok(kv_feed_open(db, info().newest, &f));
	ok(kv_batch_new(db, &b));
	for (unsigned i = 0; i < 3000; i++)
		ok(kv_batch_put(b, KEYSPACE, key_of(i, key), kv_slice_of(value, sizeof(value))));
	ok(kv_batch_write(b, 0, &big));
	kv_batch_free(b);
	put(1, "1");
	ok(kv_sync(db));
	ok(kv_feed_next(f, &seq));
	ck_assert_uint_eq(seq, big);
	while (kv_feed_op(f, &op))
		count++;
	ck_assert_uint_eq(count, 3000);
	ok(kv_feed_next(f, &seq));
	fails(kv_feed_next(f, &seq), -KV_E_NOTFOUND);
	kv_feed_close(f);
}
END_TEST

/* A volume of 24 MiB over which ten times as much is written, while all of it is wanted. */
START_TEST(test_history_gives_way_when_the_volume_is_full)
{
	struct kv_create_options c = {
		.log_size_bytes = 4U << 20, .size_bytes = 24U << 20, .env = sim_env_os(sim)};
	struct test_rng rng = test_rng_seeded("full");
	static uint8_t value[20000];
	struct kv_feed *f;
	kv_seq begun, seq;
	char key[16];

	for (int lasting = 0; lasting < 2; lasting++) {
		ok(kv_close(db));
		sim_env_free(sim);
		sim = sim_env_new(1);
		c.env = sim_env_os(sim);
		ok(kv_create(VOLUME, &c));
		open_db();
		put(1, "before");
		ok(kv_history_begin(db, lasting));
		begun = info().from;
		ok(kv_feed_open(db, begun, &f));
		for (unsigned i = 0; i < 12000; i++) {
			test_rng_fill(&rng, value, sizeof(value));
			ok(kv_put(db, KEYSPACE, key_of(i % 50, key),
				  kv_slice_of(value, sizeof(value)), 0));
		}
		ck_assert_uint_gt(info().from, begun);
		ck_assert(info().begun && info().lasting == lasting);
		fails(kv_feed_next(f, &seq), -KV_E_GONE);
		kv_feed_close(f);
	}
}
END_TEST

struct writer {
	struct os_thread thread;
	unsigned number;
	int err;
};

static void overwrite(void *arg)
{
	struct writer *w = arg;
	struct test_rng rng = {w->number + 1};
	uint8_t value[20000];
	char key[16];

	for (unsigned i = 0; !w->err && i < 4000; i++) {
		test_rng_fill(&rng, value, sizeof(value));
		w->err = kv_put(db, KEYSPACE, key_of(w->number * 100 + i % 25, key),
				kv_slice_of(value, sizeof(value)), 0);
	}
}

/* Who finds the volume full while another makes room waits for that. */
START_TEST(test_history_gives_way_to_several_writers)
{
	const struct kv_create_options c = {
		.log_size_bytes = 4U << 20, .size_bytes = 24U << 20, .env = sim_env_os(sim)};
	struct writer w[3] = {{.number = 0}, {.number = 1}, {.number = 2}};

	ok(kv_close(db));
	ok(kv_create("small", &c));
	ok(kv_open("small", &(struct kv_options){.cache_bytes = 8U << 20, .env = c.env}, &db));
	ok(kv_history_begin(db, false));
	for (unsigned i = 0; i < KV_ARRAY_COUNT(w); i++)
		ok(os_thread_start(&w[i].thread, "writer", overwrite, &w[i]));
	for (unsigned i = 0; i < KV_ARRAY_COUNT(w); i++)
		os_thread_join(&w[i].thread);
	for (unsigned i = 0; i < KV_ARRAY_COUNT(w); i++)
		ck_assert_int_eq(w[i].err, 0);
	ck_assert_uint_gt(info().from, 1);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_every_commit_comes_in_order_and_every_state_is_there,
		test_nothing_is_kept_before_it_begins_and_after_it_ends,
		test_a_feed_that_is_too_slow_is_told_so,
		test_a_lasting_history_goes_on_after_opening,
		test_what_is_told_outlives_a_power_cut,
		test_the_first_commit_of_all_is_told,
		test_a_commit_larger_than_the_log_is_told,
		test_history_gives_way_when_the_volume_is_full,
		test_history_gives_way_to_several_writers,
	};

	return test_suite_run_with("feed", tests, KV_ARRAY_COUNT(tests), 120, setup, teardown);
}
