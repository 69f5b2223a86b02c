/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing /dev/fuse on behalf of libfuse, to agree with the kernel
 * on what a libfuse of 3.14 does not know: FUSE_HANDLE_KILLPRIV_V2. Without it
 * the kernel asks for security.capability before each write to a file, which
 * doubles the cost of a write; with it, once a file. In return the daemon clears
 * set-id bits, see op_setattr().
 */
#ifndef FUSEFS_DEVICE_H
#define FUSEFS_DEVICE_H

#include <sys/uio.h>

#include "fusefs/op.h"

/* After fuse_session_mount(), before requests are served; the session's user data is a struct
 * kvfsd. Return: 0 or -errno. */
int device_attach(struct fuse_session *session) KV_MUST_CHECK;
/* writev(2) of one answer, counted if it is an error. All answers go this way, libfuse's too.
 * Return: 0 or -errno. */
int device_answer(struct kvfsd *d, int fd, struct iovec *iov, int count) KV_MUST_CHECK;

#endif
