/* SPDX-License-Identifier: MIT */
/*
 * The copy out of the snapshot is made beside its place under another name, however
 * long it takes, and then exchanged with what is there, which is one transaction of
 * the file system. What was there before is removed afterwards. Copying is what
 * cp(1) is for, so cp does it.
 */
#include "fusefs/cli/restore_path.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

struct restore {
	struct kv_buf from; /* in the snapshot */
	struct kv_buf to;
	struct kv_buf parent;
	struct kv_buf temporary; /* beside @to */
};

static const char *text(const struct kv_buf *b)
{
	return (const char *)b->data;
}

/* Run a program of coreutils, whose complaints the user sees. */
static int run(const char *const *words)
{
	char **argv = calloc(8, sizeof(char *));
	int status = 0, err = 0;
	size_t n = 0;
	pid_t pid;

	if (!argv)
		return -ENOMEM;
	for (; !err && words[n] && n < 7; n++) {
		argv[n] = strdup(words[n]);
		if (!argv[n])
			err = -ENOMEM;
	}
	if (!err)
		err = -posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	while (!err && waitpid(pid, &status, 0) < 0)
		err = errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < n; i++)
		free(argv[i]);
	free(argv);
	return err ? err : status ? -EIO : 0;
}

static int remove_tree(const char *path)
{
	return run((const char *const[]){"rm", "-rf", "--", path, NULL});
}

static int copy(const struct restore *r)
{
	return run((const char *const[]){"cp", "-a", "-T", "--", text(&r->from),
					 text(&r->temporary), NULL});
}

/* The directory that the snapshot is of, with a slash in front of each component. */
static int find_of(const struct target *t, const char *name, struct kv_buf *out)
{
	struct control_snapshot *all = NULL;
	size_t count = 0;
	int err = control_snapshots(t, &all, &count);

	for (size_t i = 0; !err && i < count; i++)
		if (!strcmp(all[i].name, name) && all[i].of[0])
			err = buf_printf(out, "/%s", all[i].of);
	control_free_snapshots(all, count);
	return err;
}

/* What is at @path, of the volume, in the snapshot; -ENOENT: nothing can be. */
static int fill_from(const struct target *t, const char *name, const char *path, struct restore *r)
{
	struct kv_buf of = {0};
	int err = find_of(t, name, &of);

	if (!err && of.len &&
	    (strncmp(path, text(&of), of.len) != 0 || (path[of.len] && path[of.len] != '/')))
		err = -ENOENT;
	if (!err)
		err = buf_printf(&r->from, "%s/.kvfs/snapshots/%s%s", t->mount.dir, name,
				 path + of.len);
	kv_buf_free(&of);
	return err;
}

static int fill(const struct target *t, const char *name, const char *key, struct restore *r)
{
	const char *slash = strrchr(key, '/');
	char *below = control_below(t);
	struct kv_buf path = {0};
	int err = below ? buf_printf(&path, "%s/%s", below, key) : -EXDEV;

	if (!err)
		err = fill_from(t, name, text(&path), r);
	if (!err)
		err = buf_printf(&r->to, "%s%s/%s", t->mount.dir, below, key);
	if (!err)
		err = buf_printf(&r->parent, "%s%s/%.*s", t->mount.dir, below,
				 slash ? (int)(slash - key) : 0, key);
	if (!err)
		err = buf_printf(&r->temporary, "%s/.kvfs-restore.%d", text(&r->parent),
				 (int)getpid());
	free(below);
	kv_buf_free(&path);
	return err;
}

/* The copy is complete: show it. */
static int put_in_place(const struct restore *r)
{
	struct stat st;
	bool replaces = lstat(text(&r->to), &st) == 0;
	int fd, err;

	fd = open(text(&r->parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = renameat2(AT_FDCWD, text(&r->temporary), AT_FDCWD, text(&r->to),
			replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE)
		      ? -errno
		      : 0;
	if (!err && fsync(fd))
		err = -errno;
	(void)close(fd);
	if (!err && replaces)
		err = remove_tree(text(&r->temporary));
	return err;
}

static int restore(const struct restore *r)
{
	int err = access(text(&r->parent), F_OK) ? -errno : copy(r);

	if (!err)
		err = put_in_place(r);
	if (err)
		(void)!remove_tree(text(&r->temporary));
	return err;
}

static const char *explain(int err)
{
	if (err == -EIO)
		return "it could not be copied out of the snapshot; nothing was changed";
	return err == -ENOENT ? "the directory that held it is gone; restore that one"
			      : control_message(err);
}

int restore_path(const struct target *t, const char *name, const char *path)
{
	struct restore r = {0};
	const char *key = text_key(path);
	struct stat st;
	int err;

	if (!key)
		return CMD_FAILED;
	err = kvfs_snapshot_check_name(name);
	if (!err)
		err = fill(t, name, key, &r);
	if (err == -ENOENT) {
		message(path, "the snapshot is of another directory");
	} else if (err) {
		message(t->name, "%s", control_message(err));
	} else if (lstat(text(&r.from), &st)) {
		err = -errno;
		message(path, "it is not in the snapshot: %s", strerror(-err));
	} else {
		err = restore(&r);
		if (err)
			message(path, "%s", explain(err));
	}
	kv_buf_free(&r.from);
	kv_buf_free(&r.to);
	kv_buf_free(&r.parent);
	kv_buf_free(&r.temporary);
	return err ? CMD_FAILED : CMD_OK;
}
