/* SPDX-License-Identifier: MIT */
/*
 * Giving up what a process does not need: capabilities, the gain of new ones, and system calls.
 * docs/security.md says what is left and why.
 *
 * Thread safety: the calls concern the calling thread and those that it makes later, so they are
 * made while there is no other.
 */
#ifndef FUSEFS_CONFINE_H
#define FUSEFS_CONFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "fusefs/log.h"
#include "kvcore/kv_types.h"

#define CONFINE_CAP(number) (UINT64_C(1) << (number))

/*
 * Keep of the capabilities those in @keep, where they are held, as permitted and effective; none
 * is inheritable, ambient or, if that may be said, in the bounding set.
 * Return: 0 or -errno.
 */
int confine_capabilities(uint64_t keep) KV_MUST_CHECK;
/* No program that is run gives rights: not by set-user-ID bits, not by file capabilities. */
int confine_privileges(void) KV_MUST_CHECK;
/*
 * Only the system calls of a daemon that serves, until the end. Nothing is done, and a line
 * logged, where this is not known: another processor, a kernel without seccomp.
 * Return: 0, 1 (not done), or -errno.
 */
int confine_calls(struct log *log) KV_MUST_CHECK;
/*
 * All three for the daemon, which is also no longer to be looked into by others of its user.
 * What fails is logged.
 */
int confine_daemon(struct log *log) KV_MUST_CHECK;

#endif
