/* SPDX-License-Identifier: MIT */
/* What stands on the volume about times of commits. Thread safety: any thread. */
#ifndef KVFS_WINDOW_H
#define KVFS_WINDOW_H

#include "fusefs/model/kvfs_history.h"
#include "fusefs/model/model.h"

struct window_note {
	int64_t ns; /* since 1970 */
	kv_seq seq; /* the newest commit then */
};

/* Append the notes of the volume, struct window_note, rising. */
int window_read_notes(struct kvfs *fs, struct kv_buf *out) KV_MUST_CHECK;

#endif
