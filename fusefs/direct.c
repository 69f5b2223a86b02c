/* SPDX-License-Identifier: MIT */
/*
 * One thread and a list. Writes are answered in the order in which they happened, so a page of
 * an older one is not dropped behind the answer of a newer one. An invalidation that fails finds no
 * such inode in the kernel, so nothing of it is cached.
 */
#include "fusefs/direct.h"

#include <errno.h>
#include <stdlib.h>

#include "fusefs/op.h"

struct direct_write {
	struct direct_write *next;
	fuse_req_t req;
	fuse_ino_t ino;
	off_t off;
	size_t size;
};

static void finish(struct direct *w, struct direct_write *list)
{
	struct direct_write *next;

	for (; list; list = next) {
		next = list->next;
		(void)fuse_lowlevel_notify_inval_inode(w->fuse, list->ino, list->off,
						       (off_t)list->size);
		fuse_reply_write(list->req, list->size);
		free(list);
	}
}

static void *run(void *arg)
{
	struct direct *w = arg;
	struct direct_write *list;

	pthread_mutex_lock(&w->mu);
	while (!w->stop || w->head) {
		if (!w->head) {
			pthread_cond_wait(&w->wake, &w->mu);
			continue;
		}
		list = w->head;
		w->head = NULL;
		w->tail = &w->head;
		pthread_mutex_unlock(&w->mu);
		finish(w, list);
		pthread_mutex_lock(&w->mu);
	}
	pthread_mutex_unlock(&w->mu);
	return NULL;
}

int direct_start(struct direct *w, struct fuse_session *fuse)
{
	int err;

	*w = (struct direct){.fuse = fuse};
	w->tail = &w->head;
	err = pthread_mutex_init(&w->mu, NULL);
	if (err)
		return -err;
	err = pthread_cond_init(&w->wake, NULL);
	if (err)
		goto no_cond;
	err = pthread_create(&w->thread, NULL, run, w);
	if (err)
		goto no_thread;
	w->running = true;
	return 0;
no_thread:
	(void)pthread_cond_destroy(&w->wake);
no_cond:
	(void)pthread_mutex_destroy(&w->mu);
	return -err;
}

void direct_stop(struct direct *w)
{
	if (!w->running)
		return;
	pthread_mutex_lock(&w->mu);
	w->stop = true;
	(void)pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->mu);
	(void)pthread_join(w->thread, NULL);
	(void)pthread_cond_destroy(&w->wake);
	(void)pthread_mutex_destroy(&w->mu);
	w->running = false;
}

void direct_answer(struct direct *w, struct fuse_req *req, uint64_t ino, off_t off, size_t size)
{
	struct direct_write *item;

	if (!w->running) { /* without a session there is no kernel with pages */
		fuse_reply_write(req, size);
		return;
	}
	item = malloc(sizeof(*item));
	if (!item) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	*item = (struct direct_write){NULL, req, ino, off, size};
	pthread_mutex_lock(&w->mu);
	*w->tail = item;
	w->tail = &item->next;
	(void)pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->mu);
}
