/* SPDX-License-Identifier: MIT */
/*
 * The nth operation of one kind fails, once or from then on, for every n until the workload passes
 * untouched: allocations of the engine and of OpenSSL, thread creation, reads, writes, syncs.
 * No crash, no hang, no leak; each error is told to the caller and explained by the fault;
 * after reopening without faults, or after a power loss, nothing that was acknowledged is lost,
 * nothing is there by half, and kv_verify() finds nothing.
 *
 *   crash_faults            a sample (the test)
 *   crash_faults -full      every n
 *   -shard=I/N              each Nth case from the Ith on, to run several at once
 *   -kind=NAME -n=N         only these; -trace: where the fault strikes, as addresses
 *
 * Each kind runs in a child process that is replaced when it dies, so one crash does not hide the
 * cases behind it.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "tests/crash/fault_work.h"
#include "tests/support/fault_points.h"

#define CASE_SECONDS 60	 /* a case takes milliseconds; longer than this it hangs */
#define THIN	     8U	 /* with LeakSanitizer, which takes a second for each case, so many fewer */
#define ENOUGH	     20U /* findings, or deaths of a child, after which a kind is given up */

struct kind {
	const char *name;
	bool on_host;	  /* a fault of sim_env.h, else of fault_points.h */
	unsigned op;	  /* enum sim_op or enum fault_point */
	int err;	  /* what the caller is told */
	unsigned samples; /* cases of the test */
};

static const struct kind kinds[] = {
	{"memory", false, FAULT_MEMORY, -ENOMEM, 130},
	{"crypto", false, FAULT_CRYPTO, -ENOMEM, 20},
	{"thread", false, FAULT_THREAD, -EAGAIN, 20},
	{"read", true, SIM_OP_READ, -EIO, 50},
	{"write", true, SIM_OP_WRITE, -EIO, 60},
	{"table-write", true, SIM_OP_WRITE_DIRECT, -EIO, 30},
	{"sync", true, SIM_OP_SYNC, -EIO, 40},
};

static const struct work_kind {
	const char *name;
	void (*run)(struct fault_run *r);
	bool filled; /* on a volume that fault_work_fill() has made */
} works[] = {
	{"life", fault_work_life, false},
	{"full", fault_work_full, true},
};

/* Shared by the parent and the child that works. */
struct progress {
	char step[160];
	uint64_t n; /* the case that was begun last */
	unsigned w;
	bool for_good;
	bool done; /* all cases of the kind */
	uint64_t cases, calls, struck, failed, findings;
};

static struct progress *shared;
static struct fault_run run, filled;
static const struct kind *kind;
static bool full;
static bool healed; /* from now on no error has an excuse */
static uint64_t only_n;
static const char *only_kind;
static unsigned long shard, shards = 1;

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static bool struck(void)
{
	uint64_t n;

	if (healed)
		return false;
	if (!kind->on_host)
		return fault_points_struck((enum fault_point)kind->op);
	n = sim_env_calls(run.sim, (enum sim_op)kind->op);
	return shared->n && n >= shared->n;
}

static void arm(uint64_t n, bool for_good)
{
	fault_points_arm(FAULT_MEMORY, 0, false); /* counts begin anew */
	if (kind->on_host)
		sim_env_fail(run.sim, (enum sim_op)kind->op, n, for_good, kind->err);
	else
		fault_points_arm((enum fault_point)kind->op, n, for_good);
}

static void heal(void)
{
	fault_points_heal();
	sim_env_heal(run.sim);
}

static uint64_t calls(void)
{
	return kind->on_host ? sim_env_calls(run.sim, (enum sim_op)kind->op)
			     : fault_points_calls((enum fault_point)kind->op);
}

/* A handle that met faults works again without them, unless it is poisoned. */
static void use_again(void)
{
	int err = 0;

	if (!run.db || run.m.poisoned)
		return;
	run.m.may_be_full = true;
	fault_work_put(&run, 0, 0);
	if (!run.m.poisoned && !run.gave_up)
		fault_model_compare(&run.m, run.db, NULL, &run.m.past[run.m.last], NULL);
	err = kv_sync(run.db);
	if (fault_model_read(&run.m, err, "kv_sync"))
		fault_model_synced(&run.m);
}

/* The workload has ended: close in one of several ways, open, and judge. */
static void judge(uint64_t n)
{
	int err;

	if (n % 2)
		heal();
	if (n % 2)
		use_again();
	if (n / 2 % 2) {
		sim_env_crash(run.sim, SIM_CRASH_MIX);
		run.lossy = run.torn = true;
	}
	err = fault_work_close(&run);
	if (!run.lossy && fault_model_read(&run.m, err, "the last kv_close"))
		fault_model_synced(&run.m);
	heal();
	if (!run.made)
		return;
	fault_work_verify(&run);
	run.m.poisoned = true; /* what is there has to be found out */
	run.for_good = true;   /* one opening must do */
	healed = true;
	fault_work_open(&run);
	if (!run.db)
		return;
	run.m.poisoned = false;
	run.m.may_be_full = true;
	fault_work_put(&run, 1, KV_COMMIT_SYNC);
	err = fault_work_close(&run);
	(void)fault_model_read(&run.m, err, "kv_close after all");
	run.torn = false;
	fault_work_verify(&run);
}

static void start(const struct work_kind *w)
{
	healed = false;
	sim_env_inside++; /* the host's memory is not what is looked at */
	if (w->filled) {
		struct sim_env *sim = sim_env_clone(filled.sim, 1);

		run = filled;
		run.sim = sim;
	} else {
		memset(&run, 0, sizeof(run));
		fault_model_init(&run.m);
		run.sim = sim_env_new(1);
	}
	sim_env_inside--;
}

