/* SPDX-License-Identifier: MIT */
/* The control directory of a mount, by file calls. */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include "fusefs/cli/target.h"

/* Open @path below the directory, through no symbolic link. Return: a descriptor, closed by the
 * caller, or -errno; -ELOOP: there is such a link. */
int control_open_below(int dir_fd, const char *path, int flags) KV_MUST_CHECK;
/*
 * Open .kvfs/@what of the mount that @t is on; @what is a directory or file of it.
 * Return: a descriptor, closed by the caller, or -errno: -EXDEV if the mount's directory is not
 * seen, because something else is mounted over it or only a part of it is bound here.
 */
int control_open(const struct target *t, const char *what, int flags) KV_MUST_CHECK;
/* What an error of it means. */
const char *control_message(int err);

/* The target below the root of its mount: "" or "/a/b". Freed by the caller; NULL: it is not there.
 */
char *control_below(const struct target *t) KV_MUST_CHECK;

/* The path, from the root of the volume and without a slash first, of @below below the target.
 * Freed by the caller; NULL: the target is not there. */
char *control_path(const struct target *t, const char *below) KV_MUST_CHECK;

struct control_snapshot {
	int64_t created_ns;  /* since 1970 */
	uint64_t held_bytes; /* as struct kv_snapshot_info */
	char *name;	     /* as bytes */
	char *of;	     /* the directory it is of; empty: the whole volume */
};
/*
 * The snapshots of a target, mounted or not, oldest first.
 * @out: freed with control_free_snapshots(). Return: 0, -errno, errors of reading.
 */
int control_snapshots(const struct target *t, struct control_snapshot **out, size_t *count)
	KV_MUST_CHECK;
void control_free_snapshots(struct control_snapshot *list, size_t count);

/* Take one of the directory @of, a path from the root of the volume. */
int control_create_of(const struct target *t, const char *name, const char *of) KV_MUST_CHECK;
/* Take and drop one; of a mount by mkdir and rmdir. Return: as kvfs_snapshot_create(), -errno. */
int control_create(const struct target *t, const char *name) KV_MUST_CHECK;
int control_drop(const struct target *t, const char *name) KV_MUST_CHECK;

/* The root hash of one. Return: as kvfs_snapshot_hash(), -errno. */
int control_hash(const struct target *t, const char *name, uint8_t out[KVFS_HASH_LEN])
	KV_MUST_CHECK;

#endif
