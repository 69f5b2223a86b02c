/* SPDX-License-Identifier: MIT */
/*
 * kvfs diff: both trees are walked side by side, in order of names. A file that has its
 * number and its time of change (ctime, which no program can set) in both has not
 * been changed, so contents are read only of files that may have been: the cost
 * is that of listing the trees and of reading what differs.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define PIECE ((size_t)64 * 1024)

const char cmd_diff_help[] =
	"usage: kvfs diff [-b | -0] DIR A [B]\n"
	"\n"
	"What is different below DIR, of a mounted volume, in the snapshot B, or now, from\n"
	"what was there in the snapshot A: a line each, of a letter, a tab and the path.\n"
	"\n"
	"  +  only in B          M  contents changed\n"
	"  -  only in A          A  attributes changed, not the contents\n"
	"  T  of another type\n"
	"\n"
	"  -b, --escape  write names with everything but printable ASCII as \\xNN\n"
	"  -0, --null    write names as they are, each line with a NUL at the end\n"
	"\n"
	"Exit status 0 whether or not there are differences.\n";

enum { OLD, NEW, SIDES };

struct diff {
	struct text_names names;
	struct kv_buf path; /* of the directories looked at, below DIR, with a slash at the end */
	uint8_t *piece[SIDES];
};

struct names {
	char **list;
	size_t count, cap;
};

/* ---- lists of names ---- */

