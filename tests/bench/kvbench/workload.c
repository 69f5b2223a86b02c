/* SPDX-License-Identifier: MIT */
/*
 * The workloads: one function an operation, and the table of all. Read-only
 * ones on the loaded database come before those that change it.
 */
#include "tests/bench/kvbench/workload.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SEEK_NEXT 11U /* the entry found and 10 more */
#define E_SCAN	  100U

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t thread_cpu_ns(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static int wrong(const struct worker *w, const char *what)
{
	fprintf(stderr, "%s: %s: wrong answer: %s\n", w->run->engine->name, w->run->workload->name,
		what);
	return -1;
}

static int op_put(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	return run->engine->put(w->session, key_present(shuffled(index, run->keys), key),
				value_any(&run->values, &w->rng));
}

static int op_overwrite(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	(void)index;
	return run->engine->put(w->session, key_present(rng_below(&w->rng, run->keys), key),
				value_any(&run->values, &w->rng));
}

static int op_batch(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	struct pair pairs[BATCH_COUNT];
	uint8_t keys[BATCH_COUNT][KEY_LEN];

	for (uint64_t i = 0; i < BATCH_COUNT; i++) {
		uint64_t item = shuffled(index * BATCH_COUNT + i, run->keys);

		pairs[i].key = key_present(item, keys[i]);
		pairs[i].value = value_any(&run->values, &w->rng);
	}
	return run->engine->batch(w->session, pairs, BATCH_COUNT);
}

static int get_index(struct worker *w, uint64_t item)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];
	int err = run->engine->get(w->session, key_present(item, key), &w->room);

	if (err == ENGINE_ABSENT)
		return wrong(w, "a key that was written is absent");
	if (!err && w->room.len != run->values.value_len)
		return wrong(w, "length of a value");
	return err;
}

static int op_get(struct worker *w, uint64_t index)
{
	(void)index;
	return get_index(w, rng_below(&w->rng, w->run->keys));
}

static int op_get_absent(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];
	int err;

	(void)index;
	err = run->engine->get(w->session, key_absent(rng_below(&w->rng, run->keys), key),
			       &w->room);
	if (err == 0)
		return wrong(w, "a key that was never written is there");
	return err == ENGINE_ABSENT ? 0 : err;
}

static int op_seek(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	(void)index;
	return run->engine->scan(w->session, key_present(rng_below(&w->rng, run->keys), key),
				 SEEK_NEXT, &w->entries, &w->bytes);
}

static int op_scan(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint64_t before = w->entries;
	int err;

	(void)index;
	err = run->engine->scan(w->session, (struct bytes){NULL, 0}, SIZE_MAX, &w->entries,
				&w->bytes);
	if (!err && w->entries - before != run->keys)
		return wrong(w, "number of entries in a full scan");
	return err;
}

static int op_rmw(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	(void)index;
	return run->engine->rmw(w->session, key_present(rng_below(&w->rng, HOT_KEYS), key),
				&w->room);
}

/* ---- YCSB ------------------------------------------------------------- */

static int put_index(struct worker *w, uint64_t item)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	return run->engine->put(w->session, key_present(item, key),
				value_any(&run->values, &w->rng));
}

static int read_or_update(struct worker *w, unsigned read_percent)
{
	uint64_t item = zipf_scattered(&w->run->zipf, &w->rng);

	return rng_below(&w->rng, 100) < read_percent ? get_index(w, item) : put_index(w, item);
}

static int op_ycsb_a(struct worker *w, uint64_t index)
{
	(void)index;
	return read_or_update(w, 50);
}

static int op_ycsb_b(struct worker *w, uint64_t index)
{
	(void)index;
	return read_or_update(w, 95);
}

static int op_ycsb_c(struct worker *w, uint64_t index)
{
	(void)index;
	return read_or_update(w, 100);
}

static int insert_new(struct worker *w)
{
	return put_index(w, w->run->keys + atomic_fetch_add(&w->run->inserted, 1));
}

static int op_ycsb_d(struct worker *w, uint64_t index)
{
	uint64_t newest = w->run->keys + atomic_load(&w->run->inserted);
	uint64_t back = zipf_rank(&w->run->zipf, &w->rng);

	(void)index;
	if (rng_below(&w->rng, 100) >= 95)
		return insert_new(w);
	return get_index(w, newest - 1 - back);
}

static int op_ycsb_e(struct worker *w, uint64_t index)
{
	struct run *run = w->run;
	uint8_t key[KEY_LEN];

	(void)index;
	if (rng_below(&w->rng, 100) >= 95)
		return insert_new(w);
	return run->engine->scan(w->session, key_present(zipf_scattered(&run->zipf, &w->rng), key),
				 1 + rng_below(&w->rng, E_SCAN), &w->entries, &w->bytes);
}

