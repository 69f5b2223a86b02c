/* SPDX-License-Identifier: MIT */
/*
 * Whether a request has the parts that its kind promises: libfuse takes lengths, counts and
 * terminators in it as given. The kernel's requests always do; a broken one is refused, not
 * read beyond its end. Thread safety: any thread.
 */
#ifndef FUSEFS_REQUEST_H
#define FUSEFS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "kvcore/base/base.h"

/* Kinds since Linux 6.1 and 6.6, which older headers lack. */
#define REQUEST_TMPFILE 51U
#define REQUEST_STATX	52U

/* @request: header and body as read from /dev/fuse, at least a whole header. Kinds that are not
 * known are for libfuse to refuse. */
bool request_is_whole(const void *request, size_t len) KV_MUST_CHECK;

#endif
