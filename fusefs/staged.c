/* SPDX-License-Identifier: MIT */
/*
 * The table of open files, and who holds them, which a steward finds out (procs.c): the
 * daemon may not look into processes. One that cannot be looked at is taken to hold the
 * file, so that the transaction ends with the last close at the latest.
 */
#include "fusefs/staged.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fusefs/op.h"
#include "fusefs/procs.h"
#include "kvcore/base/hash.h"

struct staged {
	struct kvfs_stage *stage; /* [const] */
	fuse_ino_t ino;		  /* [const] */
	uint64_t number;	  /* [const] from 1 */
	struct staged *next;	  /* [mu] */
	pid_t *users;		  /* [mu] processes, the opener first */
	size_t user_count;	  /* [mu] */
	pid_t last;		  /* [mu] thread that used it last */
	bool fresh;		  /* [mu] nobody has since it was opened */
};

int staged_init(struct staged_files *all)
{
	*all = (struct staged_files){0};
	return -pthread_mutex_init(&all->mu, NULL);
}

void staged_fini(struct staged_files *all)
{
	for (unsigned i = 0; i < STAGED_BUCKETS; i++)
		while (all->buckets[i]) { /* of files that were open when the serving stopped */
			struct staged *h = all->buckets[i];

			all->buckets[i] = h->next;
			free(h->users);
			free(h);
		}
	(void)pthread_mutex_destroy(&all->mu);
}

static struct staged **bucket_of(struct staged_files *all, fuse_ino_t ino)
{
	return &all->buckets[hash_u64(ino) % STAGED_BUCKETS];
}

/* Where the open file hangs, or the end of the chain. */
static struct staged **find_locked(struct staged_files *all, fuse_ino_t ino, uint64_t number)
{
	struct staged **at = bucket_of(all, ino);

	while (*at && ((*at)->number != number || (*at)->ino != ino))
		at = &(*at)->next;
	return at;
}

static bool holds(const struct kvfsd *d, pid_t pid, fuse_ino_t ino)
{
	return steward_process_holds(d->looker, pid, atomic_load(&d->device), ino);
}

/* ---- open files ---- */

bool staged_wanted(struct kvfsd *d, struct kvfs_node *node)
{
	bool wanted = d->opt->txn == OPTIONS_TXN_CLOSE;

	if (d->opt->txn == OPTIONS_TXN_DIRECTORY && kvfs_stage_wanted(d->fs, node, &wanted))
		return false; /* the open that follows meets the same error */
	return wanted;
}

int staged_open(struct kvfsd *d, fuse_ino_t ino, pid_t pid, struct kvfs_stage *stage,
		struct fuse_file_info *fi)
{
	struct staged *h = calloc(1, sizeof(*h));
	struct staged **bucket = bucket_of(&d->staged, ino);

	if (h)
		h->users = malloc(sizeof(*h->users));
	if (!h || !h->users) {
		free(h);
		return -ENOMEM;
	}
	h->stage = stage;
	h->ino = ino;
	h->users[0] = procs_of(pid);
	h->user_count = 1;
	h->last = pid;
	h->fresh = true;
	pthread_mutex_lock(&d->staged.mu);
	h->number = ++d->staged.last;
	h->next = *bucket;
	*bucket = h;
	pthread_mutex_unlock(&d->staged.mu);
	fi->fh = h->number;
	return 0;
}

/* Remembers the process; without memory it is not asked later, and the last close decides. */
static void add_user_locked(struct staged *h, pid_t process)
{
	pid_t *more;

	for (size_t i = 0; i < h->user_count; i++)
		if (h->users[i] == process)
			return;
	more = realloc(h->users, (h->user_count + 1) * sizeof(*more));
	if (!more)
		return;
	h->users = more;
	h->users[h->user_count++] = process;
}

/* @pid: of who uses it; 0: nobody does */
static struct kvfs_stage *find_stage(struct kvfsd *d, fuse_ino_t ino,
				     const struct fuse_file_info *fi, pid_t pid)
{
	struct kvfs_stage *stage = NULL;
	struct staged *h;
	pid_t process = 0;

	if (!fi || !fi->fh || d->opt->txn == OPTIONS_TXN_WRITE)
		return NULL;
	pthread_mutex_lock(&d->staged.mu);
	h = *find_locked(&d->staged, ino, fi->fh);
	if (h && pid && h->last != pid) {
		/* Seldom another one: the lock may be held meanwhile. */
		process = procs_of(pid);
		add_user_locked(h, process);
	}
	if (h && pid) {
		h->last = pid;
		h->fresh = false;
	}
	if (h) {
		stage = h->stage;
		kvfs_stage_ref(stage);
	}
	pthread_mutex_unlock(&d->staged.mu);
	return stage;
}

