/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of a mount are directories of .kvfs/snapshots, so there is nothing to
 * ask the daemon for but files. The control directory is that of the mount's
 * root; a descriptor of it is taken only if it is of the same file system, so
 * that nobody is led to another volume.
 */
#include "fusefs/cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fusefs/cli/channel.h"
#include "fusefs/cli/text.h"
#include "kvcore/base/buf.h"

int control_open_below(int dir_fd, const char *path, int flags)
{
	const struct open_how how = {
		.flags = (unsigned)flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	long fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int control_open(const struct target *t, const char *what, int flags)
{
	struct kv_buf path = {0};
	struct stat here, there;
	int root, fd;

	if (buf_printf(&path, ".kvfs/%s", what))
		return -ENOMEM;
	root = open(t->mount.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	fd = root < 0 ? -errno : control_open_below(root, (char *)path.data, flags);
	if (root >= 0)
		(void)close(root);
	kv_buf_free(&path);
	if (fd < 0)
		return fd;
	if (fstat(fd, &there) || fstat(t->dir_fd, &here) || here.st_dev != there.st_dev) {
		(void)close(fd);
		return -EXDEV;
	}
	return fd;
}

char *control_below(const struct target *t)
{
	char *path = realpath(t->name, NULL);
	char *root = realpath(t->mount.dir, NULL);
	char *below = NULL;
	size_t len;

	if (path && root) {
		len = strcmp(root, "/") ? strlen(root) : 0;
		if (!strncmp(path, root, len) && (path[len] == '/' || !path[len]))
			below = strdup(strcmp(path + len, "/") ? path + len : "");
	}
	free(path);
	free(root);
	return below;
}

char *control_path(const struct target *t, const char *below)
{
	char *dir = t->mounted ? control_below(t) : strdup("");
	char *rest = text_dir(below);
	struct kv_buf path = {0};
	int err = dir && rest ? 0 : -ENOMEM;

	if (!err)
		err = buf_printf(&path, "%s%s%s", dir[0] ? dir + 1 : "",
				 dir[0] && rest[0] ? "/" : "", rest);
	if (!err)
		err = buf_append_byte(&path, 0);
	free(dir);
	free(rest);
	if (err)
		kv_buf_free(&path);
	return (char *)path.data;
}

const char *control_message(int err)
{
	switch (err) {
	case -KV_E_NOTFOUND:
	case -ENOENT:
		return "there is no such snapshot";
	case -EEXIST:
	case -KV_E_EXISTS:
		return "there is a snapshot of that name already";
	case -EINVAL:
		return "a snapshot's name is that of a file: no slash, not . or ..";
	case -ENAMETOOLONG:
		return "a snapshot's name has at most 255 bytes";
	case -EACCES:
	case -EPERM:
		return "only root and the user who mounted may take and drop snapshots";
	case -EROFS:
	case -KV_E_READONLY:
		return "the volume is mounted read-only";
	case -EOPNOTSUPP:
		return "it is a snapshot of a directory, which can only be looked into, restored "
		       "by "
		       "path, and cloned";
	case -ENOTDIR:
		return "there is no such directory";
	case -EXDEV:
		return "the root of this mount is not seen here; name the directory on which the "
		       "volume is mounted";
	default:
		return kv_strerror(err);
	}
}

/* ---- the list ---- */

/* Takes @one's strings, whatever the result. */
static int add(struct control_snapshot **list, size_t *count, struct control_snapshot one)
{
	struct control_snapshot *more = NULL;

	if (one.name && one.of)
		more = realloc(*list, (*count + 1) * sizeof(*more));
	if (!more) {
		free(one.name);
		free(one.of);
		return -ENOMEM;
	}
	*list = more;
	more[(*count)++] = one;
	return 0;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place: \xNN is a byte. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] == 'x' && hex(s[2]) >= 0 && hex(s[3]) >= 0) {
			*to++ = (char)(hex(s[2]) << 4 | hex(s[3]));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* The field after the tab, which becomes the end of the one before; NULL: there is none. */
static char *next_field(char *field)
{
	char *tab = field ? strchr(field, '\t') : NULL;

	if (tab)
		*tab++ = '\0';
	return tab;
}

static int parse(char *line, struct control_snapshot **list, size_t *count)
{
	struct control_snapshot one = {0};
	char *name, *held, *of, *end, *end2;

	line[strcspn(line, "\n")] = '\0';
	name = next_field(next_field(line));
	held = next_field(name);
	of = next_field(held);
	if (!of)
		return -EBADMSG;
	(void)next_field(of);
	errno = 0;
	one.created_ns = strtoll(line, &end, 10);
	one.held_bytes = strtoull(held, &end2, 10);
	if (errno || *end || *end2 || end == line || end2 == held)
		return -EBADMSG;
	unescape(name);
	unescape(of);
	/* Paths are made of both. */
	if (strchr(name, '/') || !text_is_path(name) || (*of && !text_is_path(of)))
		return 0;
	one.name = strdup(name);
	one.of = strdup(of);
	return add(list, count, one);
}

static int read_mounted(const struct target *t, struct control_snapshot **list, size_t *count)
{
	int fd = control_open(t, "snapshots.tsv", O_RDONLY);
	FILE *in;
	char *line = NULL;
	size_t cap = 0;
	int err = 0;

	if (fd < 0)
		return fd;
	in = fdopen(fd, "r");
	if (!in) {
		(void)close(fd);
		return -ENOMEM;
	}
	while (!err && getline(&line, &cap, in) > 0)
		err = parse(line, list, count);
	if (!err && ferror(in))
		err = -EIO;
	free(line);
	(void)fclose(in);
	return err;
}

static int add_of_volume(const struct target *t, const struct kv_snapshot_info *info,
			 struct control_snapshot **list, size_t *count)
{
	struct control_snapshot one = {.created_ns = info->created_ns,
				       .held_bytes = info->held_bytes};
	struct kv_buf of = {0};
	int err = kvfs_snapshot_of(t->fs, info->name, &of);

	if (!err)
		err = buf_append_byte(&of, 0);
	if (!err) {
		one.name = strdup(info->name);
		one.of = strdup((const char *)of.data);
		err = add(list, count, one);
	}
	kv_buf_free(&of);
	return err;
}

static int read_volume(const struct target *t, struct control_snapshot **list, size_t *count)
{
	struct kv_snapshot_info *info = NULL;
	size_t n = 0;
	int err = kv_snapshot_list(kvfs_db(t->fs), &info, &n);

	for (size_t i = 0; !err && i < n; i++)
		err = add_of_volume(t, &info[i], list, count);
	free(info);
	return err;
}

int control_snapshots(const struct target *t, struct control_snapshot **out, size_t *count)
{
	struct control_snapshot *list = NULL;
	size_t n = 0;
	int err = t->mounted ? read_mounted(t, &list, &n) : read_volume(t, &list, &n);

	if (err) {
		control_free_snapshots(list, n);
		return err;
	}
	*out = list;
	*count = n;
	return 0;
}

void control_free_snapshots(struct control_snapshot *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(list[i].name);
		free(list[i].of);
	}
	free(list);
}

/* ---- create and drop ---- */

static int change_mounted(const struct target *t, const char *name, bool create)
{
	int fd, err;

	err = kvfs_snapshot_check_name(name);
	if (err)
		return err;
	fd = control_open(t, "snapshots", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd == -ENOENT ? -EXDEV : fd;
	err = (create ? mkdirat(fd, name, 0777) : unlinkat(fd, name, AT_REMOVEDIR)) ? -errno : 0;
	(void)close(fd);
	return err;
}

int control_create(const struct target *t, const char *name)
{
	return t->mounted ? change_mounted(t, name, true) : kvfs_snapshot_create(t->fs, name);
}

int control_create_of(const struct target *t, const char *name, const char *of)
{
	struct channel c;
	int err = kvfs_snapshot_check_name(name);

	if (err || !t->mounted)
		return err ? err
			   : kvfs_snapshot_create_of(t->fs, name, kv_slice_of(of, strlen(of)));
	err = channel_open(t, &c);
	if (err)
		return err;
	err = channel_ask(&c, (const char *const[]){"snapshot", name, of, NULL});
	channel_close(&c);
	return err;
}

int control_drop(const struct target *t, const char *name)
{
	return t->mounted ? change_mounted(t, name, false) : kvfs_snapshot_drop(t->fs, name);
}

/* ---- the root hash ---- */

int control_hash(const struct target *t, const char *name, uint8_t out[KVFS_HASH_LEN])
{
	struct kv_slice piece;
	struct channel c;
	int err = kvfs_snapshot_check_name(name);

	if (err || !t->mounted)
		return err ? err : kvfs_snapshot_hash(t->fs, name, out);
	err = channel_open(t, &c);
	if (err)
		return err;
	err = channel_ask(&c, (const char *const[]){"hash", name, NULL});
	if (!err)
		err = channel_get(&c, &piece);
	if (!err && piece.len != KVFS_HASH_LEN)
		err = -EBADMSG;
	if (!err)
		memcpy(out, piece.data, KVFS_HASH_LEN);
	channel_close(&c);
	return err;
}
