/* SPDX-License-Identifier: MIT */
/*
 * The thread reads and checks by kv_scrub(), whose progress function sleeps as the rate asks for.
 * Findings become lines, which wait until they are fetched. Who died in the middle of a
 * conversation fetches nothing any more, and the node of its channel may live on: so the thread
 * gives up after a while, since what it reads keeps its space.
 */
#include "fusefs/scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fusefs/model/kvfs_damage.h"
#include "kvcore/base/base.h"
#include "kvcore/base/buf.h"

#define PATIENCE_NS (15 * NS)	       /* without being asked */
#define SLICE_NS    (NS / 4)	       /* a reader waits for an answer */
#define TEXT_MAX    (4U * 1024 * 1024) /* of findings that wait; more are only counted */
#define NS	    UINT64_C(1000000000)

struct scrub {
	struct kvfsd *d; /* [const] */
	uint64_t rate;	 /* [const] */
	uint64_t after;	 /* [const] */
	uint64_t began;	 /* [const] monotonic, ns */
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t changed;
	bool stop;		       /* [mu] */
	bool ended;		       /* [mu] nothing more is coming */
	uint64_t asked;		       /* [mu] when it was asked last, ns */
	struct kv_scrub_progress at;   /* [mu] */
	struct kv_buf out;	       /* [mu] lines */
	size_t got;		       /* [mu] of which so much was fetched */
	struct kv_scrub_result result; /* [thread] */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* Wait until somebody signals, at most to @until of the monotonic clock. */
static void wait_locked(struct scrub *s, uint64_t until)
{
	struct timespec t = {(time_t)(until / NS), (long)(until % NS)};

	(void)pthread_cond_timedwait(&s->changed, &s->mu, &t);
}

static void found(void *ctx, const struct kv_problem *p)
{
	struct scrub *s = ctx;
	struct kv_buf line = {0};
	int err;

	err = buf_printf(&line, "found %d %s", (int)p->id, p->text);
	if (!err)
		err = kvfs_damage_where(s->d->fs, p, &line);
	if (!err)
		err = buf_append_byte(&line, '\n');
	pthread_mutex_lock(&s->mu);
	if (!err && s->out.len + line.len <= TEXT_MAX)
		err = buf_append_slice(&s->out, kv_buf_slice(&line));
	(void)err; /* it was logged and counted by the engine */
	(void)pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mu);
	kv_buf_free(&line);
}

static int progress(void *ctx, const struct kv_scrub_progress *p)
{
	struct scrub *s = ctx;
	uint64_t due = s->began;
	bool stop;

	if (s->rate) /* in two steps, so that nothing overflows */
		due += p->done / s->rate * NS + p->done % s->rate * (NS / 1024) / s->rate * 1024;
	pthread_mutex_lock(&s->mu);
	s->at = *p;
	while (!s->stop && now_ns() < min_u64(due, s->asked + PATIENCE_NS))
		wait_locked(s, min_u64(due, s->asked + PATIENCE_NS));
	stop = s->stop || now_ns() > s->asked + PATIENCE_NS;
	pthread_mutex_unlock(&s->mu);
	return stop;
}

static void *run(void *arg)
{
	struct scrub *s = arg;
	const struct kv_scrub_options o = {
		.found = found, .progress = progress, .ctx = s, .after = s->after};
	struct kv_scrub_result *r = &s->result;
	int err = kv_scrub(kvfs_db(s->d->fs), &o, r);

	pthread_mutex_lock(&s->mu);
	s->ended = true;
	(void)!buf_printf(&s->out,
			  "end %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
			  " %" PRIu64 "\n",
			  err, r->after, r->problems, r->tables, r->pages, r->entries, r->values);
	(void)pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mu);
	return NULL;
}

static int make_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);

	if (err)
		return err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
	return err;
}

int scrub_start(struct kvfsd *d, uint64_t rate, uint64_t after, struct scrub **out)
{
	struct scrub *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->d = d;
	s->rate = rate;
	s->after = after;
	s->began = s->asked = now_ns();
	err = pthread_mutex_init(&s->mu, NULL);
	if (err)
		goto no_mutex;
	err = make_cond(&s->changed);
	if (err)
		goto no_cond;
	err = pthread_create(&s->thread, NULL, run, s);
	if (err)
		goto no_thread;
	*out = s;
	return 0;
no_thread:
	(void)pthread_cond_destroy(&s->changed);
no_cond:
	(void)pthread_mutex_destroy(&s->mu);
no_mutex:
	free(s);
	return -err;
}

void scrub_stop(struct scrub *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->mu);
	s->stop = true;
	(void)pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mu);
	(void)pthread_join(s->thread, NULL);
	(void)pthread_cond_destroy(&s->changed);
	(void)pthread_mutex_destroy(&s->mu);
	kv_buf_free(&s->out);
	free(s);
}

size_t scrub_read(struct scrub *s, void *to, size_t len)
{
	uint64_t until = now_ns() + SLICE_NS;
	size_t n;

	pthread_mutex_lock(&s->mu);
	s->asked = now_ns();
	while (s->got == s->out.len && !s->ended && now_ns() < until)
		wait_locked(s, until);
	if (s->got == s->out.len && !s->ended) {
		buf_clear(&s->out);
		s->got = 0;
		if (buf_printf(&s->out, "at %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", s->at.done,
			       s->at.total, s->at.after))
			s->out.len = 0;
	}
	n = (size_t)min_u64(s->out.len - s->got, len);
	if (n)
		memcpy(to, s->out.data + s->got, n);
	s->got += n;
	s->asked = now_ns();
	pthread_mutex_unlock(&s->mu);
	return n;
}