static int op_ycsb_f(struct worker *w, uint64_t index)
{
	uint64_t item = zipf_scattered(&w->run->zipf, &w->rng);
	int err = get_index(w, item);

	(void)index;
	if (!err && rng_below(&w->rng, 100) < 50)
		err = put_index(w, item);
	return err;
}

/* ---- the table -------------------------------------------------------- */

/* clang-format off */
const struct workload workloads[] = {
	{"fill", "random put, no sync", START_FILL, .threads = 1, .once = true, .sample = 1,
	 .unit = 1, .op = op_put},
	{"open", "open after a clean close, and one get", START_LOADED, KIND_OPEN, .threads = 1},
	{"get", "cached get", START_LOADED, .threads = 1, .sample = 8, .unit = 1, .op = op_get},
	{"get2", "cached get, 2 threads", START_LOADED, .threads = 2, .sample = 8, .unit = 1,
	 .op = op_get},
	{"absent", "get of an absent key", START_LOADED, .threads = 1, .sample = 8, .unit = 1,
	 .op = op_get_absent},
	{"seek", "seek and 10 next", START_LOADED, .threads = 1, .sample = 1, .unit = 1,
	 .op = op_seek},
	{"scan", "full scan, an entry", START_LOADED, .threads = 1, .once = true, .sample = 1,
	 .op = op_scan},
	{"getw", "get while another thread writes", START_LOADED, .threads = 1, .writer = true,
	 .sample = 8, .unit = 1, .op = op_get},
	{"overwrite", "random overwrite, no sync", START_LOADED, .threads = 1, .once = true,
	 .sample = 1, .unit = 1, .op = op_overwrite},
	{"ycsb-c", "YCSB C: read", START_LOADED, .threads = 2, .sample = 8, .unit = 1,
	 .op = op_ycsb_c},
	{"ycsb-b", "YCSB B: 95 read, 5 update", START_LOADED, .threads = 2, .sample = 1, .unit = 1,
	 .op = op_ycsb_b},
	{"ycsb-a", "YCSB A: 50 read, 50 update", START_LOADED, .threads = 2, .sample = 1,
	 .unit = 1, .op = op_ycsb_a},
	{"ycsb-f", "YCSB F: 50 read, 50 read and write", START_LOADED, .threads = 2, .sample = 1,
	 .unit = 1, .op = op_ycsb_f},
	{"ycsb-d", "YCSB D: 95 read latest, 5 insert", START_LOADED, .threads = 1, .sample = 1,
	 .unit = 1, .op = op_ycsb_d},
	{"ycsb-e", "YCSB E: 95 short scans, 5 insert", START_LOADED, .threads = 1, .sample = 1,
	 .unit = 1, .op = op_ycsb_e},
	{"batch", "batches of 100 puts, a put", START_EMPTY, .threads = 1, .once = true,
	 .sample = 1, .unit = BATCH_COUNT, .op = op_batch},
	{"sync1", "synced commits", START_EMPTY, .threads = 1, .sync = true, .timed = true,
	 .sample = 1, .unit = 1, .op = op_put},
	{"sync16", "synced commits, 16 threads", START_EMPTY, .threads = 16, .sync = true,
	 .timed = true, .sample = 1, .unit = 1, .op = op_put},
	{"sync64", "synced commits, 64 threads", START_EMPTY, .threads = 64, .sync = true,
	 .timed = true, .sample = 1, .unit = 1, .op = op_put},
	{"rmw1", "contended transactions", START_EMPTY, .threads = 1, .transactions = true,
	 .timed = true, .sample = 1, .unit = 1, .op = op_rmw},
	{"rmw4", "contended transactions, 4 threads", START_EMPTY, .threads = 4,
	 .transactions = true, .timed = true, .sample = 1, .unit = 1, .op = op_rmw},
	{"rmw16", "contended transactions, 16 threads", START_EMPTY, .threads = 16,
	 .transactions = true, .timed = true, .sample = 1, .unit = 1, .op = op_rmw},
	{"replay", "open after the process died, a put", START_EMPTY, KIND_REPLAY, .threads = 1},
};
/* clang-format on */
const size_t workload_count = sizeof(workloads) / sizeof(workloads[0]);

bool workload_fits(const struct workload *workload, const struct engine *engine)
{
	if (!engine->get) /* the bare disk */
		return workload->sync;
	if (workload->transactions)
		return engine->rmw != NULL;
	return workload->op != op_batch || engine->batch != NULL;
}
