/* SPDX-License-Identifier: MIT */
/*
 * Versions: immutable sets of tables and segments. A flush or compaction builds
 * an edit; versions_apply() makes it durable (manifest, sync, superblock, sync)
 * and installs the new version. Readers hold a reference to the version they
 * use; the space of a table or segment that no version contains any more is given back
 * when its last version goes, and never before the manifest without it is durable.
 *
 * Thread safety: versions_apply() is serialised by its own mutex (rank
 * OS_RANK_DB_MAINTENANCE, held across I/O, never needed by readers or by
 * commits). version_ref/unref from any thread.
 */
#ifndef KVCORE_ENGINE_VERSION_H
#define KVCORE_ENGINE_VERSION_H

#include <stdatomic.h>

#include "kvcore/format/superblock.h"
#include "kvcore/table/table.h"
#include "kvcore/wal/wal.h"

struct segment; /* values.h */

struct version_level {
	struct table **tables; /* level 0: newest first; others: by smallest key, disjoint */
	size_t count;
	uint64_t bytes; /* stored */
};

struct version {
	_Atomic unsigned refs;
	struct versions *set;
	struct version_level level[KV_LEVELS]; /* [const] */
	struct segment **segments;	       /* [const] by id */
	size_t segment_count;
	/* The tables' bookkeeping is private to version.c. */
};

/*
 * Does any table of levels >= @from_level hold an entry or a range delete in the keys from
 * @first to @last? @last_exclusive: up to but without @last.
 */
bool version_overlaps(const struct version *v, unsigned from_level, struct kv_slice first,
		      struct kv_slice last, bool last_exclusive);
/* The segment, NULL if the version has none of this id; valid as long as the version. */
struct segment *version_segment(const struct version *v, uint64_t id);

struct versions;

struct versions_options {
	struct os_volume *volume;
	struct space *space;
	struct checksum *checksum; /* the volume's algorithm: manifest */
	struct checksum *sha256;   /* superblock */
	const struct table_env *tables;
	const struct kv_log_sink *log;
	struct wal *wal; /* poisoned if a manifest cannot be written; tail moved after one was;
			  * NULL until versions_set_wal() */
	/* Called with the new current version (already referenced for the callee to
	 * keep) while no reader can see it yet; the callee swaps its pointer. */
	void (*install)(void *ctx, struct version *v, void *edit_cookie);
	/* Takes what the next install, which cannot fail, will need, before the edit is written.
	 * NULL: nothing. Return: 0, -ENOMEM, which fails the edit. */
	int (*ready)(void *ctx);
	void *install_ctx;
};

/*
 * Claims all space the manifest and superblock refer to and opens the tables.
 * @sb: copied; @manifest: copied as needed.
 * Return: 0, -KV_E_CORRUPT (overlaps, out of bounds), -ENOMEM.
 */
int versions_open(const struct versions_options *options, const struct superblock *sb,
		  const struct manifest *manifest, struct versions **out) KV_MUST_CHECK;
void versions_set_wal(struct versions *vs, struct wal *wal);
/* No version is referenced but the current one. */
void versions_close(struct versions *vs);

/* The current version with a reference for the caller. */
struct version *versions_current(struct versions *vs);
struct version *version_ref(struct version *v);
/* May give space back and so discard it on the host: not under a lock that must not wait for I/O.
 */
void version_unref(struct version *v);

uint64_t versions_new_table_id(struct versions *vs);
/* No table has it or a greater one yet. */
uint64_t versions_next_table_id(struct versions *vs);
uint64_t versions_new_segment_id(struct versions *vs);

/* Change of a segment's figures. */
struct segment_delta {
	uint64_t id;
	int64_t live_bytes;
};

/*
 * The table metas' contents are taken over on success, and stay the caller's otherwise. A table
 * keeps the level it was built for in table_get_meta() when it is moved; version->level is right.
 */
struct version_edit {
	struct table_meta *add; /* level 0: in front, in this order */
	size_t add_count;
	const uint64_t *remove; /* table ids */
	size_t remove_count;
	/* Moves: the same table at another level, no byte rewritten. */
	const uint64_t *move;
	const uint32_t *move_level;
	size_t move_count;
	struct segment **add_segments; /* taken over on success */
	size_t add_segment_count;
	const uint64_t *remove_segments; /* ids, dead; one that is gone already is no error */
	size_t remove_segment_count;
	const struct segment_delta *deltas;
	size_t delta_count;
	bool set_log; /* the log is needed only from here on */
	struct wal_position log;
	kv_seq last_seq;    /* highest in any table; 0: as before */
	uint64_t log_epoch; /* 0: as before, with the fence */
	uint64_t log_fence;
	bool clean; /* closed in order */
	/* What is added is newer than all there is: put each table as deep as it may lie. */
	bool place;
	void *cookie; /* given to install */
};

/*
 * Make an edit durable and current.
 * Return: 0; -KV_E_NOSPACE, -ENOMEM: nothing happened; -KV_E_POISONED: a write or
 * sync failed, the state on disk is the old or the new one, and the log is poisoned.
 */
int versions_apply(struct versions *vs, struct version_edit *edit) KV_MUST_CHECK;

/* Does every edit fail from now on? Who asks before taking space does not lose it to each try. */
bool versions_poisoned(struct versions *vs);
/*
 * What the caller allocated for an edit that failed may be given back, unless the failure was
 * -KV_E_POISONED: then the volume may hold the new state already, and the space stays taken
 * until the volume is opened again.
 */
void versions_discard_table(struct versions *vs, struct table_meta *meta, int err);

/*
 * Cut the end off a sealed segment: not in use any more, free for others once the next edit
 * is durable. Only while nobody else uses the segment. Return: 0, -ENOMEM (not cut).
 */
int versions_cut_segment(struct versions *vs, struct segment *seg, uint64_t len) KV_MUST_CHECK;

/*
 * Inputs of running compactions. A claim is for ids of tables that are part of @v, which must
 * be current, and excludes every other claim on them until versions_unclaim(). Claims made
 * damaged last until the volume is closed: such tables cannot be compacted, only read.
 * Return: 0, -KV_E_BUSY (somebody else's, or @v is not current any more), -ENOMEM.
 */
enum version_claim { VERSION_UNCLAIMED, VERSION_CLAIMED, VERSION_DAMAGED };
int versions_claim(struct versions *vs, const struct version *v, const uint64_t *ids, size_t count)
	KV_MUST_CHECK;
void versions_unclaim(struct versions *vs, const uint64_t *ids, size_t count, bool damaged);
enum version_claim versions_claim_of(struct versions *vs, uint64_t id);

/* A copy of the current superblock fields, for info. */
void versions_get_superblock(struct versions *vs, struct superblock *out);
uint64_t versions_manifest_writes(struct versions *vs);
/* Versions that are not current but still hold their space: a reader's, or about to be dropped. */
unsigned versions_old(struct versions *vs);

#endif
