/* SPDX-License-Identifier: MIT */
/*
 * An open file whose changes are one transaction (kvfs.h, kvfs_stage_open()): what
 * stage.c, which gathers them, and stage_commit.c, which applies them, share.
 *
 * What is written goes to a file without a name, the shadow, at the same offsets;
 * memory holds only which ranges these are. A crash leaves the shadow for the next
 * opening of the volume to sweep away.
 */
#ifndef KVFS_STAGE_H
#define KVFS_STAGE_H

#include "fusefs/model/kvfs_stage.h"
#include "fusefs/model/node.h"

#define STAGE_WHOLE UINT64_MAX /* nothing was cut off */

/* Bytes of the shadow that count, or zeros where it has none. */
struct stage_range {
	uint64_t off, end;
};

struct kvfs_stage {
	struct kvfs *fs;		/* [const] */
	struct kvfs_node *node;		/* [const] referenced */
	struct kvfs_stage *next, *prev; /* [fs->stage_mu] */
	uint32_t refs;			/* [fs->stage_mu] */
	struct os_mutex mu;		/* held across transactions */
	struct kvfs_node *shadow;	/* [mu] NULL: nothing was written */
	struct stage_range *ranges;	/* [mu] in order, with gaps between them */
	size_t count, cap;		/* [mu] */
	uint64_t cut;	    /* [mu] what the file has from here on is gone; or STAGE_WHOLE */
	uint64_t size;	    /* [mu] of the file, if cut; else the least it will have */
	uint64_t mtime;	    /* [mu] of the last change, as encoded */
	uint32_t times_set; /* [mu] of the node, at the last change */
	int failed;	    /* [mu] of a change: there will be no commit */
	bool changed;	    /* [mu] */
	bool appends;	    /* [mu] the one range was appended, wherever the end will be */
};

/* The size that the file has for who writes it; s->mu is held. */
int stage_view_size(struct kvfs_stage *s, uint64_t *out) KV_MUST_CHECK;
/* As kvfs_stage_commit(); @settle: one that has failed is none of the caller's affair. */
int stage_commit(struct kvfs_stage *s, bool settle) KV_MUST_CHECK;
/* Nothing is changed any more; s->mu is held. */
void stage_reset(struct kvfs_stage *s);

/*
 * A name is about to be changed: what is staged for the file there is committed, or, with
 * @unborn, only if the file has no name yet. @below: the same for the files in the directory of
 * this name. fs->ns is not held.
 */
int stage_settle(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name, bool unborn)
	KV_MUST_CHECK;
int stage_settle_below(struct kvfs *fs, struct kvfs_node *dir, struct kv_slice name) KV_MUST_CHECK;
int stage_settle_node(struct kvfs *fs, struct kvfs_node *node) KV_MUST_CHECK;
/* Everything, at the end. */
int stage_settle_all(struct kvfs *fs) KV_MUST_CHECK;
/* The file that will have this name, with a reference; NULL. fs->ns is held. */
struct kvfs_node *stage_find_unborn(struct kvfs *fs, const struct kvfs_node *dir,
				    struct kv_slice name);

static inline bool stage_any(struct kvfs *fs)
{
	return atomic_load(&fs->stage_count) != 0;
}

#endif
