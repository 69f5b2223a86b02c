/* SPDX-License-Identifier: MIT */
/* Where kvfs is mounted, from /proc/self/mountinfo. */
#ifndef CLI_MOUNTS_H
#define CLI_MOUNTS_H

#include <sys/stat.h>

#include "kvcore/kv_types.h"

/* A kvfs mount; zero-initialised is empty. */
struct mount {
	char *source; /* the volume, as mount.kvfs named it */
	char *dir;
};
void mounts_free(struct mount *m);

/* The kvfs mount on which the file @st lies. Return: 1, 0 (none), -errno; @out is to be freed in
 * any case. */
int mounts_of_file(const struct stat *st, struct mount *out) KV_MUST_CHECK;
/* A kvfs mount of the volume @path, whose stat is @st. Return: as above. */
int mounts_of_volume(const char *path, const struct stat *st, struct mount *out) KV_MUST_CHECK;

#endif
