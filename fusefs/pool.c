/* SPDX-License-Identifier: MIT */
/*
 * Who reads requests. If all threads wait in read(2), the kernel wakes another one
 * for each request, in turn, and every request pays for a switch to a thread
 * whose caches are cold: measured, twice the processor time. So there is one
 * reader, which answers by itself, and which gives the place away
 *
 *   before a request that waits for the disk (fsync and its like),
 *   before a long one, or one that may find a cold cache when others did lately, if more
 *   requests are waiting already,
 *   when the warden finds it busy with the same request for a tick: it reads from a slow
 *   disk, or its write is held back.
 *
 *   waiting --become_reader--> reading --serve: quick--> reading
 *      ^                          | give_away, or taken by the warden
 *      +------ answered ----------+
 *
 * (Leader and followers; D. Schmidt et al., POSA 2, 2000.)
 */
#include "fusefs/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fusefs/raw.h"

#define TICK_NS	    (2 * 1000 * 1000) /* of the warden */
#define WATCHFUL    64		      /* requests to poll behind, after another process was seen */
#define COLD	    64		      /* requests that may read, after one that did */
#define COLD_NS	    (80 * 1000)	      /* a read from memory takes a tenth */
#define LONG_BYTES  (64U * 1024)      /* of a write that is worth another thread */
#define TICKS_QUIET 25		      /* without a request, after which the warden sleeps */

static void *worker_run(void *arg);

struct worker {
	struct pool *pool;
	unsigned id; /* index + 1 */
};

/* ---- with mu held ---- */

/* Threads inherit what is blocked: everything but SIGUSR1, see pool_start(). */
static int add_worker_locked(struct pool *p)
{
	struct worker *w = malloc(sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	*w = (struct worker){p, p->worker_count + 1};
	err = pthread_create(&p->workers[p->worker_count], NULL, worker_run, w);
	if (err) {
		free(w);
		return -err;
	}
	p->worker_count++;
	return 0;
}

static void give_away_locked(struct pool *p)
{
	p->reader = 0;
	if (p->waiting > 0)
		pthread_cond_signal(&p->turn);
	else if (!p->ended && p->worker_count < p->max_threads)
		(void)add_worker_locked(p); /* without a thread, the next to be done reads */
}

/* ---- workers ---- */

static void end(struct pool *p, int result)
{
	pthread_mutex_lock(&p->mu);
	if (!p->ended) {
		p->ended = true;
		p->result = result;
		pthread_cond_broadcast(&p->turn);
		pthread_cond_broadcast(&p->watch);
		(void)kill(getpid(), SIGUSR2);
	}
	pthread_mutex_unlock(&p->mu);
}

static bool become_reader(struct pool *p, unsigned id)
{
	bool mine;

	pthread_mutex_lock(&p->mu);
	p->waiting++;
	while (p->reader && !p->ended)
		pthread_cond_wait(&p->turn, &p->mu);
	p->waiting--;
	mine = !p->ended;
	if (mine)
		p->reader = id;
	pthread_mutex_unlock(&p->mu);
	return mine;
}

static void give_away(struct pool *p)
{
	pthread_mutex_lock(&p->mu);
	give_away_locked(p);
	pthread_mutex_unlock(&p->mu);
}

static uint32_t write_flags(const struct fuse_buf *buf, bool of_request)
{
	struct fuse_write_in write;

	if (buf->size < sizeof(struct fuse_in_header) + sizeof(write))
		return 0;
	memcpy(&write, (const char *)buf->mem + sizeof(struct fuse_in_header), sizeof(write));
	return of_request ? write.write_flags : write.flags;
}

/* Whether the answer may have to be read from the disk. */
static bool may_read(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_READLINK:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		return true;
	default:
		return false;
	}
}

/* Copies contents or makes many entries. */
static bool is_long(uint32_t opcode)
{
	return opcode == FUSE_READ || opcode == FUSE_READDIR || opcode == FUSE_READDIRPLUS;
}

