/* SPDX-License-Identifier: MIT */
/* What values.c, values_blocks.c and values_writer.c share. */
#ifndef KVCORE_ENGINE_VALUES_INTERNAL_H
#define KVCORE_ENGINE_VALUES_INTERNAL_H

#include "kvcore/engine/values.h"
#include "kvcore/os/os_thread.h"

enum { FOR_USER, FOR_COMPACTION, OPEN_SEGMENTS };

struct values {
	struct values_options options; /* [const] */
	struct os_mutex mu;
	struct os_cond changed;
	struct segment *open[OPEN_SEGMENTS]; /* [mu] not sealed, so in the current version */
	bool opening[OPEN_SEGMENTS];	     /* [mu] somebody applies the edit for a new one */
	unsigned epoch;			     /* [mu] parity of places taken now */
	unsigned writing[2];		     /* [mu] values in flight, by parity */
	bool sealing;			     /* [mu] one waits for the writes before its seal */
	_Atomic uint64_t bytes_written;
};

struct value_place {
	struct segment *seg;
	uint64_t off;
	unsigned parity;
};

/* ---- values.c ---- */

/*
 * Reserve a place, pending from now on.
 * @apart: in whole blocks, where it may be written at leisure
 */
int values_find_place(struct values *v, enum space_class class, uint64_t len, bool apart,
		      struct value_place *out) KV_MUST_CHECK;

/* A place taken apart for @reserved bytes needs only @used of them. */
void values_trim_place(struct values *v, const struct value_place *p, uint64_t reserved,
		       uint64_t used);

/* ---- values_blocks.c ---- */

/*
 * What is stored for a value and the checksum for its reference. @out: left empty if that is
 * @raw itself.
 */
int values_pack(const struct values_options *o, struct kv_slice raw, struct kv_buf *out,
		uint8_t sum[CHECKSUM_LEN]) KV_MUST_CHECK;
/* Append one block of at most VALUE_BLOCK bytes to @out and its entry to @index. */
int values_pack_block(const struct values_options *o, struct kv_slice raw, struct kv_buf *out,
		      struct kv_buf *index) KV_MUST_CHECK;

#endif