static void end(void)
{
	sim_env_inside++;
	sim_env_free(run.sim);
	sim_env_inside--;
}

/* Returns whether the fault struck at all. */
static bool one_case(const struct work_kind *w, uint64_t n, bool for_good)
{
	int64_t live = fault_points_live();
	bool hit;

	start(w);
	run.for_good = for_good;
	run.lossy = kind->op == SIM_OP_SYNC && kind->on_host;
	run.torn = kind->on_host && kind->op != SIM_OP_READ;
	run.reads_fail = kind->op == SIM_OP_READ && kind->on_host;
	run.m.host = kind->err;
	run.m.may_be_lost = run.lossy;
	run.m.struck = struck;
	run.m.verbose = only_n;
	shared->n = n;
	shared->for_good = for_good;
	snprintf(run.m.what, sizeof(run.m.what), "-kind=%s -n=%llu, %s, %s", kind->name,
		 (unsigned long long)n, w->name, for_good ? "for good" : "once");
	memcpy(shared->step, run.m.what, sizeof(shared->step));
	alarm(CASE_SECONDS);
	arm(n, for_good);
	w->run(&run);
	hit = struck();
	shared->calls = max_u64(shared->calls, calls());
	judge(n);
	end();
	alarm(0);
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check())
		fault_model_finding(&run.m, "LeakSanitizer: above");
	if (fault_points_live() != live)
		fault_model_finding(&run.m, "%lld blocks of memory leaked",
				    (long long)(fault_points_live() - live));
	shared->cases++;
	shared->struck += hit;
	shared->failed += run.m.failed;
	shared->findings += run.m.findings;
	return hit;
}

/* ---- which cases ------------------------------------------------------------------ */

static bool mine(uint64_t i)
{
	return i % shards == shard;
}

/*
 * All n of one workload and one persistence, from @from on. The number of calls differs a little
 * from run to run, since threads take part, so it ends when some cases in a row were not struck.
 */
static void all_cases(const struct work_kind *w, bool for_good, uint64_t from, uint64_t stride)
{
	unsigned untouched = 0;

	for (uint64_t n = from; untouched < 3; n += stride) {
		if (mine(n / stride))
			untouched = one_case(w, n, for_good) ? 0 : untouched + 1;
		if (shared->findings >= ENOUGH)
			return;
	}
}

/* How many calls an untouched run makes; none of it may be found wanting. */
static uint64_t untouched_calls(const struct work_kind *w)
{
	uint64_t cases = shared->cases;

	shared->calls = 0;
	(void)one_case(w, 0, false);
	shared->cases = cases;
	return shared->calls;
}

/* The child's work: from the case behind the last one that was begun. */
static void child(void)
{
	static struct progress from;
	const unsigned samples = kind->samples / (__lsan_do_recoverable_leak_check ? THIN : 1);
	uint64_t n, stride;

	from = *shared;
	fault_points_init();
	sim_env_inside++;
	filled.sim = sim_env_new(1);
	sim_env_inside--;
	filled.m.struck = struck;
	run.sim = filled.sim;
	fault_work_fill(&filled);
	for (unsigned w = 0; w < KV_ARRAY_COUNT(works); w++) {
		n = only_n ? 0 : untouched_calls(&works[w]);
		stride = full ? 1 : (n / (samples / 4 + 1)) | 1;
		for (int g = 0; g < 2; g++) {
			if (from.n && (w < from.w || (w == from.w && g < from.for_good)))
				continue;
			shared->w = w;
			n = from.n && w == from.w && g == from.for_good ? from.n + stride : 1;
			if (only_n)
				(void)one_case(&works[w], only_n, g);
			else
				all_cases(&works[w], g, n, stride);
		}
	}
	shared->done = true;
}

/* Returns whether the kind passed. */
static bool run_kind(void)
{
	unsigned deaths = 0;
	int status;
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	while (!shared->done && deaths < ENOUGH && (!deaths || !only_n)) {
		fflush(stdout);
		pid = fork();
		if (pid < 0)
			return false;
		if (!pid) {
			child();
			fflush(stdout);
			_exit(0);
		}
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (!shared->done) {
			deaths++;
			printf("FINDING %s: %s %d\n", shared->step,
			       WIFSIGNALED(status) ? "killed by signal" : "ended with status",
			       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		}
	}
	printf("%s: %llu cases, %llu struck, %llu calls failed, %llu findings, %u deaths\n",
	       kind->name, (unsigned long long)shared->cases, (unsigned long long)shared->struck,
	       (unsigned long long)shared->failed, (unsigned long long)shared->findings, deaths);
	return !deaths && !shared->findings;
}

static bool parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-full"))
			full = true;
		else if (!strcmp(argv[i], "-trace"))
			fault_points_trace();
		else if (!strncmp(argv[i], "-kind=", 6))
			only_kind = argv[i] + 6;
		else if (!strncmp(argv[i], "-n=", 3))
			only_n = strtoull(argv[i] + 3, NULL, 10);
		else if (sscanf(argv[i], "-shard=%lu/%lu", &shard, &shards) != 2 || !shards ||
			 shard >= shards)
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	bool ok = true;

	if (!parse(argc, argv)) {
		fprintf(stderr, "usage: crash_faults [-full] [-shard=I/N] [-kind=NAME] [-n=N] "
				"[-trace]\n");
		return 2;
	}
	(void)mallopt(M_MMAP_THRESHOLD, 1 << 30); /* large buffers come and go with each case */
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < KV_ARRAY_COUNT(kinds); i++) {
		kind = &kinds[i];
		if (!only_kind || !strcmp(only_kind, kind->name))
			ok = run_kind() && ok;
	}
	return ok ? 0 : 1;
}
