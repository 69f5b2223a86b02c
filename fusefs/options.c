/* SPDX-License-Identifier: MIT */
/*
 * Options are a table: a name, the field it sets and the value. What mount(8)
 * and fstab carry for their own use is known and ignored, everything else is
 * refused by name, because an option that is silently not obeyed is worse than
 * a mount that fails.
 *
 * util-linux means "fake" by -f. Here it means "stay in the foreground", as in
 * other FUSE programs: mount(8) gives it only for mount -f.
 */
#include "fusefs/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"
#include "kvcore/kvcore.h"

#define CACHE_MIN ((size_t)8 << 20)

struct flag {
	const char *name;
	size_t field;
	int value;
};

#define FIELD(name) offsetof(struct mount_options, name)

static const struct flag flags[] = {
	{"remount", FIELD(remount), OPTIONS_ON},
	{"ro", FIELD(readonly), OPTIONS_ON},
	{"rw", FIELD(readonly), OPTIONS_OFF},
	{"suid", FIELD(nosuid), OPTIONS_OFF},
	{"nosuid", FIELD(nosuid), OPTIONS_ON},
	{"dev", FIELD(nodev), OPTIONS_OFF},
	{"nodev", FIELD(nodev), OPTIONS_ON},
	{"exec", FIELD(noexec), OPTIONS_OFF},
	{"noexec", FIELD(noexec), OPTIONS_ON},
	{"diratime", FIELD(nodiratime), OPTIONS_OFF},
	{"nodiratime", FIELD(nodiratime), OPTIONS_ON},
	{"atime", FIELD(atime), OPTIONS_RELATIME},
	{"noatime", FIELD(atime), OPTIONS_NOATIME},
	{"relatime", FIELD(atime), OPTIONS_RELATIME},
	{"norelatime", FIELD(atime), OPTIONS_RELATIME},
	{"strictatime", FIELD(atime), OPTIONS_STRICTATIME},
	{"nostrictatime", FIELD(atime), OPTIONS_RELATIME},
	{"sync", FIELD(sync), OPTIONS_ON},
	{"dirsync", FIELD(sync), OPTIONS_ON},
	{"async", FIELD(sync), OPTIONS_OFF},
	{"lazytime", FIELD(lazytime), OPTIONS_ON},
	{"nolazytime", FIELD(lazytime), OPTIONS_OFF},
	{"allow_other", FIELD(allow_other), OPTIONS_ON},
	{"default_permissions", FIELD(default_permissions), OPTIONS_ON},
	{"nodefault_permissions", FIELD(default_permissions), OPTIONS_OFF},
	{"writeback", FIELD(writeback), OPTIONS_ON},
	{"nowriteback", FIELD(writeback), OPTIONS_OFF},
	{"acl", FIELD(noacl), OPTIONS_OFF},
	{"noacl", FIELD(noacl), OPTIONS_ON},
	{"xattr", FIELD(noxattr), OPTIONS_OFF},
	{"noxattr", FIELD(noxattr), OPTIONS_ON},
	{"confine", FIELD(confine), OPTIONS_ON},
	{"noconfine", FIELD(confine), OPTIONS_OFF},
	{"debug", FIELD(debug), OPTIONS_ON},
	{"snapshot_ino=original", FIELD(snapshot_ino), OPTIONS_INO_ORIGINAL},
	{"snapshot_ino=unique", FIELD(snapshot_ino), OPTIONS_INO_UNIQUE},
	{"txn=write", FIELD(txn), OPTIONS_TXN_WRITE},
	{"txn=close", FIELD(txn), OPTIONS_TXN_CLOSE},
	{"txn=directory", FIELD(txn), OPTIONS_TXN_DIRECTORY},
};

/* Meant for mount(8), fstab readers and init systems. A final '=' or '-' stands for anything. */
static const char *const ignored[] = {
	"defaults", "auto",    "noauto",   "user",    "nouser",	  "users",  "nousers",
	"owner",    "noowner", "group",	   "nogroup", "_netdev",  "nofail", "silent",
	"loud",	    "user=",   "uhelper=", "helper=", "comment=", "x-",	    "X-",
};

