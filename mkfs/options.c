/* SPDX-License-Identifier: MIT */
/*
 * Parsing of the command line. Everything that can be judged from the words
 * alone is judged here, before the volume is looked at, so that a mistake in
 * an option never costs data.
 */
#include "mkfs/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "kvcore/base/base.h"

#define LOG_SIZE_MIN (1024U * 1024)
#define LOG_SIZE_MAX (1024U * 1024 * 1024)

enum { OPT_SIZE = 256, OPT_LOG_SIZE, OPT_CHECKSUM, OPT_COMPRESS };

static const struct option long_options[] = {
	{"label", required_argument, NULL, 'L'},
	{"uuid", required_argument, NULL, 'U'},
	{"size", required_argument, NULL, OPT_SIZE},
	{"log-size", required_argument, NULL, OPT_LOG_SIZE},
	{"checksum", required_argument, NULL, OPT_CHECKSUM},
	{"compress", required_argument, NULL, OPT_COMPRESS},
	{"directory", required_argument, NULL, 'd'},
	{"force", no_argument, NULL, 'f'},
	{"quiet", no_argument, NULL, 'q'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

static void print_help(void)
{
	puts("Usage: mkfs.kvfs [options] VOLUME\n"
	     "Make a kvfs volume in a regular file (made if missing) or on a block device.\n"
	     "\n"
	     "  -L, --label LABEL        name the volume (at most 64 bytes)\n"
	     "  -U, --uuid UUID          identify it by UUID instead of a random one\n"
	     "      --size N[KMGT]       fixed size; without it a file grows on demand and a\n"
	     "                           device is used whole\n"
	     "      --log-size N[KMGT]   size of the write-ahead log, 1M to 1G\n"
	     "      --checksum NAME      sha256 (default), sha512-256, blake2b\n"
	     "      --compress NAME      snappy (default), none\n"
	     "  -d, --directory DIR      fill the volume with the files of DIR\n"
	     "  -f, --force              overwrite what is there\n"
	     "  -q, --quiet              print nothing but errors\n"
	     "  -h, --help               this text\n"
	     "  -V, --version            the version");
}

bool options_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMGT";
	uint64_t value = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (value > (INT64_MAX - 9) / 10)
			return false;
		value = value * 10 + (uint64_t)(*p - '0');
	}
	if (*p) {
		const char *unit = strchr(units, *p & ~0x20);
		unsigned shift;

		if (!unit || !*unit)
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
		if (value > (uint64_t)INT64_MAX >> shift)
			return false;
		value <<= shift;
		p++;
		if (!strcmp(p, "iB") || !strcmp(p, "B"))
			p += strlen(p);
	}
	if (*p || !value)
		return false;
	*out = value;
	return true;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, not all zero. */
static bool parse_uuid(const char *text, uint8_t out[KV_UUID_LEN])
{
	uint8_t any = 0;
	size_t n = 0;

	if (strlen(text) != 36)
		return false;
	for (size_t i = 0; i < 36;) {
		int hi, lo;

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i++] != '-')
				return false;
			continue;
		}
		hi = hex_digit(text[i]);
		lo = hex_digit(text[i + 1]);
		if (hi < 0 || lo < 0)
			return false;
		out[n] = (uint8_t)(hi << 4 | lo);
		any |= out[n++];
		i += 2;
	}
	return any != 0;
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++) {
		if (!strcmp(word, *words))
			return true;
	}
	return false;
}

/* NULL, or what is wrong with the option's argument. */
static const char *take_option(int opt, const char *arg, struct options *o)
{
	static const char *const checksums[] = {"sha256", "sha512-256", "blake2b", NULL};
	static const char *const compressors[] = {"snappy", "none", NULL};

	switch (opt) {
	case 'L':
		o->label = arg;
		return strlen(arg) > KV_LABEL_MAX ? "a label has at most 64 bytes" : NULL;
	case 'U':
		return parse_uuid(arg, o->uuid)
			       ? NULL
			       : "a UUID looks like 7d444840-9dc0-11d1-b245-5ffdce74fad2";
	case OPT_SIZE:
		return options_size(arg, &o->size_bytes)
			       ? NULL
			       : "a size is a number with K, M, G or T, like 10G";
	case OPT_LOG_SIZE:
		if (!options_size(arg, &o->log_size_bytes) || o->log_size_bytes < LOG_SIZE_MIN ||
		    o->log_size_bytes > LOG_SIZE_MAX)
			return "the log has 1M to 1G";
		return NULL;
	case OPT_CHECKSUM:
		o->checksum = arg;
		return is_one_of(arg, checksums) ? NULL : "choose sha256, sha512-256 or blake2b";
	case OPT_COMPRESS:
		o->compress = arg;
		return is_one_of(arg, compressors) ? NULL : "choose snappy or none";
	case 'd':
		o->from = arg;
		return NULL;
	case 'f':
		o->force = true;
		return NULL;
	case 'q':
		o->quiet = true;
		return NULL;
	default:
		return "unknown option";
	}
}

/* A long option is named as it was written; of short ones that were run together, the one. */
static void complain_of_word(const char *word, int opt)
{
	const char letter[] = {'-', (char)optopt, '\0'};

	if (strncmp(word, "--", 2) != 0 && optopt > 0 && optopt < 128)
		word = letter;
	fprintf(stderr, "mkfs.kvfs: %s: %s; see mkfs.kvfs --help\n", word,
		opt == '?' ? "unknown option" : "it needs an argument");
}

int options_parse(int argc, char **argv, struct options *out)
{
	const char *wrong;
	int opt;

	memset(out, 0, sizeof(*out));
	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":L:U:d:fqhV", long_options, NULL)) != -1) {
		if (opt == 'h') {
			print_help();
			return 1;
		}
		if (opt == 'V') {
			puts("mkfs.kvfs " KVCORE_VERSION);
			return 1;
		}
		if (opt == '?' || opt == ':') {
			complain_of_word(argv[optind - 1], opt);
			return -1;
		}
		wrong = take_option(opt, optarg, out);
		if (wrong) {
			fprintf(stderr, "mkfs.kvfs: %s: %s\n", optarg, wrong);
			return -1;
		}
	}
	if (optind != argc - 1) {
		fprintf(stderr, "mkfs.kvfs: %s; see mkfs.kvfs --help\n",
			optind == argc ? "no volume given" : "more than one volume given");
		return -1;
	}
	out->volume = argv[optind];
	return 0;
}
