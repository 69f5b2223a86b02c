/* SPDX-License-Identifier: MIT */
/*
 * The kvfs command: a table of subcommands, each in a file of its own.
 *
 * mount.fuse3(8), asked to mount the type fuse.kvfs, calls a program named
 * kvfs with SOURCE DIR -o OPTIONS. Such a call is passed on to mount.kvfs, so
 * that the type works whether or not mount.fuse.kvfs is installed.
 */
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore.h"

static const struct cmd commands[] = {
	{"info", "what a volume is and how full", cmd_info, cmd_info_help},
	{"ls", "list a directory", cmd_ls, cmd_ls_help},
	{"get", "write the value of a key to standard output", cmd_get, cmd_get_help},
	{"put", "set the value of a key", cmd_put, cmd_put_help},
	{"rm", "remove keys", cmd_rm, cmd_rm_help},
	{"scan", "list keys, and values, in order", cmd_scan, cmd_scan_help},
	{"snapshot", "take, list, drop, restore snapshots", cmd_snapshot, cmd_snapshot_help},
	{"clone", "a writable copy of a directory that shares contents", cmd_clone, cmd_clone_help},
	{"diff", "what changed since a snapshot", cmd_diff, cmd_diff_help},
	{"watch", "what is changed, commit by commit", cmd_watch, cmd_watch_help},
	{"log", "the versions of a file that are kept", cmd_log, cmd_log_help},
	{"at", "the tree as of a time", cmd_at, cmd_at_help},
	{"send", "a snapshot as a stream", cmd_send, cmd_send_help},
	{"receive", "make a snapshot from a stream", cmd_receive, cmd_receive_help},
	{"backup", "run a command in a snapshot", cmd_backup, cmd_backup_help},
	{"begin", "begin a transaction, a directory to change", cmd_begin, cmd_begin_help},
	{"commit", "make all of a transaction visible at once", cmd_commit, cmd_commit_help},
	{"abort", "drop a transaction", cmd_abort, cmd_abort_help},
	{"txn", "run a command in a transaction", cmd_txn, cmd_txn_help},
	{"sync", "make everything durable", cmd_sync, cmd_sync_help},
	{"compact", "drop what is dead and give its space back", cmd_compact, cmd_compact_help},
	{"scrub", "read and check everything", cmd_scrub, cmd_scrub_help},
	{"dump", "describe the structures on disk", cmd_dump, cmd_dump_help},
};

static const struct cmd *find_command(const char *name)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static void print_usage(FILE *to)
{
	fputs("usage: kvfs SUBCOMMAND TARGET [ARGUMENTS]\n"
	      "       kvfs help [SUBCOMMAND]\n"
	      "\n"
	      "Work with the keys of a kvfs volume. TARGET is the volume, a file or block device\n"
	      "that is not mounted, or a directory on which it is.\n"
	      "\n",
	      to);
	for (size_t i = 0; i < KV_ARRAY_COUNT(commands); i++)
		fprintf(to, "  %-9s%s\n", commands[i].name, commands[i].summary);
	fputs("\n"
	      "See also kvfs(8); mkfs.kvfs, mount.kvfs and fsck.kvfs.\n",
	      to);
}

/* ---- mount.fuse3 -------------------------------------------------------------- */

/* SOURCE DIR, and one of: options follow, or both are there. */
static bool is_mount_call(int argc, char **argv)
{
	struct stat st;

	if (argc < 3 || argv[1][0] == '-' || find_command(argv[2]))
		return false;
	for (int i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "-o", 2))
			return true;
	}
	return !access(argv[1], F_OK) && !stat(argv[2], &st) && S_ISDIR(st.st_mode);
}

/* mount.kvfs beside this program, or in the sbin beside its bin, or on the PATH. */
static int run_mount(char **argv)
{
	static const char *const places[] = {"mount.kvfs", "../sbin/mount.kvfs"};
	struct kv_buf path = {0};
	char self[4096];
	char *slash;
	ssize_t len;

	argv[0] = (char[]){"mount.kvfs"};
	len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[len > 0 ? len : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < KV_ARRAY_COUNT(places); i++) {
		buf_clear(&path);
		if (!buf_printf(&path, "%.*s/%s", (int)(slash - self), self, places[i]))
			(void)execv((char *)path.data, argv);
	}
	(void)execvp("mount.kvfs", argv);
	message("mount.kvfs", "cannot be run: %s", strerror(errno));
	kv_buf_free(&path);
	return CMD_FAILED;
}

/* ---- main --------------------------------------------------------------------- */

static int run_help(int argc, char **argv)
{
	const struct cmd *c;

	if (argc < 3) {
		print_usage(stdout);
		return CMD_OK;
	}
	c = find_command(argv[2]);
	if (!c) {
		message(argv[2], "no such subcommand; see kvfs --help");
		return CMD_USAGE;
	}
	fputs(c->help, stdout);
	return CMD_OK;
}

static int run(int argc, char **argv)
{
	const char *word = argc > 1 ? argv[1] : "";
	const struct cmd *c = find_command(word);

	if (c)
		return c->run(argc - 1, argv + 1);
	if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h"))
		return run_help(argc, argv);
	if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
		puts("kvfs " KVCORE_VERSION);
		return CMD_OK;
	}
	if (argc < 2) {
		print_usage(stderr);
		return CMD_USAGE;
	}
	if (is_mount_call(argc, argv))
		return run_mount(argv);
	if (argc > 2 && find_command(argv[2]))
		message(NULL, "the subcommand comes first: kvfs %s %s", argv[2], word);
	else
		message(word, "no such subcommand; see kvfs --help");
	return CMD_USAGE;
}

int main(int argc, char **argv)
{
	int status;

	(void)setlocale(LC_CTYPE, "");
	status = run(argc, argv);
	/* Output that did not reach its place is a failure, whatever else was. */
	if ((fflush(stdout) || ferror(stdout)) && status == CMD_OK) {
		message("standard output", "%s", strerror(errno));
		status = CMD_FAILED;
	}
	return status;
}
