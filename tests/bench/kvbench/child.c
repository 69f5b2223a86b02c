/* SPDX-License-Identifier: MIT */
/*
 * The measured process. The clocks are read directly before and after the
 * threads work; opening, warming and settling are outside, but settling counts
 * for the bytes written, because an engine that defers its compaction has not
 * avoided it.
 */
#include "tests/bench/kvbench/child.h"

#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WRITER_PER_S  10000U /* puts a second of the thread that writes while others read */
#define WARM_SCAN_CAP 4000000U

static uint64_t process_cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static uint64_t written_bytes(void)
{
	FILE *io = fopen("/proc/self/io", "r");
	char line[128];
	uint64_t bytes = 0;

	while (io && fgets(line, sizeof(line), io)) {
		if (sscanf(line, "write_bytes: %" SCNu64, &bytes) == 1)
			break;
	}
	if (io)
		fclose(io);
	return bytes;
}

/* nftw() has no argument for its callback, and this process measures one directory. */
static uint64_t tree_blocks;

static int add_blocks(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type == FTW_F)
		tree_blocks += (uint64_t)st->st_blocks;
	return 0;
}

static uint64_t space_of(const char *dir)
{
	tree_blocks = 0;
	if (nftw(dir, add_blocks, 16, FTW_PHYS))
		return 0;
	return tree_blocks * 512U;
}

/* ---- threads ---------------------------------------------------------- */

static bool worker_go_on(const struct worker *w, uint64_t done, uint64_t end_ns, uint64_t now)
{
	const struct run *run = w->run;

	return done < run->ops_max && now < end_ns && !atomic_load(&w->run->stop);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	const struct workload *load = w->run->workload;
	uint64_t now = now_ns();
	uint64_t end = now + w->run->ns_max;
	uint64_t cpu = thread_cpu_ns();
	uint64_t i = 0;

	while (!w->err && worker_go_on(w, i, end, now)) {
		uint64_t from = now_ns();

		w->err = load->op(w, w->first + i++);
		now = now_ns();
		hist_add(&w->hist, now - from);
		for (unsigned k = 1; k < load->sample && i < w->run->ops_max && !w->err; k++)
			w->err = load->op(w, w->first + i++);
	}
	w->ops = i;
	w->cpu_ns = thread_cpu_ns() - cpu;
	return NULL;
}

static void *writer_main(void *arg)
{
	struct worker *w = arg;
	struct run *run = w->run;
	uint64_t start = now_ns();
	uint8_t key[KEY_LEN];

	while (!w->err && !atomic_load(&run->stop)) {
		uint64_t due = (now_ns() - start) / (1000000000U / WRITER_PER_S);

		for (; w->ops < due && !w->err; w->ops++)
			w->err = run->engine->put(w->session,
						  key_present(rng_below(&w->rng, run->keys), key),
						  value_any(&run->values, &w->rng));
		usleep(1000);
	}
	return NULL;
}

struct crew {
	struct worker *workers; /* the last is the writer, if there is one */
	pthread_t *threads;
	unsigned count;
};

static int crew_init(struct crew *crew, struct run *run, uint64_t seed)
{
	unsigned count = run->workload->threads + (run->workload->writer ? 1 : 0);

	*crew = (struct crew){calloc(count, sizeof(struct worker)),
			      calloc(count, sizeof(pthread_t)), count};
	if (!crew->workers || !crew->threads)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		struct worker *w = &crew->workers[i];

		w->run = run;
		w->first = run->keys / run->workload->threads * i;
		rng_seed(&w->rng, seed + i);
		if (run->engine->session_open(run->db, &w->session))
			return -1;
	}
	return 0;
}

static void crew_fini(struct crew *crew, struct run *run)
{
	for (unsigned i = 0; i < crew->count; i++) {
		struct worker *w = &crew->workers[i];

		if (w->session)
			run->engine->session_close(w->session);
		if (w->room.cap)
			free(w->room.data);
	}
	free(crew->workers);
	free(crew->threads);
}

