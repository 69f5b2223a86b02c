/* SPDX-License-Identifier: MIT */
/* Lines of a listing, in the columns of ls -l, so that people and scripts know them. */
#include "fusefs/cli/list.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

/* What stands in place of x, by its own bit and that of s or t. */
static char mode_x(mode_t mode, mode_t x, mode_t special, char letter)
{
	if (mode & special)
		return mode & x ? letter : (char)(letter - 'a' + 'A');
	return mode & x ? 'x' : '-';
}

static void mode_text(mode_t mode, char out[11])
{
	static const char types[] = "?pc?d?b?-?l?s???";
	static const char bits[] = "rwxrwxrwx";

	out[0] = types[(mode & S_IFMT) >> 12];
	for (unsigned i = 0; i < 9; i++)
		out[1 + i] = mode & (0400U >> i) ? bits[i] : '-';
	out[3] = mode_x(mode, S_IXUSR, S_ISUID, 's');
	out[6] = mode_x(mode, S_IXGRP, S_ISGID, 's');
	out[9] = mode_x(mode, S_IXOTH, S_ISVTX, 't');
	out[10] = '\0';
}

static void print_owner(const struct stat *st)
{
	const struct passwd *user = getpwuid(st->st_uid);
	const struct group *group;

	if (user)
		printf("%-8s ", user->pw_name);
	else
		printf("%-8lu ", (unsigned long)st->st_uid);
	group = getgrgid(st->st_gid);
	if (group)
		printf("%-8s ", group->gr_name);
	else
		printf("%-8lu ", (unsigned long)st->st_gid);
}

static void print_long(const struct stat *st)
{
	char mode[11], when[32];
	struct tm tm;

	mode_text(st->st_mode, mode);
	printf("%s %3lu ", mode, (unsigned long)st->st_nlink);
	print_owner(st);
	if (S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode))
		printf("%5u, %5u ", major(st->st_rdev), minor(st->st_rdev));
	else
		printf("%12" PRIu64 " ", (uint64_t)st->st_size);
	if (!localtime_r(&st->st_mtim.tv_sec, &tm) ||
	    !strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm))
		memcpy(when, "?", 2);
	printf("%16s ", when);
}

void list_print(const struct list *l, const char *name, const struct stat *st,
		struct kv_slice target)
{
	if (l->is_long)
		print_long(st);
	text_write(stdout, kv_slice_of(name, strlen(name)), l->names.style);
	if (l->is_long && S_ISLNK(st->st_mode)) {
		fputs(" -> ", stdout);
		text_write(stdout, target, l->names.style);
	}
	putchar(l->names.end);
}
