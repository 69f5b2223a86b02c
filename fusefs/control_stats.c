/* SPDX-License-Identifier: MIT */
/*
 * .kvfs/stats, for people, and .kvfs/metrics, the text exposition format of
 * Prometheus (version 0.0.4). Both say the same: what the engine counts and times, the
 * state of the volume, and the requests of this mount. Names of metrics follow
 * from the engine's, so a counter that it gets appears here by itself.
 */
#include "fusefs/control_dir.h"

#include <inttypes.h>

#include "fusefs/op.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define BUCKETS_PER_LINE 32U /* two powers of two */
#define NS_PER_S	 1e9

/* Numbers of the volume that are no statistics of the engine. */
/* clang-format off */
#define VOLUME_GAUGES(X) /* name, field of struct kv_db_info, help */ \
	X(volume_size_bytes, size, "Size of the volume now.") \
	X(volume_size_max_bytes, size_max, "Size to which the volume may grow.") \
	X(volume_used_bytes, used, "Bytes in use by log, tables and values.") \
	X(volume_free_bytes, free, "Bytes that are free within the largest size.") \
	X(log_size_bytes, log_size, "Size of the log.") \
	X(value_segments, value_segments, "Segments of large values.") \
	X(value_bytes, value_bytes, "Bytes of the segments of large values.") \
	X(value_live_bytes, value_live_bytes, "Bytes of large values that are still referred to.") \
	X(snapshots, named_snapshots, "Snapshots that have a name.") \
	X(last_commit, last_seq, "Number of the last commit.")
/* clang-format on */

struct print {
	struct kv_buf *out;
	int err;
};

static void line(struct print *p, const char *name, uint64_t value)
{
	if (!p->err)
		p->err = buf_printf(p->out, "%s %" PRIu64 "\n", name, value);
}

/* ---- for people ---- */

static const char *const request_names[] = {
#define REQUEST_NAME(name) #name,
	OP_REQUESTS(REQUEST_NAME)
#undef REQUEST_NAME
};

static void print_requests(struct print *p, const struct kvfsd *d)
{
	for (size_t i = 0; !p->err && i < KV_ARRAY_COUNT(request_names); i++)
		p->err = buf_printf(p->out, "requests_%s %" PRIu64 "\n", request_names[i],
				    (uint64_t)atomic_load(&d->requests[i]));
	line(p, "request_errors", atomic_load(&d->request_errors));
}

int control_print_stats(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	struct print p = {.out = out};
	struct kv_buf engine = {0};
	struct kv_db_info info;

	(void)uid;
	p.err = kv_get_info(kvfs_db(d->fs), &info);
	if (!p.err)
		p.err = kv_stats_text(kvfs_db(d->fs), &engine);
	if (p.err)
		goto out;
#define VOLUME_LINE(name, field, help) line(&p, #name, info.field);
	VOLUME_GAUGES(VOLUME_LINE)
#undef VOLUME_LINE
	for (unsigned i = 0; !p.err && i < KV_LEVELS; i++)
		p.err = buf_printf(
			out, "level_%u tables=%" PRIu64 " bytes=%" PRIu64 " entries=%" PRIu64 "\n",
			i, info.level[i].tables, info.level[i].bytes, info.level[i].entries);
	if (!p.err)
		p.err = buf_append_slice(out, kv_buf_slice(&engine));
	line(&p, "transactions", txn_count(d));
	print_requests(&p, d);
out:
	kv_buf_free(&engine);
	return p.err;
}

/* ---- for Prometheus ---- */

static void metric(struct print *p, const char *name, bool gauge, const char *help, uint64_t value)
{
	const char *suffix = gauge ? "" : "_total";

	if (!p->err)
		p->err = buf_printf(
			p->out, "# HELP kvfs_%s%s %s\n# TYPE kvfs_%s%s %s\nkvfs_%s%s %" PRIu64 "\n",
			name, suffix, help, name, suffix, gauge ? "gauge" : "counter", name, suffix,
			value);
}

static void engine_metric(void *ctx, const char *name, bool gauge, uint64_t value)
{
	metric(ctx, name, gauge,
	       gauge ? "State of the engine, see kv_stats.h." : "Count of the engine since mount.",
	       value);
}

