/* SPDX-License-Identifier: MIT */
/* Everything that fsck.kvfs prints: findings, progress, errors. */
#ifndef FSCK_REPORT_H
#define FSCK_REPORT_H

#include "fsck/lost.h"
#include "fsck/options.h"
#include "fusefs/model/kvfs.h"

/* Findings and progress of one pass over the volume. */
struct report {
	const struct options *options;
	bool repairing;	  /* say of each finding what became of it */
	const char *what; /* of the progress */
	bool meter;	  /* show progress */
	bool drawn;
	unsigned percent;
	uint64_t found;
	uint64_t repaired;
	struct lost *lost; /* collects what findings of the engine concern; may be NULL */
	uint64_t costly;   /* found whose repair loses data or needs a decision */
};

void report_init(struct report *r, const struct options *options, const char *what);
void report_catch_signals(void);
bool report_interrupted(void);

/* For kv_verify_options.found and kvfs_check_options.found; @ctx: struct report. */
void report_engine(void *ctx, const struct kv_problem *problem);
void report_files(void *ctx, const struct kvfs_problem *problem);
/* For struct kv_progress; @ctx: struct report. */
int report_progress(void *ctx, uint64_t done, uint64_t total);
/* For struct kv_log_sink. */
void report_log(void *ctx, enum kv_log_level level, const char *line);
void report_erase(struct report *r);

/* One line on stderr: what is wrong with the volume and what to do. */
void report_error(const struct options *options, int err);
/* Ask on the terminal; false without one. */
bool report_ask(const struct options *options, const char *question);

#endif