/* Whether the answer has to wait for the disk. */
static bool is_slow(const struct pool *p, const struct fuse_in_header *head,
		    const struct fuse_buf *buf)
{
	switch (head->opcode) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
	case FUSE_IOCTL:
		return true;
	case FUSE_LOOKUP:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_GETATTR:
	case FUSE_GETXATTR:
	case FUSE_READ:
		return false;
	case FUSE_WRITE:
		return p->sync || (write_flags(buf, false) & O_DSYNC);
	default:
		return p->sync;
	}
}

/*
 * Whether another thread could gain from the requests that may be waiting. It takes longer to wake
 * one than to answer from memory, so this is asked only where it pays. Somebody else has sent a
 * request lately, or this one belongs to readahead or write-back, which do not wait for each
 * other; that saves a poll where one program does one thing after the other.
 */
static bool may_gain(struct pool *p, const struct fuse_in_header *head, const struct fuse_buf *buf)
{
	bool cold = atomic_load_explicit(&p->cold, memory_order_relaxed) && may_read(head->opcode);

	if (!cold && !is_long(head->opcode) && buf->size < LONG_BYTES)
		return false;
	if (p->last_pid != head->pid) {
		p->last_pid = head->pid;
		p->watchful = WATCHFUL;
	}
	if (p->watchful) {
		p->watchful--;
		return true;
	}
	return head->opcode == FUSE_READ ||
	       (head->opcode == FUSE_WRITE && (write_flags(buf, true) & FUSE_WRITE_CACHE));
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Answer, and remember whether the cache was cold. */
static void process(struct pool *p, const struct fuse_in_header *head, const struct fuse_buf *buf)
{
	bool reads = may_read(head->opcode);
	int64_t from = reads ? now_ns() : 0;
	unsigned cold;

	if (!raw_answer(p->d, p->fd, buf->mem, buf->size))
		fuse_session_process_buf(p->session, buf);
	if (!reads)
		return;
	cold = atomic_load_explicit(&p->cold, memory_order_relaxed);
	if (now_ns() - from > COLD_NS)
		atomic_store_explicit(&p->cold, COLD, memory_order_relaxed);
	else if (cold)
		atomic_store_explicit(&p->cold, cold - 1, memory_order_relaxed);
}

static bool more_waits(const struct pool *p)
{
	struct pollfd fd = {.fd = p->fd, .events = POLLIN};

	return poll(&fd, 1, 0) > 0 && (fd.revents & POLLIN);
}

static void wake_warden(struct pool *p)
{
	pthread_mutex_lock(&p->mu);
	p->warden_sleeps = false;
	atomic_store(&p->wake_warden, false);
	pthread_cond_signal(&p->watch);
	pthread_mutex_unlock(&p->mu);
}

/* Returns whether the worker is still the reader. */
static bool answer(struct pool *p, unsigned id, const struct fuse_buf *buf)
{
	struct fuse_in_header head = {0};
	bool mine;

	if (buf->size >= sizeof(head))
		memcpy(&head, buf->mem, sizeof(head));
	if (is_slow(p, &head, buf) ||
	    (p->max_threads > 1 && may_gain(p, &head, buf) && more_waits(p))) {
		give_away(p);
		process(p, &head, buf);
		return false;
	}
	atomic_fetch_add(&p->beat, 1);
	if (atomic_load_explicit(&p->wake_warden, memory_order_relaxed))
		wake_warden(p);
	process(p, &head, buf);
	pthread_mutex_lock(&p->mu);
	mine = p->reader == id;
	if (mine)
		atomic_fetch_add(&p->beat, 1);
	pthread_mutex_unlock(&p->mu);
	return mine;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;
	struct fuse_buf buf = {.mem = NULL};
	bool reads = false;
	int n;

	for (;;) {
		if (!reads && !become_reader(p, w->id))
			break;
		n = fuse_session_receive_buf(p->session, &buf);
		if (n == -EINTR || n == -EAGAIN) {
			reads = true;
			continue;
		}
		if (n <= 0) { /* unmounted, told to exit, or broken */
			end(p, n);
			break;
		}
		reads = answer(p, w->id, &buf);
	}
	free(buf.mem);
	free(w);
	return NULL;
}

/* ---- the warden ---- */

static void tick(struct pool *p)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += TICK_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	(void)pthread_cond_timedwait(&p->watch, &p->mu, &until);
}

