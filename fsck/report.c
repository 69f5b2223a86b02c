/* SPDX-License-Identifier: MIT */
/*
 * Output of fsck.kvfs. Findings go to stdout, one line each, so that they can
 * be kept and compared; progress and errors go to stderr. A line begins with
 * the problem's number, which never changes and is what the manual explains.
 */
#include "fsck/report.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The one mutable global: a handler has no other way to be heard. */
static volatile sig_atomic_t caught_signal;

static void on_signal(int signo)
{
	caught_signal = signo;
}

void report_catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	struct sigaction old;

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

bool report_interrupted(void)
{
	return caught_signal != 0;
}

void report_init(struct report *r, const struct options *options, const char *what)
{
	memset(r, 0, sizeof(*r));
	r->options = options;
	r->what = what;
	r->meter = options->progress || (isatty(2) && options->mode != MODE_PREEN);
}

void report_erase(struct report *r)
{
	if (r->drawn)
		fputs(isatty(2) ? "\r\033[K" : "\n", stderr);
	r->drawn = false;
}

int report_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct report *r = ctx;
	unsigned percent = total ? (unsigned)(done / (total / 100 + 1)) : 0;

	if (caught_signal)
		return 1;
	if (!r->meter || (r->drawn && total && percent == r->percent))
		return 0;
	r->drawn = true;
	r->percent = percent;
	if (total)
		fprintf(stderr, "\r%s: %u%%", r->what, percent);
	else
		fprintf(stderr, "\r%s: %" PRIu64, r->what, done);
	return 0;
}

void report_log(void *ctx, enum kv_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	printf("%s\n", line);
}

/* ---- findings ---------------------------------------------------------------- */

static const char *outcome(const struct report *r, bool repaired)
{
	if (!r->repairing)
		return "";
	return repaired ? "; repaired" : "; not repaired";
}

/* Repairs that restore redundancy or figures and lose nothing. */
static bool engine_is_cheap(enum kv_problem_id id)
{
	return id == KV_PROBLEM_SUPERBLOCK_COPY || id == KV_PROBLEM_SUPERBLOCK_STALE ||
	       id == KV_PROBLEM_MANIFEST_COPY || id == KV_PROBLEM_TABLE_FILTER ||
	       id == KV_PROBLEM_TABLE_PROPS || id == KV_PROBLEM_SEGMENT_COUNT;
}

static bool files_is_cheap(enum kvfs_problem_id id)
{
	return id == KVFS_PROBLEM_LINK_COUNT || id == KVFS_PROBLEM_CHUNK_NO_FILE ||
	       id == KVFS_PROBLEM_XATTR_NO_FILE || id == KVFS_PROBLEM_PREFIX_RECORD ||
	       id == KVFS_PROBLEM_ID_RESERVED || id == KVFS_PROBLEM_BLOCK_COUNT;
}

static void print_range(const struct kv_problem *p)
{
	bool one = p->from.len && p->from.len == p->to.len &&
		   !memcmp(p->from.data, p->to.data, p->from.len);

	if (!p->from.len && !p->to.len) {
		printf("; all keys of keyspace %u", p->keyspace);
		return;
	}
	printf(one ? "; key: " : "; keys from: ");
	if (p->from.len)
		lost_print_key(p->keyspace, p->from);
	else
		printf("the first");
	if (one)
		return;
	printf(" to: ");
	if (p->to.len)
		lost_print_key(p->keyspace, p->to);
	else
		printf("the last");
}

void report_engine(void *ctx, const struct kv_problem *p)
{
	struct report *r = ctx;

	report_erase(r);
	r->found++;
	r->repaired += p->repaired;
	r->costly += !engine_is_cheap(p->id);
	if (r->lost)
		lost_note(r->lost, p);
	printf("%d: %s", (int)p->id, p->text);
	if (p->keyspace || p->from.len || p->to.len)
		print_range(p);
	printf("%s\n", outcome(r, p->repaired));
}

void report_files(void *ctx, const struct kvfs_problem *p)
{
	struct report *r = ctx;

	report_erase(r);
	/* What a crash leaves and the next mount sweeps is no problem: the volume is sound. */
	if (p->id == KVFS_PROBLEM_ORPHAN) {
		if (r->options->verbose)
			printf("%d: %s%s\n", (int)p->id, p->text, outcome(r, p->repaired));
		return;
	}
	r->found++;
	r->repaired += p->repaired;
	r->costly += !files_is_cheap(p->id);
	printf("%d: %s%s\n", (int)p->id, p->text, outcome(r, p->repaired));
}

/* ---- people -------------------------------------------------------------------- */

static const char *advice(int err)
{
	switch (err) {
	case -KV_E_IN_USE:
		return "mounted or in use by another process; unmount it first";
	case -KV_E_NOT_A_VOLUME:
		return "not a kvfs volume; is it the right file or device?";
	case -KV_E_NOSPACE:
		return "no space left on the volume for the repair; nothing was changed";
	case -ENOSPC:
		return "no space left on the disk that holds it for the repair; nothing was "
		       "changed";
	case -KV_E_POISONED:
		return "a write failed during the repair; check the device and run fsck.kvfs again";
	case -ENOENT:
		return "no such file or device";
	case -EISDIR:
		return "it is a directory; name the volume, not the place where it is mounted";
	case -ENOTBLK:
		return "it is neither a regular file nor a block device";
	case -EACCES:
	case -EPERM:
		return "permission denied; run it as the owner of the file or device";
	case -EROFS:
		return "it lies on a read-only file system; only -n can be used";
	case -EIO:
		return "the device reports an I/O error; check it with dmesg";
	case -KV_E_CORRUPT:
	case -KV_E_CHECKSUM:
		return "it is damaged beyond what this program can read; restore it from a backup";
	default:
		return kv_strerror(err);
	}
}

void report_error(const struct options *options, int err)
{
	fflush(stdout);
	fprintf(stderr, "fsck.kvfs: %s: %s\n", options->volume, advice(err));
}

bool report_ask(const struct options *options, const char *question)
{
	char line[16];

	if (!isatty(0))
		return false;
	printf("%s: %s [y/N] ", options->volume, question);
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return false;
	return line[0] == 'y' || line[0] == 'Y';
}
