/* SPDX-License-Identifier: MIT */
/*
 * The key API as file calls. A put writes a temporary file beside the key and
 * renames it over: the volume promises old or new, whole, after any crash, and
 * one fsync of the directory makes all of it durable. The new file takes over
 * mode, owner and extended attributes of the old one.
 */
#include "fusefs/cli/mounted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fusefs/cli/io.h"
#include "fusefs/cli/message.h"

/* What stands at @name instead of a directory. */
static int not_dir(int dir_fd, const char *name)
{
	struct stat st;

	if (!fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISLNK(st.st_mode))
		return -ELOOP;
	return -ENOTDIR;
}

static int open_step(int dir_fd, const char *name, int flags, bool make)
{
	int fd;

	if (make && mkdirat(dir_fd, name, 0755) && errno != EEXIST)
		return -errno;
	fd = openat(dir_fd, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOTDIR || errno == ELOOP ? not_dir(dir_fd, name) : -errno;
}

/* Opens first, so that nothing is made that is there. */
static int open_or_make(int dir_fd, const char *name, int flags, bool make)
{
	int fd = open_step(dir_fd, name, flags, false);

	return make && fd == -ENOENT ? open_step(dir_fd, name, flags, true) : fd;
}

/* Walk the first @len bytes of @path, which are whole components. */
static int walk(const struct target *t, const char *path, size_t len, bool make)
{
	char name[KVFS_NAME_MAX + 1];
	int fd = dup(t->dir_fd);

	if (fd < 0)
		return -errno;
	while (len) {
		size_t part = strcspn(path, "/");
		int next;

		part = part < len ? part : len;
		memcpy(name, path, part);
		name[part] = '\0';
		next = open_or_make(fd, name, O_PATH, make);
		(void)close(fd);
		if (next < 0)
			return next;
		fd = next;
		part += part < len;
		path += part;
		len -= part;
	}
	return fd;
}

int mounted_open_parent(const struct target *t, const char *key, bool make, const char **name)
{
	const char *slash = strrchr(key, '/');

	*name = slash ? slash + 1 : key;
	return walk(t, key, slash ? (size_t)(slash - key) : 0, make);
}

int mounted_open_dir(const struct target *t, const char *path)
{
	int at = walk(t, path, strlen(path), false);
	int fd, err;

	if (at < 0)
		return at;
	fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = fd < 0 ? -errno : fd;
	(void)close(at);
	return err;
}

/* 0 if it is a regular file or (unless it has to be there) nothing. */
static int check_key(int dir_fd, const char *name, bool must_exist, struct stat *st, bool *exists)
{
	*exists = !fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW);
	if (!*exists)
		return errno == ENOENT && !must_exist ? 0 : -errno;
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	return S_ISREG(st->st_mode) ? 0 : -EINVAL;
}

int mounted_open_key(int dir_fd, const char *name)
{
	struct stat st;
	bool exists;
	int fd, err;

	err = check_key(dir_fd, name, true, &st, &exists);
	if (err)
		return err;
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* ---- put ---------------------------------------------------------------------- */

/* What cannot be carried over for want of rights is left as a new file has it. */
static int copy_xattrs(int from, int to)
{
	char *names = malloc(KVFS_XATTR_LIST_MAX);
	char *value = malloc(KVFS_XATTR_VALUE_MAX);
	ssize_t len, n;
	int err = 0;

	if (!names || !value)
		err = -ENOMEM;
	len = err ? 0 : flistxattr(from, names, KVFS_XATTR_LIST_MAX);
	for (char *p = names; !err && len > 0 && p < names + len; p += strlen(p) + 1) {
		n = fgetxattr(from, p, value, KVFS_XATTR_VALUE_MAX);
		if (n >= 0 && fsetxattr(to, p, value, (size_t)n, 0) && errno != EPERM)
			err = -errno;
	}
	free(names);
	free(value);
	return err;
}

static int copy_attributes(int dir_fd, const char *name, const struct stat *st, int to)
{
	int from, err;

	if (fchown(to, st->st_uid, st->st_gid) && errno != EPERM)
		return -errno;
	if (fchmod(to, st->st_mode & 07777))
		return -errno;
	from = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (from < 0) /* no right to read it, so none to its attributes */
		return errno == EACCES ? 0 : -errno;
	err = copy_xattrs(from, to);
	(void)close(from);
	return err;
}

static int fill(int to, const struct kv_slice *value, int from)
{
	if (value)
		return io_write_all(to, *value);
	return io_copy(from, to);
}

/* A file that no other run of this program uses. */
static int make_temporary(int dir_fd, char name[32])
{
	for (unsigned i = 0; i < 100; i++) {
		int fd;

		(void)snprintf(name, 32, ".kvfs-put.%ld.%u", (long)getpid(), i);
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (fd >= 0 || errno != EEXIST)
			return fd < 0 ? -errno : fd;
	}
	return -EEXIST;
}

static int replace(int dir_fd, const char *name, const struct kv_slice *value, int from)
{
	struct stat st;
	char temporary[32];
	bool exists;
	int fd, err;

	err = check_key(dir_fd, name, false, &st, &exists);
	if (err)
		return err;
	fd = make_temporary(dir_fd, temporary);
	if (fd < 0)
		return fd;
	err = fill(fd, value, from);
	if (!err && exists)
		err = copy_attributes(dir_fd, name, &st, fd);
	if (close(fd) && !err)
		err = -errno;
	if (!err && message_interrupted())
		err = -KV_E_INTERRUPTED;
	if (!err && renameat(dir_fd, temporary, dir_fd, name))
		err = -errno;
	if (err)
		(void)unlinkat(dir_fd, temporary, 0);
	return err;
}

int mounted_put(const struct target *t, const char *key, const struct kv_slice *value, int fd)
{
	const char *name;
	int parent = mounted_open_parent(t, key, true, &name);
	int err;

	if (parent < 0)
		return parent;
	err = replace(parent, name, value, fd);
	(void)close(parent);
	/* Of any directory of the mount: it covers all that was done before. */
	if (!err && fsync(t->dir_fd))
		err = -errno;
	return err;
}
