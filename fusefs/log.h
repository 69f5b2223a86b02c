/* SPDX-License-Identifier: MIT */
/*
 * Where the daemon's messages go: to standard error until it is in the
 * background, to syslog afterwards. Thread safety: all functions from any
 * thread.
 */
#ifndef FUSEFS_LOG_H
#define FUSEFS_LOG_H

#include <stdatomic.h>

#include "kvcore/kv_types.h"

struct log {
	atomic_bool syslog;	 /* [atomic] else standard error */
	struct kv_log_sink sink; /* for the libraries; its ctx is this struct */
};

/* @level: messages above it are dropped. libfuse's messages go the same way. */
void log_init(struct log *log, enum kv_log_level level);
void log_to_syslog(struct log *log);
/* One line, without a newline; "mount.kvfs: " is put before it on standard error. */
void log_line(struct log *log, enum kv_log_level level, const char *fmt, ...) KV_PRINTF(3, 4);
#define log_error(log, ...) log_line(log, KV_LOG_ERROR, __VA_ARGS__)

#endif
