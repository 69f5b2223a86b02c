/* SPDX-License-Identifier: MIT */
/* What writeset.c, writeset_spill.c and writeset_iter.c share. */
#ifndef KVCORE_ENGINE_WRITESET_INTERNAL_H
#define KVCORE_ENGINE_WRITESET_INTERNAL_H

#include "kvcore/base/arena.h"
#include "kvcore/base/btree.h"
#include "kvcore/engine/writeset.h"

/*
 * The order of what one set wrote, above every commit number: a range delete of a
 * generation comes before the points of it that were spilled, for those that were there when it
 * was made are gone.
 */
#define WRITESET_SEQ_MIN	((kv_seq)1 << 63)
#define WRITESET_RANGE_SEQ(gen) (WRITESET_SEQ_MIN + 2 * (gen))
#define WRITESET_POINT_SEQ(gen) (WRITESET_SEQ_MIN + 2 * (gen) + 1)

struct writeop {
	uint64_t gen;
	enum entry_kind kind;
	size_t key_len;
	size_t value_len;
	uint8_t value[];
};

struct undo {
	struct kv_slice key;	   /* the tree's */
	struct writeop *displaced; /* NULL: there was no operation */
};

struct interval {
	struct kv_slice from, to;
	uint64_t gen;
};

struct savepoint {
	unsigned number;
	uint64_t gen; /* the first behind it */
	size_t undo_count;
	size_t range_count;
};

/* The operations in memory. Counted: iterators hold the one in which they stand. */
struct writemem {
	unsigned refs;
	struct arena arena;
	struct btree tree; /* ikey -> struct writeop, NULL: none (any more) */
};

struct writeset {
	struct writeset_hooks hooks;
	const struct spill_env *spill; /* NULL: everything stays in memory */
	size_t spill_bytes;
	struct writemem *mem;
	size_t points; /* operations in the tree */
	size_t bytes;  /* of keys and values in memory, and of range deletes */
	size_t charged;
	bool refs_forgotten;
	uint64_t gen;		 /* of what is written now */
	uint64_t layout;	 /* changes when iterators must look again what there is */
	struct spill_run **runs; /* oldest first */
	size_t run_count, run_cap;
	struct kv_buf value;	 /* read from a run */
	struct arena bounds;	 /* of ranges */
	struct interval *ranges; /* in the order of their making */
	size_t range_count, range_cap;
	struct range_set *range_set; /* the same; NULL: there are none */
	struct range_set *no_ranges; /* always empty */
	struct undo *undo;
	size_t undo_count, undo_cap;
	struct savepoint *savepoints; /* numbers rising */
	size_t savepoint_count, savepoint_cap;
	unsigned last_savepoint; /* highest number ever given out */
};

/* ---- writeset.c ---- */

/* Room for @more elements of @size after @count; NULL when out of memory. */
void *writeset_grown(void *array, size_t count, size_t more, size_t *cap, size_t size);
int writeset_mem_new(struct writemem **out) KV_MUST_CHECK;
void writeset_mem_unref(struct writemem *m);
size_t writeset_memory(const struct writeset *w);

/* ---- writeset_spill.c ---- */

/* Move what is in memory into runs, if savepoints allow. Return: 0, -KV_E_NOSPACE, -ENOMEM, ... */
int writeset_spill(struct writeset *w) KV_MUST_CHECK;

#endif
