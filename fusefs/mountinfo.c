/* SPDX-License-Identifier: MIT */
/*
 * Looks through the table of mounts. The kernel's own table is the only truth:
 * a mount that was moved, detached or made in another namespace is not in any
 * file that somebody keeps. Lines come in the order of mounting, so the last one
 * for a directory is the one that is seen.
 */
#include "fusefs/mountinfo.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define TABLE	     "/proc/self/mounts"
#define TYPE	     "fuse.kvfs"
#define LINE_MAX_LEN 16384 /* source, directory and options, each at most a page, escaped */

/*
 * Calls @match for each mount until it returns other than 0.
 * Return: that, 0, or -errno.
 */
static int each_mount(int (*match)(void *ctx, const struct mntent *mount), void *ctx)
{
	struct kv_buf line = {0};
	struct mntent mount;
	FILE *table;
	int ret;

	ret = buf_resize(&line, LINE_MAX_LEN);
	if (ret)
		return ret;
	table = setmntent(TABLE, "re");
	if (!table) {
		ret = errno ? -errno : -EIO;
		goto out;
	}
	while (!ret && getmntent_r(table, &mount, (char *)line.data, LINE_MAX_LEN))
		ret = match(ctx, &mount);
	(void)endmntent(table);
out:
	kv_buf_free(&line);
	return ret;
}

struct source_query {
	const char *source;
	struct kv_buf *dir;
};

static int match_source(void *ctx, const struct mntent *mount)
{
	struct source_query *q = ctx;
	int err;

	if (strcmp(mount->mnt_type, TYPE) != 0 || strcmp(mount->mnt_fsname, q->source) != 0)
		return 0;
	buf_clear(q->dir);
	err = buf_printf(q->dir, "%s", mount->mnt_dir);
	return err ? err : 1;
}

int mountinfo_find_source(const char *source, struct kv_buf *dir)
{
	struct source_query q = {source, dir};

	return each_mount(match_source, &q);
}

struct dir_query {
	const char *dir;
	bool is_kvfs;
};

static int match_dir(void *ctx, const struct mntent *mount)
{
	struct dir_query *q = ctx;

	if (strcmp(mount->mnt_dir, q->dir) == 0)
		q->is_kvfs = strcmp(mount->mnt_type, TYPE) == 0;
	return 0;
}

int mountinfo_is_kvfs(const char *dir)
{
	struct dir_query q = {dir, false};
	int err = each_mount(match_dir, &q);

	return err ? err : q.is_kvfs;
}
