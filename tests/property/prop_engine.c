/* SPDX-License-Identifier: MIT */
/*
 * The engine against a model: random transactions, snapshots, iterators, flushes,
 * compactions, reopens and crashes on a simulated disk.
 *
 * The model is an array of values by key number, copied at every commit, so the
 * state after each commit of the present life is known. Every commit also writes
 * its number. After a crash the recovered number says which state the database
 * claims to be in; it must be at least the last one acknowledged as durable (after a
 * process kill, the last one acknowledged at all), and every key must agree with it.
 *
 * usage: prop_engine [SEED [ROUNDS]]
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvcore/kvcore.h"
#include "kvcore/kv_stats.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "kvcore/base/hash.h"
#include "tests/support/sim_env.h"

#define KEYS	   240U
#define KEYSPACES  2U
#define STATES_MAX 4096U
#define SNAPS	   4U
#define SAVEPOINTS 4U /* of one transaction */
#define VOLUME	   "vol"

struct cell {
	uint32_t id;  /* 0: absent; else determines the bytes */
	uint32_t len; /* of the value */
};

struct state {
	uint64_t number;
	struct cell cell[KEYSPACES][KEYS];
};

struct snap {
	bool used;
	char name[16];
	struct state state;
};

struct world {
	uint64_t seed;
	uint64_t rng;
	struct sim_env *sim;
	struct kv_db *db;
	struct kv_options options;
	struct state *states; /* of this life: states[i] after commit states[i].number */
	unsigned state_count;
	unsigned synced; /* index of the newest state known to be durable */
	struct snap snaps[SNAPS];
	uint32_t next_id;
	uint64_t large_commits;
	bool big; /* the present transaction is one that memory and log cannot hold */
	/* What is open, to be closed when the power goes in the middle. */
	bool cut;
	jmp_buf dead;
	struct kv_txn *txn;
	struct kv_iter *iter;
	struct kv_snapshot *snapshot;
	struct kv_buf value;
};

#define CHECK(w, cond)                                                                             \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: seed %" PRIu64 ": %s\n", __FILE__, __LINE__,       \
				(w)->seed, #cond);                                                 \
			abort();                                                                   \
		}                                                                                  \
	} while (0)
