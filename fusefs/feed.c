/* SPDX-License-Identifier: MIT */
/*
 * The clock of history, and the files of it. A watch belongs to the thread that ticks; the
 * nodes come and go in others, so each is counted.
 */
#include "fusefs/feed.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "fusefs/op.h"
#include "kvcore/base/buf.h"

#define FEED_NS	      INT64_C(1000000000)
#define FEED_WINDOW_S 600U
#define FEED_LINGER_S 60
#define FEED_PIECE    ((size_t)1024 * 1024) /* bytes appended to a file at a time */

struct feed {
	uint64_t id;		  /* [const] */
	struct feed *next;	  /* [feeds.mu] */
	unsigned users;		  /* [feeds.mu] and one while it is in the list */
	struct kvfs_watch *watch; /* [self] of the thread that ticks */
	uint64_t end;		  /* [self] bytes that were appended */
	bool failed;		  /* [self] */
};

static int64_t feed_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * FEED_NS + t.tv_nsec;
}

/* ---- history ------------------------------------------------------------------------------- */

int feed_init(struct feeds *f)
{
	*f = (struct feeds){0};
	return -pthread_mutex_init(&f->mu, NULL);
}

void feed_fini(struct feeds *f)
{
	(void)pthread_mutex_destroy(&f->mu);
}

int feed_start(struct kvfsd *d)
{
	struct feeds *f = &d->control.feeds;
	bool readonly = d->opt->readonly == OPTIONS_ON;
	int err = 0;

	if (d->opt->snapshot[0])
		return 0;
	f->fs = d->fs;
	if (d->opt->history_s && !readonly) {
		err = kvfs_history_start(d->fs, d->opt->history_s, true, feed_now(), &f->history);
		f->lasting = !err;
	} else if (!readonly) {
		err = kvfs_history_forget(d->fs);
	}
	if (err)
		log_error(d->log, "history: %s", kv_strerror(err));
	return err;
}

void feed_stop(struct kvfsd *d)
{
	struct feeds *f = &d->control.feeds;

	while (f->list)
		feed_end(f, f->list->id);
	kvfs_history_stop(f->history);
	f->history = NULL;
}

/* There is one more reader. */
static int feed_hold(struct feeds *f)
{
	int err = 0;

	if (!f->fs)
		return -KV_E_GONE;
	pthread_mutex_lock(&f->mu);
	if (!f->history)
		err = kvfs_history_start(f->fs, FEED_WINDOW_S, false, feed_now(), &f->history);
	f->readers += !err;
	pthread_mutex_unlock(&f->mu);
	return err;
}

static void feed_let_go(struct feeds *f)
{
	pthread_mutex_lock(&f->mu);
	f->readers--;
	f->idle_ns = feed_now();
	pthread_mutex_unlock(&f->mu);
}

int feed_watch(struct feeds *f, kv_seq from, struct kv_slice below, struct kvfs_watch **out)
{
	int err = feed_hold(f);

	if (err)
		return err;
	err = kvfs_watch_open(f->fs, from, below, out);
	if (err)
		feed_let_go(f);
	return err;
}

void feed_unwatch(struct feeds *f, struct kvfs_watch *w)
{
	if (!w)
		return;
	kvfs_watch_close(w);
	feed_let_go(f);
}

int feed_at(struct feeds *f, int64_t ns, kv_seq *out)
{
	int err = -KV_E_GONE;

	pthread_mutex_lock(&f->mu);
	if (f->history)
		err = kvfs_history_at(f->history, ns, feed_now(), out);
	pthread_mutex_unlock(&f->mu);
	return err;
}

int feed_versions(struct feeds *f, struct kv_slice path, struct kvfs_versions **out)
{
	int err = feed_hold(f);

	if (err)
		return err;
	err = kvfs_versions_open(f->fs, path, out);
	feed_let_go(f);
	return err;
}

bool feed_busy(struct feeds *f)
{
	bool busy;

	pthread_mutex_lock(&f->mu);
	busy = f->history;
	pthread_mutex_unlock(&f->mu);
	return busy;
}

