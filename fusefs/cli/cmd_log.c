/* SPDX-License-Identifier: MIT */
/*
 * kvfs log: the versions of one path that can still be read, as files. Snapshots have some; the
 * commits that the feed tells of the path have others, if history is kept. States in
 * which it was the same are told once.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "fusefs/model/kvfs_history.h"
#include "kvcore/base/buf.h"

const char cmd_log_help[] =
	"usage: kvfs log [-b | -0] DIR PATH\n"
	"\n"
	"The versions that can still be read of what is at PATH below DIR, a directory of a\n"
	"mounted volume: those in snapshots, and those that history keeps (the mount option\n"
	"history=), newest first. A line each: when it became so, its size, and a path that\n"
	"cat, diff and cp can read it from. Versions that did not differ are listed once.\n"
	"\n"
	"  -b, --escape  write names with everything but printable ASCII as \\xNN\n"
	"  -0, --null    write only the paths, as they are, with a NUL after each\n";

struct version {
	struct stat st;
	char *where; /* below .kvfs, or "" for what is there now */
};

struct versions {
	const struct target *t;
	char *path; /* from the root of the volume */
	struct kv_buf list;
};

static size_t count(const struct versions *v)
{
	return v->list.len / sizeof(struct version);
}

static struct version *at(const struct versions *v, size_t i)
{
	return (struct version *)(void *)v->list.data + i;
}

/* A symbolic link on the way leads elsewhere, so what is behind it is not there. */
static bool is_absence(int err)
{
	return err == -ENOENT || err == -ENOTDIR || err == -ESTALE || err == -ELOOP;
}

/* What is at @where below .kvfs, if it is there. */
static int add(struct versions *v, char *where)
{
	struct version one = {.where = where};
	int fd = control_open(v->t, where, O_PATH | O_NOFOLLOW);
	int err = 0;

	if (fd < 0)
		err = is_absence(fd) ? 1 : fd;
	if (!err && fstat(fd, &one.st))
		err = -errno;
	if (!err)
		err = buf_append(&v->list, &one, sizeof(one));
	if (fd >= 0)
		(void)close(fd);
	if (err)
		free(where);
	return err > 0 ? 0 : err;
}

static int add_snapshots(struct versions *v)
{
	struct control_snapshot *all = NULL;
	size_t n = 0;
	int err = control_snapshots(v->t, &all, &n);

	for (size_t i = 0; !err && i < n; i++) {
		struct kv_buf where = {0};

		err = buf_printf(&where, "snapshots/%s/%s", all[i].name, v->path);
		if (!err)
			err = add(v, (char *)where.data);
	}
	control_free_snapshots(all, n);
	return err;
}

static int add_commit(struct versions *v, uint64_t commit)
{
	struct kv_buf where = {0};
	int err = buf_printf(&where, "at/c%" PRIu64 "/%s", commit, v->path);

	return err ? err : add(v, (char *)where.data);
}

/* The commits that history keeps, and that changed the path. */
static int add_commits(struct versions *v)
{
	struct kvfs_channel_event head;
	struct kv_buf buf = {0};
	struct kv_slice piece;
	struct channel c;
	size_t off = 0;
	int err = channel_open(v->t, &c);

	if (err)
		return err;
	if (fsync(v->t->dir_fd))
		err = -errno;
	if (!err)
		err = channel_ask(
			&c, (const char *const[]){"watch", KVFS_WATCH_OLDEST_TEXT, v->path, NULL});
	while (!err) {
		err = channel_get(&c, &piece);
		if (err || !piece.len)
			break;
		err = buf_append_slice(&buf, piece);
	}
	channel_close(&c);
	while (!err && buf.len - off >= sizeof(head)) {
		memcpy(&head, buf.data + off, sizeof(head));
		off += sizeof(head) + le32_get(head.path_len) + le32_get(head.from_len);
		err = off > buf.len ? -EBADMSG : add_commit(v, le64_get(head.commit));
	}
	kv_buf_free(&buf);
	/* Others may not ask; they have the snapshots. */
	return err == -KV_E_GONE || err == -EPERM || err == -EACCES ? 0 : err;
}

static int add_now(struct versions *v, const char *path)
{
	struct version one = {.where = strdup("")};
	int fd = control_open_below(v->t->dir_fd, path, O_PATH | O_NOFOLLOW);
	int err = one.where ? 0 : -ENOMEM;

	if (!err && fd >= 0 && !fstat(fd, &one.st))
		err = buf_append(&v->list, &one, sizeof(one));
	else
		free(one.where);
	if (fd >= 0)
		(void)close(fd);
	return err;
}

static int compare_times(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

/* Newest first; of equal ones what lasts longer first: now, snapshots, commits. */
static int compare(const void *a, const void *b)
{
	static const char order[] = {'\0', 's', 'a'};
	const struct version *x = a, *y = b;
	int c = compare_times(&y->st.st_ctim, &x->st.st_ctim);
	const char *i = memchr(order, x->where[0], sizeof(order));
	const char *j = memchr(order, y->where[0], sizeof(order));

	return c ? c : (i > j) - (i < j);
}

static bool is_same(const struct version *a, const struct version *b)
{
	return !compare_times(&a->st.st_ctim, &b->st.st_ctim) &&
	       !compare_times(&a->st.st_mtim, &b->st.st_mtim) && a->st.st_size == b->st.st_size &&
	       a->st.st_mode == b->st.st_mode;
}

static void print(const struct versions *v, const struct version *one,
		  const struct text_names *names)
{
	char when[64] = "?";
	struct tm tm;

	if (names->end != '\0') {
		if (localtime_r(&one->st.st_ctim.tv_sec, &tm))
			(void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
		printf("%s.%09ld  %10lld  ", when, one->st.st_ctim.tv_nsec,
		       (long long)one->st.st_size);
	}
	text_write(stdout, kv_slice_of(v->t->mount.dir, strlen(v->t->mount.dir)), names->style);
	fputs(one->where[0] ? "/.kvfs/" : "/", stdout);
	if (one->where[0])
		text_write(stdout, kv_slice_of(one->where, strlen(one->where)), names->style);
	else
		text_write(stdout, kv_slice_of(v->path, strlen(v->path)), names->style);
	putchar(names->end);
}

static int show(const struct target *t, const char *path, const struct text_names *names)
{
	struct versions v = {.t = t, .path = control_path(t, path)};
	int err = v.path ? 0 : -EXDEV;

	if (!err)
		err = add_snapshots(&v);
	if (!err)
		err = add_commits(&v);
	if (!err)
		err = add_now(&v, path);
	if (!err && count(&v))
		qsort(v.list.data, count(&v), sizeof(struct version), compare);
	for (size_t i = 0; !err && i < count(&v); i++)
		if (!i || !is_same(at(&v, i - 1), at(&v, i)))
			print(&v, at(&v, i), names);
	if (err)
		message(t->name, "%s", control_message(err));
	else if (!count(&v))
		message(t->name, "%s: no version of it is there", path);
	if (!count(&v))
		err = -ENOENT;
	for (size_t i = 0; i < count(&v); i++)
		free(at(&v, i)->where);
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
