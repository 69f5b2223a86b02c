/* SPDX-License-Identifier: MIT */
/*
 * One clone: made, told to the kernel, answered, in this order, so that who asked for it
 * finds it. Whoever is interrupted meanwhile finds nothing.
 */
#include "fusefs/clone.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/channel.h"
#include "fusefs/reply.h"

struct clone_job {
	fuse_req_t req;
	char *snapshot, *from, *to;
};

static void free_job(struct clone_job *job)
{
	free(job->snapshot);
	free(job->from);
	free(job->to);
	free(job);
}

static void tell_kernel(struct kvfsd *d, uint64_t dir, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	(void)fuse_lowlevel_notify_inval_entry(d->txns.fuse, dir, name, strlen(name));
	(void)fuse_lowlevel_notify_inval_inode(d->txns.fuse, dir, 0, 0);
}

static void work(struct kvfsd *d, void *ctx, bool stopped)
{
	struct clone_job *job = ctx;
	const struct kv_progress progress = {reply_interrupted, job->req};
	uint64_t dir;
	int err = -EIO;

	if (!stopped)
		err = kvfs_clone(d->fs, job->snapshot[0] ? job->snapshot : NULL,
				 kv_slice_of(job->from, strlen(job->from)),
				 kv_slice_of(job->to, strlen(job->to)), &progress, &dir);
	if (!err)
		tell_kernel(d, dir, job->to);
	channel_reply(job->req, err);
	free_job(job);
}

int clone_begin(struct kvfsd *d, fuse_req_t req, const char *snapshot, const char *from,
		const char *to)
{
	struct clone_job *job = calloc(1, sizeof(*job));
	int err;

	if (!job)
		return -ENOMEM;
	*job = (struct clone_job){
		.req = req, .snapshot = strdup(snapshot), .from = strdup(from), .to = strdup(to)};
	err = job->snapshot && job->from && job->to ? txn_defer(d, work, job) : -ENOMEM;
	if (err)
		free_job(job);
	return err;
}
