/* SPDX-License-Identifier: MIT */
/*
 * Views of the volume that a mount serves beside the live tree: each snapshot that
 * somebody looks at is one, and each transaction (txn.h). A node id of the kernel names the tree
 * and the file id in it, so whoever holds an id finds its tree without a table of nodes:
 *
 *   bit 63 clear         the live tree; the whole id is the file id
 *   63 set, slot = 0     the control directory's own nodes (control_dir.h)
 *   63 set, slot = 1...  bits 43 to 62 are the tree's slot, the rest is the file id
 *
 * A tree lives as long as the kernel knows one of its nodes, also when its
 * snapshot has been dropped; then its slot, and with it its ids, may be used again.
 *
 * Thread safety: all functions from any thread.
 */
#ifndef FUSEFS_TREE_H
#define FUSEFS_TREE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fusefs/model/kvfs_history.h"

#define TREE_BIT       (UINT64_C(1) << 63)
#define TREE_INO_BITS  43U
#define TREE_INO_MASK  ((UINT64_C(1) << TREE_INO_BITS) - 1)
#define TREE_SLOT_MASK (TREE_BIT - 1 - TREE_INO_MASK)
#define TREE_SLOTS_MAX (UINT32_C(1) << 20)
#define TREE_BUCKETS   256U

struct tree {
	struct kvfs *fs;	/* [const] */
	uint64_t id;		/* [const] of its root directory, without the file id */
	char *name;		/* [const] of the snapshot, or what tree_add() was given */
	struct tree *next;	/* [mu] in the bucket of its name */
	bool named;		/* [mu] it is in a bucket: the name still means this tree */
	uint64_t refs;		/* [mu] */
	bool draft;		/* [const] of a transaction: it can be written */
	_Atomic int64_t used_s; /* [atomic] of a transaction: the last request, since 1970 */
};

struct trees {
	pthread_rwlock_t mu;		    /* a leaf */
	struct tree **slots;		    /* [mu] slot - 1 */
	uint32_t slot_count;		    /* [mu] */
	uint32_t used;			    /* [mu] */
	struct tree *buckets[TREE_BUCKETS]; /* [mu] by name */
};

int tree_init(struct trees *all) KV_MUST_CHECK;
/* Closes every tree, at the end of the session, before the volume is closed. */
void tree_close_all(struct trees *all);
void tree_fini(struct trees *all);

static inline bool tree_is_live(uint64_t id)
{
	return !(id & TREE_BIT);
}

static inline bool tree_is_control(uint64_t id)
{
	return (id & TREE_BIT) && !(id & TREE_SLOT_MASK);
}

/* The file id in an id of the kernel. */
static inline uint64_t tree_ino(uint64_t id)
{
	return tree_is_live(id) ? id : id & TREE_INO_MASK;
}

/* The kernel's id of file @ino in the tree that @like is of. */
static inline uint64_t tree_id(uint64_t like, uint64_t ino)
{
	return tree_is_live(like) ? ino : (like & ~TREE_INO_MASK) | ino;
}

static inline bool tree_is_same(uint64_t a, uint64_t b)
{
	return tree_is_live(a) ? tree_is_live(b) : (a & ~TREE_INO_MASK) == (b & ~TREE_INO_MASK);
}

/* The tree of an id that is not of the live tree; NULL if there is none any more. */
struct kvfs *tree_fs(struct trees *all, uint64_t id);

/* The name of the tree right after a commit is this and its number. */
#define TREE_AT "at/"
/*
 * The tree of snapshot @name of @live, or of TREE_AT, with one reference for the caller.
 * Return: 0, -KV_E_NOTFOUND, -ENFILE (too many at once), errors of kvfs_open_snapshot()
 * and kvfs_open_at().
 */
int tree_open(struct trees *all, struct kvfs *live, const char *name, struct tree **out)
	KV_MUST_CHECK;
/*
 * A transaction's tree under a name that no snapshot can have, with one reference for the caller.
 * It takes @fs if it succeeds. Return: 0, -EEXIST, -ENFILE, -ENOMEM.
 */
int tree_add(struct trees *all, struct kvfs *fs, const char *name, struct tree **out) KV_MUST_CHECK;
/* The tree of a name, with one reference for the caller; NULL if there is none. */
struct tree *tree_find(struct trees *all, const char *name);
/* References by ids that the kernel is given or gives back; nothing is done for the live tree. */
void tree_ref(struct trees *all, uint64_t id);
void tree_unref(struct trees *all, uint64_t id, uint64_t refs);
/* The snapshot was dropped: its name means nothing, or another, from now on. */
void tree_drop_name(struct trees *all, const char *name);

#endif