static void crew_work(struct crew *crew, struct run *run)
{
	unsigned threads = run->workload->threads;

	if (crew->count == 1) {
		worker_main(&crew->workers[0]);
		return;
	}
	for (unsigned i = 0; i < crew->count; i++) {
		if (pthread_create(&crew->threads[i], NULL, i < threads ? worker_main : writer_main,
				   &crew->workers[i]))
			abort();
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(crew->threads[i], NULL);
	atomic_store(&run->stop, true);
	if (crew->count > threads)
		pthread_join(crew->threads[threads], NULL);
}

static int crew_sum(const struct crew *crew, const struct run *run, struct run_result *out)
{
	struct hist *all = calloc(1, sizeof(*all));
	int err = all ? 0 : -1;

	for (unsigned i = 0; i < crew->count && !err; i++) {
		const struct worker *w = &crew->workers[i];

		err = w->err;
		if (i >= run->workload->threads)
			break;
		hist_merge(all, &w->hist);
		out->ops += run->workload->unit ? w->ops * run->workload->unit : w->entries;
		out->cpu_front += w->cpu_ns;
	}
	if (all) {
		out->p50 = hist_quantile(all, 0.5);
		out->p99 = hist_quantile(all, 0.99);
		out->p999 = hist_quantile(all, 0.999);
	}
	free(all);
	return err;
}

/* ---- preparations ----------------------------------------------------- */

/* Bring what fits into the cache, or the first gets would measure the disk. */
static int warm(struct run *run, void *session)
{
	uint64_t seen = 0;
	uint64_t bytes = 0;

	return run->engine->scan(session, (struct bytes){NULL, 0}, WARM_SCAN_CAP, &seen, &bytes);
}

/* A few keys for transactions to fight over. */
static int load_hot(struct run *run)
{
	struct worker w = {.run = run};
	uint8_t key[KEY_LEN];
	int err = run->engine->session_open(run->db, &w.session);

	rng_seed(&w.rng, 1);
	for (uint64_t i = 0; i < HOT_KEYS && !err; i++)
		err = run->engine->put(w.session, key_present(i, key),
				       value_any(&run->values, &w.rng));
	if (w.session)
		run->engine->session_close(w.session);
	return err;
}

/* Some engines have a cache a session, so each is warmed through its own. */
static int prepare(struct run *run, const struct crew *crew)
{
	int err = run->workload->transactions ? load_hot(run) : 0;

	if (run->workload->start != START_LOADED)
		return err;
	for (unsigned i = 0; i < run->workload->threads && !err; i++)
		err = warm(run, crew->workers[i].session);
	return err;
}

static bool workload_writes(const struct workload *load)
{
	return load->kind == KIND_OPS && !load->sync && !load->transactions && load->once &&
	       load->unit > 0;
}

/* ---- one run ---------------------------------------------------------- */

static int run_ops(const struct run_spec *spec, struct run *run, struct run_result *out)
{
	const struct engine *engine = spec->engine;
	struct crew crew = {NULL, NULL, 0};
	uint64_t wall;
	uint64_t cpu;
	int err = engine->open(&spec->settings, &run->db);

	if (err)
		return err;
	/* What making the database wrote is not the workload's. */
	out->disk_writes = written_bytes();
	err = crew_init(&crew, run, 77);
	if (!err)
		err = prepare(run, &crew);
	if (!err) {
		cpu = process_cpu_ns();
		wall = now_ns();
		crew_work(&crew, run);
		out->wall = now_ns() - wall;
		out->cpu = process_cpu_ns() - cpu;
		err = crew_sum(&crew, run, out);
	}
	crew_fini(&crew, run);
	if (!err && workload_writes(spec->workload)) {
		out->user_bytes = out->ops * (KEY_LEN + spec->value_len);
		cpu = process_cpu_ns();
		if (engine->settle)
			err = engine->settle(run->db);
		out->settle_cpu = process_cpu_ns() - cpu;
	}
	if (engine->fixed_bytes)
		out->fixed = engine->fixed_bytes(run->db);
	if (engine->close(run->db))
		err = -1;
	out->disk_writes = written_bytes() - out->disk_writes;
	return err;
}

static int run_open(const struct run_spec *spec, struct run *run, struct run_result *out)
{
	const struct engine *engine = spec->engine;
	struct worker w = {.run = run};
	uint8_t key[KEY_LEN];
	uint64_t cpu = process_cpu_ns();
	uint64_t wall = now_ns();
	int err = engine->open(&spec->settings, &run->db);

	if (!err)
		err = engine->session_open(run->db, &w.session);
	if (!err && engine->get(w.session, key_present(0, key), &w.room))
		err = -1;
	out->wall = now_ns() - wall;
	out->cpu = out->cpu_front = process_cpu_ns() - cpu;
	out->p50 = out->p99 = out->p999 = out->wall;
	out->ops = spec->workload->kind == KIND_REPLAY ? spec->keys : 1;
	if (err)
		return err;
	engine->session_close(w.session);
	if (w.room.cap)
		free(w.room.data);
	return engine->close(run->db);
}

/* Puts without sync and dies without closing. */
static void die_after_puts(const struct run_spec *spec, struct run *run)
{
	struct worker w = {.run = run};
	uint8_t key[KEY_LEN];
	int err = spec->engine->open(&spec->settings, &run->db);

	if (!err)
		err = spec->engine->session_open(run->db, &w.session);
	rng_seed(&w.rng, 5);
	for (uint64_t i = 0; i < spec->keys && !err; i++)
		err = spec->engine->put(w.session, key_present(shuffled(i, spec->keys), key),
					value_any(&run->values, &w.rng));
	_exit(err ? 1 : 0);
}

static int run_replay(const struct run_spec *spec, struct run *run, struct run_result *out)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		die_after_puts(spec, run);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return -1;
	return run_open(spec, run, out);
}

static void child_main(const struct run_spec *spec, int fd)
{
	struct run_result out = {0};
	struct run run = {.engine = spec->engine,
			  .workload = spec->workload,
			  .keys = spec->keys,
			  .ops_max = spec->ops_max,
			  .ns_max = spec->ns_max};

	out.err = values_init(&run.values, spec->value_len);
	zipf_init(&run.zipf, spec->keys);
	if (!out.err && spec->workload->kind == KIND_OPEN)
		out.err = run_open(spec, &run, &out);
	else if (!out.err && spec->workload->kind == KIND_REPLAY)
		out.err = run_replay(spec, &run, &out);
	else if (!out.err)
		out.err = run_ops(spec, &run, &out);
	values_fini(&run.values);
	out.space = space_of(spec->settings.dir);
	_exit(write(fd, &out, sizeof(out)) == (ssize_t)sizeof(out) ? 0 : 1);
}

int child_run(const struct run_spec *spec, struct run_result *out)
{
	struct run_result result = {.err = -1};
	struct rusage usage;
	int fds[2];
	int status;
	pid_t pid;

	fflush(NULL);
	if (pipe(fds))
		return -1;
	pid = fork();
	if (pid == 0)
		child_main(spec, fds[1]);
	close(fds[1]);
	if (read(fds[0], &result, sizeof(result)) != (ssize_t)sizeof(result))
		result.err = -1;
	close(fds[0]);
	if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status != 0)
		return -1;
	result.peak_rss = (uint64_t)usage.ru_maxrss * 1024U;
	*out = result;
	return result.err ? -1 : 0;
}
