/* SPDX-License-Identifier: MIT */
/*
 * kvfs scan: keys in the order of their paths, and their values if asked for.
 * With values a line is the key, a tab, and the value, both escaped, so that
 * every line can be taken apart again whatever the bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/cli/cmd.h"
#include "fusefs/cli/message.h"
#include "fusefs/cli/scan.h"
#include "kvcore/base/base.h"

const char cmd_scan_help[] =
	"usage: kvfs scan [--prefix P] [--from K] [--to K] [-n N] [--values] [-b | -0] TARGET\n"
	"\n"
	"List keys in the order of their paths, in which / is before every other byte.\n"
	"\n"
	"      --prefix P   keys that begin with P, which need not end at a /\n"
	"      --from K     from K on\n"
	"      --to K       up to K, K itself not\n"
	"  -n, --limit N    the first N of these\n"
	"      --values     with a tab and the value; implies -b\n"
	"  -b, --escape     write bytes outside printable ASCII, and the backslash, as \\xNN\n"
	"  -0, --null       end each key with NUL instead of a newline, and escape nothing\n"
	"\n"
	"Of a volume that is not mounted all is as of one instant; of a mount, what\n"
	"changes meanwhile may be seen or not. On a terminal, what it cannot show is\n"
	"escaped; elsewhere keys are as they are.\n";

int scan_compare(struct kv_slice a, struct kv_slice b)
{
	size_t common = slice_common_prefix(a, b);

	if (common == a.len || common == b.len)
		return (a.len > b.len) - (a.len < b.len);
	if (a.data[common] == '/' || b.data[common] == '/')
		return a.data[common] == '/' ? -1 : 1;
	return a.data[common] < b.data[common] ? -1 : 1;
}

void scan_print_key(struct scan *s, struct kv_slice key)
{
	text_write(stdout, key, s->names.style);
	s->limit--;
}

void scan_end_line(struct scan *s)
{
	putchar(s->names.end);
}

static int emit(void *ctx, struct kv_slice key, struct kv_slice value)
{
	struct scan *s = ctx;

	if (!s->limit)
		return 1;
	scan_print_key(s, key);
	if (s->values) {
		putchar('\t');
		text_write(stdout, value, s->names.style);
	}
	scan_end_line(s);
	return ferror(stdout) != 0;
}

static int scan_volume(struct scan *s)
{
	const struct kvfs_scan scan = {
		.prefix = s->prefix, .from = s->from, .to = s->to, .keys_only = !s->values};

	return kvfs_key_scan(s->t.fs, &scan, emit, s);
}

static struct kv_slice bound(const char *word)
{
	word += word[0] == '/';
	return kv_slice_of(word, strlen(word));
}

static bool take_limit(const char *word, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(word, &end, 10);
	return word[0] >= '0' && word[0] <= '9' && !*end && !errno;
}

enum { OPT_PREFIX = 256, OPT_FROM, OPT_TO, OPT_VALUES };

/* 0, or -1 after a message. */
static int take_option(struct scan *s, int opt, bool *null)
{
	switch (opt) {
	case OPT_PREFIX:
		s->prefix = bound(optarg);
		return 0;
	case OPT_FROM:
		s->from = bound(optarg);
		return 0;
	case OPT_TO:
		s->to = bound(optarg);
		return 0;
	case OPT_VALUES:
		s->values = true;
		return 0;
	case 'n':
		if (take_limit(optarg, &s->limit))
			return 0;
		message(NULL, "scan: %s: not a number of keys; see kvfs scan --help", optarg);
		return -1;
	default:
		*null = opt == '0';
		text_names_option(&s->names, opt);
		return 0;
	}
}

static int run(struct scan *s, const char *target)
{
	int err;

	if (target_open(target, TARGET_READ, &s->t))
		return CMD_FAILED;
	err = s->t.mounted ? scan_mounted(s) : scan_volume(s);
	if (err)
		message(target, "%s",
			err == -KV_E_TOO_BIG ? message_key(err) : message_volume(err));
	return target_close(&s->t) || err ? CMD_FAILED : CMD_OK;
}

int cmd_scan(int argc, char **argv)
{
	static const struct option longs[] = {{"prefix", required_argument, NULL, OPT_PREFIX},
					      {"from", required_argument, NULL, OPT_FROM},
					      {"to", required_argument, NULL, OPT_TO},
					      {"limit", required_argument, NULL, 'n'},
					      {"values", no_argument, NULL, OPT_VALUES},
					      {"escape", no_argument, NULL, 'b'},
					      {"null", no_argument, NULL, '0'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	struct scan s = {.limit = UINT64_MAX};
	bool null = false;
	int opt;

	text_names_default(&s.names);
	while ((opt = cmd_next(argc, argv, ":n:b0h", longs)) != CMD_OPT_END) {
		if (opt == CMD_OPT_HELP) {
			fputs(cmd_scan_help, stdout);
			return CMD_OK;
		}
		if (opt == CMD_OPT_BAD || take_option(&s, opt, &null))
			return CMD_USAGE;
	}
	if (!cmd_check_words(argc, argv, 1, 1))
		return CMD_USAGE;
	if (s.values && null) {
		message(NULL, "scan: values may hold NUL, so --values cannot be had with -0");
		return CMD_USAGE;
	}
	if (s.values)
		text_names_option(&s.names, 'b');
	return run(&s, argv[optind]);
}
