/* SPDX-License-Identifier: MIT */
/*
 * A transaction is a tree (tree.h) of the kind that can be written, under the name "txn/NAME",
 * which no snapshot can have. It is in the list until it has ended; its tree, in which everything
 * fails with ESTALE then, lives as long as the kernel knows a node of it.
 *
 *   open --txn_commit()--> busy --commit--> gone
 *    |  ^                   |
 *    |  +---- conflict -----+
 *    +--txn_abort(), expired--> gone
 */
#include "fusefs/txn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/reply.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define EXPIRY_TICK_S 1

struct txn {
	struct txn *next;	 /* [mu] */
	char *name;		 /* [const] */
	struct tree *tree;	 /* [const] referenced */
	uid_t owner;		 /* [const] */
	bool busy;		 /* [mu] it is being committed */
	struct kv_buf conflicts; /* [mu] of the last attempt: paths, escaped, a line each */
};

struct txn_job {
	struct txn_job *next;
	struct fuse_req *req;
	struct txn *txn;
	bool is_ioctl;
	struct txns *all;
	struct kv_buf conflicts;
	/* Of txn_defer(); the others are NULL. */
	void (*work)(struct kvfsd *d, void *ctx, bool stopped);
	void *ctx;
};

/* ---- the list ---- */

static struct txn **find_locked(struct txns *all, const char *name)
{
	struct txn **at = &all->list;

	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	return at;
}

static struct txn **find_tree_locked(struct txns *all, uint64_t ino)
{
	struct txn **at = &all->list;

	while (*at && !tree_is_same((*at)->tree->id, ino))
		at = &(*at)->next;
	return at;
}

static bool may_end(const struct txn *t, uid_t uid)
{
	return uid == 0 || uid == t->owner;
}

static void unlink_locked(struct txns *all, struct txn *t)
{
	*find_locked(all, t->name) = t->next;
	all->count--;
}

static void free_txn(struct txn *t)
{
	kv_buf_free(&t->conflicts);
	free(t->name);
	free(t);
}

/* Out of the list already. */
static void drop(struct kvfsd *d, struct txn *t)
{
	kvfs_draft_abort(t->tree->fs); /* nothing after a commit */
	tree_drop_name(&d->trees, t->tree->name);
	tree_unref(&d->trees, t->tree->id, 1);
	free_txn(t);
}

/* ---- begin and abort ---- */

static int reserve(struct txns *all, const char *name)
{
	int err = 0;

	pthread_mutex_lock(&all->mu);
	if (*find_locked(all, name))
		err = -EEXIST;
	else if (all->count >= TXN_MAX)
		err = -ENFILE;
	else
		all->count++;
	pthread_mutex_unlock(&all->mu);
	return err;
}

/* Into the list, unless somebody was faster. */
static int publish(struct txns *all, struct txn *t)
{
	int err = 0;

	pthread_mutex_lock(&all->mu);
	if (*find_locked(all, t->name)) {
		err = -EEXIST;
	} else {
		t->next = all->list;
		all->list = t;
	}
	pthread_mutex_unlock(&all->mu);
	return err;
}

static int make_tree(struct kvfsd *d, struct txn *t, bool serializable)
{
	struct kv_buf key = {0};
	struct kvfs *draft = NULL;
	int err;

	err = buf_printf(&key, "txn/%s", t->name);
	if (!err)
		err = kvfs_draft_begin(d->fs, serializable ? KVFS_DRAFT_SERIALIZABLE : 0, &draft);
	if (!err)
		err = tree_add(&d->trees, draft, (const char *)key.data, &t->tree);
	if (err && draft)
		(void)!kvfs_close(draft);
	kv_buf_free(&key);
	return err;
}

