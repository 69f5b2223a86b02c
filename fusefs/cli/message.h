/* SPDX-License-Identifier: MIT */
/* Errors as people read them: one line each on standard error. */
#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

/* "kvfs: SUBJECT: text", the subject escaped; without a subject "kvfs: text". */
void message(const char *subject, const char *fmt, ...) KV_PRINTF(2, 3);

/* What @err means for a volume, and what to do. */
const char *message_volume(int err);
/* What @err means for a key of a volume. */
const char *message_key(int err);

/* "kvfs: TARGET: KEY: what is wrong with the key". */
void message_about_key(const char *target, const char *key, int err);

/* Route the libraries' warnings to standard error; static, never freed. */
const struct kv_log_sink *message_sink(void);

/* From now on SIGINT, SIGTERM and SIGHUP only set a flag. */
void message_catch_signals(void);
bool message_interrupted(void);

#endif
