/* SPDX-License-Identifier: MIT */
/*
 * Timing of the engine's work: the caller's trace hook, and volumes that time what
 * goes through them. Each user of the volume (log, manifest, tables, values) gets a
 * traced volume of its own, so the layers below need not know who asks.
 *
 * Thread safety: any thread.
 */
#ifndef KVCORE_ENGINE_TRACE_H
#define KVCORE_ENGINE_TRACE_H

#include <stdatomic.h>

#include "kvcore/os/os_env.h"
#include "kvcore/os/os_stats.h"

struct trace {
	struct kv_trace hook; /* [const] event NULL: none */
	struct os_env *env;   /* [const] */
	struct os_stats *stats;
	_Atomic uint64_t last_id;
};

struct trace_volume {
	struct os_volume base;
	struct os_volume *inner; /* [const] borrowed: closing the base is not allowed */
	struct trace *trace;
	enum kv_trace_area area;
};

void trace_init(struct trace *t, const struct kv_trace *hook, struct os_env *env,
		struct os_stats *stats);
void trace_volume_init(struct trace_volume *v, struct os_volume *inner, struct trace *t,
		       enum kv_trace_area area);

static inline bool trace_wants(const struct trace *t, enum kv_trace_kind kind)
{
	return t->hook.event && (!t->hook.kinds || t->hook.kinds >> kind & 1);
}

/*
 * Work that is timed. @kind, @area, levels, reason and bytes of @e are the caller's; trace_begin()
 * and trace_end() do the rest, and tell the hook if it wants the kind. Between them the caller may
 * change bytes. trace_end() returns the duration.
 */
void trace_begin(struct trace *t, struct kv_trace_event *e);
uint64_t trace_end(struct trace *t, struct kv_trace_event *e, int result);

#endif
