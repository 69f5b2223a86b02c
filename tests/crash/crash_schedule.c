/* SPDX-License-Identifier: MIT */
/*
 * The whole engine in a simulated world: threads and clock of tests/support/pct/, disk of
 * sim_env.h. Each seed is a small database, two to four threads with transactions whose history
 * is checked (history_work.h) and keys of their own (schedule_own.h), the engine's own threads
 * below them, one schedule, and in half of the seeds a crash in the middle. After it what was
 * acknowledged is there and kv_verify() finds nothing.
 *
 * The same seed makes the same run: each 64th is run twice to show it. The first failure ends it
 * with its seed.
 *
 * usage: crash_schedule [-seed=FIRST] [-seeds=COUNT]
 */
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/os/os_thread.h"
#include "tests/crash/schedule_own.h"
#include "tests/crash/schedule_self.h"
#include "tests/support/history_work.h"
#include "tests/support/pct/pct.h"
#include "tests/support/sim_env.h"

#define VOLUME	    "vol"
#define CLIENTS_MAX 4U
#define TXNS_MAX    40U
#define STEPS_MAX   30U /* of one thread */
#define TWICE	    64U
#define HOUR_MS	    3600000U

enum crash { NO_CRASH, CUT, CRASH }; /* CUT: in the middle of a change */

struct world {
	struct sim_env *sim;
	struct kv_db *db;
	struct history_work work;
	struct schedule_own own[CLIENTS_MAX];
	unsigned clients;
	unsigned steps;
	uint64_t seed;
	unsigned next_txn;
	unsigned started; /* clients */
	enum crash crash;
	enum sim_crash mode;
	unsigned crash_at; /* transaction */
	uint64_t written;  /* bytes */
	unsigned commits;
};

/* What all seeds did. */
struct sums {
	uint64_t seeds, points, switches, threads, commits, crashes, twice;
};

static uint64_t running; /* the seed, for the report of a failure */

/* Also for failed assertions and the scheduler's own findings. */
static void tell_seed(int sig)
{
	char line[160];
	int len = snprintf(line, sizeof(line),
			   "FAILED; repeat it by: crash_schedule -seed=%" PRIu64 " -seeds=1\n",
			   running);

	signal(sig, SIG_DFL);
	if (write(STDOUT_FILENO, line, (size_t)len) < 0)
		_exit(1);
	raise(sig);
}

static void failed(const char *what, const char *why)
{
	printf("%s: %s\n", what, why);
	fflush(stdout);
	abort();
}

/* ---- clients ---------------------------------------------------------------------------- */

static void step(struct world *w, struct schedule_own *own, struct test_rng *rng, int *err)
{
	unsigned index;

	if (test_rng_below(rng, 2) && w->next_txn < w->work.txn_count) {
		index = w->next_txn++; /* no atomic: no other thread runs between */
		if (w->crash == CRASH && index == w->crash_at)
			sim_env_crash(w->sim, w->mode);
		*err = history_work_txn(&w->work, index, rng);
		if (history_work_refused(*err) && (*err != -KV_E_LOCK_TIMEOUT || w->crash))
			*err = 0;
		return;
	}
	*err = schedule_own_step(own, rng);
}

static void client(void *arg)
{
	struct world *w = arg;
	unsigned number = w->started++;
	struct test_rng rng = {w->seed * 31 + number};
	int err = 0;

	for (unsigned i = 0; i < w->steps && !err; i++)
		step(w, &w->own[number], &rng, &err);
	if (err && !w->crash)
		failed("a client", kv_strerror(err));
}

/* ---- a seed ------------------------------------------------------------------------------- */

static void open_db(struct world *w, struct test_rng *rng)
{
	const struct kv_options o = {
		.env = sim_env_os(w->sim),
		.cache_bytes = 8U << 20,
		.memtable_bytes = 64U << 10,
		.large_value_bytes = 512,
		.compaction_threads = 1 + (unsigned)test_rng_below(rng, 3),
		.commit_interval_ms = 1U << test_rng_below(rng, 11),
		.lock_timeout_ms = w->crash ? 200 : HOUR_MS,
	};
	int err = kv_open(VOLUME, &o, &w->db);

	if (err)
		failed("kv_open", kv_strerror(err));
	w->work.db = w->db;
	for (unsigned i = 0; i < w->clients; i++)
		w->own[i].db = w->db;
}

struct problems {
	bool torn;
	unsigned count;
};

/* Of the pieces that are there twice a power loss may tear the one that was being written. */
static void found(void *ctx, const struct kv_problem *p)
{
	struct problems *problems = ctx;
	bool twice = p->id == KV_PROBLEM_SUPERBLOCK_COPY || p->id == KV_PROBLEM_MANIFEST_COPY;

	if (twice && problems->torn)
		return;
	problems->count++;
	printf("verify: %s\n", p->text);
}

static void verify(struct world *w, bool torn)
{
	struct problems problems = {torn, 0};
	const struct kv_verify_options o = {
		.found = found, .ctx = &problems, .env = sim_env_os(w->sim)};
	struct kv_verify_result result;
	int err = kv_verify(VOLUME, &o, &result);

	if (err)
		failed("kv_verify", kv_strerror(err));
	if (problems.count)
		failed("kv_verify", "problems");
}

static void check(struct world *w)
{
	unsigned allowed =
		w->work.isolation == KV_ISOLATION_SNAPSHOT ? HISTORY_G2 | HISTORY_COMMITS : 0;
	unsigned anomalies = history_work_check(&w->work, w->crash, allowed);

	if (anomalies & ~allowed)
		failed("the history", "anomalies");
	for (unsigned i = 0; i < w->clients; i++)
		schedule_own_check(&w->own[i], w->crash);
}

