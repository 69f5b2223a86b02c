/* SPDX-License-Identifier: MIT */
/*
 * The whole volume back at a snapshot, while it is used. By the thread that commits, because
 * the kernel is told of what it has to forget, which waits for requests under way.
 */
#include "fusefs/restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/channel.h"
#include "fusefs/reply.h"

struct restore_job {
	fuse_req_t req;
	char *name;
};

static void free_job(struct restore_job *job)
{
	free(job->name);
	free(job);
}

static void work(struct kvfsd *d, void *ctx, bool stopped)
{
	struct restore_job *job = ctx;
	const struct kv_progress progress = {reply_interrupted, job->req};
	const struct kvfs_draft_hooks hooks = {.stale = txn_tell_stale, .ctx = d};
	int err = -EIO;

	if (!stopped)
		err = kvfs_snapshot_restore(d->fs, job->name, &progress, &hooks);
	channel_reply(job->req, err);
	free_job(job);
}

int restore_begin(struct kvfsd *d, fuse_req_t req, const char *name)
{
	struct restore_job *job;
	int err;

	if (d->opt->snapshot[0])
		return -KV_E_READONLY;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	*job = (struct restore_job){.req = req, .name = strdup(name)};
	err = job->name ? txn_defer(d, work, job) : -ENOMEM;
	if (err)
		free_job(job);
	return err;
}
