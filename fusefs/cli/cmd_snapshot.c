/* SPDX-License-Identifier: MIT */
/*
 * kvfs snapshot: the words for what mkdir, ls and rmdir do in .kvfs/snapshots, and
 * the same for a volume that is not mounted; bringing back what a snapshot holds;
 * which ones the daemon takes by itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/restore_path.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define NS_PER_S 1000000000

const char cmd_snapshot_help[] =
	"usage: kvfs snapshot create [--of DIR] TARGET [NAME]\n"
	"       kvfs snapshot list [-b | -0] TARGET\n"
	"       kvfs snapshot drop TARGET NAME...\n"
	"       kvfs snapshot hash TARGET NAME\n"
	"       kvfs snapshot restore TARGET NAME [PATH]\n"
	"       kvfs snapshot keep TARGET [PERIOD=COUNT]... | none\n"
	"\n"
	"Take, list and drop snapshots of a volume. Of a mounted one they are directories\n"
	"of .kvfs/snapshots. Without a NAME it is the time, in UTC; it is printed.\n"
	"\n"
	"create --of: the snapshot shows DIR, a path in TARGET, as its root, and nothing else.\n"
	"\n"
	"hash: a number that is the same for equal trees, wherever they are: over paths,\n"
	"attributes and contents, but no access times.\n"
	"\n"
	"restore: the PATH of a mounted volume, or all of a volume, mounted or not, becomes\n"
	"what it was, at one instant. TARGET is then the directory where it is mounted.\n"
	"\n"
	"keep: which snapshots the daemon takes and drops by itself while the volume is\n"
	"mounted: the newest COUNT of each PERIOD (hourly, daily, weekly, monthly, yearly).\n"
	"Without them what is set is printed.\n"
	"\n"
	"  -o, --of DIR  a snapshot of this directory\n"
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

/* @of: the directory below the target, or NULL */
static int create_one(const struct target *t, const char *name, const char *of)
{
	char *below = of && t->mounted ? control_below(t) : NULL;
	char *dir = of ? text_dir(of) : NULL;
	struct kv_buf path = {0};
	int err = 0;

	if (!of)
		return control_create(t, name);
	if (!dir || (t->mounted && !below))
		err = dir ? -EXDEV : -EINVAL;
	if (!err && below && below[0])
		err = buf_printf(&path, "%s%s", below + 1, dir[0] ? "/" : "");
	if (!err)
		err = buf_printf(&path, "%s", dir);
	if (!err)
		err = control_create_of(t, name, (const char *)path.data);
	kv_buf_free(&path);
	free(below);
	free(dir);
	return err == -ENOENT ? -ENOTDIR : err; /* it is not a snapshot that is missing */
}

