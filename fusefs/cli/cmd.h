/* SPDX-License-Identifier: MIT */
/*
 * The subcommands. Each is called with its own name as argv[0], prints its
 * results to standard output and one line for each error to standard error,
 * and returns the exit status.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

#include <getopt.h>

enum cmd_status { CMD_OK, CMD_FAILED, CMD_USAGE };

struct cmd {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);
	const char *help;
};

#define CMD_DECLARE(name)                                                                          \
	int cmd_##name(int argc, char **argv);                                                     \
	extern const char cmd_##name##_help[]

CMD_DECLARE(info);
CMD_DECLARE(ls);
CMD_DECLARE(get);
CMD_DECLARE(put);
CMD_DECLARE(rm);
CMD_DECLARE(scan);
CMD_DECLARE(snapshot);
CMD_DECLARE(clone);
CMD_DECLARE(diff);
CMD_DECLARE(watch);
CMD_DECLARE(log);
CMD_DECLARE(at);
CMD_DECLARE(send);
CMD_DECLARE(receive);
CMD_DECLARE(begin);
CMD_DECLARE(commit);
CMD_DECLARE(abort);
CMD_DECLARE(txn);
CMD_DECLARE(backup);
CMD_DECLARE(sync);
CMD_DECLARE(compact);
CMD_DECLARE(scrub);
CMD_DECLARE(dump);

/* Returned by cmd_next() besides the options' own values. */
enum { CMD_OPT_END = -1, CMD_OPT_HELP = 'h', CMD_OPT_BAD = '?' };

/*
 * getopt_long() with complaints in our voice. @shorts begins with ':' (options anywhere) or "+:"
 * (up to the first other word); 'h' and --help belong into it and @longs.
 */
int cmd_next(int argc, char **argv, const char *shorts, const struct option *longs);
/* What is left: @min to @max words (0: any number). Complains and returns 0 if not so. */
int cmd_check_words(int argc, char **argv, int min, int max);

/* For commands without options of their own: CMD_OK and optind is set, or what to exit with. */
enum { CMD_GO_ON = -1 };
int cmd_only_help(int argc, char **argv, const char *shorts, const char *help);

#endif
