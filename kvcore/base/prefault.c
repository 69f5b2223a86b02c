/* SPDX-License-Identifier: MIT */
/* See prefault.h. Pages that are partly another's are left alone: they are in use already. */
#include "kvcore/base/prefault.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#define PREFAULT_PAGE ((uintptr_t)4096) /* where pages are larger, the call refuses: a wish */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* linux/mman.h since 5.14 */
#endif

void prefault(void *p, size_t len)
{
	uintptr_t from = ((uintptr_t)p + PREFAULT_PAGE - 1) & ~(PREFAULT_PAGE - 1);
	uintptr_t to = ((uintptr_t)p + len) & ~(PREFAULT_PAGE - 1);
	int before = errno;

	if (to < from || to - from < PREFAULT_MIN)
		return;
	(void)madvise((void *)from, to - from, MADV_POPULATE_WRITE);
	errno = before;
}
