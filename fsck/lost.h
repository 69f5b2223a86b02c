/* SPDX-License-Identifier: MIT */
/*
 * Which files a damaged part of the engine belongs to. The engine knows keys only; file
 * contents are keyed by numbers, which several files may have, so the files are found by walking
 * the tree.
 */
#ifndef FSCK_LOST_H
#define FSCK_LOST_H

#include "fusefs/model/kvfs_damage.h"

struct lost_range {
	uint64_t from, to; /* numbers, both included, */
	bool contents;	   /* those of contents, not of files */
};

struct lost {
	struct lost_range *ranges; /* heap */
	size_t count, cap;
	bool incomplete; /* out of memory: not every range was kept */
};

void lost_fini(struct lost *l);
/* Remember the numbers that a finding concerns, if it is one that loses contents. */
void lost_note(struct lost *l, const struct kv_problem *problem);
/*
 * Print a line for each path whose file is concerned. Looks as far as the volume can be read.
 * Return: 0 or the error that kept it from opening the volume.
 */
int lost_print(const struct lost *l, const char *volume) KV_MUST_CHECK;
/* The key for people: a path, or a file id. */
void lost_print_key(unsigned keyspace, struct kv_slice key);

#endif
