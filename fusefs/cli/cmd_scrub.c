/* SPDX-License-Identifier: MIT */
/*
 * kvfs scrub: the daemon, or libkvfs here if the volume is not mounted, reads and checks
 * everything; findings are printed as they come. Both speak the lines of channel_format.h, so that
 * there is one way to show them.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "fusefs/model/kvfs_damage.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define RATE_DEFAULT (64U * 1024 * 1024)
#define NAP_NS	     100000000L

const char cmd_scrub_help[] =
	"usage: kvfs scrub [-v] [--rate BYTES] [--after N] TARGET\n"
	"\n"
	"Read and check everything that a volume refers to, mounted and at work or not: all\n"
	"tables and large values, the log, the superblocks. What is damaged is named, a line\n"
	"each, with the files concerned; nothing is changed.\n"
	"\n"
	"  -r, --rate BYTES  a second, with K, M or G; 0: as fast as it goes; 64M\n"
	"  -a, --after N     go on where an interrupted one said that it ended\n"
	"  -v, --verbose     say what was read\n"
	"\n"
	"Exit status 0: nothing is damaged; 1: something is, or it was not read to its end. Of\n"
	"a mounted volume only root and the user who mounted may ask.\n";

struct scrubbing {
	struct target *t;
	uint64_t rate, after;
	bool verbose;
	bool meter, drawn;
	struct kv_buf line; /* not yet whole */
	struct kv_scrub_result result;
	bool ended;
	int status; /* of the scrub, once it has ended */
	struct timespec began;
};

static void erase(struct scrubbing *s)
{
	if (s->drawn)
		fputs("\r\033[K", stderr);
	s->drawn = false;
}

static void draw(struct scrubbing *s, uint64_t done, uint64_t total)
{
	char text[16];

	if (!s->meter)
		return;
	text_size(text, done);
	fprintf(stderr, "\r\033[Kscrubbing: %" PRIu64 "%%, %s",
		total ? min_u64(100, done / (total / 100 + 1)) : 0, text);
	s->drawn = true;
}

static void tell(struct scrubbing *s, const char *text)
{
	erase(s);
	puts(text);
	fflush(stdout);
}

/* The numbers of a line, after blanks; false: they are not there. */
static bool take_numbers(const char *at, uint64_t *const *out, size_t count)
{
	char *end;

	for (size_t i = 0; i < count; i++, at = end) {
		errno = 0;
		*out[i] = strtoull(at, &end, 10);
		if (end == at || errno)
			return false;
	}
	return true;
}

static bool take_end(struct scrubbing *s, const char *at)
{
	struct kv_scrub_result *r = &s->result;
	uint64_t *const numbers[] = {&r->after, &r->problems, &r->tables,
				     &r->pages, &r->entries,  &r->values};
	char *end;
	long status = strtol(at, &end, 10);

	if (end == at || status < INT_MIN || status > 0)
		return false;
	s->status = (int)status;
	s->ended = take_numbers(end, numbers, KV_ARRAY_COUNT(numbers));
	return s->ended;
}

/* A line of the answer, with a NUL. */
static int take_line(struct scrubbing *s, const char *line)
{
	uint64_t done, total;
	uint64_t *const place[] = {&done, &total, &s->result.after};

	if (!strncmp(line, "at ", 3) && take_numbers(line + 3, place, KV_ARRAY_COUNT(place)))
		draw(s, done, total);
	else if (!strncmp(line, "found ", 6))
		tell(s, line + 6);
	else if (strncmp(line, "end ", 4) != 0 || !take_end(s, line + 4))
		return -EBADMSG;
	return 0;
}

static int take(struct scrubbing *s, struct kv_slice piece)
{
	int err = 0;

	for (size_t i = 0; !err && i < piece.len; i++) {
		err = buf_append_byte(&s->line, piece.data[i] == '\n' ? 0 : piece.data[i]);
		if (err || piece.data[i] != '\n')
			continue;
		err = take_line(s, (const char *)s->line.data);
		buf_clear(&s->line);
	}
	return err;
}

static int scrub_mounted(struct scrubbing *s)
{
	struct kv_slice piece = {NULL, 1};
	char rate[24], after[24];
	struct channel c;
	int err = channel_open(s->t, &c);

	if (err)
		return err;
	snprintf(rate, sizeof(rate), "%" PRIu64, s->rate);
	snprintf(after, sizeof(after), "%" PRIu64, s->after);
	err = channel_ask(&c, (const char *const[]){"scrub", rate, after, NULL});
	while (!err && !s->ended && piece.len && !message_interrupted()) {
		err = channel_get(&c, &piece);
		if (!err)
			err = take(s, piece);
	}
	channel_close(&c);
	if (!err && !s->ended)
		err = message_interrupted() ? -KV_E_INTERRUPTED : -EBADMSG;
	return err ? err : s->status;
}

