/* SPDX-License-Identifier: MIT */
/*
 * Formats a line and gives it to a sink. Messages: lower case, no full stop,
 * object first, key=value, for example "wal: bad checksum lsn=81920".
 */
#ifndef KVCORE_BASE_LOGMSG_H
#define KVCORE_BASE_LOGMSG_H

#include "kvcore/kv_types.h"

/* @sink may be NULL. Lines longer than 1 KiB are cut. Thread safety: as the sink. */
void logmsg(const struct kv_log_sink *sink, enum kv_log_level level, const char *fmt, ...)
	KV_PRINTF(3, 4);

#endif
