/* SPDX-License-Identifier: MIT */
/* What stands where the volume is to be made. */
#ifndef MKFS_TARGET_H
#define MKFS_TARGET_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Describe what would be lost, in words that follow "it holds"; empty if nothing. @exists:
 * is there a file or device at all? Return: 0, -errno.
 */
int target_examine(const char *path, bool *exists, char *holds, size_t holds_size);

/* Does @path lie in the tree of directory @dir? False if either cannot be resolved. */
bool target_is_inside(const char *path, const char *dir);

/* Make the name of a new file durable. Failure costs only the name after a power loss. */
void target_sync_parent(const char *path);

#endif
