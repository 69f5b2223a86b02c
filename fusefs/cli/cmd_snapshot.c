/* SPDX-License-Identifier: MIT */
/*
 * kvfs snapshot: the words for what mkdir, ls and rmdir do in .kvfs/snapshots, and
 * the same for a volume that is not mounted.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/base.h"

#define NS_PER_S 1000000000

const char cmd_snapshot_help[] =
	"usage: kvfs snapshot create TARGET [NAME]\n"
	"       kvfs snapshot list [-b | -0] TARGET\n"
	"       kvfs snapshot drop TARGET NAME...\n"
	"\n"
	"Take, list and drop snapshots of a volume. Of a mounted one they are directories\n"
	"of .kvfs/snapshots. Without a NAME it is the time, in UTC; it is printed.\n"
	"\n"
	"  -b, --escape  list names with everything but printable ASCII as \\xNN\n"
	"  -0, --null    list names alone, as they are, each with a NUL at the end\n"
	"\n"
	"Exit status 1: a name was there (create), or was not (drop), or it failed.\n";

static int fail(const struct target *t, const char *name, int err)
{
	(void)fflush(stdout);
	fputs("kvfs: ", stderr);
	text_write(stderr, kv_slice_of(t->name, strlen(t->name)), TEXT_PRINTABLE);
	fputs(": snapshot ", stderr);
	text_write(stderr, kv_slice_of(name, strlen(name)), TEXT_PRINTABLE);
	fprintf(stderr, ": %s\n", control_message(err));
	return CMD_FAILED;
}

static int create(const struct target *t, int argc, char **argv)
{
	time_t now = time(NULL);
	char name[32] = "";
	struct tm tm;
	int err;

	if (argc) {
		err = control_create(t, argv[0]);
		return err ? fail(t, argv[0], err) : CMD_OK;
	}
	if (!gmtime_r(&now, &tm) || !strftime(name, sizeof(name), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return fail(t, name, -EOVERFLOW);
	err = control_create(t, name);
	if (err)
		return fail(t, name, err);
	puts(name);
	return CMD_OK;
}

/* "12d", of the largest unit in which it is at least 1. */
static void format_age(char out[24], int64_t s)
{
	static const struct {
		int64_t seconds;
		char unit;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	size_t i = 0;

	if (s < 0)
		s = 0; /* the clock was set back */
	while (i + 1 < KV_ARRAY_COUNT(units) && s < units[i].seconds)
		i++;
	(void)snprintf(out, 24, "%" PRId64 "%c", s / units[i].seconds, units[i].unit);
}

static void print_one(const struct control_snapshot *s, time_t now, const struct text_names *names)
{
	time_t at = (time_t)(s->created_ns / NS_PER_S);
	char when[32] = "?", age[24];
	struct tm tm;

	if (names->end != '\0') {
		if (localtime_r(&at, &tm))
			(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
		format_age(age, now - at);
		printf("%s  %5s  ", when, age);
	}
	text_write(stdout, kv_slice_of(s->name, strlen(s->name)), names->style);
	putchar(names->end);
}

static int list(const struct target *t, const struct text_names *names)
{
	struct control_snapshot *all = NULL;
	size_t count = 0;
	time_t now = time(NULL);
	int err = control_snapshots(t, &all, &count);

	if (err) {
		message(t->name, "%s", control_message(err == -ENOENT ? -EXDEV : err));
		return CMD_FAILED;
	}
	for (size_t i = 0; i < count; i++)
		print_one(&all[i], now, names);
	control_free_snapshots(all, count);
	return CMD_OK;
}

static int drop(const struct target *t, int argc, char **argv)
{
	int status = CMD_OK;

	for (int i = 0; i < argc; i++) {
		int err = control_drop(t, argv[i]);

		if (err)
			status = fail(t, argv[i], err);
	}
	return status;
}

static int bad_usage(const char *what)
{
	message(NULL, "snapshot: %s; see kvfs snapshot --help", what);
	return CMD_USAGE;
}

/* @argv: the action, the target and what follows. */
static int run(int argc, char **argv, const struct text_names *names)
{
	static const char *const actions[] = {"create", "list", "drop"};
	static const int least[] = {2, 2, 3}, most[] = {3, 2, 0};
	struct target t;
	size_t action = 0;
	int status;

	if (!argc)
		return bad_usage("create, list or drop?");
	while (action < KV_ARRAY_COUNT(actions) && strcmp(argv[0], actions[action]) != 0)
		action++;
	if (action == KV_ARRAY_COUNT(actions))
		return bad_usage("the word after it is create, list or drop");
	if (argc < least[action])
		return bad_usage(argc < 2 ? "no volume or directory given" : "no name given");
	if (most[action] && argc > most[action])
		return bad_usage("too many arguments");
	if (target_open(argv[1], action == 1 ? TARGET_READ : TARGET_WRITE, &t))
		return CMD_FAILED;
	status = action == 0   ? create(&t, argc - 2, argv + 2)
		 : action == 1 ? list(&t, names)
			       : drop(&t, argc - 2, argv + 2);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}

int cmd_snapshot(int argc, char **argv)
{
	static const struct option longs[] = {
		{"escape", no_argument, NULL, 'b'},
		{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct text_names names;
	int opt;

	text_names_default(&names);
	while ((opt = cmd_next(argc, argv, ":b0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'b':
		case '0':
			text_names_option(&names, opt);
			break;
		case CMD_OPT_HELP:
			fputs(cmd_snapshot_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	return run(argc - optind, argv + optind, &names);
}
