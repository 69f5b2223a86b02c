/* SPDX-License-Identifier: MIT */
/* What version.c, version_build.c and version_claims.c share. */
#ifndef KVCORE_ENGINE_VERSION_INTERNAL_H
#define KVCORE_ENGINE_VERSION_INTERNAL_H

#include "kvcore/engine/manifest_store.h"
#include "kvcore/engine/version.h"
#include "kvcore/os/os_thread.h"

/* ---- version.c ---- */

/* A table and the number of versions that contain it. */
struct version_table {
	struct table *table;
	_Atomic unsigned refs;
};

struct version_full {
	struct version pub; /* first: the two are converted into each other */
	size_t table_count;
	struct table **tables;		/* all levels, one after the other: pub.level points here */
	struct version_table **counted; /* the same tables */
};

struct versions_claim {
	uint64_t id;
	bool damaged;
};

struct versions {
	struct versions_options options; /* [const], but for wal, set at open */
	struct os_mutex apply_mu;	 /* one edit at a time */
	struct superblock sb;		 /* [apply_mu, mu to write] */
	struct wal_position log;	 /* [apply_mu] */
	uint64_t log_epoch;		 /* [apply_mu] */
	uint64_t log_fence;		 /* [apply_mu] */
	kv_seq last_seq;		 /* [apply_mu] */
	bool poisoned;			 /* [apply_mu] the volume may be ahead of us */
	struct extent *later;		 /* [apply_mu] free after the next edit */
	size_t later_count;

	struct os_mutex mu;	       /* a leaf */
	struct version_full *current;  /* [mu] */
	struct versions_claim *claims; /* [mu] */
	size_t claim_count, claim_cap; /* [mu] */
	bool placing;		       /* [mu] levels are being chosen: no new claims */
	bool closing;		       /* nobody else is left */
	_Atomic uint64_t next_table_id;
	_Atomic uint64_t next_segment_id;
	_Atomic uint64_t manifest_writes;
	_Atomic unsigned alive; /* versions that are not freed, with what only they hold */
};

enum version_end {
	VERSION_END_DEAD,  /* what no version contains any more is given back */
	VERSION_END_CLOSE, /* it stays on the volume */
	VERSION_END_UNDO,  /* as CLOSE, and added segments stay the caller's */
};
/* Drop what @v holds, and @v. */
void version_free(struct version_full *v, enum version_end how);

/* ---- version_claims.c ---- */

/*
 * Give each table that the edit adds the deepest level on which, and above which, nothing
 * overlaps it now or will because of a running compaction. No claim is made until
 * version_place_end(), so that it stays true until the edit is published.
 */
void version_place(struct versions *vs, struct version_edit *edit);
void version_place_end(struct versions *vs);

/* ---- version_build.c ---- */

/* Bounds of tables: does @a end before @b begins? */
bool version_table_before(const struct table_meta *a, const struct table_meta *b);
/*
 * The version that the edit makes of @base (NULL: an empty one).
 * Return: 0, -ENOMEM, -KV_E_INVALID (an id that is not there), -KV_E_CORRUPT (tables overlap).
 */
int version_build(struct versions *vs, const struct version_full *base,
		  const struct version_edit *edit, struct version_full **out) KV_MUST_CHECK;
/* What a segment's live bytes are after the edit. */
uint64_t version_live_after(const struct versions *vs, const struct version_edit *edit,
			    const struct segment *seg);
/* Encode the manifest of @v. Return: 0, -ENOMEM, -KV_E_INVALID. */
int version_encode(struct versions *vs, const struct version_full *v,
		   const struct version_edit *edit, uint64_t generation, struct kv_buf *out)
	KV_MUST_CHECK;

#endif
