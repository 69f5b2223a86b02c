/* SPDX-License-Identifier: MIT */
/*
 * Messages of the daemon, of the libraries below it and of libfuse. A daemon in
 * the background has no standard error, so it switches to syslog once the mount
 * answers; until then the user who runs mount reads the reason of a failure.
 *
 * libfuse's log function has no context, so there is one for each destination
 * and the right one is installed.
 */
#include "fusefs/log.h"

#include <fuse_log.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "kvcore/base/base.h"

#define PROGRAM	     "mount.kvfs"
#define LINE_MAX_LEN 1024

static int priority_of(enum kv_log_level level)
{
	switch (level) {
	case KV_LOG_ERROR:
		return LOG_ERR;
	case KV_LOG_WARN:
		return LOG_WARNING;
	case KV_LOG_INFO:
		return LOG_INFO;
	case KV_LOG_DEBUG:
		break;
	}
	return LOG_DEBUG;
}

/* What is told may hold names that others have chosen: a message is one line, and gives a terminal
 * no orders. */
static void make_plain(char *line)
{
	for (; *line; line++)
		if ((unsigned char)*line < 0x20 || *line == 0x7f)
			*line = '?';
}

static void write_line(void *ctx, enum kv_log_level level, const char *line)
{
	const struct log *log = ctx;
	char plain[LINE_MAX_LEN];

	(void)snprintf(plain, sizeof(plain), "%s", line);
	make_plain(plain);
	/* One call a line, so that lines of several threads do not mix. */
	if (atomic_load(&log->syslog))
		syslog(priority_of(level), "%s", plain);
	else
		(void)fprintf(stderr, PROGRAM ": %s\n", plain);
}

static void fuse_to_stderr(enum fuse_log_level level, const char *fmt, va_list ap) KV_PRINTF(2, 0);
static void fuse_to_stderr(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[LINE_MAX_LEN];

	(void)level;
	if (vsnprintf(line, sizeof(line), fmt, ap) <= 0)
		return;
	line[strcspn(line, "\n")] = '\0'; /* libfuse ends its lines itself */
	make_plain(line);
	(void)fprintf(stderr, PROGRAM ": %s\n", line);
}

static void fuse_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap) KV_PRINTF(2, 0);
static void fuse_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog((int)level, fmt, ap); /* the levels are syslog's */
}

void log_init(struct log *log, enum kv_log_level level)
{
	atomic_init(&log->syslog, false);
	log->sink = (struct kv_log_sink){.write = write_line, .ctx = log, .level = level};
	fuse_set_log_func(fuse_to_stderr);
}

void log_to_syslog(struct log *log)
{
	openlog(PROGRAM, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	fuse_set_log_func(fuse_to_syslog);
	atomic_store(&log->syslog, true);
}

void log_line(struct log *log, enum kv_log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_LEN];
	va_list ap;
	int n;

	if (level > log->sink.level)
		return;
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n > 0)
		write_line(log, level, line);
}
