/* SPDX-License-Identifier: MIT */
/*
 * What all subcommands do with their command lines. An unknown option or a
 * wrong number of words is one line that says which and where help is.
 */
#include "fusefs/cli/cmd.h"

#include <stdio.h>
#include <string.h>

#include "fusefs/cli/message.h"

int cmd_next(int argc, char **argv, const char *shorts, const struct option *longs)
{
	const char *word = argv[optind];
	int opt;

	opterr = 0;
	opt = getopt_long(argc, argv, shorts, longs, NULL);
	if (opt != '?' && opt != ':')
		return opt;
	/* The word looked at: another one, if options and words were exchanged. */
	if (!word || word[0] != '-' || word[1] != '-')
		word = argv[optind - 1];
	if (optopt && !strchr(word, '='))
		message(NULL, "%s: %s: %s; see kvfs %s --help", argv[0], word,
			opt == ':' ? "it needs an argument" : "unknown option", argv[0]);
	else
		message(NULL, "%s: %s: unknown option; see kvfs %s --help", argv[0], word, argv[0]);
	return CMD_OPT_BAD;
}

int cmd_check_words(int argc, char **argv, int min, int max)
{
	int words = argc - optind;

	if (words >= min && (!max || words <= max))
		return 1;
	message(NULL, "%s: %s; see kvfs %s --help", argv[0],
		!words	      ? "no volume or directory given"
		: words < min ? "no key given"
			      : "too many arguments",
		argv[0]);
	return 0;
}

int cmd_only_help(int argc, char **argv, const char *shorts, const char *help)
{
	static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {0}};
	int opt = cmd_next(argc, argv, shorts, longs);

	if (opt == CMD_OPT_HELP) {
		fputs(help, stdout);
		return CMD_OK;
	}
	return opt == CMD_OPT_END ? CMD_GO_ON : CMD_USAGE;
}
