/* SPDX-License-Identifier: MIT */
/*
 * Rewriting the tables of a compaction job. Until its version edit is durable
 * nothing has changed, so it can be given up at any entry: because the database
 * closes, the caller interrupts, the volume is full, or a page of an input is damaged.
 *
 * Thread safety: any thread; one per job.
 */
#ifndef KVCORE_ENGINE_COMPACTION_REWRITE_H
#define KVCORE_ENGINE_COMPACTION_REWRITE_H

#include "kvcore/engine/compaction_job.h"

struct kv_db;

#define COMPACTION_PARTS_MAX 8U

/* Asked now and then, by the thread that called, whether to go on; nonzero stops. */
struct compaction_watch {
	int (*poll)(void *ctx);
	void *ctx;
};

/*
 * Merge the inputs, write what survives into the output level, and exchange inputs for
 * outputs with one version edit.
 * @threads: that may work on it; a job that is large enough is divided by key among them
 * @written: bytes of the new tables
 * Return: 0, the watch's error, -KV_E_INTERRUPTED (closing), -KV_E_NOSPACE, ... job->damaged is
 * set if the inputs cannot be read.
 */
int compaction_rewrite(struct kv_db *db, struct compaction_job *job,
		       const struct compaction_watch *watch, unsigned threads, uint64_t *written)
	KV_MUST_CHECK;

/*
 * Keys that divide the job into @count parts of about the same size, at the beginnings of its
 * tables. @cuts: room for @count - 1; borrowed from the job's tables
 * Return: how many there are; -ENOMEM.
 */
int compaction_cuts(const struct compaction_job *job, unsigned count, struct kv_slice *cuts)
	KV_MUST_CHECK;

#endif
