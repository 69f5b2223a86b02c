/* SPDX-License-Identifier: MIT */
/*
 * Messages say what is wrong with the thing named, and what to do about it.
 * Names come from the user or from a volume and may hold anything, so they are
 * escaped: a message is one line, and a terminal takes no orders from it.
 */
#include "fusefs/cli/message.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fusefs/cli/text.h"

void message(const char *subject, const char *fmt, ...)
{
	va_list args;

	(void)fflush(stdout);
	fputs("kvfs: ", stderr);
	if (subject) {
		text_write(stderr, kv_slice_of(subject, strlen(subject)), TEXT_PRINTABLE);
		fputs(": ", stderr);
	}
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

const char *message_volume(int err)
{
	switch (err) {
	case -KV_E_IN_USE:
		return "in use by another process; try again when it has ended";
	case -ENOENT:
		return "no such file, device or directory";
	case -ENOTBLK:
		return "neither a regular file, a block device nor a directory";
	case -EACCES:
	case -EPERM:
		return "permission denied; run it as the owner of the volume";
	case -ENOTCONN:
		return "the daemon of this mount has died; unmount it first, then name the volume";
	case -EIO:
		return "the device reports an I/O error; check it with dmesg";
	case -ENOSPC:
		return "no space left on the disk that holds the volume";
	default:
		return kv_strerror(err);
	}
}

const char *message_key(int err)
{
	switch (err) {
	case -ENOENT:
	case -KV_E_NOTFOUND:
		return "no such key";
	case -EISDIR:
		return "it is a directory, not a key";
	case -ENOTDIR:
		return "a part of the path is a file, not a directory";
	case -ELOOP:
		return "a part of the path is a symbolic link, which is not followed";
	case -EINVAL:
		return "it is not a regular file";
	case -KV_E_TOO_BIG:
		return "a value given or taken at once has at most 64 MiB; mount the volume "
		       "and use cp";
	default:
		return message_volume(err);
	}
}

void message_about_key(const char *target, const char *key, int err)
{
	(void)fflush(stdout);
	fputs("kvfs: ", stderr);
	text_write(stderr, kv_slice_of(target, strlen(target)), TEXT_PRINTABLE);
	fputs(": ", stderr);
	text_write(stderr, kv_slice_of(key, strlen(key)), TEXT_PRINTABLE);
	fprintf(stderr, ": %s\n", message_key(err));
}

static void write_log(void *ctx, enum kv_log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	message(NULL, "%s", line);
}

const struct kv_log_sink *message_sink(void)
{
	static const struct kv_log_sink sink = {write_log, NULL, KV_LOG_WARN};

	return &sink;
}

/* The one mutable global: a handler has no other way to be heard. */
static volatile sig_atomic_t caught_signal;

static void on_signal(int signo)
{
	caught_signal = signo;
}

void message_catch_signals(void)
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

bool message_interrupted(void)
{
	return caught_signal != 0;
}
