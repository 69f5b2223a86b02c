/* SPDX-License-Identifier: MIT */
/*
 * Finds out what the user has named. A mounted volume is refused by the name
 * of its file, with the directory to use instead: the same keys by two names, one
 * of which works only at times, would make scripts that fail at times.
 */
#include "fusefs/cli/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/message.h"

#define WAIT_MS 10000U

static int open_mounted(const char *name, enum target_use use, const struct stat *st,
			struct target *t)
{
	int found = mounts_of_file(st, &t->mount);

	if (found <= 0) {
		message(name, "%s",
			found ? kv_strerror(found)
			      : "a directory, but not of a mounted kvfs volume; name the volume, "
				"or the directory where it is mounted");
		return -1;
	}
	t->mounted = true;
	if (use >= TARGET_COMPACT) {
		message(name, "%s is mounted here; unmount it first, then name the volume",
			t->mount.source);
		return -1;
	}
	t->dir_fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0) {
		message(name, "%s", strerror(errno));
		return -1;
	}
	return 0;
}

/* A mounted volume is not opened by its own name. */
static int refuse_mounted(const char *name, const struct stat *st)
{
	struct mount m = {0};
	char *path = realpath(name, NULL);
	int found = mounts_of_volume(path ? path : name, st, &m);

	if (found > 0)
		message(name, "it is mounted at %s; name that directory instead, or unmount it",
			m.dir);
	free(path);
	mounts_free(&m);
	return found > 0 ? -1 : 0;
}

static int open_volume(const char *name, enum target_use use, struct target *t)
{
	struct kvfs_options options = {.atime = KVFS_NOATIME, .kv = {.wait_ms = WAIT_MS}};
	int err;

	options.kv.log = message_sink();
	if (use == TARGET_READ)
		options.flags = KVFS_RDONLY;
	err = kvfs_open(name, &options, &t->fs);
	if (err)
		message(name, "%s", message_volume(err));
	return err ? -1 : 0;
}

int target_open(const char *name, enum target_use use, struct target *out)
{
	struct target t = {.name = name, .dir_fd = -1};
	struct stat st;
	mode_t mask = umask(0);
	int err;

	(void)umask(mask);
	t.owner = (struct kvfs_owner){geteuid(), getegid(), mask};
	if (stat(name, &st)) {
		message(name, "%s", message_volume(-errno));
		return -1;
	}
	if (S_ISDIR(st.st_mode)) {
		err = open_mounted(name, use, &st, &t);
	} else {
		err = refuse_mounted(name, &st);
		if (!err && use != TARGET_LOOK)
			err = open_volume(name, use, &t);
	}
	if (err)
		mounts_free(&t.mount);
	else
		*out = t;
	return err;
}

int target_close(struct target *t)
{
	int err = t->fs ? kvfs_close(t->fs) : 0;

	if (err)
		message(t->name, "%s", message_volume(err));
	if (t->dir_fd >= 0)
		(void)close(t->dir_fd);
	mounts_free(&t->mount);
	return err ? -1 : 0;
}
