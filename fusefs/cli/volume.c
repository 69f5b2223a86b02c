/* SPDX-License-Identifier: MIT */
/*
 * Walks a path through a volume that is not mounted, component by component, as
 * the kernel does through a mount. Symlinks are not followed: they may point
 * anywhere, and a key is a path without them.
 */
#include "fusefs/cli/volume.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* One step; @name has at most KVFS_NAME_MAX bytes. */
static int step(struct kvfs *fs, struct kvfs_node *dir, const struct kvfs_attr *dir_attr,
		const char *name, size_t len, struct kvfs_node **out, struct kvfs_attr *attr)
{
	char copy[KVFS_NAME_MAX + 1];

	if ((dir_attr->mode & S_IFMT) == S_IFLNK)
		return -ELOOP;
	if ((dir_attr->mode & S_IFMT) != S_IFDIR)
		return -ENOTDIR;
	memcpy(copy, name, len);
	copy[len] = '\0';
	return kvfs_lookup(fs, dir, copy, out, attr);
}

int volume_lookup(struct kvfs *fs, const char *path, struct kvfs_node **out, struct kvfs_attr *attr)
{
	struct kvfs_node *node, *next;
	struct kvfs_attr at;
	int err;

	err = kvfs_lookup(fs, kvfs_root(fs), ".", &node, &at);
	if (err)
		return err;
	while (!err && *path) {
		size_t len = strcspn(path, "/");

		err = step(fs, node, &at, path, len, &next, &at);
		if (!err) {
			kvfs_node_forget(fs, node, 1);
			node = next;
			path += len + (path[len] == '/');
		}
	}
	if (err) {
		kvfs_node_forget(fs, node, 1);
		return err;
	}
	*out = node;
	*attr = at;
	return 0;
}
