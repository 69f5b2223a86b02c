/* SPDX-License-Identifier: MIT */
/*
 * kvfs backup: a snapshot for as long as a command runs. Whatever ends it, the snapshot
 * is dropped; only a kill of this process itself leaves it behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/control.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/run.h"
#include "kvcore/base/buf.h"

const char cmd_backup_help[] =
	"usage: kvfs backup DIR -- COMMAND [ARGUMENT]...\n"
	"\n"
	"Take a snapshot of the volume that is mounted at DIR, run COMMAND in it, and drop\n"
	"it afterwards. The working directory of COMMAND is DIR as it was at one instant;\n"
	"KVFS_SNAPSHOT in its environment is the path of it.\n"
	"\n"
	"Exit status: that of COMMAND; 128 and the number of the signal that ended it; 127\n"
	"or 126 if it could not be run; 1 if there was no snapshot to run it in.\n";

static int backup(const struct target *t, char **argv)
{
	struct kv_buf name = {0}, dir = {0};
	char *below = control_below(t);
	int status = CMD_FAILED;
	int err = below ? 0 : -EXDEV;

	if (!err)
		err = buf_printf(&name, "backup.%lld.%d", (long long)time(NULL), (int)getpid());
	if (!err)
		err = buf_printf(&dir, "%s/.kvfs/snapshots/%s%s", t->mount.dir, (char *)name.data,
				 below);
	if (!err)
		err = control_create(t, (char *)name.data);
	if (err) {
		message(t->name, "%s", control_message(err));
		goto out;
	}
	status = run_command(argv, (char *)dir.data, "KVFS_SNAPSHOT");
	err = control_drop(t, (char *)name.data);
	if (err) {
		message(t->name, "snapshot %s is left: %s", (char *)name.data,
			control_message(err));
		if (status == CMD_OK)
			status = CMD_FAILED;
	}
out:
	free(below);
	kv_buf_free(&name);
	kv_buf_free(&dir);
	return status;
}

int cmd_backup(int argc, char **argv)
{
	struct target t;
	int go = cmd_only_help(argc, argv, "+:h", cmd_backup_help);
	int status, at;

	if (go != CMD_GO_ON)
		return go;
	at = optind + 1;
	if (at < argc && !strcmp(argv[at], "--"))
		at++;
	if (at >= argc) {
		message(NULL, "backup: %s; see kvfs backup --help",
			optind >= argc ? "no directory given" : "no command given");
		return CMD_USAGE;
	}
	if (target_open(argv[optind], TARGET_READ, &t))
		return CMD_FAILED;
	if (t.mounted) {
		status = backup(&t, argv + at);
	} else {
		message(t.name, "not mounted; copy the volume itself, or mount it");
		status = CMD_FAILED;
	}
	return target_close(&t) && status == CMD_OK ? CMD_FAILED : status;
}