static void tick_history(struct kvfsd *d)
{
	struct feeds *f = &d->control.feeds;
	int64_t now = feed_now();
	bool dropped = false;
	int err = 0;

	pthread_mutex_lock(&f->mu);
	if (f->history && !f->lasting && !f->readers &&
	    now - f->idle_ns > FEED_LINGER_S * FEED_NS) {
		kvfs_history_stop(f->history);
		f->history = NULL;
	}
	if (f->history)
		err = kvfs_history_tick(f->history, now, &dropped);
	pthread_mutex_unlock(&f->mu);
	if (dropped)
		log_line(d->log, KV_LOG_WARN, "history: dropped, the volume is nearly full");
	if (err && err != -KV_E_READONLY && err != -KV_E_POISONED)
		log_line(d->log, KV_LOG_WARN, "history: %s", kv_strerror(err));
}

/* ---- files ----------------------------------------------------------------------------------- */

static void feed_release(struct feeds *f, struct feed *one)
{
	bool last;

	pthread_mutex_lock(&f->mu);
	last = !--one->users;
	pthread_mutex_unlock(&f->mu);
	if (!last)
		return;
	feed_unwatch(f, one->watch);
	free(one);
}

int feed_begin(struct kvfsd *d, uint64_t id, struct kv_buf *text)
{
	struct feeds *f = &d->control.feeds;
	struct feed *one = calloc(1, sizeof(*one));
	int err;

	if (!one)
		return -ENOMEM;
	one->id = id;
	one->users = 1;
	err = feed_watch(f, 0, kv_slice_of(NULL, 0), &one->watch);
	if (!err)
		err = buf_printf(text, "%llu\tposition\n",
				 (unsigned long long)kvfs_watch_position(one->watch));
	if (err) {
		feed_unwatch(f, one->watch);
		free(one);
		return err;
	}
	one->end = text->len;
	pthread_mutex_lock(&f->mu);
	one->next = f->list;
	f->list = one;
	pthread_mutex_unlock(&f->mu);
	keeper_wake(&d->keeper);
	return 0;
}

void feed_end(struct feeds *f, uint64_t id)
{
	struct feed **at, *one;

	pthread_mutex_lock(&f->mu);
	for (at = &f->list; *at && (*at)->id != id; at = &(*at)->next)
		;
	one = *at;
	if (one)
		*at = one->next;
	pthread_mutex_unlock(&f->mu);
	if (one)
		feed_release(f, one);
}

static int put_event(void *ctx, const struct kvfs_event *e)
{
	struct kv_buf *out = ctx;
	int err = buf_printf(out, "%llu\t%s\t", (unsigned long long)e->commit,
			     kvfs_event_word(e->kind));

	if (!err)
		err = buf_append_escaped(out, e->path);
	if (!err && e->kind == KVFS_EVENT_RENAMED)
		err = buf_append_byte(out, '\t');
	if (!err && e->kind == KVFS_EVENT_RENAMED)
		err = buf_append_escaped(out, e->from);
	return err ? err : buf_append_byte(out, '\n');
}

static void grow(struct kvfsd *d, struct feed *one, struct fuse_session *fuse)
{
	struct kv_buf text = {0};
	uint64_t before = one->end, size;
	int err = 0;

	if (control_text_size(&d->control, one->id, &size))
		return; /* it is not there yet, or not any more */

	while (!err && text.len < FEED_PIECE)
		err = kvfs_watch_next(one->watch, put_event, &text);
	if (text.len && (!err || err == -KV_E_NOTFOUND))
		err = control_text_append(&d->control, one->id, kv_buf_slice(&text));
	if (!err || err == -KV_E_NOTFOUND)
		one->end += text.len;
	one->failed = err && err != -KV_E_NOTFOUND;
	if (one->failed)
		control_text_fail(&d->control, one->id, err);
	if (text.len || one->failed) {
		(void)fuse_lowlevel_notify_inval_inode(fuse, one->id, (off_t)before, 0);
		control_text_show(&d->control, one->id, one->end);
	}
	kv_buf_free(&text);
}

/* The one of the lowest id above @after, with a count; that of @after may be gone. */
static struct feed *next_feed(struct feeds *f, uint64_t after)
{
	struct feed *next = NULL;

	pthread_mutex_lock(&f->mu);
	for (struct feed *one = f->list; one; one = one->next)
		if (one->id > after && (!next || one->id < next->id))
			next = one;
	if (next)
		next->users++;
	pthread_mutex_unlock(&f->mu);
	return next;
}

void feed_tick(struct kvfsd *d, struct fuse_session *fuse)
{
	struct feeds *f = &d->control.feeds;
	struct feed *one;
	uint64_t id = 0;

	tick_history(d);
	while ((one = next_feed(f, id))) {
		id = one->id;
		if (!one->failed)
			grow(d, one, fuse);
		feed_release(f, one);
	}
}
