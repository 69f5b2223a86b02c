/* SPDX-License-Identifier: MIT */
/* Keys through a mount, by ordinary file calls. Symlinks are never followed. */
#ifndef CLI_MOUNTED_H
#define CLI_MOUNTED_H

#include <stdbool.h>

#include "fusefs/cli/target.h"
#include "kvcore/kv_types.h"

/*
 * The directory that holds the last component of @key.
 * @make: make missing directories; else -ENOENT
 * @name: receives the last component, borrowed from @key
 * Return: a descriptor for *at() calls, closed by the caller, or -errno; -ELOOP at a symlink.
 */
int mounted_open_parent(const struct target *t, const char *key, bool make, const char **name)
	KV_MUST_CHECK;

/* A directory as a descriptor to read, @path as in text_dir(). Return: as above. */
int mounted_open_dir(const struct target *t, const char *path) KV_MUST_CHECK;

/* A key's file, open for reading. Return: as above; -EISDIR, -EINVAL (not a regular file). */
int mounted_open_key(int dir_fd, const char *name) KV_MUST_CHECK;

/*
 * Set @key to what @value (if not NULL) or @fd holds, to its end, at one instant and durably.
 * Return: 0, -errno, -KV_E_INTERRUPTED.
 */
int mounted_put(const struct target *t, const char *key, const struct kv_slice *value, int fd)
	KV_MUST_CHECK;

#endif
