/* SPDX-License-Identifier: MIT */
/*
 * Requests that are answered before libfuse sees them: those that the installed one does not know,
 * files without a name (O_TMPFILE) and statx with its time of birth, and all of them after a
 * shutdown (control.h). Thread safety: any thread.
 */
#ifndef FUSEFS_RAW_H
#define FUSEFS_RAW_H

#include <stddef.h>

#include "fusefs/op.h"

/*
 * Answer the request on /dev/fuse, @fd, if it is one of these. False: it is libfuse's.
 */
bool raw_answer(struct kvfsd *d, int fd, const void *request, size_t len);

#endif
