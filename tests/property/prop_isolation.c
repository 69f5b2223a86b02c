/* SPDX-License-Identifier: MIT */
/*
 * Isolation under real threads: random transactions (tests/support/history_work.h) and the
 * history they made, checked for anomalies. Then the same with a crash in the middle: what was
 * acknowledged as durable is there, what survives is a prefix of the commits and consistent, and
 * what was prepared is resolved either way.
 *
 * The checker is itself checked: at snapshot level it must find write skew, and with transactions
 * that read behind their transaction's back it must find the updates they lose.
 *
 * usage: prop_isolation [SEED [ROUNDS]]
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kvcore/base/base.h"
#include "kvcore/base/bytes.h"
#include "kvcore/kvcore.h"
#include "kvcore/kvcore_check.h"
#include "kvcore/os/os_thread.h"
#include "tests/support/history_work.h"
#include "tests/support/sim_env.h"
#include "tests/support/test_suite.h"

#define VOLUME	"vol"
#define THREADS 4U
#define TXNS	500U

struct phase {
	struct history_work work;
	uint64_t crash; /* when so many have begun; 0: not at all */
	bool killed;	/* the crash was of the process only */
	struct sim_env *sim;
	uint64_t seed;
	_Atomic unsigned next;
	_Atomic unsigned threads;
};

static void run(void *arg)
{
	struct phase *p = arg;
	struct test_rng rng = {p->seed * 31 + atomic_fetch_add(&p->threads, 1)};
	unsigned index;

	while ((index = atomic_fetch_add(&p->next, 1)) < TXNS) {
		int err = history_work_txn(&p->work, index, &rng);

		if (err && (!history_work_refused(err) || err == -KV_E_LOCK_TIMEOUT) && !p->crash) {
			printf("seed %" PRIu64 ": transaction %u: %s\n", p->seed, index,
			       kv_strerror(err));
			fflush(stdout);
			abort();
		}
		if (err && !history_work_refused(err))
			return;
	}
}

/* ---- a phase ----------------------------------------------------------------------------------
 */

static struct kv_db *open_db(struct sim_env *sim)
{
	const struct kv_options o = {
		.env = sim_env_os(sim), .cache_bytes = 8U << 20, .memtable_bytes = 64U << 10};
	struct kv_db *db = NULL;
	int err = kv_open(VOLUME, &o, &db);

	if (err) {
		printf("open: %s\n", kv_strerror(err));
		abort();
	}
	return db;
}

static void crash_midway(struct phase *p, struct test_rng *rng)
{
	static const enum sim_crash modes[] = {SIM_CRASH_KILL, SIM_CRASH_DROP, SIM_CRASH_MIX,
					       SIM_CRASH_GARBAGE};
	enum sim_crash mode = modes[test_rng_below(rng, 4)];

	while (atomic_load(&p->next) < p->crash)
		sched_yield();
	sim_env_crash(p->sim, mode);
	p->killed = mode == SIM_CRASH_KILL;
}

static unsigned phase(struct sim_env *sim, struct kv_db **db, struct phase p, bool crash,
		      bool quiet)
{
	struct test_rng rng = {p.seed};
	struct os_thread thread[THREADS];
	unsigned found;

	p.work.db = *db;
	p.sim = sim;
	p.crash = crash ? 50 + test_rng_below(&rng, TXNS - 100) : 0;
	/* After a crash what was prepared keeps its locks; before, a time-out is a missed deadlock.
	 */
	p.work.lock_timeout_ms = crash ? 200 : 60000;
	history_work_init(&p.work, TXNS);
	for (unsigned i = 0; i < THREADS; i++)
		KV_ASSERT(!os_thread_start(&thread[i], "client", run, &p));
	if (crash)
		crash_midway(&p, &rng);
	for (unsigned i = 0; i < THREADS; i++)
		os_thread_join(&thread[i]);
	if (crash) {
		(void)!kv_close(p.work.db);
		*db = p.work.db = open_db(sim);
		history_work_resolve(&p.work, p.killed, &rng);
	}
	found = history_work_check(&p.work, crash, quiet);
	history_work_fini(&p.work);
	return found;
}

static unsigned base_next;

static struct phase phase_of(enum kv_isolation isolation, uint64_t seed)
{
	return (struct phase){.work = {.isolation = isolation, .base = base_next++}, .seed = seed};
}

static void failed(const char *what, uint64_t seed, unsigned found)
{
	printf("seed %" PRIu64 ": %s: anomalies 0x%x\n", seed, what, found);
	fflush(stdout);
	abort();
}

/* Returns what was found at snapshot level, which allows some. */
static unsigned one_round(struct sim_env *sim, struct kv_db **db, uint64_t seed)
{
	const unsigned allowed = HISTORY_G2 | HISTORY_COMMITS;
	unsigned found, skew = 0;

	for (int crash = 0; crash < 2; crash++) {
		found = phase(sim, db, phase_of(KV_ISOLATION_SNAPSHOT, seed), crash, true);
		if (found & ~allowed)
			failed("snapshot", seed, found);
		skew |= found;
		found = phase(sim, db, phase_of(KV_ISOLATION_SERIALIZABLE, seed), crash, false);
		if (found)
			failed("serializable", seed, found);
	}
	return skew;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL) << 8;
	uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 3;
	struct kv_create_options c = {.log_size_bytes = 4U << 20};
	struct sim_env *sim = sim_env_new(seed);
	unsigned skew = 0, broken = 0;
	struct kv_db *db;

	c.env = sim_env_os(sim);
	KV_ASSERT(!kv_create(VOLUME, &c));
	db = open_db(sim);
	printf("first seed %" PRIu64 "\n", seed);
	for (uint64_t n = 0; n < rounds; n++)
		skew |= one_round(sim, &db, seed + n);
	for (unsigned n = 0; n < 20 && !(skew & HISTORY_G2); n++)
		skew |= phase(sim, &db, phase_of(KV_ISOLATION_SNAPSHOT, seed + n), false, true);
	for (unsigned n = 0; n < 20 && !(broken & (HISTORY_LOST | HISTORY_G_SINGLE)); n++) {
		struct phase p = phase_of(KV_ISOLATION_SERIALIZABLE, seed + n);

		p.work.broken = true;
		broken |= phase(sim, &db, p, false, true);
	}
	if (!(skew & HISTORY_G2))
		failed("the checker finds no write skew at snapshot level", seed, skew);
	if (!(broken & (HISTORY_LOST | HISTORY_G_SINGLE)))
		failed("the checker finds no lost update", seed, broken);
	printf("%" PRIu64 " passed, 0 failed; at snapshot level 0x%x, broken 0x%x\n", rounds, skew,
	       broken);
	KV_ASSERT(!kv_close(db));
	sim_env_free(sim);
	return 0;
}