int txn_begin(struct kvfsd *d, const char *name, uid_t uid, bool serializable, struct tree **tree)
{
	struct txns *all = &d->txns;
	struct txn *t;
	int err = kvfs_snapshot_check_name(name);

	if (!err)
		err = reserve(all, name);
	if (err)
		return err;
	t = calloc(1, sizeof(*t));
	if (t) {
		t->owner = uid;
		t->name = strdup(name);
	}
	err = t && t->name ? make_tree(d, t, serializable) : -ENOMEM;
	if (!err) {
		*tree = t->tree;
		tree_ref(&d->trees, t->tree->id); /* the caller's, before anybody can end it */
		err = publish(all, t);
		if (!err)
			return 0;
		tree_unref(&d->trees, t->tree->id, 1);
		tree_unref(&d->trees, t->tree->id, 1);
	}
	if (t)
		free_txn(t);
	pthread_mutex_lock(&all->mu);
	all->count--;
	pthread_mutex_unlock(&all->mu);
	return err;
}

int txn_abort(struct kvfsd *d, const char *name, uid_t uid)
{
	struct txns *all = &d->txns;
	struct txn *t;
	int err;

	pthread_mutex_lock(&all->mu);
	t = *find_locked(all, name);
	err = !t ? -ENOENT : !may_end(t, uid) ? -EPERM : t->busy ? -EBUSY : 0;
	if (!err)
		unlink_locked(all, t);
	pthread_mutex_unlock(&all->mu);
	if (!err)
		drop(d, t);
	return err;
}

/* ---- what others are told ---- */

int txn_use(struct kvfsd *d, const char *name, uid_t uid, struct tree **tree)
{
	struct txn *t;
	int err;

	pthread_mutex_lock(&d->txns.mu);
	t = *find_locked(&d->txns, name);
	err = !t ? -ENOENT : may_end(t, uid) ? 0 : -EPERM;
	if (!err) {
		*tree = t->tree;
		tree_ref(&d->trees, t->tree->id);
	}
	pthread_mutex_unlock(&d->txns.mu);
	return err;
}

bool txn_is_owner(struct kvfsd *d, uid_t uid)
{
	bool found = false;

	pthread_mutex_lock(&d->txns.mu);
	for (struct txn *t = d->txns.list; t && !found; t = t->next)
		found = t->owner == uid;
	pthread_mutex_unlock(&d->txns.mu);
	return found;
}

int txn_each(struct kvfsd *d, int (*emit)(void *ctx, const char *name), void *ctx)
{
	int err = 0;

	pthread_mutex_lock(&d->txns.mu);
	for (struct txn *t = d->txns.list; t && !err; t = t->next)
		err = emit(ctx, t->name);
	pthread_mutex_unlock(&d->txns.mu);
	return err;
}

int txn_print_conflicts(struct kvfsd *d, uid_t uid, struct kv_buf *out)
{
	int err = 0;

	pthread_mutex_lock(&d->txns.mu);
	for (struct txn *t = d->txns.list; t && !err; t = t->next)
		if (may_end(t, uid))
			err = buf_append_slice(out, kv_buf_slice(&t->conflicts));
	pthread_mutex_unlock(&d->txns.mu);
	return err;
}

unsigned txn_count(struct kvfsd *d)
{
	unsigned count;

	pthread_mutex_lock(&d->txns.mu);
	count = d->txns.count;
	pthread_mutex_unlock(&d->txns.mu);
	return count;
}

/* ---- commit ---- */

static void reply(const struct txn_job *job, int err)
{
	if (err || !job->is_ioctl)
		reply_result(job->req, NULL, err);
	else
		fuse_reply_ioctl(job->req, 0, NULL, 0);
}

/* In the words of .kvfs/conflicts; what does not fit the memory is left out. */
static void on_conflict(void *ctx, struct kv_slice path)
{
	struct txn_job *job = ctx;
	const char *name = job->txn->name;
	size_t len = job->conflicts.len;

	if (buf_append_escaped(&job->conflicts, kv_slice_of(name, strlen(name))) ||
	    buf_append_byte(&job->conflicts, '\t') || buf_append_escaped(&job->conflicts, path) ||
	    buf_append_byte(&job->conflicts, '\n'))
		job->conflicts.len = len;
}

