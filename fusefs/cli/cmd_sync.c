/* SPDX-License-Identifier: MIT */
/*
 * kvfs sync: what sync(1) cannot do, because FUSE of this age does not tell the
 * daemon. An fsync of any directory of a mount makes all of it durable. A volume
 * that is not mounted is opened, which replays its log, and closed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"

const char cmd_sync_help[] =
	"usage: kvfs sync TARGET\n"
	"\n"
	"Return when everything written to TARGET so far is durable against a loss of\n"
	"power.\n";

int cmd_sync(int argc, char **argv)
{
	struct target t;
	int go = cmd_only_help(argc, argv, ":h", cmd_sync_help);
	int err;

	if (go != CMD_GO_ON)
		return go;
	if (!cmd_check_words(argc, argv, 1, 1))
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_WRITE, &t))
		return CMD_FAILED;
	if (t.mounted)
		err = fsync(t.dir_fd) ? -errno : 0;
	else
		err = kvfs_sync(t.fs);
	if (err)
		message(t.name, "%s", message_volume(err));
	return target_close(&t) || err ? CMD_FAILED : CMD_OK;
}