static void *warden_run(void *arg)
{
	struct pool *p = arg;
	uint_fast64_t last = 0, now;
	unsigned quiet = 0;

	pthread_mutex_lock(&p->mu);
	while (!p->ended) {
		now = atomic_load(&p->beat);
		if (now != last) {
			quiet = 0;
		} else if (now & 1) { /* the same request as a tick ago */
			atomic_fetch_add(&p->beat, 1);
			give_away_locked(p);
			quiet = 0;
		} else if (++quiet > TICKS_QUIET) {
			p->warden_sleeps = true;
			atomic_store(&p->wake_warden, true);
			while (p->warden_sleeps && !p->ended)
				pthread_cond_wait(&p->watch, &p->mu);
			quiet = 0;
		}
		last = now;
		if (!p->ended)
			tick(p);
	}
	pthread_mutex_unlock(&p->mu);
	return NULL;
}

/* ---- interface ---- */

static int init_conds(struct pool *p)
{
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr);

	if (err)
		return -err;
	err = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!err)
		err = pthread_cond_init(&p->watch, &attr);
	(void)pthread_condattr_destroy(&attr);
	if (err)
		return -err;
	err = pthread_cond_init(&p->turn, NULL);
	if (err)
		(void)pthread_cond_destroy(&p->watch);
	return -err;
}

static void fini(struct pool *p)
{
	(void)pthread_cond_destroy(&p->turn);
	(void)pthread_cond_destroy(&p->watch);
	(void)pthread_mutex_destroy(&p->mu);
}

int pool_start(struct pool *p, struct kvfsd *d, struct fuse_session *session, unsigned max_threads,
	       bool sync)
{
	sigset_t all, before;
	int err;

	memset(p, 0, sizeof(*p));
	p->d = d;
	p->session = session;
	p->fd = fuse_session_fd(session);
	p->max_threads = max_threads;
	p->sync = sync;
	atomic_init(&p->beat, 0);
	atomic_init(&p->cold, 0);
	atomic_init(&p->wake_warden, false);
	err = -pthread_mutex_init(&p->mu, NULL);
	if (err)
		return err;
	err = init_conds(p);
	if (err) {
		(void)pthread_mutex_destroy(&p->mu);
		return err;
	}
	sigfillset(&all);
	sigdelset(&all, SIGUSR1);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&p->warden, NULL, warden_run, p);
	if (!err) {
		pthread_mutex_lock(&p->mu);
		err = add_worker_locked(p);
		pthread_mutex_unlock(&p->mu);
		if (err) {
			end(p, err);
			(void)pthread_join(p->warden, NULL);
		}
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		fini(p);
	return err;
}

bool pool_ended(struct pool *p)
{
	bool ended;

	pthread_mutex_lock(&p->mu);
	ended = p->ended;
	pthread_mutex_unlock(&p->mu);
	return ended;
}

void pool_interrupt(struct pool *p)
{
	pthread_mutex_lock(&p->mu);
	if (p->reader)
		(void)pthread_kill(p->workers[p->reader - 1], SIGUSR1);
	pthread_mutex_unlock(&p->mu);
}

int pool_join(struct pool *p)
{
	/* No thread is added after the end, and none changes the array. */
	for (unsigned i = 0; i < p->worker_count; i++)
		(void)pthread_join(p->workers[i], NULL);
	(void)pthread_join(p->warden, NULL);
	fini(p);
	return p->result;
}