void txn_tell_stale(void *daemon, uint64_t ino, const char *name)
{
	struct kvfsd *d = daemon;

	if (name)
		(void)fuse_lowlevel_notify_inval_entry(d->txns.fuse, ino, name, strlen(name));
	else
		(void)fuse_lowlevel_notify_inval_inode(d->txns.fuse, ino, 0, 0);
}

static void on_stale(void *ctx, uint64_t ino, const char *name)
{
	struct txn_job *job = ctx;

	txn_tell_stale(job->all->d, ino, name);
}

/* Take it out of the list if it has ended, and answer. */
static void on_done(void *ctx, int err)
{
	struct txn_job *job = ctx;
	struct txn *t = job->txn;
	struct kvfs_attr attr;
	bool ended = kvfs_getattr(t->tree->fs, kvfs_root(t->tree->fs), &attr) == -ESTALE;

	pthread_mutex_lock(&job->all->mu);
	kv_buf_free(&t->conflicts);
	t->conflicts = job->conflicts;
	job->conflicts = (struct kv_buf){0};
	if (ended) {
		unlink_locked(job->all, t);
	} else {
		t->busy = false;
		job->txn = NULL;
	}
	pthread_mutex_unlock(&job->all->mu);
	if (ended)
		tree_drop_name(&job->all->d->trees, t->tree->name);
	reply(job, err);
}

/* What programs have written by mmap(2), or the write-back cache holds, comes to the daemon. */
static void collect_writes(struct kvfsd *d)
{
	(void)!steward_sync(d->steward);
}

static void commit(struct txns *all, struct txn_job *job)
{
	struct kvfs_draft_hooks hooks = {
		.conflict = on_conflict, .stale = on_stale, .done = on_done, .ctx = job};
	struct kvfs *draft = job->txn->tree->fs;
	int err;

	err = kvfs_draft_commit(draft, &hooks);
	if (err && err != -KV_E_CONFLICT && err != -KV_E_READONLY)
		log_error(all->d->log, "a transaction was not committed: %s", kv_strerror(err));
	if (job->txn)
		drop(all->d, job->txn);
	kv_buf_free(&job->conflicts);
}

static void run_job(struct txns *all, struct txn_job *job)
{
	collect_writes(all->d);
	if (job->work)
		job->work(all->d, job->ctx, false);
	else
		commit(all, job);
	free(job);
}

static void enqueue_locked(struct txns *all, struct txn_job *job)
{
	*all->last_job = job;
	all->last_job = &job->next;
	(void)pthread_cond_signal(&all->wake);
}

int txn_defer(struct kvfsd *d, void (*work)(struct kvfsd *d, void *ctx, bool stopped), void *ctx)
{
	struct txns *all = &d->txns;
	struct txn_job *job = calloc(1, sizeof(*job));
	int err = -EBUSY;

	if (!job)
		return -ENOMEM;
	*job = (struct txn_job){.all = all, .work = work, .ctx = ctx};
	pthread_mutex_lock(&all->mu);
	if (all->running && !all->stop) {
		enqueue_locked(all, job);
		err = 0;
	}
	pthread_mutex_unlock(&all->mu);
	if (err)
		free(job);
	return err;
}

void txn_commit(struct fuse_req *req, const char *name, uint64_t ino, bool is_ioctl)
{
	struct kvfsd *d = op_daemon(req);
	struct txns *all = &d->txns;
	struct txn_job *job = calloc(1, sizeof(*job));
	struct txn *t;
	int err = -ENOMEM;

	pthread_mutex_lock(&all->mu);
	t = name ? *find_locked(all, name) : *find_tree_locked(all, ino);
	if (!t)
		err = name ? -ENOENT : -ESTALE;
	else if (!may_end(t, fuse_req_ctx(req)->uid))
		err = -EPERM;
	else if (t->busy || all->stop || !all->running)
		err = -EBUSY;
	else if (job)
		err = 0;
	if (!err) {
		t->busy = true;
		*job = (struct txn_job){.req = req, .txn = t, .is_ioctl = is_ioctl, .all = all};
		enqueue_locked(all, job);
	}
	pthread_mutex_unlock(&all->mu);
	if (err) {
		free(job);
		reply_result(req, NULL, err);
	}
}

