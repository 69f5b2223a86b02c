/* SPDX-License-Identifier: MIT */
/*
 * kvfs dump: the structures on disk as lines of text, for whoever looks into a
 * damaged volume or learns the format (docs/format.md). It works without
 * opening the volume, and so also on one that cannot be opened.
 */
#include <stdbool.h>
#include <stdio.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"
#include "kvcore/base/base.h"

const char cmd_dump_help[] =
	"usage: kvfs dump [--superblock] [--manifest] [--log] [--tables] VOLUME\n"
	"\n"
	"Describe the structures of a volume that is not mounted, one a line. Bytes\n"
	"outside printable ASCII are written \\xNN. Nothing is written and no log replayed.\n"
	"\n"
	"  --superblock   both copies; this and the manifest are the default\n"
	"  --manifest     tables, value segments and snapshots of the last checkpoint\n"
	"  --log          frames after it\n"
	"  --tables       pages and entries of every table\n";

static int print_line(void *ctx, const char *text)
{
	(void)ctx;
	puts(text);
	return ferror(stdout) != 0;
}

static int dump(const char *volume, const bool want[4])
{
	static const enum kv_dump_what order[] = {KV_DUMP_SUPERBLOCK, KV_DUMP_MANIFEST, KV_DUMP_LOG,
						  KV_DUMP_TABLES};
	int err = 0;

	for (size_t i = 0; !err && i < KV_ARRAY_COUNT(order); i++) {
		if (want[i])
			err = kv_dump(volume, order[i], NULL, print_line, NULL);
	}
	/* main() reports a failure of standard output. */
	if (err && !ferror(stdout))
		message(volume, "%s", message_volume(err));
	return err && !ferror(stdout) ? CMD_FAILED : CMD_OK;
}

int cmd_dump(int argc, char **argv)
{
	enum { WHAT = 256 };
	static const struct option longs[] = {
		{"superblock", no_argument, NULL, WHAT}, {"manifest", no_argument, NULL, WHAT + 1},
		{"log", no_argument, NULL, WHAT + 2},	 {"tables", no_argument, NULL, WHAT + 3},
		{"help", no_argument, NULL, 'h'},	 {0}};
	bool want[4] = {false};
	struct target t;
	int opt, status;

	while ((opt = cmd_next(argc, argv, ":h", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_dump_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD)
			return CMD_USAGE;
		want[opt - WHAT] = true;
	}
	if (!cmd_check_words(argc, argv, 1, 1))
		return CMD_USAGE;
	if (!want[0] && !want[1] && !want[2] && !want[3])
		want[0] = want[1] = true;
	if (target_open(argv[optind], TARGET_LOOK, &t))
		return CMD_FAILED;
	status = dump(t.name, want);
	return target_close(&t) ? CMD_FAILED : status;
}