struct kvfs_stage *staged_use(struct kvfsd *d, fuse_ino_t ino, const struct fuse_file_info *fi,
			      pid_t pid)
{
	return find_stage(d, ino, fi, pid);
}

struct kvfs_stage *staged_fresh(struct kvfsd *d, fuse_ino_t ino, pid_t pid)
{
	struct kvfs_stage *found = NULL;

	pthread_mutex_lock(&d->staged.mu);
	for (struct staged *h = *bucket_of(&d->staged, ino); h && !found; h = h->next)
		if (h->ino == ino && h->fresh && h->last == pid) {
			h->fresh = false;
			found = h->stage;
			kvfs_stage_ref(found);
		}
	pthread_mutex_unlock(&d->staged.mu);
	return found;
}

int staged_commit(struct kvfsd *d, fuse_ino_t ino, struct kvfs_stage *stage)
{
	struct kvfs_node *node = kvfs_node_by_ino(d->fs, ino);
	struct kvfs_attr attr = {0};
	int err;

	if (node && kvfs_getattr(d->fs, node, &attr))
		attr.unborn = false;
	err = kvfs_stage_commit(stage, false);
	/* A name appears that the kernel has not asked for: it forgets what it has listed. Of a
	 * directory no page is locked while a request is under way, so this may be done here. */
	if (!err && node && attr.unborn)
		(void)fuse_lowlevel_notify_inval_inode(d->fuse, kvfs_node_parent_ino(d->fs, node),
						       0, 0);
	return err;
}

/* A copy of the users, freed by the caller; NULL: none, or no memory. */
static pid_t *users_of(struct kvfsd *d, fuse_ino_t ino, uint64_t number, size_t *count)
{
	pid_t *users = NULL;
	struct staged *h;

	pthread_mutex_lock(&d->staged.mu);
	h = *find_locked(&d->staged, ino, number);
	*count = h ? h->user_count : 0;
	if (h)
		users = malloc(h->user_count * sizeof(*users));
	if (users)
		memcpy(users, h->users, h->user_count * sizeof(*users));
	pthread_mutex_unlock(&d->staged.mu);
	return users;
}

int staged_flush(struct kvfsd *d, fuse_ino_t ino, const struct fuse_file_info *fi, pid_t pid)
{
	struct kvfs_stage *stage = find_stage(d, ino, fi, 0);
	pid_t *users;
	size_t count;
	bool held = false;
	int err = 0;

	if (!stage)
		return 0;
	/* Who only inherited a descriptor does not become a user by closing it. */
	users = users_of(d, ino, fi->fh, &count);
	held = holds(d, procs_of(pid), ino);
	for (size_t i = 0; users && i < count && !held; i++)
		held = !users[i] || holds(d, users[i], ino);
	if (users && !held) /* else the last close decides */
		err = staged_commit(d, ino, stage);
	free(users);
	kvfs_stage_unref(stage);
	return err;
}

void staged_release(struct kvfsd *d, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct staged **at, *h;
	int err;

	pthread_mutex_lock(&d->staged.mu);
	at = find_locked(&d->staged, ino, fi->fh);
	h = *at;
	if (h)
		*at = h->next;
	pthread_mutex_unlock(&d->staged.mu);
	if (!h)
		return;
	err = staged_commit(d, ino, h->stage);
	if (err)
		log_error(d->log, "file id %" PRIu64 ": changes are lost: %s", (uint64_t)ino,
			  kv_strerror(err));
	kvfs_stage_close(h->stage);
	free(h->users);
	free(h);
}

/* The stage through which the process sees the file, with a reference; NULL. */
static struct kvfs_stage *stage_of_process(struct kvfsd *d, fuse_ino_t ino, pid_t process)
{
	struct kvfs_stage *found = NULL;

	pthread_mutex_lock(&d->staged.mu);
	for (struct staged *h = *bucket_of(&d->staged, ino); h && !found; h = h->next)
		for (size_t i = 0; h->ino == ino && i < h->user_count && !found; i++)
			if (h->users[i] == process)
				found = h->stage;
	if (found)
		kvfs_stage_ref(found);
	pthread_mutex_unlock(&d->staged.mu);
	return found;
}

int staged_attr(struct kvfsd *d, struct kvfs *fs, fuse_ino_t ino, struct kvfs_node *node, pid_t pid,
		struct kvfs_attr *out)
{
	struct kvfs_stage *stage;
	struct kvfs_attr attr;
	int err = kvfs_getattr(fs, node, &attr);

	if (!err && attr.staged && S_ISREG(attr.mode)) {
		stage = stage_of_process(d, ino, procs_of(pid));
		if (stage) {
			err = kvfs_stage_attr(stage, &attr);
			kvfs_stage_unref(stage);
		} else if (attr.unborn) {
			err = -ENOENT;
		}
	}
	if (!err)
		*out = attr;
	return err;
}
