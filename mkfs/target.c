/* SPDX-License-Identifier: MIT */
/*
 * Looks at what is there before it is overwritten: a kvfs volume by kv_probe(),
 * any other known file system, swap area, RAID member or partition table by
 * libblkid, and for a regular file also any bytes at its beginning, since
 * nobody keeps a blank volume full of text.
 */
#include "mkfs/target.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvcore/base/buf.h"
#include "kvcore/kvcore_check.h"

#define HEAD_BYTES (1024U * 1024) /* of a regular file, looked at for content */

/* A label is a stranger's, and what a terminal must not obey. */
static void tell_label(const char *what, const char *label, char *holds, size_t holds_size)
{
	struct kv_buf text = {0};

	if (buf_append_escaped(&text, kv_slice_of(label, strlen(label))))
		snprintf(holds, holds_size, "%s", what);
	else
		snprintf(holds, holds_size, "%s labelled \"%.*s\"", what, (int)text.len,
			 (const char *)text.data);
	kv_buf_free(&text);
}

/* A kvfs volume, whole or damaged. */
static bool is_kvfs(const char *path, char *holds, size_t holds_size)
{
	struct kv_db_info info;
	int err = kv_probe(path, NULL, &info);

	if (!err && info.label[0])
		tell_label("a kvfs volume", info.label, holds, holds_size);
	else if (!err)
		snprintf(holds, holds_size, "a kvfs volume");
	else if (err == -KV_E_VERSION || err == -KV_E_FEATURE)
		snprintf(holds, holds_size, "a kvfs volume of a newer format");
	else if (err == -KV_E_CORRUPT || err == -KV_E_CHECKSUM)
		snprintf(holds, holds_size, "a damaged kvfs volume");
	return holds[0] != '\0';
}

static void ask_blkid(blkid_probe probe, char *holds, size_t holds_size)
{
	const char *type = NULL;
	const char *label = NULL;
	char what[64];

	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL);
	blkid_probe_enable_partitions(probe, 1);
	/* 1: nothing known; -2: several at once, of which the first is as good as any. */
	if (blkid_do_fullprobe(probe))
		return;
	blkid_probe_lookup_value(probe, "LABEL", &label, NULL);
	if (!blkid_probe_lookup_value(probe, "TYPE", &type, NULL)) {
		snprintf(what, sizeof(what), "a %s file system", type);
		if (label)
			tell_label(what, label, holds, holds_size);
		else
			snprintf(holds, holds_size, "%s", what);
	} else if (!blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL))
		snprintf(holds, holds_size, "a partition table (%s)", type);
}

static bool is_known(const char *path, char *holds, size_t holds_size)
{
	blkid_probe probe = blkid_new_probe_from_filename(path);

	if (!probe)
		return false; /* an empty file, or one that the open will complain about */
	ask_blkid(probe, holds, holds_size);
	blkid_free_probe(probe);
	return holds[0] != '\0';
}

/* Anything but zeros at the beginning of a regular file? */
static int has_content(const char *path, bool *out)
{
	static char head[HEAD_BYTES];
	FILE *f = fopen(path, "rbe");
	size_t len;
	int err;

	if (!f)
		return -errno;
	len = fread(head, 1, sizeof(head), f);
	err = ferror(f) ? -EIO : 0;
	fclose(f);
	*out = len && (head[0] || memcmp(head, head + 1, len - 1) != 0);
	return err;
}

int target_examine(const char *path, bool *exists, char *holds, size_t holds_size)
{
	bool content = false;
	struct stat st;
	int err;

	holds[0] = '\0';
	*exists = stat(path, &st) == 0;
	if (!*exists)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	if (is_kvfs(path, holds, holds_size) || is_known(path, holds, holds_size))
		return 0;
	if (!S_ISREG(st.st_mode))
		return 0;
	err = has_content(path, &content);
	if (!err && content)
		snprintf(holds, holds_size, "data");
	return err;
}

/* The directory that holds @path, resolved; freed by the caller. */
static char *parent_of(const char *path)
{
	char *copy = strdup(path);
	char *parent = copy ? realpath(dirname(copy), NULL) : NULL;

	free(copy);
	return parent;
}

bool target_is_inside(const char *path, const char *dir)
{
	char *file = realpath(path, NULL);
	char *place = file ? parent_of(file) : parent_of(path);
	char *tree = realpath(dir, NULL);
	bool inside = false;

	if (place && tree) {
		size_t len = strlen(tree);

		if (len == 1)
			inside = true;
		else
			inside = !strncmp(place, tree, len) &&
				 (place[len] == '/' || place[len] == '\0');
	}
	free(file);
	free(place);
	free(tree);
	return inside;
}

void target_sync_parent(const char *path)
{
	char *parent = parent_of(path);
	int fd = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0) {
		(void)!fsync(fd);
		close(fd);
	}
	free(parent);
}
