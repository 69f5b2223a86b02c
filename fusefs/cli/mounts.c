/* SPDX-License-Identifier: MIT */
/*
 * Reads the kernel's table of mounts, whose lines are "id parent major:minor
 * root directory options ... - type source ...". A file belongs to the mount of
 * its device number, which is the same for every directory of the mount and for
 * every place where it was bound; a lookup of the longest path would have to know
 * what is mounted over what.
 */
#include "fusefs/cli/mounts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "kvcore/base/base.h"

#define TABLE "/proc/self/mountinfo"
#define TYPE  "fuse.kvfs"

/* The fields wanted, pointing into the line. */
struct fields {
	char *device, *dir, *type, *source;
};

/* In place: \ooo is a byte. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

/* False if the line is not one of kvfs. */
static bool split(char *line, struct fields *out)
{
	char *words[16];
	char *save = NULL;
	char *rest = strstr(line, " - ");
	size_t n = 0;

	if (!rest)
		return false;
	*rest = '\0';
	rest += 3;
	line[strcspn(line, "\n")] = '\0';
	for (char *w = strtok_r(line, " ", &save); w && n < 5; w = strtok_r(NULL, " ", &save))
		words[n++] = w;
	if (n < 5)
		return false;
	out->device = words[2];
	out->dir = words[4];
	out->type = strtok_r(rest, " \n", &save);
	out->source = out->type ? strtok_r(NULL, " \n", &save) : NULL;
	if (!out->source || strcmp(out->type, TYPE) != 0)
		return false;
	unescape(out->dir);
	unescape(out->source);
	return true;
}

struct query {
	bool (*match)(const struct query *q, const struct fields *f);
	const char *path;
	const struct stat *st;
};

/* In place of what was taken before; also half of it, if memory runs out. */
static int take(const struct fields *f, struct mount *out)
{
	free(out->source);
	free(out->dir);
	out->source = strdup(f->source);
	out->dir = strdup(f->dir);
	return out->source && out->dir ? 0 : -ENOMEM;
}

/* The last one that matches is the one that is seen. */
static int find(const struct query *q, struct mount *out)
{
	FILE *table = fopen(TABLE, "re");
	char *line = NULL;
	size_t cap = 0;
	struct fields f;
	int err = 0, found = 0;

	if (!table)
		return -errno;
	while (!err && getline(&line, &cap, table) > 0) {
		if (!split(line, &f) || !q->match(q, &f))
			continue;
		err = take(&f, out);
		found = 1;
	}
	free(line);
	(void)fclose(table);
	return err ? err : found;
}

static bool is_device(const struct query *q, const struct fields *f)
{
	char want[32];

	(void)snprintf(want, sizeof(want), "%u:%u", major(q->st->st_dev), minor(q->st->st_dev));
	return !strcmp(f->device, want);
}

/* By name, and by identity for another name of the same file or device. */
static bool is_source(const struct query *q, const struct fields *f)
{
	struct stat st;

	if (!strcmp(f->source, q->path))
		return true;
	if (f->source[0] != '/' || stat(f->source, &st))
		return false;
	if (S_ISBLK(st.st_mode))
		return S_ISBLK(q->st->st_mode) && st.st_rdev == q->st->st_rdev;
	return st.st_dev == q->st->st_dev && st.st_ino == q->st->st_ino;
}

int mounts_of_file(const struct stat *st, struct mount *out)
{
	struct query q = {is_device, NULL, st};

	return find(&q, out);
}

int mounts_of_volume(const char *path, const struct stat *st, struct mount *out)
{
	struct query q = {is_source, path, st};

	return find(&q, out);
}

void mounts_free(struct mount *m)
{
	free(m->source);
	free(m->dir);
	m->source = NULL;
	m->dir = NULL;
}