/* What the kernel shows of a FUSE mount, and mount(8) gives back in a remount. */
static const char *const shown[] = {
	"user_id=", "group_id=", "rootmode=", "max_read=", "blksize=", "fd=", "fsname=", "subtype=",
};

static bool name_is_in(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(list[i]);
		bool open_ended = list[i][len - 1] == '=' || list[i][len - 1] == '-';

		if (open_ended ? strncmp(name, list[i], len) == 0 : strcmp(name, list[i]) == 0)
			return true;
	}
	return false;
}

static bool set_flag(struct mount_options *opt, const char *name)
{
	for (size_t i = 0; i < KV_ARRAY_COUNT(flags); i++) {
		if (strcmp(name, flags[i].name) != 0)
			continue;
		memcpy((char *)opt + flags[i].field, &flags[i].value, sizeof(int));
		return true;
	}
	return false;
}

static int parse_number(const char *text, uint64_t max, const char **rest, uint64_t *out)
{
	unsigned long long v;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || v > max)
		return -EINVAL;
	*rest = end;
	*out = v;
	return 0;
}

static int parse_size(const char *text, size_t *out)
{
	static const char units[] = "KMGT";
	const char *rest, *unit;
	unsigned shift = 0;
	uint64_t v;

	if (parse_number(text, SIZE_MAX, &rest, &v))
		return -EINVAL;
	if (*rest) {
		unit = strchr(units, *rest);
		if (!unit || rest[1])
			return -EINVAL;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (v > SIZE_MAX >> shift)
		return -EINVAL;
	*out = (size_t)v << shift;
	return 0;
}

static int parse_count(const char *text, unsigned min, unsigned max, unsigned *out)
{
	const char *rest;
	uint64_t v;

	if (parse_number(text, max, &rest, &v) || *rest || v < min)
		return -EINVAL;
	*out = (unsigned)v;
	return 0;
}

/* A number of seconds, or of what the letter behind it says. */
static int parse_duration(const char *text, unsigned max_s, unsigned *out)
{
	static const struct {
		char letter;
		unsigned seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	const char *rest;
	uint64_t v, unit = 1;

	if (parse_number(text, max_s, &rest, &v))
		return -EINVAL;
	if (*rest) {
		unit = 0;
		for (size_t i = 0; i < KV_ARRAY_COUNT(units); i++)
			if (*rest == units[i].letter)
				unit = units[i].seconds;
		if (!unit || rest[1])
			return -EINVAL;
	}
	if (v > max_s / unit)
		return -EINVAL;
	*out = (unsigned)(v * unit);
	return 0;
}

/* keep_hourly=24 and so on: what kvfs_keep_parse() reads, with a prefix. */
static int set_keep(struct mount_options *opt, const char *word)
{
	struct kvfs_keep one;

	if (strchr(word, ' ') || kvfs_keep_parse(word, &one))
		return -EINVAL;
	for (unsigned i = 0; i < KVFS_PERIODS; i++)
		if (one.count[i])
			opt->keep.count[i] = one.count[i];
	opt->keep_said = true;
	return 0;
}

/* Return: 1 if @name is no option with a value, 0, or -EINVAL after a message. */
static int set_value(struct mount_options *opt, const char *name, struct log *log)
{
	size_t cache;

	if (strncmp(name, "commit=", 7) == 0) {
		if (!parse_count(name + 7, 0, OPTIONS_COMMIT_MAX_S, &opt->commit_s))
			return 0;
		log_error(log, "%s: give 1 to %d seconds, or 0 for the default", name,
			  OPTIONS_COMMIT_MAX_S);
		return -EINVAL;
	}
	if (strncmp(name, "txn_expire=", 11) == 0) {
		if (!parse_count(name + 11, 0, OPTIONS_EXPIRE_MAX_S, &opt->txn_expire_s))
			return 0;
		log_error(log, "%s: give a number of seconds, or 0 for never", name);
		return -EINVAL;
	}
	if (strncmp(name, "history=", 8) == 0) {
		if (!parse_duration(name + 8, KVFS_HISTORY_MAX_S, &opt->history_s))
			return 0;
		log_error(log, "%s: give a time such as 90s, 30m, 24h or 7d, at most 366d, or 0",
			  name);
		return -EINVAL;
	}
	if (strncmp(name, "threads=", 8) == 0) {
		if (!parse_count(name + 8, 1, OPTIONS_THREADS_MAX, &opt->threads))
			return 0;
		log_error(log, "%s: give 1 to %d threads", name, OPTIONS_THREADS_MAX);
		return -EINVAL;
	}
	if (strncmp(name, "snapshot=", 9) == 0) {
		if (name[9] && strlen(name + 9) < sizeof(opt->snapshot)) {
			memcpy(opt->snapshot, name + 9, strlen(name + 9) + 1);
			return 0;
		}
		log_error(log, "%s: give the name of a snapshot", name);
		return -EINVAL;
	}
	if (strncmp(name, "keep_", 5) == 0) {
		if (!set_keep(opt, name + 5))
			return 0;
		log_error(log,
			  "%s: give 0 to %u for keep_hourly, keep_daily, keep_weekly, "
			  "keep_monthly or keep_yearly",
			  name, KVFS_KEEP_MAX);
		return -EINVAL;
	}
	if (strncmp(name, "cache=", 6) == 0) {
		if (!parse_size(name + 6, &cache) && cache >= CACHE_MIN) {
			opt->cache_bytes = cache;
			return 0;
		}
		log_error(log, "%s: give a size of at least 8M, such as 256M or 1G", name);
		return -EINVAL;
	}
	return 1;
}

static int set_option(struct mount_options *opt, const char *name, struct log *log)
{
	int err;

	if (!*name || set_flag(opt, name) || name_is_in(name, ignored, KV_ARRAY_COUNT(ignored)))
		return 0;
	err = set_value(opt, name, log);
	if (err <= 0)
		return err;
	if (opt->sloppy)
		return 0;
	if (opt->remount == OPTIONS_ON && name_is_in(name, shown, KV_ARRAY_COUNT(shown)))
		return 0;
	log_error(log, "unknown mount option '%s'; mount.kvfs(8) lists them", name);
	return -EINVAL;
}

/* @list is cut into pieces. */
static int set_options(struct mount_options *opt, char *list, struct log *log)
{
	char *save, *name;
	int err;

	for (name = strtok_r(list, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		err = set_option(opt, name, log);
		if (err)
			return err;
	}
	return 0;
}

/* The lists are read after everything else, because -s and remount decide what is an error. */
static int read_lists(struct mount_options *opt, const struct kv_buf *lists, struct log *log)
{
	char *copy = strdup((const char *)lists->data);
	char *save, *name;
	int err;

	if (!copy)
		return -ENOMEM;
	for (name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save))
		if (strcmp(name, "remount") == 0)
			opt->remount = OPTIONS_ON;
	free(copy);
	copy = strdup((const char *)lists->data);
	if (!copy)
		return -ENOMEM;
	err = set_options(opt, copy, log);
	free(copy);
	return err;
}

static int read_switches(int argc, char **argv, struct log *log, struct mount_options *opt,
			 struct kv_buf *lists)
{
	static const struct option longs[] = {
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":fhnN:o:st:vV", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			opt->foreground = true;
			break;
		case 'h':
			opt->help = true;
			break;
		case 'o':
			if (buf_printf(lists, "%s,", optarg))
				return -ENOMEM;
			break;
		case 's':
			opt->sloppy = true;
			break;
		case 'v':
			opt->verbose = true;
			break;
		case 'V':
			opt->version = true;
			break;
		case 'n': /* no mtab: there is none */
		case 'N': /* mount(8) has entered the namespace */
		case 't': /* kvfs or fuse.kvfs, or we would not have been called */
			break;
		default:
			log_error(log, "%s: %s; -h for help", argv[optind - 1],
				  c == ':' ? "it needs an argument" : "unknown switch");
			return -EINVAL;
		}
	}
	return 0;
}

/* The arguments lie behind each other; getopt() will only change their order in argv. */
static void find_command_line(int argc, char **argv, struct mount_options *opt)
{
	char *end = argc ? argv[0] : NULL;

	opt->command_line = end;
	for (int i = 0; i < argc && argv[i] == end; i++)
		end += strlen(end) + 1;
	opt->command_line_len = (size_t)(end - opt->command_line);
}

int options_parse(int argc, char **argv, struct log *log, struct mount_options *out)
{
	struct mount_options opt = {0};
	struct kv_buf lists = {0};
	int err;

	find_command_line(argc, argv, &opt);
	err = buf_printf(&lists, "%s", "");
	if (!err)
		err = read_switches(argc, argv, log, &opt, &lists);
	if (err)
		goto out;
	if (opt.help || opt.version) {
		*out = opt;
		goto out;
	}
	if (argc - optind != 2) {
		log_error(log, "usage: mount.kvfs VOLUME DIR [-fnsv] [-o OPTIONS]; -h for help");
		err = -EINVAL;
		goto out;
	}
	opt.volume = argv[optind];
	opt.dir = argv[optind + 1];
	err = read_lists(&opt, &lists, log);
	if (!err && opt.txn != OPTIONS_TXN_WRITE && opt.writeback == OPTIONS_ON) {
		/* It would decide about sizes and times by itself. */
		log_error(log, "writeback and txn=%s exclude each other",
			  opt.txn == OPTIONS_TXN_CLOSE ? "close" : "directory");
		err = -EINVAL;
	}
	if (!err)
		*out = opt;
out:
	kv_buf_free(&lists);
	return err;
}

/*
 * Root who mounts for itself alone is stopped by no mode, and the kernel would ask for the
 * attributes of a directory after each change in it only to check its mode: one round trip more for
 * each file that is made, renamed or removed.
 */
bool options_kernel_checks(const struct mount_options *opt)
{
	if (opt->default_permissions != OPTIONS_UNSAID)
		return opt->default_permissions == OPTIONS_ON;
	return opt->allow_other == OPTIONS_ON || geteuid() != 0;
}

void options_print_help(void)
{
	(void)fputs("usage: mount.kvfs VOLUME DIR [-fnsv] [-o OPTIONS]\n"
		    "Mount the kvfs volume VOLUME, a file or a block device, at DIR.\n"
		    "  -f  stay in the foreground, messages on standard error\n"
		    "  -n  ignored (mount(8) gives it)\n"
		    "  -s  ignore mount options that are not known\n"
		    "  -v  tell more\n"
		    "  -h, --help, -V, --version\n"
		    "Options, separated by commas:\n"
		    "  ro, rw, nosuid, nodev, noexec, remount   as for mount(8)\n"
		    "  noatime, relatime, strictatime, lazytime as for mount(8)\n"
		    "  sync               every change is durable when its call returns\n"
		    "  commit=SECONDS     other changes are durable after this (default 1)\n"
		    "  cache=SIZE         memory of the engine, as 64M or 1G (default 128M)\n"
		    "  snapshot=NAME      the volume as it was, read-only\n"
		    "  keep_hourly=N      the daemon takes snapshots and keeps the newest N; also\n"
		    "                     keep_daily, keep_weekly, keep_monthly, keep_yearly\n"
		    "  history=TIME       every change is kept for so long, as 30m, 24h or 7d\n"
		    "  snapshot_ino=unique  not the live tree's inode numbers in snapshots\n"
		    "  txn_expire=SECONDS  transactions end when nobody has used them for so long\n"
		    "  txn=close          all between an open for writing and its close is one\n"
		    "                     transaction; txn=directory: where user.kvfs.txn says so\n"
		    "  threads=N          requests served at the same time (default 16)\n"
		    "  writeback          the kernel collects writes before it sends them\n"
		    "  noacl              no POSIX access control lists\n"
		    "  noxattr            no extended attributes, which makes writes cheaper\n"
		    "  noconfine          the daemon keeps its rights and all system calls\n"
		    "  allow_other        users other than the one who mounts may look in\n"
		    "  [no]default_permissions  whether the kernel checks file modes\n"
		    "Details: mount.kvfs(8)\n",
		    stdout);
}
