/* SPDX-License-Identifier: MIT */
/*
 * kvfs at: a time as people write it becomes a directory of .kvfs/at, which the daemon finds
 * the state for.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/run.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

const char cmd_at_help[] =
	"usage: kvfs at DIR TIME [-- COMMAND [ARGUMENT]...]\n"
	"\n"
	"Print the directory that is DIR of a mounted volume as it was at TIME, read-only; or run\n"
	"COMMAND in it, with its path in KVFS_AT. It is the newest state at or before TIME that "
	"is\n"
	"kept: of a snapshot, or of history (the mount option history=), which notes the time of\n"
	"commits to the second.\n"
	"\n"
	"TIME is local, as \"2026-01-31\", \"2026-01-31 12:30\", \"2026-01-31T12:30:15\"; with a Z "
	"behind\n"
	"it UTC; \"@\" and seconds since 1970; or how long ago: \"90s\", \"10m\", \"2h\", \"7d\". "
	"A number of\n"
	"kvfs watch is meant by \"c\" and the number: the state right after that commit.\n"
	"\n"
	"Exit status: that of COMMAND, 127 or 126 if it could not be run; 1 if there is no state\n"
	"of that time.\n";

/*
 * "10m" ago, to the nanosecond: were the clock's second cut off, "0s" would leave out what
 * happened within it.
 */
static bool parse_ago(const char *word, char out[32])
{
	static const struct {
		char letter;
		long seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	size_t n = strspn(word, "0123456789");
	struct timespec now;

	if (!n || n > 9 || !word[n] || word[n + 1])
		return false;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < KV_ARRAY_COUNT(units); i++) {
		if (word[n] != units[i].letter)
			continue;
		(void)snprintf(out, 32, "%lld.%09ld",
			       (long long)now.tv_sec - strtol(word, NULL, 10) * units[i].seconds,
			       now.tv_nsec);
		return out[0] != '-';
	}
	return false;
}

static bool parse_date(const char *word, char out[32])
{
	static const char *const forms[] = {
		"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
		"%Y-%m-%d %H:%M",    "%Y-%m-%d",
	};

	for (size_t i = 0; i < KV_ARRAY_COUNT(forms); i++) {
		struct tm tm = {.tm_isdst = -1};
		const char *rest = strptime(word, forms[i], &tm);
		bool utc = rest && !strcmp(rest, "Z");
		long long seconds;

		if (!rest || (*rest && !utc))
			continue;
		tm.tm_isdst = -1;
		seconds = (long long)(utc ? timegm(&tm) : mktime(&tm));
		(void)snprintf(out, 32, "%lld", seconds);
		return seconds >= 0;
	}
	return false;
}

/* The name in .kvfs/at. */
static bool parse_time(const char *word, char out[32])
{
	size_t n;

	if (word[0] == 'c' || word[0] == '@') {
		n = strspn(word + 1, word[0] == 'c' ? "0123456789" : "0123456789.");
		if (!n || n > 28 || word[1 + n])
			return false;
		(void)snprintf(out, 32, "%s", word[0] == 'c' ? word : word + 1);
		return true;
	}
	return parse_ago(word, out) || parse_date(word, out);
}

static const char *explain(int err)
{
	switch (err) {
	case -ENOENT:
		return "there is no state of that time, or the directory was not there";
	case -ESTALE:
		return "that part of the history is not kept any more";
	case -EINVAL:
		return "there is no commit of that number yet";
	default:
		return control_message(err);
	}
}

static int go_to(const struct target *t, const char *at, char **command)
{
	struct kv_buf what = {0}, dir = {0};
	char *below = control_below(t);
	int fd = -1, status = CMD_FAILED;
	int err = below ? 0 : -EXDEV;

	if (!err)
		err = buf_printf(&what, "at/%s%s", at, below);
	if (!err)
		err = buf_printf(&dir, "%s/.kvfs/%s", t->mount.dir, (char *)what.data);
	if (!err) {
		fd = control_open(t, (char *)what.data, O_RDONLY | O_DIRECTORY);
		err = fd < 0 ? fd : 0;
	}
	if (err) {
		message(t->name, "%s", explain(err));
	} else if (command) {
		status = run_command(command, (char *)dir.data, "KVFS_AT");
	} else {
		puts((char *)dir.data);
		status = CMD_OK;
	}
	if (fd >= 0)
		(void)close(fd);
	free(below);
	kv_buf_free(&what);
	kv_buf_free(&dir);
	return status;
}

int cmd_at(int argc, char **argv)
{
	int go = cmd_only_help(argc, argv, "+:h", cmd_at_help);
	char **command = NULL;
	char at[32];
	struct target t;
	int status, next;

	if (go != CMD_GO_ON)
		return go;
	next = optind + 2;
	if (next < argc && !strcmp(argv[next], "--"))
		next++;
	if (next < argc)
		command = argv + next;
	if (optind + 2 > argc) {
		message(NULL, "at: give a directory and a time; see kvfs at --help");
		return CMD_USAGE;
	}
	if (!parse_time(argv[optind + 1], at)) {
		message(NULL, "at: %s: not a time; see kvfs at --help", argv[optind + 1]);
		return CMD_USAGE;
	}
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	if (t.mounted) {
		status = go_to(&t, at, command);
	} else {
		message(t.name, "not mounted; mount it, or a snapshot of it");
		status = CMD_FAILED;
	}
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
