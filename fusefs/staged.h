/* SPDX-License-Identifier: MIT */
/*
 * Files that are open for writing as one transaction (txn=close). Each has a stage of
 * libkvfs, and a number that the kernel gives back with every request.
 *
 * When the transaction ends. close(2) is told for each descriptor, of which a shell
 * or a fork makes several, and the last close only afterwards, when nobody waits for
 * the answer. So at each close the processes that opened the file or changed it are
 * asked, through /proc, whether they still hold it; if none does, this was the end.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef FUSEFS_STAGED_H
#define FUSEFS_STAGED_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fusefs/model/kvfs_stage.h"

#define STAGED_BUCKETS 64U

struct fuse_file_info;
struct kvfsd;
struct staged;

struct staged_files {
	pthread_mutex_t mu;			/* above the stages' reference counts only */
	uint64_t last;				/* [mu] number given out */
	struct staged *buckets[STAGED_BUCKETS]; /* [mu] by node id */
};

int staged_init(struct staged_files *all) KV_MUST_CHECK;
void staged_fini(struct staged_files *all);

/* Whether opening @node for writing is to begin a transaction, by option and directory. */
bool staged_wanted(struct kvfsd *d, struct kvfs_node *node);
/*
 * @stage belongs to the open file @fi from now on; thread @pid has opened it.
 * Return: 0, -ENOMEM.
 */
int staged_open(struct kvfsd *d, uint64_t ino, pid_t pid, struct kvfs_stage *stage,
		struct fuse_file_info *fi) KV_MUST_CHECK;
/* The stage of an open file, which @pid uses, referenced; NULL if it has none. */
struct kvfs_stage *staged_use(struct kvfsd *d, uint64_t ino, const struct fuse_file_info *fi,
			      pid_t pid);
/* The stage of the file that thread @pid has just opened, referenced: its O_TRUNC comes without
 * the open file. NULL: it has not. */
struct kvfs_stage *staged_fresh(struct kvfsd *d, uint64_t ino, pid_t pid);
/* Commit what was changed through @stage so far. */
int staged_commit(struct kvfsd *d, uint64_t ino, struct kvfs_stage *stage) KV_MUST_CHECK;
/* A descriptor was closed by @pid. Return: what the commit returned, if it was the last. */
int staged_flush(struct kvfsd *d, uint64_t ino, const struct fuse_file_info *fi, pid_t pid)
	KV_MUST_CHECK;
/* The last close: commits what is left. */
void staged_release(struct kvfsd *d, uint64_t ino, const struct fuse_file_info *fi);
/* The attributes of a file as @pid sees them: a writer's own. -ENOENT: others do not see it yet. */
int staged_attr(struct kvfsd *d, struct kvfs *fs, uint64_t ino, struct kvfs_node *node, pid_t pid,
		struct kvfs_attr *out) KV_MUST_CHECK;

#endif
