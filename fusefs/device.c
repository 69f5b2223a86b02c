/* SPDX-License-Identifier: MIT */
/*
 * The answer to INIT is put together inside libfuse, from the capabilities that
 * it knows. So this looks for the INIT request as it is read, remembers its id
 * and what the kernel offers, and adds the flag to the answer with that id as it
 * is written. Structures and numbers are the kernel's, which are stable. All
 * other messages pass untouched.
 */
#include "fusefs/device.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void note_init(struct kvfsd *d, const void *message, size_t len)
{
	struct fuse_in_header head;
	struct fuse_init_in init;

	if (len < sizeof(head) + offsetof(struct fuse_init_in, flags) + sizeof(init.flags))
		return;
	memcpy(&head, message, sizeof(head));
	if (head.opcode != FUSE_INIT)
		return;
	memset(&init, 0, sizeof(init));
	memcpy(&init, (const char *)message + sizeof(head),
	       len - sizeof(head) < sizeof(init) ? len - sizeof(head) : sizeof(init));
	atomic_store(&d->init_flags, init.flags);
	atomic_store(&d->init_unique, head.unique);
}

static ssize_t device_read(int fd, void *buf, size_t len, void *userdata)
{
	struct kvfsd *d = userdata;
	ssize_t n = read(fd, buf, len);

	if (n > 0 && !atomic_load_explicit(&d->init_unique, memory_order_relaxed))
		note_init(d, buf, (size_t)n);
	return n;
}

static void amend_init(struct kvfsd *d, const struct iovec *iov, int count)
{
	struct fuse_out_header head;
	struct fuse_init_out init;

	memcpy(&head, iov[0].iov_base, sizeof(head));
	if (head.unique != atomic_load(&d->init_unique) || head.error || count < 2 ||
	    iov[1].iov_len < offsetof(struct fuse_init_out, flags) + sizeof(init.flags))
		return;
	if (!(atomic_load(&d->init_flags) & FUSE_HANDLE_KILLPRIV_V2))
		return;
	memcpy(&init.flags, (char *)iov[1].iov_base + offsetof(struct fuse_init_out, flags),
	       sizeof(init.flags));
	init.flags |= FUSE_HANDLE_KILLPRIV_V2;
	memcpy((char *)iov[1].iov_base + offsetof(struct fuse_init_out, flags), &init.flags,
	       sizeof(init.flags));
	atomic_store(&d->kills_privileges, true);
	atomic_store(&d->init_flags, 0); /* done */
}

/* ENOSYS is not an error of a request: it makes the kernel do without requests of that kind. */
static void count_error(struct kvfsd *d, const struct iovec *iov)
{
	struct fuse_out_header head;

	memcpy(&head, iov[0].iov_base, sizeof(head));
	if (head.unique && head.error < 0 && head.error != -ENOSYS)
		atomic_fetch_add_explicit(&d->request_errors, 1, memory_order_relaxed);
}

static ssize_t device_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct kvfsd *d = userdata;

	if (count > 0 && iov[0].iov_len == sizeof(struct fuse_out_header)) {
		if (atomic_load_explicit(&d->init_flags, memory_order_relaxed))
			amend_init(d, iov, count);
		count_error(d, iov);
	}
	return writev(fd, iov, count);
}

int device_answer(struct kvfsd *d, int fd, struct iovec *iov, int count)
{
	return device_writev(fd, iov, count, d) < 0 ? -errno : 0;
}

int device_attach(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.read = device_read, .writev = device_writev};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