static int create(const struct target *t, const char *of, int argc, char **argv)
{
	time_t now = time(NULL);
	char name[32] = "";
	struct tm tm;
	int err;

	if (argc) {
		err = create_one(t, argv[0], of);
		return err ? fail(t, argv[0], err) : CMD_OK;
	}
	if (!gmtime_r(&now, &tm) || !strftime(name, sizeof(name), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return fail(t, name, -EOVERFLOW);
	err = create_one(t, name, of);
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
	char when[32] = "?", age[24], held[16];
	struct tm tm;

	if (names->end != '\0') {
		if (localtime_r(&at, &tm))
			(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
		format_age(age, now - at);
		text_size(held, s->held_bytes);
		printf("%s  %5s  %9s  ", when, age, held);
	}
	text_write(stdout, kv_slice_of(s->name, strlen(s->name)), names->style);
	if (names->end != '\0' && s->of[0]) {
		fputs("  of ", stdout);
		text_write(stdout, kv_slice_of(s->of, strlen(s->of)), names->style);
	}
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

/* ---- restore and keep ---- */

static int restore_mounted(const struct target *t, const char *name)
{
	struct channel c;
	int err = channel_open(t, &c);

	if (err)
		return err;
	err = channel_ask(&c, (const char *const[]){"restore", name, NULL});
	channel_close(&c);
	return err;
}

/* A directory below is not meant to be the whole volume. */
static bool is_top(const struct target *t)
{
	char *below = control_below(t);
	bool top = below && !below[0];

	free(below);
	return top;
}

static int restore(const struct target *t, int argc, char **argv)
{
	int err;

	if (t->mounted && argc > 1)
		return restore_path(t, argv[0], argv[1]);
	if (argc > 1 || (t->mounted && !is_top(t))) {
		message(t->name,
			t->mounted ? "give a path; all of a volume is restored from the directory "
				     "where it is mounted"
				   : "mount the volume to restore a path of it");
		return CMD_FAILED;
	}
	err = kvfs_snapshot_check_name(argv[0]);
	if (!err)
		err = t->mounted ? restore_mounted(t, argv[0])
				 : kvfs_snapshot_restore(t->fs, argv[0], NULL, NULL);
	if (err == -EACCES || err == -EPERM) {
		message(t->name, "only root and the user who mounted may restore all of it");
		return CMD_FAILED;
	}
	return err ? fail(t, argv[0], err) : CMD_OK;
}

/* Reads, or with a text writes, .kvfs/keep. */
static int keep_mounted(const struct target *t, const struct kv_buf *words, struct kvfs_keep *out)
{
	int fd = control_open(t, "keep", words ? O_WRONLY : O_RDONLY);
	char line[256];
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return fd == -ENOENT ? -EXDEV : fd;
	if (words) {
		err = write(fd, words->data, words->len) < 0 ? -errno : 0;
	} else {
		n = read(fd, line, sizeof(line) - 1);
		line[n > 0 ? n : 0] = '\0';
		err = n < 0 ? -errno : kvfs_keep_parse(line, out);
	}
	(void)close(fd);
	return err;
}

static int show_keep(const struct target *t)
{
	struct kvfs_keep keep;
	struct kv_buf out = {0};
	int err = t->mounted ? keep_mounted(t, NULL, &keep) : kvfs_keep_get(t->fs, &keep);

	if (!err)
		err = kvfs_keep_format(&keep, &out);
	if (err)
		message(t->name, "%s", control_message(err));
	else
		printf("%.*s\n", (int)out.len, (const char *)out.data);
	kv_buf_free(&out);
	return err ? CMD_FAILED : CMD_OK;
}

static int keep(const struct target *t, int argc, char **argv)
{
	struct kvfs_keep keep;
	struct kv_buf words = {0};
	int err = 0;

	if (!argc)
		return show_keep(t);
	for (int i = 0; !err && i < argc; i++)
		err = buf_printf(&words, "%s ", argv[i]);
	if (!err && kvfs_keep_parse((const char *)words.data, &keep)) {
		message(NULL,
			"snapshot: give hourly=N, daily=N, weekly=N, monthly=N, yearly=N with N "
			"up to 65535, or none");
		kv_buf_free(&words);
		return CMD_USAGE;
	}
	if (!err)
		err = t->mounted ? keep_mounted(t, &words, &keep) : kvfs_keep_set(t->fs, &keep);
	if (err)
		message(t->name, "%s",
			err == -EBUSY ? "mount options keep_* say which snapshots are kept"
				      : control_message(err));
	kv_buf_free(&words);
	return err ? CMD_FAILED : CMD_OK;
}

static int hash(const struct target *t, int argc, char **argv)
{
	uint8_t sum[KVFS_HASH_LEN];
	int err = control_hash(t, argv[0], sum);

	(void)argc;
	if (err)
		return fail(t, argv[0], err);
	text_hex(stdout, sum, sizeof(sum));
	putchar('\n');
	return CMD_OK;
}

/* ---- the command line ---- */

static const struct action {
	const char *name;
	int least, most; /* words, the action and the target among them; most 0: any number */
	enum target_use use;
	int (*run)(const struct target *t, int argc, char **argv);
} actions[] = {
	{"create", 2, 3, TARGET_WRITE, NULL}, {"list", 2, 2, TARGET_READ, NULL},
	{"drop", 3, 0, TARGET_WRITE, drop},   {"restore", 3, 4, TARGET_WRITE, restore},
	{"keep", 2, 0, TARGET_WRITE, keep},   {"hash", 3, 3, TARGET_WRITE, hash},
};

/* @argv: the action, the target and what follows. */
static int run(int argc, char **argv, const char *of, const struct text_names *names)
{
	const struct action *a = actions;
	struct target t;
	int status;

	if (!argc)
		return bad_usage("create, list, drop, restore, hash or keep?");
	while (a < actions + KV_ARRAY_COUNT(actions) && strcmp(argv[0], a->name) != 0)
		a++;
	if (a == actions + KV_ARRAY_COUNT(actions))
		return bad_usage("the word after it is create, list, drop, restore, hash or keep");
	if (argc < a->least)
		return bad_usage(argc < 2 ? "no volume or directory given" : "no name given");
	if (a->most && argc > a->most)
		return bad_usage("too many arguments");
	if (of && a != actions)
		return bad_usage("--of is for create");
	if (target_open(argv[1], a->use, &t))
		return CMD_FAILED;
	status = a->run		? a->run(&t, argc - 2, argv + 2)
		 : a == actions ? create(&t, of, argc - 2, argv + 2)
				: list(&t, names);
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}

int cmd_snapshot(int argc, char **argv)
{
	static const struct option longs[] = {
		{"of", required_argument, NULL, 'o'},
		{"escape", no_argument, NULL, 'b'},
		{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct text_names names;
	const char *of = NULL;
	int opt;

	text_names_default(&names);
	while ((opt = cmd_next(argc, argv, ":o:b0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'o':
			of = optarg;
			break;
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
	return run(argc - optind, argv + optind, of, &names);
}