static void free_names(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

static int add_name(struct names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 64;
		char **list = realloc(n->list, cap * sizeof(char *));

		if (!list)
			return -ENOMEM;
		n->list = list;
		n->cap = cap;
	}
	n->list[n->count] = strdup(name);
	if (!n->list[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All names in order. */
static int read_names(int dir_fd, struct names *out)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int err = 0;

	if (!dir) {
		err = -errno;
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	for (;;) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			err = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			err = add_name(out, e->d_name);
		if (err)
			break;
	}
	(void)closedir(dir);
	if (out->count)
		qsort(out->list, out->count, sizeof(char *), compare_names);
	return err;
}

/* ---- what is said ---- */

static void tell(struct diff *d, char kind, const char *name)
{
	putchar(kind);
	putchar('\t');
	text_write(stdout, kv_buf_slice(&d->path), d->names.style);
	text_write(stdout, kv_slice_of(name, strlen(name)), d->names.style);
	putchar(d->names.end);
}

static int trouble(const struct diff *d, const char *name, int err)
{
	struct kv_buf path = {0};

	if (!buf_append_slice(&path, kv_buf_slice(&d->path)) && !buf_printf(&path, "%s", name))
		message((char *)path.data, "%s", kv_strerror(err));
	kv_buf_free(&path);
	return err;
}

/* ---- entries ---- */

static int compare_trees(struct diff *d, const int dirs[SIDES]);

/* The directory @name, on the sides that have it; the path is longer meanwhile. */
static int go_down(struct diff *d, const int dirs[SIDES], const char *name)
{
	int below[SIDES] = {-1, -1};
	size_t len = d->path.len;
	int err = buf_printf(&d->path, "%s/", name);

	for (int side = 0; !err && side < SIDES; side++) {
		if (dirs[side] < 0)
			continue;
		below[side] =
			openat(dirs[side], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (below[side] < 0)
			err = trouble(d, "", -errno);
	}
	if (!err)
		err = compare_trees(d, below);
	for (int side = 0; side < SIDES; side++)
		if (below[side] >= 0)
			(void)close(below[side]);
	d->path.len = len;
	return err;
}

/* 1 if equal, 0 if not, or -errno. */
static int equal_files(struct diff *d, const int dirs[SIDES], const char *name)
{
	int fds[SIDES] = {-1, -1};
	long n[SIDES] = {0, 0};
	int result = 1;

	for (int side = 0; result > 0 && side < SIDES; side++) {
		fds[side] = openat(dirs[side], name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fds[side] < 0)
			result = -errno;
	}
	while (result > 0) {
		for (int side = 0; side < SIDES; side++)
			n[side] = io_read_full(fds[side], d->piece[side], PIECE);
		if (n[OLD] < 0 || n[NEW] < 0)
			result = (int)(n[OLD] < 0 ? n[OLD] : n[NEW]);
		else if (n[OLD] != n[NEW] ||
			 memcmp(d->piece[OLD], d->piece[NEW], (size_t)n[OLD]) != 0)
			result = 0;
		else if (!n[OLD])
			break;
	}
	for (int side = 0; side < SIDES; side++)
		if (fds[side] >= 0)
			(void)close(fds[side]);
	return result;
}

/* As for files: 1, 0, -errno. */
static int equal_links(const int dirs[SIDES], const char *name)
{
	char target[SIDES][KVFS_SYMLINK_MAX + 1];
	ssize_t n[SIDES];

	for (int side = 0; side < SIDES; side++) {
		n[side] = readlinkat(dirs[side], name, target[side], sizeof(target[side]));
		if (n[side] < 0)
			return -errno;
	}
	return n[OLD] == n[NEW] && !memcmp(target[OLD], target[NEW], (size_t)n[OLD]);
}

static bool is_unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
	       a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Besides times of directories and numbers, which follow from other changes. */
static bool same_attributes(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid && a->st_gid == b->st_gid;
}

/* Of a directory that is something else on the other side, what is in it. */
static int list_below(struct diff *d, const int dirs[SIDES], const char *name,
		      const struct stat st[SIDES])
{
	int side = S_ISDIR(st[OLD].st_mode) ? OLD : NEW;
	const int only[SIDES] = {side == OLD ? dirs[OLD] : -1, side == NEW ? dirs[NEW] : -1};

	return S_ISDIR(st[side].st_mode) ? go_down(d, only, name) : 0;
}

/* An entry that both sides have. */
static int compare_entry(struct diff *d, const int dirs[SIDES], const char *name,
			 const struct stat st[SIDES])
{
	const struct stat *a = &st[OLD], *b = &st[NEW];
	int equal = 1;

	if ((a->st_mode & S_IFMT) != (b->st_mode & S_IFMT)) {
		tell(d, 'T', name);
		return list_below(d, dirs, name, st);
	}
	if (S_ISDIR(a->st_mode)) {
		if (!same_attributes(a, b))
			tell(d, 'A', name);
		return go_down(d, dirs, name);
	}
	if (is_unchanged(a, b))
		return 0;
	if (S_ISREG(a->st_mode))
		equal = a->st_size == b->st_size ? equal_files(d, dirs, name) : 0;
	else if (S_ISLNK(a->st_mode))
		equal = equal_links(dirs, name);
	else
		equal = a->st_rdev == b->st_rdev;
	if (equal < 0)
		return trouble(d, name, equal);
	tell(d, equal ? 'A' : 'M', name);
	return 0;
}

/* An entry of one side alone, with all below it. */
static int tell_alone(struct diff *d, const int dirs[SIDES], int side, const char *name,
		      const struct stat *st)
{
	const int only[SIDES] = {side == OLD ? dirs[OLD] : -1, side == NEW ? dirs[NEW] : -1};

	tell(d, side == OLD ? '-' : '+', name);
	return S_ISDIR(st->st_mode) ? go_down(d, only, name) : 0;
}

static int look_at(struct diff *d, const int dirs[SIDES], const char *name, const bool has[SIDES])
{
	struct stat st[SIDES];

	for (int side = 0; side < SIDES; side++)
		if (has[side] && fstatat(dirs[side], name, &st[side], AT_SYMLINK_NOFOLLOW))
			return errno == ENOENT ? 0 : trouble(d, name, -errno); /* it just went */
	if (has[OLD] && has[NEW])
		return compare_entry(d, dirs, name, st);
	return tell_alone(d, dirs, has[OLD] ? OLD : NEW, name, &st[has[OLD] ? OLD : NEW]);
}

static int compare_trees(struct diff *d, const int dirs[SIDES])
{
	struct names n[SIDES] = {{0}, {0}};
	size_t at[SIDES] = {0, 0};
	int err = 0;

	for (int side = 0; !err && side < SIDES; side++) {
		err = dirs[side] < 0 ? 0 : read_names(dirs[side], &n[side]);
		if (err)
			(void)trouble(d, "", err);
	}
	while (!err && !ferror(stdout) && (at[OLD] < n[OLD].count || at[NEW] < n[NEW].count)) {
		int order = at[OLD] == n[OLD].count ? 1
			    : at[NEW] == n[NEW].count
				    ? -1
				    : strcmp(n[OLD].list[at[OLD]], n[NEW].list[at[NEW]]);
		const bool has[SIDES] = {order <= 0, order >= 0};

		err = look_at(d, dirs, order <= 0 ? n[OLD].list[at[OLD]] : n[NEW].list[at[NEW]],
			      has);
		at[OLD] += has[OLD];
		at[NEW] += has[NEW];
	}
	free_names(&n[OLD]);
	free_names(&n[NEW]);
	return err;
}

/* ---- the command ---- */

/* The target's directory in a snapshot, or now (@name NULL). */
static int open_side(const struct target *t, const char *name)
{
	struct kv_buf what = {0};
	char *below = NULL;
	int fd, err;

	if (!name)
		return openat(t->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = kvfs_snapshot_check_name(name);
	if (!err) {
		below = control_below(t);
		err = below ? buf_printf(&what, "snapshots/%s%s", name, below) : -EXDEV;
	}
	fd = err ? err : control_open(t, (char *)what.data, O_RDONLY | O_DIRECTORY);
	free(below);
	kv_buf_free(&what);
	return fd;
}

/* Two descriptors a level are open, however deep it goes. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int run(const struct target *t, const char *const sides[SIDES], struct diff *d)
{
	int dirs[SIDES] = {-1, -1};
	int err = 0;

	allow_descriptors();
	for (int side = 0; !err && side < SIDES; side++) {
		d->piece[side] = malloc(PIECE);
		dirs[side] = open_side(t, sides[side]);
		if (!d->piece[side])
			err = -ENOMEM;
		else if (dirs[side] < 0)
			err = dirs[side];
		if (err)
			message(sides[side] ? sides[side] : t->name, "%s", control_message(err));
	}
	if (!err)
		err = compare_trees(d, dirs);
	for (int side = 0; side < SIDES; side++) {
		if (dirs[side] >= 0)
			(void)close(dirs[side]);
		free(d->piece[side]);
	}
	kv_buf_free(&d->path);
	return err ? CMD_FAILED : CMD_OK;
}

int cmd_diff(int argc, char **argv)
{
	static const struct option longs[] = {
		{"escape", no_argument, NULL, 'b'},
		{"null", no_argument, NULL, '0'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	struct diff d = {0};
	const char *sides[SIDES] = {NULL, NULL};
	struct target t;
	int opt, status = CMD_FAILED;

	text_names_default(&d.names);
	while ((opt = cmd_next(argc, argv, ":b0h", longs)) != CMD_OPT_END) {
		switch (opt) {
		case 'b':
		case '0':
			text_names_option(&d.names, opt);
			break;
		case CMD_OPT_HELP:
			fputs(cmd_diff_help, stdout);
			return CMD_OK;
		default:
			return CMD_USAGE;
		}
	}
	if (argc - optind < 2 || argc - optind > 3) {
		message(NULL, "diff: %s; see kvfs diff --help",
			argc - optind > 3 ? "too many arguments"
					  : "give a directory and a snapshot");
		return CMD_USAGE;
	}
	sides[OLD] = argv[optind + 1];
	if (argc - optind == 3)
		sides[NEW] = argv[optind + 2];
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	if (t.mounted)
		status = run(&t, sides, &d);
	else
		message(t.name, "not mounted; mount it to compare its snapshots");
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
