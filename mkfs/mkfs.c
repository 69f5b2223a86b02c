/* SPDX-License-Identifier: MIT */
/*
 * mkfs.kvfs: make a volume, and fill it from a directory if asked.
 *
 * Nothing is written before everything that can be checked has been. After a
 * failure or a signal no volume is left: a file that we made is removed, and
 * what was a device or file before loses its superblocks, since its former
 * content is gone anyway and a half-filled volume must not be mounted by
 * mistake. A signal only sets a flag; the libraries ask for it through the
 * progress callback, so cleaning up is ordinary code.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fusefs/model/kvfs.h"
#include "mkfs/options.h"
#include "mkfs/target.h"

/* The one mutable global: a handler has no other way to be heard. */
static volatile sig_atomic_t caught_signal;

static void on_signal(int signo)
{
	caught_signal = signo;
}

static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	struct sigaction old;

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* Under nohup it stays ignored. */
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

static int complain(const char *volume, const char *fmt, ...) KV_PRINTF(2, 3);
static int complain(const char *volume, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, "mkfs.kvfs: %s: ", volume);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	return 1;
}

/* ---- progress --------------------------------------------------------------- */

struct meter {
	const char *what;
	bool shown; /* on a terminal */
	bool drawn;
	unsigned percent; /* last one drawn */
};

static int meter_report(void *ctx, uint64_t done, uint64_t total)
{
	struct meter *m = ctx;
	unsigned percent = total ? (unsigned)(done / (total / 100 + 1)) : 0;

	if (caught_signal)
		return 1;
	if (!m->shown || (m->drawn && percent == m->percent && total))
		return 0;
	m->drawn = true;
	m->percent = percent;
	if (total)
		fprintf(stderr, "\r%s: %u%%", m->what, percent);
	else
		fprintf(stderr, "\r%s: %" PRIu64, m->what, done);
	return 0;
}

static void meter_erase(struct meter *m)
{
	if (m->drawn)
		fputs("\r\033[K", stderr);
	m->drawn = false;
}

/* ---- errors ------------------------------------------------------------------- */

/* What to do about it, for the reasons that users meet. */
static const char *advice(int err)
{
	switch (err) {
	case -KV_E_TOO_SMALL:
		return "too small for a volume; give at least 8M, more with a larger --log-size";
	case -KV_E_IN_USE:
		return "mounted or in use by another process; unmount it first";
	case -KV_E_INVALID:
		return "--size is larger than the device";
	case -KV_E_NOSPACE:
		return "the files do not fit; make it larger with --size";
	case -ENOSPC:
		return "no space left on the disk that holds it; free some, or give a smaller "
		       "--size or --log-size";
	case -EISDIR:
		return "it is a directory; name a file or block device, and use -d DIR to fill it";
	case -ENOTBLK:
		return "it is neither a regular file nor a block device";
	case -ENOENT:
		return "the directory to hold it does not exist; make it first";
	case -EACCES:
	case -EPERM:
		return "permission denied; run it as the owner of the file or device";
	case -EROFS:
		return "it lies on a read-only file system";
	case -EFBIG:
		return "the disk that holds it cannot store files of that size; give a smaller "
		       "--size";
	case -EIO:
		return "the device reports an I/O error; check it with dmesg";
	default:
		return kv_strerror(err);
	}
}

/* ---- work ---------------------------------------------------------------------- */

