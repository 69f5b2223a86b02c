/* SPDX-License-Identifier: MIT */
/*
 * A small process beside the daemon that keeps the rights which the daemon gives up before it
 * reads the first byte of a volume. It does only what is listed here, to the one directory that it
 * was started for, and sees nothing of the volume. It ends when the daemon does.
 *
 *   daemon (reads the volume, no rights) -- a socket, fixed messages --> steward (one directory)
 *
 * The daemon has one for its mount and, with the option txn, another that looks at processes:
 * while the first waits for the kernel to write back, the second answers.
 *
 * Thread safety: all functions but start and stop from any thread; one request at a time. Those
 * that take a pointer allow NULL: there is no steward.
 */
#ifndef FUSEFS_STEWARD_H
#define FUSEFS_STEWARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fusefs/options.h"

enum steward_duty { STEWARD_MOUNTS, STEWARD_LOOKS };

struct steward {
	pthread_mutex_t mu; /* of the socket */
	int fd;
	pid_t pid;
};

/*
 * Start one. The process must have no threads. @opt, with absolute paths, and @log are used by the
 * new process only.
 * Return: 0 or -errno.
 */
int steward_start(struct steward *s, enum steward_duty duty, const struct mount_options *opt,
		  struct log *log) KV_MUST_CHECK;
/* It ends, and is waited for. NULL is allowed. */
void steward_stop(struct steward *s);

/* Mount. What fails was said. Return: the descriptor of the connection, or -errno. */
int steward_mount(struct steward *s) KV_MUST_CHECK;
/* Ask for the root directory until the daemon answers, and remember its device. 0 or -errno. */
int steward_probe(struct steward *s, dev_t *device) KV_MUST_CHECK;
/*
 * Unmount what was mounted, if it is what is seen at the directory, or if a mount without a daemon
 * is. @detach: although files are open.
 * Return: 0, -ENOENT (something else is seen), -EBUSY, other -errno.
 */
int steward_unmount(struct steward *s, bool detach) KV_MUST_CHECK;
/* Have the kernel send what it has not written yet. Return: 0 or -errno. */
int steward_sync(struct steward *s) KV_MUST_CHECK;
/* procs_hold(). Without an answer: true. */
bool steward_process_holds(struct steward *s, pid_t pid, dev_t device, uint64_t ino);

#endif