static void after_crash(struct world *w, struct test_rng *rng)
{
	bool killed = w->mode == SIM_CRASH_KILL;

	if (w->crash == CUT || w->next_txn <= w->crash_at) /* it has not come yet */
		sim_env_crash(w->sim, w->mode);
	(void)!kv_close(w->db);
	verify(w, true);
	open_db(w, rng);
	history_work_resolve(&w->work, killed, rng);
	for (unsigned i = 0; i < w->clients && killed; i++)
		w->own[i].durable = w->own[i].made;
}

static void choose(struct world *w, struct test_rng *rng)
{
	static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					       SIM_CRASH_GARBAGE};
	static const unsigned latency_us[] = {0, 0, 100, 5000};

	w->clients = 2 + (unsigned)test_rng_below(rng, CLIENTS_MAX - 1);
	w->steps = 4 + (unsigned)test_rng_below(rng, STEPS_MAX - 3);
	w->crash = test_rng_below(rng, 2) ? NO_CRASH : test_rng_below(rng, 2) ? CUT : CRASH;
	/* What a cut leaves of the change it is in is no matter of a process that dies. */
	w->mode = modes[w->crash == CUT ? 1 + test_rng_below(rng, 3) : test_rng_below(rng, 4)];
	w->crash_at = (unsigned)test_rng_below(rng, TXNS_MAX);
	w->work.isolation =
		test_rng_below(rng, 2) ? KV_ISOLATION_SNAPSHOT : KV_ISOLATION_SERIALIZABLE;
	w->work.lock_timeout_ms = w->crash ? 200 : HOUR_MS;
	sim_env_sync_latency(w->sim, latency_us[test_rng_below(rng, 4)]);
	history_work_init(&w->work, TXNS_MAX);
	for (unsigned i = 0; i < w->clients; i++)
		schedule_own_init(&w->own[i], NULL, i);
}

static void run_world(void *arg)
{
	struct world *w = arg;
	struct test_rng rng = {w->seed};
	struct os_thread thread[CLIENTS_MAX];

	choose(w, &rng);
	open_db(w, &rng);
	if (w->crash == CUT)
		sim_env_cut(w->sim, 1 + test_rng_below(&rng, 100));
	pct_disturb();
	for (unsigned i = 0; i < w->clients; i++)
		KV_ASSERT(!os_thread_start(&thread[i], "client", client, w));
	for (unsigned i = 0; i < w->clients; i++)
		os_thread_join(&thread[i]);
	if (w->crash)
		after_crash(w, &rng);
	check(w);
	if (kv_close(w->db))
		failed("kv_close", "an error");
	verify(w, false);
}

static struct pct_result run_seed(struct sim_env *empty, uint64_t seed, struct world *w)
{
	struct pct_result r;

	running = seed;
	*w = (struct world){.seed = seed};
	w->sim = sim_env_clone(empty, seed);
	pct_run(seed, run_world, w, &r);
	w->written = sim_env_bytes_written(w->sim);
	for (unsigned i = 0; i < w->work.txn_count; i++)
		w->commits += w->work.txns[i].fate == HISTORY_COMMITTED;
	for (unsigned i = 0; i < w->clients; i++) {
		w->commits += w->own[i].made;
		schedule_own_fini(&w->own[i]);
	}
	history_work_fini(&w->work);
	sim_env_free(w->sim);
	return r;
}

static void one_seed(struct sim_env *empty, uint64_t seed, struct sums *sums)
{
	struct world w, again;
	struct pct_result r = run_seed(empty, seed, &w);

	sums->seeds++;
	sums->points += r.steps;
	sums->switches += r.switches;
	sums->threads += r.threads;
	sums->commits += w.commits;
	sums->crashes += w.crash != NO_CRASH;
	if (sums->seeds % TWICE != 1)
		return;
	struct pct_result same = run_seed(empty, seed, &again);

	sums->twice++;
	if (r.trace != same.trace || r.steps != same.steps || r.now_ns != same.now_ns ||
	    w.written != again.written)
		failed("the same seed", "another run");
}

static void make_empty(void *arg)
{
	const struct kv_create_options o = {
		.log_size_bytes = 1U << 20, .compress = "none", .env = sim_env_os(arg)};
	int err = kv_create(VOLUME, &o);

	if (err)
		failed("kv_create", kv_strerror(err));
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], name, strlen(name)) == 0)
			return strtoull(argv[i] + strlen(name), NULL, 0);
	}
	return otherwise;
}

int main(int argc, char **argv)
{
	uint64_t first = option(argc, argv, "-seed=", 1);
	uint64_t count = option(argc, argv, "-seeds=", 1000);
	struct sim_env *empty = sim_env_new(1);
	struct pct_result r;
	struct sums sums = {0};

	mallopt(M_PERTURB, 0xa5); /* what is freed and used all the same is seen to be wrong */
	/* Memory stays with the process: two thirds of the time would go into mapping it. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	mallopt(M_TOP_PAD, 64 << 20);
	schedule_self_check();
	signal(SIGABRT, tell_seed);
	signal(SIGSEGV, tell_seed);
	pct_run(1, make_empty, empty, &r);
	for (uint64_t seed = first; seed < first + count; seed++)
		one_seed(empty, seed, &sums);
	sim_env_free(empty);
	printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " crashes, %" PRIu64
	       " run twice; in the mean %" PRIu64 " threads, %" PRIu64 " commits, %" PRIu64
	       " points, %" PRIu64 " switches\n",
	       sums.seeds, first, sums.crashes, sums.twice, sums.threads / sums.seeds,
	       sums.commits / sums.seeds, sums.points / sums.seeds, sums.switches / sums.seeds);
	return 0;
}
