/* SPDX-License-Identifier: MIT */
/*
 * Memory that is about to be written from end to end: the kernel is asked to back it at once
 * (madvise(2), MADV_POPULATE_WRITE) instead of being interrupted for each page of it. A fault
 * costs a microsecond where the processor walks the guest's tables, and twenty where a
 * hypervisor keeps shadows of them; a page in such a call costs half of one.
 */
#ifndef KVCORE_BASE_PREFAULT_H
#define KVCORE_BASE_PREFAULT_H

#include <stddef.h>

/* Less is left to faults: a call costs as much as two of them. */
#define PREFAULT_MIN ((size_t)8 * 1024)

/*
 * The whole pages of [p, p + len), if they are PREFAULT_MIN and more. Only a wish: a kernel that
 * cannot (before Linux 5.14), or has no memory left, leaves them to be faulted in. errno stays.
 */
void prefault(void *p, size_t len);

#endif