/* ---- here ---- */

static void found(void *ctx, const struct kv_problem *p)
{
	struct scrubbing *s = ctx;
	struct kv_buf line = {0};

	if (!buf_printf(&line, "%d %s", (int)p->id, p->text) &&
	    !kvfs_damage_where(s->t->fs, p, &line) && !buf_append_byte(&line, 0))
		tell(s, (const char *)line.data);
	else
		tell(s, p->text);
	kv_buf_free(&line);
}

static int progress(void *ctx, const struct kv_scrub_progress *p)
{
	const struct timespec nap = {0, NAP_NS};
	struct scrubbing *s = ctx;
	struct timespec now;

	draw(s, p->done, p->total);
	for (;;) {
		if (message_interrupted())
			return 1;
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
		if (!s->rate || (uint64_t)(now.tv_sec - s->began.tv_sec) >= p->done / s->rate)
			return 0;
		(void)nanosleep(&nap, NULL);
	}
}

static int scrub_here(struct scrubbing *s)
{
	const struct kv_scrub_options o = {
		.found = found, .progress = progress, .ctx = s, .after = s->after};

	return kv_scrub(kvfs_db(s->t->fs), &o, &s->result);
}

/* ---- the command ---- */

static int parse_number(const char *text, bool suffix, uint64_t *out)
{
	static const char units[] = "KMG";
	const char *unit;
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (errno || end == text || text[0] == '-')
		return -EINVAL;
	unit = suffix && *end ? strchr(units, *end) : NULL;
	if (unit) {
		unsigned shift = 10U * (unsigned)(unit - units + 1);

		if (*out > UINT64_MAX >> shift)
			return -EINVAL;
		*out <<= shift;
		end++;
	}
	return *end ? -EINVAL : 0;
}

static int report(struct scrubbing *s, int err)
{
	const struct kv_scrub_result *r = &s->result;

	erase(s);
	if (err == -KV_E_INTERRUPTED)
		message(s->t->name, "interrupted; kvfs scrub --after %" PRIu64 " goes on from here",
			r->after);
	else if (err == -EACCES || err == -EPERM)
		message(s->t->name, "only root and the user who mounted may ask for it");
	else if (err)
		message(s->t->name, "%s", message_volume(err));
	if (s->verbose && !err)
		printf("tables %" PRIu64 ", pages %" PRIu64 ", entries %" PRIu64
		       ", large values %" PRIu64 "\n",
		       r->tables, r->pages, r->entries, r->values);
	if (!err && r->problems)
		message(s->t->name,
			"%" PRIu64 " problems; unmount it and run fsck.kvfs -y to repair it",
			r->problems);
	return err || r->problems ? CMD_FAILED : CMD_OK;
}

static int parse(int argc, char **argv, struct scrubbing *s)
{
	static const struct option longs[] = {
		{"rate", required_argument, NULL, 'r'},
		{"after", required_argument, NULL, 'a'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int opt, err = 0;

	while (!err && (opt = cmd_next(argc, argv, ":r:a:vh", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'r':
			err = parse_number(optarg, true, &s->rate);
			break;
		case 'a':
			err = parse_number(optarg, false, &s->after);
			break;
		case 'v':
			s->verbose = true;
			break;
		case CMD_OPT_HELP:
			fputs(cmd_scrub_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
		if (err)
			message(NULL, "scrub: %s: not a number; see kvfs scrub --help", optarg);
	}
	return err || !cmd_check_words(argc, argv, 1, 1) ? CMD_USAGE : CMD_GO_ON;
}

int cmd_scrub(int argc, char **argv)
{
	struct scrubbing s = {.rate = RATE_DEFAULT, .meter = isatty(2)};
	struct target t;
	int go = parse(argc, argv, &s);
	int status, err;

	if (go != CMD_GO_ON)
		return go;
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	s.t = &t;
	s.result.after = s.after;
	(void)clock_gettime(CLOCK_MONOTONIC, &s.began);
	message_catch_signals();
	err = t.mounted ? scrub_mounted(&s) : scrub_here(&s);
	status = report(&s, err);
	kv_buf_free(&s.line);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
