/* SPDX-License-Identifier: MIT */
/* A volume in a regular file or block device of this machine. */
#ifndef KVCORE_OS_OS_VOLUME_FILE_H
#define KVCORE_OS_OS_VOLUME_FILE_H

#include "kvcore/os/os_env.h"

/*
 * Take over open descriptors: @fd for cached I/O, which also carries the lock,
 * and @direct_fd for direct I/O, -1 if the host has none. They are closed with
 * the volume; on error they are still the caller's.
 * Return: 0, -ENOMEM.
 */
int os_volume_file_new(int fd, int direct_fd, bool device, struct os_volume **out) KV_MUST_CHECK;

#endif
