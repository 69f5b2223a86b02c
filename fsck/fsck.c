/* SPDX-License-Identifier: MIT */
/*
 * fsck.kvfs: check a volume in two layers, and repair it.
 *
 * First the engine's structures (kv_verify), then what they mean as files
 * (kvfs_check), which makes sense only on an engine that can be read. Each
 * layer's repair is one transaction, so an interruption leaves the volume as
 * it was before that layer. With -n nothing is ever opened for writing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fsck/options.h"
#include "fsck/report.h"

/* One layer, so that both go through the same decisions. */
struct layer {
	const char *name;
	/* Check, or check and repair; findings go to the report. */
	int (*run)(const struct options *o, bool repair, struct report *r, void *result);
	void *result;
	struct lost *lost; /* NULL: not collected */
};

static int run_engine(const struct options *o, bool repair, struct report *r, void *result)
{
	struct kv_progress progress = {report_progress, r};
	struct kv_log_sink sink = {report_log, NULL, KV_LOG_INFO};
	struct kv_verify_options options = {
		.found = report_engine,
		.ctx = r,
		.progress = &progress,
		.log = o->verbose ? &sink : NULL,
	};

	return repair ? kv_repair(o->volume, &options, result)
		      : kv_verify(o->volume, &options, result);
}

static int run_files(const struct options *o, bool repair, struct report *r, void *result)
{
	struct kv_progress progress = {report_progress, r};
	struct kv_log_sink sink = {report_log, NULL, KV_LOG_INFO};
	struct kvfs_check_options options = {
		.repair = repair,
		.found = report_files,
		.ctx = r,
		.progress = &progress,
		.log = o->verbose ? &sink : NULL,
	};

	return kvfs_check(o->volume, &options, result);
}

static int run_layer(const struct options *o, const struct layer *l, bool repair, struct report *r)
{
	int err;

	report_init(r, o, l->name);
	r->repairing = repair;
	r->lost = l->lost;
	if (l->lost)
		l->lost->count = 0; /* a second pass finds it again */
	err = l->run(o, repair, r, l->result);
	report_erase(r);
	return err;
}

/* After a look: should it be repaired? */
static bool wants_repair(const struct options *o, const struct report *looked)
{
	switch (o->mode) {
	case MODE_PREEN:
		return !looked->costly;
	case MODE_ASK:
		return report_ask(o, "repair it?");
	case MODE_YES:
		return true;
	case MODE_CHECK:
		break;
	}
	return false;
}

static int exit_of_error(const struct options *o, int err)
{
	if (err == -KV_E_INTERRUPTED && report_interrupted()) {
		fflush(stdout);
		fprintf(stderr, "fsck.kvfs: %s: interrupted; nothing was changed\n", o->volume);
		return EXIT_CANCELLED;
	}
	report_error(o, err);
	return EXIT_FAILED;
}

/* Return: the exit code of the layer. @readable: nothing found is in the next layer's way. */
static int check_layer(const struct options *o, const struct layer *l, bool *readable)
{
	struct report r;
	int err;

	*readable = false;

	/* Looking first would read everything twice for nothing. */
	err = run_layer(o, l, o->mode == MODE_YES, &r);
	if (err)
		return exit_of_error(o, err);
	if (o->mode != MODE_YES && r.found && wants_repair(o, &r)) {
		err = run_layer(o, l, true, &r);
		if (err)
			return exit_of_error(o, err);
	}
	*readable = r.found == r.repaired || !r.costly;
	return (r.repaired ? EXIT_FIXED : 0) | (r.found > r.repaired ? EXIT_UNFIXED : 0);
}

static void print_details(const struct kv_verify_result *e, const struct kvfs_check_result *f)
{
	printf("tables %" PRIu64 ", pages %" PRIu64 ", entries %" PRIu64 ", large values %" PRIu64
	       ", log frames %" PRIu64 "\n",
	       e->tables, e->pages, e->entries, e->values, e->log_frames);
	printf("files %" PRIu64 ", directories %" PRIu64 ", symlinks %" PRIu64 ", others %" PRIu64
	       ", further names %" PRIu64 ", chunks %" PRIu64 ", bytes %" PRIu64 "\n",
	       f->files, f->directories, f->symlinks, f->others, f->links, f->chunks, f->bytes);
}

static const char *verdict(int code)
{
	if (code & EXIT_UNFIXED)
		return "problems are left";
	return code & EXIT_FIXED ? "repaired" : "sound";
}

static int note_damage(void *ctx, const char *line)
{
	bool *damaged = ctx;

	if (!strncmp(line, "superblock copy=", 16) && strstr(line, " damaged"))
		*damaged = true;
	return 0;
}

/* At boot: a volume that was closed in order and is whole at its root need not be read. */
static bool may_skip(const struct options *o)
{
	struct kv_db_info info;
	bool damaged = false;

	if (o->mode != MODE_PREEN || o->force)
		return false;
	if (kv_dump(o->volume, KV_DUMP_SUPERBLOCK, NULL, note_damage, &damaged) || damaged)
		return false;
	return !kv_probe(o->volume, NULL, &info) && !info.log_used;
}

static int check_files(const struct options *o, const struct kv_verify_result *engine_result,
		       int code)
{
	struct kvfs_check_result result = {0};
	const struct layer files = {"checking the files", run_files, &result, NULL};
	bool readable;

	code |= check_layer(o, &files, &readable);
	if (code & (EXIT_FAILED | EXIT_CANCELLED))
		return code;
	if (o->verbose)
		print_details(engine_result, &result);
	printf("%s: %s, files %" PRIu64 ", directories %" PRIu64 "\n", o->volume, verdict(code),
	       result.files, result.directories);
	return code;
}

static int check(const struct options *o)
{
	struct kv_verify_result result = {0};
	struct lost lost = {0};
	const struct layer engine = {"checking the engine", run_engine, &result, &lost};
	bool readable;
	int code, err;

	if (may_skip(o)) {
		printf("%s: clean\n", o->volume);
		return 0;
	}
	code = check_layer(o, &engine, &readable);
	if (!(code & (EXIT_FAILED | EXIT_CANCELLED))) {
		err = lost_print(&lost, o->volume);
		if (err)
			printf("%s: the files concerned cannot be named: %s\n", o->volume,
			       kv_strerror(err));
	}
	lost_fini(&lost);
	if (code & (EXIT_FAILED | EXIT_CANCELLED))
		return code;
	if (readable)
		return check_files(o, &result, code);
	printf("%s: the files were not checked, because the engine below them is damaged%s\n",
	       o->volume,
	       o->mode == MODE_YES ? "; restore it from a backup"
				   : "; run fsck.kvfs -y to repair it");
	return code;
}

int main(int argc, char **argv)
{
	struct options options;
	int parsed = options_parse(argc, argv, &options);
	int code;

	if (parsed)
		return parsed > 0 ? 0 : EXIT_USAGE;
	report_catch_signals();
	code = check(&options);
	if (fflush(stdout)) {
		fprintf(stderr, "fsck.kvfs: standard output: %s\n", strerror(errno));
		code |= EXIT_FAILED;
	}
	return code;
}
