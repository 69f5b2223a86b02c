/* SPDX-License-Identifier: MIT */
/*
 * Sleeps until the next full hour, but never long: the clock may be set. A snapshot that
 * it drops has names in the kernel's cache, which it takes out: which is
 * possible because this thread serves no requests. Names
 * that are not there are not cached, so what it takes is seen at once.
 *
 * While history is kept it ticks for that, too, once a second (feed.h).
 */
#include "fusefs/keeper.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "fusefs/op.h"
#include "kvcore/base/base.h"

#define NAP_S 60

int keeper_policy(struct kvfsd *d, struct kvfs_keep *out)
{
	if (d->opt->keep_said) {
		*out = d->opt->keep;
		return 0;
	}
	return kvfs_keep_get(d->fs, out);
}

static void forget_name(void *ctx, const char *name)
{
	struct keeper *k = ctx;

	tree_drop_name(&k->d->trees, name);
	(void)fuse_lowlevel_notify_inval_entry(k->fuse, TREE_BIT | (uint64_t)CONTROL_SNAPSHOTS,
					       name, strlen(name));
}

/* One look at the policy; returns when to look again. */
static int64_t look(struct keeper *k, int *last_err)
{
	struct kvfs_keep keep;
	int64_t now = (int64_t)time(NULL);
	int64_t next = now + NAP_S;
	int err = keeper_policy(k->d, &keep);

	if (!err)
		err = kvfs_keep_run(k->d->fs, &keep, now, forget_name, k, &next);
	/* Said once, and not at all of a read-only mount. */
	if (err && err != *last_err && err != -KV_E_READONLY)
		log_error(k->d->log, "snapshots by the clock: %s", kv_strerror(err));
	*last_err = err;
	return err ? now + NAP_S : next;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void *keep(void *arg)
{
	struct keeper *k = arg;
	struct timespec until = {0};
	int last_err = 0;
	int64_t next = 0;
	bool due;

	pthread_mutex_lock(&k->mu);
	while (!k->stop) {
		due = k->again || time(NULL) >= next;
		k->again = false;
		pthread_mutex_unlock(&k->mu);
		if (due)
			next = earlier(look(k, &last_err), (int64_t)time(NULL) + NAP_S);
		feed_tick(k->d, k->fuse);
		until.tv_sec = (time_t)next;
		if (feed_busy(&k->d->control.feeds))
			until.tv_sec = (time_t)earlier(next, (int64_t)time(NULL) + 1);
		pthread_mutex_lock(&k->mu);
		while (!k->stop && !k->again &&
		       pthread_cond_timedwait(&k->wake, &k->mu, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&k->mu);
	return NULL;
}

int keeper_start(struct keeper *k, struct kvfsd *d, struct fuse_session *fuse)
{
	int err;

	*k = (struct keeper){.d = d, .fuse = fuse};
	if (d->opt->snapshot[0])
		return 0;
	err = pthread_mutex_init(&k->mu, NULL);
	if (err)
		return -err;
	err = pthread_cond_init(&k->wake, NULL);
	if (err)
		goto no_cond;
	err = pthread_create(&k->thread, NULL, keep, k);
	if (err)
		goto no_thread;
	k->running = true;
	return 0;
no_thread:
	(void)pthread_cond_destroy(&k->wake);
no_cond:
	(void)pthread_mutex_destroy(&k->mu);
	return -err;
}

void keeper_stop(struct keeper *k)
{
	if (!k->running)
		return;
	pthread_mutex_lock(&k->mu);
	k->stop = true;
	(void)pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->mu);
	(void)pthread_join(k->thread, NULL);
	(void)pthread_cond_destroy(&k->wake);
	(void)pthread_mutex_destroy(&k->mu);
	k->running = false;
}

void keeper_wake(struct keeper *k)
{
	pthread_mutex_lock(&k->mu);
	k->again = true;
	(void)pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->mu);
}
