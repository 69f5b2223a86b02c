/* SPDX-License-Identifier: MIT */
/*
 * kvfs log: the versions of one file that can still be read, as the daemon lists them in
 * .kvfs/history, newest first.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

const char cmd_log_help[] =
	"usage: kvfs log [-b | -0] DIR PATH\n"
	"\n"
	"The versions that can still be read of the file at PATH below DIR, a directory of a\n"
	"mounted volume: those in snapshots, and those that history keeps (the mount option\n"
	"history=), newest first. A line each: when it became so, its size, and a path that\n"
	"cat, diff and cp can read it from. Versions that did not differ are listed once.\n"
	"\n"
	"  -b, --escape  write names with everything but printable ASCII as \\xNN\n"
	"  -0, --null    write only the paths, as they are, with a NUL after each\n";

#define HISTORY "history/"

struct version {
	struct stat st;
	size_t name; /* in versions->names */
};

struct versions {
	const struct target *t;
	char *path;	     /* from the root of the volume */
	struct kv_buf names; /* each with byte 0 */
	struct kv_buf list;  /* struct version, as the directory lists them: oldest first */
	bool directory;	     /* one was at the path */
};

static size_t count(const struct versions *v)
{
	return v->list.len / sizeof(struct version);
}

/* What is no directory is a version. One that went meanwhile is none. */
static int add(struct versions *v, int fd, const char *name)
{
	struct version one = {.name = v->names.len};
	int err;

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return 0;
	if (fstatat(fd, name, &one.st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	v->directory = v->directory || S_ISDIR(one.st.st_mode);
	if (S_ISDIR(one.st.st_mode))
		return 0;
	err = buf_append(&v->names, name, strlen(name) + 1);
	return err ? err : buf_append(&v->list, &one, sizeof(one));
}

static int gather(struct versions *v)
{
	struct kv_buf where = {0};
	struct dirent *e;
	DIR *dir = NULL;
	int fd, err = buf_printf(&where, HISTORY "%s", v->path);

	if (err)
		return err;
	fd = control_open(v->t, (char *)where.data, O_RDONLY | O_DIRECTORY);
	kv_buf_free(&where);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	errno = 0;
	while (!err && (e = readdir(dir))) {
		err = add(v, fd, e->d_name);
		errno = 0;
	}
	if (!err && errno)
		err = -errno;
	(void)closedir(dir);
	return err;
}

static void print(const struct versions *v, const struct version *one,
		  const struct text_names *names)
{
	const char *name = (const char *)v->names.data + one->name;
	char when[64] = "?";
	struct tm tm;

	if (names->end != '\0') {
		if (localtime_r(&one->st.st_ctim.tv_sec, &tm))
			(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
		printf("%s.%09ld  %10lld  ", when, one->st.st_ctim.tv_nsec,
		       (long long)one->st.st_size);
	}
	text_write(stdout, kv_slice_of(v->t->mount.dir, strlen(v->t->mount.dir)), names->style);
	fputs("/.kvfs/" HISTORY, stdout);
	text_write(stdout, kv_slice_of(v->path, strlen(v->path)), names->style);
	putchar('/');
	text_write(stdout, kv_slice_of(name, strlen(name)), names->style);
	putchar(names->end);
}

static int show(const struct target *t, const char *path, const struct text_names *names)
{
	struct versions v = {.t = t, .path = control_path(t, path)};
	int err = v.path ? gather(&v) : -EXDEV;

	for (size_t i = count(&v); !err && i > 0; i--)
		print(&v, (const struct version *)(const void *)v.list.data + i - 1, names);
	if (err == -ENOENT || (!err && !count(&v) && !v.directory))
		message(t->name, "%s: no version of it is there", path);
	else if (err)
		message(t->name, "%s", control_message(err));
	else if (!count(&v))
		message(t->name, "%s: a directory; its files have versions, see .kvfs/" HISTORY,
			path);
	if (!count(&v))
		err = -ENOENT;
	kv_buf_free(&v.names);
	kv_buf_free(&v.list);
	free(v.path);
	return err ? CMD_FAILED : CMD_OK;
}

int cmd_log(int argc, char **argv)
{
	static const struct option longs[] = {
		{"escape", no_argument, NULL, 'b'},
		{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct text_names names;
	const char *path;
	struct target t;
	int opt, status;

	text_names_default(&names);
	while ((opt = cmd_next(argc, argv, ":b0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'b':
		case '0':
			text_names_option(&names, opt);
			break;
		case CMD_OPT_HELP:
			fputs(cmd_log_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (!cmd_check_words(argc, argv, 2, 2))
		return CMD_USAGE;
	path = text_key(argv[optind + 1]);
	if (!path)
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	if (t.mounted) {
		status = show(&t, path, &names);
	} else {
		message(t.name, "not mounted; mount it first");
		status = CMD_FAILED;
	}
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
