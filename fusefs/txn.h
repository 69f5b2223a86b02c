/* SPDX-License-Identifier: MIT */
/*
 * Transactions of the shell: which there are, whose they are, and a thread that commits them. It is
 * a thread of its own because a commit tells the kernel to forget names, which waits for
 * requests that are under way, and these need the threads that serve. So does what
 * else changes the tree by itself.
 *
 * Thread safety: all functions from any thread, but txn_start() and txn_stop().
 */
#ifndef FUSEFS_TXN_H
#define FUSEFS_TXN_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "kvcore/base/base.h"
#include "kvcore/kv_types.h"

/* At once: each may take some MiB of the memory budget. */
#define TXN_MAX 32U

struct fuse_req;
struct fuse_session;
struct kvfsd;
struct tree;
struct txn;
struct txn_job;

struct txns {
	pthread_mutex_t mu; /* of the list and the jobs; above that of the trees */
	pthread_cond_t wake;
	struct txn *list;	   /* [mu] in no order */
	unsigned count;		   /* [mu] with those that are being begun */
	struct txn_job *first_job; /* [mu] */
	struct txn_job **last_job; /* [mu] */
	bool running, stop;	   /* [mu] */
	struct kvfsd *d;	   /* [const] once started */
	struct fuse_session *fuse; /* the same */
	pthread_t thread;	   /* the same */
};

int txn_init(struct txns *all) KV_MUST_CHECK;
void txn_fini(struct txns *all);
/* Return: 0 or the -errno of making a thread. */
int txn_start(struct txns *all, struct kvfsd *d, struct fuse_session *fuse) KV_MUST_CHECK;
/* When no request is served any more; what is not committed is dropped with its tree. */
void txn_stop(struct txns *all);

/*
 * Begin one, owned by @uid. @tree: with a reference for the caller.
 * Return: 0, -EEXIST, -EINVAL, -ENAMETOOLONG, -ENFILE (TXN_MAX), those of kvfs_draft_begin().
 */
int txn_begin(struct kvfsd *d, const char *name, uid_t uid, bool serializable, struct tree **tree)
	KV_MUST_CHECK;
/* End it without a commit. Return: 0, -ENOENT, -EPERM (another's), -EBUSY (it is being committed).
 */
int txn_abort(struct kvfsd *d, const char *name, uid_t uid) KV_MUST_CHECK;
/*
 * Commit @name, or if that is NULL the one whose tree the id @ino is of, and reply: as an ioctl if
 * @is_ioctl. The reply is EAGAIN for a conflict, else as txn_abort(), kvfs_draft_commit().
 */
void txn_commit(struct fuse_req *req, const char *name, uint64_t ino, bool is_ioctl);

/*
 * Its tree, with a reference for the caller (tree_unref()), if @uid may end it.
 * Return: 0, -ENOENT, -EPERM.
 */
int txn_use(struct kvfsd *d, const char *name, uid_t uid, struct tree **tree) KV_MUST_CHECK;
/* Has @uid begun one that is open? */
bool txn_is_owner(struct kvfsd *d, uid_t uid);
/*
 * Have @work called by the thread that commits, for what tells the kernel to forget something, too.
 * @stopped: it is not to be done, since no request is served any more; @work releases @ctx.
 * Return: 0, -ENOMEM, -EBUSY (the thread does not run); then @work is not called.
 */
int txn_defer(struct kvfsd *d, void (*work)(struct kvfsd *d, void *ctx, bool stopped), void *ctx)
	KV_MUST_CHECK;

/* What the kernel holds may be wrong: kvfs_draft_hooks.stale, for which @daemon is a struct kvfsd.
 * From the thread that commits. */
void txn_tell_stale(void *daemon, uint64_t ino, const char *name);

/* Call @emit for each name. */
int txn_each(struct kvfsd *d, int (*emit)(void *ctx, const char *name), void *ctx) KV_MUST_CHECK;
/* For .kvfs/conflicts: a line for each conflict of those that @uid owns, of all for root. */
int txn_print_conflicts(struct kvfsd *d, uid_t uid, struct kv_buf *out) KV_MUST_CHECK;
/* For .kvfs/stats and metrics. */
unsigned txn_count(struct kvfsd *d);

#endif
