/* SPDX-License-Identifier: MIT */
/* Inside a watch: one commit at a time. Thread safety: one thread per structure. */
#ifndef KVFS_WATCH_H
#define KVFS_WATCH_H

#include "fusefs/model/diff.h"
#include "fusefs/model/kvfs_history.h"
#include "fusefs/model/watch_index.h"

/* A key of MODEL_NAMES that the commit wrote. */
struct watch_entry {
	size_t key, key_len; /* in watch->text */
	struct {
		uint64_t id;	  /* 0: nothing is there */
		uint64_t content; /* of its chunks; 0: it has none */
		bool linked;	  /* its record is in MODEL_INODES */
	} at[DIFF_SIDES];
	size_t from, from_len; /* in watch->text: the path, of a file that went away from here */
	unsigned changes;      /* WATCH_*, of a file that stayed here */
	bool moved;	       /* the file that went away from here came to another name */
};

enum watch_changes {
	WATCH_WRITTEN = 1U << 0,
	WATCH_TRUNCATED = 1U << 1,
	WATCH_ATTRIBUTES = 1U << 2,
	WATCH_XATTR = 1U << 3,
};

struct kvfs_watch {
	struct kvfs *fs;
	struct kv_feed *feed;
	struct kv_buf below;
	struct watch_index index;
	/* Of the present commit: */
	struct kv_snapshot *snapshot[DIFF_SIDES];
	struct kv_txn *txn[DIFF_SIDES];
	struct kv_buf text;
	struct kv_buf entries;		       /* struct watch_entry, by key */
	struct kv_buf went;		       /* struct diff_ref: names from which files went */
	struct kv_buf inodes, written, xattrs; /* uint64_t, rising: ids of keys in MODEL_INODES,
						  MODEL_DATA (puts only), MODEL_XATTRS */
	struct kv_buf before; /* uint64_t, rising: ids of files at entries in the state before */
	struct kv_buf known;  /* the same of contents, in the state after */
	struct kv_buf path;
	bool root; /* the record of the root directory was written */
	struct kvfs_event event;
	int (*emit)(void *ctx, const struct kvfs_event *event);
	void *ctx;
};

static inline size_t watch_count(const struct kvfs_watch *w)
{
	return w->entries.len / sizeof(struct watch_entry);
}
static inline struct watch_entry *watch_at(const struct kvfs_watch *w, size_t i)
{
	return (struct watch_entry *)(void *)w->entries.data + i;
}
static inline struct kv_slice watch_key(const struct kvfs_watch *w, const struct watch_entry *e)
{
	return kv_slice_of(w->text.data + e->key, e->key_len);
}

/* watch_look.c: what stood at the entries, and stands; the index moves to the state after. */
int watch_look(struct kvfs_watch *w) KV_MUST_CHECK;
/* What became of one file. @moved: a rename changes the time of change by itself */
unsigned watch_compare(const struct kvfs_watch *w, const struct inode *old, const struct inode *new,
		       bool moved);
/* The record of what is at a name; of a link that of the file. -KV_E_NOTFOUND. */
int watch_load_name(const struct kvfs_watch *w, enum diff_side_id side, struct kv_slice key,
		    struct inode_buf *out, bool *linked) KV_MUST_CHECK;
/* The record at a key. -KV_E_NOTFOUND. */
int watch_load_record(const struct kvfs_watch *w, enum diff_side_id side,
		      const struct model_key *key, struct inode_buf *out) KV_MUST_CHECK;

/* watch_tell.c: emit the events. */
int watch_tell(struct kvfs_watch *w) KV_MUST_CHECK;

#endif
