/* SPDX-License-Identifier: MIT */
/*
 * Directories that were moved as a whole, given in order of their paths (byte 0 for '/'): whether a
 * path is at or below one of them. Those below another are left out. One thread.
 */
#ifndef KVFS_TOPS_H
#define KVFS_TOPS_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

struct tops {
	struct kv_buf text;
	struct kv_buf list; /* struct top */
};

void tops_fini(struct tops *t);
int tops_add(struct tops *t, struct kv_slice path) KV_MUST_CHECK;
bool tops_contain(const struct tops *t, struct kv_slice path);
size_t tops_count(const struct tops *t);
struct kv_slice tops_at(const struct tops *t, size_t i); /* borrowed until one is added */

#endif
