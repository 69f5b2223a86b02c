/* SPDX-License-Identifier: MIT */
/*
 * kvbench: this engine and its peers at the same work on the same machine.
 *
 * Contestants run in turn, workload by workload and round by round, so that
 * other load of the machine meets all of them alike. Results are lines of
 * name=value; tests/bench/report makes tables of them and tests/bench/plot
 * pictures.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <ftw.h>

#include "tests/bench/kvbench/child.h"

static const struct engine *const engines[] = {
	&engine_kvcore,
#ifdef HAVE_LEVELDB
	&engine_leveldb,
#endif
#ifdef HAVE_ROCKSDB
	&engine_rocksdb,
#endif
#ifdef HAVE_LMDB
	&engine_lmdb,
#endif
#ifdef HAVE_SQLITE
	&engine_sqlite,
#endif
#ifdef HAVE_BDB
	&engine_bdb,
#endif
#ifdef HAVE_WIREDTIGER
	&engine_wiredtiger,
#endif
	&engine_bare,
};
#define ENGINE_COUNT (sizeof(engines) / sizeof(engines[0]))

struct config {
	const char *dir;
	const char *engine_list;   /* NULL: all */
	const char *workload_list; /* NULL: all */
	const char *value_list;
	FILE *lines;
	uint64_t cache_mib;
	uint64_t data_mib;
	uint64_t keys_max;
	unsigned rounds;
	double seconds;
	bool direct;
};

static void usage(FILE *out)
{
	fputs("usage: kvbench [OPTION]... DIR\n"
	      "Compare kvcore with other engines; DIR is for their files.\n"
	      "  -e LIST     engines, separated by commas (all)\n"
	      "  -w LIST     workloads (all)\n"
	      "  -v LIST     lengths of values in bytes (100,1024,16384)\n"
	      "  -c MIB      cache of each engine (256)\n"
	      "  -d MIB      size of the data, keys and values (64)\n"
	      "  -k COUNT    at most so many keys (no limit)\n"
	      "  -r COUNT    rounds (3)\n"
	      "  -s SECONDS  longest measured part of a run (5)\n"
	      "  -D          direct I/O for peers that have it (for data larger than the cache)\n"
	      "  -o FILE     append result lines to FILE (standard output)\n"
	      "  -l          list engines with their settings, and workloads\n"
	      "  -h          this help\n",
	      out);
}

/* Is the word in a list separated by commas? A NULL list holds everything. */
static bool listed(const char *list, const char *word)
{
	size_t len = strlen(word);

	if (!list)
		return true;
	for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		if (strncmp(at, word, len) == 0 && (at[len] == ',' || at[len] == 0))
			return true;
	}
	return false;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int fresh_dir(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return mkdir(dir, 0755);
}

static struct engine_settings settings_of(const struct config *config,
					  const struct workload *workload)
{
	size_t cache = (size_t)config->cache_mib << 20;
	size_t memtable = cache / 8 < (64U << 20) ? cache / 8 : 64U << 20;

	return (struct engine_settings){.cache_bytes = cache,
					.memtable_bytes = memtable,
					.data_bytes = config->data_mib << 20,
					.sync = workload && workload->sync,
					.transactions = workload && workload->transactions,
					.direct_io = config->direct};
}

static void print_line(FILE *out, unsigned round, const struct run_spec *spec,
		       const struct run_result *r)
{
	fprintf(out,
		"run engine=%s workload=%s value=%zu threads=%u round=%u keys=%" PRIu64
		" ops=%" PRIu64 " wall_ns=%" PRIu64 " cpu_ns=%" PRIu64 " cpu_front_ns=%" PRIu64
		" p50_ns=%" PRIu64 " p99_ns=%" PRIu64 " p999_ns=%" PRIu64 " settle_cpu_ns=%" PRIu64
		" user_bytes=%" PRIu64 " disk_writes=%" PRIu64 " space=%" PRIu64 " fixed=%" PRIu64
		" peak_rss=%" PRIu64 "\n",
		spec->engine->name, spec->workload->name, spec->value_len, spec->workload->threads,
		round, spec->keys, r->ops, r->wall, r->cpu, r->cpu_front, r->p50, r->p99, r->p999,
		r->settle_cpu, r->user_bytes, r->disk_writes, r->space, r->fixed, r->peak_rss);
	fflush(out);
}

static uint64_t ops_limit(const struct workload *workload, uint64_t keys)
{
	if (workload->timed)
		return UINT64_MAX;
	if (workload->once)
		return workload->unit ? keys / workload->unit : 1;
	return keys * 4;
}

