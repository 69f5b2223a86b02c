/* SPDX-License-Identifier: MIT */
/*
 * Reading /proc. What is asked sends no request to a FUSE mount: the attributes of an
 * open file are taken as the kernel has them (AT_STATX_DONT_SYNC), so it may be asked
 * while a request is served.
 */
#include "fusefs/procs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* A number behind @label in a file of /proc; -1: there is none. */
static long read_number(const char *path, const char *label, int base)
{
	char line[256];
	long found = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	while (found < 0 && fgets(line, sizeof(line), f))
		if (strncmp(line, label, strlen(label)) == 0)
			found = strtol(line + strlen(label), NULL, base);
	(void)fclose(f);
	return found;
}

pid_t procs_of(pid_t tid)
{
	char path[64];
	long pid;

	if (!tid)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	pid = read_number(path, "Tgid:", 10);
	return pid > 0 ? (pid_t)pid : tid;
}

static bool is_for_writing(pid_t pid, const char *fd)
{
	char path[64];
	long flags;

	(void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.20s", (int)pid, fd);
	flags = read_number(path, "flags:", 8);
	return flags < 0 || (flags & O_ACCMODE) != O_RDONLY;
}

bool procs_hold(pid_t pid, dev_t device, uint64_t ino)
{
	const struct dirent *e;
	struct statx st;
	char path[64];
	bool found = false;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno != ENOENT && errno != ESRCH;
	while (!found && (e = readdir(dir)) != NULL) {
		if (e->d_name[0] == '.' ||
		    statx(dirfd(dir), e->d_name, AT_STATX_DONT_SYNC, STATX_INO, &st) ||
		    st.stx_ino != ino || makedev(st.stx_dev_major, st.stx_dev_minor) != device)
			continue;
		found = is_for_writing(pid, e->d_name);
	}
	closedir(dir);
	return found;
}
