/* SPDX-License-Identifier: MIT */
/*
 * Does a table, or a level, hold anything of the prefix that all keys of a scan have? Asked of
 * filters (prefix_rules.h) when the scan begins: what has nothing of a directory is no source of
 * a scan of it.
 *
 * Thread safety: constant once made; any thread.
 */
#ifndef KVCORE_ENGINE_PREFIX_PROBE_H
#define KVCORE_ENGINE_PREFIX_PROBE_H

#include "kvcore/engine/version.h"
#include "kvcore/table/prefix_rules.h"

struct prefix_probe {
	bool any; /* the range has a prefix that filters know */
	uint64_t hash;
	struct kv_slice lower, upper; /* ikeys, borrowed */
};

void prefix_probe_init(struct prefix_probe *p, const struct prefix_rules *rules,
		       struct kv_slice lower, struct kv_slice upper);
bool prefix_probe_table(const struct prefix_probe *p, struct table *t);
/* Of a level but 0. */
bool prefix_probe_level(const struct prefix_probe *p, const struct version_level *l);

#endif