static int run_one(const struct config *config, const struct workload *workload,
		   const struct engine *engine, size_t value_len, unsigned round)
{
	char dir[512];
	struct run_result result;
	struct run_spec spec = {.engine = engine,
				.workload = workload,
				.settings = settings_of(config, workload),
				.value_len = value_len};
	bool shared = workload->start != START_EMPTY;
	int err;

	snprintf(dir, sizeof(dir), "%s/%s.%zu.%s", config->dir, engine->name, value_len,
		 shared ? "loaded" : "empty");
	spec.settings.dir = dir;
	spec.keys = (config->data_mib << 20) / (KEY_LEN + value_len);
	if (config->keys_max && spec.keys > config->keys_max)
		spec.keys = config->keys_max;
	/* A replay needs the whole of the data in the log, so no more than half a memtable. */
	if (workload->kind == KIND_REPLAY &&
	    spec.keys > spec.settings.memtable_bytes / 2 / (KEY_LEN + value_len))
		spec.keys = spec.settings.memtable_bytes / 2 / (KEY_LEN + value_len);
	if (spec.keys < 2 * BATCH_COUNT)
		spec.keys = 2 * BATCH_COUNT;
	spec.ops_max = ops_limit(workload, spec.keys);
	spec.ns_max = workload->once ? UINT64_MAX / 2 : (uint64_t)(config->seconds * 1e9);
	if (workload->start != START_LOADED && fresh_dir(dir)) {
		perror(dir);
		return -1;
	}
	err = child_run(&spec, &result);
	if (err)
		fprintf(stderr, "kvbench: %s: %s failed\n", engine->name, workload->name);
	else
		print_line(config->lines, round, &spec, &result);
	if (!shared)
		(void)fresh_dir(dir);
	return err;
}

static int run_round(const struct config *config, size_t value_len, unsigned round)
{
	int failures = 0;

	for (size_t w = 0; w < workload_count; w++) {
		/* The loaded database is needed by what comes after it. */
		if (!listed(config->workload_list, workloads[w].name) &&
		    workloads[w].start != START_FILL)
			continue;
		for (size_t e = 0; e < ENGINE_COUNT; e++) {
			/* Each round begins with another engine. */
			const struct engine *engine = engines[(e + round) % ENGINE_COUNT];

			if (!listed(config->engine_list, engine->name) ||
			    !workload_fits(&workloads[w], engine))
				continue;
			failures += run_one(config, &workloads[w], engine, value_len, round) != 0;
		}
	}
	return failures;
}

static void print_settings(FILE *out, const struct config *config)
{
	struct engine_settings plain = settings_of(config, NULL);
	char text[512];

	fprintf(out,
		"config cache_mib=%" PRIu64 " data_mib=%" PRIu64
		" rounds=%u seconds=%g direct=%d\n",
		config->cache_mib, config->data_mib, config->rounds, config->seconds,
		config->direct);
	for (size_t e = 0; e < ENGINE_COUNT; e++) {
		if (!listed(config->engine_list, engines[e]->name))
			continue;
		engines[e]->describe(&plain, text, sizeof(text));
		fprintf(out, "engine %s: %s\n", engines[e]->name, text);
	}
	fflush(out);
}

static void print_list(const struct config *config)
{
	print_settings(stdout, config);
	for (size_t w = 0; w < workload_count; w++)
		printf("workload %s: %s\n", workloads[w].name, workloads[w].what);
}

static int parse(int argc, char **argv, struct config *config)
{
	int opt;

	while ((opt = getopt(argc, argv, "e:w:v:c:d:k:r:s:Do:lh")) != -1) {
		switch (opt) {
		case 'e':
			config->engine_list = optarg;
			break;
		case 'w':
			config->workload_list = optarg;
			break;
		case 'v':
			config->value_list = optarg;
			break;
		case 'c':
			config->cache_mib = strtoull(optarg, NULL, 10);
			break;
		case 'd':
			config->data_mib = strtoull(optarg, NULL, 10);
			break;
		case 'k':
			config->keys_max = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			config->rounds = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			config->seconds = strtod(optarg, NULL);
			break;
		case 'D':
			config->direct = true;
			break;
		case 'o':
			config->lines = fopen(optarg, "a");
			break;
		case 'l':
			print_list(config);
			exit(0);
		case 'h':
			usage(stdout);
			exit(0);
		default:
			return -1;
		}
	}
	if (optind + 1 != argc || !config->lines || config->cache_mib < 8 || config->data_mib < 1)
		return -1;
	config->dir = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	struct config config = {.value_list = "100,1024,16384",
				.lines = stdout,
				.cache_mib = 256,
				.data_mib = 64,
				.rounds = 3,
				.seconds = 5};
	int failures = 0;

	if (parse(argc, argv, &config)) {
		usage(stderr);
		return 2;
	}
	if (mkdir(config.dir, 0755) && access(config.dir, W_OK)) {
		perror(config.dir);
		return 1;
	}
	print_settings(config.lines, &config);
	for (const char *at = config.value_list; at;
	     at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
		size_t value_len = strtoull(at, NULL, 10);

		for (unsigned round = 0; round < config.rounds && value_len >= 8; round++)
			failures += run_round(&config, value_len, round);
	}
	return failures ? 1 : 0;
}
