/* SPDX-License-Identifier: MIT */
/*
 * This machine as an os_env: finding, creating and locking a volume, the clock
 * and the random source. A file is locked with flock(), which the kernel drops
 * when the process dies however it dies. A device is also opened with O_EXCL,
 * so that it cannot be taken while a file system on it is mounted, nor mounted
 * while we have it. Waiting polls: neither lock can be waited for with a limit.
 */
#include "kvcore/os/os_env.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_volume_file.h"

#define HOST_POLL_NS 10000000L /* between attempts to lock */

static uint64_t host_monotonic_ns(struct os_env *env)
{
	struct timespec t;

	(void)env;
	KV_ASSERT(!clock_gettime(CLOCK_MONOTONIC, &t));
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int64_t host_realtime_ns(struct os_env *env)
{
	struct timespec t;

	(void)env;
	KV_ASSERT(!clock_gettime(CLOCK_REALTIME, &t));
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int host_random(struct os_env *env, void *buf, size_t len)
{
	uint8_t *p = buf;

	(void)env;
	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int host_volume_remove(struct os_env *env, const char *path)
{
	(void)env;
	return unlink(path) ? -errno : 0;
}

/* What is being opened, and how. */
struct host_open {
	const char *path;
	unsigned flags; /* OS_OPEN_* */
	bool device;
	bool created;
	int fd;
};

static int host_check_type(const struct stat *st, bool *device)
{
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return -ENOTBLK;
	*device = S_ISBLK(st->st_mode);
	return 0;
}

/*
 * One attempt to open. The type is looked at before, because merely opening some
 * devices has effects and opening a FIFO waits, and after, because the path may
 * have changed in between.
 */
static int host_open_fd(struct host_open *o)
{
	int mode = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	bool writable = !(o->flags & OS_OPEN_RDONLY);
	struct stat st;
	int err = 0;

	mode |= writable ? O_RDWR : O_RDONLY;
	if (stat(o->path, &st)) {
		if (errno != ENOENT || !(o->flags & OS_OPEN_CREATE) || !writable)
			return -errno;
		o->fd = open(o->path, mode | O_CREAT | O_EXCL, 0666);
		if (o->fd < 0)
			return errno == EEXIST ? -EAGAIN : -errno;
		o->created = true;
		o->device = false;
		return 0;
	}
	err = host_check_type(&st, &o->device);
	if (err)
		return err;
	if (o->device && writable && !(o->flags & OS_OPEN_NOLOCK))
		mode |= O_EXCL;
	o->fd = open(o->path, mode);
	if (o->fd < 0)
		return errno == EBUSY ? -KV_E_IN_USE : -errno;
	if (fstat(o->fd, &st))
		err = -errno;
	else
		err = host_check_type(&st, &o->device);
	if (err) {
		close(o->fd);
		o->fd = -1;
	}
	return err;
}

/* 0, -KV_E_IN_USE, -EAGAIN (the file was removed before we had the lock), -errno. */
static int host_lock_fd(const struct host_open *o)
{
	struct stat st;
	int rc;

	if (o->flags & OS_OPEN_NOLOCK)
		return 0;
	do {
		rc = flock(o->fd, (o->flags & OS_OPEN_RDONLY ? LOCK_SH : LOCK_EX) | LOCK_NB);
	} while (rc && errno == EINTR);
	if (rc)
		return errno == EWOULDBLOCK ? -KV_E_IN_USE : -errno;
	if (fstat(o->fd, &st))
		return -errno;
	return st.st_nlink ? 0 : -EAGAIN;
}

static int host_open_and_lock(struct host_open *o)
{
	int err = host_open_fd(o);

	if (err)
		return err;
	err = host_lock_fd(o);
	if (err) {
		close(o->fd);
		o->fd = -1;
	}
	return err;
}

/* A second description of the same inode, -1 if the host cannot do direct I/O on it. */
static int host_open_direct(const struct host_open *o)
{
	int mode = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_DIRECT;
	struct stat a, b;
	int fd;

	mode |= o->flags & OS_OPEN_RDONLY ? O_RDONLY : O_RDWR;
	fd = open(o->path, mode);
	if (fd < 0)
		return -1;
	if (fstat(o->fd, &a) || fstat(fd, &b) || a.st_dev != b.st_dev || a.st_ino != b.st_ino) {
		close(fd);
		return -1;
	}
	return fd;
}

static int host_volume_open(struct os_env *env, const char *path, unsigned flags, unsigned wait_ms,
			    struct os_volume **out, bool *created)
{
	const struct timespec pause = {0, HOST_POLL_NS};
	uint64_t start = host_monotonic_ns(env);
	struct host_open o = {.path = path, .flags = flags, .fd = -1};
	int direct_fd, err;

	for (;;) {
		err = host_open_and_lock(&o);
		if (err != -KV_E_IN_USE && err != -EAGAIN)
			break;
		if (host_monotonic_ns(env) - start >= (uint64_t)wait_ms * 1000000U) {
			err = -KV_E_IN_USE;
			break;
		}
		nanosleep(&pause, NULL);
	}
	if (err)
		return err;
	direct_fd = host_open_direct(&o);
	err = os_volume_file_new(o.fd, direct_fd, o.device, out);
	if (err) {
		if (direct_fd >= 0)
			close(direct_fd);
		close(o.fd);
		return err;
	}
	if (created)
		*created = o.created;
	return 0;
}

static const struct os_env_ops host_ops = {
	.volume_open = host_volume_open,
	.volume_remove = host_volume_remove,
	.monotonic_ns = host_monotonic_ns,
	.realtime_ns = host_realtime_ns,
	.random = host_random,
};

struct os_env *os_env_host(void)
{
	/* The env's only member is the constant table: nothing in it ever changes. */
	static struct os_env host = {&host_ops};

	return &host;
}
