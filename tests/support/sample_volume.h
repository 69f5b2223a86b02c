/* SPDX-License-Identifier: MIT */
/*
 * A small volume with something of everything, for tests of verify, repair and
 * dump: several tables on more than one level, deletes, range deletes, large
 * values, a named snapshot, and a log. Built through kvcore.h in a simulated
 * host; needs layer_engine. Every failure aborts the test.
 */
#ifndef TESTS_SUPPORT_SAMPLE_VOLUME_H
#define TESTS_SUPPORT_SAMPLE_VOLUME_H

#include <stdbool.h>

#include "kvcore/engine/manifest_store.h"
#include "kvcore/kvcore.h"
#include "tests/support/sim_env.h"

#define SAMPLE_NAME	"volume"
#define SAMPLE_KEYSPACE 7U
#define SAMPLE_KEYS	1500U /* numbered from 0; some are deleted again */

enum sample_end {
	SAMPLE_CLOSED, /* in order: the log is empty */
	SAMPLE_KILLED, /* the last commits are in the log only; some values too */
};

/* A host holding the volume; no handle is open. Freed with sim_env_free(). */
struct sim_env *sample_volume_new(uint64_t seed, enum sample_end end);

/* What key @i holds, by an equal answer each time; false: it was deleted. */
bool sample_value(unsigned i, enum sample_end end, struct kv_buf *out);
/* The key's bytes, at most 16; returns the length. */
size_t sample_key(unsigned i, char *out);

/*
 * Read the whole volume. @wrong counts keys with a value other than sample_value() or that should
 * not be there, @missing those that are not there. @excused (may be NULL) says of a key that it
 * need not be right. Return: 0 or the first error of open or scan.
 */
int sample_compare(struct sim_env *e, enum sample_end end,
		   bool (*excused)(void *ctx, struct kv_slice key), void *ctx, unsigned *wrong,
		   unsigned *missing);

/*
 * Change the manifest behind the back of everybody, as a fault of the engine would: its checksum
 * is right afterwards. It may not become longer than its extents.
 */
void sample_edit_manifest(struct sim_env *e,
			  void (*edit)(void *ctx, struct os_volume *volume,
				       struct checksum *checksum, struct manifest *m),
			  void *ctx);
/* The present manifest and superblock; manifest_loaded_fini(). */
void sample_load_manifest(struct sim_env *e, struct manifest_loaded *out);

#endif