/* ---- the thread ---- */

/* One that nobody has used for long; out of the list. */
static struct txn *take_expired_locked(struct txns *all, int64_t now)
{
	unsigned limit = all->d->opt->txn_expire_s;

	for (struct txn *t = all->list; limit && t; t = t->next)
		if (!t->busy && now - atomic_load(&t->tree->used_s) > (int64_t)limit) {
			unlink_locked(all, t);
			return t;
		}
	return NULL;
}

static void expire(struct kvfsd *d, struct txn *t)
{
	struct kv_buf name = {0};

	if (!buf_append_escaped(&name, kv_slice_of(t->name, strlen(t->name))))
		log_line(d->log, KV_LOG_INFO, "transaction %.*s has expired", (int)name.len,
			 (const char *)name.data);
	kv_buf_free(&name);
	drop(d, t);
}

static void *serve(void *arg)
{
	struct txns *all = arg;
	struct timespec until = {0};
	struct txn_job *job;
	struct txn *expired;

	pthread_mutex_lock(&all->mu);
	while (!all->stop) {
		job = all->first_job;
		expired = job ? NULL : take_expired_locked(all, (int64_t)time(NULL));
		if (job) {
			all->first_job = job->next;
			if (!all->first_job)
				all->last_job = &all->first_job;
		}
		if (job || expired) {
			pthread_mutex_unlock(&all->mu);
			if (job)
				run_job(all, job);
			else
				expire(all->d, expired);
			pthread_mutex_lock(&all->mu);
		} else if (all->d->opt->txn_expire_s) {
			until.tv_sec = time(NULL) + EXPIRY_TICK_S;
			(void)pthread_cond_timedwait(&all->wake, &all->mu, &until);
		} else {
			(void)pthread_cond_wait(&all->wake, &all->mu);
		}
	}
	pthread_mutex_unlock(&all->mu);
	return NULL;
}

int txn_init(struct txns *all)
{
	int err;

	*all = (struct txns){0};
	all->last_job = &all->first_job;
	err = pthread_mutex_init(&all->mu, NULL);
	if (err)
		return -err;
	err = pthread_cond_init(&all->wake, NULL);
	if (err)
		(void)pthread_mutex_destroy(&all->mu);
	return -err;
}

int txn_start(struct txns *all, struct kvfsd *d, struct fuse_session *fuse)
{
	int err;

	all->d = d;
	all->fuse = fuse;
	if (d->opt->snapshot[0])
		return 0;
	err = pthread_create(&all->thread, NULL, serve, all);
	all->running = !err;
	return -err;
}

void txn_stop(struct txns *all)
{
	struct txn_job *job;

	if (!all->running)
		return;
	pthread_mutex_lock(&all->mu);
	all->stop = true;
	(void)pthread_cond_signal(&all->wake);
	pthread_mutex_unlock(&all->mu);
	(void)pthread_join(all->thread, NULL);
	all->running = false;
	while ((job = all->first_job)) {
		all->first_job = job->next;
		if (job->work)
			job->work(all->d, job->ctx, true);
		else
			fuse_reply_err(job->req, EIO);
		free(job);
	}
}

/* The trees are closed by who closes all of them. */
void txn_fini(struct txns *all)
{
	struct txn *t, *next;

	for (t = all->list; t; t = next) {
		next = t->next;
		free_txn(t);
	}
	(void)pthread_cond_destroy(&all->wake);
	(void)pthread_mutex_destroy(&all->mu);
}
