/* SPDX-License-Identifier: MIT */
/*
 * What a database tells about its work: counters, gauges, latency histograms and a
 * trace hook. Included by kvcore.h.
 *
 * Everything here is always on. Times are of the monotonic clock, in nanoseconds.
 */
#ifndef KVCORE_KV_STATS_H
#define KVCORE_KV_STATS_H

#include <stdbool.h>

#include "kvcore/kv_types.h"

#ifdef __cplusplus
extern "C" {
#endif

struct kv_db;

/* ---- counters and gauges ------------------------------------------------ */

/*
 * Counters since open; all monotonic. commits_large: the log could not hold them. filter_checks:
 * Bloom filters asked for a key, or by a scan for a prefix; useful: they said no; false positives:
 * they said yes and the table did not have the key. disk_*: accesses to the volume. damage_found:
 * pages and large values that a read found damaged. scrub_*: what kv_scrub() has read, and found.
 */
/* clang-format off */
#define KV_COUNTERS(X) \
	X(commits) \
	X(commits_synced) \
	X(commits_large) \
	X(aborts) \
	X(conflicts) \
	X(deadlocks) \
	X(lock_waits) \
	X(gets) \
	X(gets_absent) \
	X(iter_seeks) \
	X(iter_steps) \
	X(log_frames) \
	X(log_bytes) \
	X(log_syncs) \
	X(flushes) \
	X(flush_bytes) \
	X(compactions) \
	X(compaction_bytes_read) \
	X(compaction_bytes_written) \
	X(trivial_moves) \
	X(manifest_writes) \
	X(cache_hits) \
	X(cache_misses) \
	X(cache_evictions) \
	X(value_bytes_written) \
	X(write_stalls) \
	X(write_stall_us) \
	X(damage_found) \
	X(scrub_bytes) \
	X(scrub_problems) \
	X(filter_checks) \
	X(filter_useful) \
	X(filter_false_positives) \
	X(disk_reads) \
	X(disk_read_bytes) \
	X(disk_writes) \
	X(disk_write_bytes) \
	X(disk_syncs)
/* clang-format on */

/*
 * What is so now. cache_bytes: pages, filters, memtables and buffers together, charged to
 * cache_budget_bytes. compaction_debt: 0 to 1000, where writers stop. handles: open
 * transactions, batches and snapshot handles. old_states: past states that open transactions and
 * handles of unnamed snapshots read; oldest_reader_ms: how long ago the oldest of them was
 * the present, within a third. old_version_bytes: of versions that only snapshots read.
 */
/* clang-format off */
#define KV_GAUGES(X) \
	X(cache_bytes) \
	X(cache_budget_bytes) \
	X(memtable_bytes) \
	X(log_used_bytes) \
	X(tables) \
	X(table_bytes) \
	X(compaction_debt) \
	X(handles) \
	X(old_states) \
	X(oldest_reader_ms) \
	X(old_version_bytes)
/* clang-format on */

struct kv_stats {
#define KV_STATS_FIELD(name) uint64_t name;
	KV_COUNTERS(KV_STATS_FIELD)
	KV_GAUGES(KV_STATS_FIELD)
#undef KV_STATS_FIELD
};

/* kv_get_stats() - all counters and gauges. Thread safety: any thread. Waits for no I/O. */
KV_API void kv_get_stats(struct kv_db *db, struct kv_stats *out);

/**
 * kv_stats_each() - visit counters, then gauges, by name
 * @each: @gauge tells the two apart; @name is static
 */
KV_API void kv_stats_each(const struct kv_stats *stats,
			  void (*each)(void *ctx, const char *name, bool gauge, uint64_t value),
			  void *ctx);

/**
 * kv_stats_text() - the statistics for people: a line a counter, gauge and histogram
 * @out: its content is replaced; freed by the caller with kv_buf_free()
 *
 * Lines are "name value", and for histograms "latency_NAME samples=N every=N mean=US p50=US
 * p90=US p99=US p99.9=US max=US", in microseconds.
 *
 * Thread safety: any thread. Return: 0, -ENOMEM.
 */
KV_API int kv_stats_text(struct kv_db *db, struct kv_buf *out) KV_MUST_CHECK;

/* ---- latency histograms ------------------------------------------------- */

/*
 * NAME, name, one in how many is timed, what. Frequent work is sampled, by a count that each
 * thread keeps, because reading the clock twice costs as much as a few percent of it.
 */
/* clang-format off */
#define KV_HISTOGRAMS(X) \
	X(GET, get, 64, "a point read") \
	X(COMMIT, commit, 8, "a commit that does not wait for a sync, pauses and stalls included") \
	X(COMMIT_SYNCED, commit_synced, 1, "a commit with KV_COMMIT_SYNC, its sync included") \
	X(ITER_SEEK, iter_seek, 16, "positioning an iterator: first, last, seek, seek_before") \
	X(WRITE_STALL, write_stall, 1, "a writer's pause or wait for flush and compaction") \
	X(FLUSH, flush, 1, "writing a memtable into tables") \
	X(COMPACTION, compaction, 1, "one step of compaction that rewrites tables") \
	X(LOG_SYNC, log_sync, 1, "one flush of the log to stable storage") \
	X(LOG_WRITE, log_write, 1, "one write of the log into the host's cache") \
	X(PAGE_READ, page_read, 1, "one read of a table from the volume, a page or a span of them")
/* clang-format on */

enum kv_histogram_id {
#define KV_HISTOGRAM_ENUM(NAME, name, every, text) KV_HISTOGRAM_##NAME,
	KV_HISTOGRAMS(KV_HISTOGRAM_ENUM)
#undef KV_HISTOGRAM_ENUM
		KV_HISTOGRAM_COUNT
};

/*
 * Log-linear buckets (as in G. Tene's HdrHistogram): each power of two is divided into 16 equal
 * parts, so a bucket is at most a sixteenth of its value wide. Above about 4.8 hours there is
 * one more.
 */
#define KV_HISTOGRAM_BUCKETS 656U

struct kv_histogram {
	const char *name;
	uint64_t samples; /* times measured */
	uint64_t every;	  /* one in so many is measured: about samples * every happened */
	uint64_t sum_ns;  /* of the samples */
	uint64_t max_ns;  /* of the samples, exact */
	uint64_t bucket[KV_HISTOGRAM_BUCKETS]; /* samples in each */
};

/**
 * kv_get_histogram() - a copy of one histogram, since open
 * @id:  KV_HISTOGRAM_*; another value leaves @out all zero
 * @out: filled; samples taken during the call may be missing in parts of it
 *
 * Thread safety: any thread. Waits for nothing.
 */
KV_API void kv_get_histogram(struct kv_db *db, enum kv_histogram_id id, struct kv_histogram *out);

/**
 * kv_histogram_percentile() - the time that @percent of the samples did not exceed
 * @percent: 0 to 100, as 99.9
 *
 * Return: nanoseconds, rounded up to the end of a bucket but never above max_ns; 0 without
 * samples.
 */
KV_API uint64_t kv_histogram_percentile(const struct kv_histogram *h, double percent);

/* The first nanosecond above bucket @i; UINT64_MAX for the last bucket and beyond. */
KV_API uint64_t kv_histogram_bucket_end(unsigned i);

/**
 * kv_histogram_subtract() - what was added between two copies of one histogram
 * @h:      the later one; max_ns becomes the end of the highest bucket that is left
 * @before: the earlier one
 */
KV_API void kv_histogram_subtract(struct kv_histogram *h, const struct kv_histogram *before);

/* ---- trace -------------------------------------------------------------- */

enum kv_trace_kind {
	KV_TRACE_READ,	     /* of the volume */
	KV_TRACE_WRITE,	     /* of the volume */
	KV_TRACE_SYNC,	     /* of the volume */
	KV_TRACE_COMMIT,     /* a transaction or batch, from submission to result */
	KV_TRACE_FLUSH,	     /* a memtable into tables */
	KV_TRACE_COMPACTION, /* one step */
	KV_TRACE_STALL,	     /* a writer waits for flush or compaction */
};

/* What an access to the volume is about. */
enum kv_trace_area {
	KV_TRACE_NO_AREA,
	KV_TRACE_LOG,
	KV_TRACE_MANIFEST, /* and superblock */
	KV_TRACE_TABLE,
	KV_TRACE_VALUE, /* large values */
	KV_TRACE_AREA_COUNT
};

/**
 * struct kv_trace_event - the beginning or the end of some work
 * @kind:        KV_TRACE_*
 * @area:        of read, write and sync
 * @end:         false when it begins, true when it ended
 * @id:          the same at begin and end, unique while the database is open
 * @time_ns:     now, of the monotonic clock
 * @duration_ns: at the end: since the beginning; else 0
 * @off, @bytes: place and length of a read or write; at the end of flush and compaction, bytes
 *               are those written; of a compaction's beginning, those to be read
 * @level, @out_level: of a compaction; @out_level of a flush is 0
 * @reason:      why, one or two words, static: "full", "size", "deletes", "values", "asked",
 *               "move", ...; NULL where there is only one
 * @result:      at the end: 0 or the negative error
 */
struct kv_trace_event {
	enum kv_trace_kind kind;
	enum kv_trace_area area;
	bool end;
	uint64_t id;
	uint64_t time_ns;
	uint64_t duration_ns;
	uint64_t off;
	uint64_t bytes;
	unsigned level, out_level;
	const char *reason;
	int result;
};

/**
 * struct kv_trace - a hook around I/O, commit, flush and compaction
 * @event: called at the begin and end of each piece of work, by the thread that does it, so from
 *         several threads at once, and with locks of the engine held: it must be quick, must
 *         not wait for another thread that uses the library, and must not call the library
 * @ctx:   first argument of @event
 * @kinds: bit mask, 1 << KV_TRACE_*; 0: all
 *
 * Without a hook the cost is one comparison. Events of one thread nest.
 */
struct kv_trace {
	void (*event)(void *ctx, const struct kv_trace_event *event);
	void *ctx;
	unsigned kinds;
};

#ifdef __cplusplus
}
#endif
#endif
