/* SPDX-License-Identifier: MIT */
/* What is mounted where, from /proc/self/mounts. */
#ifndef FUSEFS_MOUNTINFO_H
#define FUSEFS_MOUNTINFO_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

/*
 * Whether a kvfs mount of @source, an absolute path, exists in this namespace.
 * @dir: receives where, NUL-terminated; freed by the caller
 * Return: 1, 0, or -ENOMEM, -errno of /proc/self/mounts.
 */
int mountinfo_find_source(const char *source, struct kv_buf *dir) KV_MUST_CHECK;
/* Whether the topmost mount at @dir, an absolute path, is a kvfs. Return: as above. */
int mountinfo_is_kvfs(const char *dir) KV_MUST_CHECK;

#endif