#define OK(w, call)                                                                                \
	do {                                                                                       \
		int ok_err = (call);                                                               \
		if (ok_err && (w)->cut && is_dead(ok_err))                                         \
			longjmp((w)->dead, 1);                                                     \
		if (ok_err) {                                                                      \
			fprintf(stderr, "%s:%d: seed %" PRIu64 ": %s: %s\n", __FILE__, __LINE__,   \
				(w)->seed, #call, kv_strerror(ok_err));                            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* What any call may return once the power has gone. */
static bool is_dead(int err)
{
	return err == -EIO || err == -KV_E_POISONED || err == -KV_E_UNKNOWN_OUTCOME;
}

static uint32_t rnd(struct world *w, uint32_t below)
{
	w->rng += 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(hash_u64(w->rng) % below);
}

/* Keys share long prefixes now and then; byte order is number order. */
static struct kv_slice key_of(uint32_t i, char *buf)
{
	const char *family = i % 60 < 30 ? "common/prefix/of/some/length/" : "p";
	int n = snprintf(buf, 64, "%03u%s%03u", i / 30, family, i);

	return kv_slice_of(buf, (size_t)n);
}

static uint8_t *bytes_of(struct cell c)
{
	uint8_t *p = malloc(c.len ? c.len : 1);
	uint64_t h = c.id;

	KV_ASSERT(p);
	for (uint32_t i = 0; i < c.len; i++) {
		if (i % 16 == 0)
			h = hash_u64(h + i);
		p[i] = (uint8_t)(h >> (i % 4 * 8)); /* compresses a little */
	}
	return p;
}

static bool same_value(struct cell c, struct kv_slice v)
{
	uint8_t *p = bytes_of(c);
	bool same = c.id && v.len == c.len && (!c.len || memcmp(p, v.data, c.len) == 0);

	free(p);
	return same;
}

static uint32_t random_len(struct world *w)
{
	if (w->big && rnd(w, 3))
		return rnd(w, 4000);
	switch (rnd(w, 12)) {
	case 0:
		return 0;
	case 1:
		return 4096 + rnd(w, 20000); /* a large value */
	case 2:
		return rnd(w, 4200);
	default:
		return rnd(w, 120);
	}
}

static void close_iter(struct world *w)
{
	kv_iter_close(w->iter);
	w->iter = NULL;
}

static void abort_txn(struct world *w)
{
	kv_txn_abort(w->txn);
	w->txn = NULL;
}

/* ---- reading against a state ------------------------------------------------------- */

static void check_gets(struct world *w, struct kv_txn *txn, const struct state *s, unsigned count)
{
	char buf[64];

	for (unsigned n = 0; n < count; n++) {
		unsigned ks = rnd(w, KEYSPACES);
		uint32_t i = rnd(w, KEYS);
		int err = kv_txn_get(txn, ks + 1, key_of(i, buf), &w->value);

		if (err != -KV_E_NOTFOUND)
			OK(w, err);
		CHECK(w, (err == 0) == (s->cell[ks][i].id != 0));
		CHECK(w, err || same_value(s->cell[ks][i], kv_buf_slice(&w->value)));
	}
}

/* Next present key number from @i on in direction @step within [lo, hi), or -1. */
static int next_present(const struct state *s, unsigned ks, int i, int step, int lo, int hi)
{
	for (; i >= lo && i < hi; i += step) {
		if (s->cell[ks][i].id)
			return i;
	}
	return -1;
}

static void check_at(struct world *w, struct kv_iter *it, int err, const struct state *s,
		     unsigned ks, int want)
{
	struct kv_slice value;
	char buf[64];

	if (want < 0) {
		if (err != -KV_E_NOTFOUND)
			OK(w, err);
		CHECK(w, err == -KV_E_NOTFOUND && !kv_iter_valid(it));
		return;
	}
	OK(w, err);
	CHECK(w, slice_equal(kv_iter_key(it), key_of((uint32_t)want, buf)));
	OK(w, kv_iter_value(it, &value));
	CHECK(w, same_value(s->cell[ks][want], value));
	CHECK(w, kv_iter_value_len(it) == value.len);
}

static void check_iter(struct world *w, struct kv_txn *txn, const struct state *s, unsigned steps)
{
	unsigned ks = rnd(w, KEYSPACES);
	int lo = (int)rnd(w, KEYS);
	int hi = lo + (int)rnd(w, KEYS + 1 - (uint32_t)lo);
	char lo_buf[64], hi_buf[64], buf[64];
	struct kv_range range = {.lower = key_of((uint32_t)lo, lo_buf)};
	struct kv_iter *it;
	int at = -1;

	if (!rnd(w, 3)) { /* what begins with the same three digits */
		lo -= lo % 30;
		hi = lo + 30 < (int)KEYS ? lo + 30 : (int)KEYS;
		range = (struct kv_range){.prefix = {range.lower.data, 3}};
	} else if (hi < (int)KEYS) {
		range.upper = key_of((uint32_t)hi, hi_buf);
	}
	OK(w, kv_iter_open(txn, ks + 1, &range, &w->iter));
	it = w->iter;
	for (unsigned n = 0; n < steps; n++) {
		int i = (int)rnd(w, KEYS);
		unsigned what = rnd(w, at < 0 ? 4 : 12);
		int err;

		if (what == 0) {
			err = kv_iter_first(it);
			at = next_present(s, ks, lo, 1, lo, hi);
		} else if (what == 1) {
			err = kv_iter_last(it);
			at = next_present(s, ks, hi - 1, -1, lo, hi);
		} else if (what == 2) {
			err = kv_iter_seek(it, key_of((uint32_t)i, buf));
			at = i >= hi ? -1 : next_present(s, ks, i < lo ? lo : i, 1, lo, hi);
		} else if (what == 3) {
			err = kv_iter_seek_before(it, key_of((uint32_t)i, buf));
			at = i <= lo ? -1
				     : next_present(s, ks, i > hi ? hi - 1 : i - 1, -1, lo, hi);
		} else if (what < 8) {
			err = kv_iter_next(it);
			at = next_present(s, ks, at + 1, 1, lo, hi);
		} else {
			err = kv_iter_prev(it);
			at = next_present(s, ks, at - 1, -1, lo, hi);
		}
		check_at(w, it, err, s, ks, at);
	}
	close_iter(w);
}

static void check_all(struct world *w, struct kv_txn *txn, const struct state *s)
{
	for (unsigned ks = 0; ks < KEYSPACES; ks++) {
		struct kv_iter *it;
		int err;

		OK(w, kv_iter_open(txn, ks + 1, NULL, &w->iter));
		it = w->iter;
		err = kv_iter_first(it);
		for (int at = next_present(s, ks, 0, 1, 0, KEYS); at >= 0;
		     at = next_present(s, ks, at + 1, 1, 0, KEYS)) {
			check_at(w, it, err, s, ks, at);
			err = kv_iter_next(it);
		}
		check_at(w, it, err, s, ks, -1);
		close_iter(w);
	}
}

/* ---- writing --------------------------------------------------------------------------- */

static void random_write(struct world *w, struct kv_txn *txn, struct state *s)
{
	unsigned ks = rnd(w, KEYSPACES);
	uint32_t i = rnd(w, KEYS);
	uint32_t to = i + rnd(w, 1 + (rnd(w, 4) ? 8 : KEYS - i));
	char buf[64], to_buf[64];
	struct cell c;
	uint8_t *bytes;
	int err;

	if (to > KEYS)
		to = KEYS;
	switch (rnd(w, 10)) {
	case 0:
		OK(w, kv_txn_delete_range(txn, ks + 1, key_of(i, buf),
					  to < KEYS ? key_of(to, to_buf) : kv_slice_of("9", 1)));
		for (uint32_t k = i; k < to; k++)
			s->cell[ks][k].id = 0;
		break;
	case 1:
	case 2:
		OK(w, kv_txn_delete(txn, ks + 1, key_of(i, buf)));
		s->cell[ks][i].id = 0;
		break;
	default:
		c = (struct cell){++w->next_id, random_len(w)};
		bytes = bytes_of(c);
		err = kv_txn_put(txn, ks + 1, key_of(i, buf), kv_slice_of(bytes, c.len));
		free(bytes);
		OK(w, err);
		s->cell[ks][i] = c;
	}
}

struct saved {
	unsigned number;
	struct state state;
};

static void random_writes(struct world *w, struct kv_txn *txn, struct state *s, unsigned count)
{
	struct saved saved[SAVEPOINTS];
	unsigned open = 0;

	for (unsigned n = count; n; n--) {
		if (open < SAVEPOINTS && rnd(w, w->big ? 60 : 10) == 0) {
			OK(w, kv_txn_savepoint(txn, &saved[open].number));
			saved[open++].state = *s;
		} else if (open && rnd(w, w->big ? 60 : 6) == 0) {
			open = rnd(w, open) + 1;
			OK(w, kv_txn_rollback_to(txn, saved[open - 1].number));
			*s = saved[open - 1].state;
		} else {
			random_write(w, txn, s);
		}
		if (rnd(w, 8) == 0)
			check_gets(w, txn, s, 4);
		if (rnd(w, w->big ? 40 : 12) == 0)
			check_iter(w, txn, s, 12);
	}
}

/* False when the volume failed under it (a crash is on its way). */
static bool one_txn(struct world *w)
{
	struct state *next = &w->states[w->state_count];
	struct le64 number;
	bool sync = rnd(w, 8) == 0;
	int err;

	CHECK(w, w->state_count < STATES_MAX);
	*next = w->states[w->state_count - 1];
	next->number++;
	OK(w, kv_txn_begin(w->db, NULL, &w->txn));
	w->big = rnd(w, 30) == 0;
	random_writes(w, w->txn, next, w->big ? 100 + rnd(w, 500) : 1 + rnd(w, 12));
	w->big = false;
	if (rnd(w, 10) == 0) {
		abort_txn(w);
		return true;
	}
	number = le64_of(next->number);
	OK(w, kv_txn_put(w->txn, 9, kv_slice_of("number", 6), kv_slice_of(&number, 8)));
	err = kv_txn_commit(w->txn, sync ? KV_COMMIT_SYNC : 0, NULL);
	w->txn = NULL;
	w->state_count++; /* also if it failed: it may be there after the crash */
	if (err)
		return false;
	if (sync)
		w->synced = w->state_count - 1;
	return true;
}

/* ---- snapshots ------------------------------------------------------------------------------ */

static void check_snap(struct world *w, const struct snap *sn)
{
	struct kv_txn_options o = {0};

	OK(w, kv_snapshot_open(w->db, sn->name, &w->snapshot));
	o.snapshot = w->snapshot;
	OK(w, kv_txn_begin(w->db, &o, &w->txn));
	check_all(w, w->txn, &sn->state);
	check_iter(w, w->txn, &sn->state, 10);
	abort_txn(w);
	kv_snapshot_release(w->snapshot);
	w->snapshot = NULL;
}

static void one_snap(struct world *w)
{
	struct snap *sn = &w->snaps[rnd(w, SNAPS)];

	if (sn->used && rnd(w, 2)) {
		check_snap(w, sn);
		OK(w, kv_snapshot_drop(w->db, sn->name));
		sn->used = false;
	} else if (!sn->used) {
		snprintf(sn->name, sizeof(sn->name), "snap%u", w->next_id++);
		sn->state = w->states[w->state_count - 1];
		OK(w, kv_snapshot_create(w->db, sn->name));
		CHECK(w, kv_snapshot_create(w->db, sn->name) == -KV_E_EXISTS);
		sn->used = true;
		w->synced = w->state_count - 1; /* its commit was synced */
	} else {
		check_snap(w, sn);
	}
}

/* ---- lives ---------------------------------------------------------------------------------- */

static void print_problem(void *ctx, const struct kv_problem *p)
{
	(void)ctx;
	fprintf(stderr, "problem %d: %s\n", (int)p->id, p->text);
}

static void verify_volume(struct world *w)
{
	struct kv_verify_options o = {.env = sim_env_os(w->sim), .found = print_problem};
	struct kv_verify_result r;

	OK(w, kv_verify(VOLUME, &o, &r));
	CHECK(w, r.problems == 0);
}

static uint64_t read_number(struct world *w)
{
	struct kv_buf value = {0};
	uint64_t number = 0;
	int err = kv_get(w->db, 9, kv_slice_of("number", 6), &value);

	CHECK(w, err == 0 || err == -KV_E_NOTFOUND);
	if (!err) {
		struct le64 le;

		CHECK(w, value.len == sizeof(le));
		memcpy(&le, value.data, sizeof(le));
		number = le64_get(le);
	}
	kv_buf_free(&value);
	return number;
}

/* Open and compare with the states that may be there: from index @least on. */
static void open_and_compare(struct world *w, unsigned least)
{
	uint64_t number;
	unsigned found;

	OK(w, kv_open(VOLUME, &w->options, &w->db));
	number = read_number(w);
	CHECK(w, number >= w->states[least].number);
	for (found = least; found < w->state_count && w->states[found].number != number;)
		found++;
	CHECK(w, found < w->state_count);
	OK(w, kv_txn_begin(w->db, NULL, &w->txn));
	check_all(w, w->txn, &w->states[found]);
	abort_txn(w);
	w->states[0] = w->states[found];
	w->state_count = 1;
	w->synced = 0;
	for (unsigned i = 0; i < SNAPS; i++) {
		if (w->snaps[i].used)
			check_snap(w, &w->snaps[i]);
	}
}

static void print_log(void *ctx, enum kv_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	if (getenv("KVFS_TEST_LOG"))
		fprintf(stderr, "%s\n", line);
}

static const struct kv_log_sink log_sink = {print_log, NULL, KV_LOG_DEBUG};

/* Changed from one opening to the next: tables keep those with which they were written. */
static const struct kv_prefix_rule prefix_rules[] = {
	{1, KV_PREFIX_LENGTH, 3},
	{2, KV_PREFIX_SEPARATOR, '/'},
	{1, KV_PREFIX_SEPARATOR, 'o'},
	{2, KV_PREFIX_LENGTH, 4},
};

static void random_options(struct world *w)
{
	w->options = (struct kv_options){
		.env = sim_env_os(w->sim),
		.log = &log_sink,
		.cache_bytes = 8U << 20,
		.memtable_bytes = rnd(w, 2) ? 64U << 10 : 1U << 20,
		.commit_interval_ms = rnd(w, 2) ? 20 : 1000,
		.large_value_bytes = rnd(w, 2) ? 0 : 1000,
		.compaction_threads = (unsigned)rnd(w, 4),
		.prefixes = prefix_rules,
		.prefix_count = rnd(w, KV_ARRAY_COUNT(prefix_rules) + 1),
	};
}

/* Some operations; false when the volume failed under them. */
static bool some_ops(struct world *w)
{
	bool alive = true;

	for (unsigned ops = 20 + rnd(w, 150); alive && ops; ops--) {
		unsigned what = rnd(w, 40);

		if (what == 0 && !w->cut)
			one_snap(w);
		else if (what == 1)
			alive = kv_flush(w->db) == 0;
		else if (what == 2)
			alive = kv_compact(w->db, NULL) == 0;
		else
			alive = one_txn(w);
		CHECK(w, alive || w->cut);
	}
	return alive;
}

/* What close does after a crash comes too late to matter. */
static void crash(struct world *w, enum sim_crash mode)
{
	sim_env_crash(w->sim, mode);
	close_iter(w);
	abort_txn(w);
	kv_snapshot_release(w->snapshot);
	w->snapshot = NULL;
	if (kv_close(w->db))
		w->db = NULL;
}

static void one_life(struct world *w)
{
	struct kv_stats stats;
	enum sim_crash mode = (enum sim_crash)rnd(w, 4);
	bool clean = rnd(w, 4) == 0;
	unsigned least;

	w->cut = !clean && rnd(w, 2);
	if (w->cut)
		sim_env_cut(w->sim, 1 + rnd(w, 400));
	if (setjmp(w->dead) == 0)
		some_ops(w);
	kv_get_stats(w->db, &stats);
	w->large_commits += stats.commits_large;
	if (clean) {
		OK(w, kv_close(w->db));
		verify_volume(w);
	} else {
		crash(w, mode);
	}
	least = clean || (mode == SIM_CRASH_KILL && !w->cut) ? w->state_count - 1 : w->synced;
	w->cut = false;
	random_options(w);
	open_and_compare(w, least);
}

/* Returns the number of commits that were too large for the log. */
static uint64_t one_round(uint64_t seed, struct state *states)
{
	struct kv_create_options create = {0};
	struct world w = {.seed = seed, .rng = seed, .states = states};

	w.sim = sim_env_new(seed);
	create.env = sim_env_os(w.sim);
	create.size_bytes = rnd(&w, 2) ? 0 : 64U << 20;
	create.log_size_bytes = rnd(&w, 2) ? 1U << 20 : 4U << 20;
	create.compress = rnd(&w, 2) ? "none" : NULL;
	OK(&w, kv_create(VOLUME, &create));
	memset(&states[0], 0, sizeof(states[0]));
	w.state_count = 1;
	random_options(&w);
	OK(&w, kv_open(VOLUME, &w.options, &w.db));
	for (unsigned n = 0; n < 8; n++)
		one_life(&w);
	OK(&w, kv_close(w.db));
	verify_volume(&w);
	kv_buf_free(&w.value);
	sim_env_free(w.sim);
	return w.large_commits;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) << 8;
	uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 40;
	uint64_t large = 0;
	struct state *states = calloc(STATES_MAX, sizeof(*states));

	KV_ASSERT(states);
	printf("first seed %" PRIu64 "\n", seed);
	for (uint64_t n = 0; n < rounds; n++)
		large += one_round(seed + n, states);
	printf("%" PRIu64 " passed, 0 failed (%" PRIu64 " large commits)\n", rounds, large);
	free(states);
	return 0;
}
