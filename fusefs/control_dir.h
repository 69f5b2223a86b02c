/* SPDX-License-Identifier: MIT */
/*
 * The control directory, ".kvfs" in the root of a mount: what of the volume is no
 * file, as files. It is found by its name and never listed, so that a copy of the
 * tree does not walk into it.
 *
 *   .kvfs/snapshots/NAME/   mkdir takes a snapshot, rmdir drops it
 *   .kvfs/snapshots.tsv     a line a snapshot: time in ns, commit number, name, bytes held,
 *                           the directory it is of
 *   .kvfs/keep              which snapshots the daemon takes; can be written
 *   .kvfs/txn/NAME/         mkdir begins a transaction, rmdir drops it
 *   .kvfs/commit/           a transaction that is moved here is committed
 *   .kvfs/conflicts         why the last commits of open transactions failed
 *   .kvfs/feed              what is changed from now on, a line each; it grows
 *   .kvfs/at/TIME/          the tree as of a time; names are not listed
 *   .kvfs/history/PATH/     what was at PATH: versions by their times, names in directories
 *   .kvfs/stats             counters and times, a line each
 *   .kvfs/metrics           the same for Prometheus
 *   .kvfs/channel           for the kvfs command: model/channel_format.h
 *
 * A file of it is written afresh for each lookup of its name: every lookup makes a node
 * of its own, with a text that stays as long as the kernel knows the node. So a
 * reader sees one state, the size is right, and no open has to be told.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef FUSEFS_CONTROL_DIR_H
#define FUSEFS_CONTROL_DIR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "fusefs/feed.h"
#include "fusefs/tree.h"

#define CONTROL_NAME ".kvfs"

/* Low bits of a node id of the control tree; also the inode number, of those that libkvfs
 * reserves. */
enum control_kind {
	CONTROL_DIR = 2,
	CONTROL_SNAPSHOTS = 3,
	CONTROL_LIST = 4,
	CONTROL_STATS = 5,
	CONTROL_METRICS = 6,
	CONTROL_KEEP = 7,
	CONTROL_FEED = 8,
	CONTROL_AT = 9,
	CONTROL_HISTORY = 10,
	CONTROL_CHANNEL = 12,
	CONTROL_TXN = 13,
	CONTROL_COMMIT = 14,
	CONTROL_CONFLICTS = 15,
};
#define CONTROL_KIND_BITS 4U
#define CONTROL_KIND_MASK ((UINT64_C(1) << CONTROL_KIND_BITS) - 1)

#define CONTROL_PASTS 256U /* buckets */

struct channel;
struct control_past;
struct control_text;
struct kvfsd;

struct control {
	pthread_mutex_t mu;	    /* a leaf */
	struct control_text *texts; /* [mu] those that the kernel knows */
	struct channel *channels;   /* [mu] conversations that go on */
	bool receiving;		    /* [mu] one of them receives a stream */
	struct feeds feeds;
	struct control_past *pasts_by_id[CONTROL_PASTS];   /* [mu] directories of .kvfs/history */
	struct control_past *pasts_by_path[CONTROL_PASTS]; /* [mu] the same */
	uint64_t next_serial;				   /* [mu] */
	struct timespec changed; /* [mu] when a snapshot was taken or dropped here */
};

int control_init(struct control *c) KV_MUST_CHECK;
void control_fini(struct control *c);

static inline enum control_kind control_kind(uint64_t id)
{
	return (enum control_kind)(id & CONTROL_KIND_MASK);
}

/* control_text.c */

/* An entry of the topmost directory. */
struct control_entry {
	const char *name;
	enum control_kind kind;
	uint32_t mode; /* with the type */
	/* Of a file: append its text, as @uid may know it. */
	int (*print)(struct kvfsd *d, uid_t uid, struct kv_buf *out);
	/* Of a file that grows: begin it under the id of its node, with its first bytes. */
	int (*begin)(struct kvfsd *d, uint64_t id, struct kv_buf *out);
	/* Of a file that can be written, all of it by one write. */
	int (*store)(struct kvfsd *d, struct kv_slice text);
};
extern const struct control_entry control_entries[];
extern const size_t control_entry_count;
/* NULL if there is none. */
const struct control_entry *control_entry_of(const char *name);
const struct control_entry *control_entry_of_kind(enum control_kind kind);

/*
 * control_at.c: the tree that a name of .kvfs/at stands for, with one reference for the caller:
 * seconds since 1970 with a fraction, 2026-01-31T12:30:00Z, or "c" and the number of a commit.
 * Return: 0, -KV_E_NOTFOUND, -KV_E_GONE, -KV_E_INVALID, of tree_open().
 */
int control_at_open(struct kvfsd *d, const char *name, struct tree **out) KV_MUST_CHECK;

/* A node of its own of a kind; c->mu is held. */
uint64_t control_next_id_locked(struct control *c, enum control_kind kind);

/* control_history.c: directories of .kvfs/history. */
bool control_history_has(struct control *c, uint64_t id);
void control_history_unref(struct control *c, uint64_t id, uint64_t refs);
void control_history_fini(struct control *c);

/* control_stats.c */
int control_print_stats(struct kvfsd *d, uid_t uid, struct kv_buf *out) KV_MUST_CHECK;
int control_print_metrics(struct kvfsd *d, uid_t uid, struct kv_buf *out) KV_MUST_CHECK;

/* A fresh text for @uid, with one reference. @id: the kernel's of its node; @size: of the text,
 * bytes */
int control_text_make(struct kvfsd *d, const struct control_entry *entry, uid_t uid, uint64_t *id,
		      uint64_t *size) KV_MUST_CHECK;
/* Up to @len bytes from @off of the text of @id. -ESTALE: it is gone. */
int control_text_read(struct control *c, uint64_t id, uint64_t off, size_t len, struct kv_buf *out)
	KV_MUST_CHECK;
int control_text_size(struct control *c, uint64_t id, uint64_t *size) KV_MUST_CHECK;
/*
 * Of one that grows: more bytes, which can be read but are not counted before control_text_show().
 * Of what is long behind only so much stays that a reader may be 4 MiB late; then it gets ESTALE.
 */
int control_text_append(struct control *c, uint64_t id, struct kv_slice more) KV_MUST_CHECK;
void control_text_show(struct control *c, uint64_t id, uint64_t size);
/* It ends here, with an error for whoever asks. */
void control_text_fail(struct control *c, uint64_t id, int err);
void control_text_unref(struct control *c, uint64_t id, uint64_t refs);

#endif
