/* SPDX-License-Identifier: MIT */
/*
 * A scan through a mount: a walk that takes the entries of each directory as
 * the daemon gives them, by name, and goes down where it meets a directory. With
 * '/' before all other bytes that is the order of paths. Directories outside the
 * bounds are not opened. It is not one instant: what changes meanwhile may or may
 * not be seen.
 */
#include "fusefs/cli/scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/io.h"
#include "fusefs/cli/mounted.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define PIECE ((size_t)64 * 1024)

/* Of a visit: nothing more is wanted. */
enum { GO_ON, DONE };

struct walk {
	struct scan *s;
	struct kv_buf path; /* of the entry looked at */
	dev_t device;	    /* other mounts below are left out */
	uint8_t *piece;
};

static int walk_fd(struct walk *w, int fd);

static int print_value(struct walk *w, int dir_fd, const char *name)
{
	int fd = mounted_open_key(dir_fd, name);
	long n = 1;

	if (fd < 0)
		return fd;
	while (n > 0 && !ferror(stdout)) {
		n = io_read_full(fd, w->piece, PIECE);
		if (n > 0)
			text_write(stdout, kv_slice_of(w->piece, (size_t)n), w->s->names.style);
	}
	(void)close(fd);
	return n < 0 ? (int)n : 0;
}

static int visit_key(struct walk *w, int dir_fd, const char *name)
{
	struct scan *s = w->s;
	struct kv_slice key = kv_buf_slice(&w->path);
	int err = 0;

	if (!slice_has_prefix(key, s->prefix) || (s->from.len && scan_compare(key, s->from) < 0))
		return GO_ON;
	if ((s->to.len && scan_compare(key, s->to) >= 0) || !s->limit)
		return DONE;
	scan_print_key(s, key);
	if (s->values) {
		putchar('\t');
		err = print_value(w, dir_fd, name);
	}
	scan_end_line(s);
	return err;
}

/* Whether something below the directory, whose path with a slash is @dir, may be wanted. */
static bool is_wanted(const struct scan *s, struct kv_slice dir)
{
	size_t common = slice_common_prefix(dir, s->prefix);

	if (common < dir.len && common < s->prefix.len)
		return false;
	if (s->to.len && scan_compare(dir, s->to) >= 0)
		return false;
	return scan_compare(dir, s->from) >= 0 || slice_has_prefix(s->from, dir);
}

static int visit_dir(struct walk *w, int dir_fd, const char *name)
{
	struct stat st;
	int fd, err;

	err = buf_append_byte(&w->path, '/');
	if (err)
		return err;
	if (!is_wanted(w->s, kv_buf_slice(&w->path)))
		return GO_ON;
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!fstat(fd, &st) && st.st_dev == w->device)
		return walk_fd(w, fd);
	(void)close(fd);
	return GO_ON;
}

static int visit(struct walk *w, int dir_fd, const struct dirent *e)
{
	unsigned char type = e->d_type;
	struct stat st;
	int err;

	if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
		return GO_ON;
	if (type == DT_UNKNOWN && !fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
		type = (unsigned char)IFTODT(st.st_mode);
	if (type != DT_REG && type != DT_DIR)
		return GO_ON;
	err = buf_append(&w->path, e->d_name, strlen(e->d_name));
	if (err)
		return err;
	err = type == DT_REG ? visit_key(w, dir_fd, e->d_name) : visit_dir(w, dir_fd, e->d_name);
	return err == -ENOENT ? GO_ON : err; /* removed meanwhile */
}

/* All of a directory; takes over @fd. */
static int walk_fd(struct walk *w, int fd)
{
	const size_t len = w->path.len;
	const struct dirent *e;
	DIR *dir = fdopendir(fd);
	int err = GO_ON;

	if (!dir) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	while (err == GO_ON && !ferror(stdout)) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			err = -errno;
			break;
		}
		err = visit(w, dirfd(dir), e);
		w->path.len = len;
	}
	(void)closedir(dir);
	return err;
}

/* The last directory that holds all keys with the prefix; -ENOENT if there can be none. */
static int open_start(struct walk *w)
{
	const struct kv_slice prefix = w->s->prefix;
	const uint8_t *slash = prefix.len ? memrchr(prefix.data, '/', prefix.len) : NULL;
	size_t len = slash ? (size_t)(slash - prefix.data) : 0;
	char *dir = strndup(len ? (const char *)prefix.data : "", len);
	int fd = -ENOENT;

	if (!dir)
		return -ENOMEM;
	if (!slash || text_is_path(dir))
		fd = mounted_open_dir(&w->s->t, dir);
	if (fd >= 0 && slash && buf_append(&w->path, prefix.data, len + 1)) {
		(void)close(fd);
		fd = -ENOMEM;
	}
	free(dir);
	return fd == -ENOTDIR || fd == -ELOOP ? -ENOENT : fd;
}

int scan_mounted(struct scan *s)
{
	struct walk w = {.s = s};
	struct stat st;
	int err = 0;

	if (fstat(s->t.dir_fd, &st))
		return -errno;
	w.device = st.st_dev;
	w.piece = malloc(PIECE);
	if (!w.piece)
		return -ENOMEM;
	err = open_start(&w);
	if (err >= 0)
		err = walk_fd(&w, err);
	free(w.piece);
	kv_buf_free(&w.path);
	return err == DONE || err == -ENOENT ? 0 : err;
}
