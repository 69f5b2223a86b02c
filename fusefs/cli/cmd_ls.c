/* SPDX-License-Identifier: MIT */
/*
 * kvfs ls: one directory, in byte order of names. Names are taken in batches,
 * so that a directory of millions needs no memory for all of them, and looked
 * up one by one only where attributes are asked for.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/list.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/mounted.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/volume.h"
#include "kvcore/base/buf.h"

#define BATCH_BYTES ((size_t)64 * 1024)

const char cmd_ls_help[] =
	"usage: kvfs ls [-l] [-b | -0] TARGET [PATH]\n"
	"\n"
	"List the directory PATH, by default the topmost, or the file PATH.\n"
	"\n"
	"  -l, --long     mode, links, owner, group, size, time of change, target of links\n"
	"  -b, --escape   write bytes outside printable ASCII, and the backslash, as \\xNN\n"
	"  -0, --null     end each line with NUL instead of a newline, and escape nothing\n"
	"\n"
	"On a terminal, what it cannot show is escaped; elsewhere names are as they are.\n";

struct ls {
	struct target t;
	struct list list;
	char *path;
};

/* ---- a volume that is not mounted --------------------------------------------- */

struct batch {
	struct kv_buf names; /* each ends with NUL */
	uint64_t cookie;
	int err;
};

static int batch_add(void *ctx, const struct kvfs_dirent *entry)
{
	struct batch *b = ctx;

	if (b->names.len >= BATCH_BYTES)
		return 1;
	b->cookie = entry->cookie;
	if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
		return 0;
	b->err = buf_append(&b->names, entry->name, strlen(entry->name) + 1);
	return b->err;
}

static void stat_of_attr(const struct kvfs_attr *a, struct stat *out)
{
	memset(out, 0, sizeof(*out));
	out->st_mode = a->mode;
	out->st_nlink = a->nlink;
	out->st_uid = a->uid;
	out->st_gid = a->gid;
	out->st_size = (off_t)a->size;
	out->st_rdev = a->rdev;
	out->st_mtim = (struct timespec){a->mtime.sec, a->mtime.nsec};
}

static int print_node(struct ls *ls, struct kvfs_node *node, const struct kvfs_attr *attr,
		      const char *name)
{
	struct kv_buf target = {0};
	struct stat st;
	int err = 0;

	stat_of_attr(attr, &st);
	if (S_ISLNK(st.st_mode) && ls->list.is_long)
		err = kvfs_readlink(ls->t.fs, node, &target);
	if (!err)
		list_print(&ls->list, name, &st, kv_buf_slice(&target));
	kv_buf_free(&target);
	return err;
}

static int print_batch(struct ls *ls, struct kvfs_node *dir, const struct batch *b)
{
	const char *end = (const char *)b->names.data + b->names.len;
	struct kvfs_node *node;
	struct kvfs_attr attr;
	int err = 0;

	for (const char *p = (const char *)b->names.data; !err && p < end; p += strlen(p) + 1) {
		if (!ls->list.is_long) {
			list_print(&ls->list, p, NULL, kv_slice_of(NULL, 0));
			continue;
		}
		err = kvfs_lookup(ls->t.fs, dir, p, &node, &attr);
		if (err)
			break;
		err = print_node(ls, node, &attr, p);
		kvfs_node_forget(ls->t.fs, node, 1);
	}
	return err;
}

static int ls_node(struct ls *ls, struct kvfs_node *node)
{
	struct batch b = {0};
	struct kvfs_dir *dir;
	int err;

	err = kvfs_dir_open(ls->t.fs, node, &dir);
	if (err)
		return err;
	do {
		buf_clear(&b.names);
		err = kvfs_dir_read(dir, b.cookie, false, batch_add, &b);
		if (!err)
			err = b.err;
		if (!err)
			err = print_batch(ls, node, &b);
	} while (!err && b.names.len && !ferror(stdout));
	kvfs_dir_close(dir);
	kv_buf_free(&b.names);
	return err;
}

static int ls_volume(struct ls *ls)
{
	struct kvfs_node *node;
	struct kvfs_attr attr;
	int err;

	err = volume_lookup(ls->t.fs, ls->path, &node, &attr);
	if (err)
		return err;
	if (S_ISDIR(attr.mode))
		err = ls_node(ls, node);
	else
		err = print_node(ls, node, &attr, ls->path);
	kvfs_node_forget(ls->t.fs, node, 1);
	return err;
}

/* ---- a mount -------------------------------------------------------------------- */

static int print_file(const struct ls *ls, int dir_fd, const char *name, const char *shown)
{
	char target[KVFS_SYMLINK_MAX + 1];
	struct stat st;
	ssize_t len = 0;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if (S_ISLNK(st.st_mode))
		len = readlinkat(dir_fd, name, target, sizeof(target));
	if (len < 0)
		return -errno;
	list_print(&ls->list, shown, &st, kv_slice_of(target, (size_t)len));
	return 0;
}

/* Takes over @fd. The daemon gives entries by name. */
static int ls_fd(const struct ls *ls, int fd)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	int err = 0;

	if (!dir) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	while (!err && !ferror(stdout)) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			err = -errno;
			break;
		}
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (ls->list.is_long)
			err = print_file(ls, dirfd(dir), e->d_name, e->d_name);
		else
			list_print(&ls->list, e->d_name, NULL, kv_slice_of(NULL, 0));
		if (err == -ENOENT) /* removed meanwhile */
			err = 0;
	}
	(void)closedir(dir);
	return err;
}

static int ls_mounted(const struct ls *ls)
{
	const char *name;
	int fd, parent, err;

	fd = mounted_open_dir(&ls->t, ls->path);
	if (fd >= 0)
		return ls_fd(ls, fd);
	if (fd != -ENOTDIR && fd != -ELOOP)
		return fd;
	/* It, or something on the way to it, is no directory. */
	parent = mounted_open_parent(&ls->t, ls->path, false, &name);
	if (parent < 0)
		return parent;
	err = print_file(ls, parent, name, ls->path);
	(void)close(parent);
	return err;
}

/* ---- the command ---------------------------------------------------------------- */

static void report_error(const struct ls *ls, int err)
{
	if (err == -ENOENT)
		message(ls->t.name, "%s: no such file or directory", ls->path);
	else
		message_about_key(ls->t.name, ls->path, err);
}

static int ls_run(struct ls *ls, const char *target, const char *path)
{
	int err;

	ls->path = text_dir(path);
	if (!ls->path)
		return CMD_FAILED;
	if (target_open(target, TARGET_READ, &ls->t)) {
		free(ls->path);
		return CMD_FAILED;
	}
	err = ls->t.mounted ? ls_mounted(ls) : ls_volume(ls);
	if (err)
		report_error(ls, err);
	free(ls->path);
	return target_close(&ls->t) || err ? CMD_FAILED : CMD_OK;
}

int cmd_ls(int argc, char **argv)
{
	static const struct option longs[] = {{"long", no_argument, NULL, 'l'},
					      {"escape", no_argument, NULL, 'b'},
					      {"null", no_argument, NULL, '0'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	struct ls ls = {0};
	int opt;

	text_names_default(&ls.list.names);
	while ((opt = cmd_next(argc, argv, ":lb0h", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_ls_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD)
			return CMD_USAGE;
		if (opt == 'l')
			ls.list.is_long = true;
		else
			text_names_option(&ls.list.names, opt);
	}
	if (!cmd_check_words(argc, argv, 1, 2))
		return CMD_USAGE;
	return ls_run(&ls, argv[optind], argc - optind == 2 ? argv[optind + 1] : "");
}
