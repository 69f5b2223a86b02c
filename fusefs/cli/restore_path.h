/* SPDX-License-Identifier: MIT */
/* Bringing back a file or directory of a mounted volume from a snapshot. */
#ifndef CLI_RESTORE_PATH_H
#define CLI_RESTORE_PATH_H

#include "fusefs/cli/target.h"

/*
 * @path of the target becomes what it was at snapshot @name, contents, attributes and all below it,
 * at one instant and durably; others see the old state until then. Return: an exit status, after a
 * message.
 */
int restore_path(const struct target *t, const char *name, const char *path);

#endif
