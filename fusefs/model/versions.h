/* SPDX-License-Identifier: MIT */
/* Inside a search for the past of a path. Thread safety: one thread per structure. */
#ifndef KVFS_VERSIONS_H
#define KVFS_VERSIONS_H

#include "fusefs/model/inode.h"
#include "fusefs/model/kvfs_versions.h"

/* A named snapshot of which the path is a part. */
struct versions_snapshot {
	kv_seq seq;
	size_t skip; /* bytes of the path that lead to what it is of */
	char name[KV_SNAPSHOT_NAME_MAX + 1];
};

/* A state to look at; of contents, which began to be as they are in it. */
struct versions_mark {
	kv_seq state;
	uint64_t content; /* 0: of another key */
};

enum versions_kind { VERSIONS_ABSENT, VERSIONS_FILE, VERSIONS_DIR };

/* What was at the path from a state on, until the next one. */
struct versions_seen {
	kv_seq state;
	enum versions_kind kind;
	uint64_t content;	   /* of a file with chunks, else 0 */
	size_t gate, gate_len;	   /* in versions->gates: the directories on the way */
	size_t prefix, prefix_len; /* of a directory, in versions->text */
	struct kvfs_attr attr;	   /* of a file */
	size_t first, last;	   /* of a version: its states in versions->seen */
	size_t name;		   /* of a version, in versions->text */
};

struct kvfs_versions {
	struct kvfs *fs;
	struct kv_buf path; /* byte 0 for '/' */
	bool history;	    /* states from @from to @newest can be read */
	kv_seq from, newest;
	struct kv_buf snapshots; /* struct versions_snapshot, by seq */
	struct kv_buf marks;	 /* struct versions_mark, by state and content when sorted */
	struct kv_buf keys;	 /* those whose versions were marked, each behind its length */
	struct kv_buf seen;	 /* struct versions_seen, by state at the end */
	struct kv_buf files;	 /* struct versions_seen: those that are versions, by name */
	struct kv_buf gates;	 /* struct acl_rights of a directory, and its list, each */
	struct kv_buf text;
};

static inline size_t versions_count(const struct kv_buf *seen)
{
	return seen->len / sizeof(struct versions_seen);
}
static inline struct versions_seen *versions_at(const struct kv_buf *seen, size_t i)
{
	return (struct versions_seen *)(void *)seen->data + i;
}

/* The first state at or after @seq that can be read; KV_SEQ_MAX: none. */
kv_seq versions_kept(const struct kvfs_versions *v, kv_seq seq);
/* The snapshot of a state; NULL: it is one of history's. */
const struct versions_snapshot *versions_snapshot(const struct kvfs_versions *v, kv_seq state);

/* versions_look.c: read what is at the path in a state, and mark all others in which that, or what
 * led to it, may be different. -KV_E_GONE: the state went meanwhile. */
int versions_look(struct kvfs_versions *v, kv_seq state) KV_MUST_CHECK;

#endif
