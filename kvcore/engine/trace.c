/* SPDX-License-Identifier: MIT */
/*
 * Events for the trace hook, and the volume that makes them. A traced volume
 * forwards everything; of reads, writes and syncs it counts and times. Compared with
 * what an access to a volume costs, reading the clock twice is nothing.
 */
#include "kvcore/engine/trace.h"

#include "kvcore/base/base.h"

void trace_init(struct trace *t, const struct kv_trace *hook, struct os_env *env,
		struct os_stats *stats)
{
	*t = (struct trace){.env = env, .stats = stats};
	if (hook)
		t->hook = *hook;
}

void trace_begin(struct trace *t, struct kv_trace_event *e)
{
	e->end = false;
	e->time_ns = os_monotonic_ns(t->env);
	e->duration_ns = 0;
	e->result = 0;
	if (!trace_wants(t, e->kind))
		return;
	e->id = 1 + atomic_fetch_add_explicit(&t->last_id, 1, memory_order_relaxed);
	t->hook.event(t->hook.ctx, e);
}

uint64_t trace_end(struct trace *t, struct kv_trace_event *e, int result)
{
	uint64_t now = os_monotonic_ns(t->env);

	e->end = true;
	e->duration_ns = now - e->time_ns;
	e->time_ns = now;
	e->result = result;
	if (e->id)
		t->hook.event(t->hook.ctx, e);
	return e->duration_ns;
}

/* ---- volumes ------------------------------------------------------------ */

static struct trace_volume *traced(struct os_volume *v)
{
	return KV_CONTAINER_OF(v, struct trace_volume, base);
}

static int trace_volume_read(struct os_volume *v, uint64_t off, void *buf, size_t len,
			     unsigned flags)
{
	struct trace_volume *t = traced(v);
	struct kv_trace_event e = {
		.kind = KV_TRACE_READ, .area = t->area, .off = off, .bytes = len};
	uint64_t ns;
	int err;

	trace_begin(t->trace, &e);
	err = os_volume_read(t->inner, off, buf, len, flags);
	ns = trace_end(t->trace, &e, err);
	os_stats_add(t->trace->stats, OS_STAT_disk_reads, 1);
	os_stats_add(t->trace->stats, OS_STAT_disk_read_bytes, len);
	if (t->area == KV_TRACE_TABLE)
		os_stats_record(t->trace->stats, KV_HISTOGRAM_PAGE_READ, ns);
	return err;
}

static int trace_volume_write(struct os_volume *v, uint64_t off, const void *buf, size_t len,
			      unsigned flags)
{
	struct trace_volume *t = traced(v);
	struct kv_trace_event e = {
		.kind = KV_TRACE_WRITE, .area = t->area, .off = off, .bytes = len};
	uint64_t ns;
	int err;

	trace_begin(t->trace, &e);
	err = os_volume_write(t->inner, off, buf, len, flags);
	ns = trace_end(t->trace, &e, err);
	os_stats_add(t->trace->stats, OS_STAT_disk_writes, 1);
	os_stats_add(t->trace->stats, OS_STAT_disk_write_bytes, len);
	if (t->area == KV_TRACE_LOG)
		os_stats_record(t->trace->stats, KV_HISTOGRAM_LOG_WRITE, ns);
	return err;
}

static int trace_volume_sync(struct os_volume *v)
{
	struct trace_volume *t = traced(v);
	struct kv_trace_event e = {.kind = KV_TRACE_SYNC, .area = t->area};
	uint64_t ns;
	int err;

	trace_begin(t->trace, &e);
	err = os_volume_sync(t->inner);
	ns = trace_end(t->trace, &e, err);
	os_stats_add(t->trace->stats, OS_STAT_disk_syncs, 1);
	if (t->area == KV_TRACE_LOG)
		os_stats_record(t->trace->stats, KV_HISTOGRAM_LOG_SYNC, ns);
	return err;
}

static int trace_volume_size(struct os_volume *v, uint64_t *bytes)
{
	return traced(v)->inner->ops->size(traced(v)->inner, bytes);
}

static int trace_volume_grow(struct os_volume *v, uint64_t bytes)
{
	return traced(v)->inner->ops->grow(traced(v)->inner, bytes);
}

static int trace_volume_shrink(struct os_volume *v, uint64_t bytes)
{
	return traced(v)->inner->ops->shrink(traced(v)->inner, bytes);
}

static void trace_volume_discard(struct os_volume *v, uint64_t off, uint64_t len)
{
	traced(v)->inner->ops->discard(traced(v)->inner, off, len);
}

static bool trace_volume_is_device(struct os_volume *v)
{
	return traced(v)->inner->ops->is_device(traced(v)->inner);
}

static int trace_volume_host_free(struct os_volume *v, uint64_t *bytes)
{
	return traced(v)->inner->ops->host_free(traced(v)->inner, bytes);
}

static int trace_volume_close(struct os_volume *v)
{
	(void)v;
	KV_ASSERT(!"a traced volume is not owned by who uses it");
	return 0;
}

static const struct os_volume_ops trace_volume_ops = {
	.read = trace_volume_read,
	.write = trace_volume_write,
	.sync = trace_volume_sync,
	.size = trace_volume_size,
	.grow = trace_volume_grow,
	.shrink = trace_volume_shrink,
	.discard = trace_volume_discard,
	.is_device = trace_volume_is_device,
	.host_free = trace_volume_host_free,
	.close = trace_volume_close,
};

void trace_volume_init(struct trace_volume *v, struct os_volume *inner, struct trace *t,
		       enum kv_trace_area area)
{
	*v = (struct trace_volume){{&trace_volume_ops}, inner, t, area};
}