static void print_levels(struct print *p, const struct kv_db_info *info)
{
	static const char *const names[] = {"tables", "bytes", "entries"};

	for (unsigned what = 0; what < KV_ARRAY_COUNT(names); what++) {
		if (!p->err)
			p->err = buf_printf(p->out,
					    "# HELP kvfs_level_%s Of each level of the tree.\n"
					    "# TYPE kvfs_level_%s gauge\n",
					    names[what], names[what]);
		for (unsigned i = 0; !p->err && i < KV_LEVELS; i++) {
			const uint64_t values[] = {info->level[i].tables, info->level[i].bytes,
						   info->level[i].entries};

			p->err = buf_printf(p->out, "kvfs_level_%s{level=\"%u\"} %" PRIu64 "\n",
					    names[what], i, values[what]);
		}
	}
}

/* What is sampled is scaled to what happened, so that a rate of the count is right. */
static void print_histogram(struct print *p, const struct kv_histogram *h, const char *help)
{
	uint64_t below = 0;

	if (p->err)
		return;
	p->err = buf_printf(p->out,
			    "# HELP kvfs_%s_seconds Time of %s.\n"
			    "# TYPE kvfs_%s_seconds histogram\n",
			    h->name, help, h->name);
	for (unsigned i = 0; !p->err && i < KV_HISTOGRAM_BUCKETS; i++) {
		below += h->bucket[i];
		if ((i + 1) % BUCKETS_PER_LINE == 0 && i + 1 < KV_HISTOGRAM_BUCKETS)
			p->err = buf_printf(p->out,
					    "kvfs_%s_seconds_bucket{le=\"%.9g\"} %" PRIu64 "\n",
					    h->name, (double)kv_histogram_bucket_end(i) / NS_PER_S,
					    below * h->every);
	}
	if (!p->err)
		p->err = buf_printf(p->out,
				    "kvfs_%s_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
				    "kvfs_%s_seconds_sum %.9f\n"
				    "kvfs_%s_seconds_count %" PRIu64 "\n",
				    h->name, below * h->every, h->name,
				    (double)h->sum_ns / NS_PER_S * (double)h->every, h->name,
				    below * h->every);
}

static void print_histograms(struct print *p, struct kv_db *db)
{
	static const char *const helps[] = {
#define HELP(NAME, name, every, text) text,
		KV_HISTOGRAMS(HELP)
#undef HELP
	};
	struct kv_histogram h;

	for (unsigned i = 0; i < KV_HISTOGRAM_COUNT; i++) {
		kv_get_histogram(db, (enum kv_histogram_id)i, &h);
		print_histogram(p, &h, helps[i]);
	}
}

static void print_request_metrics(struct print *p, const struct kvfsd *d)
{
	if (!p->err)
		p->err = buf_printf(p->out, "# HELP kvfs_requests_total Requests of the kernel.\n"
					    "# TYPE kvfs_requests_total counter\n");
	for (size_t i = 0; !p->err && i < KV_ARRAY_COUNT(request_names); i++)
		p->err = buf_printf(p->out, "kvfs_requests_total{operation=\"%s\"} %" PRIu64 "\n",
				    request_names[i], (uint64_t)atomic_load(&d->requests[i]));
	metric(p, "request_errors", false, "Requests that were answered with an error.",
	       atomic_load(&d->request_errors));
}

int control_print_metrics(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	struct print p = {.out = out};
	struct kv_db *db = kvfs_db(d->fs);
	struct kv_stats stats;
	struct kv_db_info info;

	(void)uid;
	p.err = kv_get_info(db, &info);
	if (p.err)
		return p.err;
	kv_get_stats(db, &stats);
	kv_stats_each(&stats, engine_metric, &p);
#define VOLUME_METRIC(name, field, help) metric(&p, #name, true, help, info.field);
	VOLUME_GAUGES(VOLUME_METRIC)
#undef VOLUME_METRIC
	print_levels(&p, &info);
	print_histograms(&p, db);
	metric(&p, "transactions", true, "Transactions that are open.", txn_count(d));
	print_request_metrics(&p, d);
	return p.err;
}
