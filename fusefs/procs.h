/* SPDX-License-Identifier: MIT */
/* What /proc tells of other processes. Thread safety: all functions from any thread. */
#ifndef FUSEFS_PROCS_H
#define FUSEFS_PROCS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The process that a thread belongs to; 0: not to be seen from here. */
pid_t procs_of(pid_t tid);
/*
 * Whether a descriptor of the process leads to the inode of the device, and could change it. A
 * process that cannot be looked at is taken to hold it.
 */
bool procs_hold(pid_t pid, dev_t device, uint64_t ino);

#endif
