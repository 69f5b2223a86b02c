/* SPDX-License-Identifier: MIT */
/*
 * Large values, outside the tree. They are written once, one after the other,
 * into segments (contiguous extents named in the manifest before their first use);
 * the log and the tree hold a value_ref with length and checksum.
 *
 * Life of a segment:  open (written to) -> full (sealed) -> dead (no reference) -> space freed
 *
 * Two figures say when it is dead. live_bytes: stored bytes referred to by
 * tables, part of the manifest, changed only by version edits. pending: values
 * written whose reference is not in a table yet: in a transaction, a memtable,
 * or the log at replay. A segment is dead when it is sealed and both are 0.
 *
 * Values go to the host's page cache before their commit is logged, so they
 * survive the process; a log sync (fdatasync of the same file) makes both
 * durable. values_seal() is called before such a sync: what is written later
 * begins in a fresh block, so that a torn write never touches a durable value.
 *
 * Thread safety: any thread. The mutex (OS_RANK_SEGMENT) covers the reservation of
 * a place only, not compression, checksum or I/O.
 */
#ifndef KVCORE_ENGINE_VALUES_H
#define KVCORE_ENGINE_VALUES_H

#include "kvcore/engine/version.h"

struct segment {
	uint64_t id;		       /* [const] */
	struct extent extent;	       /* [const] after open; cut at recovery */
	_Atomic uint64_t used_bytes;   /* reserved from its start */
	_Atomic uint64_t live_bytes;   /* changed under the versions mutex */
	_Atomic uint64_t pending;      /* values */
	_Atomic uint64_t sweep_before; /* compaction_pick.c: 0, or a table id */
	_Atomic bool sealed;
	_Atomic bool empty_it; /* values_choose_to_empty() */
	_Atomic unsigned refs; /* versions that contain it */
};

int segment_new(const struct segment_meta *meta, bool sealed, struct segment **out) KV_MUST_CHECK;

struct values;

struct values_options {
	struct os_volume *volume;
	struct space *space;
	struct checksum *checksum;
	enum compress_algo compress;
	const struct kv_log_sink *log;
	struct versions *versions;
	struct os_stats *stats; /* counts damage; may be NULL */
};

int values_new(const struct values_options *options, struct values **out) KV_MUST_CHECK;
/* Seals the open segment. */
void values_free(struct values *v);

/*
 * Write a value; it counts as pending until values_settle().
 * @class: SPACE_VALUE for user writes, SPACE_MOVE for relocation
 * Return: 0, -KV_E_NOSPACE, -ENOMEM, -KV_E_POISONED, -errno.
 */
int values_put(struct values *v, struct kv_slice raw, enum space_class class, struct value_ref *out)
	KV_MUST_CHECK;
/*
 * The same in pieces: all of @raw_len bytes, one after the other, in memory for a block or
 * two. @class, errors: as values_put(); append: -KV_E_INVALID beyond raw_len.
 */
struct values_writer;
int values_writer_new(struct values *v, uint64_t raw_len, enum space_class class,
		      struct values_writer **out) KV_MUST_CHECK;
int values_writer_append(struct values_writer *w, struct kv_slice bytes) KV_MUST_CHECK;
/* Released whatever the result; -KV_E_INVALID: bytes are missing. */
int values_writer_finish(struct values_writer *w, struct value_ref *out) KV_MUST_CHECK;
void values_writer_abandon(struct values_writer *w); /* NULL is allowed */

/* Count a reference found in the log at replay. -KV_E_CORRUPT: no such segment, or outside it. */
int values_replayed(struct values *v, const struct value_ref *ref) KV_MUST_CHECK;
/* The reference is no longer pending: dropped, or now in a table. */
void values_settle(struct values *v, uint64_t segment_id);
/* The same for @count references into one segment. */
void values_settle_many(struct values *v, uint64_t segment_id, uint64_t count);
/* There are @count more references to values that are pending and stay so meanwhile. */
void values_hold_many(struct values *v, uint64_t segment_id, uint64_t count);

/*
 * Read and verify a value as of a version (which keeps the segment alive).
 * Return: 0, -KV_E_CHECKSUM, -KV_E_CORRUPT, -ENOMEM, -errno.
 */
int values_get(struct values *v, const struct version *version, const struct value_ref *ref,
	       struct kv_buf *out) KV_MUST_CHECK;
/* A part of it, cut at the value's end. Only the blocks in which it lies are read. */
struct value_part {
	uint64_t off, len;
};
int values_get_part(struct values *v, const struct version *version, const struct value_ref *ref,
		    struct value_part part, struct kv_buf *out) KV_MUST_CHECK;
/*
 * The same for checks, into memory of ref->raw_len bytes, segment given by its extent. Reads the
 * disk itself: what the host's page cache holds after a failed sync may never get there.
 */
int values_read(struct os_volume *volume, struct checksum *checksum, enum compress_algo compress,
		struct extent segment, const struct value_ref *ref, uint8_t *out) KV_MUST_CHECK;

/* Is the value on the disk as its reference says? Reads as values_read(). Return: as values_get().
 */
int values_check(struct values *v, const struct version *version, const struct value_ref *ref)
	KV_MUST_CHECK;

/* Begin the next value in a fresh block. Called before a log sync. */
void values_seal(struct values *v);
/*
 * Seal all segments and cut off their unused tails, which are free after the next edit. After
 * replay, and before the last edit of a clean close; no value is written meanwhile.
 */
int values_recovered(struct values *v) KV_MUST_CHECK;
/* Remove dead segments with one version edit. Any thread. */
int values_reap(struct values *v) KV_MUST_CHECK;
/*
 * Where room is short: let compactions empty the deadest segments of which more than an eighth is
 * dead, as many as have at most @room live bytes in all; @count of them. Replaces the choice
 * before. Return: 0, -ENOMEM.
 */
int values_choose_to_empty(struct values *v, uint64_t room, unsigned *count) KV_MUST_CHECK;
/* Sealed, all its values accounted for, and less than half of it live, or chosen to be emptied. */
bool values_mostly_dead(const struct segment *seg);
/* Should compaction move this value, because its segment is mostly dead? */
bool values_should_move(struct values *v, const struct version *version,
			const struct value_ref *ref);

struct values_stat {
	uint64_t segments, bytes, live_bytes, bytes_written;
};
void values_get_stat(struct values *v, struct values_stat *out);

#endif
