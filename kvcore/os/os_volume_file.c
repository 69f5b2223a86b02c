/* SPDX-License-Identifier: MIT */
/*
 * I/O on a regular file or block device. One volume has two descriptors, a
 * cached and a direct one, because O_DIRECT belongs to the description and not
 * to the call. Where direct I/O is refused (EINVAL: tmpfs, odd sector sizes,
 * the unaligned rest after a short transfer) the cached one takes its place;
 * the caller only loses speed.
 */
#include "kvcore/os/os_volume_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/os/os_thread.h"

struct volume_file {
	struct os_volume base;
	int fd;			   /* [const] cached; holds the lock */
	int direct_fd;		   /* [const] -1: none */
	bool device;		   /* [const] */
	struct os_mutex resize_mu; /* grow and shrink one at a time */
};

static struct volume_file *volume_file(struct os_volume *v)
{
	return KV_CONTAINER_OF(v, struct volume_file, base);
}

/* The next descriptor for a transfer: direct while it is wanted, there, and aligned. */
static int volume_file_pick(const struct volume_file *f, uint64_t off, size_t len, bool direct)
{
	bool aligned = off % OS_IO_ALIGN == 0 && len % OS_IO_ALIGN == 0;

	return direct && aligned && f->direct_fd >= 0 ? f->direct_fd : f->fd;
}

static bool volume_file_range_ok(uint64_t off, size_t len)
{
	return len <= INT64_MAX && off <= INT64_MAX - len;
}

static void volume_file_check_direct(uint64_t off, const void *buf, size_t len, unsigned flags)
{
	if (flags & OS_IO_DIRECT)
		KV_ASSERT((off | len | (uintptr_t)buf) % OS_IO_ALIGN == 0);
}

static int volume_file_read(struct os_volume *v, uint64_t off, void *buf, size_t len,
			    unsigned flags)
{
	struct volume_file *f = volume_file(v);
	bool direct = flags & OS_IO_DIRECT;
	uint8_t *p = buf;

	volume_file_check_direct(off, buf, len, flags);
	if (!volume_file_range_ok(off, len))
		return -KV_E_CORRUPT;
	while (len) {
		int fd = volume_file_pick(f, off, len, direct);
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd != f->fd) {
			direct = false;
			continue;
		}
		if (n < 0)
			return -errno;
		if (!n)
			return -KV_E_CORRUPT; /* beyond the end */
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int volume_file_write(struct os_volume *v, uint64_t off, const void *buf, size_t len,
			     unsigned flags)
{
	struct volume_file *f = volume_file(v);
	bool direct = flags & OS_IO_DIRECT;
	const uint8_t *p = buf;

	volume_file_check_direct(off, buf, len, flags);
	if (!volume_file_range_ok(off, len))
		return -EFBIG;
	while (len) {
		int fd = volume_file_pick(f, off, len, direct);
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd != f->fd) {
			direct = false;
			continue;
		}
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO; /* no progress and no reason: never spin on it */
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Flushes what either descriptor wrote: both are the same inode. */
static int volume_file_sync(struct os_volume *v)
{
	int rc;

	do { /* an interrupted call has reported no failed write */
		rc = fdatasync(volume_file(v)->fd);
	} while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

static int volume_file_size(struct os_volume *v, uint64_t *bytes)
{
	struct volume_file *f = volume_file(v);
	struct stat st;
	uint64_t size;

	if (f->device) {
		if (ioctl(f->fd, BLKGETSIZE64, &size))
			return -errno;
		*bytes = size;
		return 0;
	}
	if (fstat(f->fd, &st))
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int volume_file_truncate(struct volume_file *f, uint64_t bytes)
{
	int rc;

	do {
		rc = ftruncate(f->fd, (off_t)bytes);
	} while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

static int volume_file_allocate(struct volume_file *f, uint64_t from, uint64_t to)
{
	int rc, err, undo;

	do {
		rc = fallocate(f->fd, 0, (off_t)from, (off_t)(to - from));
	} while (rc && errno == EINTR);
	if (!rc)
		return 0;
	err = -errno;
	if (err == -EOPNOTSUPP || err == -ENOSYS)
		return volume_file_truncate(f, to);
	/* A part may have been allocated, and the file be longer. */
	undo = volume_file_truncate(f, from);
	return undo ? undo : err;
}

static int volume_file_grow(struct os_volume *v, uint64_t bytes)
{
	struct volume_file *f = volume_file(v);
	uint64_t size = 0;
	int err;

	if (bytes > INT64_MAX)
		return -EFBIG;
	os_mutex_lock(&f->resize_mu);
	err = volume_file_size(v, &size);
	if (!err && size < bytes)
		err = f->device ? -KV_E_NOSPACE : volume_file_allocate(f, size, bytes);
	os_mutex_unlock(&f->resize_mu);
	return err;
}

static int volume_file_shrink(struct os_volume *v, uint64_t bytes)
{
	struct volume_file *f = volume_file(v);
	uint64_t size = 0;
	int err;

	if (f->device)
		return 0;
	os_mutex_lock(&f->resize_mu);
	err = volume_file_size(v, &size);
	if (!err && size > bytes)
		err = volume_file_truncate(f, bytes);
	os_mutex_unlock(&f->resize_mu);
	return err;
}

static void volume_file_discard(struct os_volume *v, uint64_t off, uint64_t len)
{
	struct volume_file *f = volume_file(v);
	uint64_t range[2] = {off, len};
	int rc;

	if (!len || len > INT64_MAX || off > INT64_MAX - len)
		return;
	do { /* failing only costs space */
		if (f->device)
			rc = ioctl(f->fd, BLKDISCARD, range);
		else
			rc = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       (off_t)off, (off_t)len);
	} while (rc && errno == EINTR);
}

static bool volume_file_is_device(struct os_volume *v)
{
	return volume_file(v)->device;
}

static int volume_file_host_free(struct os_volume *v, uint64_t *bytes)
{
	struct volume_file *f = volume_file(v);
	struct statvfs st;

	if (f->device) {
		*bytes = 0;
		return 0;
	}
	if (fstatvfs(f->fd, &st))
		return -errno;
	*bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

/* close() releases the descriptor even when it fails, EINTR included: no retry. */
static int volume_file_close(struct os_volume *v)
{
	struct volume_file *f = volume_file(v);
	int err = 0;

	if (f->direct_fd >= 0 && close(f->direct_fd))
		err = -errno;
	if (close(f->fd) && !err)
		err = -errno;
	os_mutex_fini(&f->resize_mu);
	free(f);
	return err == -EINTR ? 0 : err;
}

static const struct os_volume_ops volume_file_ops = {
	.read = volume_file_read,
	.write = volume_file_write,
	.sync = volume_file_sync,
	.size = volume_file_size,
	.grow = volume_file_grow,
	.shrink = volume_file_shrink,
	.discard = volume_file_discard,
	.is_device = volume_file_is_device,
	.host_free = volume_file_host_free,
	.close = volume_file_close,
};

int os_volume_file_new(int fd, int direct_fd, bool device, struct os_volume **out)
{
	struct volume_file *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	err = os_mutex_init(&f->resize_mu, OS_RANK_LEAF);
	if (err) {
		free(f);
		return err;
	}
	f->base.ops = &volume_file_ops;
	f->fd = fd;
	f->direct_fd = direct_fd;
	f->device = device;
	*out = &f->base;
	return 0;
}
