/* SPDX-License-Identifier: MIT */
/* The command line of fsck.kvfs. */
#ifndef FSCK_OPTIONS_H
#define FSCK_OPTIONS_H

#include <stdbool.h>

enum mode {
	MODE_ASK,   /* look, then ask once whether to repair */
	MODE_CHECK, /* -n: look only */
	MODE_PREEN, /* -p: repair what costs no data, else leave it to a person */
	MODE_YES,   /* -y: repair all that can be */
};

struct options {
	const char *volume;
	enum mode mode;
	bool force;    /* -f: with -p, check even a volume that was closed in order */
	bool progress; /* -C: show it even if standard error is no terminal */
	bool verbose;
};

/* Exit codes of fsck(8); they are added up. */
enum exit_code {
	EXIT_FIXED = 1,
	EXIT_UNFIXED = 4,
	EXIT_FAILED = 8,
	EXIT_USAGE = 16,
	EXIT_CANCELLED = 32,
};

/* Return: 0; 1: all was said and done (--help, --version); -1: wrong, a message is on stderr. */
int options_parse(int argc, char **argv, struct options *out);

#endif
