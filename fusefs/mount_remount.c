/* SPDX-License-Identifier: MIT */
/*
 * mount -o remount: the kernel's flags of the mount change, and the daemon is
 * told whether it serves read-only, so that not even an access time is written.
 * Options of the volume, such as cache=SIZE, stay as they were; mount(8) gives
 * the old ones back, so they are no error.
 */
#include "fusefs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fusefs/control.h"
#include "fusefs/mountinfo.h"
#include "kvcore/base/base.h"

static const struct {
	size_t field;
	unsigned long shown; /* in statvfs */
	unsigned long flag;  /* of mount(2) */
} switches[] = {
	{offsetof(struct mount_options, readonly), ST_RDONLY, MS_RDONLY},
	{offsetof(struct mount_options, nosuid), ST_NOSUID, MS_NOSUID},
	{offsetof(struct mount_options, nodev), ST_NODEV, MS_NODEV},
	{offsetof(struct mount_options, noexec), ST_NOEXEC, MS_NOEXEC},
	{offsetof(struct mount_options, nodiratime), ST_NODIRATIME, MS_NODIRATIME},
};

/* The present flags, with what the user said put over them. */
static unsigned long new_flags(const struct mount_options *opt, unsigned long now)
{
	unsigned long flags = 0;
	int value;

	for (size_t i = 0; i < KV_ARRAY_COUNT(switches); i++) {
		memcpy(&value, (const char *)opt + switches[i].field, sizeof(value));
		if (value == OPTIONS_ON || (value == OPTIONS_UNSAID && (now & switches[i].shown)))
			flags |= switches[i].flag;
	}
	if (opt->atime == OPTIONS_NOATIME ||
	    (opt->atime == OPTIONS_ATIME_UNSAID && (now & ST_NOATIME)))
		flags |= MS_NOATIME;
	else if (opt->atime == OPTIONS_STRICTATIME)
		flags |= MS_STRICTATIME;
	else
		flags |= MS_RELATIME;
	return flags;
}

static int tell_daemon(int fd, bool readonly, const char *dir, struct log *log)
{
	uint32_t value = readonly;
	int err;

	if (ioctl(fd, KVFS_IOC_SET_READONLY, &value) == 0)
		return 0;
	err = -errno;
	if (err == -EROFS && !readonly)
		log_error(log,
			  "%s: the volume cannot be written, or a write of it failed; "
			  "unmount it and mount it again",
			  dir);
	else
		log_error(log, "%s: the daemon refuses: %s", dir, strerror(-err));
	return err;
}

static int change_mount(const char *dir, unsigned long flags, struct log *log)
{
	int err;

	if (mount(NULL, dir, NULL, MS_REMOUNT | flags, NULL) == 0)
		return 0;
	err = -errno;
	log_error(log, "%s: %s%s", dir, strerror(-err),
		  err == -EBUSY	  ? "; files are open for writing"
		  : err == -EPERM ? "; only root may remount"
				  : "");
	return err;
}

/* The daemon allows writing before the kernel does, and forbids it after. */
static int change(const struct mount_options *opt, const char *dir, int fd, struct log *log)
{
	struct statvfs now;
	unsigned long flags;
	int err;

	if (fstatvfs(fd, &now)) {
		err = -errno;
		log_error(log, "%s: %s", dir, strerror(-err));
		return err;
	}
	flags = new_flags(opt, now.f_flag);
	if (flags & MS_RDONLY) {
		err = change_mount(dir, flags, log);
		return err ? err : tell_daemon(fd, true, dir, log);
	}
	err = tell_daemon(fd, false, dir, log);
	return err ? err : change_mount(dir, flags, log);
}

enum mount_status mount_remount(const struct mount_options *opt, struct log *log)
{
	char *dir = realpath(opt->dir, NULL);
	int fd = -1;
	int err = -EINVAL;

	if (!dir)
		log_error(log, "%s: %s", opt->dir, strerror(errno));
	else if (mountinfo_is_kvfs(dir) <= 0)
		log_error(log, "%s: no kvfs volume is mounted there", dir);
	else if ((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		log_error(log, "%s: %s", dir, strerror(errno));
	else
		err = change(opt, dir, fd, log);
	if (fd >= 0)
		close(fd);
	free(dir);
	return err ? MOUNT_FAILED : MOUNT_OK;
}
