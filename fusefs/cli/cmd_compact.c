/* SPDX-License-Identifier: MIT */
/*
 * kvfs compact: rewrites the tree without what is dead. A mount cannot be asked
 * for it, and does the same by itself in idle time, a little later.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/target.h"
#include "fusefs/cli/text.h"

const char cmd_compact_help[] =
	"usage: kvfs compact [-v] VOLUME\n"
	"\n"
	"Rewrite the whole tree of a volume that is not mounted into its last level,\n"
	"drop what is dead, and give its space back. It can be interrupted at any time;\n"
	"what was done is kept. A mounted volume does this in idle time.\n"
	"\n"
	"  -v, --verbose   say how much was used before and after\n";

struct meter {
	bool shown; /* on a terminal */
	bool drawn;
	uint64_t percent;
};

static int report(void *ctx, uint64_t done, uint64_t total)
{
	struct meter *m = ctx;
	uint64_t percent = total ? done / (total / 100 + 1) : 0;

	if (message_interrupted())
		return 1;
	if (m->shown && (!m->drawn || percent != m->percent)) {
		fprintf(stderr, "\rcompacting: %" PRIu64 "%%", percent);
		m->drawn = true;
		m->percent = percent;
	}
	return 0;
}

static int compact(struct target *t, bool verbose)
{
	struct meter meter = {.shown = isatty(2)};
	const struct kv_progress progress = {report, &meter};
	struct kv_db_info before, after;
	char was[16], is[16];
	int err;

	err = kv_get_info(kvfs_db(t->fs), &before);
	if (!err)
		err = kv_compact(kvfs_db(t->fs), &progress);
	if (meter.drawn)
		fputs("\r\033[K", stderr);
	if (!err)
		err = kv_get_info(kvfs_db(t->fs), &after);
	if (err || !verbose)
		return err;
	text_size(was, before.used);
	text_size(is, after.used);
	printf("%s: %s in use, %s before\n", t->name, is, was);
	return 0;
}

int cmd_compact(int argc, char **argv)
{
	static const struct option longs[] = {
		{"verbose", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct target t;
	bool verbose = false;
	int opt, err;

	while ((opt = cmd_next(argc, argv, ":vh", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_compact_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD)
			return CMD_USAGE;
		verbose = true;
	}
	if (!cmd_check_words(argc, argv, 1, 1))
		return CMD_USAGE;
	if (target_open(argv[optind], TARGET_COMPACT, &t))
		return CMD_FAILED;
	message_catch_signals();
	err = compact(&t, verbose);
	if (err)
		message(t.name, "%s",
			err == -KV_E_INTERRUPTED ? "interrupted; the volume is sound, and what was "
						   "done is kept"
						 : message_volume(err));
	return target_close(&t) || err ? CMD_FAILED : CMD_OK;
}
