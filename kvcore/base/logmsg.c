/* SPDX-License-Identifier: MIT */
/*
 * Formats a line and gives it to a sink. The line is built on the stack, so that
 * running out of memory can still be reported. Control characters become
 * question marks: names and labels from a volume must not forge lines of a log.
 */
#include "kvcore/base/logmsg.h"

#include <stdarg.h>
#include <stdio.h>

#define LOGMSG_MAX 1024

void logmsg(const struct kv_log_sink *sink, enum kv_log_level level, const char *fmt, ...)
{
	char line[LOGMSG_MAX];
	va_list args;
	int len;

	if (!sink || !sink->write || level > sink->level)
		return;
	va_start(args, fmt);
	len = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	if (len <= 0)
		return;
	for (char *p = line; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
	sink->write(sink->ctx, level, line);
}
