/* SPDX-License-Identifier: MIT */
/*
 * State of kvfs_check(), shared by check.c (the order of passes), check_names.c
 * (directories and names), check_files.c (ids and attributes), check_contents.c and
 * check_repair.c (what will be written). Thread safety: one thread.
 */
#ifndef KVFS_CHECK_STATE_H
#define KVFS_CHECK_STATE_H

#include "fusefs/model/place.h"
#include "kvcore/base/arena.h"
#include "kvcore/base/btree.h"

#define CHECK_NONE SIZE_MAX

enum check_reach { CHECK_UNSEEN, CHECK_ON_PATH, CHECK_REACHED };

/* A directory. Index 0 is the root. */
struct check_dir {
	uint64_t id;
	struct kv_slice prefix; /* in the arena */
	struct kv_slice key;	/* of its record in MODEL_NAMES; empty for the root */
	size_t parent;		/* index, CHECK_NONE before it is looked up */
	uint32_t nlink;		/* as recorded */
	uint32_t found;		/* subdirectories there are */
	uint32_t added;		/* more, put there by the repair */
	uint8_t reach;		/* enum check_reach */
	bool displaced;		/* its prefix is stored in the record */
	bool noted;		/* and in MODEL_PREFIXES */
	bool made;		/* by the repair, for keys without a directory */
};

enum check_where { CHECK_NAMED, CHECK_LINKED, CHECK_ORPHANED };

/* What is kept of each file that may have contents or attributes of its own. */
struct check_file {
	uint64_t id, size, chunks;
	uint64_t content; /* what the chunks' keys begin with */
	uint32_t nlink, names;
	uint8_t where;	 /* enum check_where */
	uint8_t flags;	 /* MODEL_FLAG_* */
	uint8_t sharing; /* MODEL_CONTENT_* */
	bool dir;
	bool twice;	 /* another one has the same id */
	bool kept;	 /* the record that keeps the id was found */
	bool fix_chunks; /* chunks and sharing hold what there is */
};

struct check {
	const struct kvfs_check_options *options;
	struct kvfs_check_result *result;
	struct kvfs fs; /* only what reading records needs */
	struct kv_txn *txn;
	struct arena arena;
	uint64_t next_id, max_id;
	uint64_t entries; /* looked at, for progress */

	struct check_dir *dirs;
	size_t dir_count, dir_cap;
	struct btree by_prefix; /* prefix -> index in dirs + 1 */
	size_t lost;		/* index of /lost+found, CHECK_NONE if it is not needed */

	struct check_file *files; /* by id after check_files_sort() */
	size_t file_count, file_cap;
	size_t inode_count; /* the first so many are those of MODEL_INODES, by id */

	struct btree fixes;   /* keyspace (be16), key -> struct check_fix */
	struct kv_buf ranges; /* struct check_range */
	struct kv_buf text;
};

struct check_range {
	unsigned keyspace;
	uint64_t id;
};

/* check.c */
/* Report a finding; @repairable: it is mended if that is wanted. */
int check_report(struct check *c, enum kvfs_problem_id id, bool repairable, const char *fmt, ...)
	KV_PRINTF(4, 5) KV_MUST_CHECK;
/* A key as a path for messages, valid until the next call; "?" without memory. */
const char *check_path(struct check *c, struct kv_slice key);
/* One more entry was looked at. -KV_E_INTERRUPTED. */
int check_step(struct check *c) KV_MUST_CHECK;
/* Call @visit for each entry of a keyspace. */
int check_scan(struct check *c, unsigned keyspace,
	       int (*visit)(struct check *c, struct kv_slice key, struct kv_slice value))
	KV_MUST_CHECK;

/* check_names.c */
int check_names(struct check *c) KV_MUST_CHECK;
int check_dirs(struct check *c) KV_MUST_CHECK;
int check_dir_counts(struct check *c) KV_MUST_CHECK;
int check_dir_add(struct check *c, const struct check_dir *dir, size_t *index) KV_MUST_CHECK;

/* check_files.c */
int check_file_add(struct check *c, const struct inode *r, enum check_where where) KV_MUST_CHECK;
/* A name links to @id: NULL if there is no such file. */
struct check_file *check_file_linked(struct check *c, uint64_t id);
int check_inodes(struct check *c) KV_MUST_CHECK;
int check_orphans(struct check *c) KV_MUST_CHECK;
int check_ids(struct check *c) KV_MUST_CHECK;
int check_xattrs(struct check *c) KV_MUST_CHECK;
/* Problems of files whose keys are found by another scan. */
int check_file_fixes(struct check *c) KV_MUST_CHECK;

/* check_contents.c */
int check_contents(struct check *c) KV_MUST_CHECK;

/* check_repair.c: changes are kept in any case, so that later passes see the same, and written if
 * repair is wanted. */
int check_fix_put(struct check *c, const struct model_key *key, const struct inode *r)
	KV_MUST_CHECK;
int check_fix_value(struct check *c, unsigned keyspace, struct kv_slice key, struct kv_slice value)
	KV_MUST_CHECK;
int check_fix_put_id(struct check *c, struct kv_slice prefix, uint64_t id) KV_MUST_CHECK;
int check_fix_delete(struct check *c, unsigned keyspace, struct kv_slice key) KV_MUST_CHECK;
int check_fix_delete_id(struct check *c, unsigned keyspace, uint64_t id) KV_MUST_CHECK;
bool check_fix_deleted(struct check *c, unsigned keyspace, struct kv_slice key);
/* The record as it will be. */
int check_fix_record(struct check *c, const struct model_key *key, struct inode_buf *out)
	KV_MUST_CHECK;
uint64_t check_new_id(struct check *c);
/* A name in /lost+found for @r, whose key is deleted by the caller. @at (may be NULL): its key. */
int check_reconnect(struct check *c, const struct inode *r, struct model_key *at) KV_MUST_CHECK;
int check_apply(struct check *c, struct kv_db *db) KV_MUST_CHECK;
void check_fix_free(struct check *c);

#endif