static int check_source(const struct options *o)
{
	struct stat st;

	if (!o->from)
		return 0;
	if (stat(o->from, &st))
		return complain(o->from, "cannot be read: %s", strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return complain(o->from, "-d needs a directory");
	if (access(o->from, R_OK | X_OK))
		return complain(o->from, "cannot be read: %s", strerror(errno));
	if (target_is_inside(o->volume, o->from))
		return complain(
			o->volume,
			"it lies inside %s, which would fill it with itself; put it elsewhere",
			o->from);
	return 0;
}

static int check_target(const struct options *o, bool *exists)
{
	char holds[512];
	int err = target_examine(o->volume, exists, holds, sizeof(holds));

	if (err)
		return complain(o->volume, "%s", advice(err));
	if (holds[0] && !o->force)
		return complain(o->volume, "it holds %s; use -f to overwrite it", holds);
	return 0;
}

static int make_volume(const struct options *o)
{
	struct meter meter = {.what = "zeroing the log", .shown = !o->quiet && isatty(2)};
	struct kv_progress progress = {meter_report, &meter};
	struct kvfs_owner root = {.uid = (uint32_t)geteuid(), .gid = (uint32_t)getegid()};
	struct kv_create_options create = {
		.size_bytes = o->size_bytes,
		.log_size_bytes = o->log_size_bytes,
		.label = o->label,
		.checksum = o->checksum,
		.compress = o->compress,
		.progress = &progress,
	};
	int err;

	memcpy(create.uuid, o->uuid, KV_UUID_LEN);
	err = kvfs_mkfs(o->volume, &create, &root);
	meter_erase(&meter);
	return err;
}

/* Returns the library's error; a message about a file of the source has then been printed. */
static int fill_volume(const struct options *o, bool *explained)
{
	struct meter meter = {.what = "copying", .shown = !o->quiet && isatty(2)};
	struct kv_progress progress = {meter_report, &meter};
	struct kvfs_options options = {0};
	struct kv_buf failed = {0};
	struct kvfs *fs = NULL;
	int close_err;
	int err;

	err = kvfs_open(o->volume, &options, &fs);
	if (err)
		return err;
	err = kvfs_import(fs, o->from, &progress, &failed);
	meter_erase(&meter);
	if (err && err != -KV_E_INTERRUPTED && err != -KV_E_NOSPACE && err != -ENOSPC &&
	    failed.len) {
		complain(o->volume, "cannot copy %.*s: %s", (int)failed.len,
			 (const char *)failed.data, kv_strerror(err));
		*explained = true;
	}
	kv_buf_free(&failed);
	close_err = kvfs_close(fs);
	return err ? err : close_err;
}

/* No half-made volume stays behind. */
static void undo(const struct options *o, bool existed)
{
	int err = existed ? kv_wipe(o->volume, NULL) : 0;

	if (!existed && unlink(o->volume) && errno != ENOENT)
		err = -errno;
	if (err)
		complain(o->volume, "the unfinished volume could not be removed: %s",
			 kv_strerror(err));
}

static void print_size(const char *name, uint64_t bytes)
{
	static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
	unsigned unit = 0;

	while (unit < 4 && bytes >= 1024 && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	printf("%-9s %" PRIu64 " %s\n", name, bytes, units[unit]);
}

static void print_summary(const struct options *o)
{
	struct kv_db_info info;

	if (kv_probe(o->volume, NULL, &info))
		return; /* it is made; that it cannot be described is no failure */
	printf("%-9s %s\n", "volume", o->volume);
	printf("%-9s ", "uuid");
	for (unsigned i = 0; i < KV_UUID_LEN; i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info.uuid[i]);
	putchar('\n');
	if (info.label[0])
		printf("%-9s %s\n", "label", info.label);
	if (info.size_max == UINT64_MAX)
		printf("%-9s grows on demand\n", "size");
	else
		print_size("size", info.size_max);
	print_size("log", info.log_size);
	printf("%-9s %s, %s\n", "data", info.checksum_name, info.compress_name);
}

static int end_by_signal(void)
{
	signal(caught_signal, SIG_DFL);
	raise(caught_signal);
	return 1;
}

static int run(const struct options *o)
{
	bool explained = false;
	bool existed = false;
	int err;

	if (check_source(o) || check_target(o, &existed))
		return 1;
	err = make_volume(o);
	if (!err && o->from) {
		err = fill_volume(o, &explained);
		if (err)
			undo(o, existed);
	}
	if (err == -KV_E_INTERRUPTED && caught_signal) {
		complain(o->volume, "interrupted; no volume was made");
		return end_by_signal();
	}
	if (err && !explained)
		complain(o->volume, "%s", advice(err));
	if (err)
		return 1;
	if (!existed)
		target_sync_parent(o->volume);
	if (!o->quiet)
		print_summary(o);
	if (fflush(stdout)) {
		complain("standard output", "%s", strerror(errno));
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options options;
	int parsed = options_parse(argc, argv, &options);

	if (parsed)
		return parsed > 0 ? 0 : 1;
	catch_signals();
	return run(&options);
}
