/* SPDX-License-Identifier: MIT */
/*
 * Parsing of the command line. fsck(8) passes options on to us, so what it
 * gives to every checker is understood: -a is -p, and -C may carry a number.
 */
#include "fsck/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "kvcore/kvcore.h"

static const struct option long_options[] = {
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

static void print_help(void)
{
	puts("Usage: fsck.kvfs [options] VOLUME\n"
	     "Check a kvfs volume that is not mounted, and repair it.\n"
	     "\n"
	     "  -n             look only, write nothing\n"
	     "  -p             repair without asking what costs no data (at boot); skips a\n"
	     "                 volume that was closed in order\n"
	     "  -y             repair without asking all that can be repaired\n"
	     "  -f             with -p: check even a volume that was closed in order\n"
	     "  -C             show progress even if standard error is not a terminal\n"
	     "  -v             say more\n"
	     "  -h, --help     this text\n"
	     "  -V, --version  the version\n"
	     "\n"
	     "Without -n, -p or -y it looks first and asks before it repairs.\n"
	     "Exit code, added up: 0 sound, 1 repaired, 4 problems are left, 8 the check\n"
	     "failed, 16 wrong usage, 32 interrupted.");
}

/* False if two of -n, -p, -y were given. */
static bool take_mode(struct options *o, enum mode mode)
{
	if (o->mode != MODE_ASK && o->mode != mode)
		return false;
	o->mode = mode;
	return true;
}

static bool take_option(int opt, struct options *o)
{
	switch (opt) {
	case 'n':
		return take_mode(o, MODE_CHECK);
	case 'a':
	case 'p':
		return take_mode(o, MODE_PREEN);
	case 'y':
		return take_mode(o, MODE_YES);
	case 'f':
		o->force = true;
		return true;
	case 'C':
		o->progress = true;
		return true;
	default: /* 'v' */
		o->verbose = true;
		return true;
	}
}

int options_parse(int argc, char **argv, struct options *out)
{
	int opt;

	memset(out, 0, sizeof(*out));
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "anpyfvC::hV", long_options, NULL)) != -1) {
		if (opt == 'h') {
			print_help();
			return 1;
		}
		if (opt == 'V') {
			puts("fsck.kvfs " KVCORE_VERSION);
			return 1;
		}
		if (opt == '?') {
			fprintf(stderr, "fsck.kvfs: unknown option; see fsck.kvfs --help\n");
			return -1;
		}
		if (!take_option(opt, out)) {
			fprintf(stderr, "fsck.kvfs: only one of -n, -p and -y may be given\n");
			return -1;
		}
	}
	if (optind != argc - 1) {
		fprintf(stderr, "fsck.kvfs: %s; see fsck.kvfs --help\n",
			optind == argc ? "no volume given" : "more than one volume given");
		return -1;
	}
	out->volume = argv[optind];
	return 0;
}
