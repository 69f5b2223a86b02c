/* SPDX-License-Identifier: MIT */
/*
 * What is different between two states of the tree, found from the keys that differ
 * (kv_diff_open()) and not by walking it. An entry is a key of MODEL_NAMES whose record, or
 * whose file, is not the same in both; it has a place in each state, where its path is
 * what the directories of that state make of it. Memory grows with the number of
 * entries. Thread safety: one thread per structure.
 */
#ifndef KVFS_DIFF_H
#define KVFS_DIFF_H

#include "fusefs/model/inode.h"

enum diff_side_id { DIFF_OLD, DIFF_NEW, DIFF_SIDES };

/* Where a file is in one state. Paths have byte 0 for '/'. */
struct diff_place {
	uint64_t id;	  /* 0: nothing is there */
	uint64_t content; /* of its chunks; 0: it has none */
	size_t path;	  /* in diff->text */
	size_t path_len;
	uint32_t mode;
	bool linked; /* the record is in MODEL_INODES */
};

struct diff_entry {
	size_t key; /* of MODEL_NAMES, in diff->text */
	size_t key_len;
	bool elsewhere; /* for kvfs send: the key is the same, but its directory is another */
	struct diff_place at[DIFF_SIDES];
};

/* A directory that is not where its prefix says, or a name of a file with several. */
struct diff_named {
	uint64_t id;
	size_t prefix, prefix_len; /* of a directory */
	size_t key, key_len;
};

struct diff_side {
	struct kv_txn *txn;
	bool displaced; /* there are displaced directories */
	bool scanned;
	struct kv_buf moved;	/* struct diff_named of displaced directories, by prefix */
	struct kv_buf prefix;	/* the last one resolved, */
	struct kv_buf resolved; /* and its path */
};

struct diff_chunk {
	uint64_t id; /* of the contents */
	uint64_t chunk;
};

struct diff {
	struct kvfs *fs;
	struct diff_side side[DIFF_SIDES];
	struct kv_buf text;	/* bytes of keys and paths */
	struct kv_buf entries;	/* struct diff_entry, by key */
	struct kv_buf inodes;	/* uint64_t, rising: ids whose record in MODEL_INODES differs */
	struct kv_buf xattrs;	/* the same of MODEL_XATTRS */
	struct kv_buf chunks;	/* struct diff_chunk, rising */
	struct kv_buf contents; /* uint64_t, rising: contents of entries */
	struct kv_buf index[DIFF_SIDES]; /* struct diff_ref: entries there, by id, then by place */
	struct kv_buf names;		 /* struct diff_named: see diff_find_names() */
	bool root;			 /* the record of the root directory differs */
	bool writes;			 /* the new state is a transaction's, of its own writes */
};

/*
 * @old, @new: read-only transactions of @fs; must outlive the structure
 * Return: 0, errors of reading; diff_fini() in any case.
 */
int diff_init(struct diff *d, struct kvfs *fs, struct kv_txn *old, struct kv_txn *new)
	KV_MUST_CHECK;
/*
 * The same between a state and a transaction that began with it, from what that has written. Which
 * chunks differ is not known: deletes of ranges are not told.
 * @old: read-only; @txn: of KV_TXN_REBASE, used by nobody else meanwhile
 */
int diff_init_writes(struct diff *d, struct kvfs *fs, struct kv_txn *old, struct kv_txn *txn)
	KV_MUST_CHECK;
void diff_fini(struct diff *d);

static inline size_t diff_count(const struct diff *d)
{
	return d->entries.len / sizeof(struct diff_entry);
}
static inline struct diff_entry *diff_at(const struct diff *d, size_t i)
{
	return (struct diff_entry *)(void *)d->entries.data + i;
}
static inline struct kv_slice diff_path(const struct diff *d, const struct diff_place *p)
{
	return kv_slice_of(d->text.data + p->path, p->path_len);
}
static inline bool diff_same_file(const struct diff_entry *e)
{
	return e->at[DIFF_OLD].id && e->at[DIFF_OLD].id == e->at[DIFF_NEW].id;
}

/*
 * An entry has a file on @side and another or none on the other: the entry where that file is on
 * the other side and was not, or NULL. Of a file with several such names the first goes with the
 * first, and so on.
 */
struct diff_entry *diff_partner(const struct diff *d, enum diff_side_id side,
				const struct diff_entry *e);
/* The first entry at which file @id is on @side; NULL if there is none. */
struct diff_entry *diff_find(const struct diff *d, enum diff_side_id side, uint64_t id);

/* The record of what is at a place; the root directory's for NULL. */
int diff_load(const struct diff *d, enum diff_side_id side, const struct diff_entry *e,
	      struct inode_buf *out) KV_MUST_CHECK;
/* Chunks of contents @id that differ: the first in diff->chunks, and how many; NULL: any may. */
const struct diff_chunk *diff_chunks(const struct diff *d, uint64_t id, size_t *count);
/* Whether the contents of one file are the same keys in both states, which tell what differs. */
static inline bool diff_same_keys(const struct inode *old, const struct inode *new)
{
	return inode_content(old) == inode_content(new);
}
/* Are the attributes beside the record different? */
bool diff_xattrs_differ(const struct diff *d, uint64_t id);
/*
 * Whether the contents of two regular files or symlinks are the same. @changed: only these
 * chunks can differ; NULL: any.
 */
int diff_same_contents(const struct diff *d, const struct inode *old, const struct inode *new,
		       const struct diff_chunk *changed, size_t count, bool *same) KV_MUST_CHECK;

/* diff_path.c */
/* Append the path of a key of MODEL_NAMES to diff->text. */
int diff_add_path(struct diff *d, enum diff_side_id side, struct kv_slice key, size_t *at,
		  size_t *len) KV_MUST_CHECK;
/* Fill diff->names with the names that files of @ids (uint64_t, rising; of files or contents; more
 * may be added) have in the new state. */
int diff_find_names(struct diff *d, struct kv_buf *ids) KV_MUST_CHECK;

/* diff_ids.c: lists of numbers (uint64_t), and of entries by a number. */
void diff_sort_ids(struct kv_buf *ids);
bool diff_has_id(const struct kv_buf *ids, uint64_t id); /* of a sorted list */
struct diff_ref {
	uint64_t id;
	size_t entry;
};
void diff_sort_refs(struct kv_buf *refs); /* by id, then by entry */
/* Where those of @id begin, or would. */
size_t diff_search_refs(const struct kv_buf *refs, uint64_t id);
static inline size_t diff_ref_count(const struct kv_buf *refs)
{
	return refs->len / sizeof(struct diff_ref);
}
static inline const struct diff_ref *diff_ref_at(const struct kv_buf *refs, size_t i)
{
	return (const struct diff_ref *)(const void *)refs->data + i;
}

#endif
